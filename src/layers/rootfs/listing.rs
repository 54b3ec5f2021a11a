//! The listing of a layer: its entries, sorted by path, in a format that is searched without parsing it.
//!
//! ```text
//! header   magic, which layer this is, which blob was checked and how it is compressed, how many entries, how many members,
//!          where the index begins, how many blocks there are, checksums of index and header      (128 bytes)
//! blocks   entries in the order of their paths, each path without what it shares with the one before it in its block
//! index    for each block its place, length, checksum and first path
//! members  for each gzip member of the blob where it ends in blob and tar, and its SHA-256; the checksum of the index covers them
//! ```
//!
//! Numbers in the header and index are little-endian; those of entries are LEB128. A look-up is a binary search in the
//! index and one pass through a block of about 8 KiB, whose checksum is compared first. No other bytes of the file are
//! read, so the cost of a look-up does not depend on the length of the listing.

use super::entry::{ListedEntry, ListedKind, ListedNode, Program};
use super::mapped::MappedFile;
use super::moved::{MovedDirectories, place};
use crate::codec::compression::{Encoding, NotedMember};
use crate::common::digest::{DiffId, Digest};
use crate::common::error::{Error, Result};
use libdeflater::crc32;
use std::fs::File;
use std::ops::Deref;

pub(super) const MAGIC: &[u8; 16] = b"ocibuild list 2\n";
pub(super) const HEADER: usize = 128;
/// The size of an index slot for each block, without the first path, in bytes.
pub(super) const SLOT: usize = 24;
/// The size of a member, in bytes.
const MEMBER: usize = 48;

/// The sorted entries of a layer.
pub struct LayerListing {
    bytes: ListingBytes,
    entries: u64,
    /// The offset of the index, in bytes.
    index: usize,
    blocks: usize,
    /// The number of gzip members, which are at the end.
    members: usize,
    /// Where the directories of the layer are that are links in the layers below; nearly always none.
    moved: MovedDirectories,
}

enum ListingBytes {
    Mapped(MappedFile),
    Owned(Vec<u8>),
}

impl Deref for ListingBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            ListingBytes::Mapped(file) => file,
            ListingBytes::Owned(bytes) => bytes,
        }
    }
}

impl std::fmt::Debug for LayerListing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listing").field("entries", &self.entries).field("blocks", &self.blocks).finish_non_exhaustive()
    }
}

/// The layer of a listing, and the blob that was read for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ListedBlob {
    pub(super) layer: Digest,
    pub(super) blob: Digest,
    pub(super) encoding: Encoding,
}

impl ListedBlob {
    /// Creates the subject for the layer `diff_id`, stored in `blob` as `encoding`.
    pub(super) fn new(diff_id: &DiffId, blob: &Digest, encoding: Encoding) -> ListedBlob {
        // Hashed, so that SHA-512 also fits into the header.
        let short = |text: String| Digest::of(text.as_bytes());
        ListedBlob { layer: short(diff_id.to_string()), blob: short(blob.to_string()), encoding }
    }
}

pub(super) fn encoding_byte(encoding: Encoding) -> u8 {
    match encoding {
        Encoding::Plain => 0,
        Encoding::Gzip => 1,
        Encoding::Zstd => 2,
    }
}

impl LayerListing {
    /// Maps a finished file of the cache. Returns `None` if it is damaged, has another format, or is not about `subject`.
    pub(super) fn map(file: &File, subject: &ListedBlob) -> Option<LayerListing> {
        let length = file.metadata().ok()?.len();
        if length < HEADER as u64 {
            return None;
        }
        LayerListing::of(ListingBytes::Mapped(MappedFile::of_finished(file).ok()?), subject)
    }

    /// Opens a listing that was just made. Returns `None` for the same reasons as [`LayerListing::map`].
    pub(super) fn own(bytes: Vec<u8>, subject: &ListedBlob) -> Option<LayerListing> {
        LayerListing::of(ListingBytes::Owned(bytes), subject)
    }

