//! The programs in `examples/`, run on what the program under test wrote.

use crate::support::{Scratch, command, ocibuild, run};
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;

/// An example. `cargo test` builds it beside this test binary, `cargo test --test all` does not.
fn example(name: &str) -> PathBuf {
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
