//! Making a file durable while it is written, so that little is left to wait for at its end.

use crate::root::sync_content;
use std::fs::File;
use std::io;
use std::thread::{Builder, JoinHandle};

/// The disk is given so many bytes at once: enough that asking costs nothing beside them, and few enough that the last ones
/// take it no time. Linux by itself begins when a tenth of the memory is waiting.
pub(super) const AT_ONCE: u64 = 32 << 20;

/// What of a file is on its way to the disk.
#[derive(Debug, Default)]
pub(super) struct Flush {
    /// How many bytes were written since it was last asked for.
    unflushed: u64,
    running: Option<JoinHandle<io::Result<()>>>,
}

impl Flush {
    /// Notes that `written` more bytes were, and has everything so far made durable where that is worth it and not going on
    /// already. `file` is another handle of the file.
    ///
    /// # Errors
    /// When something before could not be made durable, or there is no such handle.
    pub(super) fn advance(&mut self, written: u64, file: impl FnOnce() -> io::Result<File>) -> io::Result<()> {
        self.unflushed += written;
        let is_running = self.running.as_ref().is_some_and(|running| !running.is_finished());
        if self.unflushed < AT_ONCE || is_running {
            return Ok(());
        }
        self.wait()?;
        let file = file()?;
        self.unflushed = 0;
        // Where there is no thread to be had, everything is left to the end.
        self.running = Builder::new().spawn(move || sync_content(&file)).ok();
        Ok(())
    }

    /// Waits for what is going on. The rest is for whoever completes the file.
    ///
    /// # Errors
    /// When something could not be made durable.
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
    }

    #[test]
    fn what_could_not_be_made_durable_is_told() {
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
