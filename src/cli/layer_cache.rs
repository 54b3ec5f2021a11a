//! The cache of layers, as the command line wants it.

use super::cache_directory::CacheDirectory;
use super::watch::Watch;
use clap::Args;
use ocibuild::Result;
use ocibuild::cache::Cache;
use ocibuild::progress::warn;
use std::time::SystemTime;

#[derive(Debug, Args)]
pub(super) struct LayerCacheArguments {
    /// Make every layer anew, and keep none for later; so does OCIBUILD_NO_CACHE=1
    #[arg(long, help_heading = "Cache")]
    no_cache: bool,
    /// Say of each layer why it was, or was not, taken from the cache
    #[arg(long, help_heading = "Cache")]
    pub(super) explain: bool,
}

impl LayerCacheArguments {
    /// Opens the cache. One that cannot be used costs time, not the build.
    pub(super) fn open(&self, directory: &CacheDirectory, watch: &Watch) -> Option<Cache> {
        let is_off = std::env::var_os("OCIBUILD_NO_CACHE").is_some_and(|value| !value.is_empty());
        if self.no_cache || is_off {
            return None;
        }
        match open(directory) {
            Ok(cache) => Some(cache),
            Err(error) => {
                warn(watch, &error.object(), &format!("{}; building without a cache", error.reason()));
                None
            }
        }
    }
}

/// Opens the cache in the cache directory.
///
/// # Errors
/// When there is none to be had, or it cannot be trusted.
pub(super) fn open(directory: &CacheDirectory) -> Result<Cache> {
    Cache::open(directory.open()?, SystemTime::now())
}
