//! The folders of the checkout, and the lists of test modules.

use super::sources;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Everything that a person sees at the top of a checkout. `target` and `out` are made by building.
const TOP_LEVEL: &[&str] = &[
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "benches",
    "docs",
    "examples",
    "out",
    "src",
    "target",
    "testdata",
    "tests",
];

#[test]
fn the_top_level_holds_only_what_belongs_there() {
    for entry in fs::read_dir(env!("CARGO_MANIFEST_DIR")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(name.starts_with('.') || TOP_LEVEL.contains(&name.as_str()), "{name} does not belong at the top level");
    }
}

/// The crate that `cargo package` makes, without tests, documents and test data.
#[test]
fn the_package_holds_only_what_a_user_needs() {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(env!("CARGO_MANIFEST_DIR")).args(["package", "--list", "--allow-dirty", "--offline"]);
    let listed = String::from_utf8(cargo.output().unwrap().stdout).unwrap();
    let (folders, files): (Vec<&str>, Vec<&str>) = listed.lines().partition(|file| file.contains('/'));
    assert!(folders.iter().all(|file| file.starts_with("src/") || file.starts_with("examples/")), "{folders:?}");
    assert!(folders.contains(&"src/lib.rs") && folders.contains(&"examples/build_layout.rs"), "{folders:?}");
    let own: Vec<&str> = files.into_iter().filter(|file| !file.starts_with('.')).collect();
    assert_eq!(
        own,
        ["CHANGELOG.md", "Cargo.lock", "Cargo.toml", "Cargo.toml.orig", "LICENSE", "README.md"],
        "{listed}"
    );
}

#[test]
fn no_test_file_is_forgotten() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let files = sources(&tests);
    let all: String = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    for file in &files {
        let stem = file.file_stem().unwrap().to_str().unwrap();
        let name = if stem == "mod" { file.parent().unwrap().file_name().unwrap().to_str().unwrap() } else { stem };
        assert!(name == "all" || all.contains(&format!("mod {name};")), "{} is in no module list", file.display());
    }
}
