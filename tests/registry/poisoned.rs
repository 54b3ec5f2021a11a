//! M38: a shared cache with write access for an attacker, and its effects when it is no longer named.

use super::shared_cache::Yard;
use super::*;
use crate::support::{is_left_out, run};
use base64::engine::general_purpose::STANDARD;
use ocibuild::codec::tar::{END, EntryType, Header, append};
use serde_json::{Value, json};

/// Returns a tar with one entry.
fn tar_with(path: &[u8], kind: EntryType, mode: u32, content: &[u8]) -> Vec<u8> {
    let (size, xattrs) = (content.len() as u64, &[][..]);
    let header = Header { path, kind, mode, uid: 0, gid: 0, size, mtime: 0, link: b"", xattrs, device: (0, 0) };
    let mut bytes = Vec::new();
    append(&header, &mut bytes);
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes.extend(END);
    bytes
}

/// Replaces the environment's layer by `tar`, with the diff ID `said`.
fn poison(yard: &Yard, tar: &[u8], said: Digest) {
    let tag = &yard.groups("team/cache")[0];
    let mut manifest: Value = serde_json::from_slice(&yard.shelf.manifest("team/cache", tag).unwrap()).unwrap();
    let data = STANDARD.decode(manifest["config"]["data"].as_str().unwrap()).unwrap();
    let mut config: Value = serde_json::from_slice(&data).unwrap();
    let blob = super::real::gzip(tar);
    let place = config["layers"].as_array().unwrap().len() - 1;
    config["layers"][place]["digest"] = Digest::of(&blob).to_string().into();
    config["layers"][place]["diffId"] = said.to_string().into();
    config["layers"][place]["tarSize"] = tar.len().into();
    manifest["layers"][place] = Descriptor::of(media_type::LAYER_GZIP, &blob).to_json();
    let config = config.to_string();
    let media_type_of_config = manifest["config"]["mediaType"].as_str().unwrap().to_owned();
    manifest["config"] = Descriptor::of(&media_type_of_config, config.as_bytes()).to_json();
    manifest["config"]["data"] = STANDARD.encode(&config).into();
    let shelf = yard.shelf.clone().with_blob("team/cache", &blob).with_blob("team/cache", config.as_bytes());
    shelf.with_manifest("team/cache", tag, media_type::MANIFEST, manifest.to_string().as_bytes());
}

/// M38: a layer with content that its recipe cannot produce is rejected.
#[test]
fn a_poisoned_layer_is_made_instead() {
    if is_left_out() {
        return;
    }
    let yard = Yard::new();
    let cache = yard.name("team/cache");
    let expected = yard.machine("first").build(&["--cache-to", &cache]).digest;
    let home = b"home/robot/.robocorp/holotree/x";
    let whiteout = b"home/robot/.robocorp/.wh.holotree";
    let cases: [(&str, Vec<u8>, &str); 5] = [
        (
            "passwd",
            tar_with(b"etc/passwd", EntryType::File, 0o644, b"root::0:0"),
            "is outside the directories of the environment",
        ),
        ("setuid", tar_with(home, EntryType::File, 0o4755, b"#!"), "is setuid or setgid"),
        ("whiteout", tar_with(whiteout, EntryType::File, 0o644, b""), "is a whiteout"),
        ("root", tar_with(b"home", EntryType::Directory, 0o777, b""), "is outside the directories of the environment"),
        ("diff ID", tar_with(home, EntryType::File, 0o644, b"x"), "expected the diff ID"),
    ];
    for (number, (name, tar, said)) in cases.into_iter().enumerate() {
        let claimed = if name == "diff ID" { Digest::of(b"another") } else { Digest::of(&tar) };
        poison(&yard, &tar, claimed);
        let machine = ["a", "b", "c", "d", "e"][number];
        let second = yard.machine(machine);
        let built = second.build(&["--cache-from", &cache, "--quiet"]);
        assert_eq!((built.origins[1].as_str(), &built.digest), ("made", &expected), "{name}: {}", built.stderr);
        assert!(
            built.stderr.contains(said) && built.stderr.contains("building the layer instead"),
            "{name}: {}",
            built.stderr
        );
        run(second.ocibuild().args(["verify", "out"])).success();
    }
}

