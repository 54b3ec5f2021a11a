//! Cache lookup for layers, and storing of new layers.

use super::{BuiltLayer, Differences, LayerCaches, LayerOrigin, PlannedLayer};
use crate::cache::{Cache, CachedLayer, Fingerprints, LayerFacts, LayerKey};
use crate::codec::compression::Compression;
use crate::common::digest::DiffId;
use crate::common::error::Result;
use crate::common::progress::{Progress, warn};
use crate::layers::incremental::{Comparison, DoneBlock, Fingerprint, PreviousEntry, PreviousLayer, Reuse, compare};
use crate::layers::tree::Tree;
use crate::layers::{CompressionPolicy, Layer, MadeLayer, Work, hash_layer};

/// The result of a cache lookup.
pub(super) enum LookupResult {
    /// Cache hit.
    Hit(Box<BuiltLayer>),
    /// Partial hit: blocks of the previous build's layer.
    Partial(Box<PartialHit>),
    /// Miss, for a layer that can only be found by its recipe.
    Miss,
}

/// The reusable state for a layer that has to be built.
pub(super) struct PartialHit {
    /// The layer of the previous build, if there was one.
    pub(super) earlier: Option<PreviousBuild>,
    /// The compressed blocks that can be reused.
    reuse: Option<Reuse>,
    /// The current fingerprints of the entries.
    pub(super) fingerprints: Fingerprints,
}

/// The data of the previous build's layer.
pub(super) struct PreviousBuild {
    pub(super) entries: Vec<PreviousEntry>,
    pub(super) diff_id: DiffId,
}

impl LookupResult {
    /// Returns the key by which builds know a layer that has to be made.
    pub(super) fn key_to_make(&self, planned: &PlannedLayer, policy: CompressionPolicy) -> Option<LayerKey> {
        match self {
            LookupResult::Hit(_) => None,
            LookupResult::Partial(parts) => {
                LayerKey::of_files(&parts.fingerprints, planned.compression).map(|(key, _)| key)
            }
            LookupResult::Miss => planned.recipe.as_ref().map(|(recipe, _)| LayerKey::of_recipe(recipe, policy)),
        }
    }

    /// Returns the blocks that a layer to be built can reuse.
    pub(super) fn reuse(&self) -> Option<&Reuse> {
        match self {
            LookupResult::Partial(parts) => parts.reuse.as_ref(),
            LookupResult::Hit(_) | LookupResult::Miss => None,
        }
    }
}

/// The caches in which layers are looked up and stored.
#[derive(Clone, Copy)]
pub(super) struct CacheLookup<'a> {
    pub(super) caches: LayerCaches<'a>,
    pub(super) policy: CompressionPolicy,
    pub(super) progress: &'a dyn Progress,
}

