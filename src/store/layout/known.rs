//! What this process has found out about the blobs of a layout.

use super::{INDEX_FILE, Layout};
use crate::digest::Digest;
use crate::progress::{Progress, warn};
use crate::root::sync_content;
use std::collections::BTreeSet;
use std::fs::File;
use std::sync::{MutexGuard, PoisonError};

/// Blobs, by what this process did with them or found of them.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Written or hashed.
    pub(super) whole: BTreeSet<Digest>,
    /// Synced to the disk.
    pub(super) durable: BTreeSet<Digest>,
    /// Something else was under their names.
    damaged: BTreeSet<Digest>,
    /// Whether another program dropped from the index what this process had listed.
    pub(super) dropped: bool,
}

impl Layout {
    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the blob in `file` has its digest.
    ///
    /// What later processes are told of is durable, too, so that they need not sync it (see `durable`).
    pub(super) fn mark_whole(&self, digest: Digest, file: &File) {
        self.known().whole.insert(digest);
        let Some(memory) = &self.memory else { return };
        if memory.recall(file) == Some(digest) {
            self.known().durable.insert(digest);
        } else if cfg!(windows) || sync_content(file).is_ok() {
            memory.remember(file, &digest);
            self.known().durable.insert(digest);
        }
    }

    /// Notes that this process wrote and synced the blob in `file`.
    pub(super) fn mark_written(&self, digest: Digest, file: &File) {
        let mut known = self.known();
        known.whole.insert(digest);
        known.durable.insert(digest);
        drop(known);
        if let Some(memory) = &self.memory {
            memory.remember(file, &digest);
        }
    }

    /// Declares that the blobs under these names were found damaged, so that their next use hashes them.
    pub fn forget(&self, digests: &BTreeSet<Digest>) {
        digests.iter().for_each(|digest| self.mark_damaged(*digest));
    }

    pub(super) fn mark_damaged(&self, digest: Digest) {
        if let Some(memory) = &self.memory
            && let Ok(directory) = self.existing_blob_directory(digest.algorithm())
            && let Ok(file) = directory.open_file(digest.hex())
        {
            memory.forget(&file);
        }
        let mut known = self.known();
        known.whole.remove(&digest);
        known.damaged.insert(digest);
    }

    /// Warns once of what other programs, or the disk, did to the layout, and this process repaired.
    pub fn warn_of_repairs(&self, progress: &dyn Progress) {
        let mut known = self.known();
        let (repaired, damaged) =
            std::mem::take(&mut known.damaged).into_iter().partition(|it| known.whole.contains(it));
        let (was_dropped, repaired): (bool, BTreeSet<Digest>) = (std::mem::take(&mut known.dropped), repaired);
        known.damaged = damaged;
        drop(known);
        for digest in repaired {
            warn(progress, &format!("{}: blob {digest}", self.display()), "was damaged; it has been written again");
        }
        if was_dropped {
            let reason = "a program that does not take the lock removed the image; it has been listed again";
            warn(progress, &self.root.display(INDEX_FILE), reason);
        }
    }
}
