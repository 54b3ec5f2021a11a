//! `--resolve` with the real rcc.

use super::machine::Machine;
use crate::support::environment::write_environment;
use crate::support::real_rcc::{RealRcc, executable};
use crate::support::{Finished, command, consumer_as_root, run};
use ocibuild::rcc::{SpaceOwner, stage_directory};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// M49: the real rcc records what is missing, and records again what is incomplete.
#[test]
fn the_real_rcc_records_what_is_missing_and_what_is_incomplete() {
    let machine = Machine::new();
    let home = machine.scratch.join("home");
    let (Some(rcc), Some(unshare)) = (RealRcc::new(&home), consumer_as_root("unshare")) else { return };
    let stage = stage_directory(&SpaceOwner::Home(home.to_str().unwrap().to_owned()), "linux", "amd64");
    let tree = machine.scratch.join("tree");
    write_environment(&tree, rcc.product_home().join("holotree").join(stage).to_str().unwrap(), 1);
    rcc.install_micromamba(&tree);
    machine.robot("robot", "3.11.7", "");
    fs::create_dir(machine.scratch.join("bin")).unwrap();
    symlink(executable().unwrap(), machine.scratch.join("bin/rcc")).unwrap();
    let layout = |more: &[&str]| -> Finished {
        let mut offline = command(&unshare);
        offline.args(["-n", "--", env!("CARGO_BIN_EXE_ocibuild"), "layout", "../out", "--base", "scratch"]);
        offline.args(["--environment", "direct"]).args(more);
        offline.env("HOME", &home).env("PATH", format!("{}:/usr/bin:/bin", machine.scratch.join("bin").display()));
        run(offline.current_dir(machine.scratch.join("robot")))
    };
    fs::create_dir_all(rcc.product_home().join("hololib/catalog")).unwrap();
    layout(&[]).ended_with(1).failed_saying("`, or use --resolve)");
    layout(&["--resolve"]).success();
    fs::remove_file(largest_file(&rcc.product_home().join("hololib/library"))).unwrap();
    layout(&[]).ended_with(1).failed_saying("(--resolve records the environment again)");
    layout(&["--resolve"]).success();
    // Not every object is there again: files of an environment that have times in them are other objects now.
    layout(&[]).success();
}

/// The largest file below a directory. In a library it is an object that the image needs; some of the small ones are left out.
fn largest_file(directory: &Path) -> PathBuf {
    let files = walkdir::WalkDir::new(directory).into_iter().map(Result::unwrap);
    files
        .max_by_key(|entry| if entry.file_type().is_file() { entry.metadata().unwrap().len() } else { 0 })
        .unwrap()
        .into_path()
}
