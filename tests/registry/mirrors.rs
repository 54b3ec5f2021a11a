//! Mirrors that fail, or that return other content than the registry.

use super::bases::{BASE, Yard, image, index};
use super::server::{Exchange, Server, Shelf};
use super::*;
use crate::support::{Scratch, is_left_out, run};
use serde_json::Value;
use std::path::Path;

/// Serves the shelf, also below `/hub/`.
fn serve_below_hub(x: &mut Exchange, shelf: &Shelf) {
    x.request.target = x.request.target.replace("/hub/", "/");
    shelf.serve(x);
}

/// M42: invalid responses, errors, bad certificates and bad digests of a mirror all cause a fallback to the next place.
#[test]
fn every_failure_of_a_mirror_leads_to_the_next_place() {
    if is_left_out() {
        return;
    }
    type Answer = fn(&mut Exchange, &Shelf);
    let cases: [(&str, Answer); 6] = [
        ("a page", |x, _| x.answer(200, &[("Content-Type", "text/html")], "<html>log in</html>")),
        ("half a manifest", |x, _| x.answer(200, &[("Content-Type", media_type::MANIFEST)], "{\"schemaVersion\":")),
        ("an error", |x, _| x.answer(500, &[], "")),
        ("another digest", |x, _| {
            let headers =
                [("Content-Type", media_type::MANIFEST), ("Docker-Content-Digest", &*Digest::of(b"").to_string())];
            x.answer(200, &headers, manifest());
        }),
        ("other blobs", |x, shelf| match x.line().contains("/blobs/") {
            true => x.answer(200, &[], "something else"),
            false => shelf.serve(x),
        }),
        ("no image", |x, _| {
            let document = r#"{"schemaVersion": 2, "config": {}, "layers": 7}"#;
            x.answer(200, &[("Content-Type", media_type::MANIFEST)], document);
        }),
    ];
    for (name, answer) in cases {
        let yard = Yard::new();
        let digest = index(&yard.shelf, 5000, "stable");
        let shelf = yard.shelf.clone();
        let mirror = Server::start(move |x| answer(x, &shelf));
        let rule = format!("{}={}", yard.server.host(), mirror.host());
        let pulled = run(yard.ocibuild().args(["pull", &yard.base(), "--mirror", &rule])).success();
        assert_eq!(pulled.text(), format!("{}@{digest}", yard.base()), "{name}");
        assert!(pulled.stderr.contains("trying the next location"), "{name}: {pulled}");
    }
    let yard = Yard::new();
    index(&yard.shelf, 5000, "stable");
    let untrusted = Server::start_tls(super::reaching::tls("good", false), |x| x.answer(200, &[], ""));
    let rule = format!("{}={}", yard.server.host(), untrusted.host());
    let pulled = run(yard.ocibuild().args(["pull", &yard.base(), "--mirror", &rule])).success();
    assert!(pulled.stderr.contains("unknown authority; trying the next location"), "{pulled}");
}

/// M42: a mirror returns other bytes for a remote layer.
#[test]
fn a_layer_that_a_mirror_forges_comes_from_the_registry() {
    let yard = Yard::new();
    index(&yard.shelf, 500_000, "stable");
    let base = yard.base();
    yard.build(&["--base", &base, "--sparse"]).success();
    let shelf = yard.shelf.clone();
    let forger = Server::start(move |x| match x.line().contains("/blobs/") {
        true => {
            let digest = x.line().rsplit('/').next().unwrap().parse().unwrap();
            let mut bytes = shelf.blob(BASE, digest).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            x.answer(200, &[], bytes);
        }
        false => shelf.serve(x),
    });
    let rule = format!("{}={}", yard.server.host(), forger.host());
    let exported = run(yard.ocibuild().args(["export", "out", "oci:whole", "--mirror", &rule])).success();
    assert!(exported.stderr.contains("trying the next location"), "{exported}");
    run(yard.ocibuild().args(["verify", "whole"])).success();
    assert!(forger.lines().iter().any(|line| line.contains("/blobs/")));
}

