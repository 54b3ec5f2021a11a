//! Compressed blocks of earlier layers, whatever these layers were.

use crate::codec::compression::Compression;

/// A store of the compressed blocks of earlier layers.
///
/// A block from a store is decompressed and compared before it is used, so a wrong store costs time and never a byte.
pub trait BlockStore: Sync + std::fmt::Debug {
    /// Returns the compression that made the blocks.
    fn compression(&self) -> Compression;

    /// Returns a compressed block whose content has this checksum and this length in bytes. Both are short, so it may be
    /// another block.
    fn find(&self, sum: u32, length: u64) -> Option<Vec<u8>>;
}
