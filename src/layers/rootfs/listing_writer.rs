//! Writes a listing. The format is described with its reader.

use super::entry::{ListedKind, ListedNode, Program};
use super::listing::{HEADER, KIND, ListedBlob, MAGIC, OPAQUE, SLOT, WHITEOUT, encoding_byte};
use crate::codec::compression::NotedMember;
use crate::common::error::{Error, Result};
use crate::common::limits::Limit;
use libdeflater::crc32;
use std::collections::BTreeMap;

/// The minimum size of a block in bytes, except for the last one.
const BLOCK: usize = 8 << 10;
/// The largest number of bytes collected for a listing: names, link targets and extended attributes.
const MOST_BYTES: usize = 1 << 30;

/// The kinds of directories.
const DIRECTORIES: [u8; 2] = [1, 2];

/// Collects the entries of a layer, in the order of its tar.
#[derive(Default)]
pub(super) struct ListingWriter {
    entries: BTreeMap<Box<[u8]>, ListingRecord>,
    /// The encoded nodes, one after the other: an allocation for each would take more memory than they do.
    nodes: Vec<u8>,
    bytes: usize,
    members: Vec<NotedMember>,
}

/// The stored data of one path: the flags and kind, and the place of the encoded node.
#[derive(Default)]
struct ListingRecord {
    first: u8,
    start: u32,
    length: u32,
}

impl ListingRecord {
    /// Appends the node to `nodes`, which are shorter than 4 GiB, since everything that is collected is.
    fn set_node(&mut self, kind: u8, encoded: &[u8], nodes: &mut Vec<u8>) {
        self.first = self.first & (WHITEOUT | OPAQUE) | kind;
        (self.start, self.length) = (nodes.len() as u32, encoded.len() as u32);
        nodes.extend_from_slice(encoded);
    }
}

impl ListingWriter {
    /// Adds the node at `path`, whose content begins at `start` of the tar. If a path has two entries, the later one counts, as for extractors.
    ///
    /// # Errors
    /// Returns an error if the layer has more entries, or longer ones, than a listing can hold.
    pub(super) fn add(&mut self, path: &[u8], node: &ListedNode, start: u64) -> Result<()> {
        let mut encoded = Vec::new();
        let kind = encode(node, &mut encoded);
        if matches!(node.kind, ListedKind::File { .. }) {
            number(&mut encoded, start);
        }
        if !node.kind.is_directory() {
            self.remove_below(path);
        }
        let (record, nodes) = self.record(path, encoded.len())?;
        record.set_node(kind, &encoded, nodes);
        Ok(())
    }

    /// Removes what the layer has added in the directory `path`, which something else replaces.
    fn remove_below(&mut self, path: &[u8]) {
        // Only a directory can have something in it, and files are seldom replaced.
        let is_directory = |record: &ListingRecord| DIRECTORIES.contains(&(record.first & KIND));
        if !self.entries.get(path).is_some_and(is_directory) {
            return;
        }
        let start = [path, b"/"].concat();
        let below: Vec<Box<[u8]>> = self
            .entries
            .range(start.clone().into_boxed_slice()..)
            .map(|(path, _)| path.clone())
            .take_while(|path| path.starts_with(&start))
            .collect();
        for path in below {
            // Whiteouts are about the layers below.
            if let Some(record) = self.entries.get_mut(&path) {
                record.first &= WHITEOUT | OPAQUE;
                record.length = 0;
                if record.first == 0 {
                    self.entries.remove(&path);
                }
            }
        }
    }

    /// Records that the layer deletes `path` from the layers below.
    ///
    /// # Errors
    /// The same as [`ListingWriter::add`].
    pub(super) fn add_whiteout(&mut self, path: &[u8]) -> Result<()> {
        self.record(path, 0).map(|(record, _)| record.first |= WHITEOUT)
    }

    /// Records that the layer hides the entries of the layers below in the directory `path`.
    ///
    /// # Errors
    /// The same as [`ListingWriter::add`].
    pub(super) fn add_opaque(&mut self, path: &[u8]) -> Result<()> {
        self.record(path, 0).map(|(record, _)| record.first |= OPAQUE)
    }

    fn record(&mut self, path: &[u8], more: usize) -> Result<(&mut ListingRecord, &mut Vec<u8>)> {
        self.bytes += more;
        // Every parent directory is listed, so that a look-up finds it. An entry of its own replaces it.
        let mut above = path;
        while let Some(slash) = above.iter().rposition(|&byte| byte == b'/') {
            above = &above[..slash];
            match self.entries.get_mut(above) {
                Some(record) if record.first & !(WHITEOUT | OPAQUE) != 0 => break,
                Some(record) => imply(record, &mut self.nodes),
                None => {
                    let mut record = ListingRecord::default();
                    imply(&mut record, &mut self.nodes);
                    self.bytes += above.len();
                    self.entries.insert(above.into(), record);
                }
            }
        }
        if !self.entries.contains_key(path) {
            self.bytes += path.len();
        }
        Limit::Entries.check_so_far(self.entries.len() + 1, "layer", "entry")?;
        if self.bytes > MOST_BYTES {
            return Err(Error::invalid("layer", "has more entries than its index"));
        }
        Ok((self.entries.entry(path.into()).or_default(), &mut self.nodes))
    }

