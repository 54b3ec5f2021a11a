//! gzip without compression: the content in stored blocks (RFC 1951, 3.2.4), so that the length is known in advance.

use crate::codec::compression::GZIP_HEADER;
use libdeflater::Crc;
use std::io::{self, Read};

/// The maximum content of a stored block, in bytes.
const BLOCK: u64 = 65_535;
/// The overhead of a stored block, in bytes.
const BLOCK_HEADER: u64 = 5;
/// The size of the checksum and the length at the end, in bytes.
const TRAILER: u64 = 8;

/// Returns the length of `size` bytes of content as uncompressed gzip.
pub(super) fn wrapped_size(size: u64) -> u64 {
    GZIP_HEADER.len() as u64 + size + BLOCK_HEADER * size.div_ceil(BLOCK).max(1) + TRAILER
}

/// A reader that converts its source to uncompressed gzip.
pub(super) struct Wrapping<R> {
    source: R,
    size: u64,
    left: u64,
    sum: Crc,
    /// Bytes to return before more is read.
    ready: Vec<u8>,
    given: usize,
    state: WrapState,
}

#[derive(PartialEq, Eq)]
enum WrapState {
    Blocks,
    Trailer,
    Done,
}

impl<R: Read> Wrapping<R> {
    /// Converts `source`, which holds `size` bytes.
    pub(super) fn new(source: R, size: u64) -> Self {
        Wrapping {
            source,
            size,
            left: size,
            sum: Crc::new(),
            ready: GZIP_HEADER.to_vec(),
            given: 0,
            state: WrapState::Blocks,
        }
    }

    fn refill(&mut self) -> io::Result<()> {
        self.ready.clear();
        self.given = 0;
        match self.state {
            WrapState::Blocks => {
                let length = self.left.min(BLOCK);
                self.left -= length;
                let is_last = self.left == 0;
                let size = length as u16;
                self.ready.push(u8::from(is_last));
                self.ready.extend_from_slice(&size.to_le_bytes());
                self.ready.extend_from_slice(&(!size).to_le_bytes());
                let start = self.ready.len();
                self.ready.resize(start + usize::from(size), 0);
                self.source.read_exact(&mut self.ready[start..])?;
                self.sum.update(&self.ready[start..]);
                if is_last {
                    self.state = WrapState::Trailer;
                }
            }
            WrapState::Trailer => {
                // The source verifies its content when it reaches its end.
                if self.source.read(&mut [0])? > 0 {
                    return Err(crate::Error::corrupt("library file", "longer than the catalog says").into());
                }
                self.ready.extend_from_slice(&self.sum.sum().to_le_bytes());
                // RFC 1952, 2.3.1: modulo 2^32.
                self.ready.extend_from_slice(&(self.size as u32).to_le_bytes());
                self.state = WrapState::Done;
            }
            WrapState::Done => {}
        }
        Ok(())
    }
}

impl<R: Read> Read for Wrapping<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.given == self.ready.len() && self.state != WrapState::Done {
            self.refill()?;
        }
        let length = buffer.len().min(self.ready.len() - self.given);
        buffer[..length].copy_from_slice(&self.ready[self.given..self.given + length]);
        self.given += length;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::compression::{Encoding, decode};

    #[test]
    fn what_is_wrapped_is_as_long_as_promised_and_unwraps() {
        for size in [0, 1, 65_534, 65_535, 65_536, 200_000] {
            let content: Vec<u8> = (0..size).map(|number: u64| number as u8).collect();
            let mut wrapped = Vec::new();
            io::copy(&mut Wrapping::new(&content[..], size), &mut wrapped).unwrap();
            assert_eq!(wrapped.len() as u64, wrapped_size(size));
            let mut back = Vec::new();
            io::copy(&mut decode(&wrapped[..], Encoding::Gzip).unwrap(), &mut back).unwrap();
            assert_eq!(back, content);
        }
    }

    #[test]
    fn content_of_another_length_is_an_error() {
        for content in [&b"short"[..], b"much too long"] {
            assert!(io::copy(&mut Wrapping::new(content, 8), &mut io::sink()).is_err());
        }
    }
}
