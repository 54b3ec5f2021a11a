//! The list of the images in a layout.

use super::Layout;
use crate::common::digest::Digest;
use crate::common::error::{Error, Result};
use crate::common::limits::Limit;
use crate::spec::{Config, Descriptor, Platform, media_type};
use crate::store::select_image::{MissingPlatform, artifact, is_artifact, reachable};
use crate::store::{ImageName, RemoteLayers, read_document};
use std::collections::{BTreeMap, BTreeSet};

/// An entry of a layout's index.
#[derive(Debug)]
pub struct ListedImage {
    /// The name, if it has one.
    pub name: Option<ImageName>,
    /// The entry itself.
    pub descriptor: Descriptor,
    /// What the entry leads to, or why it cannot be read.
    pub content: Result<ImageContent>,
}

/// What an entry of a layout's index leads to.
#[derive(Debug, Default)]
pub struct ImageContent {
    /// The type of an artifact; `None` for an image.
    pub artifact_type: Option<String>,
    /// The platforms, each once.
    pub platforms: Vec<Platform>,
    /// When the image was made, as its config says. `None` for an index of several images.
    pub created: Option<String>,
    /// The size of its blobs in bytes, without those that stay in a registry.
    pub size: u64,
    /// The size of those that another image of the layout has too, in bytes.
    pub shared: u64,
    /// The size of its layers that stay in a registry, in bytes.
    pub remote: u64,
}

impl Layout {
    /// Lists the images of the layout, in the order of its index. An image that cannot be read is listed with the reason.
    ///
    /// # Errors
    /// Fails if the index cannot be read.
    pub fn images(&self) -> Result<Vec<ListedImage>> {
        let index = self.index()?;
        let mut leads_to: BTreeMap<Digest, Result<Vec<Descriptor>>> = BTreeMap::new();
        for listed in index.manifests() {
            let blobs = || reachable(self, listed, MissingPlatform::Skipped, &self.display());
            leads_to.entry(listed.digest).or_insert_with(blobs);
        }
        let mut uses: BTreeMap<Digest, usize> = BTreeMap::new();
        for blobs in leads_to.values().flatten() {
            for digest in blobs.iter().map(|blob| blob.digest).collect::<BTreeSet<_>>() {
                *uses.entry(digest).or_default() += 1;
            }
        }
        let content = |listed: &Descriptor| match &leads_to[&listed.digest] {
            Ok(blobs) => self.content(listed, blobs, &uses),
            Err(error) => Err(Error::new(error.kind(), error.object(), error.reason())),
        };
        let entry = |listed: &Descriptor| ListedImage {
            name: ImageName::of_annotations(&listed.annotations),
            descriptor: listed.clone(),
            content: content(listed),
        };
        Ok(index.manifests().iter().map(entry).collect())
    }

    fn content(
        &self,
        listed: &Descriptor,
        blobs: &[Descriptor],
        uses: &BTreeMap<Digest, usize>,
    ) -> Result<ImageContent> {
        let remote_layers = RemoteLayers::of(listed);
        let mut content = ImageContent::default();
        let mut counted = BTreeSet::new();
        for blob in blobs.iter().filter(|blob| counted.insert(blob.digest)) {
            match remote_layers.repository(&blob.digest) {
                Some(_) => content.remote += blob.size,
                None => {
                    content.size += blob.size;
                    content.shared += if uses[&blob.digest] > 1 { blob.size } else { 0 };
                }
            }
        }
        if is_artifact(self, listed) {
            content.artifact_type = artifact(self, listed)?.map(|artifact| artifact.artifact_type);
            return Ok(content);
        }
        for config in blobs.iter().filter(|blob| media_type::is_config(&blob.media_type)) {
            let bytes = read_document(self, config, Limit::DocumentSize)?;
            let config = Config::read(&bytes, &self.display())?;
            let platform = config.platform().clone();
            if !content.platforms.contains(&platform) {
                content.platforms.push(platform);
            }
            if !media_type::is_index(&listed.media_type) {
                content.created = config.document()["created"].as_str().map(str::to_owned);
            }
        }
        Ok(content)
    }
}
