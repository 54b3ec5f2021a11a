//! Syncs a file while it is written, so that little is left for the sync at its end.

use crate::common::root::sync_content;
use std::fs::File;
use std::io;
use std::thread::{Builder, JoinHandle};

/// The number of bytes after which a sync is started: enough that the calls cost nothing, and few enough that the last sync is
/// short. Linux by itself begins to write when a tenth of the memory is dirty.
pub(super) const AT_ONCE: u64 = 32 << 20;

/// The number of bytes for which a sync is started when a file is complete. A smaller file is synced once, at its end.
const AT_LAST: u64 = 4 << 20;

/// The state of syncing a file.
#[derive(Debug, Default)]
pub(super) struct Flush {
    /// The number of bytes written since the last sync was started.
    unflushed: u64,
    running: Option<JoinHandle<io::Result<()>>>,
}

impl Flush {
    /// Counts `written` more bytes, and starts a sync if enough are waiting and none is running. `file` is another handle of
    /// the file.
    ///
    /// # Errors
    /// Fails if an earlier sync failed, or there is no such handle.
    pub(super) fn advance(&mut self, written: u64, file: impl FnOnce() -> io::Result<File>) -> io::Result<()> {
        self.unflushed += written;
        self.start_from(AT_ONCE, file)
    }

    /// Starts the last sync, of the rest of a file that is complete, unless it is small or a sync is running.
    ///
    /// # Errors
    /// The same as [`Flush::advance`].
    pub(super) fn start_last(&mut self, file: impl FnOnce() -> io::Result<File>) -> io::Result<()> {
        self.start_from(AT_LAST, file)
    }

    fn start_from(&mut self, enough: u64, file: impl FnOnce() -> io::Result<File>) -> io::Result<()> {
        let is_running = self.running.as_ref().is_some_and(|running| !running.is_finished());
        if self.unflushed < enough || is_running {
            return Ok(());
        }
        self.wait()?;
        let file = file()?;
        self.unflushed = 0;
        // If no thread can be started, the sync at the end covers everything.
        self.running = Builder::new().spawn(move || sync_content(&file)).ok();
        Ok(())
    }

    /// Waits for the running sync. The caller syncs the rest.
    ///
    /// # Errors
    /// Fails if a sync failed.
    pub(super) fn wait(&mut self) -> io::Result<()> {
        let stopped = |_| Err(io::Error::other("a thread stopped unexpectedly"));
        self.running.take().map_or(Ok(()), |running| running.join().unwrap_or_else(stopped))
    }
}

impl Drop for Flush {
    fn drop(&mut self) {
        self.wait().ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_made_durable_in_large_parts() {
        let file = tempfile::tempfile().unwrap();
        let mut flush = Flush::default();
        flush.advance(AT_ONCE - 1, || Err(io::Error::other("asked for too early"))).unwrap();
        flush.advance(1, || file.try_clone()).unwrap();
        assert_eq!(flush.unflushed, 0);
        flush.wait().unwrap();
        flush.advance(AT_LAST - 1, || Err(io::Error::other("asked for too early"))).unwrap();
        flush.start_last(|| Err(io::Error::other("asked for without need"))).unwrap();
        flush.advance(1, || Err(io::Error::other("asked for too early"))).unwrap();
        flush.start_last(|| file.try_clone()).unwrap();
        assert_eq!(flush.unflushed, 0);
        flush.wait().unwrap();
    }

    #[test]
    fn a_file_system_without_fsync_is_reported() {
        let failed = || Flush { unflushed: 0, running: Some(std::thread::spawn(|| Err(io::Error::other("lost")))) };
        assert_eq!(failed().wait().unwrap_err().to_string(), "lost");
        let mut flush = failed();
        while !flush.running.as_ref().unwrap().is_finished() {
            std::thread::yield_now();
        }
        let error = flush.advance(AT_ONCE, || Err(io::Error::other("asked for too late"))).unwrap_err();
        assert_eq!(error.to_string(), "lost");
    }
}
