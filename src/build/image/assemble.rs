//! Config and manifest of a new image.

use super::{Base, ConfigEdit};
use crate::common::error::{Error, Result};
use crate::common::json;
use crate::common::limits::{Limit, MostBytes};
use crate::common::time::Timestamp;
use crate::layers::Layer;
use crate::spec::{Descriptor, Manifest, media_type};
use crate::store::{Layout, StoredImage};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A finished layer, with the command that made it.
#[derive(Debug, Clone, Copy)]
pub struct NewLayer<'a> {
    /// The layer, which is in the layout.
    pub layer: &'a Layer,
    /// The `created_by` text of its history entry.
    pub created_by: &'a str,
}

/// The properties of an image besides its base and layers.
#[derive(Debug, Clone)]
pub struct Image {
    /// Changes to the base's config.
    pub edit: ConfigEdit,
    /// The annotations of the manifest, including those about the base.
    pub annotations: BTreeMap<String, String>,
    /// The creation time that the image reports.
    pub created: Timestamp,
}

impl Image {
    /// Returns the config of the new image, without its layers.
    ///
    /// # Errors
    /// Returns an error if the base's config has members of impossible types.
    pub fn config(&self, base: &Base) -> Result<Value> {
        let mut document = base.config().document().clone();
        self.edit.apply(&mut document, "config of the base image")?;
        document["created"] = json!(self.created.to_string());
        Ok(document)
    }
}

/// Writes the config and manifest of `image` into `layout`.
///
/// The image has `layers` on top of `base`. The layers must already be in the layout.
///
/// # Errors
/// Returns an error if a document would be larger than readers accept, the base's config has members of impossible types,
/// or the layout cannot be written.
pub fn assemble(image: &Image, base: &Base, layers: &[NewLayer<'_>], layout: &Arc<Layout>) -> Result<StoredImage> {
    let mut config = image.config(base)?;
    let diff_ids = layers.iter().map(|new| json!(new.layer.diff_id.to_string()));
    append(&mut config["rootfs"], "diff_ids", diff_ids)?;
    let created = image.created.to_string();
    if !base.config().has_fitting_history() {
        // Readers pair entries and layers by number. A history of another length would shift our entries.
        let inherited: Vec<Value> =
            base.layers().iter().map(|_| json!({"comment": "layer of the base image"})).collect();
        config["history"] = inherited.into();
    }
    let history = layers.iter().map(|new| json!({"created": created, "created_by": new.created_by}));
    append(&mut config, "history", history)?;
    let config_bytes = json::canonical(&config);

    let inherited = base.layers().iter().map(|layer| Descriptor {
        media_type: media_type::to_oci_layer(&layer.media_type).to_owned(),
        annotations: layer.annotations.clone(),
        ..Descriptor::new("", layer.digest, layer.size)
    });
    let manifest = Manifest {
        config: layout.put_document(within(&config_bytes, "config")?, media_type::CONFIG)?,
        layers: inherited.chain(layers.iter().map(|new| new.layer.descriptor.clone())).collect(),
        annotations: image.annotations.clone(),
    };
    let manifest_bytes = manifest.to_bytes();
    let descriptor = layout.put_document(within(&manifest_bytes, "manifest")?, media_type::MANIFEST)?;
    StoredImage::assemble(layout.clone(), descriptor, manifest_bytes, config_bytes, None, "the new image")
}

/// Checks that a document is small enough to be read again.
fn within<'a>(bytes: &'a [u8], name: &str) -> Result<&'a [u8]> {
    MostBytes::from(Limit::DocumentSize).check(bytes.len() as u64, &format!("{name} of the new image"))?;
    Ok(bytes)
}

/// Appends to the array at `key`, which is created if it is missing.
fn append(parent: &mut Value, key: &str, items: impl Iterator<Item = Value>) -> Result<()> {
    let malformed = || Error::invalid("config of the base image", format!("`{key}`: expected an array"));
    let members = parent.as_object_mut().ok_or_else(malformed)?;
    let slot = members.entry(key).or_insert(Value::Null);
    if slot.is_null() {
        *slot = json!([]);
    }
    slot.as_array_mut().ok_or_else(malformed)?.extend(items);
    Ok(())
}
