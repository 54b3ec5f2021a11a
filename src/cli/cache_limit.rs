//! The bound of the cache that holds by itself.

use super::cache::described;
use super::cache_directory::CacheDirectory;
use super::parse_sizes;
use super::progress_display::Watch;
use clap::Args;
use ocibuild::cache::maintenance::{CacheLimits, ItemKind};
use ocibuild::common::progress::warn;
use ocibuild::{Error, Result};
use std::time::Duration;

const AGE_VARIABLE: &str = "OCIBUILD_CACHE_MAX_AGE";
const SIZE_VARIABLE: &str = "OCIBUILD_CACHE_MAX_SIZE";

/// The default age limit: thirty days.
const USUAL_AGE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

#[derive(Debug, Args)]
pub(super) struct TidyArguments {
    /// Prune cache entries not used for AGE; 0 for no limit [default: 30d] [env: OCIBUILD_CACHE_MAX_AGE]
    #[arg(long, value_name = "AGE", value_parser = parse_sizes::age, help_heading = "Cache")]
    cache_max_age: Option<Duration>,
    /// Prune the cache to SIZE; 0 for no limit [default: a tenth of the disk] [env: OCIBUILD_CACHE_MAX_SIZE]
    #[arg(long, value_name = "SIZE", value_parser = parse_sizes::size, help_heading = "Cache")]
    cache_max_size: Option<u64>,
}

/// The limits of the cache after a build.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bound {
    age: Duration,
    /// `None` for a tenth of the disk.
    size: Option<u64>,
}

impl TidyArguments {
    /// Returns the bound that the command line and the environment set.
    ///
    /// # Errors
    /// Fails if a variable is malformed.
    pub(super) fn bound(&self) -> Result<Bound> {
        let age = self.cache_max_age.map_or_else(|| variable(AGE_VARIABLE, parse_sizes::age), |age| Ok(Some(age)))?;
        let size =
            self.cache_max_size.map_or_else(|| variable(SIZE_VARIABLE, parse_sizes::size), |size| Ok(Some(size)))?;
        Ok(Bound { age: age.unwrap_or(USUAL_AGE), size })
    }
}

impl Bound {
    /// Prunes the cache to the bound, at most once a day, and says so. A failure is a warning, since it costs only disk space.
    pub(super) fn keep(self, directory: &CacheDirectory, watch: &Watch) {
        let tidied = || -> Result<_> {
            let Some(directory_root) = directory.existing()? else { return Ok(None) };
            let size = self.size.or_else(|| directory_root.disk_size().map(|size| size / 10));
            let limits =
                CacheLimits { age: Some(self.age).filter(|age| !age.is_zero()), size: size.filter(|size| *size > 0) };
            let Some(upkeep) = directory.upkeep()? else { return Ok(None) };
            upkeep.tidy(limits)
        };
        match tidied() {
            Ok(Some(pruned))
                if pruned.items.keys().any(|kind| !matches!(kind, ItemKind::Note | ItemKind::Leftover)) =>
            {
                watch.say(&format!("cache: {}", described(&pruned)));
            }
            Ok(_) => {}
            Err(error) => warn(watch, &error.object(), &format!("{}; the cache is not pruned", error.reason())),
        }
    }
}

fn variable<T>(name: &str, read: fn(&str) -> Result<T>) -> Result<Option<T>> {
    let Some(value) = std::env::var_os(name).filter(|value| !value.is_empty()) else { return Ok(None) };
    read(&value.to_string_lossy())
        .map(Some)
        .map_err(|error| Error::usage(format!("{name}: {}", error.object()), error.reason()))
}
