//! What a file system says about a file, to notice that it changed.

use cap_fs_ext::MetadataExt as _;
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

/// Identity, size and times of a file at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// The file system.
    pub device: u64,
    /// The file in it.
    pub inode: u64,
    /// Bytes.
    pub size: u64,
    /// Modification, in nanoseconds since the epoch.
    pub modified: i128,
    /// The last change of anything about the file, its name and mode included; where the system does not tell, the time of
    /// the modification.
    pub changed: i128,
}

impl Stamp {
    /// Reads the stamp out of metadata that a handle, not a path, gave.
    ///
    /// # Errors
    /// When the file system keeps no modification times.
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

    /// Whether both stamps are of one content: a new name or mode does not change that.
    pub fn has_content_of(&self, other: &Stamp) -> bool {
        let Stamp { device, inode, size, modified, changed: _ } = self;
        (*device, *inode, *size, *modified) == (other.device, other.inode, other.size, other.modified)
    }
}

#[cfg(unix)]
fn changed(metadata: &cap_std::fs::Metadata, _: i128) -> i128 {
    use cap_std::fs::MetadataExt as _;
    i128::from(metadata.ctime()) * 1_000_000_000 + i128::from(metadata.ctime_nsec())
}

#[cfg(not(unix))]
fn changed(_: &cap_std::fs::Metadata, modified: i128) -> i128 {
    modified
}

fn nanoseconds(time: SystemTime) -> i128 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => since.as_nanos() as i128,
        Err(before) => -(before.duration().as_nanos() as i128),
    }
}
