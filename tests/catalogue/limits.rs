//! The limits that people may set, each at what is there, which is taken, and one below that, which is refused.
//!
//! (Those of recorded environments and of YAML are in `rcc::refused`.)

use super::archives::layer_entries;
use super::contract::Bench;
use crate::support::run;
use ocibuild::common::limits::Limit;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Runs the command with the variable at `number`, and at one less, where it is refused with all of `words`. What the first run
/// wrote is then removed.
#[track_caller]
pub(crate) fn holds_to_the_number(
    bench: &Bench,
    command: &dyn Fn() -> Command,
    limit: Limit,
    number: u64,
    words: &[&str],
) {
    let row = limit.variable();
    let at = |value: u64| {
        let mut command = command();
        command.env(limit.variable(), value.to_string());
        command
    };
    let advice = format!("{} sets the limit)", limit.variable());
    bench.refuses(row, &mut at(number - 1), &[words, &[&advice]].concat());
    let taken = run(&mut at(number));
    assert_eq!(taken.status, 0, "{row}={number}: {taken}");
    bench.is_intact(row);
}

/// Every test of this page that runs the program.
pub(crate) fn all_that_people_may_set() {
    b17_layers_are_built_and_read_up_to_the_limit();
    b17_images_of_a_layout_are_listed_and_read_up_to_the_limit();
    b14_b15_documents_are_written_and_read_up_to_the_limit();
    h18_entries_of_a_layer_are_collected_up_to_the_limit();
    a_limit_is_a_number_that_it_can_have();
}

#[test]
fn b17_layers_are_built_and_read_up_to_the_limit() {
    let bench = Bench::keeping();
    bench.source();
    let build = || {
        let mut build = bench.layout();
        build.args(["-t", "three"]);
        for name in ["a", "b", "c"] {
            build.args(["--layer", name, "--copy", &format!("src:/{name}")]);
        }
        build
    };
    holds_to_the_number(&bench, &build, Limit::Layers, 3, &["image: 3 layers, more than 2"]);
    let read = || bench.command(&["inspect", "out:three"]);
    holds_to_the_number(&bench, &read, Limit::Layers, 3, &["out", "3 layers, more than 2"]);
}

#[test]
fn b17_images_of_a_layout_are_listed_and_read_up_to_the_limit() {
    let bench = Bench::keeping();
    bench.source();
    let build = || {
        let mut build = bench.layout();
        build.args(["-t", "a", "-t", "b", "--copy", "src:/srv"]);
        build
    };
    let words = ["index.json: would contain 3 images, more than 2 (build into another layout"];
    holds_to_the_number(&bench, &build, Limit::Manifests, 3, &words);
    let read = || bench.command(&["inspect", "out:a"]);
    holds_to_the_number(&bench, &read, Limit::Manifests, 3, &["index.json: 3 manifests, more than 2"]);
}

#[test]
fn b14_b15_documents_are_written_and_read_up_to_the_limit() {
    let bench = Bench::keeping();
    let text = "x".repeat(5000);
    let build = || {
        let mut build = bench.empty_image();
        build.args(["-t", "new", "--label", &format!("long={text}")]);
        build
    };
    run(&mut build()).success();
    let largest = largest_document(&bench.out);
    run(&mut bench.command(&["rm", "out:new", "-q"])).success();
    run(&mut bench.command(&["gc", "out", "-q", "--older-than", "0s"])).success();
    holds_to_the_number(&bench, &build, Limit::DocumentSize, largest, &["config of the new image: larger than"]);
    let read = || bench.command(&["inspect", "out:new"]);
    holds_to_the_number(&bench, &read, Limit::DocumentSize, largest, &["out", "larger than"]);
}

/// The size of the largest of the documents of a layout, whose layers are smaller.
fn largest_document(layout: &Path) -> u64 {
    let blobs =
        fs::read_dir(layout.join("blobs/sha256")).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len());
    blobs.max().unwrap()
}

#[test]
fn h18_entries_of_a_layer_are_collected_up_to_the_limit() {
    let bench = Bench::keeping();
    for name in ["a", "b", "c/d"] {
        bench.scratch.write(format!("src/{name}"), name);
    }
    let build = || {
        let mut build = bench.layout();
        build.args(["-t", "new", "--compression", "none", "--copy", "src:/srv"]);
        build
    };
    run(&mut build()).success();
    let entries = layer_entries(&bench.out, "new").len() as u64;
    assert!(entries >= 4);
    let words = format!("layer: more than {} entries", entries - 1);
    holds_to_the_number(&bench, &build, Limit::Entries, entries, &[&words]);
}

#[test]
fn a_limit_is_a_number_that_it_can_have() {
    let bench = Bench::keeping();
    for (limit, value, words) in [
        (Limit::Layers, "many", "OCIBUILD_MAX_LAYERS=many: not a number"),
        (Limit::Layers, "0", "OCIBUILD_MAX_LAYERS=0: not from 1 to 1,000,000,000"),
        (Limit::Entries, "1000000001", "OCIBUILD_MAX_ENTRIES=1000000001: not from 1 to 1,000,000,000"),
        (Limit::DocumentSize, "8 bytes", "OCIBUILD_MAX_DOCUMENT_SIZE=8 bytes: not a number with B, KiB"),
        (Limit::YamlSize, "2TiB", "OCIBUILD_MAX_YAML_SIZE=2199023255552: not from 1 to 1 TiB"),
    ] {
        bench.refuses_usage(value, bench.command(&["inspect", "out:keep"]).env(limit.variable(), value), &[words]);
    }
    run(bench.command(&["inspect", "out:keep"]).env("OCIBUILD_MAX_DOCUMENT_SIZE", "64KiB")).success();
    run(bench.command(&["inspect", "out:keep"]).env("OCIBUILD_MAX_DOCUMENT_SIZE", "")).success();
    run(bench.command(&["--version"]).env("OCIBUILD_MAX_LAYERS", "many")).success();
}

#[test]
fn every_limit_that_people_may_set_is_in_the_table() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/design/memory.md")).unwrap();
    for limit in Limit::ALL {
        let cell = format!("| `{}` |", limit.variable());
        assert!(page.contains(&cell), "{cell}");
    }
}
