//! Decompresses one block of known length.

use super::Encoding;
use crate::common::error::{Error, Result};
use std::fmt;

/// A decompressor for gzip members and zstd frames that hold one block each.
///
/// Use one per thread, since it holds tables.
#[derive(Default)]
pub struct Decompressor {
    gzip: libdeflater::Decompressor,
    zstd: Option<zstd::bulk::Decompressor<'static>>,
}

impl fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Decompressor")
    }
}

impl Decompressor {
    /// Replaces the content of `out` with the `length` bytes that `packed` holds.
    ///
    /// # Errors
    /// Returns an error if `packed` is damaged, or holds more or fewer bytes.
    pub fn decompress(&mut self, packed: &[u8], encoding: Encoding, length: usize, out: &mut Vec<u8>) -> Result<()> {
        let damaged = || Error::corrupt("block", "unexpected content");
        out.clear();
        let written = match encoding {
            Encoding::Plain => {
                out.extend_from_slice(packed);
                packed.len()
            }
            Encoding::Gzip => {
                out.resize(length, 0);
                let written = self.gzip.gzip_decompress(packed, out).map_err(|_| damaged())?;
                // libdeflate ignores what follows a member, so the member has to be the end (RFC 1952, section 2.3.1).
                let trailer = [libdeflater::crc32(out).to_le_bytes(), (length as u32).to_le_bytes()].concat();
                if !packed.ends_with(&trailer) {
                    return Err(damaged());
                }
                written
            }
            Encoding::Zstd => {
                out.resize(length, 0);
                let engine = match &mut self.zstd {
                    Some(engine) => engine,
                    none => none.insert(zstd::bulk::Decompressor::new().map_err(|_| damaged())?),
                };
                engine.decompress_to_buffer(packed, &mut out[..]).map_err(|_| damaged())?
            }
        };
        if written == length { Ok(()) } else { Err(damaged()) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Compression, Compressor};
    use super::*;

    #[test]
    fn blocks_come_back_and_damage_is_noticed() {
        let block: Vec<u8> = (0..100_000_u32).map(|number| (number / 7) as u8).collect();
        let (mut decompressor, mut out) = (Decompressor::default(), Vec::new());
        for compression in [Compression::None, Compression::Gzip(1), Compression::Zstd(3)] {
            let mut packed = Vec::new();
            Compressor::new(compression).unwrap().compress(&block, &mut packed).unwrap();
            let encoding = compression.encoding();
            decompressor.decompress(&packed, encoding, block.len(), &mut out).unwrap();
            assert!(out == block, "{compression}");
            for wrong in [block.len() - 1, block.len() + 1] {
                assert!(decompressor.decompress(&packed, encoding, wrong, &mut out).is_err(), "{compression}");
            }
            let whole = packed.len();
            packed.push(0);
            assert!(decompressor.decompress(&packed, encoding, block.len(), &mut out).is_err(), "{compression}");
            packed.truncate(whole - 1);
            assert!(decompressor.decompress(&packed, encoding, block.len(), &mut out).is_err(), "{compression}");
        }
    }
}
