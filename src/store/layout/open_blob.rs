//! A blob that is known to be whole, held open.

use crate::error::{Error, ErrorKind, Result};
use std::fs::File;
use std::time::SystemTime;

/// A blob that had its digest when it was opened. It stays so unless somebody writes to the file, which
/// [`OpenBlob::check_untouched`] tells.
#[derive(Debug)]
pub struct OpenBlob {
    file: File,
    object: String,
    stamp: (u64, Option<SystemTime>),
}

impl OpenBlob {
    /// Opens the file before its content is looked at. Messages call it `object`.
    pub(super) fn before_check(file: File, object: String) -> Result<Self> {
        let stamp = stamp(&file, &object)?;
        Ok(OpenBlob { file, object, stamp })
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// What messages call it.
    pub fn object(&self) -> &str {
        &self.object
    }

    /// How many bytes it has.
    pub fn size(&self) -> u64 {
        self.stamp.0
    }

    /// Requires that nobody has written to the file since it was checked.
    ///
    /// # Errors
    /// When somebody has.
    pub fn check_untouched(&self) -> Result<()> {
        if stamp(&self.file, &self.object)? == self.stamp {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Changed, &self.object, "changed while it was read").hint("build again"))
    }
}

fn stamp(file: &File, object: &str) -> Result<(u64, Option<SystemTime>)> {
    let metadata = file.metadata().map_err(|error| Error::io(object, "read", error))?;
    Ok((metadata.len(), metadata.modified().ok()))
}
