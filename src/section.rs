//! A part of an open file, readable from many threads at once.

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

/// Reads the bytes from one position to another without moving the file's own position.
#[derive(Debug, Clone)]
pub struct Section {
    file: Arc<File>,
    position: u64,
    end: u64,
}

impl Section {
    /// The `size` bytes of `file` that begin at `offset`.
    pub fn new(file: Arc<File>, offset: u64, size: u64) -> Self {
        Section { file, position: offset, end: offset.saturating_add(size) }
    }
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.position).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        let read = read_at(&self.file, &mut buffer[..wanted], self.position)?;
        self.position += read as u64;
        Ok(read)
    }
}

/// Reads at most `buffer.len()` bytes of `file` from `offset`.
///
/// # Errors
/// When the system cannot read there.
pub fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    #[cfg(unix)]
    {
        std::os::unix::fs::FileExt::read_at(file, buffer, offset)
    }
    #[cfg(windows)]
    {
        std::os::windows::fs::FileExt::seek_read(file, buffer, offset)
    }
}

/// Fills as much of `buffer` as `file` has from `offset`, and tells how much that is.
///
/// # Errors
/// When the system cannot read there.
pub fn read_full_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match read_at(file, &mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
