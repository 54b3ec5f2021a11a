//! The cache of layers, as the command line wants it.

use super::cache_directory::CacheDirectory;
use super::cache_limit::TidyArguments;
use super::environment_switches;
use super::progress_display::Watch;
use clap::Args;
use ocibuild::Result;
use ocibuild::cache::Cache;
use ocibuild::common::progress::warn;
use std::time::SystemTime;

#[derive(Debug, Args)]
pub(super) struct LayerCacheArguments {
    /// Do not use the layer cache [env: OCIBUILD_NO_CACHE]
    #[arg(long, help_heading = "Cache")]
    no_cache: bool,
    /// Print the reason for each cache hit and cache miss
    #[arg(long, help_heading = "Cache")]
    pub(super) explain: bool,
    #[command(flatten)]
    pub(super) tidy: TidyArguments,
}

impl LayerCacheArguments {
    /// Returns whether anything is kept for later builds.
    ///
    /// # Errors
    /// Fails as [`LayerCacheArguments::open`].
    pub(super) fn is_on(&self) -> Result<bool> {
        Ok(!self.no_cache && !environment_switches::is_on(environment_switches::NO_CACHE)?)
    }

    /// Opens the cache. One that cannot be used costs time, not the build.
    ///
    /// # Errors
    /// Fails if the environment says neither that there is to be one nor that there is not.
    pub(super) fn open(&self, directory: &CacheDirectory, watch: &Watch) -> Result<Option<Cache>> {
        if !self.is_on()? {
            return Ok(None);
        }
        Ok(open_or_warn(directory, "building without the cache", watch))
    }
}

/// Opens the cache for a command that has no flags for it. One that cannot be used costs time.
///
/// # Errors
/// Fails as [`LayerCacheArguments::open`].
pub(super) fn open_unless_off(directory: &CacheDirectory, watch: &Watch) -> Result<Option<Cache>> {
    if environment_switches::is_on(environment_switches::NO_CACHE)? {
        return Ok(None);
    }
    Ok(open_or_warn(directory, "continuing without the cache", watch))
}

fn open_or_warn(directory: &CacheDirectory, otherwise: &str, watch: &Watch) -> Option<Cache> {
    let opened = open(directory, watch);
    if let Err(error) = &opened {
        warn(watch, &error.object(), &format!("{}; {otherwise}", error.reason()));
    }
    opened.ok()
}

/// Opens the cache in the cache directory.
///
/// # Errors
/// Fails if the cache cannot be opened, or other users can change it.
fn open(directory: &CacheDirectory, watch: &Watch) -> Result<Cache> {
    Cache::open(directory.open()?, SystemTime::now(), watch)
}
