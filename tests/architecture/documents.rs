//! What documents and documentation comments promise.

use super::{sources, src};
use std::fs;
use std::path::Path;

/// The rows of the list of defects that tests are named after, but for those that only a measurement can show.
fn defects() -> impl Iterator<Item = u32> {
    (1..=71).filter(|row| !(67..=69).contains(row))
}

/// The rows that documentation comments of tests name in `text`: `M12` is one.
fn rows_of_tests(text: &str) -> Vec<u32> {
    let mut rows = Vec::new();
    let mut documentation = String::new();
    for line in text.lines().map(str::trim_start) {
        if let Some(comment) = line.strip_prefix("///") {
            documentation.push_str(comment);
        } else if line == "#[test]" {
            let words = documentation.split(|c: char| !c.is_alphanumeric());
            rows.extend(words.filter_map(|word| word.strip_prefix('M')?.parse::<u32>().ok()));
        } else if !line.starts_with("#[") {
            documentation.clear();
        }
    }
    rows
}

#[test]
fn every_defect_is_named_by_a_test() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let files = sources(&tests).into_iter().filter(|file| !file.ends_with("documents.rs")).chain(sources(&src()));
    let named: Vec<u32> = files.flat_map(|file| rows_of_tests(&fs::read_to_string(file).unwrap())).collect();
    let missing: Vec<u32> = defects().filter(|row| !named.contains(row)).collect();
    assert_eq!(missing, [0; 0], "no test names these rows");
}

#[test]
fn only_documentation_of_a_test_names_a_row() {
    let text = "/// M1, M22: both.\n#[cfg(unix)]\n#[test]\nfn a() {}\n/// M3\nfn b() {}\n#[test]\n// M4\nfn c() {}";
    assert_eq!(rows_of_tests(text), [1, 22]);
}

#[test]
fn every_crate_is_argued_for() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest: toml::Table = fs::read_to_string(root.join("Cargo.toml")).unwrap().parse().unwrap();
    let text = fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| ")).collect();
    let unix = &manifest["target"]["cfg(unix)"];
    for table in [&manifest["dependencies"], &manifest["dev-dependencies"], &unix["dependencies"]] {
        for name in table.as_table().unwrap().keys() {
            let words =
                |row: &&str| row.split(|c: char| !c.is_alphanumeric() && !"-_".contains(c)).any(|word| word == name);
            assert!(rows.iter().any(words), "no word on {name}");
        }
    }
}
