//! The state of a layout's blobs, as far as this process has checked or written them.

use super::{INDEX_FILE, Layout};
use crate::common::digest::Digest;
use crate::common::progress::{Progress, warn};
use crate::common::root::sync_content;
use std::collections::BTreeSet;
use std::fs::File;
use std::sync::{MutexGuard, PoisonError};

/// Sets of blobs by their state.
#[derive(Debug, Default)]
pub(super) struct KnownBlobs {
    /// Written or hashed by this process, and intact.
    pub(super) whole: BTreeSet<Digest>,
    /// Synced to the disk.
    pub(super) durable: BTreeSet<Digest>,
    /// Found with other content under their names.
    damaged: BTreeSet<Digest>,
    /// Whether another program dropped entries of this process from the index.
    pub(super) dropped: bool,
}

impl Layout {
    pub(super) fn known(&self) -> MutexGuard<'_, KnownBlobs> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that the blob in `file` has its digest.
    ///
    /// A blob that is recorded for later processes is also synced, so that they need not sync it (see `durable`).
    pub(super) fn mark_whole(&self, digest: Digest, file: &File) {
        self.known().whole.insert(digest);
        let Some(cache) = &self.verification_cache else { return };
        if cache.digest_of(file) == Some(digest) {
            self.known().durable.insert(digest);
        } else if cfg!(windows) || sync_content(file).is_ok() {
            cache.remember(file, &digest);
            self.known().durable.insert(digest);
        }
    }

    /// Records that this process wrote and synced the blob in `file`.
    pub(super) fn mark_written(&self, digest: Digest, file: &File) {
        let mut known = self.known();
        known.whole.insert(digest);
        known.durable.insert(digest);
        drop(known);
        if let Some(cache) = &self.verification_cache {
            cache.remember(file, &digest);
        }
    }

    /// Marks the blobs with these digests as damaged, so that their next use hashes them.
    pub fn forget(&self, digests: &BTreeSet<Digest>) {
        digests.iter().for_each(|digest| self.mark_damaged(*digest));
    }

    pub(super) fn mark_damaged(&self, digest: Digest) {
        if let Some(cache) = &self.verification_cache
            && let Ok(directory) = self.existing_blob_directory(digest.algorithm())
            && let Ok(file) = directory.open_file(digest.hex())
        {
            cache.forget(&file);
        }
        let mut known = self.known();
        known.whole.remove(&digest);
        known.damaged.insert(digest);
    }

    /// Warns once about damage by other programs or the disk that this process has repaired.
    pub fn warn_of_repairs(&self, progress: &dyn Progress) {
        let mut known = self.known();
        let (repaired, damaged) =
            std::mem::take(&mut known.damaged).into_iter().partition(|it| known.whole.contains(it));
        let (was_dropped, repaired): (bool, BTreeSet<Digest>) = (std::mem::take(&mut known.dropped), repaired);
        known.damaged = damaged;
        drop(known);
        for digest in repaired {
            warn(progress, &format!("{}: blob {digest}", self.display()), "was damaged; written again");
        }
        if was_dropped {
            let reason = "the image was removed by a program that ignores the lock; added again";
            warn(progress, &self.root.display(INDEX_FILE), reason);
        }
    }
}
