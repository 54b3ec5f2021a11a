//! Fast path for small objects in files: one call reads an object, another decompresses it.
//!
//! Unusual objects are left to [`StoredObject`], which also reports the errors.
//!
//! [`StoredObject`]: super::StoredObject

use crate::codec::compression::{Encoding, GZIP_HEADER};
use crate::common::file_section::read_at;
use crate::rcc::NamedObject;
use flate2::{Decompress, FlushDecompress};
use std::cell::RefCell;
use std::fs::File;

/// Objects up to this size in bytes are decompressed in memory.
///
/// That is faster, and finds damage before the first byte is used.
pub(super) const SMALL: u64 = 1 << 20;
/// The largest stored size of a small object, in bytes: compression may lengthen it slightly.
const MOST_STORED: u64 = SMALL + SMALL / 8 + 64;

thread_local! {
    /// Reused, because allocating these for each object takes as long as opening its file.
    static UNWRAPPING: RefCell<Unwrapping> = RefCell::new(Unwrapping::default());
}

/// The decompressors and the buffer.
struct Unwrapping {
    whole: libdeflater::Decompressor,
    start: Decompress,
    /// The buffer for stored bytes, empty until it is used.
    stored: Vec<u8>,
}

impl Default for Unwrapping {
    fn default() -> Self {
        Unwrapping { whole: libdeflater::Decompressor::new(), start: Decompress::new(false), stored: Vec::new() }
    }
}

/// Fills `content` with the content of `object` from `file`, and returns whether its digest is right.
///
/// `length` is the length of the file in bytes.
pub(super) fn read(object: &NamedObject, (file, length): (&File, u64), content: &mut [u8]) -> bool {
    if object.size > SMALL || content.len() as u64 != object.size {
        return false;
    }
    let is_read = UNWRAPPING.with_borrow_mut(|unwrapping| {
        // One more byte, which shows that a file has grown.
        let room = length.min(MOST_STORED) as usize + 1;
        if unwrapping.stored.len() < room {
            unwrapping.stored.resize(room, 0);
        }
        let Ok(length) = read_at(file, &mut unwrapping.stored, 0) else { return false };
        let stored = &unwrapping.stored[..length];
        match Encoding::of_bytes(stored) {
            Encoding::Plain if length == content.len() => {
                content.copy_from_slice(stored);
                true
            }
            Encoding::Gzip => unwraps(&mut unwrapping.whole, stored, content),
            Encoding::Plain | Encoding::Zstd => false,
        }
    });
    is_read && object.digest.like(content) == object.digest
}

/// Fills `content` from the only gzip member in `stored`.
///
/// Returns whether `stored` is a single member with content of exactly this length.
pub(super) fn inflate(stored: &[u8], content: &mut [u8]) -> bool {
    UNWRAPPING.with_borrow_mut(|unwrapping| unwraps(&mut unwrapping.whole, stored, content))
}

fn unwraps(decompressor: &mut libdeflater::Decompressor, stored: &[u8], content: &mut [u8]) -> bool {
    // RFC 1952, 2.3.1: the last four bytes are the size of the content modulo 2^32.
    let declared = stored.last_chunk::<4>().map(|size| u32::from_le_bytes(*size) as usize);
    declared == Some(content.len())
        && decompressor.gzip_decompress(stored, content).is_ok_and(|length| length == content.len())
}

/// Returns the encoding that the content of an object itself begins like.
///
/// `file` holds `length` bytes of the object. Returns `None` if more must be read to determine the encoding.
pub(super) fn encoding_of_content(object: &NamedObject, file: &File, length: u64) -> Option<Encoding> {
    // Enough for the tables of a deflate block and the data that follows them.
    let mut stored = [0; 512];
    let read = read_at(file, &mut stored, 0).ok()?;
    match Encoding::of_bytes(&stored[..read]) {
        Encoding::Plain if length == object.size => Some(Encoding::Plain),
        // With the same size it could be raw content, and only the digest decides. A header without flags has no
        // further fields.
        Encoding::Gzip if length != object.size && stored.starts_with(&GZIP_HEADER[..4]) => {
            let mut start = [0; 4];
            let body = &stored[GZIP_HEADER.len()..read.max(GZIP_HEADER.len())];
            UNWRAPPING.with_borrow_mut(|Unwrapping { start: decompressor, .. }| {
                decompressor.reset(false);
                decompressor.decompress(body, &mut start, FlushDecompress::None).ok()?;
                (decompressor.total_out() == start.len() as u64).then(|| Encoding::of_bytes(&start))
            })
        }
        Encoding::Plain | Encoding::Gzip | Encoding::Zstd => None,
    }
}
