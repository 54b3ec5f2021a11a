//! The one place of unsafe code: a finished file of the cache, mapped into memory.
//!
//! **Why this is sound.** `Mmap::map` is unsafe because the bytes behind `&[u8]` must not change while the map exists, and
//! because a file that becomes shorter makes an access behind its new end a SIGBUS. Neither happens here:
//!
//! * Only [`Listings`](super::Listings) hands files in, and only from its own directory. That lies in the cache directory,
//!   which is mode 0700, belongs to the user, and is refused when another user can write to it.
//! * A listing is written under a temporary name and gets its own name when it is complete. From then on no code of this
//!   program opens it for writing: a listing that is made again is another file, which is renamed over the name. Whoever has
//!   the old file mapped keeps it until the map is dropped.
//! * The map is read-only and private, and the file was opened for reading only.
//! * The bytes are never believed. Every reader of them is bounds-checked and compares checksums, so a file with any content
//!   whatever is at worst a damaged listing.
//!
//! What is left is a user who shortens a file of the own cache in the moment in which it is read, or a disk that fails: then
//! the process ends with SIGBUS, as that of any other program that maps files (git, ripgrep) would. That is accepted: no
//! layout is harmed, since nothing is published before it is complete.

use memmap2::Mmap;
use std::fs::File;
use std::io;
use std::ops::Deref;

/// The bytes of a finished file, read when they are looked at.
#[derive(Debug)]
pub(super) struct MappedFile(Mmap);

impl MappedFile {
    /// Maps a file that this program finished and that no code modifies in place.
    ///
    /// # Errors
    /// When the system cannot map it; an empty file cannot be mapped everywhere.
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
