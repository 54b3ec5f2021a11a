//! Records of a layer that was made before, so that its next build reuses the unchanged blocks.

use crate::codec::tar;
use crate::common::digest::{HashState, Hasher};
use crate::layers::Layer;
use crate::layers::block_boundaries::{Block, Blocks, LARGEST};
use std::ops::Range;

/// A layer that was made before, with its entries and blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviousLayer {
    /// The layer.
    pub layer: Layer,
    /// The entries of its tree, in order.
    pub entries: Vec<PreviousEntry>,
    /// The blocks of its tar.
    pub blocks: Vec<DoneBlock>,
}

/// An entry of a layer that was made before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviousEntry {
    /// Its path.
    pub path: Box<[u8]>,
    /// The fingerprint of its attributes and content.
    pub fingerprint: Fingerprint,
    /// The length of its content in bytes.
    pub size: u64,
    /// A checksum of its content, sufficient for reports of changes.
    pub content: u32,
}

/// Hashes of an entry that are computed without reading its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    /// The hash of everything but the content. It is short, so bytes must be compared if it is equal.
    pub shape: u64,
    /// The hash of everything, including the content; `None` if the content must be read to compute it.
    pub whole: Option<[u8; 16]>,
}

/// A block of a finished layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoneBlock {
    /// Its range in the tar.
    pub block: Block,
    /// Its length in the blob, in bytes.
    pub packed: u32,
    /// The checksum of the block.
    pub sum: u32,
    /// The hash of the tar up to its end.
    pub tar: HashState,
    /// The hash of the blob up to its end.
    pub blob: HashState,
}

impl PreviousLayer {
    /// Returns whether the fields are consistent with each other, as in every finished layer.
    pub fn is_consistent(&self) -> bool {
        let PreviousLayer { layer, entries, blocks } = self;
        let in_order = blocks.windows(2).all(|pair| {
            let (block, next) = (&pair[0].block, &pair[1].block);
            (block.entry, block.offset) < (next.entry, next.offset)
        });
        let first = blocks.first().is_some_and(|done| done.block.entry == 0 && done.block.offset == 0);
        let last = blocks.last().is_some_and(|done| done.block.entry <= entries.len());
        let small = |done: &DoneBlock| done.block.length <= LARGEST + tar::END.len() as u64;
        let states = |done: &DoneBlock| Hasher::resume(&done.tar).and(Hasher::resume(&done.blob)).is_some();
        in_order
            && first
            && last
            && blocks.iter().all(|done| small(done) && states(done))
            && blocks.iter().map(|done| done.block.length).sum::<u64>() == layer.tar_size
            && blocks.iter().map(|done| u64::from(done.packed)).sum::<u64>() == layer.descriptor.size
    }
}

/// Returns the entries that block `number` overlaps, in a tree of `entries` entries.
pub(in crate::layers) fn span(blocks: &Blocks, number: usize, entries: usize) -> Range<usize> {
    let begin = blocks.get(number).map_or(entries, |block| block.entry);
    let end = blocks.get(number + 1).map_or(entries, |next| next.entry + usize::from(next.offset > 0));
    begin.min(entries)..end.min(entries)
}
