//! `gc`: removing the blobs that no image needs.

use super::Yard;
use crate::support::is_left_out;
use serde_json::json;
use std::fs::{self, File};
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime};

fn blobs(yard: &Yard) -> usize {
    fs::read_dir(yard.scratch.join("out/blobs/sha256")).unwrap().count()
}

/// Makes every blob look as if it had been written an hour and a minute ago.
fn age(yard: &Yard) {
    let then = SystemTime::now() - Duration::from_secs(3660);
    for entry in fs::read_dir(yard.scratch.join("out/blobs/sha256")).unwrap() {
        File::open(entry.unwrap().path()).unwrap().set_modified(then).unwrap();
    }
}

#[test]
fn gc_removes_what_no_image_needs_and_nothing_else() {
    let yard = Yard::new();
    yard.text("layout out -t v1 --copy a:/a");
    assert_eq!(yard.text("gc out"), "removed 0 blobs, 0 B");
    yard.text("layout out -t v1 --copy b:/b");
    yard.scratch.write("out/blobs/sha256/README", "not a blob");
    let before = blobs(&yard);
    let found = yard.json("gc out --dry-run");
    assert_eq!((found["dryRun"].clone(), found["unknown"].clone()), (json!(true), json!(["blobs/sha256/README"])));
    assert_eq!((blobs(&yard), yard.json("gc out -n")), (before, found.clone()));
    let removed = yard.json("gc out");
    assert_eq!(removed["blobs"], found["blobs"]);
    assert_eq!(removed["blobs"].as_array().unwrap().len(), 2, "a layer and a config: {removed}");
    assert_eq!(removed["recent"].as_array().unwrap().len(), 1, "manifests are writable, as other programs write them");
    age(&yard);
    assert_eq!(yard.json("gc out")["blobs"].as_array().unwrap().len(), 1);
    assert_eq!(blobs(&yard), 4, "an image, and the unknown file");
    yard.run("verify out:v1").success();
    yard.run("rm out:v1").success();
    age(&yard);
    yard.text("gc out");
    assert_eq!(blobs(&yard), 1);
    yard.text("layout out -t v1 --copy a:/a");
    yard.run("verify out:v1").success();
}

/// Blobs that a program without our lock has just written stay.
#[test]
fn gc_keeps_blobs_that_another_program_has_just_written() {
    let yard = Yard::new();
    yard.text("layout out -t v1 --copy a:/a");
    let written = yard.blob("out", "application/octet-stream", b"by another program");
    let kept = yard.json("gc out");
    assert_eq!((&kept["blobs"], &kept["recent"][0]["digest"]), (&json!([]), &written["digest"]));
    assert_eq!(yard.json("gc out --older-than 0s")["blobs"][0]["digest"], written["digest"]);
}

#[test]
fn gc_keeps_what_artifacts_and_indexes_need() {
    let yard = Yard::new();
    yard.text("layout out -t v1 --copy a:/a");
    let image = yard.json("inspect out")["manifest"].clone();
    let missing = ocibuild::Digest::of(b"a platform that was not copied");
    let inner = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [image, {"mediaType": image["mediaType"], "digest": missing.to_string(), "size": 3}],
    });
    let index = yard.blob("out", "application/vnd.oci.image.index.v1+json", inner.to_string().as_bytes());
    yard.edit_index("out", |manifests| *manifests = vec![index]);
    age(&yard);
    assert_eq!(yard.json("gc out")["blobs"], json!([]));
}

#[test]
fn gc_removes_nothing_when_it_is_not_known_what_is_needed() {
    let yard = Yard::new();
    let digest: ocibuild::Digest = yard.text("layout out -t v1 --copy a:/a").parse().unwrap();
    yard.text("layout out -t v1 --copy b:/b");
    yard.text("layout out -t v2 --copy a:/a");
    let before = blobs(&yard);
    fs::write(yard.scratch.join("out/blobs/sha256").join(digest.hex()), "damaged").unwrap();
    yard.run("gc out").ended_with(1).failed_saying("`ocibuild verify` lists the damage");
    fs::write(yard.scratch.join("out/index.json"), "{").unwrap();
    yard.run("gc out").ended_with(1).failed_saying("index.json");
    assert_eq!(blobs(&yard), before);
    yard.refuses("gc out:v1", &["is an image, and gc cleans a layout"]);
}

