//! Reads foreign bytes into memory, up to a stated limit.

use crate::common::error::{Error, Result};
use crate::common::limits::MostBytes;
use std::io::{self, Read};

/// The size of the pieces in which a stream is read, in bytes.
const PIECE: usize = 256 << 10;

/// Reads all of `source`, and fails as soon as it exceeds `most`: a number of bytes, or a limit that people may change.
///
/// # Errors
/// Returns an error if `source` cannot be read, or holds more than `most`.
pub fn read(source: impl Read, most: impl Into<MostBytes>, object: &str) -> Result<Vec<u8>> {
    let bound = most.into();
    let mut bytes = Vec::new();
    #[expect(clippy::disallowed_methods, reason = "this is the bounded wrapper that everything else must use")]
    source
        .take(bound.bytes.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|error| Error::io(object, "read", error))?;
    bound.check(bytes.len() as u64, object)?;
    Ok(bytes)
}

/// Appends up to `most` bytes of `source` to `bytes`. The rest is not read.
///
/// # Errors
/// Returns an error if `source` cannot be read.
pub fn read_start(source: impl Read, most: u64, bytes: &mut Vec<u8>) -> io::Result<usize> {
    #[expect(clippy::disallowed_methods, reason = "this is the bounded wrapper that everything else must use")]
    source.take(most).read_to_end(bytes)
}

/// Reads until `buffer` is full or `source` ends, and returns the number of bytes read.
///
/// # Errors
/// Returns an error if `source` cannot be read.
pub fn read_full(source: &mut (impl Read + ?Sized), buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Reads `source` to its end, and passes its bytes to `take`, piece by piece. Messages call it `object`.
///
/// # Errors
/// Returns an error if `source` cannot be read, or the error of `take`.
pub fn for_each_piece(mut source: impl Read, object: &str, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        match source.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(read) => take(&piece[..read])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::io(object, "read", error)),
        }
    }
}

/// Returns a reader of `source` that fails as soon as more than `most` is read. Messages call it `object`.
pub fn reader<'a>(source: impl Read + 'a, most: impl Into<MostBytes>, object: &'a str) -> impl Read + 'a {
    let bound = most.into();
    Bounded { source, left: bound.bytes, bound, object }
}

struct Bounded<'a, R> {
    source: R,
    left: u64,
    bound: MostBytes,
    object: &'a str,
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| self.bound.exceeded(self.object))?;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_itself_is_allowed_and_one_more_is_not() {
        assert_eq!(read(&[7_u8; 10][..], 10, "x").unwrap().len(), 10);
        assert_eq!(read(&[7_u8; 11][..], 10, "x").unwrap_err().to_string(), "x: larger than 10 B");
        let copy = |length: usize| io::copy(&mut reader(&vec![7; length][..], 10, "x"), &mut io::sink());
        assert_eq!(copy(10).unwrap(), 10);
        assert_eq!(copy(11).unwrap_err().to_string(), "x: larger than 10 B");
        assert_eq!(read(std::io::repeat(0), 8 << 20, "x").unwrap_err().to_string(), "x: larger than 8 MiB");
    }
}
