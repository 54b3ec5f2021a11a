//! Numbers in the input that claim more than there is.

use super::contract::Bench;
use crate::support::hololib::{Recording, Storage};
use crate::support::{Finished, command, consumer, is_left_out, run, static_program};
use ocibuild::common::progress::Silent;
use ocibuild::rcc::{Blueprint, BlueprintOptions};
use serde_json::Value;
use std::fs;

/// Runs `ocibuild` with a quarter of a gigabyte of memory, for five seconds at the most.
fn in_little_memory(bench: &Bench, arguments: &[&str]) -> Finished {
    let mut shell = command("sh");
    shell.args(["-c", "ulimit -v 262144; exec timeout 5 \"$OCIBUILD\" \"$@\"", "sh"]).args(arguments);
    shell.env("OCIBUILD", env!("CARGO_BIN_EXE_ocibuild")).current_dir(bench.scratch.path());
    run(&mut shell)
}

/// M25: the blocks of a file are cut while it is read, whatever size it has.
#[test]
fn a_file_of_any_size_takes_no_memory() {
    if is_left_out() {
        return;
    }
    if consumer("timeout").is_none() {
        return;
    }
    let bench = Bench::keeping();
    // The largest that ext4 has room for; nothing of it is on the disk.
    fs::File::create(bench.scratch.join("huge")).unwrap().set_len(15 << 40).unwrap();
    for arguments in [
        &["layout", "out", "-q", "--copy", "huge:/huge"][..],
        &["layout", "out", "-q", "--compression", "zstd", "--copy", "huge:/huge"],
        &["dockerfile", "-q", "--copy", "huge:/huge"],
    ] {
        let finished = in_little_memory(&bench, arguments);
        assert_eq!(finished.status, 124, "stopped while it read: {finished}");
        assert_eq!(finished.stderr, "");
    }
    bench.is_intact("M25");
}

/// Sets the size of the file `name` of a catalog.
fn claim(document: &mut Value, name: &str, size: u64) {
    match document {
        Value::Object(members) => {
            if let Some(file) = members.get_mut(name).filter(|file| file.get("digest").is_some()) {
                file["size"] = size.into();
            }
            members.values_mut().for_each(|member| claim(member, name, size));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| claim(item, name, size)),
        _ => {}
    }
}

/// M25: the size of a file in a catalog is held against the bytes that its object has.
#[test]
fn a_size_in_a_catalog_takes_no_memory() {
    if is_left_out() {
        return;
    }
    if consumer("timeout").is_none() {
        return;
    }
    const STAGE: &str = "/home/robot/.robocorp/holotree/hdc4d952_493f813dad24d3t";
    for size in [1 << 53, 1 << 62, 1 << 30] {
        let bench = Bench::keeping();
        let tree = bench.scratch.join("tree");
        bench.scratch.write("tree/bin/python", "");
        bench.scratch.write("tree/large", "x".repeat(5000));
        let text = "channels: [conda-forge]\ndependencies: [python=3.11.7]\n";
        let blueprint = Blueprint::read(text.as_bytes(), "conda.yaml", &BlueprintOptions::default(), &Silent).unwrap();
        let hash = blueprint.hash().to_string();
        let mut recording = Recording::of(&tree, STAGE, blueprint.text(), &hash, Storage::Gzip);
        claim(&mut recording.document, "large", size);
        recording.write(&bench.scratch.join("hololib"));
        bench.scratch.write("robot/conda.yaml", text);
        let robot = "tasks:\n  Run:\n    shell: python\ncondaConfigFile: conda.yaml\nartifactsDir: output\n";
        bench.scratch.write("robot/robot.yaml", robot);
        bench.scratch.write("rcc", static_program(b""));
        for mode in ["sealed", "ready", "direct"] {
            let request = ["layout", "out", "-q", "--robot", "robot", "--base", "scratch", "--hololib", "hololib"];
            let more = ["--environment", mode, "--rcc-exec", "rcc"];
            let more = if mode == "direct" { &more[..2] } else { &more[..] };
            let finished = in_little_memory(&bench, &[&request, more].concat());
            assert_eq!(finished.status, 1, "{size} {mode}: {finished}");
            let said = ["stored bytes cannot hold", "overflow", "larger than"];
            assert!(said.iter().any(|words| finished.stderr.contains(words)), "{size} {mode}: {finished}");
        }
        bench.is_intact("M25");
    }
}
