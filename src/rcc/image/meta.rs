//! What rcc keeps beside a space that it manages: the catalog again, with the names of the space in it.

use super::Places;
use crate::bounded;
use crate::compression::{Compression, Compressor, Encoding, decode};
use crate::error::{Error, Result};
use crate::rcc::{Catalog, CatalogLimits, Space};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::Read;
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
    let changed = ["identity", "path", "controller", "space"].into_iter();
    let changes = changed.map(|key| (key, info[key].to_string())).collect();
    let object = format!("catalog {name}");
    let failed = |error: std::io::Error| Error::io(&object, "read", error);
    let mut document = decode(stored, Encoding::of_bytes(stored)).map_err(failed)?;
    let (mut relocation, mut meta) = (Relocation::new(changes), GzipMembers::new()?);
    let mut piece = vec![0; PIECE];
    loop {
        let length = match document.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed(error)),
        };
        relocation.push(&piece[..length]);
        meta.push(&mut relocation.out)?;
    }
    Ok(Documents { meta: meta.finish()?, info: crate::json::canonical(&info).into() })
}

/// How much of a document is looked at once, in bytes.
const PIECE: usize = 64 << 10;

/// How much of a document a gzip member holds, in bytes.
const MEMBER: usize = 1 << 20;

/// gzip, member by member: the document of a large environment is many times as long as what becomes of it.
struct GzipMembers {
    compressor: Compressor,
    pending: Vec<u8>,
    member: Vec<u8>,
    packed: Vec<u8>,
}

impl GzipMembers {
    fn new() -> Result<GzipMembers> {
        let compressor = Compressor::new(Compression::DEFAULT_GZIP)?;
        Ok(GzipMembers { compressor, pending: Vec::new(), member: Vec::new(), packed: Vec::new() })
    }

    /// Takes all of `bytes`.
    fn push(&mut self, bytes: &mut Vec<u8>) -> Result<()> {
        self.pending.append(bytes);
        while self.pending.len() > MEMBER {
            self.pack(MEMBER)?;
        }
        Ok(())
    }

    fn pack(&mut self, length: usize) -> Result<()> {
        self.compressor.compress(&self.pending[..length], &mut self.member)?;
        self.packed.extend_from_slice(&self.member);
        self.pending.drain(..length);
        Ok(())
    }

    fn finish(mut self) -> Result<Arc<[u8]>> {
        self.pack(self.pending.len())?;
        Ok(self.packed.into())
    }
}

/// Some content as gzip.
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
/// This is done on the text as it passes: as a tree of values, the document of a large environment would take hundreds of
/// megabytes.
struct Relocation {
    /// By the name of each member, its new value as JSON.
    changes: BTreeMap<&'static str, String>,
    depth: usize,
    is_in_string: bool,
    is_escaped: bool,
    /// The last string of the outermost object that can be the name of a member, quotes included.
    key: Vec<u8>,
    value: Passing,
    /// What has passed.
    out: Vec<u8>,
}

/// What happens to what stands in the outermost object now.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Passing {
    /// It is no value, and passes.
    Between,
    /// It is a value that passes.
    Kept,
    /// It is a value that was replaced.
    Replaced,
}

/// No key that is looked for is longer, escapes included.
const LONGEST_KEY: usize = 100;

impl Relocation {
    fn new(changes: BTreeMap<&'static str, String>) -> Relocation {
        let (key, value, out) = (Vec::new(), Passing::Between, Vec::new());
        Relocation { changes, depth: 0, is_in_string: false, is_escaped: false, key, value, out }
    }

    /// Appends to `out` what becomes of the next bytes of the document.
    fn push(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if self.is_in_string {
                self.in_string(byte);
            } else {
                self.outside(byte);
            }
            if self.value != Passing::Replaced {
                self.out.push(byte);
            }
            if byte == b':' && !self.is_in_string && self.depth == 1 && self.value == Passing::Kept {
                self.replace_value();
            }
        }
    }

    fn in_string(&mut self, byte: u8) {
        self.is_in_string = self.is_escaped || byte != b'"';
        self.is_escaped = !self.is_escaped && byte == b'\\';
        if self.key.len() < LONGEST_KEY && self.depth == 1 && self.value == Passing::Between {
            self.key.push(byte);
        }
    }

    fn outside(&mut self, byte: u8) {
        match byte {
            b'"' => {
                self.is_in_string = true;
                if self.depth == 1 && self.value == Passing::Between {
                    self.key = vec![byte];
                }
            }
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                if self.depth == 0 {
                    self.value = Passing::Between;
                }
            }
            b',' if self.depth == 1 => self.value = Passing::Between,
            b':' if self.depth == 1 => self.value = Passing::Kept,
            _ => {}
        }
    }

    /// Decides, behind the colon, what becomes of the value.
    fn replace_value(&mut self) {
        let name: String = serde_json::from_slice(&self.key).unwrap_or_default();
        if let Some(text) = self.changes.get(name.as_str()) {
            self.out.extend_from_slice(text.as_bytes());
            self.value = Passing::Replaced;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_replaced_in_the_outermost_object_only() {
        let document = br#" { "path" : "/a\"}", "tree": {"path": "kept", "list": [",", {"space": 1}]}, "n": 1,
            "sp\u0061ce": "", "last": "path" } "#;
        let changes: BTreeMap<&str, String> =
            [("path", json!("/new").to_string()), ("space", json!("user").to_string())].into();
        let expected = json!({
            "path": "/new", "tree": {"path": "kept", "list": [",", {"space": 1}]}, "n": 1, "space": "user", "last": "path",
        });
        for length in [1, 2, 7, document.len()] {
            let mut relocation = Relocation::new(changes.clone());
            document.chunks(length).for_each(|piece| relocation.push(piece));
            assert_eq!(serde_json::from_slice::<serde_json::Value>(&relocation.out).unwrap(), expected, "{length}");
        }
        let mut relocation = Relocation::new(changes);
        relocation.push(b"{}");
        assert_eq!(relocation.out, b"{}");
    }

    #[test]
    fn long_documents_become_several_members() {
        let content: Vec<u8> = (0..2_500_000_u32).map(|number| (number % 251) as u8).collect();
        let mut members = GzipMembers::new().unwrap();
        content.chunks(70_000).for_each(|piece| members.push(&mut piece.to_vec()).unwrap());
        let packed = members.finish().unwrap();
        assert_eq!(document(&packed, "x").unwrap(), content);
        assert_eq!(packed.windows(4).filter(|window| window == &[0x1f, 0x8b, 8, 0]).count(), 3);
    }
}
