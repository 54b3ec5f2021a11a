//! The cache of layers from earlier builds.
//!
//! ```text
//! ocibuild/                the cache directory, accessible to its owner only
//!   CACHEDIR.TAG           makes backup programs skip the directory
//!   layers/v1/<key>        records: the key of a layer's bytes → the layer, one small file each
//!   blocks/v1/<series>     the block list of a layer's last build, for the next one, and the name of the latest list
//!   block-index/v1/<layer> the blocks of each layer that was made here, for layers that have some of them too
//!   verified/v2/<file>     blobs that were found intact, and are durable
//!   store/                 the blobs, an image layout without images
//!   bases/                 base images (see `store::BaseStore`)
//!   listings/, rcc/        the content of bases, and downloaded programs
//!   robots/v1/<digest>/    unpacked robots, each under the digest of the file that it came in
//!   used/v1/<digest>       when a base, a program or a robot was last used
//!   running/               a locked file for each running build
//!   tidied                 when the cache was tidied last
//! ```
//!
//! The cache is independent of how layers are built. A key covers everything that determines a byte. A record is used only if
//! its checksum and the blob that it names are correct; anything else is a cache miss, never an error. So a build with a cache
//! and one without produce the same bytes, and losing the cache costs time.
//!
//! A record names the origin of its layer: this machine, or a repository. A layer from a repository is used only in builds that
//! name the repository again.
//!
//! [`SharedCache`] has the layers that other machines share in a repository of a registry.

mod blob_stream;
mod block_index;
mod block_lists;
mod block_table;
mod facts;
mod facts_lookup;
mod fetch_pace;
mod keys;
#[doc(hidden)]
pub mod maintenance;
mod one_compression;
mod record;
mod running_builds;
mod shared_artifact;
mod shared_block_lists;
mod shared_blocks;
mod shared_cache;
mod shared_layer_check;

pub use block_index::StoredBlocks;
pub use facts::{EnvironmentFacts, LayerFacts};
pub use facts_lookup::FactsLookup;
pub use keys::{Fingerprints, LayerKey, RecipeKey, SeriesKey};
pub use one_compression::{Spool, with_one_compression};
pub use running_builds::Running;
pub use shared_artifact::SharedLayer;
pub use shared_block_lists::LayerBlocks;
pub(crate) use shared_blocks::SharedBlocks;
pub use shared_cache::{CachePlace, Published, SharedCache, SharedFind};

use crate::common::error::Result;
use crate::common::progress::{Progress, warn};
use crate::common::root::Root;
use crate::layers::Layer;
use crate::spec::reference::Reference;
use crate::store::{BlobSink, LAYERS, Layout, VerifiedFiles};
use record::CacheRecord;
use std::time::SystemTime;

/// A directory of layers from earlier builds.
#[derive(Debug)]
pub struct Cache {
    layers: Root,
    blocks: Root,
    block_index: Root,
    verified: VerifiedFiles,
    store: Layout,
    now: SystemTime,
    /// The repositories whose layers may be used.
    trusted: Vec<Reference>,
}

/// The content of `CACHEDIR.TAG`. Programs ignore the file without the first line (bford.info/cachedir).
const TAG: &[u8] =
    b"Signature: 8a477f597d28d172789f06886806bc55\n# Layers that ocibuild made before. Losing them costs time only.\n";

impl Cache {
    /// Opens the cache in `directory`, at the time `now`.
    ///
    /// Only the owner may have write access to the directory: anyone who writes to a cache controls the content of images.
    ///
    /// # Errors
    /// Fails if the cache cannot be written.
    pub fn open(directory: Root, now: SystemTime, progress: &dyn Progress) -> Result<Cache> {
        if directory.dir().symlink_metadata("CACHEDIR.TAG").is_err() {
            directory.replace_file("CACHEDIR.TAG", TAG)?;
        }
        let layers = directory.create_directory("layers")?.create_directory("v1")?;
        let blocks = directory.create_directory("blocks")?.create_directory("v1")?;
        let block_index = directory.create_directory("block-index")?.create_directory("v1")?;
        let verified = VerifiedFiles::in_cache_directory(&directory)?;
        let store = Layout::kept(&directory, LAYERS, progress)?.with_verification_cache(verified.clone());
        Ok(Cache { layers, blocks, block_index, verified, store, now, trusted: Vec::new() })
    }

