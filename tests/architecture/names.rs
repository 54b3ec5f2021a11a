//! Names of types: one name for one thing.

use super::{code, sources, src};
use std::collections::BTreeMap;

/// The most types that share their name with another one. Two of them are the same type for two operating systems.
const MOST_SHARING: usize = 14;

#[test]
fn few_types_share_a_name() {
    let mut types: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in sources(&src()).into_iter().filter(|file| !file.ends_with("tests.rs")) {
        for name in code(&file).lines().filter_map(declared_type) {
            types.entry(name).or_default().push(file.display().to_string());
        }
    }
    types.retain(|_, files| files.len() > 1);
    let sharing: usize = types.values().map(Vec::len).sum();
    assert!(sharing <= MOST_SHARING, "{sharing} types share a name: {types:#?}");
}

/// The name of the type that a line declares.
fn declared_type(line: &str) -> Option<String> {
    let line =
        line.strip_prefix("pub ").or_else(|| Some(line.strip_prefix("pub(")?.split_once(") ")?.1)).unwrap_or(line);
    let rest = ["struct ", "enum ", "trait ", "type "].iter().find_map(|kind| line.strip_prefix(kind))?;
    Some(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect())
}

#[test]
fn declarations_of_types_are_found() {
    assert_eq!(declared_type("pub(super) struct Entry<'a> {").as_deref(), Some("Entry"));
    assert_eq!(declared_type("enum Kind {").as_deref(), Some("Kind"));
    assert_eq!(declared_type("    type Item = u8;"), None);
}
