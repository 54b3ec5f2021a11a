//! The lock that makes one update of the index after another.

use super::{LOCK_FILE, Layout};
use crate::bounded;
use crate::error::{Error, ErrorKind, Result, one_line};
use crate::lock::wait;
use std::fs::File;
use std::io::{Seek, Write};

/// Held as long as it lives. The lock is the system's, on an open file: a crash releases it, and what the file says is only
/// for the message of whoever waits.
#[derive(Debug)]
pub(super) struct Guard {
    _file: File,
}

impl Layout {
    /// Waits for the lock.
    pub(super) fn lock(&self) -> Result<Guard> {
        let object = || self.root.display(LOCK_FILE);
        let mut file = self.root.open_lock(LOCK_FILE)?;
        if !wait(&file, self.lock_timeout).map_err(|error| Error::io(object(), "lock", error))? {
            return Err(self.held_by_another(file));
        }
        // Only a courtesy to whoever waits; a full disk must not fail here what it may not fail later.
        let note = format!("pid {} on host {}\n", std::process::id(), host());
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(note.as_bytes())).ok();
        Ok(Guard { _file: file })
    }

    fn held_by_another(&self, mut file: File) -> Error {
        file.rewind().ok();
        let note = bounded::read(file, 1024, LOCK_FILE).unwrap_or_default();
        let holder = match String::from_utf8(note) {
            Ok(text) if !text.trim().is_empty() => one_line(text.trim()),
            _ => "another process".to_owned(),
        };
        Error::new(ErrorKind::Locked, self.display(), format!("locked by {holder}"))
            .hint(format!("waited {} s; see --lock-timeout", self.lock_timeout.as_secs()))
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
