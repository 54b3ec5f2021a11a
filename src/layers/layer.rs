//! A layer in an image layout.

use crate::common::digest::DiffId;
use crate::spec::Descriptor;

/// A layer that is in the layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// The descriptor of the blob.
    pub descriptor: Descriptor,
    /// The digest of the tar in it.
    pub diff_id: DiffId,
    /// The length of that tar in bytes.
    pub tar_size: u64,
}
