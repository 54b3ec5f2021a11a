//! The files of a source directory, as the walk found them.

use super::Stamp;
use crate::common::error::{Error, ErrorKind, Result};
use crate::common::file_section::{append_from, read_ahead};
use crate::common::root::{Root, path_of_bytes};
use cap_std::fs::Metadata;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A directory with files to copy.
///
/// It has the names and stamps of its files in lists, since a hundred thousand files with a name and a stamp of their own would
/// be most of the memory of a build.
#[derive(Debug)]
pub struct SourceDirectory {
    /// The directory that the user named.
    root: Root,
    /// The path of this directory below `root`; empty for `root` itself.
    path: PathBuf,
    /// The names of all files, concatenated.
    names: Vec<u8>,
    /// The position behind the name of each file.
    ends: Vec<u32>,
    stamps: Vec<Stamp>,
}

/// A file of a source directory. It may change at any moment.
#[derive(Debug, Clone)]
pub struct SourceFile {
    directory: Arc<SourceDirectory>,
    number: u32,
}

/// An open file of a source directory, unchanged when it was opened.
#[derive(Debug)]
pub(in crate::layers) struct OpenSourceFile {
    source: SourceFile,
    file: File,
}

impl SourceDirectory {
    /// Creates the directory at `path` below `root`, without files.
    pub(crate) fn new(root: Root, path: PathBuf) -> Self {
        SourceDirectory { root, path, names: Vec::new(), ends: Vec::new(), stamps: Vec::new() }
    }

    /// Adds the file `name`, and returns its number.
    ///
    /// # Errors
    /// Returns an error if all names together have 4 GiB.
    pub(crate) fn add(&mut self, name: &[u8], stamp: Stamp) -> Result<u32> {
        let end = u32::try_from(self.names.len() + name.len());
        let end = end.map_err(|_| Error::invalid(self.root.display(&self.path), "has more than 4 GiB of names"))?;
        self.names.extend_from_slice(name);
        self.ends.push(end);
        self.stamps.push(stamp);
        Ok(self.ends.len() as u32 - 1)
    }

    /// Returns the path below the directory that the user named.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the name of file `number`.
    pub(super) fn name(&self, number: u32) -> &[u8] {
        let number = number as usize;
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.names[start as usize..self.ends[number] as usize]
    }

    /// Returns the stamp of file `number`.
    pub(super) fn stamp(&self, number: u32) -> &Stamp {
        &self.stamps[number as usize]
    }

    /// Returns the length of all names together.
    pub(super) fn names_length(&self) -> usize {
        self.names.len()
    }

    /// Frees the memory that would be used for further files.
    pub(super) fn shrink_to_fit(&mut self) {
        self.names.shrink_to_fit();
        self.ends.shrink_to_fit();
        self.stamps.shrink_to_fit();
    }
}

impl SourceFile {
    /// Returns file `number` of `directory`, which has it.
    pub(crate) fn of(directory: &Arc<SourceDirectory>, number: u32) -> Self {
        SourceFile { directory: directory.clone(), number }
    }

    /// Returns its directory, and its number there.
    pub(super) fn into_parts(self) -> (Arc<SourceDirectory>, u32) {
        (self.directory, self.number)
    }

    /// Returns its identity, size and times when it was found.
    pub fn stamp(&self) -> &Stamp {
        self.directory.stamp(self.number)
    }

    /// Returns the path of the file, for messages.
    pub fn display(&self) -> String {
        self.directory.root.display(self.path())
    }

    /// Returns the path of the file below the directory that the user named.
    fn path(&self) -> PathBuf {
        self.directory.path.join(path_of_bytes(self.directory.name(self.number)))
    }

    /// Opens the file, and has the system read the `length` bytes from `offset` while other work is done.
    ///
    /// # Errors
    /// Returns an error if the file cannot be opened, or has changed since it was found.
    pub(in crate::layers) fn open(&self, offset: u64, length: u64) -> Result<OpenSourceFile> {
        let opened = self.directory.root.open_described_file(self.path());
        let (file, metadata) = opened.map_err(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::Invalid => self.changed("removed during the build"),
            _ => error,
        })?;
        self.compare(&metadata)?;
        read_ahead(&file, offset, length);
        Ok(OpenSourceFile { source: self.clone(), file })
    }

    /// Checks that the open file is the one that the walk found, unmodified.
    fn compare(&self, metadata: &Metadata) -> Result<()> {
        let now = Stamp::of(metadata).map_err(|error| Error::io(self.display(), "read", error))?;
        let stamp = self.stamp();
        if now.has_content_of(stamp) {
            return Ok(());
        }
        let what = match (now.inode == stamp.inode, now.size == stamp.size) {
            (false, _) => "replaced during the build".to_owned(),
            (true, false) => format!("modified during the build: expected {} bytes, found {}", stamp.size, now.size),
            (true, true) => "modified during the build".to_owned(),
        };
        Err(self.changed(&what))
    }

    fn changed(&self, reason: &str) -> Error {
        Error::new(ErrorKind::Changed, self.display(), reason).hint("retry when nothing is writing to it")
    }
}

impl OpenSourceFile {
    /// Appends `length` bytes from `offset` of a content of `size` bytes to `buffer`.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read, is shorter or longer than `size`, or has changed since it was found.
    pub(in crate::layers) fn append(&self, offset: u64, length: usize, size: u64, buffer: &mut Vec<u8>) -> Result<()> {
        let OpenSourceFile { source, file } = self;
        let failed = |error: io::Error| Error::io(source.display(), "read", error);
        let end = buffer.len() + length;
        let read = append_from(file, offset, length, buffer).map_err(failed)?;
        if read < length {
            return Err(source.changed(&format!(
                "modified during the build: expected {size} bytes, found {}",
                offset + read as u64
            )));
        }
        let is_last_part = offset + length as u64 == size;
        if is_last_part && read > length {
            return Err(source.changed(&format!("modified during the build: expected {size} bytes, found more")));
        }
        buffer.truncate(end);
        source.compare(&Metadata::from_file(file).map_err(failed)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::time::SystemTime;

    fn found(content: &[u8]) -> (tempfile::TempDir, SourceFile, u64) {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("f"), content).unwrap();
        let root = Root::open(directory.path()).unwrap();
        let stamp = Stamp::of(&root.dir().metadata("f").unwrap()).unwrap();
        let mut source = SourceDirectory::new(root, PathBuf::new());
        let number = source.add(b"f", stamp).unwrap();
        (directory, SourceFile::of(&Arc::new(source), number), content.len() as u64)
    }

    fn read(content: &SourceFile, size: u64) -> Result<Vec<u8>> {
        let mut buffer = Vec::new();
        content.open(0, size)?.append(0, size as usize, size, &mut buffer)?;
        Ok(buffer)
    }

    #[test]
    fn a_file_at_rest_is_read_whole_and_in_parts() {
        let (_keep, content, size) = found(b"0123456789");
        assert_eq!(read(&content, size).unwrap(), b"0123456789");
        let mut parts = b"in front ".to_vec();
        content.open(3, 4).unwrap().append(3, 4, size, &mut parts).unwrap();
        content.open(7, 3).unwrap().append(7, 3, size, &mut parts).unwrap();
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
