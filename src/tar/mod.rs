//! The tar format: headers written by count, and read without mercy.
//!
//! Writing is POSIX ustar, with a PAX extended header only for what ustar cannot say (POSIX.1-2017, pax, "ustar
//! Interchange Format" and "pax Extended Header"). Reading accepts what GNU tar, bsdtar, Python and Go write, and refuses
//! every construction that two of them would understand differently: what one program checks, another must not unpack
//! as something else.

mod header;
mod reader;

pub use header::{Header, Kind, append, encoded_length};
pub use reader::{Ending, Entry, Headers};

/// The unit of the format, in bytes.
pub const BLOCK: u64 = 512;

/// The two zero blocks that end an archive.
pub const END: [u8; 1024] = [0; 1024];

/// How many zero bytes follow `size` bytes of content.
pub fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK
}
