//! Ranges of a remote blob that are mostly next to each other, so that one request serves many.

use crate::common::bounded_read::read_start;
use crate::common::error::{Error, Result};
use crate::spec::Descriptor;
use crate::store::BlobSource;
use std::fmt;
use std::io::{self, Read};
use std::ops::Range;

/// The number of bytes that one request asks for.
const REQUESTED: u64 = 32 << 20;
/// The largest gap that is read rather than left out by a new request. Threads ask for neighbours in any order, so it is mostly
/// needed soon.
const MOST_SKIPPED: u64 = 2 << 20;
/// The number of bytes behind the position that are kept, for the same reason.
const KEPT: usize = 1 << 20;

/// A part of a blob that is read from its start, with as many requests as it takes.
pub(super) struct BlobStream<'a> {
    source: &'a dyn BlobSource,
    blob: Descriptor,
    /// The content of the current request, and the end of its range.
    reader: Box<dyn Read + Send + 'a>,
    end: u64,
    /// The offset of the first byte that is in memory.
    start: u64,
    /// The bytes up to the position of the reader.
    window: Vec<u8>,
}

impl<'a> BlobStream<'a> {
    /// Begins to read `blob` at `start`. Messages call the blob `object`.
    ///
    /// # Errors
    /// Fails if the blob cannot be read, or its registry does not send parts of it.
    pub(super) fn open(source: &'a dyn BlobSource, blob: &Descriptor, start: u64, object: &str) -> Result<Self> {
        let mut stream = BlobStream {
            source,
            blob: blob.clone(),
            reader: Box::new(io::empty()),
            end: start,
            start,
            window: Vec::new(),
        };
        stream.request(object)?;
        Ok(stream)
    }

    /// Returns whether this range of `blob` is in memory or comes soon.
    pub(super) fn has(&self, blob: &Descriptor, range: &Range<u64>) -> bool {
        let position = self.start + self.window.len() as u64;
        self.blob.digest == blob.digest && (self.start..=position + MOST_SKIPPED).contains(&range.start)
    }

    /// Returns the bytes of a range that it has.
    ///
    /// # Errors
    /// Fails if the range cannot be read, or ends behind the blob.
    pub(super) fn read(&mut self, range: &Range<u64>, object: &str) -> Result<Vec<u8>> {
        let needed = (range.end - self.start) as usize;
        while self.window.len() < needed {
            let position = self.start + self.window.len() as u64;
            if position == self.end {
                self.request(object)?;
            }
            let length = range.end.min(self.end) - position;
            let read = read_start(&mut self.reader, length, &mut self.window);
            if read.map_err(|error| Error::io(object, "read", error))? as u64 != length {
                return Err(Error::invalid(object, "the registry sent less than it said"));
            }
        }
        let bytes = self.window[(range.start - self.start) as usize..needed].to_vec();
        if self.window.len() > KEPT + KEPT / 2 {
            let gone = self.window.len() - KEPT;
            self.window.drain(..gone);
            self.start += gone as u64;
        }
        Ok(bytes)
    }

    /// Requests the bytes that follow.
    fn request(&mut self, object: &str) -> Result<()> {
        let following = self.end..self.blob.size.min(self.end + REQUESTED);
        if following.is_empty() {
            return Err(Error::invalid(object, "the range ends behind the blob"));
        }
        self.end = following.end;
        let reader = self.source.open_range(&self.blob, following)?;
        self.reader = reader.ok_or_else(|| Error::invalid(object, "the registry does not send parts of it"))?;
        Ok(())
    }
}

impl fmt::Debug for BlobStream<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobStream").field("blob", &self.blob).finish_non_exhaustive()
    }
}
