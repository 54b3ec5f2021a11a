//! Layers that were made before.
//!
//! ```text
//! ocibuild/                the cache directory, open to its owner only
//!   CACHEDIR.TAG           tells backups to leave it out
//!   layers/v1/<key>        what decides a layer's bytes → the layer, one small file each
//!   blocks/v1/<series>     the last build of a layer, block by block, for the next one, and which series was the latest
//!   verified/v2/<file>     which blobs were found whole, and are durable
//!   store/                 the blobs, an image layout without images
//!   bases/                 base images (see `store::BaseStore`)
//!   listings/, rcc/        what bases hold, and programs that were fetched
//!   used/v1/<digest>       when a base or a program was last used
//!   running/               a locked file of each build that is running
//!   tidied                 when everything was looked at last
//! ```
//!
//! The cache knows nothing about making layers. A key holds everything that decides a byte; a value is believed only as far
//! as its own checksum and the blob that it names, and anything wrong with either is a miss, never an error. So a build with
//! a cache and one without give the same bytes, and losing the cache costs time.
//!
//! A record says where its layer came from: it was made here, or taken from a repository. What was taken counts only in builds
//! that name the repository again.
//!
//! What other machines made, and share in a repository of a registry, is in [`SharedCache`].

mod artifact;
mod blocks;
mod examined;
mod key;
mod record;
mod running;
mod shared;
pub mod upkeep;

pub use artifact::SharedLayer;
pub use key::{Fingerprints, LayerKey, RecipeKey, SeriesKey};
pub use running::Running;
pub use shared::{CachePlace, Published, SharedCache, SharedFind};

use crate::error::Result;
use crate::layer::Layer;
use crate::progress::{Progress, warn};
use crate::reference::Reference;
use crate::root::Root;
use crate::store::{BlobSink, LAYERS, Layout, VerifiedFiles};
use record::Record;
use serde_json::Value;
use std::time::SystemTime;

/// A directory of layers that were made before.
#[derive(Debug)]
pub struct Cache {
    layers: Root,
    blocks: Root,
    verified: VerifiedFiles,
    store: Layout,
    now: SystemTime,
    /// The repositories whose layers count.
    trusted: Vec<Reference>,
}

/// Not to be believed by anybody who reads it without this line (bford.info/cachedir).
const TAG: &[u8] =
    b"Signature: 8a477f597d28d172789f06886806bc55\n# Layers that ocibuild made before. Losing them costs time only.\n";

impl Cache {
    /// Opens the cache in `directory`, which nobody but its owner may write to: whoever writes to a cache chooses what is in
    /// an image. `now` is what the clock says.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn open(directory: Root, now: SystemTime, progress: &dyn Progress) -> Result<Cache> {
        if directory.dir().symlink_metadata("CACHEDIR.TAG").is_err() {
            directory.replace_file("CACHEDIR.TAG", TAG)?;
        }
        let layers = directory.create_directory("layers")?.create_directory("v1")?;
        let blocks = directory.create_directory("blocks")?.create_directory("v1")?;
        let verified = VerifiedFiles::in_cache_directory(&directory)?;
        let store = Layout::kept(&directory, LAYERS, progress)?.with_memory(verified.clone());
        Ok(Cache { layers, blocks, verified, store, now, trusted: Vec::new() })
    }

    /// The same, in which layers count that were taken from `repositories`. Without this, only those count that were made here.
    #[must_use]
    pub fn trusting(self, repositories: impl IntoIterator<Item = Reference>) -> Cache {
        let trusted = repositories.into_iter().map(|name| name.without_tag().without_digest()).collect();
        Cache { trusted, ..self }
    }

    /// The record of `key`, if it is of a layer that was made here, or taken from a repository that is trusted now.
    fn record(&self, key: &LayerKey) -> Option<Record> {
        let is_trusted = |from: &Reference| self.trusted.contains(from);
        Record::read(&self.layers, key).filter(|record| record.from.as_ref().is_none_or(is_trusted))
    }

    /// What remembers which blobs are whole, for other layouts.
    pub fn verified_files(&self) -> &VerifiedFiles {
        &self.verified
    }

    /// Brings the layer of `key` into `layout`, if it is known and its blob is whole.
    pub fn find(&self, key: &LayerKey, layout: &Layout) -> Option<Found> {
        let record = self.record(key)?;
        self.layers.touch(&key.hex(), self.now);
        if !self.bring(&record.layer, layout) {
            return None;
        }
        Some(Found { layer: record.layer, notes: record.notes, from: record.from, recorded: record.recorded })
    }

    /// Brings the blob of `layer` into `layout`, and answers whether it is there, whole.
    pub fn bring(&self, layer: &Layer, layout: &Layout) -> bool {
        let has = |layout: &Layout| layout.contains(&layer.descriptor).unwrap_or(false);
        has(layout) || (has(&self.store) && layout.take_over(&self.store, &layer.descriptor).is_ok())
    }

    /// What is known of `key` besides its layer, wherever the layer's blob is.
    pub fn notes(&self, key: &LayerKey) -> Option<Value> {
        self.record(key).map(|record| record.notes)
    }

    /// When this build looked at its sources first, for what is kept.
    pub fn now(&self) -> SystemTime {
        self.now
    }

    /// Keeps a layer that is in `layout` under `key`. A failure costs the
    /// next build its time and is only warned about.
    pub fn keep(&self, key: &LayerKey, kept: &Found, layout: &Layout, progress: &dyn Progress) {
        let descriptor = &kept.layer.descriptor;
        let result = match self.store.contains(descriptor) {
            Ok(true) => Ok(()),
            Ok(false) => self.store.take_over(layout, descriptor),
            Err(error) => Err(error),
        };
        let Found { layer, notes, from, recorded } = kept.clone();
        let from = from.map(|from| from.without_tag().without_digest());
        let record = Record { layer, notes, from, recorded };
        if let Err(error) = result.and_then(|()| record.write(&self.layers, key)) {
            warn(progress, &error.object(), &format!("{}; the layer is not kept in the cache", error.reason()));
        }
    }
}

impl Found {
    /// Whether files whose newest time is `newest` may have changed without a new time since this was recorded.
    pub fn is_racy(&self, newest: SystemTime) -> bool {
        key::is_racy(newest, self.recorded)
    }
}

/// A layer, and what was noted with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The layer.
    pub layer: Layer,
    /// What whoever kept it wanted to know again.
    pub notes: Value,
    /// The repository that it was taken from; `None` if it was made here.
    pub from: Option<Reference>,
    /// When its sources were first looked at.
    pub recorded: SystemTime,
}

#[cfg(test)]
mod tests;
