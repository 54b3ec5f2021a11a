//! The programs in `examples/`, run on what the program under test wrote.

use crate::support::hololib::{Recording, Storage};
use crate::support::{Scratch, command, ocibuild, run};
use ocibuild::Layout;
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

/// An example. `cargo test` builds it beside this test binary, `cargo test --test all` does not.
pub(crate) fn example(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let directory = tests.ancestors().nth(2).unwrap().join("examples");
    let program = directory.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    if !program.exists() {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(env!("CARGO_MANIFEST_DIR")).args(["build", "--quiet", "--locked", "--example", name]);
        assert!(cargo.status().unwrap().success());
    }
    program
}

#[test]
fn oci_spec_types_keeps_what_a_view_cannot_hold() {
    let scratch = Scratch::new();
    let file = scratch.write("file", "x");
    let out = scratch.join("out");
    run(ocibuild().arg("layout").arg(&out).args(["--copy", &format!("{}:/file", file.display()), "-t", "v1"]))
        .success();
    let finished = run(command(example("oci_spec_types")).arg(&out)).success();
    let documents: Vec<Value> = finished.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [index, config] = &documents[..] else { panic!("expected two documents of {finished}") };
    assert_eq!(index["annotations"]["com.example.reviewed"], "yes");
    assert_eq!(index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"], "v1");
    assert_eq!(config["author"], "the platform team");
}

#[test]
fn build_layout_makes_a_valid_image_of_a_directory() {
    let scratch = Scratch::new();
    scratch.write("site/index.html", "hello\n");
    let out = scratch.join("out");
    let arguments = [scratch.join("site"), out.clone(), "v1".into()];
    let built = run(command(example("build_layout")).args(arguments)).success();
    let image = Arc::new(Layout::open(&out).unwrap()).image(Some("v1"), None).unwrap();
    assert_eq!(built.text(), image.descriptor.digest.to_string());
    assert_eq!(image.manifest.annotations["org.opencontainers.image.title"], "the site");
    let config = &image.config.document()["config"];
    assert_eq!((&config["User"], &config["ExposedPorts"]), (&"1000:1000".into(), &serde_json::json!({"80/tcp": {}})));
    run(ocibuild().arg("verify").arg(&out)).success();
    run(&mut command(example("build_layout"))).ended_with(1);
}

#[test]
fn verify_layout_fails_on_a_damaged_blob() {
    let scratch = Scratch::new();
    let file = scratch.write("file", "x");
    let out = scratch.join("out");
    run(ocibuild().arg("layout").arg(&out).args(["--copy", &format!("{}:/file", file.display())])).success();
    let verified = run(command(example("verify_layout")).arg(&out)).success();
    assert_eq!(verified.text(), "images: 1, blobs: 3, faults: 0");
    let layout = Arc::new(Layout::open(&out).unwrap());
    let layer = layout.image(None, None).unwrap().manifest.layers[0].digest;
    let blob = out.join("blobs/sha256").join(layer.to_string().trim_start_matches("sha256:"));
    let mut bytes = fs::read(&blob).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&blob, bytes).unwrap();
    let damaged = run(command(example("verify_layout")).arg(&out)).ended_with(1);
    assert!(damaged.text().starts_with(&format!("blob {layer}: ")), "{damaged}");
}

#[test]
fn read_hololib_lists_the_environments() {
    let scratch = Scratch::new();
    scratch.write("tree/bin/python", "python");
    let recording =
        Recording::of(&scratch.join("tree"), "/opt/spaces/5a1fac3c5_2daaa295", "{}", "5f74d1b6dace1dfc", Storage::Gzip);
    let hololib = scratch.join("hololib");
    recording.write(&hololib);
    let listed = run(command(example("read_hololib")).arg(&hololib)).success();
    assert_eq!(listed.text(), "5f74d1b6dace1dfcv12.linux_amd64: 2 files, 8 bytes, 0 objects missing");
}
