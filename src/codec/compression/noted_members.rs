//! Notes where the members of a gzip stream end while it is read, so that later a part of it can be read and verified alone.

use super::gzip_members::{MemberSource, read_buffered};
use crate::common::digest::{Digest, Hasher};
use std::io::{self, BufRead, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The largest number of members that are noted. A stream of more, which would be of more than 64 GiB if this program had written
/// it, has no notes.
const MOST_MEMBERS: usize = 1 << 16;

/// A gzip member of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotedMember {
    /// Where it ends in the stream, in bytes.
    pub packed_end: u64,
    /// Where its content ends in the content of the stream, in bytes.
    pub end: u64,
    /// The SHA-256 of its compressed bytes.
    pub digest: Digest,
}

/// The members that were read so far. The reader and the taker share them.
#[derive(Debug, Clone, Default)]
pub struct MemberNotes(Arc<Mutex<NotesState>>);

#[derive(Debug)]
struct NotesState {
    members: Vec<NotedMember>,
    packed: u64,
    content: u64,
    hasher: Hasher,
    are_too_many: bool,
}

impl Default for NotesState {
    fn default() -> Self {
        NotesState { members: Vec::new(), packed: 0, content: 0, hasher: Hasher::sha256(), are_too_many: false }
    }
}

impl MemberNotes {
    /// Returns the members of a stream that was read to its end, in order.
    pub fn take(&self) -> Vec<NotedMember> {
        std::mem::take(&mut self.state().members)
    }

    fn state(&self) -> MutexGuard<'_, NotesState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The compressed side: hashes what is consumed of `source`.
pub(super) struct NotedSource<R> {
    source: R,
    notes: MemberNotes,
}

impl<R> NotedSource<R> {
    pub(super) fn new(source: R, notes: MemberNotes) -> Self {
        NotedSource { source, notes }
    }
}

impl<R: BufRead> MemberSource for NotedSource<R> {
    fn end_member(&mut self) {
        let mut state = self.notes.state();
        let digest = std::mem::replace(&mut state.hasher, Hasher::sha256()).finish();
        let member = NotedMember { packed_end: state.packed, end: state.content, digest };
        state.are_too_many |= state.members.len() >= MOST_MEMBERS;
        match state.are_too_many {
            true => state.members.clear(),
            false => state.members.push(member),
        }
    }
}

impl<R: BufRead> BufRead for NotedSource<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.source.fill_buf()
    }

    fn consume(&mut self, length: usize) {
        if let Ok(bytes) = self.source.fill_buf() {
            let mut state = self.notes.state();
            state.hasher.update(&bytes[..length]);
            state.packed += length as u64;
        }
        self.source.consume(length);
    }
}

impl<R: BufRead> Read for NotedSource<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        read_buffered(self, buffer)
    }
}

/// The content: counts what is read, before the next member ends.
pub(super) struct NotedContent<R> {
    content: R,
    notes: MemberNotes,
}

impl<R> NotedContent<R> {
    pub(super) fn new(content: R, notes: MemberNotes) -> Self {
        NotedContent { content, notes }
    }
}

impl<R: Read> Read for NotedContent<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.content.read(buffer)?;
        self.notes.state().content += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Compression, Compressor, Encoding, decode, decode_gzip_noting};
    use super::*;

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut stored = Vec::new();
        Compressor::new(Compression::Gzip(6)).unwrap().compress(content, &mut stored).unwrap();
        stored
    }

    #[test]
    fn each_member_is_a_stream_of_its_own() {
        let contents: [&[u8]; 4] = [b"first", b"", &[b'x'; 300_000], b"last"];
        let stored = [contents.map(gzip).concat(), vec![0; 100]].concat();
        let notes = MemberNotes::default();
        let mut all = Vec::new();
        decode_gzip_noting(&stored[..], &notes).read_to_end(&mut all).unwrap();
        assert_eq!(all, contents.concat());
        let members = notes.take();
        assert_eq!(members.len(), 4);
        let (mut start, mut packed_start) = (0, 0);
        for (member, content) in members.iter().zip(contents) {
            let bytes = &stored[packed_start..member.packed_end as usize];
            assert_eq!((member.digest, member.end), (Digest::of(bytes), start + content.len() as u64));
            let mut alone = Vec::new();
            decode(bytes, Encoding::Gzip).unwrap().read_to_end(&mut alone).unwrap();
            assert_eq!(alone, content);
            (start, packed_start) = (member.end, member.packed_end as usize);
        }
    }

    #[test]
    fn a_stream_of_too_many_members_has_no_notes() {
        let empty = gzip(b"");
        let stored = empty.repeat(MOST_MEMBERS + 1);
        let notes = MemberNotes::default();
        decode_gzip_noting(&stored[..], &notes).read_to_end(&mut Vec::new()).unwrap();
        assert_eq!(notes.take(), []);
        let notes = MemberNotes::default();
        decode_gzip_noting(&stored[empty.len()..], &notes).read_to_end(&mut Vec::new()).unwrap();
        assert_eq!(notes.take().len(), MOST_MEMBERS);
    }
}