/// Garbage is collected while builds replace images, and every image stays complete.
#[test]
fn gc_beside_builds_loses_nothing() {
    if is_left_out() {
        return;
    }
    let yard = Yard::new();
    for round in 0..6 {
        yard.scratch.write("a/round", round.to_string());
        let lines = [
            "layout out -q -t one --copy a:/a",
            "layout out -q -t two --copy b:/b --copy a:/a",
            "layout out -q -t one --copy b:/b",
            "gc out -q --older-than 1h",
            "layout out -q -t three --copy a:/a",
            "gc out -q --older-than 1h",
        ];
        let started = lines.map(|line| (line, yard.command(line).stdout(Stdio::null()).spawn().unwrap()));
        for (line, mut child) in started {
            let status = child.wait().unwrap();
            // The layout does not exist yet when the first collections start.
            assert!(status.success() || line.starts_with("gc") && round == 0, "{line}: {status}");
        }
        yard.run("verify out").success();
    }
}

/// A writer keeps collections out until the index names its blobs.
#[test]
#[cfg(unix)]
fn gc_waits_for_writers() {
    if is_left_out() {
        return;
    }
    let yard = Yard::new();
    yard.text("layout out -t v1 --copy a:/a");
    let blobs = File::open(yard.scratch.join("out/blobs")).unwrap();
    blobs.lock_shared().unwrap();
    let refused = yard.run("gc out --lock-timeout 1").ended_with(1);
    assert!(
        refused.stderr.contains("out: another process is writing to it (waited 1 s; see --lock-timeout)"),
        "{refused}"
    );
    yard.run("gc out --dry-run").success();
    drop(blobs);
    yard.run("gc out").success();
}

/// A writer waits while garbage is collected, as long as it may, and says so.
#[test]
#[cfg(unix)]
fn writers_wait_for_gc() {
    if is_left_out() {
        return;
    }
    let yard = Yard::new();
    yard.text("layout out -t v1 --copy a:/a");
    let blobs = File::open(yard.scratch.join("out/blobs")).unwrap();
    blobs.lock().unwrap();
    let started = Instant::now();
    let refused = yard.run("layout out -t v2 --copy b:/b --lock-timeout 1").ended_with(1);
    assert!(started.elapsed() < Duration::from_secs(30));
    assert!(
        refused.stderr.contains("out: `ocibuild gc` is removing blobs from it (waited 1 s; see --lock-timeout)"),
        "{refused}"
    );
    drop(blobs);
    yard.text("layout out -t v2 --copy b:/b --lock-timeout 1");
}

/// An artifact that packs the manifest of an image as its layer does not stand for that image.
#[test]
fn gc_keeps_an_image_whose_manifest_is_also_a_layer() {
    let yard = Yard::new();
    let digest = yard.text("layout out -t v1 --copy a:/a");
    let image = yard.json("inspect out")["manifest"].clone();
    let empty = yard.blob("out", "application/vnd.oci.empty.v1+json", b"{}");
    let layer = json!({"mediaType": "application/octet-stream", "digest": digest, "size": image["size"]});
    let artifact = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "application/vnd.example.packed", "config": empty, "layers": [layer],
    });
    let artifact = yard.blob("out", "application/vnd.oci.image.manifest.v1+json", artifact.to_string().as_bytes());
    yard.edit_index("out", |manifests| manifests.insert(0, artifact));
    age(&yard);
    assert_eq!(yard.json("gc out")["blobs"], json!([]));
    yard.run("verify out:v1").success();
}

#[test]
fn gc_refuses_manifests_of_unknown_types() {
    let yard = Yard::new();
    yard.text("layout out -t v1 --copy a:/a");
    let unknown = yard.blob("out", "application/vnd.docker.distribution.manifest.v1+json", b"{}");
    yard.edit_index("out", |manifests| manifests.push(unknown));
    age(&yard);
    let before = blobs(&yard);
    yard.run("gc out")
        .ended_with(1)
        .failed_saying("unsupported type `application/vnd.docker.distribution.manifest.v1+json`");
    assert_eq!(blobs(&yard), before);
}
