//! The records of blobs in registries, in the cache directory. Without them, more is transferred, so failures are warnings.

use super::cache_directory::CacheDirectory;
use super::progress_display::Watch;
use ocibuild::common::progress::warn;
use ocibuild::spec::Manifest;
use ocibuild::store::BlobLocations;
use ocibuild::{Error, Reference};
use std::sync::Arc;
use std::time::SystemTime;

/// Opens the records.
pub(super) fn open(cache: &CacheDirectory, watch: &Watch) -> Option<Arc<BlobLocations>> {
    let opened = cache.open().and_then(|directory| BlobLocations::open(&directory, SystemTime::now()));
    opened.map(Arc::new).map_err(|error| warn_of(&error, watch)).ok()
}

/// Records that `repository` has the blobs of the image with this manifest.
pub(super) fn record(locations: &BlobLocations, repository: &Reference, manifest: &Manifest, watch: &Watch) {
    if let Err(error) = locations.record_image(repository, manifest) {
        warn_of(&error, watch);
    }
}

fn warn_of(error: &Error, watch: &Watch) {
    let reason = format!("{}; locations of blobs in registries are not recorded", error.reason());
    warn(watch, &error.object(), &reason);
}
