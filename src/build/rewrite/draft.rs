//! The documents of one image while they are changed.

use crate::common::digest::Digest;
use crate::common::error::Result;
use crate::common::json;
use crate::common::limits::{Limit, MostBytes};
use crate::spec::Descriptor;
use crate::store::{BlobSource, CombinedBlobs, RemoteLayers, StoredImage};
use serde_json::Value;
use std::sync::Arc;

/// The documents of an image, to be changed.
#[derive(Debug, Clone)]
pub struct Draft {
    /// The config.
    pub config: Value,
    /// The manifest. Its descriptor of the config is set by [`Draft::finish`].
    pub manifest: Value,
    /// The blobs of the changed image.
    pub blobs: CombinedBlobs,
    /// The layers that stay in a registry, besides those that the image has left there already.
    pub left_out: RemoteLayers,
    image: StoredImage,
}

/// An image whose documents have changed.
#[derive(Debug, Clone)]
pub struct ChangedImage {
    /// The image.
    pub image: StoredImage,
    /// The layers that stay in a registry, besides those that the image had left there before.
    pub left_out: RemoteLayers,
}

impl Draft {
    /// Starts with the documents of `image`.
    ///
    /// # Errors
    /// Fails if the manifest is not JSON.
    pub fn of(image: StoredImage) -> Result<Draft> {
        let manifest = json::parse(&image.manifest_bytes, json::DOCUMENT_DEPTH, "manifest")?;
        Ok(Draft {
            config: image.config.document().clone(),
            manifest,
            blobs: CombinedBlobs::of(image.source.clone()),
            left_out: RemoteLayers::default(),
            image,
        })
    }

    /// Returns the image before the changes.
    pub fn image(&self) -> &StoredImage {
        &self.image
    }

    /// Returns the changed image, or `None` if no member has changed.
    ///
    /// # Errors
    /// Fails if a document is larger than readers accept, or the changes do not make a valid image.
    pub fn finish(self) -> Result<Option<ChangedImage>> {
        let Draft { config, mut manifest, blobs, left_out, image } = self;
        let before = json::parse(&image.manifest_bytes, json::DOCUMENT_DEPTH, "manifest")?;
        let mut config_bytes = image.config_bytes.to_vec();
        if config != *image.config.document() {
            config_bytes = within(json::canonical(&config), "config")?;
            let described = described(&image.manifest.config, &config_bytes);
            let had_data = manifest["config"].get("data").is_some();
            described.replace_in(&mut manifest["config"]);
            if had_data {
                manifest["config"]["data"] = described.to_json_with_data(&config_bytes)["data"].take();
            }
        }
        if manifest == before {
            return Ok(None);
        }
        let manifest_bytes = within(json::canonical(&manifest), "manifest")?;
        let mut descriptor = described(&image.descriptor, &manifest_bytes);
        descriptor.annotations.clear();
        let blobs = blobs.with_document(Digest::of(&config_bytes), config_bytes.as_slice().into());
        let blobs = blobs.with_document(descriptor.digest, manifest_bytes.as_slice().into());
        let source: Arc<dyn BlobSource> = Arc::new(blobs);
        let changed =
            StoredImage::assemble(source, descriptor, manifest_bytes, config_bytes, None, "the changed image")?;
        Ok(Some(ChangedImage { image: changed, left_out }))
    }
}

/// Returns the descriptor `before`, for other bytes.
fn described(before: &Descriptor, bytes: &[u8]) -> Descriptor {
    Descriptor { digest: Digest::of(bytes), size: bytes.len() as u64, ..before.clone() }
}

/// Checks that a document is small enough to be read again.
fn within(bytes: Vec<u8>, name: &str) -> Result<Vec<u8>> {
    MostBytes::from(Limit::DocumentSize).check(bytes.len() as u64, &format!("{name} of the changed image"))?;
    Ok(bytes)
}
