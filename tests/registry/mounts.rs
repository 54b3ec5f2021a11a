//! The repositories and blobs that an export requests: as few as possible, and none because of a layout's annotations.

use super::bases::{BASE, Yard, index};
use super::server::Server;
use super::*;
use crate::consumers;
use crate::support::run;
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// Returns a command for the program on another machine, with its own cache directory and login.
fn elsewhere(yard: &Yard) -> Command {
    let mut command = yard.ocibuild();
    let auth = base64::engine::general_purpose::STANDARD.encode(format!("alice:{SECRET}"));
    let auths = serde_json::json!({"auths": {yard.server.host(): {"auth": auth}}}).to_string();
    command.env("OCIBUILD_CACHE_DIR", yard.scratch.join("other-cache"));
    command.env("REGISTRY_AUTH_FILE", yard.scratch.write("auth.json", auths));
    command
}

fn report(finished: &crate::support::Finished) -> Value {
    serde_json::from_slice(&finished.stdout).unwrap()
}

/// M41: the repositories in a layout's annotations cause no request, and the option names the source of its layers.
#[test]
fn a_foreign_layout_chooses_no_repository() {
    let yard = Yard::new();
    index(&yard.shelf, 50_000, "stable");
    yard.build(&["--base", &yard.base(), "--sparse"]).success();
    let repository = format!("{}/{BASE}", yard.server.host());
    let requests = yard.server.seen().len();
    let refused = run(elsewhere(&yard).args(["export", "out", "oci:whole"])).ended_with(1);
    let hint = format!(
        "the layout records {repository} as its source; if you trust it: --complete-from docker://{repository}"
    );
    assert!(refused.stderr.contains(&hint), "{refused}");
    let registry = Server::start({
        let shelf = Shelf::default();
        move |x| shelf.serve(x)
    });
    run(elsewhere(&yard).args(["export", "out", &format!("docker://{}/x/y:v1", registry.host())])).ended_with(1);
    assert_eq!(yard.server.seen().len(), requests, "{:?}", yard.server.lines());

    let from = format!("docker://{repository}");
    run(elsewhere(&yard).args(["export", "out", "oci:whole", "--complete-from", &from])).success();
    run(yard.ocibuild().args(["verify", "whole"])).success();
    let nowhere = format!("docker://{}/no/such", yard.server.host());
    run(elsewhere(&yard).args(["export", "out", "oci:again", "--complete-from", &nowhere])).ended_with(1);
    run(elsewhere(&yard).args(["export", "out", "oci:x", "--complete-from", "team/base"])).ended_with(2);
    // The machine that built the sparse image has a record of its layers.
    run(yard.ocibuild().args(["export", "out", "oci:again"])).success();
}

/// M41: a missing layer is not mounted, whatever the annotations and this machine's records say.
#[test]
fn a_foreign_layout_brings_no_private_blob_into_another_repository() {
    let yard = Yard::new();
    index(&yard.shelf, 50_000, "stable");
    yard.build(&["--base", &yard.base()]).success();
    // After a pull, this machine has a record of the base's layer. The layout then names that layer.
    run(elsewhere(&yard).args(["pull", &yard.base()])).success();
    let index: Value = serde_json::from_slice(&std::fs::read(yard.scratch.join("out/index.json")).unwrap()).unwrap();
    let manifest = index["manifests"][0]["digest"].as_str().unwrap().replace("sha256:", "out/blobs/sha256/");
    let manifest: Value = serde_json::from_slice(&std::fs::read(yard.scratch.join(manifest)).unwrap()).unwrap();
    let layer = manifest["layers"][0]["digest"].as_str().unwrap().replace("sha256:", "out/blobs/sha256/");
    let layer = yard.scratch.join(layer);
    let length = std::fs::metadata(&layer).unwrap().len();
    let target = format!("docker://{}/public/stolen:v1", yard.server.host());
    for forged in [None, Some(vec![0; length as usize])] {
        std::fs::remove_file(&layer).unwrap();
        if let Some(forged) = &forged {
            std::fs::write(&layer, forged).unwrap();
        }
        let requests = yard.server.seen().len();
        run(elsewhere(&yard).args(["export", "out", &target])).ended_with(1);
        let mounts: Vec<_> = yard.server.seen()[requests..].to_vec();
        let is_of_layer = |seen: &&super::server::Seen| {
            seen.target.contains("mount=") && seen.target.contains(layer.file_name().unwrap().to_str().unwrap())
        };
        assert!(mounts.iter().find(is_of_layer).is_none(), "{mounts:?}");
        std::fs::write(&layer, b"").unwrap();
    }
}

/// M70: blobs that were pushed to one repository are mounted in the next.
#[test]
fn a_push_to_a_second_repository_sends_nothing_again() {
    let yard = Yard::new();
    index(&yard.shelf, 50_000, "stable");
    yard.build(&["--base", &yard.base()]).success();
    let host = yard.server.host();
    let push = |name: &str| {
        let to = format!("docker://{host}/{name}:v1");
        report(&run(yard.ocibuild().args(["export", "out", &to, "--format", "json"])).success())["blobs"].clone()
    };
    let first = push("team/one");
    assert_eq!((&first["mounted"], &first["copied"]), (&1.into(), &2.into()), "the base was pulled here: {first}");
    for name in ["team/two", "team/three"] {
        let later = push(name);
        assert_eq!((&later["mounted"], &later["copied"]), (&3.into(), &0.into()), "{later}");
    }
    // The records are only hints.
    yard.shelf.forget("team/one");
    yard.shelf.forget("team/two");
    yard.shelf.forget("team/three");
    let later = push("team/four");
    assert_eq!((&later["mounted"], &later["copied"]), (&0.into(), &3.into()), "{later}");
    // The records contain no secret, and malformed ones are ignored.
    for file in std::fs::read_dir(yard.scratch.join("cache/seen/v1")).unwrap() {
        let path = file.unwrap().path();
        assert!(!std::fs::read_to_string(&path).unwrap().contains(SECRET));
        std::fs::write(&path, "sha256:zz 1 x\n\u{0}\n").unwrap();
    }
    assert_eq!(push("team/five")["copied"], 3);
    let blobs = push("team/six");
    assert_eq!(blobs["mounted"], 3, "{blobs}");
    run(yard.ocibuild().args(["inspect", &format!("docker://{host}/team/six:v1")])).success();
}

/// M70, with real registries.
#[test]
fn a_real_registry_mounts_what_was_pushed_before() {
    for registry in consumers::Registry::all() {
        let yard = Yard::new();
        run(yard.ocibuild().args(["layout", "out", "--copy", "app:/app"])).success();
        let push = |name: &str| {
            let to = format!("docker://{}/{name}:v1", registry.address());
            report(&run(yard.ocibuild().args(["export", "out", &to, "--format", "json"])).success())["blobs"].clone()
        };
        push("team/one");
        let second = push("team/two");
        let expected = if registry.mounts { (&second["mounted"], 2) } else { (&second["present"], 2) };
        assert_eq!(*expected.0, expected.1, "{second}");
        let base = format!("{}/team/two:v1", registry.address());
        run(yard.ocibuild().args(["pull", &base])).success();
        assert!(Path::new(&yard.scratch.join("cache/seen/v1")).is_dir());
    }
}
