//! Makes files durable, on file systems that support it.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

/// Returns whether a file system has refused to sync since the process began. Some network file systems do.
pub fn sync_was_refused() -> bool {
    SYNC_REFUSED.load(Ordering::Relaxed)
}

static SYNC_REFUSED: AtomicBool = AtomicBool::new(false);

/// Makes the content that was written so far to an unfinished file durable.
///
/// # Errors
/// Returns an error if the system reports a failure. It does so once: syncing the file again may appear to succeed.
pub fn sync_content(file: &File) -> io::Result<()> {
    tolerate_no_sync(file.sync_data())
}

/// Ignores that a file system cannot sync (FUSE, SMB, exFAT). The work continues and the user is warned once.
pub(super) fn tolerate_no_sync(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error)
            if matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::InvalidInput)
                || is_enotty(&error) =>
        {
            SYNC_REFUSED.store(true, Ordering::Relaxed);
            Ok(())
        }
        other => other,
    }
}

fn is_enotty(error: &io::Error) -> bool {
    const ENOTTY: i32 = 25;
    cfg!(unix) && error.raw_os_error() == Some(ENOTTY)
}
