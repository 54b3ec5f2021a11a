//! Archives of images whose layers are compressed in different ways.

use crate::consumers::Layout;
use crate::support::random::Random;
use crate::support::{Scratch, is_left_out, ocibuild, run};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;

/// The members of a docker-archive.
fn members(archive: &Path) -> BTreeMap<String, Vec<u8>> {
    let bytes = fs::read(archive).unwrap();
    let mut headers = ocibuild::codec::tar::Headers::new("archive");
    let mut members = BTreeMap::new();
    while let Some(entry) = headers.next(&mut &bytes[headers.position() as usize..]).unwrap() {
        let content = &bytes[entry.offset as usize..(entry.offset + entry.size) as usize];
        members.insert(String::from_utf8(entry.path).unwrap(), content.to_vec());
    }
    members
}

/// M59: a docker-archive has one compression, with the config and the tars that the image has; an oci-archive and a layout keep
/// the manifest.
#[test]
fn a_docker_archive_has_one_compression() {
    if is_left_out() {
        return;
    }
    let scratch = Scratch::new();
    scratch.write("base/random", Random::new(3).bytes(5 << 20));
    scratch.write("base/zeros", vec![0; 3 << 20]);
    scratch.write("app/file", "x");
    let program = |words: &[&str]| run(ocibuild().args(words).current_dir(scratch.path())).success();
    program(&["layout", "below", "--copy", "base:/", "--compression", "none"]);
    program(&["layout", "zstd", "--base", "oci:below", "--copy", "app:/z", "--compression", "zstd"]);
    let built = program(&["layout", "out", "--base", "oci:zstd", "--copy", "app:/app", "--save", "saved.tar"]);
    let own = Layout::new(scratch.join("out"), "latest");
    let again = program(&["export", "out", "docker-archive:exported.tar"]);
    assert_eq!(again.text(), built.text(), "the digest is that of the image exported");
    assert!(again.stderr.contains("its layers were recompressed with gzip; its manifest is sha256:"), "{again}");
    let piped = run(ocibuild().args(["export", "out", "-"]).current_dir(scratch.path())).success();
    scratch.write("piped.tar", &piped.stdout);
    let digests: Vec<String> = own.config()["rootfs"]["diff_ids"]
        .as_array()
        .unwrap()
        .iter()
        .map(|id| id.as_str().unwrap().to_owned())
        .collect();
    for archive in ["saved.tar", "exported.tar", "piped.tar"] {
        let members = members(&scratch.join(archive));
        let list: Value = serde_json::from_slice(&members["manifest.json"]).unwrap();
        assert_eq!(list[0]["Config"], format!("blobs/{}", own.config_digest().replacen(':', "/", 1)), "{archive}");
        let layers = list[0]["Layers"].as_array().unwrap();
        assert_eq!(layers.len(), 3);
        for (layer, diff_id) in layers.iter().zip(&digests) {
            let stored = &members[layer.as_str().unwrap()];
            assert_eq!(stored[..2], [0x1f, 0x8b], "{archive}: {layer}");
            let mut tar = Vec::new();
            flate2::read::MultiGzDecoder::new(&stored[..]).read_to_end(&mut tar).unwrap();
            assert_eq!(&ocibuild::Digest::of(&tar).to_string(), diff_id, "{archive}: {layer}");
        }
        program(&["export", &format!("docker-archive:{archive}"), "oci:back:v1"]);
        program(&["export", &format!("oci-archive:{archive}"), "oci:back:v2"]);
        program(&["verify", "back"]);
    }
    assert_eq!(members(&scratch.join("saved.tar")).len(), members(&scratch.join("exported.tar")).len());
    program(&["export", "out", "oci-archive:image.oci"]);
    let index: Value = serde_json::from_slice(&members(&scratch.join("image.oci"))["index.json"]).unwrap();
    assert_eq!(index["manifests"][0]["digest"], built.text());
}

/// M59: what was compressed for one archive is taken from the cache for the next, and goes with the cache.
#[test]
fn a_second_archive_compresses_nothing() {
    if is_left_out() {
        return;
    }
    let scratch = Scratch::new();
    scratch.write("base/random", Random::new(5).bytes(3 << 20));
    scratch.write("app/file", "x");
    let program = |words: &[&str]| {
        let mut command = ocibuild();
        command.env_remove("OCIBUILD_NO_CACHE").env("OCIBUILD_CACHE_DIR", scratch.join("cache"));
        run(command.args(words).current_dir(scratch.path())).success()
    };
    program(&["layout", "below", "--copy", "base:/", "--compression", "none", "--no-cache"]);
    program(&["layout", "out", "--base", "oci:below", "--copy", "app:/app", "--no-cache"]);
    let compressed = |archive: &str| program(&["export", "out", archive]).stderr.matches("compress sha256:").count();
    assert_eq!(compressed("docker-archive:first.tar"), 1);
    assert_eq!(compressed("docker-archive:second.tar"), 0);
    let archive = |name: &str| fs::read(scratch.join(name)).unwrap();
    assert!(archive("first.tar") == archive("second.tar"));
    let saved = program(&["layout", "again", "--base", "oci:below", "--copy", "app:/app", "--save", "saved.tar"]);
    assert_eq!(saved.stderr.matches("compress sha256:").count(), 0, "{saved}");

    // A damaged blob is made again, and so is one that was pruned.
    let kept = members(&scratch.join("first.tar")).into_iter().filter(|(_, content)| content.len() > 1 << 20);
    let [(name, content)] = kept.collect::<Vec<_>>().try_into().unwrap();
    let blob = scratch.join("cache/store").join(&name);
    assert!(fs::read(&blob).unwrap() == content, "{name}");
    fs::remove_file(&blob).unwrap();
    fs::write(&blob, vec![0; content.len()]).unwrap();
    assert_eq!(compressed("docker-archive:third.tar"), 1);
    assert!(archive("first.tar") == archive("third.tar"));
    program(&["cache", "prune", "--keep", "0"]);
    assert!(!blob.exists());
    assert_eq!(compressed("docker-archive:fourth.tar"), 1);
    program(&["cache", "clear"]);
    assert_eq!(compressed("docker-archive:fifth.tar"), 1);
    assert!(archive("first.tar") == archive("fifth.tar"));
    program(&["cache", "verify"]);
}
