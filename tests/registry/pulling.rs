//! Reading manifests and blobs from servers that cut connections and return wrong or transient responses.

use super::*;
use crate::support::{is_left_out, ocibuild, run};
use std::time::Instant;

const BLOB: &str = "GET /v2/team/robot/blobs/";

fn is_blob(x: &Exchange) -> bool {
    x.line().starts_with(BLOB)
}

#[test]
fn r16_a_length_that_is_not_the_blobs_is_an_error() {
    let content = noise(1000);
    for length in ["0", "999", "1001", "x"] {
        let content = content.clone();
        let server = Server::start(move |x| x.answer(200, &[("Content-Length", length)], &content[..length.len()]));
        let said = Client::new().open(&server.host()).fetch(&blob(&noise(1000)));
        // `x` makes the response invalid HTTP.
        let word = if length == "x" { "HTTP" } else { "expected 1000 bytes" };
        assert_says(said, &[word]);
    }
}

#[test]
fn r16_a_body_without_length_is_taken_if_it_is_right() {
    let content = noise(70_000);
    let serve = |bytes: Vec<u8>| {
        Server::start(move |x| match is_blob(x) {
            true => {
                x.raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                for piece in bytes.chunks(9000) {
                    x.raw(format!("{:x}\r\n", piece.len()).as_bytes());
                    x.raw(piece);
                    x.raw(b"\r\n");
                }
                x.raw(b"0\r\n\r\n");
            }
            false => x.answer(200, &[], ""),
        })
    };
    let work = |server: &Server| Client::new().open(&server.host());
    let right = serve(content.clone());
    assert_eq!(work(&right).fetch(&blob(&content)).as_ref(), Ok(&content));
    let longer = serve([&content[..], b"x"].concat());
    assert_says(work(&longer).fetch(&blob(&content)), &["longer than its 70000 bytes"]);
    let shorter = serve(content[1..].to_vec());
    assert_says(work(&shorter).fetch(&blob(&content)), &["ended 1 B early"]);
    let mut damaged = content.clone();
    damaged[500] ^= 1;
    let damaged = serve(damaged);
    assert_says(work(&damaged).fetch(&blob(&content)), &["its content has the digest"]);
}

/// Starts a server that serves a blob and cuts the connection after `step` bytes of each response.
fn cutting(content: &[u8], step: usize, ranges: bool) -> (Server, Arc<Mutex<usize>>) {
    let sent = Arc::new(Mutex::new(0));
    let (content, counted) = (content.to_vec(), sent.clone());
    let server = Server::start(move |x| {
        if !is_blob(x) {
            return x.answer(200, &[], "");
        }
        let from = match x.header("range").filter(|_| ranges) {
            Some(range) => range.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse().unwrap(),
            None => 0,
        };
        let size = content.len();
        let head = match from {
            0 => "HTTP/1.1 200 OK\r\n".to_owned(),
            from => format!("HTTP/1.1 206 X\r\nContent-Range: bytes {from}-{}/{size}\r\n", size - 1),
        };
        x.raw(format!("{head}Content-Length: {}\r\n\r\n", size - from).as_bytes());
        let end = size.min(from + step * if ranges { 1 } else { x.nth });
        x.raw(&content[from..end]);
        *counted.lock().unwrap() += end - from;
        if end < size {
            x.cut();
        }
    });
    (server, sent)
}

#[test]
fn r17_a_cut_transfer_is_resumed_and_moves_nothing_twice() {
    let content = noise(9 << 20);
    let (server, sent) = cutting(&content, 2 << 20, true);
    let work = Client::new().open(&server.host());
    assert_eq!(work.fetch(&blob(&content)), Ok(content.clone()));
    // There are more cuts than allowed retries: progress resets the count.
    assert_eq!(server.count(&format!("{BLOB}{}", Digest::of(&content))), 5);
    assert!(*sent.lock().unwrap() <= content.len(), "moved {} for {}", *sent.lock().unwrap(), content.len());
    assert!(work.warnings().iter().all(|said| said.ends_with("retrying")), "{:?}", work.warnings());
}

#[test]
fn r17_a_transfer_without_progress_ends() {
    let content = noise(9 << 20);
    let (server, _) = cutting(&content, 100, true);
    let work = Client::new().open(&server.host());
    assert_says(work.fetch(&blob(&content)), &["connection closed unexpectedly"]);
    assert_eq!(server.count(&format!("{BLOB}{}", Digest::of(&content))), 4);
    assert_eq!(work.warnings().len(), 3, "the last failure is not retried: {:?}", work.warnings());
}

#[test]
fn r18_a_server_without_ranges_sends_the_blob_again() {
    let content = noise(300_000);
    let (server, _) = cutting(&content, 100_000, false);
    assert_eq!(Client::new().open(&server.host()).fetch(&blob(&content)).as_ref(), Ok(&content));
}

