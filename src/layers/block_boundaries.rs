//! Block boundaries of a layer.
//!
//! These rules are part of every compressed digest. They depend only on the entries near a cut, so that an edit moves the
//! cuts in its neighbourhood and no others: blocks elsewhere keep their bytes.
//!
//! * A file of 1 MiB or more starts a block and is cut, including its header, every 1 MiB. The rest of it starts the next
//!   block.
//! * Any other entry joins the current block, unless the block would exceed 1 MiB. Then it starts the next block.
//! * A block of 256 KiB or more ends after an entry whose path hashes below a bound. The bound grows with the size of the
//!   entry, so that cuts come about every 512 KiB, independent of the sizes of the files.

use crate::codec::tar;
use crate::common::digest::Digest;
use crate::layers::tree::{Entry, Tree};

/// The largest block, and the size from which a file is itself cut, in bytes.
pub(super) const LARGEST: u64 = 1 << 20;
/// The smallest block that ends by choice, in bytes.
const SMALLEST: u64 = 256 << 10;
/// The average number of bytes between two chosen cuts, beyond the smallest block.
const SPREAD: u64 = 512 << 10;

/// A range of a layer's tar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// The entry that the block begins in; one past the last entry for an empty layer.
    pub entry: usize,
    /// The offset in that entry (its header, content and padding) at which the block begins.
    pub offset: u64,
    /// The length of the block in bytes. The last block includes the end of the archive.
    pub length: u64,
}

/// Returns the number of bytes that an entry takes in the tar.
pub(super) fn entry_length(entry: &Entry) -> u64 {
    tar::encoded_length(&entry.header()) + entry.size() + tar::padding(entry.size())
}

/// Returns whether all of a file of this size is in one block.
pub fn is_in_one_block(size: u64) -> bool {
    size < LARGEST
}

/// The blocks of a tar, in order.
///
/// The blocks of a large file are kept as one run, so that memory depends on the number of entries, and not on the sizes
/// that they claim to have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Blocks {
    runs: Vec<Run>,
    count: usize,
}

/// Consecutive blocks in one entry, or a single block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    /// The number of the first block.
    first: usize,
    /// The first block. The others have the same length, and each begins where the previous one ends.
    pub(super) block: Block,
    /// The number of blocks.
    pub(super) count: usize,
}

impl Blocks {
    fn push(&mut self, block: Block, count: u64) {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        self.runs.push(Run { first: self.count, block, count });
        self.count = self.count.saturating_add(count);
    }

    /// Returns the number of blocks.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Returns the length of all blocks together, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.runs.iter().map(|run| run.block.length * run.count as u64).sum()
    }

    /// Returns block `number`, or `None` if there are fewer blocks.
    pub(super) fn get(&self, number: usize) -> Option<Block> {
        let run = self.runs[..self.runs.partition_point(|run| run.first <= number)].last()?;
        let (nth, Block { entry, offset, length }) = (number - run.first, run.block);
        (nth < run.count).then(|| Block { entry, offset: offset + nth as u64 * length, length })
    }

    /// Returns all blocks.
    pub(super) fn iter(&self) -> impl Iterator<Item = Block> {
        (0..self.count).map_while(|number| self.get(number))
    }

    /// Returns the runs of blocks.
    pub(super) fn runs(&self) -> &[Run] {
        &self.runs
    }
}

impl Run {
    /// Returns the numbers of its blocks.
    pub(super) fn numbers(&self) -> std::ops::Range<usize> {
        self.first..self.first + self.count
    }
}

impl FromIterator<Block> for Blocks {
    fn from_iter<I: IntoIterator<Item = Block>>(blocks: I) -> Self {
        let mut collected = Blocks::default();
        blocks.into_iter().for_each(|block| collected.push(block, 1));
        collected
    }
}

/// Cuts the tar of `tree` into blocks, including the two zero blocks at its end.
pub(super) fn cut(tree: &Tree) -> Blocks {
    let mut blocks = Blocks::default();
    let mut current = Block { entry: 0, offset: 0, length: 0 };
    let start_at = |blocks: &mut Blocks, current: &mut Block, entry: usize, offset: u64| {
        if current.length > 0 {
            blocks.push(*current, 1);
        }
        *current = Block { entry, offset, length: 0 };
    };
    for (number, entry) in tree.entries_from(0) {
        let length = entry_length(&entry);
        if !is_in_one_block(entry.size()) {
            start_at(&mut blocks, &mut current, number, 0);
            // The rest is not empty, so that something follows the last whole piece.
            let pieces = (length - 1) / LARGEST;
            if pieces > 0 {
                blocks.push(Block { entry: number, offset: 0, length: LARGEST }, pieces);
            }
            let offset = pieces * LARGEST;
            current = Block { entry: number, offset, length: length - offset };
            continue;
        }
        if current.length + length > LARGEST {
            start_at(&mut blocks, &mut current, number, 0);
        }
        current.length += length;
        if current.length >= SMALLEST && ends_a_block(&entry, length) {
            start_at(&mut blocks, &mut current, number + 1, 0);
        }
    }
    current.length += tar::END.len() as u64;
    blocks.push(current, 1);
    blocks
}

