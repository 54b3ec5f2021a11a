//! Layers that machines share through a registry, as the command line wants it.

use super::network::NetworkArguments;
use super::progress_display::Watch;
use clap::Args;
use ocibuild::build::{Built, LockFile, Plan, Shareable};
use ocibuild::cache::{Cache, CachePlace, Published, SharedCache};
use ocibuild::common::human_numbers;
use ocibuild::common::progress::{Activity, warn};
use ocibuild::registry::LayerSources;
use ocibuild::store::TransferStats;
use ocibuild::{Reference, Result};
use std::sync::Arc;

#[derive(Debug, Args)]
pub(super) struct SharedCacheArguments {
    /// Reuse environment layers and compressed blocks from a trusted shared cache in this repository. Repeatable
    #[arg(
        long = "cache-from",
        value_name = "docker://REPOSITORY",
        value_parser = super::values::repository,
        conflicts_with = "no_cache",
        help_heading = "Cache"
    )]
    from: Vec<Reference>,
    /// Push the new layers to a shared cache in this repository. Repeatable
    #[arg(long = "cache-to", value_name = "docker://REPOSITORY", value_parser = super::values::repository, help_heading = "Cache")]
    to: Vec<Reference>,
}

impl SharedCacheArguments {
    /// Requires that the policy of containers accepts the repositories that layers may be taken from.
    ///
    /// # Errors
    /// Fails as [`NetworkArguments::admit_cache`].
    pub(super) fn check_policy(&self, network: &NetworkArguments) -> Result<()> {
        self.from.iter().try_for_each(|repository| network.admit_cache(repository))
    }

    /// Returns the repositories that layers may be taken from.
    pub(super) fn trusted(&self) -> impl Iterator<Item = Reference> {
        self.from.iter().map(|reference| reference.clone().without_tag())
    }

    /// Requires that the lock file names the repositories that layers may be taken from, where it has to.
    ///
    /// # Errors
    /// Fails as [`LockFile::check_caches`].
    pub(super) fn check_lock(&self, lock: &mut LockFile) -> Result<()> {
        let names: Vec<String> = self.trusted().map(|reference| reference.to_string()).collect();
        lock.check_caches(&names)
    }

    /// Returns the shared cache, or `None` if network access is disabled.
    ///
    /// # Errors
    /// Fails if a file that says how a registry is reached is missing or malformed.
    pub(super) fn open(&self, network: &NetworkArguments, watch: &Arc<Watch>) -> Result<Option<SharedCache>> {
        if self.from.is_empty() && self.to.is_empty() {
            return Ok(None);
        }
        let places = places(&self.from, "--cache-from", network, watch)?;
        Ok(Some(SharedCache::new(places, watch.clone())))
    }

    /// Pushes the layers of the build to the shared cache. A failure is a warning, because the image is complete.
    ///
    /// # Errors
    /// Fails as [`SharedCacheArguments::open`].
    pub(super) fn publish(
        &self,
        (cache, own): (&SharedCache, Option<&Cache>),
        (plan, built): (&Plan, &Built),
        network: &NetworkArguments,
        watch: &Arc<Watch>,
    ) -> Result<()> {
        let places = places(&self.to, "--cache-to", network, watch)?;
        if places.is_empty() {
            return Ok(());
        }
        let groups = plan.shareable(built);
        let blocks = match own.map(|own| plan.layers_with_blocks(built, own)) {
            None => Vec::new(),
            Some(Ok(blocks)) => blocks,
            Some(Err(error)) => {
                warn(watch, &error.object(), &format!("{}; the blocks of layers are not pushed", error.reason()));
                if groups.is_empty() {
                    return Ok(());
                }
                Vec::new()
            }
        };
        if groups.is_empty() && blocks.is_empty() {
            let reason = match own {
                Some(_) => "no layer was built here with a compressed block of 64 KiB or more",
                None => "the layers were built without the cache of this machine",
            };
            warn(watch, "--cache-to", &format!("nothing to push: {reason}"));
            return Ok(());
        }
        let registries: Vec<&str> = self.to.iter().map(Reference::registry).collect();
        let left = LayerSources { recorded: &built.remote_layers, named: &[], registries: &registries };
        let image = network.with_layer_sources(built.image.clone(), left, watch)?;
        for place in &places {
            let activity = Activity::start(watch, &format!("share in {}", place.name()), None);
            let mut moved = TransferStats::default();
            for (group, Shareable { layers, from }) in &groups {
                if let Some(elsewhere) = from.iter().find(|from| !place.is_at(from)) {
                    let reason = format!("not pushed: the layers came from {elsewhere}");
                    warn(watch, &place.name(), &reason);
                    continue;
                }
                moved.add(pushed(cache.publish(place, group, layers, &*image.source), watch));
            }
            moved.add(pushed(
                cache.publish_blocks(place, &blocks, plan.compression.compression(), &*image.source),
                watch,
            ));
            activity.finish(&format!("{} pushed", human_numbers::size(moved.copied_bytes)));
        }
        Ok(())
    }
}

/// Returns what was pushed. A failure is a warning.
fn pushed(result: Result<Published>, watch: &Watch) -> TransferStats {
    match result {
        Ok(Published::Unchanged) => TransferStats::default(),
        Ok(Published::Written(moved)) => moved,
        Err(error) => {
            let reason = format!("{}; the layers are not pushed to the shared cache", error.reason());
            warn(watch, &error.object(), &reason);
            TransferStats::default()
        }
    }
}

fn places(
    references: &[Reference],
    flag: &str,
    network: &NetworkArguments,
    watch: &Arc<Watch>,
) -> Result<Vec<CachePlace>> {
    if network.is_offline()? {
        for reference in references {
            warn(watch, &format!("{flag} {reference}"), "skipped: network access is disabled (--offline)");
        }
        return Ok(Vec::new());
    }
    references.iter().map(|reference| CachePlace::new(network.repository(reference, watch.clone())?)).collect()
}
