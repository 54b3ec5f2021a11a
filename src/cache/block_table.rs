//! Lists of the compressed blocks of layers, and a table to find a block by its checksum and length.
//!
//! ```text
//! list   each block: checksum, length, and length in the blob; numbers of 32 bits, big-endian
//! ```

use crate::layers::incremental::DoneBlock;
use std::ops::Range;

/// The length of a block in a list, in bytes.
pub(super) const ENTRY: usize = 12;

/// A block of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ListedBlock {
    /// The checksum of its content.
    sum: u32,
    /// The length of its content, in bytes.
    length: u32,
    /// The length of its compressed bytes.
    packed: u32,
}

/// The blocks of a layer in order. Their compressed bytes are the whole blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BlockList(Vec<ListedBlock>);

impl BlockList {
    /// Lists the blocks of a layer. Returns `None` if one has 4 GiB.
    pub(super) fn of(blocks: &[DoneBlock]) -> Option<Self> {
        let listed = |DoneBlock { block, packed, sum, .. }: &DoneBlock| {
            Some(ListedBlock { sum: *sum, length: u32::try_from(block.length).ok()?, packed: *packed })
        };
        blocks.iter().map(listed).collect::<Option<_>>().map(BlockList)
    }

    /// Reads the list for a blob of `size` bytes. Returns `None` if it is not one.
    pub(super) fn read(bytes: &[u8], size: u64) -> Option<Self> {
        let (blocks, rest) = bytes.as_chunks::<ENTRY>();
        let number = |bytes: &[u8]| bytes.iter().fold(0, |number, &byte| number << 8 | u32::from(byte));
        let listed = |block: &[u8; ENTRY]| ListedBlock {
            sum: number(&block[..4]),
            length: number(&block[4..8]),
            packed: number(&block[8..]),
        };
        let list = BlockList(blocks.iter().map(listed).collect());
        let packed: u64 = list.0.iter().map(|block| u64::from(block.packed)).sum();
        (rest.is_empty() && packed == size).then_some(list)
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let numbers = self.0.iter().flat_map(|ListedBlock { sum, length, packed }| [*sum, *length, *packed]);
        numbers.flat_map(u32::to_be_bytes).collect()
    }

    /// Returns whether a block has at least `length` bytes of content.
    pub(super) fn has_block_of(&self, length: u64) -> bool {
        self.0.iter().any(|block| u64::from(block.length) >= length)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// The blocks of several blobs.
#[derive(Debug)]
pub(super) struct BlockTable<B> {
    /// Sorted by checksum and length.
    blocks: Vec<PlacedBlock>,
    blobs: Vec<B>,
}

#[derive(Debug, Clone, Copy)]
struct PlacedBlock {
    /// The checksum and the length of its content.
    key: (u32, u32),
    /// The number of its blob.
    blob: u32,
    packed: u32,
    offset: u64,
}

impl<B> BlockTable<B> {
    /// Creates the table of all blocks of `blobs`. Where several have the same block, it is found in the first one first.
    pub(super) fn new(listed: impl IntoIterator<Item = (B, BlockList)>) -> Self {
        let (mut blocks, mut blobs) = (Vec::new(), Vec::new());
        for (number, (blob, BlockList(list))) in (0..).zip(listed) {
            let mut offset = 0;
            for ListedBlock { sum, length, packed } in list {
                blocks.push(PlacedBlock { key: (sum, length), blob: number, packed, offset });
                offset += u64::from(packed);
            }
            blobs.push(blob);
        }
        blocks.sort_by_key(|block| (block.key, block.blob));
        BlockTable { blocks, blobs }
    }

    /// Returns the blobs, and the ranges in them, whose content may have this checksum and this length in bytes.
    pub(super) fn find(&self, sum: u32, length: u64) -> impl Iterator<Item = (&B, Range<u64>)> {
        let key = u32::try_from(length).map(|length| (sum, length));
        let from = key.map_or(self.blocks.len(), |key| self.blocks.partition_point(|block| block.key < key));
        let same = self.blocks[from..].iter().take_while(move |block| Ok(block.key) == key);
        same.filter_map(|block| {
            let PlacedBlock { key: _, blob, packed, offset } = *block;
            Some((self.blobs.get(blob as usize)?, offset..offset + u64::from(packed)))
        })
    }
}
