//! Reading a file from its disk, and not from what the system holds of it in memory.

use super::Root;
use crate::common::digest::{Algorithm, Digest};
use crate::common::error::{Error, ErrorKind, Result};
#[cfg(target_os = "linux")]
use {
    crate::common::bounded_read::for_each_piece,
    crate::common::digest::Hasher,
    cap_fs_ext::{FollowSymlinks, OpenOptionsFollowExt, OpenOptionsSyncExt},
    cap_std::fs::{OpenOptions, OpenOptionsExt},
    std::fs::File,
    std::io::{self, Read},
    std::ops::Range,
};

/// What is known of a file before it gets its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WriteCheck {
    /// The system says that it is on the disk.
    #[default]
    Synced,
    /// It was read back from the disk, and is what was written.
    ReadBack,
}

/// The unit of disks, in which they are read past the memory of the system.
#[cfg(target_os = "linux")]
const BLOCK: usize = 4096;
#[cfg(target_os = "linux")]
const PIECE: usize = 1 << 20;

/// The bytes of a file as the disk returns them.
#[cfg(target_os = "linux")]
struct FromDisk {
    file: File,
    buffer: Vec<u8>,
    /// The place in the buffer whose address is a multiple of the block size.
    start: usize,
    unread: Range<usize>,
    is_at_end: bool,
}

#[cfg(target_os = "linux")]
impl FromDisk {
    fn new(file: File) -> FromDisk {
        let buffer = vec![0; PIECE + BLOCK];
        let start = buffer.as_ptr().align_offset(BLOCK).min(BLOCK);
        FromDisk { file, buffer, start, unread: 0..0, is_at_end: false }
    }
}

#[cfg(target_os = "linux")]
impl Read for FromDisk {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if self.unread.is_empty() && !self.is_at_end {
            let read = self.file.read(&mut self.buffer[self.start..self.start + PIECE])?;
            // Only the last block of a file may be read in part.
            self.is_at_end = read % BLOCK != 0 || read == 0;
            self.unread = self.start..self.start + read;
        }
        let length = to.len().min(self.unread.len());
        to[..length].copy_from_slice(&self.buffer[self.unread.start..self.unread.start + length]);
        self.unread.start += length;
        Ok(length)
    }
}

impl Root {
    /// Returns the digest of what the disk holds of the file `name`, which messages call `object`.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read, or the file system reads from memory only.
    #[cfg(target_os = "linux")]
    pub(super) fn digest_on_disk(&self, name: &str, algorithm: Algorithm, object: &str) -> Result<Digest> {
        let failed = |error| Error::io(object, "read back", error);
        // A file system that cannot read past its memory for some files must not find them there.
        let file = self.open_file(name)?;
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).map_err(|error| failed(error.into()))?;
        let mut options = OpenOptions::new();
        let direct = rustix::fs::OFlags::DIRECT.bits() as i32;
        options.read(true).nonblock(true).follow(FollowSymlinks::No).custom_flags(direct);
        let invalid = rustix::io::Errno::INVAL.raw_os_error();
        let file = match self.dir().open_with(name, &options) {
            Ok(file) => file.into_std(),
            Err(error) if error.raw_os_error() == Some(invalid) => {
                return Err(cannot_read_back(object, "this file system"));
            }
            Err(error) => return Err(failed(error)),
        };
        let mut hasher = Hasher::new(algorithm);
        for_each_piece(FromDisk::new(file), object, |piece| {
            hasher.update(piece);
            Ok(())
        })?;
        Ok(hasher.finish())
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn digest_on_disk(&self, _: &str, _: Algorithm, object: &str) -> Result<Digest> {
        Err(cannot_read_back(object, "this system"))
    }
}

fn cannot_read_back(object: &str, place: &str) -> Error {
    let reason = format!("cannot be read back: {place} has no direct reads");
    Error::new(ErrorKind::Io, object, reason).hint("leave out --verify-writes")
}
