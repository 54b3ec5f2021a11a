//! Images in all places, of several platforms, artifacts, and what cannot be compared.

use super::image::{Image, blob, directory, file, image, layer};
use super::{Yard, lines};
use crate::support::is_left_out;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn changed(change: impl FnOnce(&mut Image)) -> Image {
    let mut image = image();
    change(&mut image);
    image
}

/// The blob of a layer of the image in a layout; the lowest is 0.
fn layer_blob(yard: &Yard, layout: &str, number: usize) -> std::path::PathBuf {
    let shown: Value =
        serde_json::from_str(yard.run(&format!("inspect {layout} --format json")).success().text()).unwrap();
    let digest = shown["layers"][number]["digest"].as_str().unwrap().to_owned();
    yard.scratch.join(layout).join("blobs/sha256").join(&digest["sha256:".len()..])
}

/// Puts a layout with an index for these images and entries into `layout`, and returns its entry.
fn index(layout: &Path, images: &[(&Image, Value)], members: Value) -> Value {
    fs::create_dir_all(layout.join("blobs/sha256")).unwrap();
    let list = |(image, platform): &(&Image, Value)| {
        let mut entry = image.write_blobs(layout);
        entry["platform"] = platform.clone();
        entry
    };
    let listed: Vec<Value> = images.iter().map(list).collect();
    let mut document = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": listed});
    document["annotations"] = members;
    let entry = blob(layout, INDEX, document.to_string().as_bytes());
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    fs::write(layout.join("index.json"), json!({"schemaVersion": 2, "manifests": [entry]}).to_string()).unwrap();
    entry
}

#[test]
fn one_image_in_several_places_is_the_same_and_no_layer_is_read() {
    let yard = Yard::new();
    image().write(&yard.scratch.join("a"));
    for destination in ["oci-archive:archive.tar:v1", "dir:directory", "oci:copy:other"] {
        yard.run(&format!("export a {destination}")).success();
    }
    // No layer is left in the first layout.
    for number in [0, 1] {
        fs::remove_file(layer_blob(&yard, "a", number)).unwrap();
    }
    for other in ["oci-archive:archive.tar", "dir:directory", "copy", "archive.tar:v1", "a:v1"] {
        yard.run(&format!("diff a {other} --ignore annotations")).success().printed("");
        yard.run(&format!("diff {other} a --quiet --ignore annotations")).success().printed("");
        assert_eq!(yard.run(&format!("diff a {other} --ignore annotations")).stderr, "", "{other}");
    }
    // An archive of docker holds the same files under another manifest.
    image().write(&yard.scratch.join("b"));
    yard.run("export b docker-archive:docker.tar:app:v1").success();
    let found = yard.run("diff b docker-archive:docker.tar --format json").ended_with(1);
    let found = lines(&serde_json::from_str(found.text()).unwrap());
    assert!(found.iter().all(|line| !line.starts_with('/') && !line.starts_with("config")), "{found:?}");
}

#[test]
fn layers_of_both_images_are_not_read() {
    let yard = Yard::new();
    image().write(&yard.scratch.join("a"));
    changed(|image| image.layers[1].entries[3].content = "print 'HELLO'").write(&yard.scratch.join("b"));
    fs::remove_file(layer_blob(&yard, "a", 0)).unwrap();
    fs::remove_file(layer_blob(&yard, "b", 0)).unwrap();
    assert_eq!(lines(&yard.diff("a", "b", 1)), ["/app/main ~ content"]);
    // Where they matter they are read: a path is only in one of the layers that differ.
    let above = changed(|image| image.layers[1].entries.push(file("srv/one", "1")));
    above.write(&yard.scratch.join("c"));
    image().write(&yard.scratch.join("d"));
    assert_eq!(lines(&yard.diff("d", "c", 1)), [""; 0], "the same file again");
    let other = changed(|image| image.layers[1].entries.push(file("srv/one", "2")));
    other.write(&yard.scratch.join("e"));
    assert_eq!(lines(&yard.diff("d", "e", 1)), ["/srv/one ~ content"]);
}

