//! Finding the blocks of a tree in an earlier layer.
//!
//! A block is the same as an earlier one if its entries are, and it begins at the same place in the first of them. Where
//! the file system vouches for every entry (names, attributes and stamps are equal) no file is opened. Where only names,
//! attributes and sizes are equal, as in a fresh checkout, the block is made and compared with what the earlier blob holds,
//! byte by byte; that is still a multiple faster than compressing it.

use super::blocks::{Block, cut};
use super::earlier::{DoneBlock, EarlierLayer, Fingerprint, spans};
use super::fill::{fill, is_part_of_stream};
use super::packing::{Place, Prefix, Reuse, copied};
use crate::compression::{Compression, Decompressor};
use crate::digest::{Digest, Hasher};
use crate::error::Result;
use crate::store::OpenBlob;
use crate::tree::Tree;
use rayon::prelude::*;
use std::collections::BTreeMap;

/// What a comparison came to.
#[derive(Debug)]
pub enum Comparison {
    /// The tree makes the very same layer.
    Same,
    /// It makes another one, which takes over so much.
    Other(Box<Reuse>),
}

/// Compares `tree`, whose entries have the `fingerprints`, with an earlier layer, whose blob is `blob`.
///
/// # Errors
/// When a file that has to be read cannot be, or has changed.
pub fn compare(
    tree: &Tree,
    fingerprints: &[Fingerprint],
    earlier: &EarlierLayer,
    blob: OpenBlob,
    compression: Compression,
) -> Result<Comparison> {
    let blocks = cut(tree);
    let places = places(earlier);
    let found = search(&blocks, fingerprints, earlier);
    let compared: Vec<Option<usize>> = found
        .into_par_iter()
        .enumerate()
        .map_init(Examiner::default, |examiner, (number, found)| {
            let known = match found {
                Found::Same(known) => return Ok(Some(known)),
                Found::SameShape(known) if !is_part_of_stream(tree, &blocks, number) => known,
                Found::SameShape(_) | Found::Nowhere => return Ok(None),
            };
            fill(tree, &blocks[number], &mut None, None, &mut examiner.filled)?;
            Ok(examiner.is_at(&blob, places[known], compression).then_some(known))
        })
        .collect::<Result<_>>()?;
    let in_place = compared.iter().enumerate().take_while(|(number, known)| **known == Some(*number)).count();
    if in_place == blocks.len() && in_place == earlier.blocks.len() {
        return Ok(Comparison::Same);
    }
    let prefix = prefix(&blocks[..in_place], blocks.get(in_place), earlier);
    let places = compared.into_iter().map(|known| known.map(|known| places[known])).collect();
    Ok(Comparison::Other(Box::new(Reuse { blob, blocks, places, prefix })))
}

/// Where a block may be.
#[derive(Debug, Clone, Copy)]
enum Found {
    /// There, the file system says.
    Same(usize),
    /// There, unless its content is another.
    SameShape(usize),
    /// It is new.
    Nowhere,
}

fn search(blocks: &[Block], fingerprints: &[Fingerprint], earlier: &EarlierLayer) -> Vec<Found> {
    let (mut whole, mut shapes) = (BTreeMap::new(), BTreeMap::new());
    let earlier_blocks: Vec<Block> = earlier.blocks.iter().map(|done| done.block).collect();
    let earlier_fingerprints: Vec<Fingerprint> = earlier.entries.iter().map(|entry| entry.fingerprint).collect();
    for (number, names) in names(&earlier_blocks, &earlier_fingerprints).enumerate() {
        shapes.insert(names.shape, number);
        if let Some(name) = names.whole {
            whole.insert(name, number);
        }
    }
    let find = |names: Names| match names.whole.and_then(|name| whole.get(&name)) {
        Some(&number) => Found::Same(number),
        None => shapes.get(&names.shape).map_or(Found::Nowhere, |&number| Found::SameShape(number)),
    };
    names(blocks, fingerprints).map(find).collect()
}

/// What a block is known by.
struct Names {
    shape: Digest,
    whole: Option<Digest>,
}

fn names<'a>(blocks: &'a [Block], fingerprints: &'a [Fingerprint]) -> impl Iterator<Item = Names> {
    blocks.iter().zip(spans(blocks, fingerprints.len())).map(|(block, span)| {
        let Block { entry: _, offset, length } = block;
        let mut shape = Hasher::sha256();
        shape.update(&offset.to_be_bytes());
        shape.update(&length.to_be_bytes());
        let mut whole = Some(shape.clone());
        for Fingerprint { shape: part, whole: whole_part } in &fingerprints[span] {
            shape.update(&part.to_be_bytes());
            whole = whole.zip(*whole_part).map(|(mut whole, part)| {
                whole.update(&part);
                whole
            });
        }
        Names { shape: shape.finish(), whole: whole.map(Hasher::finish) }
    })
}

/// Where each block stands in the earlier blob.
fn places(earlier: &EarlierLayer) -> Vec<Place> {
    let places = earlier.blocks.iter().scan(0, |offset, done| {
        let place = Place { offset: *offset, length: done.packed, tar_length: done.block.length, sum: done.sum };
        *offset += u64::from(done.packed);
        Some(place)
    });
    places.collect()
}

/// What need not even be looked at: the blocks at the start that both layers have, up to the last whole entry.
fn prefix(in_place: &[Block], next: Option<&Block>, earlier: &EarlierLayer) -> Prefix {
    let mut count = in_place.len();
    if next.is_some_and(|next| next.offset > 0) {
        count = in_place.iter().rposition(|block| block.offset == 0).unwrap_or(0);
    }
    let done: Vec<DoneBlock> = earlier.blocks[..count].to_vec();
    let resumed = done.last().and_then(|last| Some((Hasher::resume(&last.tar)?, Hasher::resume(&last.blob)?)));
    let Some((tar, blob)) = resumed else { return Prefix::nothing() };
    let entries = in_place.get(count).or(next).map_or(earlier.entries.len(), |next| next.entry);
    Prefix {
        size: done.iter().map(|done| u64::from(done.packed)).sum(),
        contents: earlier.entries.iter().take(entries).map(|entry| entry.content).collect(),
        done,
        tar,
        blob,
    }
}

/// Compares blocks; one per thread.
#[derive(Debug, Default)]
struct Examiner {
    decompressor: Decompressor,
    filled: Vec<u8>,
    earlier: Vec<u8>,
}

impl Examiner {
    /// Whether the block that was filled last stands at `place`. What cannot be read there is another block.
    fn is_at(&mut self, blob: &OpenBlob, place: Place, compression: Compression) -> bool {
        let Ok(packed) = copied(blob, place) else { return false };
        place.tar_length == self.filled.len() as u64
            && self
                .decompressor
                .decompress(&packed, compression.encoding(), self.filled.len(), &mut self.earlier)
                .is_ok()
            && self.earlier == self.filled
    }
}