    fn of(bytes: ListingBytes, subject: &ListedBlob) -> Option<LayerListing> {
        let header = bytes.get(..HEADER)?;
        let is_whole = header.starts_with(MAGIC) && u32_at(header, 124)? == crc32(&header[..124]);
        let is_about = header[16..48] == *subject.layer.as_bytes()
            && header[48..80] == *subject.blob.as_bytes()
            && header[80] == encoding_byte(subject.encoding);
        if !is_whole || !is_about {
            return None;
        }
        let entries = u64_at(header, 88)?;
        let index = usize::try_from(u64_at(header, 104)?).ok()?;
        let blocks = usize::try_from(u64_at(header, 112)?).ok()?;
        let members = usize::try_from(u64_at(header, 96)?).ok()?;
        let index_bytes = bytes.get(index..).filter(|_| index >= HEADER)?;
        let least = blocks.checked_mul(SLOT)?.checked_add(members.checked_mul(MEMBER)?)?;
        if index_bytes.len() < least || u32_at(header, 120)? != crc32(index_bytes) {
            return None;
        }
        Some(LayerListing { bytes, entries, index, blocks, members, moved: MovedDirectories::new() })
    }

    /// Returns the number of entries, including whiteouts and implied directories.
    pub fn len(&self) -> u64 {
        self.entries
    }

    /// Returns whether the layer has no entries.
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Returns the listing with the directories whose entries were moved.
    pub(super) fn with_moved(self, moved: MovedDirectories) -> LayerListing {
        LayerListing { moved, ..self }
    }

    /// Returns a directory of the layer that is a link in the layers below, so that its entries are listed elsewhere.
    pub(in crate::layers) fn first_moved(&self) -> Option<&[u8]> {
        self.moved.first().map(|(from, _)| from.as_slice())
    }

    /// Returns the path at which the entry of the layer at `path` is listed.
    pub(super) fn place(&self, path: &[u8]) -> Vec<u8> {
        place(&self.moved, path)
    }

    /// Returns the gzip members of the blob, in order; none if they are not known.
    pub(super) fn members(&self) -> impl Iterator<Item = NotedMember> + '_ {
        let start = self.bytes.len().saturating_sub(self.members * MEMBER);
        self.bytes[start..].chunks_exact(MEMBER).filter_map(|bytes| {
            let digest = Digest::from_sha256(bytes.get(16..)?.try_into().ok()?);
            Some(NotedMember { packed_end: u64_at(bytes, 0)?, end: u64_at(bytes, 8)?, digest })
        })
    }

    /// Returns whether every block has its checksum. All of the listing is read for it.
    pub(crate) fn is_intact(&self) -> bool {
        (0..self.blocks).all(|number| self.block(number).is_ok())
    }

    /// Looks up the layer's entry for `path`, which is written without a leading slash.
    ///
    /// # Errors
    /// Returns an error if the block of the listing that would hold it is damaged.
    pub fn find(&self, path: &[u8]) -> Result<Option<ListedEntry>> {
        // The last block whose first path is not greater than `path`.
        let (mut low, mut high) = (0, self.blocks);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.first_path(middle)? <= path { low = middle + 1 } else { high = middle }
        }
        let Some(block) = low.checked_sub(1) else { return Ok(None) };
        for entry in self.block(block)? {
            let entry = entry?;
            match (*entry.path).cmp(path) {
                std::cmp::Ordering::Less => {}
                std::cmp::Ordering::Equal => return Ok(Some(entry)),
                std::cmp::Ordering::Greater => break,
            }
        }
        Ok(None)
    }

    /// Iterates over the entries in the order of the bytes of their paths.
    ///
    /// An item is an error if the listing is damaged. Items after it are unreliable.
    pub fn entries(&self) -> impl Iterator<Item = Result<ListedEntry>> + '_ {
        (0..self.blocks).flat_map(|number| {
            let (block, error) = match self.block(number) {
                Ok(block) => (Some(block), None),
                Err(error) => (None, Some(Err(error))),
            };
            block.into_iter().flatten().chain(error)
        })
    }

    /// Returns the index slot of a block: its offset, length and checksum.
    fn slot(&self, number: usize) -> Option<&[u8]> {
        self.bytes.get(self.index + number * SLOT..)?.get(..SLOT)
    }

    fn first_path(&self, number: usize) -> Result<&[u8]> {
        let path = || {
            let slot = self.slot(number)?;
            let start = self.index + self.blocks * SLOT + u32_at(slot, 16)? as usize;
            self.bytes.get(start..)?.get(..u32_at(slot, 20)? as usize)
        };
        path().ok_or_else(damaged)
    }

    fn block(&self, number: usize) -> Result<ListingBlock<'_>> {
        let bytes = || {
            let slot = self.slot(number)?;
            let start = usize::try_from(u64_at(slot, 0)?).ok()?;
            let bytes = self.bytes.get(start..)?.get(..u32_at(slot, 8)? as usize)?;
            (crc32(bytes) == u32_at(slot, 12)?).then_some(bytes)
        };
        Ok(ListingBlock { rest: BlockDecoder(bytes().ok_or_else(damaged)?), path: Vec::new() })
    }
}

