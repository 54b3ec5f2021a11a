//! The entries of one directory, with their metadata.
//!
//! Listing takes most of the time for a tree of many small files. Linux is therefore called directly: one handle for each
//! directory, and one call for each entry by its name below that handle. Other systems use cap-std, which takes more
//! handles and more calls.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(any(test, not(target_os = "linux")))]
mod portable;

use super::{Access, Owner, PathKind, Stamp};
use cap_fs_ext::MetadataExt as _;
use cap_std::fs::{FileType, Metadata};
use std::io;

#[cfg(target_os = "linux")]
pub(super) use linux::{DirectoryListing, ListedFile};
#[cfg(not(target_os = "linux"))]
pub(super) use portable::{DirectoryListing, ListedFile};

/// The metadata of a file itself. Symbolic links are not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) kind: FileKind,
    /// The permission bits, and possibly higher bits.
    pub(super) mode: u32,
    /// The owner; root on systems without owners.
    pub(super) owner: Owner,
    pub(super) has_other_names: bool,
    pub(super) stamp: Stamp,
}

/// The type of a file on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileKind {
    File,
    Directory,
    Symlink,
    /// A device, socket or pipe.
    Special,
}

impl Status {
    /// Reads the status from metadata that comes from a handle, not from a path.
    ///
    /// # Errors
    /// Returns an error if the file system keeps no modification times.
    pub(super) fn of(metadata: &Metadata) -> io::Result<Self> {
        Ok(Status {
            kind: FileKind::of(metadata.file_type()),
            mode: mode(metadata),
            owner: owner(metadata),
            has_other_names: metadata.nlink() > 1,
            stamp: Stamp::of(metadata)?,
        })
    }
}

impl Status {
    /// Returns the mode and owner of the file.
    pub(super) fn access(&self) -> Access {
        Access { mode: self.mode, owner: self.owner }
    }
}

impl FileKind {
    fn of(file_type: FileType) -> Self {
        if file_type.is_dir() {
            FileKind::Directory
        } else if file_type.is_file() {
            FileKind::File
        } else if file_type.is_symlink() {
            FileKind::Symlink
        } else {
            FileKind::Special
        }
    }

    fn path_kind(self) -> PathKind {
        if self == FileKind::Directory { PathKind::Directory } else { PathKind::Other }
    }
}

#[cfg(unix)]
fn mode(metadata: &Metadata) -> u32 {
    use cap_std::fs::MetadataExt as _;
    metadata.mode()
}

#[cfg(unix)]
fn owner(metadata: &Metadata) -> Owner {
    use cap_std::fs::MetadataExt as _;
    Owner { uid: metadata.uid(), gid: metadata.gid() }
}

#[cfg(not(unix))]
fn owner(_: &Metadata) -> Owner {
    Owner::default()
}

/// Returns the mode by file type alone, because Windows has no execute bit.
#[cfg(not(unix))]
fn mode(metadata: &Metadata) -> u32 {
    if metadata.is_dir() { 0o755 } else { 0o644 }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;
    use crate::common::root::Root;
    use std::ffi::OsString;
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::symlink;
    use std::path::{Path, PathBuf};

    type ListedEntry = (OsString, PathKind, Status, Option<PathBuf>, Option<String>);

    /// Collects all that a listing returns for `relative`, in the order of names.
    macro_rules! list_all {
        ($listing:ty, $root:expr, $relative:expr) => {{
            let mut listed: Vec<ListedEntry> = Vec::new();
            let listing = <$listing>::open($root, Path::new($relative)).unwrap();
            let result = listing.for_each(|entry| {
                let entry = entry.unwrap();
                let status = entry.status().unwrap();
                let target = (status.kind == FileKind::Symlink).then(|| entry.target().unwrap());
                let content = (status.kind == FileKind::File).then(|| {
                    let mut content = String::new();
                    entry.open().unwrap().read_to_string(&mut content).unwrap();
                    content
                });
                let is_open_directory =
                    || status.kind == FileKind::Directory && entry.open().unwrap().metadata().unwrap().is_dir();
                assert!(status.kind != FileKind::Directory || is_open_directory());
                listed.push((entry.name().to_owned(), entry.path_kind().unwrap(), status, target, content));
                Ok(())
            });
            result.unwrap();
            listed.sort_by(|a, b| a.0.cmp(&b.0));
            listed
        }};
    }

    #[test]
    fn linux_and_cap_std_report_the_same_entries() {
        let keep = tempfile::tempdir().unwrap();
        let at = keep.path().join("below");
        fs::create_dir_all(at.join("directory/deep")).unwrap();
        for number in 0..1000 {
            fs::write(at.join(format!("{}{number}", "long".repeat(50))), "").unwrap();
        }
        fs::write(at.join("file"), "content").unwrap();
        fs::hard_link(at.join("file"), at.join("other name")).unwrap();
        fs::File::open(at.join("file"))
            .unwrap()
            .set_modified(std::time::UNIX_EPOCH - std::time::Duration::new(1, 5))
            .unwrap();
        symlink("/nowhere/../else", at.join("link")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, at.join("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let root = Root::open(keep.path()).unwrap();
        for (relative, count) in [("", 1), ("below", 1005), ("below/directory", 1), ("below/directory/deep", 0)] {
            let listed = list_all!(linux::DirectoryListing, &root, relative);
            assert_eq!(listed.len(), count);
            assert_eq!(listed, list_all!(portable::DirectoryListing, &root, relative));
        }
    }

    #[test]
    fn only_directories_below_the_root_are_listed() {
        let keep = tempfile::tempdir().unwrap();
        fs::create_dir_all(keep.path().join("inside/real")).unwrap();
        fs::write(keep.path().join("inside/file"), "").unwrap();
        symlink("real", keep.path().join("inside/link")).unwrap();
        symlink("..", keep.path().join("inside/out")).unwrap();
        let root = Root::open(&keep.path().join("inside")).unwrap();
        for refused in ["link", "file", "missing", "out/inside", "..", "/"] {
            let error = linux::DirectoryListing::open(&root, Path::new(refused)).unwrap_err();
            let other = portable::DirectoryListing::open(&root, Path::new(refused)).unwrap_err();
            assert_eq!(error.to_string(), other.to_string());
        }
        assert!(linux::DirectoryListing::open(&root, Path::new("real")).is_ok());
    }
}
