//! Waiting for a lock that another process may hold.
//!
//! A lock is the system's, on an open file: it ends with the process that holds it.

use crate::error::{Error, ErrorKind};
use crate::root::Root;
use std::fs::{File, TryLockError};
use std::io;
use std::time::{Duration, Instant};

/// How long the lock of another process is waited for.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// Locks `file`, and answers whether that was possible within `timeout`.
///
/// # Errors
/// When the file system cannot lock.
pub fn wait(file: &File, timeout: Duration) -> io::Result<bool> {
    wait_for(timeout, || file.try_lock())
}

fn wait_for(timeout: Duration, lock: impl Fn() -> Result<(), TryLockError>) -> io::Result<bool> {
    let deadline = Instant::now() + timeout;
    let mut pause = Duration::from_millis(1);
    loop {
        match lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::Error(error)) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            Err(_) if Instant::now() < deadline => {
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(50));
            }
            Err(TryLockError::WouldBlock) => return Ok(false),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

/// Whether `error` says that the file system has no locks, as some network file systems do not.
pub fn refuses_locks(error: &io::Error) -> bool {
    #[cfg(unix)]
    if error.raw_os_error() == Some(rustix::io::Errno::NOLCK.raw_os_error()) {
        return true;
    }
    error.kind() == io::ErrorKind::Unsupported
}

/// A directory that only this process may change in a certain way, as long as this lives.
#[derive(Debug)]
pub struct DirectoryLock {
    /// Absent where directories cannot be locked.
    _directory: Option<File>,
}

impl DirectoryLock {
    /// Waits for the lock of `directory` itself, which leaves no file behind. Where directories cannot be locked (Windows, some
    /// network file systems), this answers at once.
    ///
    /// # Errors
    /// When another process holds it for longer than [`TIMEOUT`], or the directory cannot be opened.
    pub fn of(directory: &Root) -> crate::Result<DirectoryLock> {
        DirectoryLock::within(TIMEOUT, directory, File::try_lock)?.ok_or_else(|| held(directory))
    }

    /// As [`DirectoryLock::of`], together with other processes that want it shared.
    ///
    /// # Errors
    /// As [`DirectoryLock::of`].
    pub fn shared(directory: &Root) -> crate::Result<DirectoryLock> {
        DirectoryLock::within(TIMEOUT, directory, File::try_lock_shared)?.ok_or_else(|| held(directory))
    }

    /// As [`DirectoryLock::of`], but answers nothing where another process holds the lock now.
    ///
    /// # Errors
    /// When the directory cannot be opened.
    pub fn try_of(directory: &Root) -> crate::Result<Option<DirectoryLock>> {
        DirectoryLock::within(Duration::ZERO, directory, File::try_lock)
    }

    fn within(
        timeout: Duration,
        directory: &Root,
        lock: fn(&File) -> Result<(), TryLockError>,
    ) -> crate::Result<Option<DirectoryLock>> {
        if !cfg!(unix) {
            return Ok(Some(DirectoryLock { _directory: None }));
        }
        let open = directory.dir().open(".").map_err(|error| Error::io(directory.path().display(), "open", error))?;
        let open = open.into_std();
        Ok(match wait_for(timeout, || lock(&open)) {
            Ok(true) => Some(DirectoryLock { _directory: Some(open) }),
            Ok(false) => None,
            Err(_) => Some(DirectoryLock { _directory: None }),
        })
    }
}

fn held(directory: &Root) -> Error {
    Error::new(ErrorKind::Locked, directory.path().display().to_string(), "another process holds it locked")
        .hint(format!("waited {} s", TIMEOUT.as_secs()))
}
