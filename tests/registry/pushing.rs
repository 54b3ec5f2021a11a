//! Writing blobs and manifests to servers that cut connections, lose data and return wrong or transient responses.

use super::*;
use ocibuild::spec::{Config, Manifest};
use ocibuild::store::{ImageName, StoredImage, copy};

const SESSION: &str = "/v2/team/robot/blobs/uploads/session-1";

/// Starts a registry that handles a request by `fault`, or correctly if that returns `false`.
fn registry(shelf: &Shelf, fault: impl Fn(&mut Exchange, &Shelf) -> bool + Send + Sync + 'static) -> Server {
    let shelf = shelf.clone();
    Server::start(move |x| {
        if !fault(x, &shelf) {
            shelf.serve(x);
        }
    })
}

fn in_parts(part: u64) -> Client {
    Client::new().options(|o| o.part = part)
}

/// Responds with 413 to a `PUT` of a whole blob, and so makes the client send chunks.
fn refuses_whole(x: &mut Exchange) -> bool {
    let refused = x.request.method == "PUT" && x.header("content-length") != Some("0".to_owned());
    if refused {
        x.answer(413, &[], "too large");
    }
    refused
}

/// An image of one layer, with its blobs in memory.
struct Image {
    stored: StoredImage,
    layer: Vec<u8>,
}

struct Blobs(Vec<Vec<u8>>);

impl BlobSource for Blobs {
    fn open(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send + '_>> {
        let found = self.0.iter().find(|bytes| Digest::of(bytes) == descriptor.digest).unwrap();
        Ok(Box::new(&found[..]))
    }
}

fn image() -> Image {
    let layer = noise(5000);
    let config = serde_json::json!({"os": "linux", "architecture": "amd64",
        "rootfs": {"type": "layers", "diff_ids": [Digest::of(b"tar").to_string()]}});
    let config = config.to_string().into_bytes();
    let manifest = Manifest {
        config: Descriptor::of(media_type::CONFIG, &config),
        layers: vec![blob(&layer)],
        annotations: Default::default(),
    };
    let manifest_bytes = manifest.to_bytes();
    Config::read(&config, "config").unwrap();
    let source = Arc::new(Blobs(vec![config.clone(), layer.clone()]));
    let descriptor = Descriptor::of(media_type::MANIFEST, &manifest_bytes);
    let stored = StoredImage::assemble(source, descriptor, manifest_bytes, config, None, "image").unwrap();
    Image { stored, layer }
}

/// Pushes the image to `team/robot:v1`.
fn push(work: &Work, image: &Image) -> Result<(), String> {
    let name: ImageName = "v1".parse().unwrap();
    copy(&image.stored, &*work.repository, &[name], &*work.heard).map(|_| ()).map_err(|error| work.said(error))
}

#[test]
fn r25_a_location_may_be_relative_absolute_or_opaque() {
    for location in ["/up/1", "1?_state=a%2Fb%3D&x=y", "http://HOST/up/a%2Fb", "//HOST/up/1", "?session=1"] {
        let server = Server::start(move |x| match x.line().as_str() {
            UPLOADS if x.request.method == "POST" => {
                let location = location.replace("HOST", &x.host());
                x.answer(202, &[("Location", &location)], "");
            }
            _ if x.request.method == "PUT" => {
                assert_eq!(x.parameters("digest"), [Digest::of(b"content").to_string()]);
                assert_eq!(x.body(), b"content");
                x.answer(201, &[], "");
            }
            _ => x.answer(404, &[], ""),
        });
        let work = Client::new().open(&server.host());
        assert_eq!(work.upload(b"content"), Ok(()), "{location}");
        let target = server.seen().last().unwrap().target.clone();
        let opaque = location.rsplit("HOST").next().unwrap();
        assert!(target.contains(opaque), "{location} became {target}");
    }
    let silent = Server::start(|x| x.answer(202, &[], ""));
    assert_says(Client::new().open(&silent.host()).upload(b"content"), &["no Location"]);
}

