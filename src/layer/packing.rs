//! Where the compressed bytes of a block come from: the compressor, a blob that holds the block already, or sources that
//! hold parts of it in gzip.

use super::fill::Taken;
use crate::compression::{Compression, Compressor};
use crate::error::{Error, Result};
use crate::section::read_full_at;
use std::fs::File;
use std::sync::Arc;

/// Where a block stands in a blob, compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Where its compressed bytes begin.
    pub offset: u64,
    /// How many there are.
    pub length: u32,
    /// The checksum of what they hold (`sums`).
    pub sum: u32,
}

/// What a layer takes over from the blob of an earlier one.
#[derive(Debug)]
pub struct Reuse {
    /// That blob, verified as a whole.
    pub(super) blob: Arc<File>,
    /// Where each block of the new layer stands in it.
    pub(super) places: Vec<Option<Place>>,
}

/// The source of one block's compressed bytes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Packing<'a> {
    /// The compressor makes them.
    Compress,
    /// They are copied, if they hold the block that they should.
    Copy(&'a File, Place),
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
        match self.places.get(number).copied().flatten() {
            Some(place) => Packing::Copy(&self.blob, place),
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
            // Whatever led to that place, it holds other bytes. Files whose stamps lie are made anew, not lost.
            Packing::Copy(blob, place) if place.sum == sum => copied(blob, place).map(Packed::Copied),
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

fn copied(blob: &File, place: Place) -> Result<Vec<u8>> {
    let mut packed = vec![0; place.length as usize];
    let read = read_full_at(blob, &mut packed, place.offset)
        .map_err(|error| Error::io("blob of an earlier layer", "read", error))?;
    if read < packed.len() {
        return Err(Error::corrupt("blob of an earlier layer", "truncated while it was read"));
    }
    Ok(packed)
}
