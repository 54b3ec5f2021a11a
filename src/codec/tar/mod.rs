//! The tar format: a writer of headers, and a strict reader.
//!
//! The writer uses POSIX ustar, with a PAX extended header only for values that ustar cannot represent (POSIX.1-2017,
//! pax, "ustar Interchange Format" and "pax Extended Header"). The reader accepts what GNU tar, bsdtar, Python and Go
//! write, and rejects every construction that two of them would interpret differently: an archive that one program
//! checks must not unpack differently in another.

mod header;
mod reader;

pub use header::{EntryType, Header, append, encoded_length};
pub use reader::{Ending, Headers, TarEntry};

/// The block size of the format, in bytes.
pub const BLOCK: u64 = 512;

/// The two zero blocks that end an archive.
pub const END: [u8; 1024] = [0; 1024];

/// Returns the number of zero bytes that follow `size` bytes of content.
pub fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK
}
