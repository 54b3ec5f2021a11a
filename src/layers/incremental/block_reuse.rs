//! The sources of a block's compressed bytes: the compressor, a blob that holds the block already, a store of the blocks of
//! other layers, or files that hold ranges of it in gzip.
//!
//! Why a layer with reused blocks is correct: its digest is the hash of the written bytes, except for its prefix, whose
//! hash resumes from a state that the build of the earlier layer kept. The prefix is copied from the earlier blob, whose
//! digest is verified as a whole (`OpenBlob`), and is checked again after the copy. Its diff ID is the hash of the bytes
//! that were read from files now, again except for the prefix. That both belong to the same tar follows from the record
//! of the earlier layer: it was written by the build that made the blob, is protected by a checksum, and belongs to its
//! digest. If files are read, the checksum of each block is also compared with that record, so that wrong stamps of a
//! file system cause a compression, and not a wrong layer. A block from a store is decompressed and compared.

use crate::codec::compression::{Compression, Compressor};
use crate::common::digest::Hasher;
use crate::common::error::{Error, Result};
use crate::common::file_section::append_from;
use crate::layers::block_boundaries::Blocks;
use crate::layers::fill_block::Taken;
use crate::layers::incremental::block_comparer::BlockComparer;
use crate::layers::incremental::block_store::BlockStore;
use crate::layers::incremental::previous_layer::DoneBlock;
use crate::store::OpenBlob;
use std::collections::BTreeMap;

/// The location of a compressed block in a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::layers) struct BlockPlace {
    /// The offset of its compressed bytes.
    pub(in crate::layers) offset: u64,
    /// The number of compressed bytes.
    pub(in crate::layers) length: u32,
    /// The number of bytes of the tar that they hold.
    pub(in crate::layers) tar_length: u64,
    /// The checksum of those bytes of the tar (`block_checksums`).
    pub(in crate::layers) sum: u32,
}

/// The data that a layer reuses from the blob of an earlier one.
#[derive(Debug)]
pub struct Reuse {
    /// The blob of the earlier layer.
    pub(in crate::layers) blob: OpenBlob,
    /// The blocks of the new layer.
    pub(in crate::layers) blocks: Blocks,
    /// The locations in the blob of the new blocks that it holds.
    pub(in crate::layers) places: BTreeMap<usize, BlockPlace>,
    /// The blocks that both layers begin with.
    pub(in crate::layers) prefix: Prefix,
}

/// The blocks that two layers begin with.
#[derive(Debug, Clone)]
pub(in crate::layers) struct Prefix {
    /// The blocks themselves.
    pub(in crate::layers) done: Vec<DoneBlock>,
    /// Their length in the blob, in bytes.
    pub(in crate::layers) size: u64,
    /// The hash of the tar up to their end.
    pub(in crate::layers) tar: Hasher,
    /// The hash of the blob up to their end.
    pub(in crate::layers) blob: Hasher,
    /// The checksums of the contents of their entries.
    pub(in crate::layers) contents: Vec<u32>,
}

impl Prefix {
    pub(in crate::layers) fn nothing() -> Self {
        Prefix { done: Vec::new(), size: 0, tar: Hasher::sha256(), blob: Hasher::sha256(), contents: Vec::new() }
    }
}

/// The source of one block's compressed bytes.
#[derive(Debug, Clone, Copy)]
pub(in crate::layers) enum Packing<'a> {
    /// A store of blocks has them, or the compressor produces them.
    Compress(Option<&'a dyn BlockStore>),
    /// They are copied from a blob, if they hold the right block.
    Copy(&'a OpenBlob, BlockPlace),
    /// The compressor produces them, except for ranges of the block that are already gzip.
    TakeOver(&'a [Taken]),
}

/// The compressed bytes of a block, with their source.
#[derive(Debug)]
pub(in crate::layers) enum Packed {
    /// From the compressor.
    Compressed(Vec<u8>),
    /// From the blob of an earlier layer.
    Copied(Vec<u8>),
}

impl Packed {
    pub(in crate::layers) fn bytes(&self) -> &[u8] {
        match self {
            Packed::Compressed(bytes) | Packed::Copied(bytes) => bytes,
        }
    }
}

impl Reuse {
    /// Returns the source of the bytes of block `number`, if it is the blob.
    pub(in crate::layers) fn packing(&self, number: usize) -> Option<Packing<'_>> {
        self.places.get(&number).map(|&place| Packing::Copy(&self.blob, place))
    }
}

/// Compresses or copies blocks. Each thread has its own.
#[derive(Debug, Default)]
pub(in crate::layers) struct Packer {
    compressor: Option<(Compression, Compressor)>,
    comparer: BlockComparer,
}

impl Packer {
    /// Returns the compressed form of `block`, whose checksum is `sum`.
    pub(in crate::layers) fn pack(
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
            Packing::Compress(Some(store)) if store.compression() == compression => {
                let stored = store.find(sum, block.len() as u64);
                match stored.filter(|packed| self.comparer.is_packed(block, packed, compression)) {
                    Some(packed) => Ok(Packed::Copied(packed)),
                    None => self.compress(block, compression).map(Packed::Compressed),
                }
            }
            Packing::Copy(..) | Packing::Compress(_) => self.compress(block, compression).map(Packed::Compressed),
        }
    }

    fn compress(&mut self, block: &[u8], compression: Compression) -> Result<Vec<u8>> {
        let mut packed = Vec::new();
        self.compressor(compression)?.compress(block, &mut packed)?;
        Ok(packed)
    }

    /// Joins the reused members with newly compressed members for the data between them.
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

/// Returns the compressed bytes at `place` of an earlier blob.
pub(in crate::layers) fn copied(blob: &OpenBlob, place: BlockPlace) -> Result<Vec<u8>> {
    let (mut packed, length) = (Vec::new(), place.length as usize);
    let read = append_from(blob.file(), place.offset, length, &mut packed)
        .map_err(|error| Error::io(blob.object(), "read", error))?;
    if read < length {
        return Err(Error::corrupt(blob.object(), "truncated during the build"));
    }
    packed.truncate(length);
    Ok(packed)
}
