//! Syncs everything that an index is about to name, whichever program wrote it.
//!
//! A blob of this process was synced before it got its name. A blob that was there before may come from a program that never
//! syncs: it has its name and its content has the right digest, but after a power cut it is empty. So before the index is
//! replaced, everything in the layout is synced that is not known to be durable.

use super::{INDEX_FILE, LAYOUT_FILE, Layout};
use crate::common::digest::{Algorithm, Digest};
use crate::common::error::{Error, ErrorKind, Result};
use crate::common::root::Root;
use crate::spec::Descriptor;
use crate::store::BlobSink as _;
use rayon::prelude::*;
use std::fs::File;

/// The maximum number of files that are synced one by one. Beyond that, syncing the whole file system costs less.
#[cfg(target_os = "linux")]
const MOST_FILES: usize = 256;

impl Layout {
    /// Records `file`, which this process has just named, as the blob of `descriptor`.
    pub(super) fn settle(&self, descriptor: &Descriptor, file: &File) -> Result<()> {
        let (digest, object) = (descriptor.digest, || format!("{}: blob {}", self.display(), descriptor.digest));
        if self.existing_blob_directory(digest.algorithm())?.is_name_of(digest.hex(), file)? {
            self.mark_written(digest, file);
            return Ok(());
        }
        // Another process has replaced the file by its own, so nothing is known about its content.
        self.known().whole.remove(&digest);
        match self.contains(descriptor)? {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::Changed, object(), "replaced by another process").about_blob(&digest)),
        }
    }

    /// Syncs the version file and every blob, and their names. The index may name them only afterwards.
    ///
    /// # Errors
    /// Fails if the system reports a failed sync.
    pub(crate) fn sync_blobs(&self) -> Result<()> {
        let mut files = vec![(self.root.clone(), LAYOUT_FILE.to_owned())];
        let mut directories = vec![self.root.directory("blobs")?];
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let Some(directory) = self.find_blob_directory(algorithm)? else { continue };
            let doubtful = self.doubtful_blobs(&directory, algorithm)?;
            files.extend(doubtful.into_iter().map(|digest| (directory.clone(), digest.hex())));
            directories.push(directory);
        }
        self.sync_files(&files)?;
        directories.par_iter().try_for_each(Root::sync)
    }

    /// Returns the blobs in `directory` that are not known to be durable.
    fn doubtful_blobs(&self, directory: &Root, algorithm: Algorithm) -> Result<Vec<Digest>> {
        let unreadable = |error| Error::file(directory.path(), "read", error);
        let mut found = Vec::new();
        for entry in directory.dir().entries().map_err(unreadable)? {
            let name = entry.map_err(unreadable)?.file_name();
            let digest = format!("{}:{}", algorithm.name(), name.to_string_lossy()).parse();
            // Files with other names are not blobs, so no index names them.
            found.extend(digest.ok().filter(|digest| !self.is_durable(directory, digest)));
        }
        Ok(found)
    }

    fn is_durable(&self, directory: &Root, digest: &Digest) -> bool {
        // Windows does not sync a file that was opened for reading, as hashed files are.
        let remembered = || {
            let cache = self.verification_cache.as_ref().filter(|_| cfg!(unix))?;
            cache.digest_of(&directory.open_file(digest.hex()).ok()?)
        };
        self.known().durable.contains(digest) || remembered() == Some(*digest)
    }

    fn sync_files(&self, files: &[(Root, String)]) -> Result<()> {
        #[cfg(target_os = "linux")]
        if files.len() > MOST_FILES {
            return self.root.sync_file_system();
        }
        files.par_iter().try_for_each(|(directory, name)| match directory.sync_file(name) {
            // Removed in the meantime, or not a regular file.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Invalid) => Ok(()),
            synced => synced,
        })
    }

    /// Syncs an unchanged index, whichever program wrote it.
    pub(super) fn sync_index(&self) -> Result<()> {
        self.root.sync_file(INDEX_FILE)?;
        self.root.sync()
    }

    /// Checks that the layout is still at its path.
    pub(super) fn check_place(&self) -> Result<()> {
        match self.root.is_at_its_path()? {
            true => Ok(()),
            false => {
                let reason = "was renamed or replaced during the build";
                Err(Error::new(ErrorKind::Changed, self.display(), reason)
                    .at_path(self.root.path())
                    .hint("the image is in the former directory; build again"))
            }
        }
    }
}
