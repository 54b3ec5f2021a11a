//! File metadata that reveals whether a file has changed.

use cap_fs_ext::MetadataExt as _;
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

/// Identity, size and times of a file at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// The number of the file system.
    pub device: u64,
    /// The inode number.
    pub inode: u64,
    /// Its size in bytes.
    pub size: u64,
    /// Its modification time, in nanoseconds since the epoch; a time that does not fit is the nearest one that does.
    pub modified: i64,
    /// The time of the last change to anything about the file, including its name and mode; the modification time if the
    /// system does not report it.
    pub changed: i64,
}

impl Stamp {
    /// Reads the stamp from metadata that comes from a handle, not from a path.
    ///
    /// # Errors
    /// Returns an error if the file system keeps no modification times.
    pub fn of(metadata: &cap_std::fs::Metadata) -> io::Result<Self> {
        let modified = nanoseconds(metadata.modified()?.into_std());
        Ok(Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified,
            changed: changed(metadata, modified),
        })
    }

    /// Returns whether both stamps belong to the same content. A new name or mode does not change that.
    pub fn has_content_of(&self, other: &Stamp) -> bool {
        let Stamp { device, inode, size, modified, changed: _ } = self;
        (*device, *inode, *size, *modified) == (other.device, other.inode, other.size, other.modified)
    }
}

#[cfg(unix)]
fn changed(metadata: &cap_std::fs::Metadata, _: i64) -> i64 {
    use cap_std::fs::MetadataExt as _;
    nearest(i128::from(metadata.ctime()) * 1_000_000_000 + i128::from(metadata.ctime_nsec()))
}

#[cfg(not(unix))]
fn changed(_: &cap_std::fs::Metadata, modified: i64) -> i64 {
    modified
}

fn nanoseconds(time: SystemTime) -> i64 {
    nearest(match time.duration_since(UNIX_EPOCH) {
        Ok(since) => since.as_nanos() as i128,
        Err(before) => -(before.duration().as_nanos() as i128),
    })
}

/// Returns the nearest time that a stamp can hold: the years 1677 to 2262. File systems have later ones, which no file needs.
pub(in crate::layers::tree) fn nearest(nanoseconds: i128) -> i64 {
    nanoseconds.clamp(i64::MIN.into(), i64::MAX.into()) as i64
}
