//! What this machine has seen in registries, as the command line wants it.

use super::cache_directory::CacheDirectory;
use super::progress_display::Watch;
use ocibuild::common::progress::warn;
use ocibuild::spec::Manifest;
use ocibuild::store::Seen;
use ocibuild::{Digest, Reference};
use std::sync::Arc;
use std::time::SystemTime;

/// Opens the record in the cache directory. Without one, more is transferred.
pub(super) fn open(cache: &CacheDirectory, watch: &Watch) -> Option<Arc<Seen>> {
    match cache.open().and_then(|directory| Seen::open(&directory, SystemTime::now())) {
        Ok(seen) => Some(Arc::new(seen)),
        Err(error) => {
            warn(watch, &error.object(), &format!("{}; what registries hold is not remembered", error.reason()));
            None
        }
    }
}

/// Remembers that `repository` holds an image.
pub(super) fn remember(seen: &Seen, repository: &Reference, manifest: &Manifest, watch: &Watch) {
    let blobs = manifest.layers.iter().chain([&manifest.config]);
    let digests: Vec<Digest> = blobs.map(|blob| blob.digest).collect();
    if let Err(error) = seen.remember(repository, digests) {
        warn(watch, &error.object(), &format!("{}; what the registry holds is not remembered", error.reason()));
    }
}
