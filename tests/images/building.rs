//! `ocibuild build`: images that go straight to where they are needed.

use super::Yard;
use super::engines::with_environment;
use crate::consumers::Podman;
use crate::registry::server::Server;
use crate::support::{Scratch, ocibuild, run};
use std::fs;

#[test]
fn a_build_is_the_image_that_a_layout_gets() {
    let yard = Yard::new();
    let digest = yard.text("layout out -t team/app:v1 --copy a:/a --label k=v");
    let built = yard.text("build -t team/app:v1 --copy a:/a --label k=v -o oci:other -o oci-archive:app.tar");
    assert_eq!(built, digest);
    for place in ["other", "oci-archive:app.tar"] {
        let image = yard.json(&format!("inspect {place}"));
        assert_eq!(image["manifest"]["digest"], digest.trim(), "{place}");
        assert_eq!(image["names"][0], "docker.io/team/app:v1", "{place}");
    }
    yard.run("verify other").success();
    // Nothing is listed in the cache, and files that are written are not copied.
    assert!(yard.json("inspect other")["layers"].as_array().unwrap().len() == 1);
    let here = yard.text("build -t v1 --copy .:/all --exclude cache -o oci:here");
    assert_eq!(yard.text("build -t v1 --copy .:/all --exclude cache -o oci:here"), here, "the second is the same");
}

#[test]
fn a_build_is_pushed_under_all_of_its_names() {
    let yard = Yard::new();
    let (server, shelf) = Server::with_shelf(|x, shelf| shelf.serve(x));
    let host = server.host();
    let line = format!("build -t {host}/team/app:v1 -t {host}/team/app:v2 --copy a:/a --push --plain-http {host}");
    let digest = yard.text(&line);
    for tag in ["v1", "v2"] {
        let manifest = shelf.manifest("team/app", tag).unwrap();
        assert_eq!(ocibuild::Digest::of(&manifest).to_string(), digest.trim());
    }
    let document = yard.json(&line);
    assert_eq!(document["destinations"][1], format!("docker://{host}/team/app:v2"));
    assert!(document.get("layout").is_none(), "{document}");
}

#[test]
fn a_build_is_loaded_under_its_names() {
    let Some(podman) = Podman::find() else { return };
    let yard = Yard::new();
    let build = yard.command("build -t team/built:v1 --copy a:/a --load podman");
    run(&mut with_environment(build, &podman.command())).success();
    run(podman.command().args(["image", "inspect", "docker.io/team/built:v1"])).success();
}

/// The engine gets one archive, with all names.
#[test]
fn names_of_one_engine_share_one_archive() {
    let yard = Yard::new();
    let digest = yard.text("layout same -q --copy a:/a");
    yard.engine("docker", &digest, "echo called >> calls; /bin/cat > loaded.tar");
    yard.run_among("build -t team/app:v1 -t team/app:v2 --copy a:/a --load docker").success();
    assert_eq!(fs::read_to_string(yard.scratch.join("calls")).unwrap(), "called\n");
    let names = ["docker.io/team/app:v1", "docker.io/team/app:v2"];
    assert_eq!(yard.json("inspect loaded.tar")["names"], serde_json::json!(names));
}

#[test]
fn a_build_without_a_destination_is_refused() {
    let yard = Yard::new();
    yard.refuses("build --copy a:/a", &["nothing says where it goes", "--load ENGINE, --push or --output DEST"]);
    yard.refuses("build --copy a:/a --push", &["--push", "the image has no name", "--tag NAME:TAG"]);
    yard.refuses("build -t v1 --copy a:/a --load podman", &["--load", "`v1` is a tag without a name"]);
    yard.refuses("build -t v1 --copy a:/a -o app.tar", &["not found, and has no transport", "docker-archive:app.tar"]);
    yard.refuses("build -t v1 --copy a:/a -o -", &["docker-archive:/dev/stdout"]);
    yard.refuses("build -t v1 --copy a:/a --load nerdctl", &["invalid value 'nerdctl'"]);
    yard.refuses("build -t team/app:v1 --sparse --copy a:/a --push", &["--sparse"]);
    yard.refuses("build out -t v1 --copy a:/a", &["unexpected argument 'out'"]);
    yard.refuses(
        "build -t v1 --copy a:/a -o docker-archive:/dev/stdout --format json",
        &["standard output is for the tar"],
    );
    assert_eq!(yard.names(), ["a", "b"], "nothing was made");
}

#[test]
fn a_dry_run_of_a_build_writes_nothing() {
    let yard = Yard::new();
    let plan = yard.text("build -t v1 --copy a:/a -o oci:out --dry-run");
    assert!(plan.contains("new layer"), "{plan}");
    assert_eq!(yard.names(), ["a", "b"]);
}

#[test]
fn a_destination_that_fails_leaves_the_earlier_ones() {
    let yard = Yard::new();
    yard.scratch.write("plain.txt", "not an archive");
    let failed = yard.run("build -t v1 --copy a:/a -o oci:first -o oci-archive:plain.txt").ended_with(1);
    failed.failed_saying("not an image archive");
    yard.run("verify first").success();
    assert_eq!(fs::read(yard.scratch.join("plain.txt")).unwrap(), b"not an archive");
}

/// What is noticed of every platform, and is the same for all of them, is one line.
#[test]
fn a_notice_about_all_platforms_is_printed_once() {
    let scratch = Scratch::new();
    scratch.write("app/main", "x");
    scratch.write("app/notes.md", "x");
    let words = ["layout", "out", "--platform=linux/amd64,linux/arm64", "--copy=app:/app", "--exclude=*.md"];
    let built = run(ocibuild().current_dir(scratch.path()).args(words).args(["--entrypoint", "/nosuch"])).success();
    for line in ["excluded 1 path from app", "entrypoint /nosuch: not found in the image"] {
        assert_eq!(built.stderr.matches(line).count(), 1, "{line} in {built}");
    }
    let json = run(ocibuild().current_dir(scratch.path()).args(words).args(["--cmd", "/nosuch", "--format", "json"]));
    assert_eq!(json.success().stderr.matches("{\"warning\":").count(), 1);
}