#[test]
fn r26_an_upload_elsewhere_goes_without_credentials() {
    let stored = Arc::new(Mutex::new(Vec::new()));
    let storage = Server::start({
        let stored = stored.clone();
        move |x| {
            *stored.lock().unwrap() = x.body();
            x.answer(201, &[], "");
        }
    });
    let location = format!("http://{}/up?signature=1", storage.host());
    let server = Server::start(move |x| match (x.header("authorization"), x.request.method.as_str()) {
        (None, _) => x.answer(401, &[("WWW-Authenticate", "Basic realm=r")], ""),
        (_, "POST") => x.answer(202, &[("Location", &location)], ""),
        _ => x.answer(404, &[], ""),
    });
    let work = Client::new().with_password(&server.host()).open(&server.host());
    assert_eq!(work.upload(b"content"), Ok(()));
    assert_eq!(*stored.lock().unwrap(), b"content");
    assert_eq!(storage.lines(), ["PUT /up"]);
    assert_no_credentials(&storage);
}

#[test]
fn r27_a_location_that_leaves_tls_is_refused() {
    let server = Server::start_tls(reaching::tls("good", false), |x| match x.request.method.as_str() {
        "POST" => {
            let location = format!("http://{}/up", x.host());
            x.answer(202, &[("Location", &location)], "");
        }
        _ => x.answer(404, &[], ""),
    });
    let said = reaching::trusting().open(&server.host()).upload(b"content");
    assert_says(said, &["Location: redirects from https to http", "behind a TLS proxy"]);
}

#[test]
fn r28_a_malformed_or_dangerous_location_is_refused() {
    let long = format!("/{}", "x".repeat(10 << 10));
    for (location, word) in [
        ("http://alice@127.0.0.1/", "user information"),
        ("/up#fragment", "fragment"),
        ("ftp://127.0.0.1/", "neither http nor https"),
        ("/up\u{1}", "not a URL"),
        (&*long, "8 KiB"),
    ] {
        let location = location.to_owned();
        let server = Server::start(move |x| match x.request.method.as_str() {
            "POST" => x.answer(202, &[("Location", &location)], ""),
            _ => x.answer(404, &[], ""),
        });
        let said = Client::new().open(&server.host()).upload(b"content");
        // A control character is not even a valid header.
        let word = if word == "not a URL" { "" } else { word };
        assert_says(said, &[word]);
        assert!(!server.lines().iter().any(|line| line.starts_with("PUT")));
    }
    // A line break ends the header: the rest becomes another one.
    let injecting = Server::start(|x| match x.request.method.as_str() {
        "POST" => x.answer(202, &[("Location", "/up\r\nX-Evil: 1")], ""),
        _ => x.answer(201, &[], ""),
    });
    assert_eq!(Client::new().open(&injecting.host()).upload(b"content"), Ok(()));
    assert!(injecting.seen().iter().all(|seen| seen.header("x-evil").is_none()));
}

#[test]
fn r29_a_refused_mount_becomes_an_upload() {
    let content = noise(1000);
    let from = |server: &Server| format!("{}/team/base:v1", server.host()).parse::<Reference>().unwrap();
    let shelf = Shelf::default().with_blob("team/base", &content);
    let honest = registry(&shelf, |_, _| false);
    let work = Client::new().open(&honest.host());
    assert!(work.repository.try_mount(&blob(&content), &from(&honest)).unwrap());
    assert_eq!(shelf.blob("team/robot", Digest::of(&content)).as_ref(), Some(&content));

    for status in [202, 400, 401, 403, 404, 405] {
        let shelf = Shelf::default();
        let server = registry(&shelf, move |x, shelf| {
            if x.parameters("mount").is_empty() {
                return false;
            }
            match status {
                202 => {
                    // A registry that mounts nothing opens a session.
                    x.request.target = "/v2/team/robot/blobs/uploads/".to_owned();
                    shelf.serve(x);
                }
                status => x.answer(status, &[], ""),
            }
            true
        });
        let work = Client::new().open(&server.host());
        assert!(!work.repository.try_mount(&blob(&content), &from(&server)).unwrap(), "{status}");
        assert_eq!(work.upload(&content), Ok(()), "{status}");
        assert_eq!(shelf.blob("team/robot", Digest::of(&content)).as_ref(), Some(&content));
        // The session that was opened instead of a mount is used.
        assert_eq!(server.count(UPLOADS), if status == 202 { 1 } else { 2 }, "{status}");
    }
}

