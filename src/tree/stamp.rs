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
}

impl Stamp {
    /// Reads the stamp out of metadata that a handle, not a path, gave.
    ///
    /// # Errors
    /// When the file system keeps no modification times.
    pub fn of(metadata: &cap_std::fs::Metadata) -> io::Result<Self> {
        let modified = nanoseconds(metadata.modified()?.into_std());
        Ok(Stamp { device: metadata.dev(), inode: metadata.ino(), size: metadata.len(), modified })
    }
}

fn nanoseconds(time: SystemTime) -> i128 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => since.as_nanos() as i128,
        Err(before) => -(before.duration().as_nanos() as i128),
    }
}
