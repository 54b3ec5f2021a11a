//! Makes files durable, on file systems that support it.

use super::{Root, regular};
use crate::common::error::{Error, Result};
use cap_fs_ext::{FollowSymlinks, OpenOptionsFollowExt, OpenOptionsSyncExt};
use cap_std::fs::OpenOptions;
use std::fs::File;
use std::io;
use std::path::Path;
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

impl Root {
    /// Makes the regular file `name` durable, even if another program wrote it.
    ///
    /// # Errors
    /// Returns an error if there is no such file, or if the system reports a failure.
    pub fn sync_file(&self, name: impl AsRef<Path>) -> Result<()> {
        let mut options = OpenOptions::new();
        // Windows syncs only files that are open for writing.
        options.read(true).write(cfg!(windows)).nonblock(true).follow(FollowSymlinks::No);
        let opened = self.dir.open_with(name.as_ref(), &options).map(cap_std::fs::File::into_std);
        #[cfg(target_os = "linux")]
        if opened.as_ref().is_err_and(|error| error.raw_os_error() == Some(rustix::io::Errno::ACCESS.raw_os_error())) {
            // The file of another user can be synced without being opened.
            return self.sync_file_system();
        }
        let (file, _) = regular(opened, || self.path_of(name.as_ref()))?;
        tolerate_no_sync(file.sync_all()).map_err(|error| self.failed(name, "sync", error))
    }

    /// Makes everything durable that was written to the file system of this directory.
    ///
    /// # Errors
    /// Returns an error if the system reports a failure.
    #[cfg(target_os = "linux")]
    pub fn sync_file_system(&self) -> Result<()> {
        let here = self.dir.open(".").map_err(|error| Error::file(&self.path, "open", error))?;
        tolerate_no_sync(rustix::fs::syncfs(here).map_err(io::Error::from))
            .map_err(|error| Error::file(&self.path, "sync", error))
    }

    /// Makes the entries of this directory durable.
    ///
    /// # Errors
    /// Returns an error if the system reports a failure.
    pub fn sync(&self) -> Result<()> {
        // The handle is O_PATH on Linux, which fsync refuses; "." opened for reading is the same directory. Windows has no
        // such operation.
        if cfg!(unix) {
            let here = self.dir.open(".").map_err(|error| Error::file(&self.path, "open", error))?;
            tolerate_no_sync(here.into_std().sync_all()).map_err(|error| Error::file(&self.path, "sync", error))?;
        }
        Ok(())
    }
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
