//! The files that rcc keeps next to a managed space: the catalog again, with the names of the space in it.

use super::ImagePaths;
use super::catalog_file::CatalogFile;
use crate::codec::compression::{Compression, Compressor, Detected};
use crate::common::bounded_read;
use crate::common::error::{Error, Result};
use crate::common::limits::Limit;
use crate::layers::tree::StoredFiles;
use crate::rcc::{Catalog, Space};
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;

/// The two documents next to a managed space.
pub(super) struct MetaDocuments {
    /// The relocated catalog, as gzip.
    pub(super) meta: MetaFile,
    /// Its summary, uncompressed.
    pub(super) info: Arc<[u8]>,
}

/// Creates the documents of `space` from the stored catalog.
pub(super) fn documents(
    catalog_file: &CatalogFile,
    catalog: &Catalog,
    space: &str,
    places: &ImagePaths,
) -> Result<MetaDocuments> {
    let controller = Space {
        owner: crate::rcc::SpaceOwner::Unmanaged,
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
    Ok(MetaDocuments { meta: MetaFile::new(catalog_file, changes), info: crate::common::json::canonical(&info).into() })
}

/// The number of bytes of a document that are read at a time.
const PIECE: usize = 64 << 10;

/// The number of bytes of a document in a gzip member.
const MEMBER: usize = 128 << 10;

/// A reader of a catalog's document with some of its outermost members replaced.
///
/// It yields a sequence of gzip members.
pub(super) struct RelocatedReader {
    document: Box<dyn Read + Send>,
    is_at_end: bool,
    relocation: Relocation,
    compressor: Compressor,
    member: Vec<u8>,
    given: usize,
}

impl RelocatedReader {
    /// Reads the catalog whose stored bytes `stored` yields.
    ///
    /// # Errors
    /// Returns an error if its start cannot be read.
    pub(super) fn new(stored: Box<dyn Read + Send>, changes: Arc<BTreeMap<&'static str, String>>) -> Result<Self> {
        let failed = |error| Error::io("catalog", "read", error);
        Ok(RelocatedReader {
            document: Detected::new(stored).and_then(Detected::decode).map_err(failed)?,
            is_at_end: false,
            relocation: Relocation::new(changes),
            compressor: Compressor::new(Compression::Gzip(1))?,
            member: Vec::new(),
            given: 0,
        })
    }

    /// Creates the next member.
    fn refill(&mut self) -> io::Result<()> {
        let mut piece = [0; PIECE];
        while self.relocation.out.len() < MEMBER && !self.is_at_end {
            match self.document.read(&mut piece) {
                Ok(0) => self.is_at_end = true,
                Ok(length) => self.relocation.push(&piece[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let ready = &mut self.relocation.out;
        let length = ready.len().min(MEMBER);
        self.member.clear();
        self.given = 0;
        if length > 0 {
            self.compressor.compress(&ready[..length], &mut self.member)?;
            ready.drain(..length);
        }
        Ok(())
    }
}

impl Read for RelocatedReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.given == self.member.len() {
            self.refill()?;
        }
        let length = buffer.len().min(self.member.len() - self.given);
        buffer[..length].copy_from_slice(&self.member[self.given..][..length]);
        self.given += length;
        Ok(length)
    }
}

/// Compresses content as gzip.
pub(super) fn gzip(content: &[u8]) -> Result<Arc<[u8]>> {
    let mut packed = Vec::new();
    Compressor::new(Compression::DEFAULT_GZIP)?.compress(content, &mut packed)?;
    Ok(packed.into())
}

/// Reads the document of a catalog and decompresses it.
pub(super) fn document(stored: impl Read + Send, object: &str) -> Result<Vec<u8>> {
    let failed = |error: io::Error| Error::io(object, "read", error);
    let content = Detected::new(stored).and_then(Detected::decode).map_err(failed)?;
    bounded_read::read(content, Limit::CatalogSize, object)
}

/// Replaces members of the outermost object of a document that is known to be JSON.
///
/// This works on the text as a stream: as a tree of values, the document of a large environment would take hundreds of
/// megabytes.
struct Relocation {
    /// The new value of each member as JSON, by name.
    changes: Arc<BTreeMap<&'static str, String>>,
    depth: usize,
    is_in_string: bool,
    is_escaped: bool,
    /// The last string of the outermost object that can be a member's name, with quotes.
    key: Vec<u8>,
    value: Passing,
    /// The changed text.
    out: Vec<u8>,
}

/// The handling of the current text of the outermost object.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Passing {
    /// The text is not a value, and is kept.
    Between,
    /// The text is a value that is kept.
    Kept,
    /// The text is a value that was replaced.
    Replaced,
}

/// The length limit of a key that is compared, escapes included; no wanted key is longer.
const LONGEST_KEY: usize = 100;

impl Relocation {
    fn new(changes: Arc<BTreeMap<&'static str, String>>) -> Relocation {
        let (key, value, out) = (Vec::new(), Passing::Between, Vec::new());
        Relocation { changes, depth: 0, is_in_string: false, is_escaped: false, key, value, out }
    }

    /// Appends the next bytes of the document to `out`, with replacements.
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

    /// Determines after the colon whether the value is replaced.
    fn replace_value(&mut self) {
        let name: String = serde_json::from_slice(&self.key).unwrap_or_default();
        if let Some(text) = self.changes.get(name.as_str()) {
            self.out.extend_from_slice(text.as_bytes());
            self.value = Passing::Replaced;
        }
    }
}

/// The relocated catalog next to a space, as gzip.
///
/// It is computed again on every read: its size is needed beforehand, and doing the work twice, half a second for
/// 100,000 files, costs less than keeping it in memory.
#[derive(Clone)]
pub(super) struct MetaFile {
    catalog: CatalogFile,
    changes: Arc<BTreeMap<&'static str, String>>,
}

impl fmt::Debug for MetaFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetaFile").field("catalog", &self.catalog.name).finish_non_exhaustive()
    }
}

