//! A multi-platform image in a store: its index in memory, its images still in the store.

use super::select_image::{MissingPlatform, reachable};
use super::stored_image::origin_of;
use super::{BlobSink, BlobSource, DocumentContent, ImageName, StoredDocument, StoredImage, TransferStats, copy_blobs};
use super::{Layout, PlatformIndex, read_document};
use crate::common::error::{Error, Result};
use crate::common::limits::Limit;
use crate::common::progress::Progress;
use crate::spec::reference::Reference;
use crate::spec::{Descriptor, media_type};
use std::sync::Arc;

/// An index of images for several platforms, and the source of their blobs.
#[derive(Clone)]
pub struct StoredIndex {
    /// The descriptor of the index.
    pub descriptor: Descriptor,
    /// The exact bytes of the index.
    pub bytes: Arc<[u8]>,
    /// The image's name in the registry of its origin, if known. It is not stored in the image.
    pub origin: Option<Reference>,
    /// The source of its blobs.
    pub source: Arc<dyn BlobSource>,
    object: String,
}

impl std::fmt::Debug for StoredIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoredIndex").field("descriptor", &self.descriptor).finish_non_exhaustive()
    }
}

impl StoredIndex {
    /// Takes the index that `document` is; `None` if it is an image or an artifact.
    ///
    /// # Errors
    /// Fails if the index cannot be read.
    pub fn of(document: &StoredDocument) -> Result<Option<StoredIndex>> {
        let DocumentContent::Index(_) = &document.content else { return Ok(None) };
        let (source, object) = (document.source().clone(), document.object().to_owned());
        let bytes = read_document(&*source, &document.descriptor, Limit::DocumentSize)
            .map_err(|error| error.within(&object))?
            .into();
        let described = &document.descriptor;
        let descriptor = Descriptor::new(&described.media_type, described.digest, described.size);
        Ok(Some(StoredIndex { descriptor, bytes, origin: origin_of(described), source, object }))
    }

    /// Writes an index of `images` into `layout`, which has their blobs. Nothing lists it yet.
    ///
    /// # Errors
    /// Fails if two images are for one platform, or the layout cannot be written.
    pub fn of_images(images: &[StoredImage], layout: &Arc<Layout>) -> Result<StoredIndex> {
        let object = layout.display();
        let mut index = PlatformIndex::empty(&object);
        for image in images {
            if index.put(image).is_some() {
                return Err(Error::invalid("index", format!("two images for {}", image.config.platform())));
            }
        }
        let (descriptor, bytes) = index.finish()?;
        layout.put_manifest(&descriptor, &bytes)?;
        Ok(StoredIndex { descriptor, bytes: bytes.into(), origin: None, source: layout.clone(), object })
    }

    /// Returns the images of the index, without attestations and other artifacts.
    ///
    /// # Errors
    /// Fails if a document is missing, damaged or malformed.
    pub fn images(&self) -> Result<Vec<StoredImage>> {
        let mut pending = vec![self.descriptor.clone()];
        let mut images = Vec::new();
        let mut read = 0;
        while let Some(next) = pending.pop() {
            let document = StoredDocument::read(self.source.clone(), next, None, &self.object)?;
            pending.extend(document.listed().iter().rev().cloned());
            // Indexes may list each other many times.
            read += 1;
            if (read + pending.len()) as u64 > Limit::Manifests.value() {
                let reason = format!("refers to more than {} images", Limit::Manifests.value());
                return Err(Error::invalid(&self.object, reason).hint(Limit::Manifests.advice()));
            }
            if let DocumentContent::Image(image) = document.content {
                images.push(*image);
            }
        }
        Ok(images)
    }

    /// Copies the index into `sink`, with all that it leads to, and commits it under `names`. Referrers are not copied.
    ///
    /// # Errors
    /// Fails if a blob cannot be read, does not match its descriptor, or is refused, and if `sink` holds only one image. The
    /// index is then not visible in `sink`.
    pub fn copy(&self, sink: &dyn BlobSink, names: &[ImageName], progress: &dyn Progress) -> Result<TransferStats> {
        let all = reachable(&*self.source, &self.descriptor, MissingPlatform::Fails, &self.object)?;
        let (indexes, others): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|blob| media_type::is_index(&blob.media_type));
        let (manifests, blobs): (Vec<_>, Vec<_>) =
            others.into_iter().partition(|blob| media_type::refers_to_blobs(&blob.media_type));
        let mut moved = copy_blobs(&*self.source, &blobs, sink, progress)?;
        // An index is found before the ones that it lists.
        let inner = indexes.iter().rev().filter(|index| index.digest != self.descriptor.digest);
        // One after the other: two artifacts about one image change the same list of a registry.
        for document in manifests.iter().chain(inner) {
            moved.add(copy_blobs(&*self.source, std::slice::from_ref(document), sink, progress)?);
        }
        moved.replaced = sink.commit_index(self, names)?;
        Ok(moved)
    }
}
