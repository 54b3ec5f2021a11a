//! The folders of the checkout, and the lists of test modules.

use super::sources;
use std::fs;
use std::path::Path;

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
