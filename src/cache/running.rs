//! Builds that are running: what they use stays in the cache.

use crate::error::{Error, Result};
use crate::lock::DirectoryLock;
use crate::root::{Root, Temporary, is_temporary_name};
use std::time::SystemTime;

/// Where running builds are noted, below the cache directory.
const DIRECTORY: &str = "running";

/// A note that a build runs. It ends with the value, or with the process.
#[derive(Debug)]
pub struct Running {
    _note: Temporary,
}

impl Running {
    /// Notes in the cache directory `directory` that a build has begun at `now`. Whatever it uses from then on stays.
    ///
    /// # Errors
    /// When nothing can be written there, or something has been taken out of the cache for a minute.
    pub fn start(directory: &Root, now: SystemTime) -> Result<Running> {
        // Not while something is being taken out that this build does not find used yet.
        let _lock = DirectoryLock::shared(directory)?;
        let note = directory.create_directory(DIRECTORY)?.temporary()?;
        let noted = note.share().and_then(|file| file.set_modified(now));
        noted.map_err(|error| Error::io(directory.display(DIRECTORY), "write", error))?;
        Ok(Running { _note: note })
    }

    /// When the first of the builds began that are running now.
    pub(super) fn first(directory: &Root) -> Option<SystemTime> {
        let running = directory.directory(DIRECTORY).ok()?;
        running.sweep_temporaries();
        let notes = running.dir().entries().ok()?.flatten().filter(|note| is_temporary_name(&note.file_name()));
        notes.filter_map(|note| Some(note.metadata().ok()?.modified().ok()?.into_std())).min()
    }
}
