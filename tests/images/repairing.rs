//! `verify --repair`: missing and damaged blobs come back from other places.

use super::{Yard, read};
use crate::consumers::Skopeo;
use crate::support::{is_left_out, run};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// The blobs of an image, by their part in it.
struct Blobs {
    manifest: PathBuf,
    config: PathBuf,
    layer: PathBuf,
}

fn blob(yard: &Yard, digest: &Value) -> PathBuf {
    let digest: ocibuild::Digest = digest.as_str().unwrap().parse().unwrap();
    yard.scratch.join("out/blobs/sha256").join(digest.hex())
}

/// Builds `v1` of `a` and `v2` of `b`, copies the layout to `backup`, and returns the blobs of `v1`.
fn two_images_with_a_backup(yard: &Yard) -> Blobs {
    // The cache does not keep the smallest layers.
    yard.scratch.write("a/numbers", (0..2000).map(|number| format!("{number}\n")).collect::<String>());
    run(yard.command("layout out -t v1 --copy a:/a").env_remove("OCIBUILD_NO_CACHE")).success();
    yard.text("layout out -t v2 --copy b:/b");
    let shown = yard.json("inspect out:v1");
    yard.text("export out:v1 oci:backup");
    yard.text("export out:v2 oci:backup");
    Blobs {
        manifest: blob(yard, &shown["manifest"]["digest"]),
        config: blob(yard, &shown["configDigest"]),
        layer: blob(yard, &shown["layers"][0]["digest"]),
    }
}

/// Replaces the content of a blob without changing other names of its file.
fn damage(blob: &PathBuf, content: &str) {
    fs::remove_file(blob).unwrap();
    fs::write(blob, content).unwrap();
}

/// The content of every file of the layout `out`.
fn content(yard: &Yard) -> BTreeMap<PathBuf, Vec<u8>> {
    let blobs = fs::read_dir(yard.scratch.join("out/blobs/sha256")).unwrap().map(|entry| entry.unwrap().path());
    let files = blobs.chain([yard.scratch.join("out/index.json")]);
    files.map(|file| (file.clone(), fs::read(&file).unwrap())).collect()
}

#[test]
fn repair_brings_back_what_is_missing_or_damaged_and_changes_nothing_else() {
    let yard = Yard::new();
    let blobs = two_images_with_a_backup(&yard);
    yard.scratch.write("out/note", "of a person");
    let before = content(&yard);
    // A damaged manifest hides the config and the layer, which are found missing when it is back.
    damage(&blobs.manifest, "{}");
    fs::remove_file(&blobs.config).unwrap();
    damage(&blobs.layer, "");
    fs::remove_dir_all(yard.scratch.join("cache")).unwrap();
    let found = yard.run("verify out --format json").ended_with(1);
    assert_eq!(read_json(&found.stdout)["repaired"], json!([]));
    let repaired = yard.json("verify out --repair --from ./backup");
    let digests: Vec<_> = repaired["repaired"].as_array().unwrap().iter().map(|blob| blob["from"].clone()).collect();
    assert_eq!(digests, vec![json!("oci:./backup"); 3], "{repaired}");
    assert_eq!((&repaired["faults"], &repaired["images"]), (&json!([]), &json!(2)));
    assert_eq!(content(&yard), before);
    assert!(fs::metadata(&blobs.layer).unwrap().permissions().readonly(), "as a build writes it");
    let nothing = yard.json("verify out --repair --from ./backup");
    assert_eq!(nothing["repaired"], json!([]));
    if Skopeo::find().is_some() {
        let mut skopeo = crate::support::command("skopeo");
        run(skopeo.args(["copy", "oci:out:v1", "dir:copied"]).current_dir(yard.scratch.path())).success();
    }
}

fn read_json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

