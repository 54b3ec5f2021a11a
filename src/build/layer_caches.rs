//! The caches of layers: the cache of this machine, and the shared caches in registries.

use super::{Built, BuiltLayer, LayerOrigin, LayerSpec, LayersInFlight, Plan, PlannedContent, PlannedLayer};
use crate::cache::{
    Cache, CachedLayer, Fingerprints, LayerBlocks, LayerFacts, LayerKey, RecipeKey, SharedBlocks, SharedCache,
    SharedFind, SharedLayer, StoredBlocks,
};
use crate::codec::compression::Compression;
use crate::common::error::Result;
use crate::common::progress::{Progress, warn};
use crate::common::threads;
use crate::layers::CompressionPolicy;
use crate::layers::incremental::BlockStore;
use crate::spec::ImagePath;
use crate::spec::reference::Reference;
use crate::store::Layout;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The caches that a build reads and writes.
#[derive(Debug, Clone, Copy)]
pub struct LayerCaches<'a> {
    /// The cache of this machine.
    pub cache: Option<&'a Cache>,
    /// The shared caches, which are used after a miss in the cache of this machine.
    pub shared: Option<&'a SharedCache>,
    /// The handling of hits in a shared cache.
    pub shared_layers: SharedLayers,
    /// The layout to which layers are added.
    pub layout: &'a Layout,
    /// The layers that builds beside this one are making, if there are any.
    pub in_flight: Option<&'a LayersInFlight>,
}

/// The handling of a layer from a shared cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SharedLayers {
    /// The layer is downloaded.
    Fetched,
    /// The layer stays in the registry. Readers that need the complete image fetch it from there.
    Remote,
}

/// The number of concurrent downloads.
const TRANSFERS: usize = 4;

impl<'a> LayerCaches<'a> {
    /// Returns the caches without the shared ones.
    pub fn of(cache: &'a Cache, layout: &'a Layout) -> Self {
        let shared_layers = SharedLayers::Fetched;
        LayerCaches { cache: Some(cache), shared: None, shared_layers, layout, in_flight: None }
    }

    /// Looks up `layers` by their recipes, concurrently.
    pub(super) fn look_up_recipes(
        &self,
        layers: &[LayerSpec],
        policy: CompressionPolicy,
        progress: &dyn Progress,
    ) -> Vec<Option<BuiltLayer>> {
        let next = AtomicUsize::new(0);
        let found: Vec<OnceLock<BuiltLayer>> = layers.iter().map(|_| OnceLock::new()).collect();
        let work = || {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some((layer, slot)) = layers.get(number).zip(found.get(number)) else { return };
                let group = LayerGroup::of(layer.group.as_ref(), &layer.roots, policy);
                let key = layer.recipe.as_ref().map(|(recipe, _)| LayerKey::of_recipe(recipe, policy));
                if let Some(layer) =
                    key.and_then(|key| self.find(group.as_ref(), &key, LayerOrigin::SameRecipe, progress))
                {
                    // Each number is taken once, so the slot is empty.
                    slot.set(layer).ok();
                }
            }
        };
        threads::together(TRANSFERS.min(layers.len()), work);
        found.into_iter().map(OnceLock::into_inner).collect()
    }

    /// Looks up the layer of `key` in the cache of this machine, where `kept` returns its origin, then in the shared cache of
    /// `group`. A shared layer that cannot be fetched is a warning and a miss.
    pub(super) fn find(
        &self,
        group: Option<&LayerGroup<'_>>,
        key: &LayerKey,
        kept: LayerOrigin,
        progress: &dyn Progress,
    ) -> Option<BuiltLayer> {
        if let Some(found) = self.cache.and_then(|cache| cache.find(key, self.layout)) {
            return Some(BuiltLayer { from: found.from, ..BuiltLayer::of(found.layer, kept) });
        }
        let group = group?;
        let find = self.shared?.find(&group.key, key)?;
        match self.take(&find, group.roots, progress) {
            Ok(layer) => Some(layer),
            Err(error) => {
                warn(progress, &error.object(), &format!("{}; building the layer instead", error.reason()));
                None
            }
        }
    }

    fn take(&self, find: &SharedFind, roots: &[ImagePath], progress: &dyn Progress) -> Result<BuiltLayer> {
        let SharedLayer { layer, keys, facts } = &find.shared;
        let repository = find.repository.reference().clone().without_tag();
        if self.shared_layers == SharedLayers::Remote {
            find.check(progress)?;
            let (remote_in, from) = (Some(repository.clone()), Some(repository));
            return Ok(BuiltLayer { remote_in, from, ..BuiltLayer::of(layer.clone(), LayerOrigin::Shared) });
        }
        find.fetch(self.layout, roots, progress)?;
        if let Some(cache) = self.cache {
            let (layer, facts, from) = (layer.clone(), facts.clone(), Some(repository.clone()));
            let kept = CachedLayer { layer, facts, from, recorded: cache.now() };
            keys.iter().for_each(|key| cache.keep(key, &kept, self.layout, progress));
        }
        Ok(BuiltLayer { from: Some(repository), ..BuiltLayer::of(layer.clone(), LayerOrigin::Shared) })
    }

    /// Returns `true` if a shared cache may have a layer of `group`.
    pub(super) fn may_be_shared(&self, group: Option<&LayerGroup<'_>>) -> bool {
        self.shared.is_some() && group.is_some()
    }

    /// Returns `true` if a cache has a layer with the names and sizes of `key`.
    pub(super) fn knows_shape(&self, group: Option<&LayerGroup<'_>>, key: &LayerKey) -> bool {
        let is_kept = || self.cache.is_some_and(|cache| cache.facts(key).is_some());
        is_kept() || self.shared.zip(group).is_some_and(|(shared, group)| shared.find(&group.key, key).is_some())
    }
}

