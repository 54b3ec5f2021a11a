//! What is known of a layer that was made before, so that the next build of it takes over what did not change.

use super::blocks::{Block, Blocks, LARGEST};
use super::write::Layer;
use crate::digest::{HashState, Hasher};
use crate::tar;
use std::ops::Range;

/// A layer that was made before, entry by entry and block by block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EarlierLayer {
    /// The layer.
    pub layer: Layer,
    /// What its tree held, in order.
    pub entries: Vec<EarlierEntry>,
    /// What its tar was cut into.
    pub blocks: Vec<DoneBlock>,
}

/// An entry of a layer that was made before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EarlierEntry {
    /// Where it was.
    pub path: Box<[u8]>,
    /// What it was like.
    pub fingerprint: Fingerprint,
    /// The length of its content in bytes.
    pub size: u64,
    /// A checksum of its content, good enough to tell people of changes.
    pub content: u32,
}

/// What an entry is like, told without reading its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    /// Of everything but the content. It is short: where it is equal, bytes have to be compared.
    pub shape: u64,
    /// Of everything, the content included; nothing where only reading tells what that is.
    pub whole: Option<[u8; 16]>,
}

/// A block of a finished layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoneBlock {
    /// Where it was cut.
    pub block: Block,
    /// How many bytes it takes in the blob.
    pub packed: u32,
    /// The checksum of the block.
    pub sum: u32,
    /// The hash of the tar up to its end.
    pub tar: HashState,
    /// The hash of the blob up to its end.
    pub blob: HashState,
}

impl EarlierLayer {
    /// Whether the parts fit together, as those of every finished layer do.
    pub fn is_consistent(&self) -> bool {
        let EarlierLayer { layer, entries, blocks } = self;
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

/// The entries of which block `number` holds something, in a tree of so many.
pub(super) fn span(blocks: &Blocks, number: usize, entries: usize) -> Range<usize> {
    let begin = blocks.get(number).map_or(entries, |block| block.entry);
    let end = blocks.get(number + 1).map_or(entries, |next| next.entry + usize::from(next.offset > 0));
    begin.min(entries)..end.min(entries)
}
