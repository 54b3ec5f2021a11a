//! The recorded locations of blobs in registries, for the command line.

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
            warn(
                watch,
                &error.object(),
                &format!("{}; locations of blobs in registries are not recorded", error.reason()),
            );
            None
        }
    }
}

/// Remembers that `repository` holds an image.
pub(super) fn remember(seen: &Seen, repository: &Reference, manifest: &Manifest, watch: &Watch) {
    let blobs = manifest.layers.iter().chain([&manifest.config]);
    let digests: Vec<Digest> = blobs.map(|blob| blob.digest).collect();
    if let Err(error) = seen.remember(repository, digests) {
        warn(
            watch,
            &error.object(),
            &format!("{}; locations of blobs in the registry are not recorded", error.reason()),
        );
    }
}
