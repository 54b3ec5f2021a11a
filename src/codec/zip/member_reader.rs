//! A reader of one member that checks its size and checksum.

use crate::common::error::Error;
use flate2::Crc;
use std::io::{self, Read};

/// A reader that checks the size and checksum of a member.
pub(super) struct MemberReader<R> {
    source: R,
    crc: Crc,
    left: u64,
    expected: u32,
}

impl<R> MemberReader<R> {
    /// Returns a reader of `source`, which must have `size` bytes with the CRC-32 `expected`.
    pub(super) fn new(source: R, size: u64, expected: u32) -> Self {
        MemberReader { source, crc: Crc::new(), left: size, expected }
    }
}

impl<R: Read> Read for MemberReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let corrupt = |reason: &str| Error::corrupt("zip", reason);
        let read = self.source.read(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => {
                corrupt("malformed deflate data").into()
            }
            _ => error,
        })?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| corrupt("longer than its size"))?;
        self.crc.update(&buffer[..read]);
        if read == 0 && self.left > 0 {
            return Err(corrupt("shorter than its size").into());
        }
        if read == 0 && self.crc.sum() != self.expected {
            return Err(corrupt("checksum mismatch").into());
        }
        Ok(read)
    }
}