/// M42: the store records which mirror has resolved a tag.
#[test]
fn a_tag_at_a_mirror_is_not_recorded_as_the_registrys_digest() {
    let yard = Yard::new();
    let own = index(&yard.shelf, 5000, "stable");
    let (mirror, shelf) = Server::with_shelf(serve_below_hub);
    let others = index(&shelf, 6000, "stable");
    let (base, rule) = (yard.base(), format!("{}={}/hub", yard.server.host(), mirror.host()));
    let pulled = run(yard.ocibuild().args(["pull", &base, "--mirror", &rule, "--format", "json"])).success();
    let report: Value = serde_json::from_slice(&pulled.stdout).unwrap();
    assert_eq!(report[0]["reference"], format!("{base}@{others}"));
    assert_eq!(report[0]["mirror"], format!("{}/hub/{BASE}", mirror.host()));

    let through_mirror = yard.build(&["--base", &base, "--offline", "--mirror", &rule, "--quiet"]).success();
    assert_eq!(through_mirror.stderr, "");
    let reported = yard.build(&["--base", &base, "--offline", "--quiet"]).success();
    assert_eq!(reported.stdout, through_mirror.stdout);
    let expected = format!("cached from the mirror {}/hub/{BASE}", mirror.host());
    assert!(reported.stderr.contains(&expected), "{reported}");

    // If the registry can be reached, its own digest is used.
    let requests = mirror.seen().len();
    let asked = yard.build(&["--base", &base, "--lock"]).success();
    assert_ne!(asked.stdout, through_mirror.stdout);
    let locked = std::fs::read_to_string(yard.scratch.join("ocibuild.lock")).unwrap();
    assert!(locked.contains(&own.to_string()) && !locked.contains(&others.to_string()), "{locked}");
    assert_eq!(mirror.seen().len(), requests);
    std::fs::remove_file(yard.scratch.join("ocibuild.lock")).unwrap();
    let own_offline = yard.build(&["--base", &base, "--offline", "--quiet"]).success();
    assert_eq!((own_offline.stdout, own_offline.stderr), (asked.stdout, String::new()));
    assert_eq!(yard.build(&["--base", &base, "--offline", "--mirror", &rule]).success().stdout, through_mirror.stdout);
    // Both are complete, and verify accepts them.
    run(yard.ocibuild().args(["verify", "cache/bases"])).success();
}

fn certificates_in(scratch: &Scratch, directory: &str) {
    for (from, to) in [("authority.crt", "ca.crt"), ("client.crt", "client.cert"), ("client.key", "client.key")] {
        scratch.write(Path::new(directory).join(to), std::fs::read(Path::new("testdata/tls").join(from)).unwrap());
    }
}

/// M42: a client certificate is for the registries that the command names, or for the one that it was given for.
#[test]
fn a_client_certificate_is_not_shown_to_a_mirror() {
    let yard = Yard::new();
    index(&yard.shelf, 5000, "stable");
    let shelf = yard.shelf.clone();
    let mirror = Server::start_tls(super::reaching::tls("good", true), move |x| shelf.serve(x));
    certificates_in(&yard.scratch, "certificates");
    let rule = format!("{}={}", yard.server.host(), mirror.host());
    let pull = |directory: &str| {
        let mut command = yard.ocibuild();
        run(command.args(["pull", &yard.base(), "--mirror", &rule, "--cert-dir", directory])).success()
    };
    let pulled = pull("certificates");
    assert!(pulled.stderr.contains("trying the next location"), "{pulled}");
    assert_eq!(mirror.lines(), [] as [&str; 0]);
    let requests = yard.server.seen().len();
    pull(&format!("{}=certificates", mirror.host()));
    assert!(!mirror.lines().is_empty());
    assert_eq!(yard.server.seen().len(), requests);

    // A named registry gets the certificate, unless it was given for another one.
    let only = image(&yard.shelf, 7000, "amd64");
    yard.shelf.clone().with_manifest(BASE, "only", media_type::MANIFEST, &only);
    let named = |directory: &str| {
        let reference = format!("{}/{BASE}:only", mirror.host());
        run(yard.ocibuild().args(["pull", &reference, "--cert-dir", directory]))
    };
    named("certificates").success();
    named("other.example=certificates").ended_with(1);
}

/// M57: a network error names the image and a remedy.
#[test]
fn an_error_of_the_network_names_the_image_and_a_way_out() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let cuts = Server::start(|x| x.cut());
    let tls = Server::start_tls(super::reaching::tls("good", false), |x| x.answer(200, &[], ""));
    let fails = Server::start(|x| x.refuse(405, "UNSUPPORTED", "no"));
    let yard = Yard::new();
    run(yard.ocibuild().args(["layout", "ours", "--copy", "app:/app"])).success();
    for (host, reason) in [
        (free, "connection refused"),
        ("no-such-host.invalid".to_owned(), "the host name cannot be resolved"),
        (tls.host(), "signed by an unknown authority"),
    ] {
        let reference = format!("{host}/team/base:v1");
        let remote = format!("docker://{reference}");
        let commands: [&[&str]; 4] = [
            &["pull", &reference],
            &["layout", "out", "--base", &reference],
            &["export", "ours", &remote],
            &["export", &remote, "oci:there"],
        ];
        for arguments in commands {
            let failed = run(yard.ocibuild().args(arguments)).ended_with(1);
            let line = failed.stderr.lines().find(|line| line.contains(reason)).unwrap_or_default();
            assert!(line.starts_with(&format!("ocibuild: error: {reference}: ")) && line.ends_with(')'), "{failed}");
        }
        let mut login = yard.ocibuild();
        let stdin = std::fs::File::open(yard.scratch.write("stdin", "password\n")).unwrap();
        let failed = run(login.args(["login", &host, "-u", "alice", "--password-stdin"]).stdin(stdin)).ended_with(1);
        assert!(failed.stderr.contains(reason) && failed.stderr.trim_end().ends_with(')'), "{failed}");
    }
    for host in [cuts.host(), fails.host()] {
        let reference = format!("{host}/team/base:v1");
        let mut client = Client::new();
        client.options.retry.retries = 0;
        let said = client.open_as(&reference).resolve().unwrap_err();
        assert!(said.starts_with(&reference), "{said}");
    }
}
