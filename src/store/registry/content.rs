//! A blob on its way to a registry: read as a stream, in parts, and again where a part was lost.

use crate::error::{Error, Result};
use std::fmt;
use std::io::{self, Read};

/// Opens the blob at its beginning. Called again whenever bytes that were already read must be sent once more.
pub type Open<'a> = dyn Fn() -> Result<Box<dyn Read + Send + 'a>> + 'a;

/// The bytes of one blob, of a size that is known beforehand.
pub(super) struct Content<'a> {
    object: String,
    size: u64,
    open: &'a Open<'a>,
    /// The open reader and how many bytes it has given.
    reader: Option<(Box<dyn Read + Send + 'a>, u64)>,
}

impl<'a> Content<'a> {
    pub(super) fn new(object: &str, size: u64, open: &'a Open<'a>) -> Self {
        Content { object: object.to_owned(), size, open, reader: None }
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// The `length` bytes from `offset` on. Going on where the last part ended costs nothing; going back reads the blob
    /// again from its beginning.
    pub(super) fn part(&mut self, offset: u64, length: u64) -> Result<Part<'_, 'a>> {
        let opened = match self.reader.take() {
            Some((reader, position)) if position <= offset => Some((reader, position)),
            _ => None,
        };
        let (mut reader, position) = match opened {
            Some(opened) => opened,
            None => ((self.open)()?, 0),
        };
        let gap = offset - position;
        let skipped = io::copy(&mut (&mut reader).take(gap), &mut io::sink())
            .map_err(|error| Error::io(&self.object, "read", error))?;
        if skipped < gap {
            return Err(self.changed("shorter"));
        }
        self.reader = Some((reader, offset));
        Ok(Part { content: self, left: length })
    }

    fn changed(&self, how: &str) -> Error {
        Error::corrupt(&self.object, format!("{how} than its descriptor says ({} bytes)", self.size))
    }
}

impl fmt::Debug for Content<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content").field("object", &self.object).field("size", &self.size).finish_non_exhaustive()
    }
}

/// A part of a blob. Every failure that it reports is the blob's own, as one of our errors within the `io::Error`.
#[derive(Debug)]
pub(super) struct Part<'p, 'a> {
    content: &'p mut Content<'a>,
    left: u64,
}

impl Read for Part<'_, '_> {
    /// Reads on, and gives the blob's last bytes away only after its source has ended well. A source that finds at its
    /// end that the digest is wrong thus stops the upload before the registry has the whole.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        // Taken out, so that a reader that failed is never read on.
        let Some((mut reader, position)) = self.content.reader.take() else {
            return Err(self.content.changed("shorter").into());
        };
        let failed = |error| io::Error::from(Error::io(&self.content.object, "read", error));
        let read = reader.read(&mut buffer[..wanted]).map_err(failed)?;
        if read == 0 {
            return Err(self.content.changed("shorter").into());
        }
        let position = position + read as u64;
        if position == self.content.size && reader.read(&mut [0]).map_err(failed)? != 0 {
            return Err(self.content.changed("longer").into());
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

    fn all(mut part: Part<'_, '_>) -> Result<String, String> {
        let mut text = Vec::new();
        io::copy(&mut part, &mut text).map_err(|error| Error::io("part", "read", error).to_string())?;
        Ok(String::from_utf8(text).unwrap())
    }

    #[test]
    fn parts_in_order_open_the_blob_once() {
        let opened = Cell::new(0);
        let open = || -> Result<Box<dyn Read + Send>> {
            opened.set(opened.get() + 1);
            Ok(Box::new(&b"abcdefgh"[..]))
        };
        let mut content = Content::new("blob", 8, &open);
        assert_eq!(all(content.part(0, 3).unwrap()), Ok("abc".to_owned()));
        assert_eq!(all(content.part(3, 2).unwrap()), Ok("de".to_owned()));
        assert_eq!(all(content.part(6, 2).unwrap()), Ok("gh".to_owned()));
        assert_eq!(opened.get(), 1);
        assert_eq!(all(content.part(2, 6).unwrap()), Ok("cdefgh".to_owned()));
        assert_eq!(opened.get(), 2);
    }

    #[test]
    fn a_blob_of_another_size_is_an_error() {
        let open = || -> Result<Box<dyn Read + Send>> { Ok(Box::new(&b"abc"[..])) };
        let shorter = all(Content::new("blob", 4, &open).part(0, 4).unwrap());
        assert_eq!(shorter, Err("blob: shorter than its descriptor says (4 bytes)".to_owned()));
        let longer = all(Content::new("blob", 2, &open).part(0, 2).unwrap());
        assert_eq!(longer, Err("blob: longer than its descriptor says (2 bytes)".to_owned()));
        assert!(Content::new("blob", 9, &open).part(5, 1).is_err());
    }

    #[test]
    fn the_last_bytes_are_held_back_until_the_source_ends_well() {
        struct Damaged(bool);
        impl Read for Damaged {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                if std::mem::replace(&mut self.0, true) {
                    return Err(Error::corrupt("blob", "wrong digest").into());
                }
                buffer[..3].copy_from_slice(b"abc");
                Ok(3)
            }
        }
        let open = || -> Result<Box<dyn Read + Send>> { Ok(Box::new(Damaged(false))) };
        let mut content = Content::new("blob", 3, &open);
        let mut sent = Vec::new();
        let error = io::copy(&mut content.part(0, 3).unwrap(), &mut sent).unwrap_err();
        assert_eq!(Error::io("upload", "read", error).to_string(), "blob: wrong digest");
        assert!(sent.is_empty());
    }
}
