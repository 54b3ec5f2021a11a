//! Incremental builds: compares a layer with its previous build, and takes over the blocks that did not change.

mod block_checksums;
mod block_comparer;
mod block_reuse;
mod block_store;
mod compare;
mod previous_layer;

pub(super) use block_checksums::Sums;
pub use block_reuse::Reuse;
pub(super) use block_reuse::{Packed, Packer, Packing, Prefix};
pub use block_store::BlockStore;
pub use compare::{Comparison, compare};
pub use previous_layer::{DoneBlock, Fingerprint, PreviousEntry, PreviousLayer};
