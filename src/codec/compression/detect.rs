//! Detects how a stream is compressed.

use super::{Encoding, decode};
use crate::common::bounded_read::read_full;
use std::io::{self, Chain, Cursor, Read, Take};

/// A stored stream whose encoding is known from its first bytes. Reading it yields all stored bytes.
#[derive(Debug)]
pub struct Detected<R> {
    encoding: Encoding,
    is_empty: bool,
    stored: Chain<Take<Cursor<[u8; 4]>>, R>,
}

impl<R: Read> Detected<R> {
    /// Reads the first bytes of `source`.
    ///
    /// # Errors
    /// Returns an error if they cannot be read.
    pub fn new(mut source: R) -> io::Result<Self> {
        let mut start = [0; 4];
        let length = read_full(&mut source, &mut start)?;
        let encoding = Encoding::of_bytes(&start[..length]);
        Ok(Detected { encoding, is_empty: length == 0, stored: Cursor::new(start).take(length as u64).chain(source) })
    }

    /// Returns the encoding.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Returns whether the source has no bytes at all.
    pub fn is_empty(&self) -> bool {
        self.is_empty
    }

    /// Returns a reader of the decompressed content.
    ///
    /// # Errors
    /// Returns an error if the decoder cannot be created.
    pub fn decode<'a>(self) -> io::Result<Box<dyn Read + Send + 'a>>
    where
        R: Send + 'a,
    {
        decode(self.stored, self.encoding)
    }
}

impl<R: Read> Read for Detected<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stored.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::compression::{Compression, Compressor};

    /// A reader that returns one byte at a time.
    struct Slow<'a>(&'a [u8]);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = buffer.len().min(1);
            self.0.read(&mut buffer[..length])
        }
    }

    #[test]
    fn a_slow_stream_is_detected_and_decoded_from_its_first_byte() {
        for compression in [Compression::None, Compression::Gzip(1), Compression::Zstd(1)] {
            let mut stored = Vec::new();
            Compressor::new(compression).unwrap().compress(b"content", &mut stored).unwrap();
            let detected = Detected::new(Slow(&stored)).unwrap();
            assert_eq!((detected.encoding(), detected.is_empty()), (compression.encoding(), false));
            assert_eq!(io::read_to_string(detected.decode().unwrap()).unwrap(), "content");
        }
        let detected = Detected::new(Slow(b"ab")).unwrap();
        assert_eq!((detected.encoding(), detected.is_empty()), (Encoding::Plain, false));
        assert_eq!(io::read_to_string(detected).unwrap(), "ab");
        assert!(Detected::new(Slow(b"")).unwrap().is_empty());
    }
}