/// M38: a `ready` environment keeps its setuid programs for its user, which cannot be distinguished from those of an attacker.
/// So its layer is never taken, and one line says why.
#[test]
fn a_layer_with_setuid_programs_of_its_own_is_made_instead() {
    if is_left_out() {
        return;
    }
    let yard = Yard::new();
    let cache = yard.name("team/cache");
    let ready = ["--environment", "ready", "-q"];
    let expected = yard.machine("first").build(&[&ready[..], &["--cache-to", &cache]].concat()).digest;
    let second = yard.machine("second");
    for _ in 0..2 {
        std::fs::remove_dir_all(second.path("cache")).ok();
        let built = second.build(&[&ready[..], &["--cache-from", &cache]].concat());
        assert_eq!((&built.origins[1][..], &built.digest), ("made", &expected), "{}", built.stderr);
        let about: Vec<&str> = built.stderr.lines().filter(|line| line.contains("setuid")).collect();
        let said = "is setuid or setgid, which is not accepted from a shared cache; building the layer instead";
        assert!(matches!(about[..], [line] if line.contains(said)), "{}", built.stderr);
    }
}

/// M38: a layer from a shared cache is used while its repository is named, is reported, and is not shared again.
#[test]
fn a_layer_that_was_taken_counts_while_its_repository_is_named() {
    if is_left_out() {
        return;
    }
    let yard = Yard::new();
    let cache = yard.name("team/cache");
    let name = cache.strip_prefix("docker://").unwrap();
    yard.machine("first").build(&["--cache-to", &cache]);
    let second = yard.machine("second");
    let taken = second.build(&["--cache-from", &cache]);
    assert_eq!((taken.origins[1].as_str(), &taken.layers[1]["from"]), ("shared", &json!(name)));

    let info = |format: &str| run(second.ocibuild().args(["cache", "info", "--format", format])).success();
    let shown: Value = serde_json::from_slice(&info("json").stdout).unwrap();
    let is_taken = |item: &&Value| item["from"] == json!(name);
    assert_eq!(shown["items"].as_array().unwrap().iter().filter(is_taken).count(), 2, "{shown}");
    assert!(info("text").text().contains(&format!("of them 2 layers from {name}")), "{}", info("text"));

    let requests = yard.server.seen().len();
    let again = second.build(&["--cache-from", &cache, "--explain", "--offline"]);
    assert_eq!((again.origins[1].as_str(), &again.layers[1]["from"]), ("same-recipe", &json!(name)));
    assert_eq!(yard.server.seen().len(), requests);

    // Layers from a shared cache are not shared again, even from this machine's own cache.
    let other = yard.name("other/cache");
    let passed = second.build(&["--cache-from", &cache, "--cache-to", &other, "-q"]);
    assert!(passed.stderr.contains("not pushed"), "{}", passed.stderr);
    assert!(yard.shelf.tags("other/cache").is_empty());

    let without = second.build(&[]);
    assert_eq!(without.origins[1], "made", "{:?}", without.origins);
    assert_eq!((&without.layers[1]["from"], &without.digest), (&Value::Null, &taken.digest));
    // Layers built on this machine are used without an option, and may be shared.
    let own = second.build(&["--cache-to", &other, "--cache-from", &cache]);
    assert_eq!((own.origins[1].as_str(), &own.layers[1]["from"]), ("same-recipe", &Value::Null));
    assert_eq!(yard.groups("other/cache").len(), 1);
}

/// M38: `--locked` uses only the shared caches that `--lock` recorded.
#[test]
fn a_lock_file_names_the_caches() {
    if is_left_out() {
        return;
    }
    let yard = Yard::new();
    let cache = yard.name("team/cache");
    yard.machine("first").build(&["--cache-to", &cache]);
    let second = yard.machine("second");
    second.build(&["--cache-from", &cache, "--lock"]);
    let lock = std::fs::read_to_string(second.path("robot/ocibuild.lock")).unwrap();
    let expected = cache.strip_prefix("docker://").unwrap();
    assert_eq!(serde_json::from_str::<Value>(&lock).unwrap()["caches"], json!([expected]), "{lock}");
    assert_eq!(second.build(&["--cache-from", &cache, "--locked"]).origins[1], "same-recipe");
    let other = yard.name("evil/cache");
    let mut refused = second.command(&["--cache-from", &other, "--locked"]);
    let said = format!("no entry for the cache {} (--locked)", &other["docker://".len()..]);
    run(&mut refused).ended_with(1).failed_saying(&said);
    assert!(!yard.server.lines().iter().any(|line| line.contains("evil/cache/blobs")));
    // Without either option, the lock file does not restrict caches.
    second.build(&["--cache-from", &other]);
}
