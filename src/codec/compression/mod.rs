//! Compression and decompression: gzip and zstd.

mod block;
mod decode;
mod detect;
mod encode;
mod gzip_members;
mod noted_members;
mod pieces;

pub use block::Decompressor;
pub use decode::{decode, decode_gzip_keeping, decode_gzip_noting};
pub use detect::Detected;
pub use encode::{Compression, Compressor};
pub use gzip_members::{GZIP_HEADER, GzipMembers, single_member};
pub use noted_members::{MemberNotes, NotedMember};
pub use pieces::CompressedPieces;

/// The compression of a tar or a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Not compressed.
    Plain,
    /// gzip, of one or more members (RFC 1952).
    Gzip,
    /// zstd, of one or more frames (RFC 8878).
    Zstd,
}

impl Encoding {
    /// Returns the name for messages.
    pub fn name(self) -> &'static str {
        match self {
            Encoding::Plain => "not compressed",
            Encoding::Gzip => "gzip",
            Encoding::Zstd => "zstd",
        }
    }

    /// Detects the encoding from the first bytes of a blob.
    pub fn of_bytes(start: &[u8]) -> Self {
        if start.starts_with(&[0x1f, 0x8b]) {
            Encoding::Gzip
        } else if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            Encoding::Zstd
        } else {
            Encoding::Plain
        }
    }
}
