//! Directory listing through cap-std.

use super::{FileKind, Status};
use crate::common::error::Result;
use crate::common::root::Root;
use crate::layers::tree::PathKind;
use cap_fs_ext::{DirEntryExt as _, DirExt as _};
use cap_std::fs::{Dir, DirEntry};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// A directory, opened to be listed.
#[derive(Debug)]
pub(in crate::layers::tree) struct DirectoryListing(Dir);

/// An entry of a directory.
pub(in crate::layers::tree) struct ListedFile<'a> {
    directory: &'a Dir,
    entry: DirEntry,
    name: OsString,
}

impl DirectoryListing {
    /// Opens the directory `relative` below `root`, or `root` itself if `relative` is empty.
    pub(in crate::layers::tree) fn open(root: &Root, relative: &Path) -> io::Result<Self> {
        let opened = if relative.as_os_str().is_empty() {
            root.dir().try_clone()
        } else {
            root.dir().open_dir_nofollow(relative)
        };
        opened.map(DirectoryListing)
    }

    /// Calls `visit` with every entry, in the order of the file system, until it fails.
    pub(in crate::layers::tree) fn for_each(
        &self,
        mut visit: impl FnMut(io::Result<ListedFile<'_>>) -> Result<()>,
    ) -> Result<()> {
        let entries = match self.0.entries() {
            Ok(entries) => entries,
            Err(error) => return visit(Err(error)),
        };
        for entry in entries {
            let listed = |entry: DirEntry| ListedFile { directory: &self.0, name: entry.file_name(), entry };
            visit(entry.map(listed))?;
        }
        Ok(())
    }
}

impl ListedFile<'_> {
    pub(in crate::layers::tree) fn name(&self) -> &OsStr {
        &self.name
    }

    /// Returns whether the entry is a directory. Most file systems report this without a further call.
    pub(in crate::layers::tree) fn path_kind(&self) -> io::Result<PathKind> {
        Ok(FileKind::of(self.entry.file_type()?).path_kind())
    }

    pub(in crate::layers::tree) fn status(&self) -> io::Result<Status> {
        // Windows reports the identity of a file only through a handle.
        Status::of(&self.entry.full_metadata()?)
    }

    /// Returns the target of a symbolic link.
    pub(in crate::layers::tree) fn target(&self) -> io::Result<PathBuf> {
        self.directory.read_link_contents(&self.name)
    }

    /// Opens the entry for reading, unless it is a symbolic link.
    pub(in crate::layers::tree) fn open(&self) -> io::Result<File> {
        let opened = if self.status()?.kind == FileKind::Directory {
            self.directory.open_dir_nofollow(&self.name)?.open(".")?
        } else {
            self.entry.open()?
        };
        Ok(opened.into_std())
    }
}
