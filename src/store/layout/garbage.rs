//! Garbage collection: removing the blobs that no image needs.
//!
//! A process that writes to a layout through this library holds a shared lock of the directory `blobs` until the index names its
//! blobs, and garbage is collected under the exclusive lock. A collection that waits for it keeps new writers out. Other programs take no lock. Their blobs are recognised by their
//! mode, since blobs written here are read-only, and are kept until they are old.

use super::{Layout, LayoutLocking};
use crate::common::digest::{Algorithm, Digest};
use crate::common::directory_lock::DirectoryLock;
use crate::common::error::{Error, ErrorKind, Result};
use crate::spec::{Descriptor, media_type};
use crate::store::select_image::{MissingPlatform, reachable};
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime};

/// Whether garbage is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Collection {
    /// Garbage is only listed.
    Find,
    /// Garbage is removed.
    Remove,
}

/// The blobs of a layout that no image needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Garbage {
    /// The blobs that are removed, or would be, with their sizes in bytes.
    pub blobs: Vec<(Digest, u64)>,
    /// Blobs that another program may have just written, and that stay.
    pub recent: Vec<(Digest, u64)>,
    /// Files below `blobs` that are no blobs, and that stay.
    pub unknown: Vec<String>,
}

/// How long new writers are kept waiting at first while others finish. Each further time it is twice as long.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// How long new writers may begin between two such times.
const BETWEEN_WAITS: Duration = Duration::from_millis(100);

/// The locks that no writer has as long as they are held.
#[derive(Debug)]
struct NoWriters {
    /// Of the layout: no process begins to write.
    _entry: DirectoryLock,
    /// Of its blobs: no process has begun.
    blobs: DirectoryLock,
}

impl Layout {
    /// Finds the blobs that no entry of the index leads to, and removes them if `collection` says so.
    ///
    /// Blobs that other programs have written after `recent` stay, as does everything that is not a blob. Temporary files of
    /// killed processes are removed too.
    ///
    /// # Errors
    /// Fails if another process is writing to the layout and does not finish in time, or if the index or a manifest is missing
    /// or damaged, since it is then not known what is needed. Nothing is removed then.
    pub fn collect_garbage(&self, recent: SystemTime, collection: Collection) -> Result<Garbage> {
        let locks = match collection {
            Collection::Remove => Some((self.lock_out_writers()?, self.lock()?)),
            Collection::Find => None,
        };
        // Where no lock keeps writers out, the blobs of this program are as uncertain as those of others.
        let is_protected = match &locks {
            Some((writers, _)) => writers.as_ref().is_some_and(|writers| writers.blobs.is_held()),
            None => cfg!(unix),
        };
        let needed = self.needed()?;
        let (blobs, unknown) = self.blobs()?;
        let mut garbage = Garbage { unknown, ..Garbage::default() };
        for digest in blobs.into_iter().filter(|digest| !needed.contains(digest)) {
            let directory = self.existing_blob_directory(digest.algorithm())?;
            let metadata = match directory.dir().symlink_metadata(digest.hex()) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                read => read.map_err(|error| Error::io(directory.display(digest.hex()), "read", error))?,
            };
            let is_ours = is_protected && metadata.permissions().readonly();
            let is_old = metadata.modified().is_ok_and(|modified| modified.into_std() < recent);
            match is_ours || is_old {
                true => garbage.blobs.push((digest, metadata.len())),
                false => garbage.recent.push((digest, metadata.len())),
            }
        }
        if collection == Collection::Remove {
            self.remove_blobs(&garbage.blobs)?;
        }
        Ok(garbage)
    }

    /// Waits until no other process writes to the layout, and keeps new writers waiting. Returns `None` without locking.
    fn lock_out_writers(&self) -> Result<Option<NoWriters>> {
        let LayoutLocking::WaitFor(timeout) = self.locking else { return Ok(None) };
        let (deadline, blobs) = (Instant::now() + timeout, self.root.directory("blobs")?);
        let left = || deadline.saturating_duration_since(Instant::now());
        let mut patience = FIRST_WAIT;
        loop {
            // Where builds overlap all the time, there is no moment without one unless new ones wait.
            if let Some(entry) = DirectoryLock::of_within(left(), &self.root)?
                && let Some(blobs) = DirectoryLock::of_within(patience.min(left()), &blobs)?
            {
                return Ok(Some(NoWriters { _entry: entry, blobs }));
            }
            if left().is_zero() {
                return Err(Error::new(ErrorKind::Locked, self.display(), "another process is writing to it")
                    .hint(format!("waited {} s; see --lock-timeout", timeout.as_secs())));
            }
            // A process that writes already may have to begin again before it ends: it also saves to the layout, for example.
            std::thread::sleep(BETWEEN_WAITS.min(left()));
            patience *= 2;
        }
    }

    /// Returns the digests of every blob that the index leads to.
    pub(super) fn needed(&self) -> Result<BTreeSet<Digest>> {
        let index = self.index()?;
        // An image of several names is read once.
        let images: BTreeMap<Digest, &Descriptor> =
            index.manifests().iter().map(|listed| (listed.digest, listed)).collect();
        let needed_by = |listed: &&Descriptor| {
            if media_type::may_be_unknown_manifest(&listed.media_type) {
                let reason = format!("{} has the unsupported type `{}`", listed.digest, listed.media_type);
                return Err(Error::invalid(self.display(), reason).hint("it may need any blob, so nothing is removed"));
            }
            let blobs = reachable(self, listed, MissingPlatform::Skipped, &self.display())
                .map_err(|error| error.hint("nothing is removed; `ocibuild verify` lists the damage"))?;
            Ok(blobs.into_iter().map(|blob| blob.digest).collect())
        };
        let needed: Vec<BTreeSet<Digest>> =
            images.into_values().collect::<Vec<_>>().par_iter().map(needed_by).collect::<Result<_>>()?;
        Ok(needed.into_iter().flatten().collect())
    }

    fn remove_blobs(&self, blobs: &[(Digest, u64)]) -> Result<()> {
        // Another program may have replaced the index without a sync. After a power cut, the former one would need the blobs.
        self.sync_index()?;
        self.root.sweep_temporaries();
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let Some(directory) = self.find_blob_directory(algorithm)? else { continue };
            // Most of the time is that of freeing blocks, which several threads do at once.
            let removed = blobs.par_iter().filter(|(digest, _)| digest.algorithm() == algorithm);
            removed.try_for_each(|(digest, _)| directory.remove_tree(&digest.hex()))?;
            directory.sweep_temporaries();
            // A collection that has succeeded has freed the space, also after a power cut.
            directory.sync()?;
        }
        Ok(())
    }
}
