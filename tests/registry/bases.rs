//! Base images from registries: their store, pins, lock files, mirrors, and builds without a network.

use super::real::{gzip, tar};
use super::server::{Exchange, Server, Shelf};
use super::*;
use crate::consumers;
use crate::support::{Finished, Scratch, consumer, is_left_out, ocibuild, run};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

pub(super) const BASE: &str = "team/base";

/// Adds an image of one layer to the shelf, and returns its manifest.
pub(super) fn image(shelf: &Shelf, content: usize, architecture: &str) -> Vec<u8> {
    let layer = tar(content);
    let blob = gzip(&layer);
    let config = json!({"os": "linux", "architecture": architecture, "config": {"Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [Digest::of(&layer).to_string()]}})
    .to_string();
    let manifest = json!({"schemaVersion": 2, "mediaType": media_type::MANIFEST,
        "config": Descriptor::of(media_type::CONFIG, config.as_bytes()).to_json(),
        "layers": [Descriptor::of(media_type::LAYER_GZIP, &blob).to_json()]});
    shelf.clone().with_blob(BASE, &blob).with_blob(BASE, config.as_bytes());
    manifest.to_string().into_bytes()
}

/// Adds an index of images for amd64 and arm64 to the shelf under `tag`, and returns its digest.
pub(super) fn index(shelf: &Shelf, content: usize, tag: &str) -> Digest {
    index_of(shelf, content, tag, &["amd64", "arm64"])
}

fn index_of(shelf: &Shelf, content: usize, tag: &str, architectures: &[&str]) -> Digest {
    let manifests: Vec<Value> = architectures
        .iter()
        .map(|architecture| {
            let manifest = image(shelf, content, architecture);
            let digest = Digest::of(&manifest).to_string();
            shelf.clone().with_manifest(BASE, &digest, media_type::MANIFEST, &manifest);
            let mut listed = Descriptor::of(media_type::MANIFEST, &manifest).to_json();
            listed["platform"] = json!({"os": "linux", "architecture": architecture});
            listed
        })
        .collect();
    let index = json!({"schemaVersion": 2, "mediaType": media_type::INDEX, "manifests": manifests}).to_string();
    shelf.clone().with_manifest(BASE, tag, media_type::INDEX, index.as_bytes());
    Digest::of(index.as_bytes())
}

/// A registry with a base, and a machine that builds on it.
pub(super) struct Yard {
    pub(super) shelf: Shelf,
    pub(super) server: Server,
    pub(super) scratch: Scratch,
}

impl Yard {
    pub(super) fn new() -> Yard {
        Yard::with_script(|x, shelf| shelf.serve(x))
    }

    pub(super) fn with_script(script: impl Fn(&mut Exchange, &Shelf) + Send + Sync + 'static) -> Yard {
        let (server, shelf) = Server::with_shelf(script);
        let scratch = Scratch::new();
        scratch.write("app/file", "content\n");
        Yard { shelf, server, scratch }
    }

    /// Returns the name of the base.
    pub(super) fn base(&self) -> String {
        format!("{}/{BASE}:stable", self.server.host())
    }

    /// Returns a command for the program, with its own cache and working directory.
    pub(super) fn ocibuild(&self) -> Command {
        let mut command = ocibuild();
        command.current_dir(self.scratch.path()).env("OCIBUILD_CACHE_DIR", self.scratch.join("cache"));
        command
    }

    pub(super) fn build(&self, arguments: &[&str]) -> Finished {
        run(self.ocibuild().args(["layout", "out", "--copy", "app:/app"]).args(arguments))
    }

    /// Returns the number of requests during `work`.
    fn requests_during(&self, work: impl FnOnce()) -> usize {
        let before = self.server.seen().len();
        work();
        self.server.seen().len() - before
    }

    /// Returns the base annotations of the image that was built last.
    fn base_annotations(&self) -> (String, String) {
        let shown = run(self.ocibuild().args(["inspect", "out", "--format", "json"])).success();
        let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
        let annotation = |name: &str| {
            shown["annotations"][format!("org.opencontainers.image.base.{name}")]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        (annotation("name"), annotation("digest"))
    }

    fn blob_in_store(&self, digest: Digest) -> PathBuf {
        self.scratch.join("cache/bases/blobs/sha256").join(digest.hex())
    }
}

#[test]
fn a_base_is_fetched_once_and_then_taken_from_the_store() {
    let yard = Yard::new();
    index(&yard.shelf, 5000, "stable");
    let base = yard.base();
    let first = yard.build(&["--base", &base]).success();
    let without_network = yard.requests_during(|| {
        let again = yard.build(&["--base", &base]).success();
        assert_eq!(again.stdout, first.stdout);
    });
    assert_eq!(without_network, 0);
    let amd64 = Digest::of(&image(&yard.shelf, 5000, "amd64")).to_string();
    assert_eq!(yard.base_annotations(), (base, amd64));
    run(yard.ocibuild().args(["verify", "out"])).success();
    run(yard.ocibuild().args(["verify", "cache/bases"])).success();
    let mode = std::fs::metadata(yard.scratch.join("cache")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn r48_an_offline_build_opens_no_socket() {
    let yard = Yard::new();
    index(&yard.shelf, 5000, "stable");
    let base = yard.base();
    run(yard.ocibuild().args(["pull", &base])).success();
    let Some(strace) = consumer("strace") else { return };
    let trace = yard.scratch.join("trace");
    let under_strace = |arguments: &[&str], variable: (&str, &str)| {
        let mut command = crate::support::command(&strace);
        command.args(["-f", "-e", "trace=socket,connect", "-o"]).arg(&trace).arg(env!("CARGO_BIN_EXE_ocibuild"));
        command.args(["layout", "out", "--copy", "app:/app", "--base", &base]).args(arguments);
        command.current_dir(yard.scratch.path()).env("OCIBUILD_CACHE_DIR", yard.scratch.join("cache"));
        run(command.env(variable.0, variable.1)).success();
        std::fs::read_to_string(&trace).unwrap()
    };
    for (arguments, variable) in [(&["--offline"][..], ("X", "")), (&[], ("OCIBUILD_OFFLINE", "1"))] {
        let traced = under_strace(arguments, variable);
        assert!(!traced.contains("socket(") && !traced.contains("connect("), "{traced}");
    }
    // With a network access, the same trace shows it.
    assert!(under_strace(&["--pull", "always"], ("X", "")).contains("connect("));
}

#[test]
fn a_base_that_is_missing_offline_is_named_with_the_way_to_bring_it() {
    let yard = Yard::new();
    index(&yard.shelf, 5000, "stable");
    let base = yard.base();
    let requests = yard.requests_during(|| {
        yard.build(&["--base", &base, "--offline"]).ended_with(1).failed_saying(&format!(
            "base {base}: not in the cache (--offline) \
             (run with network access: ocibuild pull {base}; or use --base oci:DIR)"
        ));
        yard.build(&["--base", &base, "--pull", "never"]).ended_with(1).failed_saying("--pull never");
        yard.build(&["--base", &base, "--pull", "always", "--offline"]).ended_with(2);
        run(yard.ocibuild().args(["pull", "--offline", &base])).ended_with(2).failed_saying("--offline");
        run(yard.ocibuild().args(["inspect", "--offline", &format!("docker://{base}")])).ended_with(2);
    });
    assert_eq!(requests, 0);
}

#[test]
fn a_moved_tag_is_reported_and_a_pin_still_finds_what_it_was() {
    let yard = Yard::new();
    let before = index(&yard.shelf, 5000, "stable");
    let base = yard.base();
    yard.build(&["--base", &base]).success();
    let after = index(&yard.shelf, 6000, "stable");
    // Without a request, the moved tag is not noticed.
    let kept = yard.build(&["--base", &base]).success();
    let moved = yard.build(&["--base", &base, "--pull", "always", "--quiet"]).success();
    assert!(moved.stderr.contains(&format!("{base}: base moved from {before} to {after}")), "{moved}");
    assert_ne!(kept.stdout, moved.stdout);
    let silent = yard.build(&["--base", &base, "--pull", "always"]).success();
    assert!(!silent.stderr.contains("moved"), "{silent}");

    let pinned = format!("{base}@{before}");
    for arguments in [&["--base", &pinned, "--offline"][..], &["--base", &pinned, "--pull", "always"]] {
        let requests = yard.requests_during(|| drop(yard.build(arguments).success()));
        assert_eq!(requests, 0, "what a digest names cannot move");
    }
    let amd64 = Digest::of(&image(&yard.shelf, 5000, "amd64"));
    assert_eq!(yard.base_annotations(), (pinned, amd64.to_string()));
    // The manifest's own digest is a pin as well, and needs no platform.
    let arm64 = Digest::of(&image(&yard.shelf, 6000, "arm64"));
    yard.build(&["--base", &format!("{}/{BASE}@{arm64}", yard.server.host())]).success();
    assert_eq!(yard.base_annotations().1, arm64.to_string());
}

#[test]
fn a_registry_that_does_not_honour_a_pin_is_refused() {
    let yard = Yard::with_script(|x, shelf| {
        if x.line().contains("/manifests/sha256:") {
            return x.answer(200, &[("Content-Type", media_type::MANIFEST)], manifest());
        }
        shelf.serve(x);
    });
    let digest = index(&yard.shelf, 5000, "stable");
    let refused = yard.build(&["--base", &format!("{}@{digest}", yard.base())]).ended_with(1);
    assert!(refused.stderr.contains(&format!("expected the digest {digest}")), "{refused}");
}

#[test]
fn each_platform_is_stored_and_found_by_itself() {
    if is_left_out() {
        return;
    }
    let yard = Yard::new();
    index(&yard.shelf, 5000, "stable");
    let base = yard.base();
    run(yard.ocibuild().args(["pull", "--platform", "linux/arm64", &base])).success();
    // An image for another platform is not used if no platform is given.
    yard.build(&["--base", &base, "--offline"]).ended_with(1).failed_saying("not in the cache");
    yard.build(&["--base", &base, "--offline", "--platform", "linux/arm64"]).success();
    assert_eq!(yard.base_annotations().1, Digest::of(&image(&yard.shelf, 5000, "arm64")).to_string());
    run(yard.ocibuild().args(["pull", &base])).success();
    yard.build(&["--base", &base, "--offline"]).success();
    assert_eq!(yard.base_annotations().1, Digest::of(&image(&yard.shelf, 5000, "amd64")).to_string());
    yard.build(&["--base", &base, "--offline", "--platform", "linux/arm64"]).success();
    yard.build(&["--base", &base, "--platform", "linux/s390x"])
        .ended_with(1)
        .failed_saying("no image for linux/s390x (there is linux/amd64, linux/arm64)");

    // An image for a single platform needs no `--platform`.
    let only = image(&yard.shelf, 7000, "arm64");
    yard.shelf.clone().with_manifest(BASE, "only", media_type::MANIFEST, &only);
    let only = format!("{}/{BASE}:only", yard.server.host());
    yard.build(&["--base", &only]).success();
    yard.build(&["--base", &only, "--offline"]).success();
}

/// M27: a build does so, too, and reports it once.
#[test]
fn what_is_damaged_or_missing_in_the_store_is_fetched_again() {
    let yard = Yard::new();
    index(&yard.shelf, 5000, "stable");
    let base = yard.base();
    yard.build(&["--base", &base]).success();
    let manifest: Value = serde_json::from_slice(&image(&yard.shelf, 5000, "amd64")).unwrap();
    let layer: Digest = manifest["layers"][0]["digest"].as_str().unwrap().parse().unwrap();
    let blob = yard.blob_in_store(layer);
    let whole = std::fs::read(&blob).unwrap();

    std::fs::remove_dir_all(yard.scratch.join("out")).unwrap();
    std::fs::write(&blob, vec![0; whole.len()]).unwrap();
    let healed = yard.build(&["--base", &base]).success();
    assert_eq!(healed.stderr.matches("was damaged; written again").count(), 1, "{healed}");
    assert_eq!(std::fs::read(&blob).unwrap(), whole);

    std::fs::write(&blob, vec![0; whole.len()]).unwrap();
    let pulled = run(yard.ocibuild().args(["pull", &base, "--format", "json"])).success();
    let report: Value = serde_json::from_slice(&pulled.stdout).unwrap();
    assert_eq!((&report[0]["blobs"]["copied"], &report[0]["blobs"]["present"]), (&1.into(), &1.into()));
    assert_eq!(std::fs::read(&blob).unwrap(), whole);

    std::fs::remove_file(&blob).unwrap();
    yard.build(&["--base", &base, "--offline"]).ended_with(1).failed_saying("not in the cache");
    yard.build(&["--base", &base]).success();
    assert_eq!(std::fs::read(&blob).unwrap(), whole);
}

#[test]
fn a_build_believes_what_was_hashed_before_and_a_pull_reads_it_again() {
    let yard = Yard::new();
    index(&yard.shelf, 5000, "stable");
    let base = yard.base();
    yard.build(&["--base", &base]).success();
    let manifest: Value = serde_json::from_slice(&image(&yard.shelf, 5000, "amd64")).unwrap();
    let blob = yard.blob_in_store(manifest["layers"][0]["digest"].as_str().unwrap().parse().unwrap());
    // The effect of a failing disk: other bytes with the same times.
    let written = std::fs::metadata(&blob).unwrap().modified().unwrap();
    let length = std::fs::read(&blob).unwrap().len();
    std::fs::write(&blob, vec![0; length]).unwrap();
    std::fs::File::options().write(true).open(&blob).unwrap().set_modified(written).unwrap();
    std::fs::remove_dir_all(yard.scratch.join("out")).unwrap();
    // The index has moved, and names the same layer.
    index_of(&yard.shelf, 5000, "stable", &["amd64"]);
    let fetched = || {
        let is_layer = |line: &&String| {
            line.starts_with("GET") && line.ends_with(&blob.file_name().unwrap().to_str().unwrap().to_owned())
        };
        yard.server.lines().iter().filter(is_layer).count()
    };
    assert_eq!(fetched(), 1);
    yard.build(&["--base", &base, "--pull", "always"]).ended_with(1).failed_saying("its content has the digest");
    assert_eq!(fetched(), 1);
    run(yard.ocibuild().args(["pull", &base])).success();
    assert_eq!(fetched(), 2);
    yard.build(&["--base", &base]).success();
}

#[test]
fn a_cache_that_others_may_change_is_refused() {
    let yard = Yard::new();
    std::fs::create_dir(yard.scratch.join("cache")).unwrap();
    std::fs::set_permissions(yard.scratch.join("cache"), std::fs::Permissions::from_mode(0o777)).unwrap();
    yard.build(&["--base", &yard.base()]).ended_with(1).failed_saying("writable by other users");
}

#[test]
fn a_mirror_is_asked_first_and_never_given_the_credentials_of_another() {
    let mirror = Yard::with_script(|x, shelf| {
        x.request.target = x.request.target.replace("/hub/", "/");
        shelf.serve(x);
    });
    index(&mirror.shelf, 5000, "stable");
    let yard = Yard::new();
    let base = yard.base();
    let rule = format!("{}={}/hub", yard.server.host(), mirror.server.host());
    let secret = yard.scratch.write("secret", format!("alice:{SECRET}\n"));
    let mut pull = yard.ocibuild();
    pull.args(["pull", &base, "--mirror", &rule, "--creds-stdin"]).stdin(std::fs::File::open(secret).unwrap());
    run(&mut pull).success();
    assert_eq!(yard.server.seen().len(), 0);
    assert!(mirror.server.seen().iter().any(|seen| seen.target.starts_with("/v2/hub/team/base/")));
    assert_no_credentials(&mirror.server);
    // It is stored under its own name.
    yard.build(&["--base", &base, "--offline", "--mirror", &rule]).success();

    // An image that the mirror lacks comes from the registry.
    let other = image(&yard.shelf, 9000, "amd64");
    yard.shelf.clone().with_manifest(BASE, "other", media_type::MANIFEST, &other);
    let other = format!("{}/{BASE}:other", yard.server.host());
    let built = yard.build(&["--base", &other, "--mirror", &rule]).success();
    assert!(built.stderr.contains("trying the next location"), "{built}");
}

#[test]
fn a_mirror_of_registries_conf_is_asked() {
    let yard = Yard::new();
    index(&yard.shelf, 5000, "stable");
    let conf = format!(
        "[[registry]]\nprefix = 'reg.example/x'\nlocation = 'reg.example/x'\n[[registry.mirror]]\nlocation = '{}/team'\n\
         [[registry]]\nlocation = 'evil.example'\nblocked = true\n",
        yard.server.host()
    );
    let conf = yard.scratch.write("registries.conf", conf);
    let pull =
        |reference: &str| run(yard.ocibuild().args(["pull", reference]).env("CONTAINERS_REGISTRIES_CONF", &conf));
    assert!(pull("reg.example/x/base:stable").success().text().starts_with("reg.example/x/base:stable@sha256:"));
    pull("evil.example/x").ended_with(1).failed_saying("blocked by registries.conf");
    let mut offline = yard.ocibuild();
    offline.args([
        "layout",
        "out",
        "--copy",
        "app:/app",
        "--base",
        "reg.example/x/base:stable",
        "--offline",
        "--quiet",
    ]);
    let built = run(offline.env("CONTAINERS_REGISTRIES_CONF", &conf)).success();
    assert_eq!(built.stderr, "");
}

#[test]
fn credentials_of_standard_input_are_for_one_registry() {
    let (yard, other) = (Yard::new(), Yard::new());
    index(&yard.shelf, 5000, "stable");
    let secret = yard.scratch.write("secret", format!("alice:{SECRET}\n"));
    let export = |to: &str| {
        let mut command = yard.ocibuild();
        command.args([
            "export",
            "--creds-stdin",
            "--platform",
            "linux/amd64",
            &format!("docker://{}", yard.base()),
            to,
        ]);
        run(command.stdin(std::fs::File::open(&secret).unwrap()))
    };
    export(&format!("docker://{}/team/other:v1", yard.server.host())).success();
    export(&format!("docker://{}/team/other:v1", other.server.host())).ended_with(2).failed_saying("not for");
    assert_no_credentials(&other.server);
}

#[test]
fn the_default_base_of_a_robot_is_pulled() {
    let yard = Yard::with_script(|x, shelf| {
        x.request.target = x.request.target.replace("/library/debian/", "/team/base/");
        shelf.serve(x);
    });
    index(&yard.shelf, 5000, "stable-slim");
    yard.scratch.write("robot/robot.yaml", "tasks:\n  Run:\n    shell: echo hello\nartifactsDir: output\n");
    let mirror = format!("docker.io={}", yard.server.host());
    let mut command = yard.ocibuild();
    command.args(["layout", "out", "--robot", "robot", "--environment", "direct", "--mirror", &mirror]);
    run(&mut command).success();
    assert_eq!(yard.base_annotations().0, "docker.io/library/debian:stable-slim");
}

#[test]
fn a_lock_file_pins_a_base() {
    let yard = Yard::new();
    let before = index(&yard.shelf, 5000, "stable");
    let base = yard.base();
    yard.build(&["--base", &base, "--locked"]).ended_with(1).failed_saying("--lock creates it");
    let locked = yard.build(&["--base", &base, "--lock"]).success();
    let text = std::fs::read_to_string(yard.scratch.join("ocibuild.lock")).unwrap();
    assert_eq!(text, format!("{{\n  \"bases\": {{\n    \"{base}\": \"{before}\"\n  }},\n  \"version\": 1\n}}\n"));

    let after = index(&yard.shelf, 6000, "stable");
    for arguments in [&["--locked"][..], &[], &["--pull", "always"]] {
        let built = yard.build(&[&["--base", &base], arguments].concat()).success();
        assert_eq!(built.stdout, locked.stdout, "{arguments:?}");
    }
    // Also on a machine that has never pulled it.
    std::fs::remove_dir_all(yard.scratch.join("cache")).unwrap();
    assert_eq!(yard.build(&["--base", &base, "--locked"]).success().stdout, locked.stdout);

    let renewed = yard.build(&["--base", &base, "--lock"]).success();
    assert!(renewed.stderr.contains(&format!("base moved from {before} to {after}")), "{renewed}");
    assert_ne!(renewed.stdout, locked.stdout);
    let other = format!("{}/{BASE}:other", yard.server.host());
    yard.build(&["--base", &other, "--locked"]).ended_with(1).failed_saying(&format!("no entry for the base {other}"));
}

#[test]
fn a_lock_file_pins_a_base_in_a_layout() {
    let yard = Yard::new();
    run(yard.ocibuild().args(["layout", "base", "--copy", "app:/base"])).success();
    yard.build(&["--base", "oci:base", "--lock"]).success();
    yard.build(&["--base", "oci:base", "--locked"]).success();
    run(yard.ocibuild().args(["layout", "base", "--copy", "app:/other"])).success();
    yard.build(&["--base", "oci:base", "--locked"]).ended_with(1).failed_saying("--lock accepts the current digest");
}

#[test]
fn a_base_comes_from_a_real_registry() {
    let Some(registry) = consumers::Registry::plain() else { return };
    let yard = Yard::new();
    let base = format!("{}/team/base:v1", registry.address());
    run(yard.ocibuild().args(["layout", "base", "--copy", "app:/base"])).success();
    run(yard.ocibuild().args(["export", "base", &format!("docker://{base}")])).success();
    yard.build(&["--base", &base]).success();
    drop(registry);
    yard.build(&["--base", &base]).success();
    run(yard.ocibuild().args(["verify", "out"])).success();
}

#[test]
fn a_sparse_image_goes_back_to_its_registry_without_its_base_passing_here() {
    let yard = Yard::new();
    index(&yard.shelf, 500_000, "stable");
    let base = yard.base();
    let registry = yard.server.host();
    let built = yard.build(&["--base", &base, "--sparse"]).success();
    let gets = |yard: &Yard| {
        yard.server.lines().iter().filter(|line| line.starts_with("GET ") && line.contains("/blobs/")).count()
    };
    assert_eq!(gets(&yard), 1, "the config, and no layer: {:?}", yard.server.lines());
    let verified = run(yard.ocibuild().args(["verify", "out"])).success();
    assert!(verified.text().contains(&format!(" in {registry}/{BASE}\n")), "{verified}");
    assert!(verified.text().ends_with(": no errors found, except 1 layer not downloaded"), "{verified}");
    let export = |to: &str| run(yard.ocibuild().args(["export", "out", to, "--format", "json"]));
    let pushed = export(&format!("docker://{registry}/team/robot:v1")).success();
    let report: Value = serde_json::from_slice(&pushed.stdout).unwrap();
    assert_eq!((&report["blobs"]["mounted"], &report["blobs"]["copied"]), (&1.into(), &2.into()), "{report}");
    assert_eq!(gets(&yard), 1);

    // A push to another registry transfers the base's layers from their own registry.
    let elsewhere = Yard::new();
    let moved = export(&format!("docker://{}/team/robot:v1", elsewhere.server.host())).success();
    let report: Value = serde_json::from_slice(&moved.stdout).unwrap();
    assert_eq!((&report["blobs"]["mounted"], &report["blobs"]["copied"]), (&0.into(), &3.into()), "{report}");
    export("oci:whole").success();
    run(yard.ocibuild().args(["verify", "whole"])).success();
    let mut offline = yard.ocibuild();
    run(offline.args(["export", "out", "oci-archive:x.tar", "--offline"])).ended_with(2).failed_saying("--offline");

    // It is the same image as the complete one.
    let whole = yard.build(&["--base", &base]).success();
    assert_eq!(whole.stdout, built.stdout);
    yard.build(&["--base", "oci:whole", "--sparse"])
        .ended_with(2)
        .failed_saying("not in a registry, which --sparse requires");
}

#[test]
fn the_layers_of_a_base_are_mounted_where_a_push_would_bring_them_back() {
    let yard = Yard::new();
    index(&yard.shelf, 5000, "stable");
    yard.build(&["--base", &yard.base()]).success();
    let to = format!("docker://{}/team/robot:v1", yard.server.host());
    let pushed = run(yard.ocibuild().args(["export", "out", &to, "--format", "json"])).success();
    let report: Value = serde_json::from_slice(&pushed.stdout).unwrap();
    assert_eq!((&report["blobs"]["mounted"], &report["blobs"]["copied"]), (&1.into(), &2.into()), "{report}");
    // A complete image needs no network.
    run(yard.ocibuild().args(["export", "out", "oci-archive:x.tar", "--offline"])).success();
}

/// M20: without a listing of the base, a sparse build fails if it depends on the base's content, and warns about skipped
/// checks.
#[test]
fn a_sparse_build_knows_a_base_once_it_was_pulled() {
    let yard = Yard::new();
    index(&yard.shelf, 5000, "stable");
    let base = yard.base();
    let build = |more: &[&str]| {
        let arguments = ["layout", "out", "--copy", "app:/app", "--copy", "app/file:/etc/deep/file", "--base", &base];
        run(yard.ocibuild().args(arguments).args(more).env("OCIBUILD_NO_CACHE", "0"))
    };
    build(&["--sparse"]).ended_with(1).failed_saying(&format!(
        "/etc: its mode, owner and type are unknown: its layers are not downloaded and were never \
         indexed on this machine (ocibuild pull {base}, or without --sparse)"
    ));
    let unchecked = yard.build(&["--base", &base, "--sparse", "--user", "app", "--entrypoint", "/x"]).success();
    let warnings: Vec<&str> = unchecked.stderr.lines().filter(|line| line.contains("warning")).collect();
    assert_eq!(warnings.len(), 1, "{unchecked}");
    for question in ["hides a link or a directory of the base", "the user app", "entrypoint /x is there"] {
        assert!(warnings[0].contains(question), "{unchecked}");
    }
    run(yard.ocibuild().args(["pull", &base])).success();
    // The listing is enough: the layers may be missing.
    std::fs::remove_dir_all(yard.scratch.join("cache/bases")).unwrap();
    let sparse = build(&["--sparse"]).success();
    assert!(!sparse.stderr.contains("warning"), "{sparse}");
    assert_eq!(sparse.stdout, build(&[]).success().stdout);
}

/// M21: a base produces the same image from its registry and from a layout, under whatever name.
#[test]
fn a_base_is_the_same_by_every_route() {
    if is_left_out() {
        return;
    }
    let yard = Yard::new();
    let manifest = image(&yard.shelf, 5000, "amd64");
    yard.shelf.clone().with_manifest(BASE, "stable", media_type::MANIFEST, &manifest);
    let base = yard.base();
    let expected = yard.build(&["--base", &base]).success().stdout;
    assert_eq!(yard.base_annotations().0, base);
    for destination in ["oci:named:team/app:v1", "oci:unnamed", "oci-archive:file.tar:v1"] {
        run(yard.ocibuild().args(["export", &format!("docker://{base}"), destination])).success();
    }
    // Also from one layout to another.
    run(yard.ocibuild().args(["export", "oci:unnamed", "oci:again:other"])).success();
    for route in ["oci:named:v1", "oci:unnamed", "oci-archive:file.tar:v1", "oci:again:other"] {
        assert_eq!(yard.build(&["--base", route]).success().stdout, expected, "{route}");
        assert_eq!(yard.base_annotations().0, base, "{route}");
    }
    let edit = |base: &str| run(yard.ocibuild().args(["layout", "edited", "--base", base, "--label", "a=b"])).success();
    assert_eq!(edit(&base).stdout, edit("oci:named:v1").stdout);
}