#[test]
fn r29_a_mount_asks_for_both_scopes_and_an_upload_for_one() {
    let content = noise(1000);
    let shelf = Shelf::default().with_blob("team/base", &content);
    let scopes = Arc::new(Mutex::new(Vec::new()));
    let server = Server::start({
        let (shelf, scopes) = (shelf.clone(), scopes.clone());
        move |x| match x.line().as_str() {
            "GET /token" => {
                scopes.lock().unwrap().push(x.parameters("scope"));
                gives_token(x);
            }
            _ if asks_for_token(x) => {}
            _ => shelf.serve(x),
        }
    });
    let work = Client::new().open(&server.host());
    let from: Reference = format!("{}/team/base:v1", server.host()).parse().unwrap();
    assert!(work.repository.try_mount(&blob(&content), &from).unwrap());
    assert_eq!(work.upload(b"more"), Ok(()));
    let both = ["repository:team/robot:pull,push", "repository:team/base:pull"];
    assert_eq!(*scopes.lock().unwrap(), [&both[..], &both[..1]]);
}

#[test]
fn r30_a_blob_is_not_mounted_from_another_registry() {
    let server = registry(&Shelf::default(), |_, _| false);
    let work = Client::new().open(&server.host());
    for from in ["reg.io/team/base:v1".to_owned(), format!("{}/team/robot:v2", server.host())] {
        assert!(!work.repository.try_mount(&blob(b"content"), &from.parse().unwrap()).unwrap());
    }
    assert_eq!(server.lines(), [] as [&str; 0]);
}

#[test]
fn r31_a_blob_goes_in_two_requests_whatever_the_first_would_take() {
    let shelf = Shelf::default();
    let server = registry(&shelf, |_, _| false);
    let work = Client::new().open(&server.host());
    assert_eq!(work.upload(b"content"), Ok(()));
    assert_eq!(server.lines(), [UPLOADS.to_owned(), format!("PUT {SESSION}")]);
    assert_eq!(work.upload(b""), Ok(()), "an empty blob is a blob");
    assert!(shelf.blob("team/robot", Digest::of(b"")).is_some());
}

#[test]
fn r32_an_interrupted_upload_continues_at_the_offset_of_the_registry() {
    let content = noise(1_000_000);
    let shelf = Shelf::default();
    let received = Arc::new(Mutex::new(0));
    let server = registry(&shelf, {
        let received = received.clone();
        move |x, shelf| match (x.request.method.as_str(), x.nth) {
            ("PUT", 1) => {
                let part = x.part_of_body(300_000);
                shelf.receive(x, &part);
                *received.lock().unwrap() += part.len();
                true
            }
            ("PATCH", 2) => {
                let part = x.part_of_body(150_000);
                shelf.receive(x, &part);
                *received.lock().unwrap() += part.len();
                true
            }
            ("PATCH", _) => {
                *received.lock().unwrap() += x.header("content-length").unwrap().parse::<usize>().unwrap();
                false
            }
            _ => false,
        }
    });
    let work = in_parts(200_000).open(&server.host());
    assert_eq!(work.upload(&content), Ok(()));
    assert_eq!(shelf.blob("team/robot", Digest::of(&content)).as_ref(), Some(&content));
    assert_eq!(*received.lock().unwrap(), content.len(), "nothing is sent twice that had arrived");
    assert_eq!(server.count(UPLOADS), 1);
}