impl CacheLookup<'_> {
    /// Looks up the layer of `tree`. A layer with a recipe was already looked up when it was planned,
    /// by a key that covers everything below.
    ///
    /// First by the file system's metadata of all files. Then block by block in the layer of the previous build,
    /// in which a file is opened only if its metadata changed. Without a previous build, but with a tree of the
    /// same names and sizes in a cache, here or on another machine, by the hash of all content.
    pub(super) fn find(&self, planned: &PlannedLayer, tree: &Tree) -> Result<LookupResult> {
        let CacheLookup { caches, policy, progress } = *self;
        let (group, compression) = (planned.shared_group(policy), planned.compression);
        let has_no_cache = caches.cache.is_none() && !caches.may_be_shared(group.as_ref());
        // A build beside this one may have made it since it was planned.
        if let (Some((recipe, _)), Some(_)) = (&planned.recipe, caches.in_flight)
            && let Some(found) =
                caches.find(group.as_ref(), &LayerKey::of_recipe(recipe, policy), LayerOrigin::SameRecipe, progress)
        {
            return Ok(LookupResult::Hit(Box::new(found)));
        }
        if has_no_cache || planned.recipe.is_some() || compression.passes_gzip_through() {
            return Ok(LookupResult::Miss);
        }
        let mut parts = PartialHit { earlier: None, reuse: None, fingerprints: Fingerprints::of(tree) };
        let by_files = LayerKey::of_files(&parts.fingerprints, compression);
        if let (Some((key, newest)), Some(cache)) = (&by_files, caches.cache)
            && let Some(found) = cache.find(key, caches.layout)
            && !found.is_racy(*newest)
        {
            let known = BuiltLayer { from: found.from, ..BuiltLayer::of(found.layer, LayerOrigin::SameFiles) };
            return Ok(LookupResult::Hit(Box::new(known)));
        }
        if let Some(cache) = caches.cache
            && let Some((earlier, blob)) = cache.earlier(&planned.series)
        {
            match compare(
                tree,
                &parts.fingerprints.entries,
                &earlier,
                blob,
                compression.compression(),
                &planned.name,
                progress,
            )? {
                Comparison::Same if cache.bring(&earlier.layer, caches.layout) => {
                    return Ok(self.touched(cache, planned, earlier, parts.fingerprints));
                }
                Comparison::Same => {}
                Comparison::Other(reuse) => parts.reuse = Some(*reuse),
            }
            parts.earlier = Some(PreviousBuild { entries: earlier.entries, diff_id: earlier.layer.diff_id });
            return Ok(LookupResult::Partial(Box::new(parts)));
        }
        if caches.knows_shape(group.as_ref(), &LayerKey::of_shape(&parts.fingerprints, compression)) {
            let diff_id = hash_layer(tree, &planned.name, progress)?;
            let by_content = LayerKey::of_tar(&diff_id, compression);
            if let Some(found) = caches.find(group.as_ref(), &by_content, LayerOrigin::SameContent, progress) {
                if let (Some((key, _)), Some(cache), None) = (by_files, caches.cache, &found.remote_in) {
                    let (layer, from) = (found.layer.clone(), found.from.clone());
                    let kept = CachedLayer { layer, facts: LayerFacts::None, from, recorded: cache.now() };
                    cache.keep(&key, &kept, caches.layout, progress);
                }
                return Ok(LookupResult::Hit(Box::new(found)));
            }
        }
        Ok(LookupResult::Partial(Box::new(parts)))
    }

    /// Returns the layer of the previous build if its files were touched or replaced, but have the same content.
    fn touched(
        &self,
        cache: &Cache,
        planned: &PlannedLayer,
        earlier: PreviousLayer,
        fingerprints: Fingerprints,
    ) -> LookupResult {
        let CacheLookup { caches: LayerCaches { layout, .. }, policy: _, progress } = *self;
        let PreviousLayer { layer, entries, blocks } = earlier;
        if let Some((key, _)) = LayerKey::of_files(&fingerprints, planned.compression) {
            let kept = CachedLayer { layer: layer.clone(), facts: LayerFacts::None, from: None, recorded: cache.now() };
            cache.keep(&key, &kept, layout, progress);
        }
        let now = fingerprints.lasting(cache.now());
        let entries = entries.into_iter().zip(now).map(|(entry, fingerprint)| PreviousEntry { fingerprint, ..entry });
        cache.keep_blocks(&planned.series, (&layer, &blocks), entries, progress);
        let work = Work { reused: blocks.len(), ..Work::default() };
        LookupResult::Hit(Box::new(BuiltLayer { work, ..BuiltLayer::of(layer, LayerOrigin::SameContent) }))
    }

    /// Stores a layer with a recipe under the key that is looked up before its tree is known.
    pub(super) fn keep_by_recipe(&self, planned: &PlannedLayer, made: &MadeLayer) {
        let CacheLookup { caches: LayerCaches { cache, layout, .. }, policy, progress } = *self;
        let (Some(cache), Some((recipe, facts))) = (cache, &planned.recipe) else { return };
        let MadeLayer { layer, blocks, .. } = made;
        if !self.index_blocks(cache, planned, (layer, blocks)) {
            return;
        }
        let kept = CachedLayer { layer: layer.clone(), facts: facts.clone(), from: None, recorded: cache.now() };
        cache.keep(&LayerKey::of_recipe(recipe, policy), &kept, layout, progress);
    }

    /// Keeps the blocks of a layer for others, and returns whether the layer can be cached: one that is found in the cache is not
    /// indexed again. A layer that passes gzip through has blocks that no compressor makes.
    fn index_blocks(&self, cache: &Cache, planned: &PlannedLayer, (layer, blocks): (&Layer, &[DoneBlock])) -> bool {
        let compression = planned.compression;
        if compression.passes_gzip_through() || compression.compression() == Compression::None {
            return true;
        }
        let indexed = cache.index_blocks(layer, blocks, compression.compression());
        if let Err(error) = &indexed {
            warn(self.progress, &error.object(), &format!("{}; the layer is not cached", error.reason()));
        }
        indexed.is_ok()
    }

    /// Stores the layer of `tree`, and returns its differences from the previous one.
    pub(super) fn keep(&self, planned: &PlannedLayer, tree: &Tree, parts: PartialHit, made: MadeLayer) -> BuiltLayer {
        let CacheLookup { caches: LayerCaches { cache, layout, .. }, policy: _, progress } = *self;
        let compression = planned.compression;
        let MadeLayer { layer, work, blocks, contents } = made;
        let Some(cache) = cache.filter(|cache| self.index_blocks(cache, planned, (&layer, &blocks))) else {
            return BuiltLayer { work, ..BuiltLayer::of(layer, LayerOrigin::Made) };
        };
        let PartialHit { earlier, reuse: _, fingerprints } = parts;
        let kept = CachedLayer { layer: layer.clone(), facts: LayerFacts::None, from: None, recorded: cache.now() };
        let by_files = LayerKey::of_files(&fingerprints, compression).map(|(key, _)| key);
        let others = [LayerKey::of_shape(&fingerprints, compression), LayerKey::of_tar(&layer.diff_id, compression)];
        for key in by_files.into_iter().chain(others) {
            cache.keep(&key, &kept, layout, progress);
        }
        let between =
            |earlier: &PreviousBuild| Differences::between(&earlier.entries, tree, &fingerprints.entries, &contents);
        let keep_blocks = || {
            let entries = entries(tree, fingerprints.lasting(cache.now()), &contents);
            cache.keep_blocks(&planned.series, (&layer, &blocks), entries, progress);
        };
        let (differences, ()) = rayon::join(|| earlier.as_ref().map(between), keep_blocks);
        BuiltLayer { work, differences, ..BuiltLayer::of(layer, LayerOrigin::Made) }
    }
}

/// Returns the entries of a tree in the form that the next build compares.
fn entries(
    tree: &Tree,
    fingerprints: impl ExactSizeIterator<Item = Fingerprint>,
    contents: &[u32],
) -> impl ExactSizeIterator<Item = PreviousEntry> {
    tree.entries().zip(fingerprints).zip(contents).map(|((entry, fingerprint), &content)| PreviousEntry {
        path: entry.path.as_bytes().into(),
        fingerprint,
        size: entry.size(),
        content,
    })
}
