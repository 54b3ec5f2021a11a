//! Writes layer blobs from trees, on every core, in one pass.
//!
//! ```text
//!                   ┌─ fill ── compress ─┐          workers take the next block of any layer,
//!  tree ─▶ blocks ──┼─ fill ── compress ─┼─▶ blob   fill it from its sources, hand it to the hash
//!                   └─ fill ── compress ─┘          of the tar, compress it and hand it to the blob
//!                        └──▶ diff ID
//! ```
//!
//! [`difference`] compares the layers of two images, and the files that they unpack to.
//!
//! A block is about 1 MiB of the layer's tar and becomes a separate gzip member or zstd frame. The block boundaries
//! depend only on the tree (`block_boundaries`), so the bytes of a layer do not depend on the number of threads. A worker never
//! waits for the hash or compression of another one: the worker that delivers the block that is due next also processes
//! the finished blocks after it (`ordered_output`).

mod block_boundaries;
mod compression;
mod content_visitor;
pub mod difference;
mod fill_block;
pub mod incremental;
mod layer;
mod ordered_output;
pub mod rootfs;
pub mod split;
pub mod squash;
pub mod tree;
mod write;
mod write_tar;

pub use block_boundaries::{Block, is_in_one_block};
pub use compression::{CompressionPolicy, LayerCompression};
pub use content_visitor::ContentVisitor;
pub use layer::Layer;
pub use write::{LayerRequest, MadeLayer, Work, hash_layer, write_layers};
pub use write_tar::write_tar;