#[test]
fn r32_an_inconsistent_offset_starts_a_new_session() {
    let content = noise(100_000);
    for range in [None, Some("0-999999"), Some("5-10"), Some("x"), Some("0-0"), Some("0-18446744073709551615")] {
        let shelf = Shelf::default();
        let server = registry(&shelf, move |x, _| match (x.line().as_str(), x.nth) {
            (line, 1) if line == format!("PUT {SESSION}") => {
                x.part_of_body(1000);
                true
            }
            (line, _) if line == format!("GET {SESSION}") => {
                let headers: Vec<_> = range.map(|range| ("Range", range)).into_iter().collect();
                x.answer(204, &headers, "");
                true
            }
            _ => false,
        });
        let work = Client::new().open(&server.host());
        assert_eq!(work.upload(&content), Ok(()), "{range:?}");
        assert_eq!(server.count(UPLOADS), 2, "{range:?}");
        assert_eq!(server.count(&format!("DELETE {SESSION}")), 1, "{range:?}");
    }
}

#[test]
fn r32_a_registry_that_resumes_wrongly_gets_the_blob_again() {
    let content = noise(100_000);
    let shelf = Shelf::default();
    // It keeps 1000 bytes, reports 2000, and accepts the rest unchecked.
    let server = registry(&shelf, move |x, shelf| match (x.line().as_str(), x.nth) {
        (line, 1) if line == format!("PUT {SESSION}") => {
            let part = x.part_of_body(1000);
            shelf.receive(x, &part);
            true
        }
        (line, _) if line == format!("GET {SESSION}") => {
            x.answer(204, &[("Range", "0-1999")], "");
            true
        }
        (line, _) if line == format!("PATCH {SESSION}") => {
            let body = x.body();
            shelf.receive(x, &body);
            x.answer(202, &[], "");
            true
        }
        _ => false,
    });
    assert_eq!(Client::new().open(&server.host()).upload(&content), Ok(()));
    assert!(shelf.blob("team/robot", Digest::of(&content)).is_some());
    assert_eq!(server.count(UPLOADS), 2);
}

#[test]
fn r33_parts_are_as_large_as_the_registry_asks() {
    let content = noise(100_000);
    let lengths = Arc::new(Mutex::new(Vec::new()));
    let shelf = Shelf::default();
    let server = registry(&shelf, {
        let lengths = lengths.clone();
        move |x, shelf| {
            if x.request.method == "PATCH" {
                lengths.lock().unwrap().push(x.header("content-length").unwrap());
            }
            if x.line() == UPLOADS {
                shelf.receive_into_new(x);
                return true;
            }
            refuses_whole(x)
        }
    });
    let work = in_parts(10_000).open(&server.host());
    assert_eq!(work.upload(&content), Ok(()));
    assert_eq!(*lengths.lock().unwrap(), ["40000", "40000", "20000"]);
}

#[test]
fn r33_a_lost_session_is_a_new_start() {
    let content = noise(100_000);
    for (status, nth) in [(416, 2), (404, 2), (404, 1)] {
        let shelf = Shelf::default();
        let server = registry(&shelf, move |x, _| {
            if x.line() == format!("PATCH {}", SESSION.replace('1', "2")) && x.nth == nth {
                x.refuse(status, "BLOB_UPLOAD_UNKNOWN", "gone");
                return true;
            }
            refuses_whole(x)
        });
        let work = in_parts(30_000).open(&server.host());
        assert_eq!(work.upload(&content), Ok(()), "{status}");
        assert_eq!(server.count(UPLOADS), 3);
        assert_eq!(shelf.open_uploads(), 0, "unused sessions are given back");
    }
}

#[test]
fn r33_an_upload_without_progress_is_given_up() {
    let server = registry(&Shelf::default(), |x, _| {
        if x.request.method == "PATCH" {
            x.answer(202, &[("Range", "0-0")], "");
            return true;
        }
        refuses_whole(x)
    });
    let said = in_parts(30_000).open(&server.host()).upload(&noise(100_000));
    assert_says(said, &["upload of sha256:", "sent the bytes 0-29999, the registry has `0-0`"]);
}

