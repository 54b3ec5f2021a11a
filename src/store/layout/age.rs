//! When an image was stored in a layout.
//!
//! The time in an image's config is not used: reproducible builds set it to a fixed time, often 1970. The modification time of
//! a file is not used either, since `tar` and `cp -a` restore an old one. The system notes itself when it last changed a file's
//! metadata. A manifest is a file of its own in every layout, and a build or copy that finds it there sets its times again.

use super::Layout;
use crate::common::digest::Digest;
use crate::common::error::{Error, Result};
use cap_fs_ext::{DirExt as _, SystemTimeSpec};
use cap_std::fs::Metadata;
use std::io::ErrorKind;
use std::time::SystemTime;

impl Layout {
    /// Returns when the manifest or index `digest` was stored.
    ///
    /// # Errors
    /// Fails if the layout does not have it.
    pub(super) fn stored_at(&self, digest: &Digest) -> Result<SystemTime> {
        let object = format!("{}: blob {digest}", self.display());
        let unknown = |error| {
            Error::io(&object, "read", error)
                .about_blob(digest)
                .hint(format!("its age is unknown; ocibuild rm {}@{digest} removes it", self.display()))
        };
        let directory = self.existing_blob_directory(digest.algorithm())?;
        let metadata = directory.dir().symlink_metadata(digest.hex()).map_err(unknown)?;
        changed(&metadata).map_err(unknown)
    }

    /// Makes the stored manifest or index `digest` as young as one that is written now. Returns whether that succeeded: another
    /// user's file cannot be changed.
    ///
    /// # Errors
    /// Fails if the system reports another failure.
    pub(super) fn note_commit(&self, digest: &Digest) -> Result<bool> {
        let now = || Some(SystemTimeSpec::SymbolicNow);
        let directory = self.existing_blob_directory(digest.algorithm())?;
        match directory.dir().set_times(digest.hex(), now(), now()) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(false),
            Err(error) => Err(directory.failed(digest.hex(), "change the time of", error)),
        }
    }
}

#[cfg(unix)]
fn changed(metadata: &Metadata) -> std::io::Result<SystemTime> {
    use cap_std::fs::MetadataExt as _;
    let seconds = std::time::Duration::from_secs(metadata.ctime().max(0).unsigned_abs());
    Ok(SystemTime::UNIX_EPOCH + seconds)
}

#[cfg(not(unix))]
fn changed(metadata: &Metadata) -> std::io::Result<SystemTime> {
    metadata.modified().map(cap_std::time::SystemTime::into_std)
}