fn ends_a_block(entry: &Entry, length: u64) -> bool {
    let digest = Digest::of(entry.path.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&digest.as_bytes()[..8]);
    let bound = (u128::from(u64::MAX) * u128::from(length) / u128::from(SPREAD)).min(u128::from(u64::MAX));
    u128::from(u64::from_be_bytes(first)) < bound
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::tree::{Content, Kind, Rules, TreeBuilder};
    use std::sync::Arc;

    fn tree(files: impl IntoIterator<Item = (String, u64)>) -> Tree {
        let mut builder = TreeBuilder::new(&Rules::default());
        for (path, size) in files {
            let kind = Kind::File { size, content: Content::Bytes(Arc::from(&b""[..])) };
            builder.add(Entry { kind, ..Entry::test_file(path, b"") }).unwrap();
        }
        builder.finish().unwrap()
    }

    fn many() -> Vec<(String, u64)> {
        (0..3000_u64).map(|number| (format!("file{number:05}"), number * 7919 % 20_000)).collect()
    }

    /// Returns the offsets in the tar at which blocks begin.
    fn starts(tree: &Tree) -> Vec<u64> {
        cut(tree)
            .iter()
            .scan(0, |at, block| {
                *at += block.length;
                Some(*at - block.length)
            })
            .collect()
    }

    #[test]
    fn blocks_cover_the_tar_exactly() {
        for files in
            [vec![], vec![("a".to_owned(), 1)], many(), vec![("big".to_owned(), 10 << 20), ("small".to_owned(), 3)]]
        {
            let tree = tree(files);
            let total: u64 = tree.entries().map(|entry| entry_length(&entry)).sum();
            let blocks = cut(&tree);
            assert_eq!(blocks.iter().map(|block| block.length).sum::<u64>(), total + 1024);
            assert_eq!((blocks.bytes(), blocks.iter().count()), (total + 1024, blocks.len()));
            for (block, next) in blocks.iter().zip(blocks.iter().skip(1)) {
                assert!(block.length <= LARGEST && block.length > 0);
                assert!((next.entry, next.offset) > (block.entry, block.offset));
            }
        }
    }

    #[test]
    fn an_edit_moves_only_the_cuts_near_it() {
        let mut files = many();
        let before = starts(&tree(files.clone()));
        files[1500].1 += 512;
        let after = starts(&tree(files));
        let near_the_start = before.iter().zip(&after).take_while(|(a, b)| a == b).count();
        let near_the_end = before.iter().rev().zip(after.iter().rev()).take_while(|(a, b)| **a + 512 == **b).count();
        assert!(before.len() > 30, "{}", before.len());
        assert!(
            near_the_start + near_the_end >= before.len() - 4,
            "{near_the_start} {near_the_end} of {}",
            before.len()
        );
    }

    #[test]
    fn large_files_are_cut_in_pieces() {
        let tree = tree([("big".to_owned(), 5 << 20), ("small".to_owned(), 10)]);
        let lengths: Vec<u64> = cut(&tree).iter().map(|block| block.length).collect();
        assert_eq!(lengths, [LARGEST, LARGEST, LARGEST, LARGEST, LARGEST, 512 + 1024 + 1024]);
    }

    /// M25: a claimed size takes no memory.
    #[test]
    fn a_file_of_any_size_is_one_run() {
        let size = 1 << 60;
        let blocks = cut(&tree([("a".to_owned(), 10), ("huge".to_owned(), size), ("z".to_owned(), 10)]));
        assert_eq!(blocks.runs().len(), 3);
        assert_eq!(blocks.len() as u64, size / LARGEST + 2);
        let last = blocks.get(blocks.len() - 1).unwrap();
        assert_eq!(
            (last.entry, last.offset, last.length),
            (1, size, 1536 + 1024 + 1024),
            "the header of such a file takes three blocks"
        );
        assert_eq!(blocks.get(1).unwrap(), Block { entry: 1, offset: 0, length: LARGEST });
        assert_eq!(blocks.get(4).unwrap(), Block { entry: 1, offset: 3 * LARGEST, length: LARGEST });
        assert_eq!(blocks.get(blocks.len()), None);
    }

    #[test]
    fn the_cuts_of_a_fixed_tree_never_change() {
        let lengths: Vec<u64> = cut(&tree(many())).iter().map(|block| block.length).take(6).collect();
        assert_eq!(lengths, [1_033_728, 289_280, 1_038_848, 308_736, 274_944, 636_416]);
    }
}