#[test]
fn r18_a_wrong_range_is_an_error_and_416_a_new_start() {
    let content = noise(300_000);
    let after_a_cut = |second: fn(&mut Exchange, &[u8])| {
        let content = content.clone();
        Server::start(move |x| match (is_blob(x), x.nth) {
            (false, _) => x.answer(200, &[], ""),
            (true, 1) => {
                x.raw(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", content.len()).as_bytes());
                x.raw(&content[..100_000]);
                x.cut();
            }
            (true, 2) => second(x, &content),
            (true, _) => x.answer(200, &[], &content),
        })
    };
    let wrong: [fn(&mut Exchange, &[u8]); 3] = [
        |x, all| x.answer(206, &[("Content-Range", "bytes 0-299999/300000")], all),
        |x, all| x.answer(206, &[("Content-Range", "bytes 100000-299999/300001")], &all[100_000..]),
        |x, all| x.answer(206, &[], &all[100_000..]),
    ];
    for second in wrong {
        let server = after_a_cut(second);
        assert_says(
            Client::new().open(&server.host()).fetch(&blob(&content)),
            &["requested the range from byte 100000"],
        );
    }
    let unsatisfiable = after_a_cut(|x, _| x.answer(416, &[], ""));
    assert_eq!(Client::new().open(&unsatisfiable.host()).fetch(&blob(&content)).as_ref(), Ok(&content));
}

#[test]
fn r20_a_rate_limit_is_obeyed_within_reason() {
    if is_left_out() {
        return;
    }
    let limited = |retry_after: Option<&'static str>| {
        let shelf = shelf_with_manifest();
        Server::start(move |x| match (x.line().as_str(), x.nth) {
            (MANIFEST_PATH, 1) => {
                let mut headers = vec![("Date", "Sun, 06 Nov 1994 08:49:37 GMT")];
                headers.extend(retry_after.map(|value| ("Retry-After", value)));
                x.answer(429, &headers, r#"{"errors": [{"code": "TOOMANYREQUESTS"}]}"#);
            }
            _ => shelf.serve(x),
        })
    };
    for (retry_after, least) in [
        (Some("1"), Duration::from_secs(1)),
        (Some("Sun, 06 Nov 1994 08:49:38 GMT"), Duration::from_secs(1)),
        (Some("soon"), Duration::ZERO),
        (None, Duration::ZERO),
    ] {
        let server = limited(retry_after);
        let begin = Instant::now();
        let work = Client::new().open(&server.host());
        assert!(work.resolve().is_ok(), "{retry_after:?}");
        let waited = begin.elapsed();
        assert!(waited >= least && waited < least + Duration::from_secs(5), "{retry_after:?}: {waited:?}");
        assert!(work.warnings()[0].contains("answered 429: TOOMANYREQUESTS; retrying"), "{:?}", work.warnings());
    }
    let begin = Instant::now();
    let server = limited(Some("3600"));
    assert_says(
        Client::new().open(&server.host()).resolve(),
        &["rate limited until 1994-11-06T09:49:37Z", "429: TOOMANYREQUESTS"],
    );
    assert!(begin.elapsed() < Duration::from_secs(5));
}

#[test]
fn r21_a_server_error_is_tried_again_and_in_the_end_named() {
    for status in [500, 502, 503, 504] {
        let shelf = shelf_with_manifest();
        let once = Server::start(move |x| match (x.line().as_str(), x.nth) {
            (MANIFEST_PATH, 1) => x.answer(status, &[], "<html>"),
            _ => shelf.serve(x),
        });
        assert!(Client::new().open(&once.host()).resolve().is_ok());
        let always = Server::start(move |x| x.answer(status, &[], "<html>"));
        assert_says(Client::new().open(&always.host()).resolve(), &[&format!("answered {status}")]);
        assert_eq!(always.count(MANIFEST_PATH), 4);
    }
}

#[test]
fn r22_a_recompressed_body_is_refused_and_identity_encoding_is_requested() {
    let content = noise(1000);
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, bytes).unwrap();
        encoder.finish().unwrap()
    };
    let (squeezed_blob, squeezed_manifest) = (gzip(&content), gzip(&manifest()));
    let digest = Digest::of(&manifest()).to_string();
    let server = Server::start(move |x| {
        let body = if is_blob(x) { &squeezed_blob } else { &squeezed_manifest };
        let headers =
            [("Content-Encoding", "gzip"), ("Content-Type", media_type::MANIFEST), ("Docker-Content-Digest", &digest)];
        x.answer(200, &headers, body);
    });
    assert_says(
        Client::new().open(&server.host()).fetch(&blob(&content)),
        &["expected 1000 bytes", "`Content-Encoding: gzip`"],
    );
    assert_says(Client::new().open(&server.host()).resolve(), &["expected the digest", "`Content-Encoding: gzip`"]);
    assert!(server.seen().iter().all(|seen| seen.header("accept-encoding") == Some("identity")));
}

#[test]
fn r22_a_label_on_untouched_bytes_does_no_harm() {
    let content = noise(1000);
    let server = Server::start({
        let content = content.clone();
        move |x| x.answer(200, &[("Content-Encoding", "gzip")], &content)
    });
    assert_eq!(Client::new().open(&server.host()).fetch(&blob(&content)), Ok(content));
}

