//! Layers that become one.

use super::{Yard, read};
use crate::consumers::{Registry, Umoci};
use crate::support::{command, is_left_out, run};
use ocibuild::codec::tar::{self, EntryType, Header};
use serde_json::json;
use std::fs;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// One entry: a path that ends in a slash is a directory, `->` a symbolic link, `=>` a hard link, and anything after `:` content.
fn entry(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let plain = Header {
        path: b"",
        kind: EntryType::File,
        mode: 0o644,
        uid: 1,
        gid: 2,
        size: 0,
        mtime: 1_000,
        link: b"",
        xattrs: &[],
        device: (0, 0),
    };
    let xattrs = [(b"user.mark".to_vec(), b"kept".to_vec())];
    if let Some((path, link)) = text.split_once("->") {
        tar::append(
            &Header { path: path.as_bytes(), kind: EntryType::Symlink, link: link.as_bytes(), ..plain },
            &mut bytes,
        );
    } else if let Some((path, link)) = text.split_once("=>") {
        tar::append(
            &Header { path: path.as_bytes(), kind: EntryType::HardLink, link: link.as_bytes(), ..plain },
            &mut bytes,
        );
    } else if let Some(path) = text.strip_suffix('/') {
        tar::append(&Header { path: path.as_bytes(), kind: EntryType::Directory, mode: 0o755, ..plain }, &mut bytes);
    } else if let Some(path) = text.strip_suffix('|') {
        tar::append(&Header { path: path.as_bytes(), kind: EntryType::Fifo, ..plain }, &mut bytes);
    } else if let Some(path) = text.strip_suffix('!') {
        let device = Header { path: path.as_bytes(), kind: EntryType::CharacterDevice, device: (5, 7), ..plain };
        tar::append(&device, &mut bytes);
    } else {
        let (path, content) = text.split_once(':').unwrap_or((text, ""));
        let marked: &[_] = if content == "marked" { &xattrs } else { &[] };
        let header = Header { path: path.as_bytes(), size: content.len() as u64, xattrs: marked, ..plain };
        tar::append(&header, &mut bytes);
        bytes.extend_from_slice(content.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes
}

/// Lists an image of these layers as `v1` in the layout `out`, which may not exist yet.
fn image(yard: &Yard, layers: &[&[&str]]) {
    let layers: Vec<(Vec<u8>, &str)> = layers
        .iter()
        .map(|layer| (layer.iter().flat_map(|text| entry(text)).chain(tar::END).collect(), LAYER))
        .collect();
    image_of(yard, &layers);
}

fn image_of(yard: &Yard, layers: &[(Vec<u8>, &str)]) {
    yard.text("layout out -q -t x --label a=b");
    let diff_ids: Vec<String> = layers.iter().map(|(tar, _)| ocibuild::Digest::of(tar).to_string()).collect();
    let config = json!({"os": "linux", "architecture": "amd64", "created": "2024-01-01T00:00:00Z",
        "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    let config = yard.blob("out", CONFIG, config.to_string().as_bytes());
    let layers: Vec<_> = layers.iter().map(|(tar, kind)| yard.blob("out", kind, tar)).collect();
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
    let mut entry = yard.blob("out", MANIFEST, manifest.to_string().as_bytes());
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": "v1"});
    yard.edit_index("out", |manifests| *manifests = vec![entry]);
}

/// The top layer of an image, as GNU tar lists it: mode, owner, size and names.
fn top_layer(yard: &Yard, name: &str) -> Vec<String> {
    let shown = yard.json(&format!("inspect {name}"));
    let layer = shown["layers"].as_array().unwrap().last().unwrap();
    let digest: ocibuild::Digest = layer["digest"].as_str().unwrap().parse().unwrap();
    let layout = name.split(':').next().unwrap();
    let mut tar = command("tar");
    tar.arg("--numeric-owner").arg("-tvzf").arg(yard.scratch.join(layout).join("blobs/sha256").join(digest.hex()));
    let listed = run(&mut tar).success();
    let words = |line: &str| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        [&words[..1], &words[2..3], &words[5..]].concat().join(" ")
    };
    listed.text().lines().map(words).collect()
}

fn squashed(layers: &[&[&str]], from: usize) -> Vec<String> {
    let yard = Yard::new();
    image(&yard, layers);
    yard.text(&format!("squash out:v1 --from {from}"));
    yard.run("verify out:v1").success();
    top_layer(&yard, "out:v1")
}

#[test]
fn what_is_deleted_vanishes_and_deletions_of_lower_layers_stay() {
    let base: &[&str] = &["etc/", "etc/old:1", "etc/both:1", "lib/", "lib/x:1", "gone/", "gone/x:1"];
    let one: &[&str] = &["app/", "app/a:1", "app/tmp:1", "etc/.wh.old", ".wh.gone", "etc/new:1"];
    let two: &[&str] =
        &["app/.wh.tmp", "etc/both:22", "etc/.wh.new", "etc/.wh.never", "lib/", "lib/.wh..wh..opq", "lib/y:1"];
    let expected = [
        "drwxr-xr-x 0 app/",
        "-rw-r--r-- 0 etc/.wh.old",
        "-rw-r--r-- 0 .wh.gone",
        "drwxr-xr-x 0 lib/",
        "-rw-r--r-- 0 lib/.wh..wh..opq",
        "-rw-r--r-- 1 app/a",
        "-rw-r--r-- 2 etc/both",
        "-rw-r--r-- 1 lib/y",
    ];
    let mut found = squashed(&[base, one, two], 2);
    let directories = found.iter().take_while(|line| !line.contains("app/a")).count();
    assert!(directories == 5 && found[directories..].iter().all(|line| !line.contains(".wh.")), "{found:?}");
    let mut expected = expected.map(str::to_owned).to_vec();
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
    let all = squashed(&[base, one, two], 1);
    assert!(
        all.iter().all(|line| !line.contains(".wh.") && !line.contains("old") && !line.contains("gone")),
        "{all:?}"
    );
    assert_eq!(all.len(), 6, "{all:?}");
}

/// A directory that is deleted and made again hides that of the lower layer.
#[test]
fn directories_that_are_made_again_are_opaque() {
    let base: &[&str] = &["d/", "d/x:1", "e/", "e/x:1", "f:1"];
    let found = squashed(&[base, &[".wh.d", "e:1", "d2/"], &["d/y:1", ".wh.e", "f/", "f/z:1"]], 2);
    let expected = ["d/", "d/.wh..wh..opq", "d2/", ".wh.e", "f/", "d/y", "f/z"];
    assert_eq!(found.iter().map(|line| line.rsplit(' ').next().unwrap()).collect::<Vec<_>>(), expected);
}

#[test]
fn all_kinds_of_entries_are_kept() {
    let lower: &[&str] =
        &["d/", "d/z:content", "d/a=>d/z", "d/m=>d/a", "d/dev!", "d/pipe|", "d/link->../nowhere", "d/x:marked"];
    let found = squashed(&[lower, &["d/.wh.z", "e:1"]], 1);
    let expected = [
        "drwxr-xr-x 0 d/",
        "-rw-r--r-- 7 d/a",
        "hrw-r--r-- 0 d/m link to d/a",
        "crw-r--r-- 5,7 d/dev",
        "prw-r--r-- 0 d/pipe",
        "lrw-r--r-- 0 d/link -> ../nowhere",
        "-rw-r--r-- 6 d/x",
        "-rw-r--r-- 1 e",
    ];
    assert_eq!(found, expected);
    let yard = Yard::new();
    image(&yard, &[lower, &["e:1"]]);
    yard.text("squash out:v1");
    assert_eq!(yard.text("cat out:v1 /d/m"), "content");
    let shown = yard.json("inspect out:v1");
    let digest: ocibuild::Digest = shown["layers"][0]["digest"].as_str().unwrap().parse().unwrap();
    let listed = run(command("tar")
        .args(["--xattrs", "--xattrs-include=*", "-tvvzf"])
        .arg(yard.scratch.join("out/blobs/sha256").join(digest.hex())))
    .success();
    assert!(listed.text().contains("user.mark"), "{listed}");
}

/// The same layers give the same digest, whatever the threads and the cache; squashing again changes nothing.
#[test]
fn the_same_layers_give_the_same_digest() {
    let yard = Yard::new();
    let big: String = "x".repeat(3 << 20);
    let file = format!("big:{big}");
    image(&yard, &[&["a/", "a/b:1"], &[&file, "a/.wh.b"], &["c:1"]]);
    let one = yard.text("squash out:v1 --from 2 --jobs 1 --to oci:one");
    let report = yard.json("squash out:v1 --from 2 --jobs 4");
    assert_eq!(report["digest"], *one);
    let again = yard.run("squash out:v1 --from 2").success();
    assert!(again.text() == one && again.stderr.contains("no change"), "{again}");
    let shown = yard.json("inspect out:v1");
    assert_eq!(shown["layers"].as_array().unwrap().len(), 2);
    assert_eq!(shown["config"]["history"].as_array().unwrap().len(), 4, "{shown}");
    yard.run("verify one").success();
    let whole = yard.text("squash out:v1");
    assert_eq!(yard.text("squash out:v1"), whole);
    assert_eq!(yard.json("inspect out:v1")["layers"].as_array().unwrap().len(), 1);
    yard.refuses("squash out:v1 --from 2", &["--from: the image has the layers 1 to 1"]);
    yard.run("squash out:v1 --from 0").ended_with(2);
}

#[test]
fn hostile_layers_are_refused_or_harmless() {
    if is_left_out() {
        return;
    }
    let refusal = |layers: &[&[&str]], part: &str| {
        let yard = Yard::new();
        image(&yard, layers);
        let index = fs::read(yard.scratch.join("out/index.json")).unwrap();
        let refused = yard.run("squash out:v1").ended_with(1);
        assert!(
            refused.stderr.contains(part) && refused.stderr.lines().filter(|line| line.contains("error")).count() == 1,
            "{refused}"
        );
        assert_eq!(fs::read(yard.scratch.join("out/index.json")).unwrap(), index);
    };
    refusal(&[&["a:1"], &["../x:1"]], "`..` points outside the image");
    refusal(&[&["a:1"], &["b=>c", "c=>b"]], "hard links in a circle");
    refusal(&[&["a:1"], &["b=>missing"]], "/b: is a hard link to /missing, which is not a file of these layers");
    refusal(
        &[&["lib->usr/lib", "usr/lib/x:1"], &["lib/y:1"]],
        "/lib: is a link or file that a higher layer has files below",
    );
    // A whiteout of the root, opaque markers at the root, a deleted layer, links in a circle, and a layer twice.
    assert_eq!(squashed(&[&["a:1"], &[".wh..wh..opq", "b->c", "c->b"]], 1).len(), 2);
    assert_eq!(
        squashed(&[&["a:1"], &["b:1"], &[".wh..wh..opq", "c:1"]], 2),
        ["-rw-r--r-- 0 .wh..wh..opq", "-rw-r--r-- 1 c"]
    );
    assert_eq!(squashed(&[&["a:1"], &[".wh.a"]], 1), [""; 0]);
    let same: &[&str] = &["d/", "d/a:1", "d/b=>d/a"];
    assert_eq!(squashed(&[same, same], 1).len(), 3);
    assert!(!squashed(&[&["a:1"], &[".wh.", "b:1"]], 1).is_empty());
    for (kind, part) in [
        ("application/vnd.oci.image.layer.nondistributable.v1.tar", "a foreign layer"),
        ("application/vnd.oci.image.layer.v1.tar+encrypted", "is not supported"),
    ] {
        let yard = Yard::new();
        let tar = |text: &str| [entry(text), tar::END.to_vec()].concat();
        image_of(&yard, &[(tar("a:1"), LAYER), (tar("b:1"), kind)]);
        yard.run("squash out:v1").ended_with(1).failed_saying(part);
    }
    let yard = Yard::new();
    image(&yard, &[]);
    yard.refuses("squash out:v1", &["--from: the image has no layers"]);
}

/// Layers of any compression become one of any compression, with the same tar, and what is listed in the cache is not listed again.
#[test]
fn every_compression_is_read_and_written() {
    if is_left_out() {
        return;
    }
    let yard = Yard::new();
    yard.text("layout out -t v1 --copy a:/a --compression zstd");
    yard.text("layout out -t v2 --base ./out:v1 --copy b:/b --compression none");
    yard.text("layout out -t v3 --base ./out:v2 --copy a:/c --compression gzip");
    let mut tars = std::collections::BTreeSet::new();
    for (flags, kind) in [
        ("", "tar+gzip"),
        ("--compression gzip --compression-level 1", "tar+gzip"),
        ("--compression zstd", "tar+zstd"),
        ("--compression zstd --compression-level 19", "tar+zstd"),
        ("--compression none", "tar"),
    ] {
        let squashed = yard.run(&format!("squash out:v3 {flags} --to oci:new:v1")).success();
        assert_eq!(squashed.stderr.contains("list sha256:"), flags.is_empty(), "{squashed}");
        let shown = yard.json("inspect new:v1");
        assert_eq!(shown["layers"].as_array().unwrap().len(), 1);
        assert_eq!(shown["layers"][0]["mediaType"], format!("application/vnd.oci.image.layer.v1.{kind}"));
        tars.insert(shown["layers"][0]["diffId"].to_string());
        assert_eq!(yard.text("cat new:v1 /c/file"), "a");
        yard.run("verify new:v1").success();
        let here = yard.text(&format!("squash out:v3 {flags} --to oci:out:here"));
        assert_eq!(here, squashed.text(), "from the cache as well");
        assert_eq!(yard.text("squash out:here --compression none"), here, "one layer stays as it is");
    }
    assert_eq!(tars.len(), 1);
    yard.refuses("squash out:v3 --compression none --compression-level 3", &["level 3"]);
    yard.refuses("squash out:v3 --compression reuse", &["invalid value 'reuse'"]);
}

/// Engines make a directory for its first file, and keep it when its files are deleted. Deletions alone make none.
#[test]
fn directories_without_an_entry_stay() {
    if is_left_out() {
        return;
    }
    let names = |lines: Vec<String>| -> Vec<String> {
        lines.into_iter().map(|line| line.rsplit(' ').next().unwrap().to_owned()).collect()
    };
    let first: &[&str] = &["a/b/x:1", "k:1", "o/x:1"];
    let found = squashed(&[first, &["a/b/.wh.x", "c/.wh.y", "d-e/.wh.g", "d/h:1", "o/.wh..wh..opq"]], 1);
    assert_eq!(names(found), ["a/b/", "a/", "o/", "k", "d/h"]);
    let base: &[&str] = &["a/x:1", "b/x:1", "c:1", "e/", "e/x:1", "f/", "f/x:1"];
    let emptied: &[&str] = &["b/.wh.y", "c/.wh.z", "e/.wh..wh..opq", "f/.wh..wh..opq", "f/y:1"];
    let found = squashed(&[base, &["a/.wh.x", ".wh.b", ".wh.c"], emptied], 2);
    assert_eq!(names(found), ["a/.wh.x", ".wh.b", ".wh.c", "e/.wh..wh..opq", "f/.wh..wh..opq", "f/y"]);
    let found = squashed(&[&["a/.wh.x"], &["a/y:1"], &["a/.wh.y"]], 2);
    assert_eq!(names(found), ["a/"]);
}

/// Once no layer of the base is left, nothing names it.
#[test]
fn a_base_that_is_squashed_away_is_forgotten() {
    let yard = Yard::new();
    image(&yard, &[&["a:1"], &["b:1"], &["c:1"]]);
    let annotations = "--annotation org.opencontainers.image.base.name=docker.io/library/debian:stable \
                       --annotation org.opencontainers.image.base.digest=sha256:0";
    yard.text(&format!("edit out:v1 {annotations} --annotation k=v"));
    let annotations = |name: &str| yard.json(&format!("inspect {name}"))["annotations"].as_object().unwrap().len();
    yard.text("squash out:v1 --from 2 --to oci:out:above");
    assert_eq!(annotations("out:above"), 3);
    yard.text("squash out:v1");
    assert_eq!(yard.json("inspect out:v1")["annotations"], json!({"k": "v"}));
    yard.text("edit out:above --unset-annotation k");
    yard.text("squash out:above");
    assert_eq!(annotations("out:above"), 0);
}

/// In a registry, the lower layers stay where they are.
#[test]
fn layers_of_a_registry_become_one() {
    let Some(registry) = Registry::plain() else { return };
    let yard = Yard::new();
    image(&yard, &[&["a:1"], &["b:1"], &["c:1", ".wh.b"]]);
    let image = format!("docker://{}/team/app:v1", registry.address());
    yard.text(&format!("export out:v1 {image}"));
    let here = yard.text("squash out:v1 --from 2");
    assert_eq!(yard.text(&format!("squash {image} --from 2")), here);
    yard.text(&format!("export {image} oci:back"));
    yard.run("verify back").success();
    let manifest: ocibuild::Digest = here.parse().unwrap();
    let manifest = read(&yard.scratch.join("back/blobs/sha256").join(manifest.hex()));
    assert_eq!(manifest["layers"].as_array().unwrap().len(), 2);
}

/// umoci unpacks the same files before and after.
#[test]
fn umoci_unpacks_the_same_files() {
    if is_left_out() || Umoci::find().is_none() {
        return;
    }
    let yard = Yard::new();
    let base: &[&str] = &["etc/", "etc/old:1", "lib/", "lib/x:1", "gone/", "gone/x:1"];
    let one: &[&str] = &["app/", "app/a:1", "app/h=>app/a", "app/tmp:1", "etc/.wh.old", ".wh.gone", "m/x:1", "n/.wh.x"];
    let two: &[&str] =
        &["app/.wh.tmp", "app/.wh.a", "lib/", "lib/.wh..wh..opq", "lib/y:1", "l->etc", "m/.wh.x", "gone/.wh.x"];
    image(&yard, &[base, one, two]);
    let unpack = |name: &str| {
        let mut umoci = command("umoci");
        umoci.current_dir(yard.scratch.path()).args(["unpack", "--rootless", "--image", &format!("out:{name}"), name]);
        run(&mut umoci).success();
    };
    unpack("v1");
    for from in ["1", "2"] {
        yard.text(&format!("squash out:v1 --from {from} --to oci:out:s{from}"));
        unpack(&format!("s{from}"));
        let same = command("diff")
            .current_dir(yard.scratch.path())
            .args(["-r", "--no-dereference", "v1/rootfs", &format!("s{from}/rootfs")])
            .output()
            .unwrap();
        assert!(same.status.success(), "{}", String::from_utf8_lossy(&same.stdout));
    }
}