#[test]
fn r34_a_digest_that_the_registry_disputes_is_an_error() {
    let disputing = registry(&Shelf::default(), |x, _| {
        let is_put = x.request.method == "PUT";
        if is_put {
            x.refuse(400, "DIGEST_INVALID", "provided digest did not match uploaded content");
        }
        is_put
    });
    assert_says(Client::new().open(&disputing.host()).upload(b"content"), &["answered 400: DIGEST_INVALID"]);
    let other = registry(&Shelf::default(), |x, _| {
        let is_put = x.request.method == "PUT";
        if is_put {
            let other = Digest::of(b"other").to_string();
            x.answer(201, &[("Docker-Content-Digest", &other)], "");
        }
        is_put
    });
    assert_says(Client::new().open(&other.host()).upload(b"content"), &["stored sha256:", " as sha256:"]);
}

#[test]
fn r34_a_blob_is_looked_up_after_a_lost_answer() {
    for status in [Some(500), None] {
        let shelf = Shelf::default();
        let server = registry(&shelf, move |x, shelf| {
            if x.request.method != "PUT" {
                return false;
            }
            let body = x.body();
            shelf.clone().with_blob("team/robot", &body);
            match status {
                Some(status) => x.answer(status, &[], ""),
                None => x.cut(),
            }
            true
        });
        let work = Client::new().open(&server.host());
        assert_eq!(work.upload(b"content"), Ok(()), "{status:?}");
        assert_eq!(server.count(&format!("PUT {SESSION}")), 1);
    }
}

#[test]
fn r35_a_token_that_expires_in_an_upload_is_renewed() {
    let content = noise(100_000);
    for parts in [false, true] {
        let shelf = Shelf::default();
        let server = Server::start({
            let shelf = shelf.clone();
            // Each token is valid for three requests.
            let spent = Mutex::new((0, 0));
            move |x| {
                if x.line() == "GET /token" {
                    let mut spent = spent.lock().unwrap();
                    *spent = (spent.0 + 1, 0);
                    return x.answer(200, &[], format!("{{\"token\": \"{}\"}}", spent.0));
                }
                let good = {
                    let mut spent = spent.lock().unwrap();
                    spent.1 += 1;
                    x.header("authorization") == Some(format!("Bearer {}", spent.0)) && spent.1 <= 3
                };
                match good {
                    false => {
                        let challenge = format!("Bearer realm=\"http://{}/token\"", x.host());
                        x.answer(401, &[("WWW-Authenticate", &challenge)], "");
                    }
                    true if parts && refuses_whole(x) => {}
                    true => shelf.serve(x),
                }
            }
        });
        let work = in_parts(20_000).open(&server.host());
        for content in [&content[..], &content[1..]] {
            assert_eq!(work.upload(content), Ok(()));
            assert!(shelf.blob("team/robot", Digest::of(content)).is_some());
        }
        assert!(server.count("GET /token") >= 2);
    }
}

#[test]
fn r37_only_a_blob_of_the_right_size_is_there() {
    let described = blob(b"content");
    for (status, length, there) in [(200, "7", true), (200, "8", false), (404, "0", false), (405, "0", false)] {
        let server = Server::start(move |x| x.answer(status, &[("Content-Length", length)], ""));
        let work = Client::new().open(&server.host());
        assert_eq!(work.repository.contains(&described).unwrap(), there, "{status} {length}");
    }
    let forbidden = Server::start(|x| x.answer(403, &[], ""));
    let said = Client::new().open(&forbidden.host()).repository.contains(&described).unwrap_err().to_string();
    assert!(said.contains("answered 403"), "{said}");
}

