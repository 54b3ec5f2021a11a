//! Layers that need not be made: finding them in the cache, and keeping those that were made.

use super::{Origin, PlannedLayer};
use crate::cache::{Cache, Found, LayerKey};
use crate::compression::Compression;
use crate::error::Result;
use crate::layer::{Layer, hash_layer};
use crate::progress::Progress;
use crate::store::Layout;
use crate::tree::Tree;
use serde_json::Value;

impl PlannedLayer {
    /// Looks for the layer of `tree` in the cache: by what the file system says of its files, and, where a tree of the same
    /// names and sizes was seen before, by their content.
    pub(super) fn find(
        &self,
        tree: &Tree,
        compression: Compression,
        layout: &Layout,
        cache: &Cache,
        progress: &dyn Progress,
    ) -> Result<Option<(Layer, Origin)>> {
        if depends_on_a_store(compression) {
            return Ok(None);
        }
        let by_files = LayerKey::of_files(tree, compression);
        if let Some((key, newest)) = &by_files
            && let Some(found) = cache.find(key, layout)
            && !found.is_racy(*newest)
        {
            return Ok(Some((found.layer, Origin::SameFiles)));
        }
        if cache.notes(&LayerKey::of_shape(tree, compression)).is_none() {
            return Ok(None);
        }
        let diff_id = hash_layer(tree, &self.name, progress)?;
        let Some(found) = cache.find(&LayerKey::of_tar(&diff_id, compression), layout) else { return Ok(None) };
        if let Some((key, _)) = by_files {
            let kept = Found { recorded: cache.now(), ..found.clone() };
            cache.keep(&key, &kept, layout, progress);
        }
        Ok(Some((found.layer, Origin::SameContent)))
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
        let kept = |notes: Value| Found { layer: layer.clone(), notes, recorded: cache.now() };
        if let Some((recipe, notes)) = &self.recipe {
            cache.keep(&LayerKey::of_recipe(recipe, compression), &kept(notes.clone()), layout, progress);
            return;
        }
        if depends_on_a_store(compression) {
            return;
        }
        let by_files = LayerKey::of_files(tree, compression).map(|(key, _)| key);
        let others = [LayerKey::of_shape(tree, compression), LayerKey::of_tar(&layer.diff_id, compression)];
        for key in by_files.into_iter().chain(others) {
            cache.keep(&key, &kept(Value::Null), layout, progress);
        }
    }
}

/// Whether the bytes of a blob follow from a store that is known to recipes only. A tree with the same content may have been
/// taken over from another one.
fn depends_on_a_store(compression: Compression) -> bool {
    matches!(compression, Compression::Reuse(_))
}
