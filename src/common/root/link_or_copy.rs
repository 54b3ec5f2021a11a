//! Adds a file of another directory without copying its bytes.

use super::{Root, temporary_name};
use crate::common::error::{Error, ErrorKind, Result};
use cap_std::fs::Metadata;
use std::fs::File;
use std::io;

impl Root {
    /// Creates a reflink `name` of `source`, which shares its blocks until one of them is written to.
    ///
    /// # Errors
    /// Returns an error if the file system cannot share blocks, which is the usual case, or if the system refuses a step.
    #[cfg(target_os = "linux")]
    pub fn reflink(&self, source: &File, name: &str) -> Result<File> {
        let temporary = self.temporary()?;
        let shared = temporary.share().and_then(|file| Ok(rustix::fs::ioctl_ficlone(file, source)?));
        shared.map_err(|error| self.failed(name, "share blocks", error))?;
        temporary.make_read_only()?;
        temporary.persist(name)
    }

    /// Links the open file `source` under the same `name` here, replacing a file of that name. Its directory is `other`.
    ///
    /// A file of another user, or one that is writable for anyone, is not linked, because a write to one name of a file
    /// changes the file under every other name.
    ///
    /// # Errors
    /// Returns an error if the file is not read-only or belongs to another user, or if the system cannot link it: the
    /// directories are on two file systems, or theirs does not support links.
    pub fn link_from(&self, other: &Root, source: &File, name: &str) -> Result<()> {
        let failed = |error| self.failed(name, "link", error);
        let metadata = Metadata::from_file(source).map_err(failed)?;
        if !is_safe_to_link(&metadata) {
            return Err(Error::new(
                ErrorKind::Denied,
                other.display(name),
                "writable by other users, so it is not linked",
            ));
        }
        let temporary = temporary_name();
        // Held until the temporary name is gone, so that a signal does not end the process before.
        let _live = self.live_temporaries()?;
        other.dir.hard_link(name, &self.dir, &temporary).map_err(failed)?;
        let renamed = match self.is_name_of(&temporary, source) {
            Ok(true) => self.dir.rename(&temporary, &self.dir, name),
            Ok(false) => Err(io::Error::other("replaced by another file")),
            Err(error) => Err(error.into()),
        };
        // If both names were the same file already, the rename does nothing and the temporary name remains.
        self.dir.remove_file(&temporary).ok();
        renamed.map_err(failed)?;
        match self.is_name_of(name, source)? {
            true => Ok(()),
            false => Err(failed(io::Error::other("replaced by another file"))),
        }
    }
}

/// Returns whether the file belongs to this user and is not writable for anyone.
#[cfg(unix)]
fn is_safe_to_link(metadata: &Metadata) -> bool {
    use cap_std::fs::MetadataExt;
    metadata.uid() == rustix::process::geteuid().as_raw() && metadata.mode() & 0o222 == 0
}

#[cfg(not(unix))]
fn is_safe_to_link(_: &Metadata) -> bool {
    true
}
