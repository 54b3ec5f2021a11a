//! Running builds, whose files stay in the cache.

use crate::common::directory_lock::DirectoryLock;
use crate::common::error::{Error, ErrorKind, Result};
use crate::common::root::{Root, Temporary, is_temporary_name};
use std::io;
use std::time::SystemTime;

/// The directory of running builds, below the cache directory.
const DIRECTORY: &str = "running";

/// A marker of a running build. It ends when it is dropped, or with the process.
#[derive(Debug)]
pub struct Running {
    _note: Temporary,
}

impl Running {
    /// Records in the cache directory `directory` that a build has started at `now`. Whatever it uses afterwards stays in the
    /// cache.
    ///
    /// # Errors
    /// Fails if the directory cannot be written, or another process has been pruning the cache for a minute.
    pub fn start(directory: &Root, now: SystemTime) -> Result<Running> {
        // Not while the cache is pruned, since files that this build is about to use could be removed.
        let _lock = DirectoryLock::shared(directory)?;
        let note = directory.create_directory(DIRECTORY)?.temporary()?;
        let noted = note.share().and_then(|file| file.set_modified(now));
        noted.map_err(|error| directory.failed(DIRECTORY, "write", error))?;
        Ok(Running { _note: note })
    }

    /// Returns the start of the oldest running build.
    ///
    /// # Errors
    /// Fails if the markers cannot be read: then the files of a running build are not known.
    pub(super) fn first(directory: &Root) -> Result<Option<SystemTime>> {
        let running = match directory.directory(DIRECTORY) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            running => running?,
        };
        running.sweep_temporaries();
        let unreadable = |error| Error::file(running.path(), "read", error);
        let mut first = None;
        for note in running.dir().entries().map_err(unreadable)? {
            let note = note.map_err(unreadable)?;
            if !is_temporary_name(&note.file_name()) {
                continue;
            }
            let started = match note.metadata().and_then(|metadata| metadata.modified()) {
                // The build has ended since the directory was listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                started => started.map_err(unreadable)?.into_std(),
            };
            first = Some(first.map_or(started, |first: SystemTime| first.min(started)));
        }
        Ok(first)
    }
}
