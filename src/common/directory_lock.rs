//! Locks that another process may hold.
//!
//! The locks are those of the operating system, on an open file. They end with the process that holds them.

use crate::common::error::{Error, ErrorKind};
use crate::common::root::Root;
use std::fs::{File, TryLockError};
use std::io;
use std::time::{Duration, Instant};

/// The longest time to wait for a lock of another process.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// Locks `file`, and returns whether that succeeded within `timeout`.
///
/// # Errors
/// Returns an error if the file system cannot lock.
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

/// Returns whether `error` means that the file system does not support locks, like some network file systems.
pub fn refuses_locks(error: &io::Error) -> bool {
    #[cfg(unix)]
    if error.raw_os_error() == Some(rustix::io::Errno::NOLCK.raw_os_error()) {
        return true;
    }
    error.kind() == io::ErrorKind::Unsupported
}

/// Returns whether `error` means that only files that are open for writing can be locked, which directories never are: NFS
/// (flock(2)).
fn needs_writing(error: &io::Error) -> bool {
    const EBADF: i32 = 9;
    cfg!(unix) && error.raw_os_error() == Some(EBADF)
}

/// An exclusive or shared lock of a directory, held until it is dropped.
#[derive(Debug)]
pub struct DirectoryLock {
    /// Absent if directories cannot be locked.
    directory: Option<File>,
}

impl DirectoryLock {
    /// Waits for the lock of `directory` itself, which leaves no file behind. If directories cannot be locked (Windows,
    /// some network file systems), this returns at once.
    ///
    /// # Errors
    /// Returns an error if another process holds the lock for longer than [`TIMEOUT`], or if the directory cannot be
    /// opened.
    pub fn of(directory: &Root) -> crate::Result<DirectoryLock> {
        DirectoryLock::of_within(TIMEOUT, directory)?.ok_or_else(|| held(directory))
    }

    /// Waits for a shared lock, as [`DirectoryLock::of`] does for an exclusive one.
    ///
    /// # Errors
    /// The same as [`DirectoryLock::of`].
    pub fn shared(directory: &Root) -> crate::Result<DirectoryLock> {
        DirectoryLock::shared_within(TIMEOUT, directory)?.ok_or_else(|| held(directory))
    }

    /// Locks the directory as [`DirectoryLock::of`], but returns `None` if another process holds the lock now.
    ///
    /// # Errors
    /// Returns an error if the directory cannot be opened.
    pub fn try_of(directory: &Root) -> crate::Result<Option<DirectoryLock>> {
        DirectoryLock::of_within(Duration::ZERO, directory)
    }

    /// Waits for the lock at most `timeout`, and returns `None` if another process still holds it then.
    ///
    /// # Errors
    /// Returns an error if the directory cannot be opened.
    pub fn of_within(timeout: Duration, directory: &Root) -> crate::Result<Option<DirectoryLock>> {
        DirectoryLock::within(timeout, directory, File::try_lock)
    }

    /// Waits for a shared lock, as [`DirectoryLock::of_within`] does for an exclusive one.
    ///
    /// # Errors
    /// The same as [`DirectoryLock::of_within`].
    pub fn shared_within(timeout: Duration, directory: &Root) -> crate::Result<Option<DirectoryLock>> {
        DirectoryLock::within(timeout, directory, File::try_lock_shared)
    }

    /// Returns whether the system holds the lock. Where directories cannot be locked, nothing keeps other processes out.
    pub fn is_held(&self) -> bool {
        self.directory.is_some()
    }

    fn within(
        timeout: Duration,
        directory: &Root,
        lock: fn(&File) -> Result<(), TryLockError>,
    ) -> crate::Result<Option<DirectoryLock>> {
        if !cfg!(unix) {
            return Ok(Some(DirectoryLock { directory: None }));
        }
        let open = directory.dir().open(".").map_err(|error| Error::file(directory.path(), "open", error))?;
        let open = open.into_std();
        Ok(match wait_for(timeout, || lock(&open)) {
            Ok(true) => Some(DirectoryLock { directory: Some(open) }),
            Ok(false) => None,
            Err(error) if refuses_locks(&error) || needs_writing(&error) => Some(DirectoryLock { directory: None }),
            Err(error) => return Err(Error::file(directory.path(), "lock", error)),
        })
    }
}

fn held(directory: &Root) -> Error {
    Error::new(ErrorKind::Locked, directory.path().display().to_string(), "locked by another process")
        .hint(format!("waited {} s", TIMEOUT.as_secs()))
}
