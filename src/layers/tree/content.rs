//! The sources of file contents, and how exactly their sizes are enforced.
//!
//! A tar header gives the length of a file before its first byte is written. If the file then turned out longer, the rest
//! would be read as further entries, and anyone who can append to a source file could put a setuid program into the
//! image. So a content yields exactly the announced number of bytes, or fails.

use super::SourceFile;
use crate::codec::compression::GzipMembers;
use crate::common::bounded_read::read_full;
use crate::common::error::{Error, Result};
use crate::common::file_section::append_from;
use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;

/// The source of a file's bytes.
#[derive(Debug, Clone)]
pub enum Content {
    /// Bytes in memory.
    Bytes(Arc<[u8]>),
    /// A file in a source directory. It may change at any moment.
    File(SourceFile),
    /// A file in the store of another program, in any format.
    Stored(StoredFile),
    /// A range of a file that no other process can reach.
    Spooled {
        /// The open file.
        file: Arc<std::fs::File>,
        /// The offset of the content in it, in bytes.
        offset: u64,
    },
}

/// Files in the store of another program, in a format of its own.
///
/// The files may be compressed, or need changes when they are read. The store is outside this module, and its files can
/// only be read from start to end.
pub trait StoredFiles: fmt::Debug + Send + Sync {
    /// Opens the content of file `number`. The reader yields exactly the announced number of bytes and ends without an
    /// error if and only if they are the right ones.
    ///
    /// # Errors
    /// Returns an error if there is no such file, or if its content is missing or immediately found to be damaged.
    fn open(&self, number: u32) -> Result<Box<dyn Read + Send>>;

    /// Fills `buffer`, which has the announced length, with the whole content of file `number`.
    ///
    /// # Errors
    /// Returns an error if the content is missing, damaged, or of another length.
    fn read_whole(&self, number: u32, buffer: &mut [u8]) -> Result<()> {
        ContentStream::of(self.open(number)?).read(buffer.len() as u64, buffer)
    }

    /// Opens the content of file `number`, with the gzip members that hold it.
    ///
    /// There are members only if the store keeps the content in gzip. They are available as far as the reader has been
    /// read, and all of them once it has ended.
    ///
    /// # Errors
    /// The same as [`StoredFiles::open`].
    fn open_with_members(&self, number: u32) -> Result<(Box<dyn Read + Send>, Option<GzipMembers>)> {
        Ok((self.open(number)?, None))
    }
}

/// One file of another program's store.
#[derive(Debug, Clone)]
pub struct StoredFile {
    /// All files of the store.
    pub files: Arc<dyn StoredFiles>,
    /// The number of this file.
    pub number: u32,
}

impl Content {
    /// Appends `length` bytes from `offset` of a content of `size` bytes to `buffer`.
    ///
    /// # Errors
    /// Returns an error if the content cannot be read, is shorter or longer than `size`, or has changed since it was
    /// found.
    pub fn append(&self, offset: u64, length: usize, size: u64, buffer: &mut Vec<u8>) -> Result<()> {
        match self {
            Content::Bytes(bytes) => {
                let range = offset as usize..offset as usize + length;
                match bytes.get(range) {
                    Some(part) if bytes.len() as u64 == size => buffer.extend_from_slice(part),
                    _ => {
                        return Err(Error::invalid("content", format!("expected {size} bytes, found {}", bytes.len())));
                    }
                }
                Ok(())
            }
            Content::File(file) => file.open(offset, length as u64)?.append(offset, length, size, buffer),
            Content::Stored(stored) if length as u64 == size => {
                let start = buffer.len();
                buffer.resize(start + length, 0);
                stored.files.read_whole(stored.number, &mut buffer[start..])
            }
            Content::Stored(stored) => {
                let mut stream = ContentStream::open(stored)?;
                stream.skip(offset)?;
                stream.append(length, size, buffer)
            }
            Content::Spooled { file, offset: start } => {
                let end = buffer.len() + length;
                let read = append_from(file, start + offset, length, buffer)
                    .map_err(|error| Error::io("spooled archive", "read", error))?;
                if read < length {
                    return Err(Error::corrupt("spooled archive", "truncated"));
                }
                buffer.truncate(end);
                Ok(())
            }
        }
    }
}

/// A stored content that is read in chunks, one after the other.
pub struct ContentStream {
    reader: Box<dyn Read + Send>,
    members: Option<GzipMembers>,
    position: u64,
}

impl fmt::Debug for ContentStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContentStream").field("position", &self.position).finish_non_exhaustive()
    }
}

impl ContentStream {
    /// Opens `stored` at its start.
    ///
    /// # Errors
    /// The same as [`StoredFiles::open`].
    pub fn open(stored: &StoredFile) -> Result<Self> {
        stored.files.open(stored.number).map(ContentStream::of)
    }

    /// Creates a stream of the content that `reader` yields.
    pub fn of(reader: Box<dyn Read + Send>) -> Self {
        ContentStream { reader, members: None, position: 0 }
    }

    /// Opens `stored` at its start, with the gzip members that hold it.
    ///
    /// # Errors
    /// The same as [`StoredFiles::open_with_members`].
    pub fn open_with_members(stored: &StoredFile) -> Result<Self> {
        let (reader, members) = stored.files.open_with_members(stored.number)?;
        Ok(ContentStream { reader, members, position: 0 })
    }

    /// Takes the gzip members that hold the bytes read since the last call. Returns `None` if the content is not kept in
    /// gzip.
    ///
    /// The members are available as far as they were read.
    pub fn take_members(&self) -> Option<Vec<u8>> {
        self.members.as_ref().map(GzipMembers::take)
    }

    /// Returns how many bytes have been read.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Appends the next `length` bytes of a content of `size` bytes to `buffer`. The chunk that reaches the end checks
    /// that nothing follows.
    ///
    /// # Errors
    /// Returns an error if the content cannot be read, is damaged, or is shorter or longer than `size`.
    pub fn append(&mut self, length: usize, size: u64, buffer: &mut Vec<u8>) -> Result<()> {
        let start = buffer.len();
        buffer.resize(start + length, 0);
        self.read(size, &mut buffer[start..])
    }

    /// Fills `buffer`, as [`ContentStream::append`] does.
    ///
    /// # Errors
    /// The same as [`ContentStream::append`].
    pub fn read(&mut self, size: u64, buffer: &mut [u8]) -> Result<()> {
        let failed = |error| Error::io("content", "read", error);
        let read = read_full(&mut self.reader, buffer).map_err(failed)?;
        self.position += read as u64;
        if read < buffer.len() {
            return Err(Error::corrupt("content", format!("expected {size} bytes, found {}", self.position)));
        }
        if self.position == size && read_full(&mut self.reader, &mut [0]).map_err(failed)? > 0 {
            return Err(Error::corrupt("content", format!("expected {size} bytes, found more")));
        }
        Ok(())
    }

    fn skip(&mut self, length: u64) -> Result<()> {
        let skipped = io::copy(&mut (&mut self.reader).take(length), &mut io::sink());
        self.position += skipped.map_err(|error| Error::io("content", "read", error))?;
        Ok(())
    }
}
