//! Layers of a base: how many there may be, of which types, and what is said of them.

use super::{builds_on, each_is_refused};
use crate::catalogue::contract::Bench;
use crate::catalogue::forge::{self, Forged, GZIP, Member, PLAIN, ZSTD};
use crate::support::{is_left_out, run};
use serde_json::{Value, json};
use std::fs;

/// M62: a base of more layers than Docker runs is warned of; 125 are not too many.
#[test]
fn b17_as_many_layers_as_allowed_can_be_built_on_but_not_passed() {
    if is_left_out() {
        return;
    }
    let many = |count: usize| {
        move |base: &Forged| {
            base.edit_manifest(|it| it["layers"] = vec![it["layers"][0].clone(); count].into());
            base.edit_config(|it| {
                it["rootfs"]["diff_ids"] = vec![it["rootfs"]["diff_ids"][0].clone(); count].into();
                it.as_object_mut().unwrap().remove("history");
            });
        }
    };
    let (manifest, config, warned) = builds_on("B17", &many(499), &[]);
    assert_eq!(manifest["layers"].as_array().unwrap().len(), 500);
    assert_eq!(config["history"].as_array().unwrap().len(), 500);
    assert!(warned.contains("500 layers; Docker cannot run images with more than 125"), "{warned}");
    // 125 run.
    for (count, is_warned) in [(124, false), (125, true)] {
        let (_, _, warned) = builds_on("B17", &many(count), &[]);
        assert_eq!(warned.contains("Docker cannot run images with more than 125"), is_warned, "{count}: {warned}");
    }
    each_is_refused(&[("B17", &many(500), &["501 layers, more than 500"])]);
}

#[test]
fn b22_foreign_layers_are_refused() {
    for media_type in [
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    ] {
        each_is_refused(&[(
            "B22",
            &|base| {
                base.edit_manifest(|it| {
                    it["layers"][0]["mediaType"] = json!(media_type);
                    it["layers"][0]["urls"] = json!(["https://evil.example/layer"]);
                });
            },
            &["base image: ", "a foreign layer"],
        )]);
    }
}

#[test]
fn b23_layers_of_unknown_types_pass_through() {
    for media_type in
        ["application/vnd.oci.image.layer.v1.tar+gzip+encrypted", "application/vnd.wasm.content.layer.v1+wasm"]
    {
        let (manifest, _, warned) =
            builds_on("B23", &|base| base.edit_manifest(|it| it["layers"][0]["mediaType"] = json!(media_type)), &[]);
        assert!(warned.contains("the content of this layer is unknown"), "{warned}");
        assert_eq!(manifest["layers"][0]["mediaType"], media_type);
    }
}

/// M64: what a base says about its layers is held against them when it is built on, not only by `verify`.
#[test]
fn b3_layers_that_are_not_what_is_said_of_them_are_refused() {
    let tar = forge::tar(&[Member::file("base", b"from the base\n")]);
    let zstd = zstd::bulk::compress(&tar, 1).unwrap();
    each_is_refused(&[
        ("B3", &|base| base.set_layer(&zstd, GZIP, &tar), &["base image: blob sha256:", "+gzip`, but is zstd"]),
        (
            "B3",
            &|base| base.set_layer(&tar, GZIP, &tar),
            &["base image: blob sha256:", "+gzip`, but is not compressed"],
        ),
        (
            "B3",
            &|base| base.set_layer(b"", GZIP, b""),
            &["base image: blob sha256:", "a layer of 0 bytes is not a tar"],
        ),
        (
            "B3",
            &|base| base.set_layer(&forge::gzip(&tar), GZIP, b"x"),
            &["base image: blob sha256:", "expected the diff ID"],
        ),
        (
            "B3",
            &|base| base.set_layer(&forge::gzip(&tar)[..30], GZIP, &tar),
            &["base image: blob sha256:", "truncated"],
        ),
    ]);
}

#[test]
fn b27_diff_ids_and_layers_must_be_as_many() {
    each_is_refused(&[
        ("B27", &|base| base.edit_config(|it| it["rootfs"]["diff_ids"] = json!([])), &["1 layer but 0 diff IDs"]),
        ("B27", &|base| base.edit_manifest(|it| it["layers"] = json!([])), &["0 layers but 1 diff ID"]),
        (
            "B27",
            &|base| base.edit_config(|it| it["rootfs"]["diff_ids"] = json!([7])),
            &["a diff ID that is not a string"],
        ),
        (
            "B27",
            &|base| base.edit_config(|it| it["rootfs"]["diff_ids"] = json!("x")),
            &["`diff_ids`: expected an array"],
        ),
        ("B27", &|base| base.edit_manifest(|it| it["layers"] = Value::Null), &["a manifest without `layers`"]),
    ]);
}

#[test]
fn b33_b34_the_bytes_of_a_base_layer_are_kept() {
    let tar = forge::tar(&[Member::file("a", b"1")]);
    let two_members = [forge::gzip(&tar[..700]), forge::gzip(&tar[700..])].concat();
    let zeros = [forge::gzip(&tar), vec![0; 100]].concat();
    let zstd = zstd::bulk::compress(&tar, 3).unwrap();
    for (stored, media_type) in [(&two_members, GZIP), (&zeros, GZIP), (&zstd, ZSTD), (&tar, PLAIN)] {
        let bench = Bench::keeping();
        let base = Forged::new(bench.scratch.join("base"));
        base.set_layer(stored, media_type, &tar);
        run(bench.layout().args(["--tag", "new", "--base"]).arg(base.location())).success();
        let kept = fs::read(bench.out.join("blobs").join(forge::digest(stored).replacen(':', "/", 1))).unwrap();
        assert_eq!(kept, *stored, "B33");
        run(&mut bench.command(&["verify", "out"])).success();
    }
}
