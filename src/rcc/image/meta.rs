//! What rcc keeps beside a space that it manages: the catalog again, with the names of the space in it.

use super::Places;
use crate::bounded;
use crate::compression::{Compression, Compressor, Encoding, decode};
use crate::error::{Error, Result};
use crate::rcc::{Catalog, CatalogLimits, Space};
use serde_json::json;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// The two documents.
pub(super) struct Documents {
    /// The relocated catalog, gzip.
    pub(super) meta: Arc<[u8]>,
    /// What it says of itself, plain.
    pub(super) info: Arc<[u8]>,
}

/// Makes the documents of `space` from the catalog as it is stored.
pub(super) fn documents(stored: &[u8], catalog: &Catalog, space: &str, places: &Places) -> Result<Documents> {
    let controller = Space {
        owner: crate::rcc::Owner::Unmanaged,
        controller: places.controller.clone(),
        name: places.space.clone(),
    }
    .controller_identity();
    let name = catalog.name();
    let info = json!({
        "rcc": catalog.recorder().unwrap_or_default(),
        "identity": space,
        "path": catalog.space_path(space)?,
        "controller": controller,
        "space": places.space,
        "platform": name.platform,
        "blueprint": name.blueprint.to_string(),
    });
    let changes: BTreeMap<&str, &str> = ["identity", "path", "controller", "space"]
        .into_iter()
        .filter_map(|key| Some((key, info[key].as_str()?)))
        .collect();
    let mut relocated = document(stored, &format!("catalog {name}"))?;
    replace_members(&mut relocated, &changes);
    Ok(Documents { meta: gzip(&relocated)?, info: crate::json::canonical(&info).into() })
}

/// One gzip member.
pub(super) fn gzip(content: &[u8]) -> Result<Arc<[u8]>> {
    let mut packed = Vec::new();
    Compressor::new(Compression::DEFAULT_GZIP)?.compress(content, &mut packed)?;
    Ok(packed.into())
}

/// The document of a catalog, unwrapped.
pub(super) fn document(stored: &[u8], object: &str) -> Result<Vec<u8>> {
    let failed = |error: std::io::Error| Error::io(object, "read", error);
    let content = decode(stored, Encoding::of_bytes(stored)).map_err(failed)?;
    bounded::read(content, CatalogLimits::default().document, object)
}

/// Replaces members of the outermost object of a document that is known to be JSON.
///
/// This is done on the text, in its place: as a tree of values, the document of a large environment would take hundreds of
/// megabytes.
fn replace_members(document: &mut Vec<u8>, changes: &BTreeMap<&str, &str>) {
    // From the end, so that what is still to be replaced stays where it is.
    for (key, value) in outer_members(document).into_iter().rev() {
        let name: String = serde_json::from_slice(&document[key]).unwrap_or_default();
        if let Some(text) = changes.get(name.as_str()) {
            document.splice(value, json!(text).to_string().into_bytes());
        }
    }
}

/// Where the keys and values of the outermost object stand.
fn outer_members(document: &[u8]) -> Vec<(Range<usize>, Range<usize>)> {
    let mut members = Vec::new();
    let (mut depth, mut at) = (0, 0);
    let (mut key, mut value_start) = (0..0, 0);
    while at < document.len() {
        match document[at] {
            b'"' => {
                let end = string_end(document, at);
                if depth == 1 && value_start == 0 {
                    key = at..end;
                }
                at = end;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b':' if depth == 1 => value_start = at + 1,
            byte @ (b'}' | b']' | b',') => {
                if byte != b',' {
                    depth -= 1;
                }
                let ends_member = value_start > 0 && (depth == 0 || (depth == 1 && byte == b','));
                if ends_member {
                    members.push((key.clone(), value_start..at));
                    value_start = 0;
                }
            }
            _ => {}
        }
        at += 1;
    }
    members
}

/// Behind the closing quote of the string that begins at `start`.
fn string_end(document: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < document.len() && document[at] != b'"' {
        at += if document[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(document.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_replaced_in_the_outermost_object_only() {
        let document = br#" { "path" : "/a\"}", "tree": {"path": "kept", "list": [",", {"space": 1}]}, "n": 1,
            "sp\u0061ce": "", "last": "path" } "#;
        let changes = [("path", "/new"), ("space", "user")].into();
        let mut changed = document.to_vec();
        replace_members(&mut changed, &changes);
        let expected = json!({
            "path": "/new", "tree": {"path": "kept", "list": [",", {"space": 1}]}, "n": 1, "space": "user", "last": "path",
        });
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&changed).unwrap(), expected);
        let mut empty = b"{}".to_vec();
        replace_members(&mut empty, &changes);
        assert_eq!(empty, b"{}");
    }
}