impl MetaFile {
    /// Replaces members of the outermost object of `catalog` with values in JSON.
    pub(super) fn new(catalog: &CatalogFile, changes: BTreeMap<&'static str, String>) -> MetaFile {
        MetaFile { catalog: catalog.clone(), changes: Arc::new(changes) }
    }

    /// Returns the size in bytes.
    ///
    /// # Errors
    /// Returns an error if the catalog cannot be read, or has changed.
    pub(super) fn size(&self) -> Result<u64> {
        let failed = |error| Error::io(format!("catalog {}", self.catalog.name), "read", error);
        io::copy(&mut self.open(0)?, &mut io::sink()).map_err(failed)
    }
}

impl StoredFiles for MetaFile {
    fn open(&self, _: u32) -> Result<Box<dyn Read + Send>> {
        Ok(Box::new(RelocatedReader::new(self.catalog.open()?, self.changes.clone())?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_replaced_in_the_outermost_object_only() {
        let document = br#" { "path" : "/a\"}", "tree": {"path": "kept", "list": [",", {"space": 1}]}, "n": 1,
            "sp\u0061ce": "", "last": "path" } "#;
        let changes: Arc<BTreeMap<&str, String>> =
            Arc::new([("path", json!("/new").to_string()), ("space", json!("user").to_string())].into());
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
        let long = json!({ "path": "/old", "tree": "x".repeat(2_500_000) }).to_string().into_bytes();
        let changes = Arc::new(BTreeMap::from([("path", json!("/new").to_string())]));
        let stored = Box::new(io::Cursor::new(gzip(&long).unwrap()));
        let packed = bounded_read::read(RelocatedReader::new(stored, changes).unwrap(), 1 << 20, "x").unwrap();
        let expected = String::from_utf8(long).unwrap().replace("/old", "/new");
        assert!(document(&packed[..], "x").unwrap() == expected.as_bytes());
        let members = packed.windows(4).filter(|window| window == &[0x1f, 0x8b, 8, 0]).count();
        assert_eq!(members, expected.len().div_ceil(MEMBER));
    }
}
