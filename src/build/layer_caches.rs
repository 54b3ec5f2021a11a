//! Where layers are that need not be made: kept by this machine, or shared by another one; and what is worth sharing.

use super::{Built, BuiltLayer, LayerOrigin, LayerSpec, Plan, PlannedContent, PlannedLayer, SharedGroup};
use crate::cache::{Cache, CachedLayer, Fingerprints, LayerKey, SharedCache, SharedFind, SharedLayer};
use crate::common::error::Result;
use crate::common::progress::{Progress, warn};
use crate::common::threads;
use crate::layers::CompressionPolicy;
use crate::spec::ImagePath;
use crate::spec::reference::Reference;
use crate::store::Layout;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Where a build finds layers that were made before.
#[derive(Debug, Clone, Copy)]
pub struct LayerCaches<'a> {
    /// Those that this machine made.
    pub cache: Option<&'a Cache>,
    /// Those that other machines share, which are asked for when this one made none.
    pub shared: Option<&'a SharedCache>,
    /// What becomes of shared ones.
    pub shared_layers: SharedLayers,
    /// The layout that layers are brought into.
    pub layout: &'a Layout,
}

/// What becomes of a layer that another machine shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SharedLayers {
    /// It is fetched.
    Fetched,
    /// It stays in the registry, and whoever wants the image whole takes it from there.
    LeftOut,
}

/// How many layers are fetched at once.
const TRANSFERS: usize = 4;

impl<'a> LayerCaches<'a> {
    /// What this machine made, and nobody else.
    pub fn of(cache: &'a Cache, layout: &'a Layout) -> Self {
        LayerCaches { cache: Some(cache), shared: None, shared_layers: SharedLayers::Fetched, layout }
    }

    /// Finds what there is of `layers` by their recipes, several at once.
    pub(super) fn recall(
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
                let group = LayerGroup::of(layer.group.as_ref(), policy);
                let key = layer.recipe.as_ref().map(|(recipe, _)| LayerKey::of_recipe(recipe, policy));
                if let Some(layer) =
                    key.and_then(|key| self.find(group.as_ref(), &key, LayerOrigin::SameRecipe, progress))
                {
                    slot.set(layer).ok();
                }
            }
        };
        threads::together(TRANSFERS.min(layers.len()), work);
        found.into_iter().map(OnceLock::into_inner).collect()
    }

    /// Finds the layer of `key`: kept by this machine, for which `kept` says where it came from, else shared in `group`. A
    /// shared layer that cannot be had is warned about, and not found.
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
                warn(progress, &error.object(), &format!("{}; the layer is made instead", error.reason()));
                None
            }
        }
    }

    fn take(&self, find: &SharedFind, roots: &[ImagePath], progress: &dyn Progress) -> Result<BuiltLayer> {
        let SharedLayer { layer, keys, notes } = &find.shared;
        let repository = find.repository.reference().clone().without_tag();
        if self.shared_layers == SharedLayers::LeftOut {
            find.check(progress)?;
            let (remote_in, from) = (Some(repository.clone()), Some(repository));
            return Ok(BuiltLayer { remote_in, from, ..BuiltLayer::of(layer.clone(), LayerOrigin::Shared) });
        }
        find.fetch(self.layout, roots, progress)?;
        if let Some(cache) = self.cache {
            let (layer, notes, from) = (layer.clone(), notes.clone(), Some(repository.clone()));
            let kept = CachedLayer { layer, notes, from, recorded: cache.now() };
            keys.iter().for_each(|key| cache.keep(key, &kept, self.layout, progress));
        }
        Ok(BuiltLayer { from: Some(repository), ..BuiltLayer::of(layer.clone(), LayerOrigin::Shared) })
    }

    /// Whether another machine may have shared a layer of `group`.
    pub(super) fn asks_others(&self, group: Option<&LayerGroup<'_>>) -> bool {
        self.shared.is_some() && group.is_some()
    }

    /// Whether there is a layer of this shape.
    pub(super) fn knows_shape(&self, group: Option<&LayerGroup<'_>>, key: &LayerKey) -> bool {
        let is_kept = || self.cache.is_some_and(|cache| cache.notes(key).is_some());
        is_kept() || self.shared.zip(group).is_some_and(|(shared, group)| shared.find(&group.key, key).is_some())
    }
}

/// A group of layers, as machines share it.
pub(super) struct LayerGroup<'g> {
    key: LayerKey,
    /// Where everything in its layers lies.
    roots: &'g [ImagePath],
}

impl LayerGroup<'_> {
    /// The group, in builds with this `policy`. Blobs that take gzip over are those of one machine's store: there is none for
    /// them, nor for what else is in their group.
    fn of(group: Option<&SharedGroup>, policy: CompressionPolicy) -> Option<LayerGroup<'_>> {
        let group = group.filter(|_| !policy.passes_gzip_through())?;
        Some(LayerGroup { key: LayerKey::of_recipe(&group.recipe, policy), roots: &group.roots })
    }
}

impl PlannedLayer {
    pub(super) fn shared_group(&self, policy: CompressionPolicy) -> Option<LayerGroup<'_>> {
        LayerGroup::of(self.group.as_ref(), policy)
    }

    /// The layer with its keys that mean the same on every machine.
    fn shared(&self, built: &BuiltLayer, policy: CompressionPolicy) -> SharedLayer {
        let layer = built.layer.clone();
        if let Some((recipe, notes)) = &self.recipe {
            return SharedLayer { layer, keys: vec![LayerKey::of_recipe(recipe, policy)], notes: notes.clone() };
        }
        let shape = match &self.content {
            PlannedContent::Tree(tree) => Some(LayerKey::of_shape(&Fingerprints::of(tree), self.compression)),
            PlannedContent::Known(_) => None,
        };
        let by_content = LayerKey::of_tar(&layer.diff_id, self.compression);
        SharedLayer { layer, keys: shape.into_iter().chain([by_content]).collect(), notes: Value::Null }
    }
}

impl Plan {
    /// The layers of `built` that are worth sharing with other machines, by their groups.
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

/// Layers that are worth sharing.
#[derive(Debug, Default)]
pub struct Shareable {
    /// The layers.
    pub layers: Vec<SharedLayer>,
    /// The repositories that some of them were taken from. What was taken is not passed on to others.
    pub from: BTreeSet<Reference>,
}
