//! Redirects: followed if that is safe, and never with credentials to another origin.

use super::*;

/// Starts a registry that asks for a password and redirects all requests for blobs to `location`.
fn redirecting(status: u16, location: impl Fn(&Exchange) -> String + Send + Sync + 'static) -> Server {
    Server::start(move |x| {
        if x.header("authorization").is_none() {
            return x.answer(401, &[("WWW-Authenticate", "Basic realm=r")], "");
        }
        let location = location(x);
        x.answer(status, &[("Location", &location), ("Set-Cookie", "a=planted-secret")], "");
    })
}

#[test]
fn r12_a_redirect_to_another_host_carries_no_credentials() {
    let content = noise(10_000);
    let storage = Server::start({
        let content = content.clone();
        move |x| x.answer(200, &[], &content)
    });
    for status in [301, 302, 303, 307, 308] {
        let location = format!("http://{}/blob?X-Signature=1", storage.host());
        let registry = redirecting(status, move |_| location.clone());
        let work = Client::new().with_password(&registry.host()).open(&registry.host());
        assert_eq!(work.fetch(&blob(&content)).as_ref(), Ok(&content), "{status}");
    }
    assert_eq!(storage.lines().len(), 5);
    assert_eq!(storage.seen()[0].target, "/blob?X-Signature=1");
    assert_no_credentials(&storage);
}

#[test]
fn r13_dangerous_redirects_are_refused() {
    for (location, word) in [
        ("file:///etc/passwd", "neither http nor https"),
        ("http://alice@127.0.0.1/", "user information"),
        ("", "more than 5"),
        ("/elsewhere", "more than 5"),
    ] {
        let server = redirecting(307, |_| location.to_owned());
        let work = Client::new().with_password(&server.host()).open(&server.host());
        assert_says(work.fetch(&blob(b"x")), &[word]);
    }
    let downgrading = Server::start_tls(reaching::tls("good", false), |x| {
        let location = format!("http://{}/", x.host());
        x.answer(307, &[("Location", &location)], "");
    });
    assert_says(reaching::trusting().open(&downgrading.host()).resolve(), &["redirects from https to http"]);
    let lost = Server::start(|x| x.answer(307, &[], ""));
    assert_says(Client::new().open(&lost.host()).resolve(), &["without saying where to"]);
}

#[test]
fn r13_five_redirects_are_followed_and_six_are_not() {
    for (hops, fine) in [(5, true), (6, false)] {
        let shelf = shelf_with_manifest();
        let server = Server::start(move |x| match x.request.target.strip_prefix("/hop/") {
            None => x.answer(302, &[("Location", "/hop/1")], ""),
            Some(number) => match number.parse::<u32>().unwrap() {
                last if last == hops => {
                    x.request.target = "/v2/team/robot/manifests/v1".to_owned();
                    shelf.serve(x);
                }
                number => x.answer(302, &[("Location", &format!("/hop/{}", number + 1))], ""),
            },
        });
        assert_eq!(Client::new().open(&server.host()).resolve().is_ok(), fine, "{hops}");
    }
}

#[test]
fn r13_an_upload_follows_only_redirects_that_keep_its_method() {
    for (status, fine) in [(307, true), (308, true), (301, false), (302, false), (303, false)] {
        let shelf = Shelf::default();
        let moved = Server::start(move |x| match (x.line().as_str(), x.request.target.contains("moved")) {
            (UPLOADS, false) => x.answer(status, &[("Location", "/v2/team/robot/blobs/uploads/?moved=1")], ""),
            _ => shelf.serve(x),
        });
        let said = Client::new().open(&moved.host()).upload(b"content");
        assert_eq!(said.is_ok(), fine, "{status}: {said:?}");
        if !fine {
            assert_says(said, &[&format!("answered {status} to a POST")]);
        }
    }
}

#[test]
fn r14_another_port_of_the_same_host_is_another_origin() {
    let content = noise(100);
    let other = Server::start({
        let content = content.clone();
        move |x| match x.header("authorization") {
            // The other origin asks for credentials, too.
            None if x.nth == 1 => x.answer(401, &[("WWW-Authenticate", "Basic realm=r")], ""),
            _ => x.answer(200, &[], &content),
        }
    });
    let location = format!("http://{}/x", other.host());
    let registry = redirecting(307, move |_| location.clone());
    let work = Client::new().with_password(&registry.host()).open(&registry.host());
    assert_says(work.fetch(&blob(&content)), &["answered 401"]);
    assert_no_credentials(&other);
}

#[test]
fn r15_a_foreign_layer_is_never_fetched_from_its_url() {
    let foreign = Server::start(|x| x.answer(401, &[("WWW-Authenticate", "Basic realm=r")], ""));
    let layer = serde_json::json!({
        "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "digest": Digest::of(b"foreign").to_string(),
        "size": 7,
        "urls": [format!("http://{}/layer", foreign.host())],
    });
    let config = serde_json::json!({"os": "linux", "architecture": "amd64",
        "rootfs": {"type": "layers", "diff_ids": [Digest::of(b"tar").to_string()]}});
    let config = config.to_string().into_bytes();
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "config": Descriptor::of(media_type::CONFIG, &config).to_json(),
        "layers": [layer],
    });
    let shelf = Shelf::default().with_blob("team/robot", &config).with_manifest(
        "team/robot",
        "v1",
        media_type::MANIFEST,
        manifest.to_string().as_bytes(),
    );
    let registry = Server::start(move |x| shelf.serve(x));
    let work = Client::new().with_password(&registry.host()).open(&registry.host());
    let image = work.repository.image(None).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let layout = ocibuild::store::Layout::create(&folder.path().join("out")).unwrap();
    let copied = ocibuild::store::copy(&image, &layout, &[], &*work.heard);
    assert_says(copied.map_err(|error| work.said(error)), &["foreign layer"]);
    assert_eq!(foreign.lines(), [] as [&str; 0]);
}
