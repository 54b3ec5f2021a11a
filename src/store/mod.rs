//! Where blobs live.

pub mod registry;