fn damaged() -> Error {
    Error::corrupt("listing of a layer", "damaged")
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// The entries of one block.
struct ListingBlock<'a> {
    rest: BlockDecoder<'a>,
    /// The path of the previous entry.
    path: Vec<u8>,
}

impl Iterator for ListingBlock<'_> {
    type Item = Result<ListedEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.0.is_empty() {
            return None;
        }
        let entry = self.rest.entry(&mut self.path);
        if entry.is_none() {
            self.rest.0 = &[];
        }
        Some(entry.ok_or_else(damaged))
    }
}

/// Bits of an entry's first byte: two flags, and a mask for its kind.
pub(super) const WHITEOUT: u8 = 0x40;
pub(super) const OPAQUE: u8 = 0x80;
pub(super) const KIND: u8 = 0x0f;

/// Decodes values from the front of a block.
struct BlockDecoder<'a>(&'a [u8]);

impl<'a> BlockDecoder<'a> {
    fn take(&mut self, length: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|byte| byte[0])
    }

    fn number(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn string(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.take(length)
    }

    fn entry(&mut self, path: &mut Vec<u8>) -> Option<ListedEntry> {
        let shared = usize::try_from(self.number()?).ok().filter(|&shared| shared <= path.len())?;
        path.truncate(shared);
        path.extend_from_slice(self.string()?);
        let first = self.byte()?;
        let node = if first & KIND == 0 { None } else { Some(self.node(first & KIND)?) };
        let is_file = node.as_ref().is_some_and(|node| matches!(node.kind, ListedKind::File { .. }));
        let start = if is_file { self.number()? } else { 0 };
        let (is_whiteout, is_opaque) = (first & WHITEOUT != 0, first & OPAQUE != 0);
        Some(ListedEntry { path: path.clone(), node, start, is_whiteout, is_opaque })
    }

    fn node(&mut self, kind: u8) -> Option<ListedNode> {
        let mode = u16::try_from(self.number()?).ok()?;
        let (uid, gid) = (u32::try_from(self.number()?).ok()?, u32::try_from(self.number()?).ok()?);
        let mtime = self.number()?;
        let mtime = (mtime >> 1) as i64 ^ -((mtime & 1) as i64);
        let kind = match kind {
            1 => ListedKind::Directory,
            2 => ListedKind::ImpliedDirectory,
            3 => {
                let (size, program) = (self.number()?, self.number()?);
                let program = match program {
                    0 => Program::Unknown,
                    1 => Program::Script,
                    machine => Program::Elf(u16::try_from(machine - 2).ok()?),
                };
                let content = match self.number()? {
                    0 => None,
                    length => Some(self.take(length - 1)?.to_vec()),
                };
                ListedKind::File { size, program, content }
            }
            4 => ListedKind::Symlink { target: self.string()?.to_vec() },
            5 => ListedKind::HardLink { target: self.string()?.to_vec() },
            6 => ListedKind::CharacterDevice,
            7 => ListedKind::BlockDevice,
            8 => ListedKind::Fifo,
            _ => return None,
        };
        let mut xattrs = Vec::new();
        for _ in 0..self.number()? {
            xattrs.push((self.string()?.to_vec(), self.string()?.to_vec()));
        }
        Some(ListedNode { kind, mode, uid, gid, mtime, xattrs: xattrs.into() })
    }
}
