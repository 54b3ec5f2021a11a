//! Formats of bytes: tar archives, and gzip and zstd compression.

pub mod compression;
pub mod tar;
