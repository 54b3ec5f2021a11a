//! Incremental builds: compares a layer with its previous build, and takes over the blocks that did not change.

mod compare;
mod earlier;
mod packing;
mod sums;

pub use compare::{Comparison, compare};
pub use earlier::{DoneBlock, Fingerprint, PreviousEntry, PreviousLayer};
pub use packing::Reuse;
pub(super) use packing::{Packed, Packer, Packing, Prefix};
pub(super) use sums::Sums;
