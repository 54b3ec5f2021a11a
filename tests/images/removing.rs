//! `rm` by pattern and by age, and what becomes unneeded.

use super::Yard;
use crate::support::is_left_out;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::time::{Duration, SystemTime};

fn names(images: &Value) -> Vec<&str> {
    images.as_array().unwrap().iter().map(|image| image["name"].as_str().unwrap()).collect()
}

/// Three images with equal times in their configs.
fn three_images() -> Yard {
    let yard = Yard::new();
    yard.text("layout out -t nightly-1 --copy a:/a");
    yard.text("layout out -t nightly-2 --copy b:/b");
    yard.text("layout out -t team/app:v1 --copy a:/x");
    yard
}

#[test]
fn a_pattern_selects_every_name_that_it_matches() {
    let yard = three_images();
    let found = yard.json("rm out:nightly-* --dry-run");
    assert_eq!(names(&found), ["nightly-1", "nightly-2"]);
    assert_eq!(yard.json("ls out").as_array().unwrap().len(), 3, "a dry run removes nothing");
    assert!(yard.text("rm out:nightly-* -n").starts_with("would remove nightly-1 sha256:"));
    yard.run("rm out:nightly-1 out:weekly-*").ended_with(1).failed_saying("no name matches `weekly-*`");
    assert_eq!(names(&yard.json("rm out:team/*")), ["docker.io/team/app:v1"]);
    assert_eq!(names(&yard.json("rm out:nightly-1 out:n*")), ["nightly-1", "nightly-2"], "each once");
    assert_eq!(yard.json("ls out"), json!([]));
}

/// The times in configs are those of 1970 here, and those of files can be older than the layout.
#[test]
fn age_is_that_of_the_last_build_or_copy() {
    if is_left_out() {
        return;
    }
    let yard = three_images();
    for entry in fs::read_dir(yard.scratch.join("out/blobs/sha256")).unwrap() {
        File::open(entry.unwrap().path()).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    }
    assert_eq!(yard.text("rm out --older-than 1h"), "removed 0 images");
    assert_eq!(yard.json("rm out:none-* --older-than 1h"), json!([]));
    std::thread::sleep(Duration::from_millis(3100));
    // The same bytes as before.
    yard.text("layout out -t nightly-2 --copy b:/b");
    yard.text("export out:team/app:v1 oci:other");
    let found = yard.json("rm out --older-than 2s --dry-run");
    assert_eq!(names(&found), ["nightly-1", "docker.io/team/app:v1"], "what was read is not younger");
    assert_eq!(yard.json("rm other --older-than 2s"), json!([]));
    assert_eq!(names(&yard.json("rm out:nightly-* --older-than 2s")), ["nightly-1"]);
    assert_eq!(names(&yard.json("rm out --older-than 0s")), ["nightly-2", "docker.io/team/app:v1"]);
    yard.refuses("rm out", &["is a layout, and rm removes images from one"]);
    yard.refuses("rm out --older-than 5", &["not a number with ms, s, m, h, d or w, such as 1m30s"]);
}

/// An edit that leads back to an image of long ago makes it young again.
#[test]
fn a_change_makes_an_image_young() {
    if is_left_out() {
        return;
    }
    let yard = Yard::new();
    yard.text("layout out -t v1 --copy a:/a");
    std::thread::sleep(Duration::from_millis(3100));
    yard.text("edit out:v1 --label a=1");
    yard.text("edit out:v1 --unset-label a");
    assert_eq!(yard.json("rm out --older-than 2s"), json!([]));
}

/// An artifact is removed with its image, never before it.
#[test]
fn artifacts_have_no_age_of_their_own() {
    if is_left_out() {
        return;
    }
    let yard = Yard::new();
    yard.text("layout out -t v1 --copy a:/a");
    let image = yard.json("inspect out:v1")["manifest"].clone();
    let empty = yard.blob("out", "application/vnd.oci.empty.v1+json", b"{}");
    let sbom = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "application/spdx+json", "config": empty, "layers": [empty], "subject": image,
    });
    let sbom = yard.blob("out", "application/vnd.oci.image.manifest.v1+json", sbom.to_string().as_bytes());
    yard.edit_index("out", |manifests| manifests.push(sbom));
    std::thread::sleep(Duration::from_millis(3100));
    yard.text("layout out -t v1 --copy a:/a");
    assert_eq!(yard.json("rm out --older-than 2s"), json!([]));
    assert_eq!(yard.json("rm out --older-than 0s").as_array().unwrap().len(), 2);
}

#[test]
fn an_image_without_its_manifest_has_no_age() {
    let yard = three_images();
    let digest: ocibuild::Digest =
        yard.json("inspect out:nightly-1")["manifest"]["digest"].as_str().unwrap().parse().unwrap();
    fs::remove_file(yard.scratch.join("out/blobs/sha256").join(digest.hex())).unwrap();
    let refused = yard.run("rm out --older-than 0s").ended_with(1);
    assert!(refused.stderr.contains(&format!("its age is unknown; ocibuild rm out@{digest} removes it")), "{refused}");
    yard.run(&format!("rm out@{digest}")).success();
    yard.run("rm out --older-than 0s").success();
}

/// What a build or a copy leaves behind is told, and is what `gc` removes.
#[test]
fn a_replaced_image_is_told_with_what_it_leaves() {
    let yard = Yard::new();
    yard.text("layout out -t v1 -t same --copy a:/a --copy b:/b");
    let shared = yard.json("layout out -t v1 --copy a:/x --copy b:/b");
    assert_eq!(shared["replaced"][0]["unneededBytes"], 0, "`same` needs all of it");
    let built = yard.json("layout out -t same --copy a:/y --copy b:/b");
    let told = built["replaced"][0]["unneededBytes"].as_u64().unwrap();
    let removed: u64 = yard.json("gc out --older-than 0s")["blobs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|blob| blob["size"].as_u64().unwrap())
        .sum();
    assert!(told > 0 && told == removed, "{told} told, {removed} removed");
    let copied = yard.json("export out:v1 oci:out:same");
    let told = copied["replaced"][0]["unneededBytes"].as_u64().unwrap();
    assert!(told > 0 && told < 2000, "without the layer of `b`: {told}");
    let many: Vec<String> = (0..100).map(|number| format!("n{number}")).collect();
    yard.text(&format!("layout large -t v1 --copy a:/a -t {}", many.join(" -t ")));
    let built = yard.json("layout large -t v1 --copy b:/b");
    assert_eq!(built["replaced"][0]["unneededBytes"], json!(null), "the images of a large layout are not read");
    let said = yard.run("layout out -t v1 --copy b:/b").success();
    assert!(said.stderr.contains("the former v1\n"), "`same` is that image, too: {said}");
    let said = yard.run("tag out:v1 same").success();
    assert!(said.stderr.contains("the former same; gc can free "), "{said}");
    let removed = yard.text("rm out:v1 out:same");
    assert!(removed.contains("gc can free "), "{removed}");
}
