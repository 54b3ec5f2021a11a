//! The lock that serialises updates of the index.

use super::{LOCK_FILE, Layout};
use crate::common::bounded_read;
use crate::common::directory_lock::{TIMEOUT, refuses_locks, wait};
use crate::common::error::{Error, ErrorKind, Result, one_line};
use std::fs::File;
use std::io::{self, Seek, Write};
use std::time::Duration;

/// The protection of a layout from concurrent changes by other processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayoutLocking {
    /// By a lock, for which a change waits at most this long.
    WaitFor(Duration),
    /// Not at all: if two processes change the layout concurrently, one of them may lose its images.
    Off,
}

impl Default for LayoutLocking {
    fn default() -> Self {
        LayoutLocking::WaitFor(TIMEOUT)
    }
}

/// Holds the lock until it is dropped. The system locks an open file: a crash releases it, and the file's content is only for
/// the messages of waiting processes.
#[derive(Debug)]
pub(super) struct Guard {
    _file: Option<File>,
}

impl Layout {
    /// Waits for the lock.
    pub(super) fn lock(&self) -> Result<Guard> {
        let LayoutLocking::WaitFor(timeout) = self.locking else { return Ok(Guard { _file: None }) };
        let mut file = self.root.open_lock(LOCK_FILE)?;
        if !wait(&file, timeout).map_err(|error| self.cannot_lock(error))? {
            return Err(self.held_by_another(file, timeout));
        }
        // The note is only for messages, so a failed write (on a full disk, for example) is ignored.
        let note = format!("pid {} on host {}\n", std::process::id(), host());
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(note.as_bytes())).ok();
        Ok(Guard { _file: Some(file) })
    }

    fn held_by_another(&self, mut file: File, timeout: Duration) -> Error {
        file.rewind().ok();
        let note = bounded_read::read(file, 1024, LOCK_FILE).unwrap_or_default();
        let holder = match String::from_utf8(note) {
            Ok(text) if !text.trim().is_empty() => one_line(text.trim()),
            _ => "another process".to_owned(),
        };
        Error::new(ErrorKind::Locked, self.display(), format!("locked by {holder}"))
            .at_path(self.root.path())
            .hint(format!("waited {} s; see --lock-timeout", timeout.as_secs()))
    }

    fn cannot_lock(&self, error: io::Error) -> Error {
        let is_refused = refuses_locks(&error);
        let error = self.root.failed(LOCK_FILE, "lock", error);
        if !is_refused {
            return error;
        }
        error
            .hint("this file system does not support locks: use a local disk, or --layout-lock none if no other process writes to it")
    }
}

fn host() -> String {
    #[cfg(unix)]
    {
        rustix::system::uname().nodename().to_string_lossy().into_owned()
    }
    #[cfg(not(unix))]
    {
        "this machine".to_owned()
    }
}