#[test]
fn r38_a_refused_manifest_says_that_the_blobs_are_there_and_a_second_push_moves_none() {
    let image = image();
    for (status, code) in [(400, "MANIFEST_INVALID"), (413, "SIZE_INVALID"), (500, "UNKNOWN")] {
        let shelf = Shelf::default();
        let refusing = registry(&shelf, move |x, _| {
            let is_manifest = x.line() == "PUT /v2/team/robot/manifests/v1";
            if is_manifest {
                x.refuse(status, code, "no");
            }
            is_manifest
        });
        let said = push(&Client::new().open(&refusing.host()), &image);
        let name = format!("{}/team/robot:v1", refusing.host());
        let words = format!("the blobs are uploaded, but the manifest is refused: answered {status}: {code} no");
        assert_says(said, &[&name, &words]);

        let accepting = registry(&shelf, |_, _| false);
        assert_eq!(push(&Client::new().open(&accepting.host()), &image), Ok(()));
        assert_eq!(accepting.count(UPLOADS), 0, "{:?}", accepting.lines());
        assert_eq!(shelf.manifest("team/robot", "v1"), Some(image.stored.manifest_bytes.to_vec()));
    }
}

#[test]
fn r39_a_registry_that_does_not_see_its_blobs_yet_is_given_time() {
    let image = image();
    for (blind, fine) in [(2, true), (3, true), (4, false)] {
        let server = registry(&Shelf::default(), move |x, _| {
            let is_blind = x.line() == "PUT /v2/team/robot/manifests/v1" && x.nth <= blind;
            if is_blind {
                x.refuse(400, "MANIFEST_BLOB_UNKNOWN", "blob unknown to registry");
            }
            is_blind
        });
        let said = push(&Client::new().open(&server.host()), &image);
        assert_eq!(said.is_ok(), fine, "{blind}: {said:?}");
    }
}

#[test]
fn r40_the_digest_of_a_pushed_manifest_is_compared() {
    let server = registry(&Shelf::default(), |x, _| {
        let is_manifest = x.line() == "PUT /v2/team/robot/manifests/v1";
        if is_manifest {
            let other = Digest::of(b"other").to_string();
            x.answer(201, &[("Docker-Content-Digest", &other)], "");
        }
        is_manifest
    });
    assert_says(push(&Client::new().open(&server.host()), &image()), &["team/robot:v1", "stored sha256:"]);
}

#[test]
fn r41_an_immutable_tag_is_named() {
    for status in [400, 409] {
        let server = registry(&Shelf::default(), move |x, _| {
            let is_manifest = x.line() == "PUT /v2/team/robot/manifests/v1";
            if is_manifest {
                x.refuse(status, "TAG_INVALID", "the tag is immutable");
            }
            is_manifest
        });
        let said = push(&Client::new().open(&server.host()), &image());
        assert_says(said, &["team/robot:v1", "the tag is immutable"]);
    }
}

#[test]
fn r42_a_damaged_blob_never_reaches_the_registry_whole() {
    let content = noise(500_000);
    let mut damaged = content.clone();
    damaged[499_999] ^= 1;
    for (bytes, word) in [
        (&damaged[..], "its content has the digest"),
        (&content[1..], "expected 500000 bytes, found 499999"),
        (&[&content[..], b"x"].concat()[..], "longer than its 500000 bytes"),
    ] {
        for parts in [false, true] {
            let shelf = Shelf::default();
            let most = Arc::new(Mutex::new(0));
            let server = registry(&shelf, {
                let most = most.clone();
                move |x, _| {
                    if parts && refuses_whole(x) {
                        return true;
                    }
                    let length = x.header("content-length").map_or(0, |length| length.parse::<usize>().unwrap());
                    let is_put_of_bytes = x.request.method == "PUT" && length > 0;
                    if is_put_of_bytes {
                        *most.lock().unwrap() = x.body().len();
                    }
                    is_put_of_bytes
                }
            });
            let work = in_parts(100_000).open(&server.host());
            assert_says(work.upload_as(&blob(&content), bytes), &["blob sha256:", word]);
            assert!(shelf.blob("team/robot", Digest::of(&content)).is_none());
            assert!(*most.lock().unwrap() < content.len(), "all bytes were sent");
            assert_eq!(shelf.open_uploads(), 0, "the session is given back");
        }
    }
}

