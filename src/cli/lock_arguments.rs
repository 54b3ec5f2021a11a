//! The flags of the lock file.

use clap::Args;
use ocibuild::build::{LOCK_FILE, LockFile, LockFileMode};
use ocibuild::{ErrorKind, Result};
use std::path::{Path, PathBuf};

/// The options of the lock file.
#[derive(Debug, Args)]
pub(super) struct LockArguments {
    /// Resolve the base image and downloads again and update the lock file
    #[arg(long, conflicts_with = "locked", help_heading = "Base image")]
    lock: bool,
    /// Fail if a digest is missing from the lock file
    #[arg(long, help_heading = "Base image")]
    locked: bool,
    /// Set the lock file [default: ocibuild.lock next to the robot, or in the current directory]
    #[arg(long, value_name = "FILE", help_heading = "Base image")]
    lock_file: Option<PathBuf>,
}

impl LockArguments {
    /// Reads the lock file; without another name, the one in `directory`.
    ///
    /// # Errors
    /// Fails if it is malformed, or if it is missing and either required or named.
    pub(super) fn open(&self, directory: &Path) -> Result<LockFile> {
        let path = self.path(directory);
        let locking = match (self.lock, self.locked) {
            (true, _) => LockFileMode::Renew,
            (_, true) => LockFileMode::Require,
            _ => LockFileMode::Honour,
        };
        let may_be_missing =
            locking == LockFileMode::Renew || (locking == LockFileMode::Honour && self.lock_file.is_none());
        match LockFile::read(&path, locking) {
            Err(error) if error.kind() == ErrorKind::NotFound && may_be_missing => Ok(LockFile::empty(&path, locking)),
            read => read,
        }
    }

    /// Returns the path of the lock file, which need not exist; without another name, the one in `directory`.
    pub(super) fn path(&self, directory: &Path) -> PathBuf {
        self.lock_file.clone().unwrap_or_else(|| directory.join(LOCK_FILE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_file_that_is_required_must_be_there() {
        let folder = tempfile::tempdir().unwrap();
        let open = |locked, lock_file: Option<&str>| {
            let lock_file = lock_file.map(|name| folder.path().join(name));
            LockArguments { lock: false, locked, lock_file }.open(folder.path()).map(|_| ())
        };
        assert!(open(false, None).is_ok());
        assert!(open(true, None).unwrap_err().to_string().contains("--lock creates it"));
        assert!(open(false, Some("other.lock")).is_err());
    }
}
