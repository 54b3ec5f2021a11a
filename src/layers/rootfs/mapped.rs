//! The only unsafe code: maps a finished file of the cache into memory.
//!
//! **Why this is sound.** `Mmap::map` is unsafe because the bytes behind `&[u8]` must not change while the map exists,
//! and because an access behind the new end of a file that became shorter is a SIGBUS. Neither happens here:
//!
//! * Only [`Listings`](super::Listings) passes files in, and only from its own directory. That is in the cache directory,
//!   which has mode 0700, belongs to the user, and is refused if another user can write to it.
//! * A listing is written under a temporary name and gets its own name when it is complete. From then on no code of this
//!   program opens it for writing: a listing that is made again is another file, which is renamed over the name. A
//!   process that has the old file mapped keeps it until the map is dropped.
//! * The map is read-only and private, and the file was opened for reading only.
//! * The bytes are not trusted. Every reader of them checks bounds and compares checksums, so a file with any other
//!   content is at worst a damaged listing.
//!
//! The remaining risks are a user who shortens a file of their own cache while it is read, and a disk that fails. The
//! process then ends with SIGBUS, like any other program that maps files (git, ripgrep). That is accepted: no layout is
//! harmed, since nothing is published before it is complete.

use memmap2::Mmap;
use std::fs::File;
use std::io;
use std::ops::Deref;

/// The bytes of a finished file, read on access.
#[derive(Debug)]
pub(super) struct MappedFile(Mmap);

impl MappedFile {
    /// Maps a file that this program finished and that no code modifies in place.
    ///
    /// # Errors
    /// Returns an error if the system cannot map it. Some systems cannot map an empty file.
    pub(super) fn of_finished(file: &File) -> io::Result<MappedFile> {
        #[expect(unsafe_code, reason = "the bytes never change: see the argument at the top of this file")]
        let map = unsafe { Mmap::map(file) }?;
        Ok(MappedFile(map))
    }
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}
