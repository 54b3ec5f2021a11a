//! Keeps gzip members while they are read, so that compressed data need not be compressed again.
//!
//! A member consists of a header, deflate data, and the checksum and size of its content (RFC 1952, 2.3). The header
//! records who made it, when and from what file, so every member that is kept gets the header that this program writes.

use crate::common::error::Error;
use memchr::memmem;
use std::io::{self, BufRead, BufReader, Read};
use std::sync::{Arc, Mutex, PoisonError};

/// The header of every gzip member that this program writes or copies: no name, no time, no system.
pub const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// The size of the checksum and length after the deflate data, in bytes.
const TRAILER: usize = 8;

/// The maximum number of bytes that are kept without being taken.
///
/// A compressor's output for the 1 MiB of content that a reader takes is at most slightly longer; but deflate data may
/// also be endless without any content.
const MOST_KEPT: usize = 4 << 20;

/// gzip members that were read and not yet taken, the last perhaps incomplete.
///
/// The reader and the taker share them.
#[derive(Debug, Clone, Default)]
pub struct GzipMembers(Arc<Mutex<Vec<u8>>>);

impl GzipMembers {
    /// Creates members from complete data.
    pub fn of(bytes: Vec<u8>) -> GzipMembers {
        GzipMembers(Arc::new(Mutex::new(bytes)))
    }

    /// Takes the bytes that were read since the last call.
    pub fn take(&self) -> Vec<u8> {
        self.with(std::mem::take)
    }

    fn with<T>(&self, change: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Returns the only member in `stored`, with this program's header.
///
/// `stored` must have been decoded before: it begins with a member whose checksum and size were right. Returns `None`
/// if its header is longer than this program's, or if something may follow the member.
pub fn single_member(mut stored: Vec<u8>) -> Option<Vec<u8>> {
    let end = stored.len().checked_sub(TRAILER)?;
    // The member ends with the checksum and size of its content. If these bytes are at the end and do not occur before,
    // that is the end of the member.
    let is_alone = memmem::find(&stored, &stored[end..]) == Some(end);
    // A header without flags has no further fields.
    let has_short_header = stored.starts_with(&GZIP_HEADER[..4]) && end >= GZIP_HEADER.len();
    if !is_alone || !has_short_header {
        return None;
    }
    stored[..GZIP_HEADER.len()].copy_from_slice(&GZIP_HEADER);
    Some(stored)
}

/// A reader that keeps the bytes consumed from `source` inside a member.
pub(super) struct MemberRecorder<R> {
    source: R,
    members: GzipMembers,
    is_within: bool,
}

impl<R> MemberRecorder<R> {
    pub(super) fn new(source: R, members: GzipMembers) -> Self {
        MemberRecorder { source, members, is_within: false }
    }
}

impl<R: BufRead> MemberSource for MemberRecorder<R> {
    fn begin_body(&mut self) {
        self.members.with(|kept| kept.extend_from_slice(&GZIP_HEADER));
        self.is_within = true;
    }

    fn end_member(&mut self) {
        self.is_within = false;
    }
}

impl<R: BufRead> BufRead for MemberRecorder<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.members.with(|kept| kept.len()) > MOST_KEPT {
            let error = Error::invalid("gzip", "compressed to more than its uncompressed size, and cannot be reused");
            return Err(error.hint("--compression gzip compresses it again").into());
        }
        self.source.fill_buf()
    }

    fn consume(&mut self, length: usize) {
        if self.is_within
            && let Ok(bytes) = self.source.fill_buf()
        {
            self.members.with(|kept| kept.extend_from_slice(&bytes[..length]));
        }
        self.source.consume(length);
    }
}

impl<R: BufRead> Read for MemberRecorder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        read_buffered(self, buffer)
    }
}

/// Reads from the buffer of `source`, so that it sees what is consumed.
pub(super) fn read_buffered(source: &mut impl BufRead, buffer: &mut [u8]) -> io::Result<usize> {
    let available = source.fill_buf()?;
    let length = available.len().min(buffer.len());
    buffer[..length].copy_from_slice(&available[..length]);
    source.consume(length);
    Ok(length)
}