#[test]
fn images_of_several_platforms_are_compared_one_by_one() {
    let yard = Yard::new();
    let platform = |text: &str| {
        let mut parts = text.split('/');
        json!({"os": parts.next(), "architecture": parts.next()})
    };
    let of = |architecture: &str, user: &str| {
        changed(|image| {
            image.config["architecture"] = json!(architecture);
            image.config["config"]["User"] = json!(user);
        })
    };
    let (arm, amd, s390x) = (of("arm64", "1"), of("amd64", "1"), of("s390x", "1"));
    let arm_other = of("arm64", "2");
    let entries = [(&arm, platform("linux/arm64")), (&amd, platform("linux/amd64"))];
    index(&yard.scratch.join("a"), &entries, json!({"x": "1"}));
    let entries =
        [(&amd, platform("linux/amd64")), (&arm_other, platform("linux/arm64")), (&s390x, platform("linux/s390x"))];
    index(&yard.scratch.join("b"), &entries, json!({"x": "2"}));
    let found = yard.diff("a", "b", 1);
    assert_eq!(lines(&found), ["index ~ annotation x", "index + platform linux/s390x", "config ~ user"]);
    assert_eq!(found[2]["platform"], "linux/arm64");
    yard.run("diff a b --platform linux/amd64").success().printed("");
    yard.run("diff a b --platform linux/arm64").ended_with(1);
    yard.run("diff a b --platform linux/s390x").ended_with(2).failed_saying("no image for linux/s390x");
    // An image of one platform is compared with the image of the index for it.
    arm.write(&yard.scratch.join("one"));
    let found = lines(&yard.diff("b", "one", 1));
    assert_eq!(found, ["entry + annotation org.example.entry", "manifest ~ kind", "config ~ user"]);
}

