//! The content of a blob that is uploaded: read as a stream, by ranges, and again after a failure.

use crate::common::error::{Error, Result};
use crate::spec::Descriptor;
use crate::store::{Opener, Verified};
use std::fmt;
use std::io::{self, Read};

/// The bytes of one blob, whose size is known in advance.
pub(super) struct BlobContent<'a> {
    descriptor: &'a Descriptor,
    open: Box<Opener<'a>>,
    /// The open reader and its position, in bytes.
    reader: Option<(Verified<Box<dyn Read + Send + 'a>>, u64)>,
}

impl<'a> BlobContent<'a> {
    pub(super) fn new<'o: 'a>(descriptor: &'a Descriptor, open: &'a Opener<'o>) -> Self {
        // Boxed again, so that callers do not have to name the lifetime of the blob.
        let open = Box::new(|| open().map(|reader| reader as Box<dyn Read + Send + 'a>));
        BlobContent { descriptor, open, reader: None }
    }

    pub(super) fn size(&self) -> u64 {
        self.descriptor.size
    }

    /// Returns a reader of `length` bytes from `offset` on.
    ///
    /// Continuing at the end of the previous range costs nothing; going back reads the blob again from its beginning.
    pub(super) fn part(&mut self, offset: u64, length: u64) -> Result<BlobPart<'_, 'a>> {
        let opened = match self.reader.take() {
            Some((reader, position)) if position <= offset => Some((reader, position)),
            _ => None,
        };
        let (mut reader, position) = match opened {
            Some(opened) => opened,
            None => (Verified::new((self.open)()?, self.descriptor), 0),
        };
        let gap = offset - position;
        io::copy(&mut (&mut reader).take(gap), &mut io::sink()).map_err(|error| unreadable(self.descriptor, error))?;
        self.reader = Some((reader, offset));
        Ok(BlobPart { content: self, left: length })
    }
}

fn unreadable(descriptor: &Descriptor, error: io::Error) -> Error {
    Error::io(format!("blob {}", descriptor.digest), "read", error).about_blob(&descriptor.digest)
}

impl fmt::Debug for BlobContent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content").field("descriptor", &self.descriptor).finish_non_exhaustive()
    }
}

/// A range of a blob. Its I/O errors wrap an [`Error`] that names the blob.
#[derive(Debug)]
pub(super) struct BlobPart<'p, 'a> {
    content: &'p mut BlobContent<'a>,
    left: u64,
}

impl Read for BlobPart<'_, '_> {
    /// Reads on. The blob's last bytes are returned only after its end was seen and its digest verified, so a damaged blob is
    /// never uploaded completely.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        let descriptor = self.content.descriptor;
        let failed = |error| io::Error::from(unreadable(descriptor, error));
        // Taken out, so that a reader that failed is not read again.
        let Some((mut reader, position)) = self.content.reader.take() else {
            return Err(failed(io::ErrorKind::UnexpectedEof.into()));
        };
        let read = loop {
            match reader.read(&mut buffer[..wanted]) {
                // The client that sends the blob does not read again after a signal.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read.map_err(failed)?,
            }
        };
        let position = position + read as u64;
        if position == self.content.size() {
            io::copy(&mut reader, &mut io::sink()).map_err(failed)?;
        }
        self.left -= read as u64;
        self.content.reader = Some((reader, position));
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn all(mut part: BlobPart<'_, '_>) -> String {
        let mut text = Vec::new();
        match io::copy(&mut part, &mut text) {
            Ok(_) => String::from_utf8(text).unwrap(),
            Err(error) => Error::io("part", "read", error).reason(),
        }
    }

    #[test]
    fn parts_in_order_open_the_blob_once() {
        let opened = Cell::new(0);
        let open = || -> Result<Box<dyn Read + Send>> {
            opened.set(opened.get() + 1);
            Ok(Box::new(&b"abcdefgh"[..]))
        };
        let descriptor = Descriptor::of("m", b"abcdefgh");
        let mut content = BlobContent::new(&descriptor, &open);
        assert_eq!(all(content.part(0, 3).unwrap()), "abc");
        assert_eq!(all(content.part(3, 2).unwrap()), "de");
        assert_eq!(all(content.part(6, 2).unwrap()), "gh");
        assert_eq!(opened.get(), 1);
        assert_eq!(all(content.part(2, 6).unwrap()), "cdefgh");
        assert_eq!(opened.get(), 2);
    }

    #[test]
    fn the_last_bytes_are_held_back_from_a_damaged_blob() {
        let descriptor = Descriptor::of("m", b"abcdefgh");
        for (damaged, reason) in [
            (&b"abcdefgH"[..], "its content has the digest"),
            (b"abcdefg", "expected 8 bytes, found 7"),
            (b"abcdefghi", "longer than its 8 bytes"),
        ] {
            let open = || -> Result<Box<dyn Read + Send>> { Ok(Box::new(damaged)) };
            let mut content = BlobContent::new(&descriptor, &open);
            assert_eq!(all(content.part(0, 6).unwrap()), "abcdef");
            let mut sent = Vec::new();
            let error = io::copy(&mut content.part(6, 2).unwrap(), &mut sent).unwrap_err();
            let error = Error::io("part", "read", error).to_string();
            assert!(error.contains(reason) && sent.len() < 2, "{error}");
        }
    }
}