#[test]
fn r23_a_login_page_is_not_a_manifest() {
    let portal = Server::start(|x| x.answer(200, &[("Content-Type", "text/html; charset=utf-8")], "<html>Welcome!"));
    assert_says(Client::new().open(&portal.host()).resolve(), &["not a manifest but `text/html`"]);
    let old = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    let old = Server::start(move |x| x.answer(200, &[("Content-Type", old)], "{}"));
    assert_says(Client::new().open(&old.host()).resolve(), &["schema 1 is not supported"]);
}

#[test]
fn r23_a_manifest_that_is_too_large_is_not_read() {
    let at_limit = |size: usize| {
        let mut bytes = manifest();
        bytes.resize(size, b' ');
        let shelf = Shelf::default().with_manifest("team/robot", "v1", media_type::MANIFEST, &bytes);
        Server::start(move |x| shelf.serve(x))
    };
    assert!(Client::new().open(&at_limit(4 << 20).host()).resolve().is_ok());
    let beyond = at_limit((4 << 20) + 1);
    assert_says(Client::new().open(&beyond.host()).resolve(), &["larger than 4 MiB"]);
}

#[test]
fn r24_a_missing_image_is_reported_in_the_escaped_words_of_the_registry() {
    for (status, code, message, words) in [
        (404, "MANIFEST_UNKNOWN", "manifest unknown", "answered 404: MANIFEST_UNKNOWN manifest unknown"),
        (404, "NAME_UNKNOWN", "repository \u{1b}[31mred\n", "NAME_UNKNOWN repository \\u{1b}[31mred"),
        (403, "DENIED", "access denied", "answered 403: DENIED access denied"),
    ] {
        let server = Server::start(move |x| x.refuse(status, code, message));
        let name = format!("{}/team/robot:v1", server.host());
        assert_says(Client::new().open(&server.host()).resolve(), &[&name, words]);
    }
    let server = Server::start(|x| Shelf::default().serve(x));
    assert_says(Client::new().open(&server.host()).fetch(&blob(b"x")), &["blob sha256:", "BLOB_UNKNOWN"]);
}

/// Row B11: the same bytes are one thing, whatever a registry says that they are.
#[test]
fn b11_a_content_type_that_contradicts_the_document_is_refused() {
    let document = format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#, media_type::INDEX);
    let shelf = |said: &'static str| {
        let document = document.clone();
        Server::start(move |x| x.answer(200, &[("Content-Type", said)], &document))
    };
    let inspect = |server: &Server, name: &str| {
        run(ocibuild().args(["inspect", "--plain-http", &server.host(), &format!("docker://{}/{name}", server.host())]))
    };
    let pinned = format!("team/robot@{}", Digest::of(document.as_bytes()));
    for name in ["team/robot:v1", &pinned] {
        let contradicted = shelf(media_type::MANIFEST);
        inspect(&contradicted, name).ended_with(1).failed_saying("media type");
        inspect(&shelf(media_type::INDEX), name).failed_saying("is a multi-platform image");
        inspect(&shelf("text/html"), name).ended_with(1).failed_saying("not a manifest but `text/html`");
    }
}

#[test]
fn r40_the_digest_header_must_be_right_or_absent() {
    let server = |digest: Option<String>| {
        Server::start(move |x| {
            let mut headers = vec![("Content-Type", media_type::MANIFEST)];
            headers.extend(digest.as_deref().map(|digest| ("Docker-Content-Digest", digest)));
            x.answer(200, &headers, manifest());
        })
    };
    let resolve = |server: &Server| Client::new().open(&server.host()).resolve();
    assert_eq!(resolve(&server(None)), Ok(Digest::of(&manifest())));
    let wrong = server(Some(Digest::of(b"other").to_string()));
    assert_says(resolve(&wrong), &["expected the digest", "but the content has"]);
    assert_says(resolve(&server(Some("md5:00".to_owned()))), &["invalid digest"]);
}

#[test]
fn r40_a_pinned_manifest_is_compared_with_its_pin() {
    let shelf = shelf_with_manifest().with_manifest("team/robot", "x", media_type::MANIFEST, b"{}");
    let server = Server::start(move |x| {
        // Every request by digest returns other content.
        if x.request.target.contains("sha256") {
            return x.answer(200, &[("Content-Type", media_type::MANIFEST)], b"{}");
        }
        shelf.serve(x);
    });
    let pinned = format!("{}/team/robot:v1@{}", server.host(), Digest::of(&manifest()));
    assert_says(Client::new().open_as(&pinned).resolve(), &["expected the digest", "but the content has"]);
}

#[test]
fn a_manifest_cut_in_its_middle_is_asked_for_again() {
    let shelf = shelf_with_manifest();
    let server = Server::start(move |x| match (x.line().as_str(), x.nth) {
        (MANIFEST_PATH, 1) => {
            x.raw(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", manifest().len()).as_bytes());
            x.raw(&manifest()[..20]);
            x.cut();
        }
        _ => shelf.serve(x),
    });
    assert!(Client::new().open(&server.host()).resolve().is_ok());
}
