//! Layers that need not be made: finding them where they were kept or shared, keeping those that were made, and naming what
//! is worth sharing.

use super::{Built, BuiltLayer, LayerSpec, Origin, Plan, PlannedContent, PlannedLayer};
use crate::cache::{Cache, Found, LayerKey, SharedCache, SharedFind, SharedLayer};
use crate::compression::Compression;
use crate::error::Result;
use crate::layer::{Layer, hash_layer};
use crate::progress::{Progress, warn};
use crate::store::Layout;
use crate::tree::Tree;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Where a build finds layers that were made before.
#[derive(Debug, Clone, Copy)]
pub struct Memory<'a> {
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

impl Memory<'_> {
    /// Finds what there is of `layers` by their recipes, several at once.
    pub(super) fn recall(
        &self,
        layers: &[LayerSpec],
        compression: Compression,
        progress: &dyn Progress,
    ) -> Vec<Option<BuiltLayer>> {
        let next = AtomicUsize::new(0);
        let found: Vec<OnceLock<BuiltLayer>> = layers.iter().map(|_| OnceLock::new()).collect();
        let work = || {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some((layer, slot)) = layers.get(number).zip(found.get(number)) else { return };
                let group = layer.group.as_ref().map(|group| LayerKey::of_recipe(group, compression));
                let key = layer.recipe.as_ref().map(|(recipe, _)| LayerKey::of_recipe(recipe, compression));
                if let Some(layer) = key.and_then(|key| self.find(group, &key, Origin::SameRecipe, progress)) {
                    slot.set(layer).ok();
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..TRANSFERS.min(layers.len()) {
                scope.spawn(work);
            }
            work();
        });
        found.into_iter().map(OnceLock::into_inner).collect()
    }

    /// Finds the layer of `key`: kept here, which is worth saying is `kept`, else shared in `group`. A shared layer that cannot
    /// be had is warned about, and not found.
    pub(super) fn find(
        &self,
        group: Option<LayerKey>,
        key: &LayerKey,
        kept: Origin,
        progress: &dyn Progress,
    ) -> Option<BuiltLayer> {
        if let Some(found) = self.cache.and_then(|cache| cache.find(key, self.layout)) {
            return Some(BuiltLayer { layer: found.layer, origin: kept, left_in: None });
        }
        let find = self.shared?.find(&group?, key)?;
        match self.take(&find, progress) {
            Ok(layer) => Some(layer),
            Err(error) => {
                warn(progress, &error.object(), &format!("{}; the layer is made instead", error.reason()));
                None
            }
        }
    }

    fn take(&self, find: &SharedFind, progress: &dyn Progress) -> Result<BuiltLayer> {
        let SharedLayer { layer, keys, notes } = &find.shared;
        if self.shared_layers == SharedLayers::LeftOut {
            find.check(progress)?;
            let left_in = Some(find.repository.reference().clone().without_tag());
            return Ok(BuiltLayer { layer: layer.clone(), origin: Origin::Shared, left_in });
        }
        find.fetch(self.layout, progress)?;
        if let Some(cache) = self.cache {
            let kept = Found { layer: layer.clone(), notes: notes.clone(), recorded: cache.now() };
            keys.iter().for_each(|key| cache.keep(key, &kept, self.layout, progress));
        }
        Ok(BuiltLayer { layer: layer.clone(), origin: Origin::Shared, left_in: None })
    }

    fn knows_shape(&self, group: Option<LayerKey>, key: &LayerKey) -> bool {
        let is_kept = || self.cache.is_some_and(|cache| cache.notes(key).is_some());
        is_kept() || self.shared.zip(group).is_some_and(|(shared, group)| shared.find(&group, key).is_some())
    }
}

impl PlannedLayer {
    /// Looks for the layer of `tree`: by what the file system says of its files, and, where a tree of the same names and sizes
    /// was seen before, by their content.
    pub(super) fn find(
        &self,
        tree: &Tree,
        compression: Compression,
        memory: Memory<'_>,
        progress: &dyn Progress,
    ) -> Result<Option<BuiltLayer>> {
        let by_files = LayerKey::of_files(tree, compression);
        if let (Some((key, newest)), Some(cache)) = (&by_files, memory.cache)
            && let Some(found) = cache.find(key, memory.layout)
            && !found.is_racy(*newest)
        {
            return Ok(Some(BuiltLayer { layer: found.layer, origin: Origin::SameFiles, left_in: None }));
        }
        let group = self.group_key(compression);
        if !memory.knows_shape(group, &LayerKey::of_shape(tree, compression)) {
            return Ok(None);
        }
        let diff_id = hash_layer(tree, &self.name, progress)?;
        let by_content = LayerKey::of_tar(&diff_id, compression);
        let Some(found) = memory.find(group, &by_content, Origin::SameContent, progress) else { return Ok(None) };
        if let (Some((key, _)), Some(cache), None) = (by_files, memory.cache, &found.left_in) {
            let kept = Found { layer: found.layer.clone(), notes: Value::Null, recorded: cache.now() };
            cache.keep(&key, &kept, memory.layout, progress);
        }
        Ok(Some(found))
    }

    /// Keeps the layer that was made of `tree`.
    pub(super) fn keep(
        &self,
        tree: &Tree,
        compression: Compression,
        layer: &Layer,
        layout: &Layout,
        cache: &Cache,
        progress: &dyn Progress,
    ) {
        let by_files = LayerKey::of_files(tree, compression).filter(|_| self.recipe.is_none()).map(|(key, _)| key);
        let keys = self.lasting_keys(tree, layer, compression);
        let kept = Found { layer: layer.clone(), notes: self.notes(), recorded: cache.now() };
        for key in by_files.into_iter().chain(keys) {
            cache.keep(&key, &kept, layout, progress);
        }
    }

    /// The keys of the layer of `tree` that mean the same on every machine.
    fn lasting_keys(&self, tree: &Tree, layer: &Layer, compression: Compression) -> Vec<LayerKey> {
        match &self.recipe {
            Some((recipe, _)) => vec![LayerKey::of_recipe(recipe, compression)],
            None => vec![LayerKey::of_shape(tree, compression), LayerKey::of_tar(&layer.diff_id, compression)],
        }
    }

    fn notes(&self) -> Value {
        self.recipe.as_ref().map(|(_, notes)| notes.clone()).unwrap_or_default()
    }

    fn group_key(&self, compression: Compression) -> Option<LayerKey> {
        self.group.as_ref().map(|group| LayerKey::of_recipe(group, compression))
    }
}

impl Plan {
    /// The layers of `built` that are worth sharing with other machines, by their groups.
    pub fn shareable(&self, built: &Built) -> BTreeMap<LayerKey, Vec<SharedLayer>> {
        let mut groups: BTreeMap<LayerKey, Vec<SharedLayer>> = BTreeMap::new();
        for (planned, BuiltLayer { layer, .. }) in self.layers.iter().zip(&built.layers) {
            let Some(group) = planned.group_key(self.compression) else { continue };
            let keys = match (&planned.content, &planned.recipe) {
                (PlannedContent::Tree(tree), _) => planned.lasting_keys(tree, layer, self.compression),
                (PlannedContent::Known(_), Some((recipe, _))) => vec![LayerKey::of_recipe(recipe, self.compression)],
                (PlannedContent::Known(_), None) => Vec::new(),
            };
            groups.entry(group).or_default().push(SharedLayer { layer: layer.clone(), keys, notes: planned.notes() });
        }
        groups
    }
}
