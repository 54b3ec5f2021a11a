//! Directory listing by Linux system calls.

use super::{FileKind, Status};
use crate::common::error::Result;
use crate::common::root::Root;
use crate::layers::tree::stamp::nearest;
use crate::layers::tree::{Owner, PathKind, Stamp};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, RawDirEntry, Stat, openat, readlinkat, statat};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// The size in bytes of the buffer for names. One call lists all but the largest directories.
const BUFFER: usize = 32 << 10;

/// A directory, opened to be listed.
#[derive(Debug)]
pub(in crate::layers::tree) struct DirectoryListing(File);

/// An entry of a directory.
pub(in crate::layers::tree) struct ListedFile<'a> {
    directory: &'a File,
    entry: RawDirEntry<'a>,
}

impl DirectoryListing {
    /// Opens the directory `relative` below `root`, or `root` itself if `relative` is empty.
    pub(in crate::layers::tree) fn open(root: &Root, relative: &Path) -> io::Result<Self> {
        root.open_to_list(relative).map(DirectoryListing)
    }

    /// Calls `visit` with every entry, in the order of the file system, until it fails.
    pub(in crate::layers::tree) fn for_each(
        &self,
        mut visit: impl FnMut(io::Result<ListedFile<'_>>) -> Result<()>,
    ) -> Result<()> {
        let mut buffer = Vec::with_capacity(BUFFER);
        let mut entries = RawDir::new(&self.0, buffer.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            match entry {
                Ok(entry) if matches!(entry.file_name().to_bytes(), b"." | b"..") => {}
                Ok(entry) => visit(Ok(ListedFile { directory: &self.0, entry }))?,
                Err(Errno::INTR) => {}
                // The directory was removed, so it has no entries.
                Err(Errno::NOENT) => break,
                Err(error) => return visit(Err(error.into())),
            }
        }
        Ok(())
    }
}

impl ListedFile<'_> {
    pub(in crate::layers::tree) fn name(&self) -> &OsStr {
        OsStr::from_bytes(self.entry.file_name().to_bytes())
    }

    /// Returns whether the entry is a directory. Most file systems report this without a further call.
    pub(in crate::layers::tree) fn path_kind(&self) -> io::Result<PathKind> {
        match self.entry.file_type() {
            FileType::Unknown => Ok(self.status()?.kind.path_kind()),
            file_type => Ok(kind(file_type).path_kind()),
        }
    }

    pub(in crate::layers::tree) fn status(&self) -> io::Result<Status> {
        Ok(status(&statat(self.directory, self.entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)?))
    }

    /// Returns the target of a symbolic link.
    pub(in crate::layers::tree) fn target(&self) -> io::Result<PathBuf> {
        let target = readlinkat(self.directory, self.entry.file_name(), Vec::new())?;
        Ok(OsString::from_vec(target.into_bytes()).into())
    }

    /// Opens the entry for reading, unless it is a symbolic link.
    pub(in crate::layers::tree) fn open(&self) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(openat(self.directory, self.entry.file_name(), flags, Mode::empty())?.into())
    }
}

fn kind(file_type: FileType) -> FileKind {
    match file_type {
        FileType::RegularFile => FileKind::File,
        FileType::Directory => FileKind::Directory,
        FileType::Symlink => FileKind::Symlink,
        _ => FileKind::Special,
    }
}

fn status(stat: &Stat) -> Status {
    let time = |seconds, nanoseconds| nearest(i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds));
    Status {
        kind: kind(FileType::from_raw_mode(stat.st_mode)),
        mode: stat.st_mode,
        owner: Owner { uid: stat.st_uid, gid: stat.st_gid },
        has_other_names: stat.st_nlink > 1,
        stamp: Stamp {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: stat.st_size as u64,
            modified: time(stat.st_mtime, stat.st_mtime_nsec),
            changed: time(stat.st_ctime, stat.st_ctime_nsec),
        },
    }
}
