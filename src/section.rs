//! A part of an open file, readable from many threads at once.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
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

/// Writes all of `bytes` into `file` from `offset`.
///
/// # Errors
/// When the system cannot write there.
pub fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    #[cfg(unix)]
    {
        std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
    }
    #[cfg(windows)]
    {
        let mut written = 0;
        while written < bytes.len() {
            match std::os::windows::fs::FileExt::seek_write(file, &bytes[written..], offset + written as u64)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                more => written += more,
            }
        }
        Ok(())
    }
}

/// Copies the bytes of `from` in `range` to the same place in `to`; where the file system can, both then share them.
///
/// # Errors
/// When `from` is shorter, or one cannot be read or the other written.
pub fn copy_range(from: &File, to: &File, range: Range<u64>) -> io::Result<()> {
    let Range { start: mut copied, end } = range;
    #[cfg(target_os = "linux")]
    while copied < end {
        let (mut source, mut target) = (copied, copied);
        let left = usize::try_from(end - copied).unwrap_or(usize::MAX).min(1 << 30);
        match rustix::fs::copy_file_range(from, Some(&mut source), to, Some(&mut target), left) {
            Ok(0) => break,
            Ok(more) => copied += more as u64,
            Err(rustix::io::Errno::INTR) => {}
            // Two file systems, or one that cannot: bytes then go through here.
            Err(_) => break,
        }
    }
    let mut buffer = vec![0; 256 << 10];
    while copied < end {
        let wanted = buffer.len().min(usize::try_from(end - copied).unwrap_or(usize::MAX));
        let read = read_full_at(from, &mut buffer[..wanted], copied)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        write_all_at(to, &buffer[..read], copied)?;
        copied += read as u64;
    }
    Ok(())
}
