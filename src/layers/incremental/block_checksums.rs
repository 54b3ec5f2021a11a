//! Cheap checksums of the content of a block.
//!
//! They are CRC-32, which detects mistakes, but not malice. Equal checksums alone never decide that two blocks are equal.

use crate::codec::tar;
use crate::layers::ContentVisitor;
use crate::layers::block_boundaries::{Block, entry_length, is_in_one_block};
use crate::layers::tree::Tree;
use libdeflater::{Crc, crc32};

/// The checksums of one block.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::layers) struct Sums {
    /// The checksum of the whole block.
    pub(in crate::layers) block: u32,
    /// The checksum of each file's content within the block, by the number of the entry.
    pub(in crate::layers) contents: Vec<(usize, u32)>,
}

impl Sums {
    /// Computes the checksums of `bytes`, the content of `block`, in one pass that calls the visitor for every whole file.
    pub(in crate::layers) fn of(tree: &Tree, block: &Block, bytes: &[u8], visitor: Option<ContentVisitor<'_>>) -> Sums {
        let (mut sum, mut contents) = (Crc::new(), Vec::new());
        let (mut rest, mut skip) = (bytes, block.offset);
        for (number, entry) in tree.entries_from(block.entry) {
            if rest.is_empty() {
                break;
            }
            let left = usize::try_from(entry_length(&entry) - skip).unwrap_or(usize::MAX);
            let (part, behind) = rest.split_at(left.min(rest.len()));
            // Positions within the slice; positions outside of it are moved to its borders.
            let header = tar::encoded_length(&entry.header());
            let within = |position: u64| position.saturating_sub(skip).min(part.len() as u64) as usize;
            let (start, end) = (within(header), within(header + entry.size()));
            let content = crc32(&part[start..end]);
            sum.update(&part[..start]);
            sum.update(&content.to_le_bytes());
            sum.update(&part[end..]);
            if start < end {
                contents.push((number, content));
            }
            if let Some(ContentVisitor(visit)) = visitor.filter(|_| start < end && is_in_one_block(entry.size())) {
                visit(number, &entry, &part[start..end]);
            }
            (rest, skip) = (behind, 0);
        }
        sum.update(rest);
        Sums { block: sum.sum(), contents }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::block_boundaries::cut;
    use crate::layers::fill_block::fill;
    use crate::layers::tree::{Entry, Rules, TreeBuilder};

    #[test]
    fn different_contents_have_different_fingerprints() {
        let mut builder = TreeBuilder::new(&Rules::default());
        for (path, content) in [("big", vec![7; 2_500_000]), ("small", b"content".to_vec()), ("tail", Vec::new())] {
            builder.add(Entry::test_file(path, &content)).unwrap();
        }
        let tree = builder.finish().unwrap();
        let blocks = cut(&tree);
        assert_eq!(blocks.len(), 3);
        let block = blocks.get(2).unwrap();
        let mut bytes = Vec::new();
        fill(&tree, &block, &mut None, None, &mut bytes).unwrap();
        let sums = Sums::of(&tree, &block, &bytes, None);
        let numbers: Vec<usize> = sums.contents.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, [0, 1]);
        assert_eq!(sums.contents[1].1, crc32(b"content"));
        for position in [0, bytes.len() / 2, bytes.len() - 1] {
            bytes[position] ^= 1;
            assert_ne!(Sums::of(&tree, &block, &bytes, None).block, sums.block, "at {position}");
            bytes[position] ^= 1;
        }
        assert_eq!(Sums::of(&tree, &block, &bytes, None), sums);
    }
}
