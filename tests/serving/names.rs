//! Which images are served under which names, and what is refused at the start.

use super::Yard;
use crate::support::run;
use serde_json::json;

#[test]
fn several_layouts_are_one_registry() {
    let yard = Yard::new();
    yard.text("layout one --copy a:/a -t team/app:v1 -t ghcr.io/deep/er/app:v2");
    yard.text("layout Two --copy b:/b -t v1");
    yard.text("layout three --copy b:/b -t app:v3");
    let served = yard.serve("one Two three");
    let images = json!(["app:v3", "deep/er/app:v2", "library/app:v3", "team/app:v1", "two:v1"]);
    assert_eq!(served.lines("serving")[0]["images"], images);
    for image in images.as_array().unwrap() {
        let (name, tag) = image.as_str().unwrap().split_once(':').unwrap();
        assert_eq!(served.get(&format!("/v2/{name}/manifests/{tag}")).status, 200, "{image}");
    }
    // A repository has the blobs of its own layouts only.
    let other = yard.json("inspect one:team/app:v1")["layers"][0]["digest"].as_str().unwrap().to_owned();
    assert_eq!(served.get(&format!("/v2/team/app/blobs/{other}")).status, 200);
    assert_eq!(served.get(&format!("/v2/two/blobs/{other}")).status, 404);
}

#[test]
fn the_same_image_in_two_layouts_is_no_conflict() {
    let yard = Yard::new();
    yard.text("layout one --copy a:/a -t team/app:v1");
    yard.text("layout two --copy a:/a -t team/app:v1");
    let served = yard.serve("one two");
    assert_eq!(served.get("/v2/team/app/manifests/v1").status, 200);
}

#[test]
fn two_images_of_one_name_are_an_error_that_names_both() {
    let yard = Yard::new();
    let one = yard.text("layout one --copy a:/a -t team/app:v1");
    let two = yard.text("layout two --copy b:/b -t ghcr.io/team/app:v1");
    let failed = yard.run("serve one two --listen 127.0.0.1:0").ended_with(1);
    let expected = format!(
        "ocibuild: error: team/app:v1: two images have this name: one: docker.io/team/app:v1 ({one}) and two: \
         ghcr.io/team/app:v1 ({two}) (`ocibuild tag` and `ocibuild rm` change names; a second `ocibuild serve` can have its own \
         port)\n"
    );
    assert_eq!(failed.stderr, expected);
}

#[test]
fn what_cannot_be_served_is_refused_at_the_start() {
    let yard = Yard::new();
    yard.text("layout out --copy a:/a -t v1");
    let odd = "odd\u{20}name";
    run(crate::support::command("cp").args(["-r", "out", odd]).current_dir(yard.scratch.path())).success();
    run(yard.command("serve --listen 127.0.0.1:0").arg(odd)).ended_with(1).failed_saying(
        "odd name: v1: needs a full name, since the name of the directory cannot be that of a repository",
    );
    for (words, status, part) in [
        ("serve", 2, "required arguments were not provided: <LAYOUT>..."),
        ("serve missing", 1, "missing: not found"),
        ("serve a", 1, "a: not an OCI layout: `oci-layout` is missing"),
        ("serve out:v1", 2, "out:v1: is an image, and serve takes whole layouts (ocibuild export out:v1 oci:DIR"),
        ("serve docker://reg.example/app", 2, "not an image layout"),
        (
            "serve out --listen 0.0.0.0:0",
            2,
            "other machines can reach this address, so it needs TLS (--tls-cert FILE --tls-key FILE, or --plain-http)",
        ),
        ("serve out --jobs 2", 2, "--jobs: has no effect with serve, which has a thread for each connection"),
        ("serve out --listen 5000", 2, "not an IP address with or without a port (such as 127.0.0.1:5000)"),
        (
            "serve out --plain-http",
            2,
            "--plain-http: no other machine reaches 127.0.0.1:5000 (leave it out, or --listen ADDRESS)",
        ),
        ("serve out --tls-cert x", 2, "--tls-key"),
        ("serve out --tls-cert x --tls-key x --plain-http", 2, "cannot be used with"),
        ("serve out --tls-cert missing --tls-key missing", 1, "missing: not found"),
        ("serve out --htpasswd missing", 1, "missing: not found"),
        ("serve out --listen 192.0.2.1:0 --plain-http", 1, "192.0.2.1:0: cannot listen: "),
    ] {
        let failed = yard.run(words).ended_with(status);
        assert!(failed.stderr.contains(part) && failed.stderr.lines().count() == 1, "{part}: {failed}");
    }
    let served = yard.serve("out");
    let taken = yard.run(&format!("serve out --listen {}", served.address)).ended_with(1);
    assert_eq!(
        taken.stderr,
        format!(
            "ocibuild: error: {}: cannot listen: address already in use (--listen 127.0.0.1:0 takes a free port)\n",
            served.address
        )
    );
}

#[test]
fn names_that_no_tag_can_have_are_served_by_digest() {
    let yard = Yard::new();
    let digest = yard.text("layout out --copy a:/a -t v1");
    let path = yard.scratch.join("out/index.json");
    let index = std::fs::read_to_string(&path).unwrap().replace("\"v1\"", "\"no/tag+at all\"");
    std::fs::write(&path, index).unwrap();
    let served = yard.serve("out");
    assert_eq!(served.get("/v2/out/tags/list").json()["tags"], json!([]));
    assert_eq!(served.get(&format!("/v2/out/manifests/{digest}")).status, 200);
}
