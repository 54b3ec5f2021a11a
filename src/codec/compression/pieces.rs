//! How a compressed stream is divided, without its content.

use super::Encoding;
use crate::common::error::Error;
use flate2::bufread::GzDecoder;
use std::io::{self, BufRead, BufReader, Read};

const BUFFER: usize = 128 << 10;

/// The gzip members or zstd frames of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompressedPieces {
    /// The number of pieces.
    pub count: u64,
    /// The length of the content of the first piece, in bytes.
    pub first: u64,
}

impl CompressedPieces {
    /// Reads `source` to its end. Returns `None` for a stream that is not compressed.
    ///
    /// # Errors
    /// Returns an error if the stream cannot be read, or is malformed.
    pub fn read(source: impl Read, encoding: Encoding) -> io::Result<Option<CompressedPieces>> {
        let source = BufReader::with_capacity(BUFFER, source);
        match encoding {
            Encoding::Plain => Ok(None),
            Encoding::Gzip => {
                let (count, first) = count(source, |source| {
                    let mut member = GzDecoder::new(source);
                    let length = io::copy(&mut member, &mut io::sink())?;
                    Ok((member.into_inner(), length))
                })?;
                Ok(Some(CompressedPieces { count, first }))
            }
            Encoding::Zstd => {
                let (count, first) = count(source, |source| {
                    let mut frame = zstd::Decoder::with_buffer(source)?.single_frame();
                    let length = io::copy(&mut frame, &mut io::sink())
                        .map_err(|error| io::Error::from(Error::corrupt("zstd", error.to_string())))?;
                    Ok((frame.finish(), length))
                })?;
                Ok(Some(CompressedPieces { count, first }))
            }
        }
    }
}

/// Counts the pieces of `source`, each of which `piece` reads to its end. Returns the length of the first one as well.
fn count<R: BufRead>(mut source: R, piece: impl Fn(R) -> io::Result<(R, u64)>) -> io::Result<(u64, u64)> {
    let (mut count, mut first) = (0, 0);
    // Zeros may follow the last gzip member.
    while source.fill_buf()?.first().is_some_and(|byte| *byte != 0) {
        let (rest, length) = piece(source)?;
        source = rest;
        if count == 0 {
            first = length;
        }
        count += 1;
    }
    io::copy(&mut source, &mut io::sink())?;
    Ok((count, first))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::compression::{Compression, Compressor};

    fn pieces(compression: Compression, contents: &[&[u8]]) -> Option<CompressedPieces> {
        let mut stored = Vec::new();
        for content in contents {
            let mut piece = Vec::new();
            Compressor::new(compression).unwrap().compress(content, &mut piece).unwrap();
            stored.extend(piece);
        }
        CompressedPieces::read(&stored[..], compression.encoding()).unwrap()
    }

    #[test]
    fn members_and_frames_are_counted() {
        let contents: [&[u8]; 3] = [b"first", b"second one", b""];
        for compression in [Compression::Gzip(6), Compression::Zstd(3)] {
            let found = pieces(compression, &contents).unwrap();
            assert_eq!((found.count, found.first), (3, 5));
        }
        assert_eq!(pieces(Compression::None, &contents), None);
        assert!(CompressedPieces::read(&b"\x1f\x8bno"[..], Encoding::Gzip).is_err());
    }
}
