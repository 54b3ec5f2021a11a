//! Making files durable, on file systems that can.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether a file system refused to make something durable since the process began (some network file systems do).
pub fn sync_was_refused() -> bool {
    SYNC_REFUSED.load(Ordering::Relaxed)
}

static SYNC_REFUSED: AtomicBool = AtomicBool::new(false);

/// Makes the content of a file in the making durable, so far as it is written.
///
/// # Errors
/// When the system reports that it could not. It does so once: syncing the file again may seem to go well.
pub fn sync_content(file: &File) -> io::Result<()> {
    tolerate_no_sync(file.sync_data())
}

/// Some file systems (FUSE, SMB, exFAT) cannot sync and say so; the work goes on and the user is warned once.
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