#[test]
fn artifacts_are_compared_as_documents() {
    let yard = Yard::new();
    let artifact = |layout: &str, content: &str| {
        let layout = yard.scratch.join(layout);
        image().write(&layout);
        let empty = blob(&layout, "application/vnd.oci.empty.v1+json", b"{}");
        let sbom = blob(&layout, "application/spdx+json", content.as_bytes());
        let document = json!({"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "sbom", "config": empty, "layers": [sbom]});
        let mut entry = blob(&layout, MANIFEST, document.to_string().as_bytes());
        entry["annotations"] = json!({"org.opencontainers.image.ref.name": "sbom"});
        let listed = fs::read(layout.join("index.json")).unwrap();
        let mut index: Value = serde_json::from_slice(&listed).unwrap();
        index["manifests"].as_array_mut().unwrap().push(entry);
        fs::write(layout.join("index.json"), index.to_string()).unwrap();
    };
    artifact("a", "{}");
    artifact("b", "[]");
    assert_eq!(lines(&yard.diff("a:sbom", "b:sbom", 1)), ["manifest ~ blob 1"]);
    yard.run("diff a:sbom a:sbom").success().printed("");
    let found = lines(&yard.diff("a:sbom", "a:v1", 1));
    assert!(found.contains(&"manifest ~ kind".to_owned()), "{found:?}");
}

#[test]
fn trouble_is_status_2() {
    let yard = Yard::new();
    image().write(&yard.scratch.join("a"));
    changed(|image| image.layers[1].entries[3].content = "print 'HELLO'").write(&yard.scratch.join("b"));
    for (line, reason) in [
        ("diff a", "required"),
        ("diff a ./none", "not found"),
        ("diff a b:none", "no image `none`"),
        ("diff a b --stat --format json", "has no effect with --format json"),
        ("diff a b --limit 1 --stat", "--limit: has no effect with --stat"),
        ("diff a b --limit 1 --quiet", "--limit: has no effect with --quiet"),
        ("diff a b --ignore everything", "invalid value 'everything'"),
        ("diff a b --platform linux/amd64", "no image for linux/amd64 (there is linux/arm64)"),
    ] {
        let finished = yard.run(line).ended_with(2).failed_saying(reason);
        assert_eq!((finished.stdout.len(), finished.stderr.lines().count()), (0, 1), "{finished}");
    }
    let blob = layer_blob(&yard, "b", 1);
    let mut bytes = fs::read(&blob).unwrap();
    let end = bytes.len() - 9;
    bytes[end] ^= 1;
    fs::write(&blob, bytes).unwrap();
    let damaged = yard.run("diff a b").ended_with(2).failed_saying("blob sha256:");
    assert_eq!(damaged.stdout, b"", "{damaged}");
    let json = yard.run("diff a b --format json").ended_with(2);
    assert_eq!(json.stdout, b"", "{json}");
    // Digests are enough to know that they differ.
    yard.run("diff a b --quiet").ended_with(1).printed("");
    // Nothing is printed either where the documents alone would fill a buffer.
    let long: &'static str = Box::leak("x".repeat(200_000).into_boxed_str());
    let with_long_label = changed(|image| {
        image.layers[1].entries[3].content = "print 'HELLO'";
        image.config["config"]["Labels"]["long"] = long.into();
    });
    with_long_label.write(&yard.scratch.join("c"));
    fs::copy(&blob, layer_blob(&yard, "c", 1)).unwrap();
    let json = yard.run("diff a c --format json").ended_with(2);
    assert!(json.stdout.is_empty(), "{}", json.stderr);
    fs::remove_file(&blob).unwrap();
    yard.run("diff a b").ended_with(2).failed_saying("missing");
}

#[test]
fn what_is_left_out_of_the_list_is_counted() {
    let yard = Yard::new();
    let names: Vec<&'static str> =
        (0..150).map(|number| &*Box::leak(format!("app/data/{number:03}").into_boxed_str())).collect();
    let many = changed(|image| image.layers[1].entries.extend(names.iter().map(|name| file(name, "x"))));
    image().write(&yard.scratch.join("a"));
    many.write(&yard.scratch.join("b"));
    let printed = |line: &str| yard.run(line).ended_with(1).text().to_owned();
    let text = printed("diff a b");
    assert_eq!(text.matches("  + /app/data/").count(), 100, "{text}");
    assert!(text.contains("… and 50 more; --limit 0 prints all of them"), "{text}");
    assert_eq!(printed("diff a b --limit 0").matches("  + /app/data/").count(), 150);
    assert_eq!(printed("diff b a --limit 3").matches("  - /app/data/").count(), 3);
    let stat = printed("diff a b --stat");
    assert_eq!(stat.lines().count(), 1);
    assert!(
        stat.contains("layers: 1 the same (") && stat.ends_with("files: 150 added, 0 removed, 0 changed (+150 B)"),
        "{stat}"
    );
    assert_eq!(yard.diff("a", "b", 1).as_array().unwrap().len(), 152);
}

#[test]
fn odd_images_are_compared_or_refused() {
    if is_left_out() {
        return;
    }
    let yard = Yard::new();
    let long: &'static str = Box::leak("a/".repeat(2000).into_boxed_str());
    let odd = changed(|image| {
        image.layers[1].entries.extend([
            super::image::link(ocibuild::codec::tar::EntryType::Symlink, "app/circle", "circle"),
            super::image::link(ocibuild::codec::tar::EntryType::HardLink, "app/ring", "app/ring"),
            file(long.trim_end_matches('/'), "deep"),
            file("app/\u{1b}[31mred\nline", "x"),
        ]);
    });
    odd.write(&yard.scratch.join("odd"));
    image().write(&yard.scratch.join("plain"));
    let text = yard.run("diff plain odd --limit 0").ended_with(1);
    assert!(!text.text().contains('\u{1b}'), "{text}");
    let found = lines(&yard.diff("plain", "odd", 1));
    assert!(found.contains(&"/app/circle +".to_owned()) && found.contains(&"/app/ring +".to_owned()));
    // A layer that is not a tar for a file system is not guessed at.
    let unknown = changed(|image| image.layers[1].media_type = Some("application/wasm"));
    unknown.write(&yard.scratch.join("unknown"));
    let mut again = unknown.clone();
    again.layers[1] = layer(&[directory("x")]);
    again.layers[1].media_type = Some("application/wasm");
    again.write(&yard.scratch.join("again"));
    assert_eq!(
        lines(&yard.diff("unknown", "again", 1)),
        ["layer 2 ~ unread", "files ~ layer 2: layer type `application/wasm` is not supported"]
    );
    yard.run("diff unknown again --ignore storage").ended_with(1);
}

#[test]
fn indexes_are_compared_as_far_as_they_differ() {
    let yard = Yard::new();
    let of = |architecture: &str| changed(|image| image.config["architecture"] = json!(architecture));
    let (arm, amd) = (of("arm64"), of("amd64"));
    let platform = |architecture: &str| json!({"os": "linux", "architecture": architecture});
    let entries = [(&arm, platform("arm64")), (&amd, platform("amd64"))];
    index(&yard.scratch.join("a"), &entries, json!({}));
    index(&yard.scratch.join("turned"), &[entries[1].clone(), entries[0].clone()], json!({}));
    assert_eq!(lines(&yard.diff("a", "turned", 1)), ["index ~ order of manifests"]);
    // An attestation, which has the config of an image and no layers of files.
    let attested = |content: &'static str| {
        let mut attestation = image();
        attestation.config = json!({"os": "unknown", "architecture": "unknown", "config": {}});
        attestation.layers = vec![layer(&[file("x", content)])];
        attestation.layers[0].media_type = Some("application/vnd.in-toto+json");
        attestation
    };
    for (layout, content) in [("b", "1"), ("c", "2")] {
        let attestation = attested(content);
        let unknown = json!({"os": "unknown", "architecture": "unknown"});
        index(&yard.scratch.join(layout), &[(&arm, platform("arm64")), (&attestation, unknown)], json!({}));
    }
    let found = yard.diff("b", "c", 1);
    assert_eq!(lines(&found), ["manifest ~ config", "manifest ~ blob 1"]);
    assert_eq!(found[0]["platform"], "unknown/unknown");
    // Of the images that are equal no document is read.
    for blob in fs::read_dir(yard.scratch.join("b/blobs/sha256")).unwrap() {
        let path = blob.unwrap().path();
        let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
        if text.contains("arm64") && !text.contains("manifests") {
            fs::remove_file(path).unwrap();
        }
    }
    assert_eq!(lines(&yard.diff("b", "c", 1)).len(), 2);
}
