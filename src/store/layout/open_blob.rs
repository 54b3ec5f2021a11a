//! A verified blob that is held open.

use crate::common::error::{Error, ErrorKind, Result};
use std::fs::File;
use std::time::SystemTime;

/// A blob that matched its digest when it was opened. [`OpenBlob::check_untouched`] detects later writes to the file.
#[derive(Debug)]
pub struct OpenBlob {
    file: File,
    object: String,
    stamp: (u64, Option<SystemTime>),
}

impl OpenBlob {
    /// Opens the file before its content is verified. Messages call it `object`.
    pub(super) fn before_check(file: File, object: String) -> Result<Self> {
        let stamp = stamp(&file, &object)?;
        Ok(OpenBlob { file, object, stamp })
    }

    /// Returns the file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Returns its name in messages.
    pub fn object(&self) -> &str {
        &self.object
    }

    /// Returns its size in bytes.
    pub fn size(&self) -> u64 {
        self.stamp.0
    }

    /// Checks that the file was not written to since it was verified.
    ///
    /// # Errors
    /// Fails if its size or modification time has changed.
    pub fn check_untouched(&self) -> Result<()> {
        if stamp(&self.file, &self.object)? == self.stamp {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Changed, &self.object, "modified during the build").hint("build again"))
    }
}

fn stamp(file: &File, object: &str) -> Result<(u64, Option<SystemTime>)> {
    let metadata = file.metadata().map_err(|error| Error::io(object, "read", error))?;
    Ok((metadata.len(), metadata.modified().ok()))
}
