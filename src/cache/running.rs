//! Running builds, whose files stay in the cache.

use crate::error::{Error, Result};
use crate::lock::DirectoryLock;
use crate::root::{Root, Temporary, is_temporary_name};
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
        noted.map_err(|error| Error::io(directory.display(DIRECTORY), "write", error))?;
        Ok(Running { _note: note })
    }

    /// Returns the start of the oldest running build.
    pub(super) fn first(directory: &Root) -> Option<SystemTime> {
        let running = directory.directory(DIRECTORY).ok()?;
        running.sweep_temporaries();
        let notes = running.dir().entries().ok()?.flatten().filter(|note| is_temporary_name(&note.file_name()));
        notes.filter_map(|note| Some(note.metadata().ok()?.modified().ok()?.into_std())).min()
    }
}