#[test]
fn r43_layers_come_before_the_config_and_the_manifest_last() {
    let image = image();
    let server = registry(&Shelf::default(), |_, _| false);
    assert_eq!(push(&Client::new().open(&server.host()), &image), Ok(()));
    let seen = server.seen();
    let puts: Vec<_> = seen.iter().filter(|seen| seen.method == "PUT").collect();
    let digest = |descriptor: &Descriptor| descriptor.digest.to_string().replace(':', "%3A");
    assert_eq!(puts.len(), 3);
    assert!(puts[0].target.ends_with(&digest(&image.stored.manifest.layers[0])), "{puts:?}");
    assert!(puts[1].target.ends_with(&digest(&image.stored.manifest.config)), "{puts:?}");
    assert_eq!(puts[2].line(), "PUT /v2/team/robot/manifests/v1");
}

#[test]
fn r44_an_interrupted_upload_gives_its_session_back_once() {
    struct Interrupted(usize);
    impl Read for Interrupted {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.0 += 1;
            match self.0 {
                1 => Ok(buffer.len().min(1000)),
                _ => Err(Error::new(ocibuild::ErrorKind::Interrupted, "push", "interrupted").into()),
            }
        }
    }
    for answers in [true, false] {
        let server = registry(&Shelf::default(), move |x, _| {
            let fails = x.request.method == "DELETE" && !answers;
            if fails {
                x.cut();
            }
            fails
        });
        let work = Client::new().open(&server.host());
        let put = work.repository.put(&blob(&noise(5000)), &|| Ok(Box::new(Interrupted(0))));
        assert_eq!(put.unwrap_err().kind(), ocibuild::ErrorKind::Interrupted);
        assert_eq!(server.count(&format!("DELETE {SESSION}")), 1);
    }
}

#[test]
fn r44_uploads_under_way_are_given_back_when_the_program_is_interrupted() {
    let shelf = Shelf::default();
    let server = registry(&shelf, |x, _| {
        let waits = x.request.method == "PUT";
        if waits {
            x.hang();
        }
        waits
    });
    let work = Client::new().open(&server.host());
    std::thread::scope(|scope| {
        let upload = scope.spawn(|| work.upload(b"content"));
        while server.count(&format!("PUT {SESSION}")) == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
        work.repository.registry().abandon_uploads();
        assert_eq!(shelf.open_uploads(), 0);
        assert_eq!(server.count(&format!("DELETE {SESSION}")), 1);
        work.repository.registry().abandon_uploads();
        assert_eq!(server.count(&format!("DELETE {SESSION}")), 1);
        drop(server);
        assert!(upload.join().unwrap().is_err());
    });
}

#[test]
fn r49_two_pushes_of_one_image_at_once_both_succeed() {
    let image = image();
    let shelf = Shelf::default();
    let server = registry(&shelf, |_, _| false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(push(&Client::new().open(&server.host()), &image), Ok(())));
        }
    });
    assert_eq!(shelf.blob("team/robot", Digest::of(&image.layer)).as_ref(), Some(&image.layer));
    assert_eq!(shelf.manifest("team/robot", "v1"), Some(image.stored.manifest_bytes.to_vec()));
}

#[test]
fn a_read_only_registry_is_an_error_and_not_a_loop() {
    let server = registry(&Shelf::default(), |x, _| {
        let writes = x.request.method == "POST";
        if writes {
            x.answer(405, &[], "Method not allowed\n");
        }
        writes
    });
    assert_says(Client::new().open(&server.host()).upload(b"content"), &["answered 405: Method not allowed"]);
    assert_eq!(server.count(UPLOADS), 1);
}
