//! Where the compressed bytes of a block come from: the compressor, a blob that holds the block already, or sources that
//! hold parts of it in gzip.
//!
//! Why a layer that is partly taken over is right. Its digest is the hash of the bytes that were written, except for its
//! prefix, whose hash goes on from a state that the build of the earlier layer kept; the prefix is copied from the earlier
//! blob, which as a whole has its digest (`OpenBlob`), and is looked at again when the copy is done. Its diff ID is the
//! hash of the bytes that files gave now, again except for the prefix. That both are of one tar rests on the list of the
//! earlier layer: it was written by the build that made the blob, stands behind a checksum, and belongs to its digest.
//! Where files are read, the checksum of each block is held against that list too, so that a file system whose stamps lie
//! costs a compression, and not the truth.

use super::blocks::Blocks;
use super::earlier::DoneBlock;
use super::fill::Taken;
use crate::compression::{Compression, Compressor};
use crate::digest::Hasher;
use crate::error::{Error, Result};
use crate::section::append_from;
use crate::store::OpenBlob;
use std::collections::BTreeMap;

/// Where a block stands in a blob, compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Where its compressed bytes begin.
    pub(super) offset: u64,
    /// How many there are.
    pub(super) length: u32,
    /// How many bytes of a tar they hold.
    pub(super) tar_length: u64,
    /// The checksum of those (`sums`).
    pub(super) sum: u32,
}

/// What a layer takes over from the blob of an earlier one.
#[derive(Debug)]
pub struct Reuse {
    /// That blob.
    pub(super) blob: OpenBlob,
    /// What the new layer is cut into.
    pub(super) blocks: Blocks,
    /// Where those of these blocks that it holds stand in the blob.
    pub(super) places: BTreeMap<usize, Place>,
    /// What both begin with.
    pub(super) prefix: Prefix,
}

/// The blocks that two layers begin with.
#[derive(Debug, Clone)]
pub(super) struct Prefix {
    /// These.
    pub(super) done: Vec<DoneBlock>,
    /// How many bytes of the blob they take.
    pub(super) size: u64,
    /// The hash of the tar up to their end.
    pub(super) tar: Hasher,
    /// The hash of the blob up to their end.
    pub(super) blob: Hasher,
    /// The checksums of what their entries hold.
    pub(super) contents: Vec<u32>,
}

impl Prefix {
    pub(super) fn nothing() -> Self {
        Prefix { done: Vec::new(), size: 0, tar: Hasher::sha256(), blob: Hasher::sha256(), contents: Vec::new() }
    }
}

/// The source of one block's compressed bytes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Packing<'a> {
    /// The compressor makes them.
    Compress,
    /// They are copied, if they hold the block that they should.
    Copy(&'a OpenBlob, Place),
    /// The compressor makes them, but for the parts of the block that are gzip already.
    TakeOver(&'a [Taken]),
}

/// A block's compressed bytes, and where they came from.
#[derive(Debug)]
pub(super) enum Packed {
    /// From the compressor.
    Compressed(Vec<u8>),
    /// From an earlier blob.
    Copied(Vec<u8>),
}

impl Packed {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Packed::Compressed(bytes) | Packed::Copied(bytes) => bytes,
        }
    }
}

impl Reuse {
    /// Where the bytes of block `number` come from.
    pub(super) fn packing(&self, number: usize) -> Packing<'_> {
        match self.places.get(&number) {
            Some(&place) => Packing::Copy(&self.blob, place),
            None => Packing::Compress,
        }
    }
}

/// Packs block after block; one per thread.
#[derive(Debug, Default)]
pub(super) struct Packer {
    compressor: Option<(Compression, Compressor)>,
}

impl Packer {
    /// The compressed form of `block`, whose checksum is `sum`.
    pub(super) fn pack(
        &mut self,
        block: &[u8],
        sum: u32,
        packing: Packing<'_>,
        compression: Compression,
    ) -> Result<Packed> {
        match packing {
            Packing::Copy(blob, place) if (place.sum, place.tar_length) == (sum, block.len() as u64) => {
                copied(blob, place).map(Packed::Copied)
            }
            Packing::TakeOver(taken) => self.join(block, taken, compression).map(Packed::Compressed),
            Packing::Copy(..) | Packing::Compress => self.compress(block, compression).map(Packed::Compressed),
        }
    }

    fn compress(&mut self, block: &[u8], compression: Compression) -> Result<Vec<u8>> {
        let mut packed = Vec::new();
        self.compressor(compression)?.compress(block, &mut packed)?;
        Ok(packed)
    }

    /// The members that were taken over, and between them members of ours.
    fn join(&mut self, block: &[u8], taken: &[Taken], compression: Compression) -> Result<Vec<u8>> {
        let compressor = self.compressor(compression)?;
        let (mut packed, mut own, mut at) = (Vec::new(), Vec::new(), 0);
        let end = block.len();
        let ends = [(end..end, &[][..])];
        for (range, members) in taken.iter().map(|part| (part.range.clone(), &part.members[..])).chain(ends) {
            if at < range.start {
                compressor.compress(&block[at..range.start], &mut own)?;
                packed.extend_from_slice(&own);
            }
            packed.extend_from_slice(members);
            at = range.end;
        }
        Ok(packed)
    }

    fn compressor(&mut self, wanted: Compression) -> Result<&mut Compressor> {
        let compressor = match self.compressor.take() {
            Some((compression, compressor)) if compression == wanted => compressor,
            _ => Compressor::new(wanted)?,
        };
        Ok(&mut self.compressor.insert((wanted, compressor)).1)
    }
}

/// The compressed bytes at `place` of an earlier blob.
pub(super) fn copied(blob: &OpenBlob, place: Place) -> Result<Vec<u8>> {
    let (mut packed, length) = (Vec::new(), place.length as usize);
    let read = append_from(blob.file(), place.offset, length, &mut packed)
        .map_err(|error| Error::io(blob.object(), "read", error))?;
    if read < length {
        return Err(Error::corrupt(blob.object(), "truncated while it was read"));
    }
    packed.truncate(length);
    Ok(packed)
}
