//! The sources of file contents, and how exactly their sizes are enforced.
//!
//! A tar header gives the length of a file before its first byte is written. If the file then turned out longer, the rest
//! would be read as further entries, and anyone who can append to a source file could put a setuid program into the
//! image. So a content yields exactly the announced number of bytes, or fails.

use super::Stamp;
use crate::codec::compression::GzipMembers;
use crate::common::bounded_read::read_full;
use crate::common::error::{Error, ErrorKind, Result};
use crate::common::file_section::append_from;
use crate::common::root::Root;
use cap_std::fs::Metadata;
use std::ffi::OsStr;
use std::fmt;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;

/// The source of a file's bytes.
#[derive(Debug, Clone)]
pub enum Content {
    /// Bytes in memory.
    Bytes(Arc<[u8]>),
    /// A file in a source directory. It may change at any moment.
    File(Arc<FileContent>),
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

/// A file as the directory walk found it.
#[derive(Debug, Clone)]
pub struct FileContent {
    /// The directory that it is in, shared by all of its files.
    pub directory: Arc<SourceDirectory>,
    /// Its name there.
    pub name: Box<OsStr>,
    /// Its identity, size and times when it was found.
    pub stamp: Stamp,
}

/// A directory with files to copy.
#[derive(Debug)]
pub struct SourceDirectory {
    /// The directory that the user named.
    pub root: Root,
    /// The path of this directory below `root`; empty for `root` itself.
    pub path: PathBuf,
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
            Content::File(file) => file.append(offset, length, size, buffer),
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

impl FileContent {
    /// Returns the path of the file, for messages.
    pub fn display(&self) -> String {
        self.directory.root.display(self.path())
    }

    /// Returns the path of the file below the directory that the user named.
    fn path(&self) -> PathBuf {
        self.directory.path.join(&*self.name)
    }

    fn append(&self, offset: u64, length: usize, size: u64, buffer: &mut Vec<u8>) -> Result<()> {
        let failed = |error: io::Error| Error::io(self.display(), "read", error);
        let opened = self.directory.root.open_described_file(self.path());
        let (file, metadata) = opened.map_err(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::Invalid => self.changed("removed during the build"),
            _ => error,
        })?;
        self.compare(&metadata)?;
        let end = buffer.len() + length;
        let read = append_from(&file, offset, length, buffer).map_err(failed)?;
        if read < length {
            return Err(self.changed(&format!(
                "modified during the build: expected {size} bytes, found {}",
                offset + read as u64
            )));
        }
        let is_last_part = offset + length as u64 == size;
        if is_last_part && read > length {
            return Err(self.changed(&format!("modified during the build: expected {size} bytes, found more")));
        }
        buffer.truncate(end);
        self.compare(&Metadata::from_file(&file).map_err(failed)?)
    }

    /// Checks that the open file is the one that the walk found, unmodified.
    fn compare(&self, metadata: &Metadata) -> Result<()> {
        let now = Stamp::of(metadata).map_err(|error| Error::io(self.display(), "read", error))?;
        if now.has_content_of(&self.stamp) {
            return Ok(());
        }
        let what = match (now.inode == self.stamp.inode, now.size == self.stamp.size) {
            (false, _) => "replaced during the build".to_owned(),
            (true, false) => {
                format!("modified during the build: expected {} bytes, found {}", self.stamp.size, now.size)
            }
            (true, true) => "modified during the build".to_owned(),
        };
        Err(self.changed(&what))
    }

    fn changed(&self, reason: &str) -> Error {
        Error::new(ErrorKind::Changed, self.display(), reason).hint("retry when nothing is writing to it")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::time::SystemTime;

    fn found(content: &[u8]) -> (tempfile::TempDir, Content, u64) {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("f"), content).unwrap();
        let root = Root::open(directory.path()).unwrap();
        let stamp = Stamp::of(&root.dir().metadata("f").unwrap()).unwrap();
        let directory_of_it = Arc::new(SourceDirectory { root, path: PathBuf::new() });
        let file = FileContent { directory: directory_of_it, name: OsStr::new("f").into(), stamp };
        (directory, Content::File(Arc::new(file)), content.len() as u64)
    }

    fn read(content: &Content, size: u64) -> Result<Vec<u8>> {
        let mut buffer = Vec::new();
        content.append(0, size as usize, size, &mut buffer)?;
        Ok(buffer)
    }

    #[test]
    fn a_file_at_rest_is_read_whole_and_in_parts() {
        let (_keep, content, size) = found(b"0123456789");
        assert_eq!(read(&content, size).unwrap(), b"0123456789");
        let mut parts = b"in front ".to_vec();
        content.append(3, 4, size, &mut parts).unwrap();
        content.append(7, 3, size, &mut parts).unwrap();
        assert_eq!(parts, b"in front 3456789");
    }

    #[test]
    fn every_change_is_noticed() {
        type Change = fn(&std::path::Path);
        let changes: [(Change, &str); 5] = [
            (|file| fs::write(file, b"0123456789 and a forged header").unwrap(), "found 30"),
            (|file| fs::write(file, b"01234").unwrap(), "found 5"),
            (|file| fs::remove_file(file).unwrap(), "removed during the build"),
            (
                |file| {
                    fs::write(file.with_extension("new"), b"9876543210").unwrap();
                    fs::rename(file.with_extension("new"), file).unwrap();
                },
                "replaced during the build",
            ),
            (
                |file| {
                    let file = fs::File::options().write(true).open(file).unwrap();
                    file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
                },
                "modified during the build",
            ),
        ];
        for (change, reason) in changes {
            let (keep, content, size) = found(b"0123456789");
            change(&keep.path().join("f"));
            let error = read(&content, size).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Changed);
            assert!(error.to_string().contains(reason), "{error}");
        }
    }
}
