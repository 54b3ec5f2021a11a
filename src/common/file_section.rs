//! Ranges of open files, readable from many threads at once.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;

/// A reader of a range of a file that does not move the file's own position.
#[derive(Debug, Clone)]
pub struct Section {
    file: Arc<File>,
    position: u64,
    end: u64,
}

impl Section {
    /// Creates a reader of the `size` bytes of `file` that begin at `offset`.
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

/// Asks the system to read a range of a file into memory, and does not wait for it. Where this cannot be asked for, the range is
/// read when it is needed.
pub fn read_ahead(file: &File, offset: u64, length: u64) {
    #[cfg(target_os = "linux")]
    if let Some(length) = std::num::NonZeroU64::new(length) {
        rustix::fs::fadvise(file, offset, Some(length), rustix::fs::Advice::WillNeed).ok();
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (file, offset, length);
}

/// Reads at most `buffer.len()` bytes of `file` from `offset`.
///
/// # Errors
/// Returns an error if the system cannot read there.
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

/// Fills as much of `buffer` as `file` has from `offset`, and returns the number of bytes read.
///
/// # Errors
/// Returns an error if the system cannot read there.
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

/// Appends bytes of `file` from `offset` to `buffer`: at least `length` of them, or all to the end. Returns their number,
/// which may exceed `length`.
///
/// # Errors
/// Returns an error if the system cannot read there.
pub fn append_from(file: &File, offset: u64, length: usize, buffer: &mut Vec<u8>) -> io::Result<usize> {
    let start = buffer.len();
    // With more capacity, the read that returns the last wanted bytes also shows whether the file ends there.
    buffer.reserve(length + 1);
    loop {
        let appended = buffer.len() - start;
        match append_once(file, offset + appended as u64, length + 1 - appended, buffer) {
            Ok(read) if read == 0 || appended + read >= length => return Ok(appended + read),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Appends the bytes of one read. It requests `wanted` bytes, or as many as `buffer` has capacity for.
#[cfg(unix)]
fn append_once(file: &File, offset: u64, _wanted: usize, buffer: &mut Vec<u8>) -> io::Result<usize> {
    // Unused capacity need not be cleared first.
    Ok(rustix::io::pread(file, rustix::buffer::spare_capacity(buffer), offset)?)
}

#[cfg(not(unix))]
fn append_once(file: &File, offset: u64, wanted: usize, buffer: &mut Vec<u8>) -> io::Result<usize> {
    let start = buffer.len();
    buffer.resize(start + wanted, 0);
    let read = read_at(file, &mut buffer[start..], offset);
    buffer.truncate(start + read.as_ref().map_or(0, |read| *read));
    read
}

/// Writes all of `bytes` into `file` from `offset`.
///
/// # Errors
/// Returns an error if the system cannot write there.
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

/// Copies the bytes of `from` in `range` to the same offset in `to`. If the file system supports it, both then share the
/// blocks.
///
/// # Errors
/// Returns an error if `from` is shorter or cannot be read, or if `to` cannot be written.
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
            // Two file systems, or one without support: the bytes are copied through memory.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_growing_file_is_distinguished_from_a_finished_one() {
        let file = tempfile::tempfile().unwrap();
        write_all_at(&file, b"0123456789", 0).unwrap();
        for (offset, length, appended) in [(0, 10, 10), (0, 11, 10), (7, 3, 3), (10, 0, 0), (10, 1, 0), (11, 5, 0)] {
            let mut buffer = b"before".to_vec();
            assert_eq!(append_from(&file, offset, length, &mut buffer).unwrap(), appended, "{offset} {length}");
            assert_eq!(&buffer[..6], b"before");
            assert_eq!(&buffer[6..], &b"0123456789"[(offset as usize).min(10)..]);
        }
        for (offset, length) in [(0, 0), (0, 9), (3, 4)] {
            let mut buffer = Vec::new();
            assert!(append_from(&file, offset, length, &mut buffer).unwrap() > length, "{offset} {length}");
            assert_eq!(buffer[..length], b"0123456789"[offset as usize..][..length]);
        }
    }

    #[test]
    fn a_range_is_copied_to_its_offset_and_a_short_file_is_an_error() {
        let (from, to) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        write_all_at(&from, b"0123456789", 0).unwrap();
        copy_range(&from, &to, 2..5).unwrap();
        copy_range(&from, &to, 8..10).unwrap();
        let mut copied = Vec::new();
        append_from(&to, 0, 20, &mut copied).unwrap();
        assert_eq!(copied, [&[0; 2][..], b"234", &[0; 3], b"89"].concat());
        let error = copy_range(&from, &to, 8..11).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
