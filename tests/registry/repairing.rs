//! `verify --repair` takes blobs from registries: those that this machine has recorded, and those that are named.

use super::bases::{BASE, Yard, index};
use crate::support::run;
use serde_json::Value;
use std::fs;

fn layers(yard: &Yard) -> Vec<ocibuild::Digest> {
    let shown = run(yard.ocibuild().args(["inspect", "out", "--format", "json"])).success();
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    let layers = shown["layers"].as_array().unwrap();
    layers.iter().map(|layer| layer["digest"].as_str().unwrap().parse().unwrap()).collect()
}

#[test]
fn a_lost_blob_is_fetched_from_where_it_was_pulled() {
    let yard = Yard::new();
    index(&yard.shelf, 50_000, "stable");
    yard.build(&["--base", &yard.base()]).success();
    let lost = yard.scratch.join("out/blobs/sha256").join(layers(&yard)[0].hex());
    let lose = || {
        fs::remove_dir_all(yard.scratch.join("cache/bases")).unwrap();
        fs::remove_file(&lost).unwrap();
    };
    lose();
    let requests = yard.server.seen().len();
    run(yard.ocibuild().args(["verify", "out", "--repair", "--offline"])).ended_with(1);
    let mut elsewhere = yard.ocibuild();
    elsewhere.env("OCIBUILD_CACHE_DIR", yard.scratch.join("other-cache"));
    run(elsewhere.args(["verify", "out", "--repair"])).ended_with(1);
    assert_eq!(yard.server.seen().len(), requests, "no registry is asked that this machine has not recorded");
    let repaired = run(yard.ocibuild().args(["verify", "out", "--repair"])).success();
    let repository = format!("docker://{}/{BASE}", yard.server.host());
    assert!(repaired.text().contains(&format!("from {repository}")), "{repaired}");

    fs::remove_file(&lost).unwrap();
    let mut elsewhere = yard.ocibuild();
    elsewhere.env("OCIBUILD_CACHE_DIR", yard.scratch.join("other-cache"));
    run(elsewhere.args(["verify", "out", "--repair", "--from", &repository])).success();
    run(yard.ocibuild().args(["verify", "out"])).success();
}

/// Layers that are meant to stay in their registry stay there.
#[test]
fn the_layers_of_a_sparse_image_are_not_fetched() {
    let yard = Yard::new();
    index(&yard.shelf, 50_000, "stable");
    yard.scratch.write("app/numbers", (0..2000).map(|number| format!("{number}\n")).collect::<String>());
    let base = yard.base();
    let mut build = yard.ocibuild();
    build.args(["layout", "out", "--copy", "app:/app", "--base", &base, "--sparse"]).env_remove("OCIBUILD_NO_CACHE");
    run(&mut build).success();
    let own = layers(&yard)[1];
    fs::remove_file(yard.scratch.join("out/blobs/sha256").join(own.hex())).unwrap();
    let repaired = run(yard.ocibuild().args(["verify", "out", "--repair", "--format", "json"])).success();
    let repaired: Value = serde_json::from_slice(&repaired.stdout).unwrap();
    assert_eq!(repaired["repaired"].as_array().unwrap().len(), 1, "{repaired}");
    assert_eq!(repaired["repaired"][0]["digest"], own.to_string());
    assert_eq!(repaired["leftOut"].as_array().unwrap().len(), 1, "{repaired}");
}
