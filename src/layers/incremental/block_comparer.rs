//! Compares blocks with compressed ones.

use crate::codec::compression::{Compression, Decompressor};

/// Decompresses blocks to compare them. Each thread has its own.
#[derive(Debug, Default)]
pub(super) struct BlockComparer {
    decompressor: Decompressor,
    content: Vec<u8>,
}

impl BlockComparer {
    /// Returns whether `packed` holds `block` and nothing else.
    pub(super) fn is_packed(&mut self, block: &[u8], packed: &[u8], compression: Compression) -> bool {
        let BlockComparer { decompressor, content } = self;
        decompressor.decompress(packed, compression.encoding(), block.len(), content).is_ok() && content == block
    }
}