    /// Adds the gzip members of the blob.
    pub(super) fn set_members(&mut self, members: Vec<NotedMember>) {
        self.members = members;
    }

    /// Returns the listing in the stored format.
    pub(super) fn finish(self, subject: &ListedBlob) -> Vec<u8> {
        let mut out = vec![0; HEADER];
        let entries = self.entries.len() as u64;
        let (mut slots, mut paths) = (Vec::new(), Vec::new());
        let (mut start, mut first, mut before) = (HEADER, Vec::new(), Vec::new());
        let mut close = |out: &[u8], start: usize, first: &[u8]| {
            let block = &out[start..];
            slots.extend((start as u64).to_le_bytes());
            slots.extend((block.len() as u32).to_le_bytes());
            slots.extend(crc32(block).to_le_bytes());
            slots.extend((paths.len() as u32).to_le_bytes());
            slots.extend((first.len() as u32).to_le_bytes());
            paths.extend_from_slice(first);
        };
        for (path, ListingRecord { first: flags, start: node, length }) in self.entries {
            let node =
                self.nodes.get(node as usize..).and_then(|nodes| nodes.get(..length as usize)).unwrap_or_default();
            if out.len() - start >= BLOCK {
                close(&out, start, &first);
                (start, before) = (out.len(), Vec::new());
            }
            if start == out.len() {
                first = path.to_vec();
            }
            let shared = before.iter().zip(&*path).take_while(|(one, other)| one == other).count();
            number(&mut out, shared as u64);
            string(&mut out, &path[shared..]);
            out.push(flags);
            out.extend_from_slice(node);
            before = path.into_vec();
        }
        if start < out.len() {
            close(&out, start, &first);
        }
        let (index, blocks) = (out.len() as u64, (slots.len() / SLOT) as u64);
        slots.extend(paths);
        for NotedMember { packed_end, end, digest } in &self.members {
            slots.extend(packed_end.to_le_bytes());
            slots.extend(end.to_le_bytes());
            slots.extend(digest.as_bytes());
        }
        let ListedBlob { layer, blob, encoding } = subject;
        let header = &mut out[..HEADER];
        header[..16].copy_from_slice(MAGIC);
        header[16..48].copy_from_slice(layer.as_bytes());
        header[48..80].copy_from_slice(blob.as_bytes());
        header[80] = encoding_byte(*encoding);
        header[88..96].copy_from_slice(&entries.to_le_bytes());
        header[96..104].copy_from_slice(&(self.members.len() as u64).to_le_bytes());
        header[104..112].copy_from_slice(&index.to_le_bytes());
        header[112..120].copy_from_slice(&blocks.to_le_bytes());
        header[120..124].copy_from_slice(&crc32(&slots).to_le_bytes());
        let sum = crc32(&header[..124]);
        header[124..128].copy_from_slice(&sum.to_le_bytes());
        out.extend(slots);
        out
    }
}

/// Makes `record` a directory without an entry of its own, as extractors create it.
fn imply(record: &mut ListingRecord, nodes: &mut Vec<u8>) {
    let mut encoded = Vec::new();
    let (kind, xattrs) = (ListedKind::ImpliedDirectory, Box::default());
    let kind = encode(&ListedNode { kind, mode: 0o755, uid: 0, gid: 0, mtime: 0, xattrs }, &mut encoded);
    record.set_node(kind, &encoded, nodes);
}

/// Appends `node`, and returns the number of its kind.
fn encode(node: &ListedNode, out: &mut Vec<u8>) -> u8 {
    // Destructured without `..`, so that a new field cannot be forgotten here.
    let ListedNode { kind, mode, uid, gid, mtime, xattrs } = node;
    for value in [u64::from(*mode), u64::from(*uid), u64::from(*gid), (mtime << 1 ^ mtime >> 63) as u64] {
        number(out, value);
    }
    let number_of_kind = match kind {
        ListedKind::Directory => 1,
        ListedKind::ImpliedDirectory => 2,
        ListedKind::File { size, program, content } => {
            number(out, *size);
            number(
                out,
                match program {
                    Program::Unknown => 0,
                    Program::Script => 1,
                    Program::Elf(machine) => u64::from(*machine) + 2,
                },
            );
            number(out, content.as_ref().map_or(0, |content| content.len() as u64 + 1));
            out.extend(content.iter().flatten());
            3
        }
        ListedKind::Symlink { target } => {
            string(out, target);
            4
        }
        ListedKind::HardLink { target } => {
            string(out, target);
            5
        }
        ListedKind::CharacterDevice => 6,
        ListedKind::BlockDevice => 7,
        ListedKind::Fifo => 8,
    };
    number(out, xattrs.len() as u64);
    for (name, value) in xattrs {
        string(out, name);
        string(out, value);
    }
    number_of_kind
}

fn number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}
