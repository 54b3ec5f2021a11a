//! Layers of an existing image that become one.

use super::rewrite::{ChangedImage, Draft};
use crate::build::image::BASE_DIGEST;
use crate::codec::compression::Compression;
use crate::common::error::{Error, Result};
use crate::common::progress::Progress;
use crate::layers::rootfs::{LayerBelow, LayerPlace, Listings, Rootfs, StoredLayer, Unseen, list_layers_from};
use crate::layers::squash::{SquashRequest, squash_layers};
use crate::registry::BASE_NAME;
use crate::spec::{Config, media_type};
use crate::store::{BlobSource, Layout, StoredImage};
use serde_json::{Value, json};
use std::sync::Arc;

/// The layers from a certain one on, as one layer.
pub struct Squash<'a> {
    /// The number of layers that stay, counted from the lowest.
    pub kept: usize,
    /// The compression of the new layer.
    pub compression: Compression,
    /// The layout in which the new layer is stored. Nothing refers to it there.
    pub layout: &'a Arc<Layout>,
    /// The cached listings of layers.
    pub listings: Option<&'a Listings>,
    /// Reports the progress of reading layers.
    pub progress: &'a dyn Progress,
}

impl std::fmt::Debug for Squash<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Squash").field("kept", &self.kept).field("layout", &self.layout).finish_non_exhaustive()
    }
}

impl Squash<'_> {
    /// Returns `image` with one layer in the place of those that do not stay, or `None` if that is one layer already.
    ///
    /// # Errors
    /// Fails if the image has too few layers, is for Windows, a layer is missing, damaged or cannot be read, or the layout
    /// cannot be written.
    pub fn apply(&self, image: StoredImage) -> Result<Option<ChangedImage>> {
        let layers = image.manifest.layers.len();
        if self.kept >= layers {
            let reason = match layers {
                0 => "the image has no layers".to_owned(),
                _ => format!("the image has the layers 1 to {layers}"),
            };
            return Err(Error::usage("--from", reason));
        }
        if image.config.platform().os() == "windows" {
            return Err(Error::invalid("image", "is for Windows; only Linux is supported"));
        }
        if layers - self.kept == 1 {
            return Ok(None);
        }
        let listings = list_layers_from(&image, self.kept, self.listings, self.progress)?;
        let below = self.layers_below(&image);
        let request = SquashRequest {
            layers: &image.manifest.layers[self.kept..],
            listings: &listings,
            below: &Rootfs::new(&below),
            source: &*image.source,
            compression: self.compression,
        };
        let layer = squash_layers(&request, self.layout, self.progress)?;
        let mut draft = Draft::of(image.clone())?;
        let media_type = media_type::layer_in(&image.descriptor.media_type, &layer.descriptor.media_type).to_owned();
        let mut listed = layer.descriptor.clone();
        listed.media_type = media_type;
        let diff_ids = image.config.diff_ids().iter().take(self.kept).chain([&layer.diff_id]);
        draft.config["rootfs"]["diff_ids"] = diff_ids.map(|diff_id| json!(diff_id.to_string())).collect();
        draft.config["history"] = self.history(&image.config).into();
        if let Some(layers) = draft.manifest["layers"].as_array_mut() {
            layers.truncate(self.kept);
            layers.push(listed.to_json());
        }
        if self.kept == 0 {
            forget_base(&mut draft.manifest);
        }
        let store: Arc<dyn BlobSource> = self.layout.clone();
        draft.blobs = draft.blobs.with_blobs([listed.digest], store);
        draft.finish()
    }

    /// Returns the layers that stay. They are read only if the range deletes something.
    fn layers_below<'i>(&'i self, image: &'i StoredImage) -> Vec<LayerBelow<'i>> {
        let (listings, progress) = (self.listings, self.progress);
        let layers = image.manifest.layers.iter().zip(image.config.diff_ids()).take(self.kept);
        let below = |(layer, diff_id)| {
            let source = Some(&*image.source as &dyn BlobSource);
            let unseen = Unseen { reason: "cannot be read".to_owned(), hint: "--from 1".to_owned() };
            LayerBelow::Stored(StoredLayer::new(LayerPlace { layer, diff_id, source, listings, progress }, unseen))
        };
        layers.map(below).collect()
    }

    /// Returns the history: entries of squashed layers stay, without a layer, and the new layer has one of its own.
    fn history(&self, config: &Config) -> Vec<Value> {
        let mut history = match config.document()["history"].as_array() {
            Some(history) if config.has_fitting_history() => history.clone(),
            // Readers pair entries and layers by number.
            _ => (0..config.diff_ids().len()).map(|_| json!({"comment": "layer of the image"})).collect(),
        };
        let mut seen = 0;
        for entry in &mut history {
            if entry["empty_layer"].as_bool() != Some(true) {
                seen += 1;
                if seen > self.kept {
                    entry["empty_layer"] = true.into();
                }
            }
        }
        let mut own = json!({"created_by": "ocibuild: squash"});
        if let Some(created) = config.document()["created"].as_str() {
            own["created"] = created.into();
        }
        history.push(own);
        history
    }
}

/// Removes the annotations about the base, none of whose layers are left (image-spec, annotations.md).
fn forget_base(manifest: &mut Value) {
    let Some(annotations) = manifest.get_mut("annotations").and_then(Value::as_object_mut) else { return };
    let of_base = [BASE_DIGEST, BASE_NAME].map(|key| annotations.remove(key));
    if annotations.is_empty() && of_base.iter().any(Option::is_some) {
        manifest.as_object_mut().map(|manifest| manifest.remove("annotations"));
    }
}
