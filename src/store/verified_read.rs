//! Verification of blobs while they are read.

use super::BlobSource;
use crate::common::bounded_read;
use crate::common::digest::{Digest, Hasher};
use crate::common::error::{Error, ErrorKind, Result};
use crate::common::limits::MostBytes;
use crate::spec::Descriptor;
use std::io::{self, Read};

/// A reader that reaches its end only if it returned exactly the bytes of a known digest and size.
///
/// Content that is too long fails at the first excess byte, not at its end.
#[derive(Debug)]
pub struct Verified<R> {
    source: R,
    expected: Digest,
    size: u64,
    /// `None` after the end.
    hasher: Option<Hasher>,
    left: u64,
    mismatch: Mismatch,
}

/// The meaning of other bytes than the expected ones.
#[derive(Debug)]
enum Mismatch {
    /// The blob is damaged.
    Damage,
    /// The file of this name has changed since its digest was computed.
    Change(String),
}

impl<R: Read> Verified<R> {
    /// Creates a reader that verifies `source` against `descriptor`.
    pub fn new(source: R, descriptor: &Descriptor) -> Self {
        Verified::expecting(source, descriptor.digest, descriptor.size, Mismatch::Damage)
    }

    /// Creates a reader of a file that must not have changed since it had this digest and size. Messages call it `object`.
    pub fn unchanged(source: R, digest: Digest, size: u64, object: String) -> Self {
        Verified::expecting(source, digest, size, Mismatch::Change(object))
    }

    fn expecting(source: R, expected: Digest, size: u64, mismatch: Mismatch) -> Self {
        Verified { source, expected, size, hasher: Some(Hasher::new(expected.algorithm())), left: size, mismatch }
    }

    fn wrong(&self, reason: String) -> io::Error {
        let error = match &self.mismatch {
            Mismatch::Damage => Error::corrupt(format!("blob {}", self.expected), reason).about_blob(&self.expected),
            Mismatch::Change(object) => Error::new(ErrorKind::Changed, object, "changed while reading"),
        };
        error.into()
    }
}

impl<R: Read> Read for Verified<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let read = self.source.read(buffer)?;
        let size = self.size;
        if read as u64 > self.left {
            return Err(self.wrong(format!("longer than its {size} bytes")));
        }
        self.left -= read as u64;
        if read > 0 {
            if let Some(hasher) = &mut self.hasher {
                hasher.update(&buffer[..read]);
            }
            return Ok(read);
        }
        if self.left > 0 {
            return Err(self.wrong(format!("expected {size} bytes, found {}", size - self.left)));
        }
        match self.hasher.take().map(Hasher::finish) {
            Some(found) if found != self.expected => Err(self.wrong(format!("its content has the digest {found}"))),
            _ => Ok(0),
        }
    }
}

/// Reads and verifies a whole manifest, index or config.
///
/// # Errors
/// Fails if it is missing, larger than `most`, or does not match its descriptor.
pub fn read_document(source: &dyn BlobSource, descriptor: &Descriptor, most: impl Into<MostBytes>) -> Result<Vec<u8>> {
    let object = format!("blob {}", descriptor.digest);
    let bound = most.into();
    bound.check(descriptor.size, &object).map_err(|error| error.about_blob(&descriptor.digest))?;
    bounded_read::read(Verified::new(source.open(descriptor)?, descriptor), bound, &object)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content: &[u8], descriptor: &Descriptor) -> String {
        match bounded_read::read(Verified::new(content, descriptor), 1 << 20, "x") {
            Ok(bytes) => String::from_utf8(bytes).unwrap(),
            Err(error) => error.reason(),
        }
    }

    #[test]
    fn only_the_described_bytes_pass() {
        let descriptor = Descriptor::of("m", b"content");
        assert_eq!(read(b"content", &descriptor), "content");
        assert_eq!(read(b"conten", &descriptor), "expected 7 bytes, found 6");
        assert_eq!(read(b"contents", &descriptor), "longer than its 7 bytes");
        assert!(read(b"Content", &descriptor).starts_with("its content has the digest sha256:"));
    }

    #[test]
    fn every_mismatch_of_an_unchanged_file_is_a_change() {
        for content in [&b"conten"[..], b"contents", b"Content"] {
            let reader = Verified::unchanged(content, Digest::of(b"content"), 7, "file".to_owned());
            let error = bounded_read::read(reader, 1 << 20, "x").unwrap_err();
            assert_eq!(
                (error.kind(), error.to_string()),
                (ErrorKind::Changed, "file: changed while reading".to_owned())
            );
        }
    }

    #[test]
    fn an_endless_blob_fails_at_its_size() {
        let descriptor = Descriptor::of("m", &[0; 10]);
        let error = bounded_read::read(Verified::new(io::repeat(0), &descriptor), u64::MAX, "x").unwrap_err();
        assert_eq!(error.reason(), "longer than its 10 bytes");
    }
}