/// A source of gzip data that is notified of the members in it.
pub(super) trait MemberSource: BufRead {
    /// Handles the start of a member's deflate data, after its header has been read.
    fn begin_body(&mut self) {}

    /// Handles the end of a member, after its checksum and size have been read.
    fn end_member(&mut self) {}
}

impl<R: Read> MemberSource for BufReader<R> {}

#[cfg(test)]
mod tests {
    use super::super::{Encoding, decode, decode_gzip_keeping};
    use super::*;
    use flate2::{Compression as Level, GzBuilder};
    use std::io::Write;

    /// Returns gzip as another program writes it.
    fn foreign(content: &[u8]) -> Vec<u8> {
        let mut encoder = GzBuilder::new().mtime(7).operating_system(3).write(Vec::new(), Level::new(6));
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn unzip(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        io::copy(&mut decode(bytes, Encoding::Gzip).unwrap(), &mut out).unwrap();
        out
    }

    fn noise(length: u32) -> Vec<u8> {
        (0..length).map(|number| (number.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
    }

    #[test]
    fn a_member_is_taken_over_with_our_header_whole_or_as_it_is_read() {
        let content = noise(300_000);
        let stored = foreign(&content);
        let whole = single_member(stored.clone()).unwrap();
        assert_eq!((&whole[..10], &whole[10..]), (&GZIP_HEADER[..], &stored[10..]));
        let members = GzipMembers::default();
        let mut reader = decode_gzip_keeping(&stored[..], &members);
        let (mut piece, mut joined, mut back) = (vec![0; 70_000], Vec::new(), Vec::new());
        loop {
            let read = reader.read(&mut piece).unwrap();
            joined.extend(members.take());
            if read == 0 {
                break;
            }
            back.extend_from_slice(&piece[..read]);
        }
        assert_eq!((joined, back), (whole, content));
    }

    #[test]
    fn names_in_headers_and_zeros_behind_members_stay_behind() {
        let named = GzBuilder::new().filename("secret").comment("of mine").extra(&b"x"[..]);
        let mut first = named.write(Vec::new(), Level::fast());
        first.write_all(b"one,").unwrap();
        let stored = [first.finish().unwrap(), foreign(b"two"), vec![0; 100]].concat();
        assert_eq!(single_member(stored.clone()), None);
        let members = GzipMembers::default();
        let mut back = Vec::new();
        decode_gzip_keeping(&stored[..], &members).read_to_end(&mut back).unwrap();
        let kept = members.take();
        assert_eq!((&back[..], &unzip(&kept)[..]), (&b"one,two"[..], &b"one,two"[..]));
        assert_eq!(memmem::find_iter(&kept, &GZIP_HEADER).count(), 2);
        assert_eq!(memmem::find(&kept, b"secret"), None);
        assert_eq!(kept.len(), stored.len() - 100 - "secret\0of mine\0".len() - 3);
    }

    #[test]
    fn nothing_is_smuggled_in_behind_a_member() {
        let (shown, hidden) = (foreign(b"shown"), foreign(b"hidden"));
        let trailer = &shown[shown.len() - TRAILER..];
        // A reader of one member sees checksum and size of the right content at the end, and `hidden` before them.
        let forged = [&shown[..], &hidden, trailer].concat();
        assert_eq!(single_member(forged), None);
        assert!(single_member(shown).is_some());
        assert_eq!(single_member(b"\x1f\x8b\x08\0".to_vec()), None);
    }

    #[test]
    fn deflate_without_end_and_without_content_is_refused() {
        let empty_blocks = [0, 0, 0, 0xff, 0xff].repeat(2 << 20);
        let stored = [&GZIP_HEADER[..], &empty_blocks].concat();
        let members = GzipMembers::default();
        let error = decode_gzip_keeping(&stored[..], &members).read(&mut [0; 10]).unwrap_err();
        assert!(error.to_string().contains("compressed to more than its uncompressed size"), "{error}");
        assert!(members.take().len() < 5 << 20);
    }
}