    /// Allows layers from `repositories`. Without this, only layers from this machine are used.
    #[must_use]
    pub fn trusting(self, repositories: impl IntoIterator<Item = Reference>) -> Cache {
        let trusted = repositories.into_iter().map(|name| name.without_tag().without_digest()).collect();
        Cache { trusted, ..self }
    }

    /// Reads the record of `key`, if its layer is from this machine or a trusted repository.
    fn record(&self, key: &LayerKey) -> Option<CacheRecord> {
        let is_trusted = |from: &Reference| self.trusted.contains(from);
        CacheRecord::read(&self.layers, key).filter(|record| record.from.as_ref().is_none_or(is_trusted))
    }

    /// Returns the record of verified blobs, for other layouts.
    pub fn verified_files(&self) -> &VerifiedFiles {
        &self.verified
    }

    /// Finds the layer of `key` and links or copies it into `layout`. Returns `None` on a cache miss.
    pub fn find(&self, key: &LayerKey, layout: &Layout) -> Option<CachedLayer> {
        let record = self.record(key)?;
        self.layers.touch(&key.hex(), self.now);
        if !self.bring(&record.layer, layout) {
            return None;
        }
        Some(CachedLayer { layer: record.layer, facts: record.facts, from: record.from, recorded: record.recorded })
    }

    /// Links or copies the blob of `layer` into `layout`, and returns whether it is there and intact.
    pub fn bring(&self, layer: &Layer, layout: &Layout) -> bool {
        let has = |layout: &Layout| layout.contains(&layer.descriptor).unwrap_or(false);
        has(layout) || (has(&self.store) && layout.link_or_copy(&self.store, &layer.descriptor).is_ok())
    }

    /// Returns the facts of the record of `key`, whether or not the layer's blob exists.
    pub fn facts(&self, key: &LayerKey) -> Option<LayerFacts> {
        self.record(key).map(|record| record.facts)
    }

    /// Returns when this build first read its sources, for its records.
    pub fn now(&self) -> SystemTime {
        self.now
    }

    /// Stores a layer of `layout` under `key`. A failure only costs the next build time, so it is a warning.
    pub fn keep(&self, key: &LayerKey, kept: &CachedLayer, layout: &Layout, progress: &dyn Progress) {
        let descriptor = &kept.layer.descriptor;
        let result = match self.store.contains(descriptor) {
            Ok(true) => Ok(()),
            Ok(false) => self.store.link_or_copy(layout, descriptor),
            Err(error) => Err(error),
        };
        let CachedLayer { layer, facts, from, recorded } = kept.clone();
        let from = from.map(|from| from.without_tag().without_digest());
        let record = CacheRecord { layer, facts, from, recorded };
        if let Err(error) = result.and_then(|()| record.write(&self.layers, key)) {
            warn(progress, &error.object(), &format!("{}; the layer is not cached", error.reason()));
        }
    }
}

impl CachedLayer {
    /// Returns whether files with the newest time `newest` may have changed without a new time since this was recorded.
    pub fn is_racy(&self, newest: SystemTime) -> bool {
        keys::is_racy(newest, self.recorded)
    }
}

/// A cached layer, with facts about it.
#[derive(Debug, Clone, PartialEq)]
pub struct CachedLayer {
    /// The layer.
    pub layer: Layer,
    /// The facts about its content.
    pub facts: LayerFacts,
    /// The repository that it comes from; `None` if it was built on this machine.
    pub from: Option<Reference>,
    /// When its sources were first read.
    pub recorded: SystemTime,
}

#[cfg(test)]
mod tests;
