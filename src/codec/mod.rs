//! Formats of bytes: tar archives, zips, and gzip and zstd compression.

pub mod compression;
pub mod tar;
pub(crate) mod zip;