/// Layers of builds on this machine are in the cache.
#[test]
fn repair_takes_layers_of_the_cache() {
    let yard = Yard::new();
    let blobs = two_images_with_a_backup(&yard);
    damage(&blobs.layer, "damaged");
    let repaired = yard.text("verify out:v1 --repair");
    assert!(repaired.contains("cache/store") && repaired.contains("no errors found"), "{repaired}");
    // A file that the layouts and the cache share is damaged in all of them, and remembered as verified.
    yard.text("export out:v1 oci-archive:kept.tar");
    let shared = fs::File::open(&blobs.layer).unwrap();
    shared.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
    yard.text("export out:v1 oci:other");
    #[expect(clippy::permissions_set_readonly_false, reason = "the file is written to by its owner")]
    let writable = {
        let mut permissions = shared.metadata().unwrap().permissions();
        permissions.set_readonly(false);
        permissions
    };
    let time = shared.metadata().unwrap().modified().unwrap();
    let size = usize::try_from(shared.metadata().unwrap().len()).unwrap();
    fs::set_permissions(&blobs.layer, writable).unwrap();
    fs::write(&blobs.layer, vec![0; size]).unwrap();
    fs::File::open(&blobs.layer).unwrap().set_modified(time).unwrap();
    let left = yard.run("verify out --repair").ended_with(1);
    assert!(left.text().contains("1 blob not repaired; --from IMAGE names another place"), "{left}");
    assert!(!left.text().contains(": repaired"), "{left}");
    yard.text("verify out --repair --from kept.tar");
    yard.run("verify out").success();
}

#[test]
fn repair_takes_blobs_of_archives_and_directories() {
    let yard = Yard::new();
    let blobs = two_images_with_a_backup(&yard);
    yard.text("export out:v1 oci-archive:kept.tar");
    yard.text("export out:v1 dir:kept");
    for place in ["kept.tar", "dir:kept", "oci-archive:kept.tar:v1"] {
        fs::remove_dir_all(yard.scratch.join("cache/store")).ok();
        damage(&blobs.layer, "damaged");
        fs::remove_file(&blobs.config).unwrap();
        let repaired = yard.json(&format!("verify out --repair --from {place}"));
        assert_eq!(repaired["repaired"].as_array().unwrap().len(), 2, "{place}: {repaired}");
    }
}

/// A place whose own blob is damaged is passed over with a warning, and what no place has is listed.
#[test]
fn repair_verifies_what_it_takes_and_lists_what_it_lacks() {
    let yard = Yard::new();
    let blobs = two_images_with_a_backup(&yard);
    fs::remove_dir_all(yard.scratch.join("cache")).unwrap();
    yard.text("export out:v1 oci:bad");
    let size = fs::metadata(&blobs.layer).unwrap().len();
    let layer = blobs.layer.file_name().unwrap();
    let bad = yard.scratch.join("bad/blobs/sha256").join(layer);
    damage(&bad, &"x".repeat(usize::try_from(size).unwrap()));
    fs::remove_file(&blobs.layer).unwrap();
    let left = yard.run("verify out --repair --from ./bad").ended_with(1);
    assert!(left.stderr.contains("warning: oci:./bad: ") && left.stderr.contains("has the digest"), "{left}");
    assert!(left.text().contains(": missing\n1 blob not repaired"), "{left}");
    assert!(!blobs.layer.exists());
    yard.run("verify out --repair --from ./bad --from ./backup").success();
}

#[test]
fn repair_does_not_guess_an_index() {
    let yard = Yard::new();
    let blobs = two_images_with_a_backup(&yard);
    let index = yard.scratch.join("out/index.json");
    let before = fs::read(&index).unwrap();
    fs::write(&index, &before[..before.len() / 2]).unwrap();
    fs::remove_file(&blobs.layer).unwrap();
    let refused = yard.run("verify out --repair --from ./backup").ended_with(1);
    assert!(refused.text().contains("index.json"), "{refused}");
    assert!(!blobs.layer.exists() && fs::read(&index).unwrap().len() == before.len() / 2);
}

#[test]
fn repair_refuses_places_without_blobs() {
    if is_left_out() {
        return;
    }
    let yard = Yard::new();
    two_images_with_a_backup(&yard);
    for flags in ["--from ./backup", "--lock-timeout 1", "--plain-http localhost", "--authfile auth.json"] {
        yard.refuses(&format!("verify out {flags}"), &["--repair"]);
    }
    yard.refuses("verify out --repair --from docker-daemon:app", &["gives no single blobs", "oci-archive:FILE"]);
    yard.run("verify out --repair --from ./none").ended_with(1).failed_saying("./none: not found");
    yard.run("verify out --repair --from ./backup:none").ended_with(1).failed_saying("no image `none`");
    yard.run("verify none --repair").ended_with(1).failed_saying("none");
    // A collection of garbage and a repair exclude each other.
    let held = fs::File::open(yard.scratch.join("out/blobs")).unwrap();
    held.lock().unwrap();
    yard.run("verify out --repair --lock-timeout 1").ended_with(1).failed_saying("is removing blobs from it");
    assert_eq!(read(&yard.scratch.join("out/index.json"))["manifests"].as_array().unwrap().len(), 2);
}
