//! What is at a path that a person named.

use crate::common::error::{Error, Result};
use std::io;
use std::path::Path;

/// What is at a path, where links are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathStatus {
    /// Nothing.
    Missing,
    /// A regular file, with its size in bytes.
    File(u64),
    /// A directory.
    Directory,
    /// A pipe, socket or device.
    Other,
}

impl PathStatus {
    /// Returns what is at `path`.
    ///
    /// `Path::exists` takes every error for an absence. A policy file on a broken disk would not be obeyed, and an archive
    /// there would be replaced.
    ///
    /// # Errors
    /// Fails if the system does not say what is there.
    pub fn of(path: &Path) -> Result<PathStatus> {
        #[expect(clippy::disallowed_methods, reason = "nothing is opened")]
        let metadata = loop {
            match std::fs::metadata(path) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                metadata => break metadata,
            }
        };
        match metadata {
            Ok(metadata) if metadata.is_file() => Ok(PathStatus::File(metadata.len())),
            Ok(metadata) if metadata.is_dir() => Ok(PathStatus::Directory),
            Ok(_) => Ok(PathStatus::Other),
            Err(error) if is_absence(&error) => Ok(PathStatus::Missing),
            Err(error) => Err(Error::file(path, "inspect", error)),
        }
    }

    /// Returns whether anything is there.
    pub fn exists(self) -> bool {
        self != PathStatus::Missing
    }

    /// Returns whether a regular file is there.
    pub fn is_file(self) -> bool {
        matches!(self, PathStatus::File(_))
    }

    /// Returns whether a directory is there.
    pub fn is_directory(self) -> bool {
        self == PathStatus::Directory
    }
}

/// Returns whether an error says that nothing is there, or that text cannot be the name of a file.
pub(super) fn is_absence(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidFilename, InvalidInput, NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory | InvalidFilename | InvalidInput)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_there_is_missing() {
        let scratch = tempfile::tempdir().unwrap();
        let file = scratch.path().join("file");
        std::fs::write(&file, "text").unwrap();
        assert_eq!(PathStatus::of(&file).unwrap(), PathStatus::File(4));
        assert_eq!(PathStatus::of(scratch.path()).unwrap(), PathStatus::Directory);
        for missing in [scratch.path().join("none"), file.join("below"), "x".repeat(4000).into(), "a\0b".into()] {
            assert_eq!(PathStatus::of(&missing).unwrap(), PathStatus::Missing, "{}", missing.display());
        }
    }
}
