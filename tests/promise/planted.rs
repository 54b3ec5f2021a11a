//! Mistakes that are planted in a copy of the program, to see that the scenarios find them.
//!
//! ```text
//! OCIBUILD_PROMISE=planted cargo test --test all promise::planted
//! ```

use super::{calls_that_fail, changes_that_fail, kills, power, reordering, stops};
use crate::catalogue::limits;
use crate::support::{command, consumer, run, run_within, use_program};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The longest time that the program takes to be compiled.
const PATIENCE: Duration = Duration::from_secs(1800);

/// What finds mistakes, the quick ones first.
const SEARCHES: [(&str, fn()); 7] = [
    ("limits", limits::all_that_people_may_set),
    ("reordered writes", reordering::every_state),
    ("kills", kills),
    ("stops", stops),
    ("changes that fail", changes_that_fail),
    ("calls that fail", calls_that_fail),
    ("power cuts", power::cuts),
];

#[test]
fn planted_mistakes_are_found() {
    let Some(git) = consumer("git") else { return };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let patches = patches(root);
    assert!(patches.len() >= 8, "{patches:?}");
    for patch in &patches {
        run(command(&git).args(["apply", "--check"]).arg(patch).current_dir(root)).success();
    }
    if std::env::var("OCIBUILD_PROMISE").is_ok_and(|value| value == "planted") {
        let found = finding_search();
        assert_eq!(found, None, "a search fails without any mistake");
        patches.iter().for_each(|patch| is_found(root, &git, patch));
    }
}

fn patches(root: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(root.join("tests/promise/planted")).unwrap();
    let mut patches: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    patches.sort();
    patches
}

/// Returns the first search that fails.
fn finding_search() -> Option<&'static str> {
    SEARCHES.iter().find(|(_, search)| std::panic::catch_unwind(search).is_err()).map(|(name, _)| *name)
}

/// Compiles a copy of the program with the mistake, and asserts that a search finds it.
fn is_found(root: &Path, git: &Path, patch: &Path) {
    let name = patch.file_stem().unwrap().display();
    let planted = root.join("target/planted");
    // Always the same directory, so that only this crate is compiled again.
    let copy = planted.join("source");
    fs::remove_dir_all(&copy).ok();
    for part in ["Cargo.toml", "Cargo.lock", "src", "benches", "examples", "tests/all.rs"] {
        let to = copy.join(part);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        run(command("cp").arg("-r").arg(root.join(part)).arg(to)).success();
    }
    // The copy is no part of the repository that it is in.
    let mut apply = command(git);
    apply.arg("apply").arg(patch).current_dir(&copy).env("GIT_CEILING_DIRECTORIES", &planted);
    run(&mut apply).success();
    let mut build = std::process::Command::new(env!("CARGO"));
    build
        .args(["build", "--quiet", "--bin", "ocibuild"])
        .current_dir(&copy)
        .env("CARGO_TARGET_DIR", planted.join("target"));
    run_within(PATIENCE, &mut build).success();
    use_program(planted.join("target/debug/ocibuild"));
    let search = finding_search().unwrap_or_else(|| panic!("{name}: not found"));
    eprintln!("{name}: found by {search}");
}