/// The group that a layer is shared with.
pub(super) struct LayerGroup<'g> {
    key: LayerKey,
    /// The directories and files that contain all entries of the layer.
    roots: &'g [ImagePath],
}

impl LayerGroup<'_> {
    /// Returns the group for builds with this `policy`, or `None` if gzip is passed through: such blobs depend on the store of
    /// one machine, so neither they nor the other layers of their group are shared.
    fn of<'g>(group: Option<&RecipeKey>, roots: &'g [ImagePath], policy: CompressionPolicy) -> Option<LayerGroup<'g>> {
        let recipe = group.filter(|_| !policy.passes_gzip_through())?;
        Some(LayerGroup { key: LayerKey::of_recipe(recipe, policy), roots })
    }
}

impl PlannedLayer {
    pub(super) fn shared_group(&self, policy: CompressionPolicy) -> Option<LayerGroup<'_>> {
        LayerGroup::of(self.group.as_ref(), &self.roots, policy)
    }

    /// Returns the layer with those of its keys that are valid on every machine.
    fn shared(&self, built: &BuiltLayer, policy: CompressionPolicy) -> SharedLayer {
        let layer = built.layer.clone();
        if let Some((recipe, facts)) = &self.recipe {
            return SharedLayer { layer, keys: vec![LayerKey::of_recipe(recipe, policy)], facts: facts.clone() };
        }
        let shape = match &self.content {
            PlannedContent::Tree(tree) => Some(LayerKey::of_shape(&Fingerprints::of(tree), self.compression)),
            PlannedContent::Known(_) => None,
        };
        let by_content = LayerKey::of_tar(&layer.diff_id, self.compression);
        SharedLayer { layer, keys: shape.into_iter().chain([by_content]).collect(), facts: LayerFacts::None }
    }
}

impl Plan {
    /// Returns the compressed blocks that the caches have, unless nothing is compressed.
    pub(super) fn block_sources<'a>(&self, caches: LayerCaches<'a>) -> Option<BlockSources<'a>> {
        let compression = self.compression.compression();
        let own = caches.cache.map(|cache| cache.stored_blocks(compression));
        let shared = caches.shared.map(|shared| SharedBlocks::new(shared, compression));
        (compression != Compression::None).then_some(BlockSources { own, shared, compression })
    }

    /// Returns the layers of `built` that were built on this machine, those whose blocks its cache knows.
    ///
    /// # Errors
    /// Fails if the cache cannot be read.
    pub fn layers_with_blocks(&self, built: &Built, cache: &Cache) -> Result<Vec<LayerBlocks>> {
        let own = built.layers.iter().filter(|layer| layer.remote_in.is_none() && layer.from.is_none());
        let blocks = own.map(|built| cache.layer_blocks(&built.layer, self.compression.compression()));
        blocks.filter_map(Result::transpose).collect()
    }

    /// Returns the layers of `built` that can be shared with other machines, by their groups.
    pub fn shareable(&self, built: &Built) -> BTreeMap<LayerKey, Shareable> {
        let mut groups: BTreeMap<LayerKey, Shareable> = BTreeMap::new();
        for (planned, built) in self.layers.iter().zip(&built.layers) {
            if let Some(group) = planned.shared_group(self.compression) {
                let shareable = groups.entry(group.key).or_default();
                shareable.layers.push(planned.shared(built, self.compression));
                shareable.from.extend(built.from.clone());
            }
        }
        groups
    }
}

/// The compressed blocks of other layers.
#[derive(Debug)]
pub(super) struct BlockSources<'a> {
    /// Those in the cache of this machine.
    own: Option<StoredBlocks<'a>>,
    /// Those in the shared caches, where the others have none.
    pub(super) shared: Option<SharedBlocks<'a>>,
    compression: Compression,
}

impl BlockStore for BlockSources<'_> {
    fn compression(&self) -> Compression {
        self.compression
    }

    fn find(&self, sum: u32, length: u64) -> Option<Vec<u8>> {
        let own = self.own.as_ref().and_then(|own| own.find(sum, length));
        own.or_else(|| self.shared.as_ref()?.find(sum, length))
    }
}

/// Layers to share.
#[derive(Debug, Default)]
pub struct Shareable {
    /// The layers.
    pub layers: Vec<SharedLayer>,
    /// The repositories from which some of them were pulled. Pulled layers are not shared again.
    pub from: BTreeSet<Reference>,
}
