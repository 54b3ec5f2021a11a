//! What a name leads to before a platform is chosen: an index, the manifest of an image, or that of an artifact.

use super::{BlobSource, StoredImage, read_document};
use crate::common::error::{Error, ErrorKind, Result};
use crate::common::json;
use crate::common::limits::Limit;
use crate::spec::{Artifact, Descriptor, Index, Platform, media_type};
use serde_json::Value;
use std::sync::Arc;

/// The maximum nesting depth of indexes.
const DEEPEST_INDEX: usize = 4;

/// An index or a manifest in a store, with the entry of the index that lists it.
#[derive(Debug, Clone)]
pub struct StoredDocument {
    /// Its descriptor.
    pub descriptor: Descriptor,
    /// Its entry in an index; `None` if no index lists it, as in a registry.
    pub entry: Option<Value>,
    /// Its members.
    pub document: Value,
    /// What it is.
    pub content: DocumentContent,
    /// The name of the place in messages.
    object: String,
    source: StoredIn,
}

/// The kinds of documents that a name may lead to.
#[derive(Debug, Clone)]
pub enum DocumentContent {
    /// A multi-platform image.
    Index(Index),
    /// An image.
    Image(Box<StoredImage>),
    /// An artifact, such as an SBOM or a signature.
    Artifact,
}

/// The source of the blobs; a type of its own, since sources need not be `Debug`.
#[derive(Clone)]
struct StoredIn(Arc<dyn BlobSource>);

impl std::fmt::Debug for StoredIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoredIn").finish_non_exhaustive()
    }
}

impl StoredDocument {
    /// Reads the document that `descriptor` describes, with the config if it is an image. Messages call its place `object`.
    ///
    /// # Errors
    /// Fails if a document is missing, damaged or malformed.
    pub fn read(
        source: Arc<dyn BlobSource>,
        descriptor: Descriptor,
        entry: Option<Value>,
        object: &str,
    ) -> Result<StoredDocument> {
        let bytes = read_document(&*source, &descriptor, Limit::DocumentSize).map_err(|error| error.within(object))?;
        let document = json::parse(&bytes, json::DOCUMENT_DEPTH, object)?;
        let content = if media_type::is_index(&descriptor.media_type) {
            DocumentContent::Index(Index::read(&bytes, &descriptor.media_type, object)?)
        } else if !media_type::refers_to_blobs(&descriptor.media_type) {
            let reason = format!("`{}` is neither an image nor an index", descriptor.media_type);
            return Err(Error::invalid(object, reason));
        } else if descriptor.platform.as_ref().is_some_and(Platform::is_unknown) {
            // An attestation of BuildKit has a config like that of an image.
            DocumentContent::Artifact
        } else {
            match Artifact::read(&bytes, &descriptor.media_type, object)? {
                Some(_) => DocumentContent::Artifact,
                None => DocumentContent::Image(Box::new(StoredImage::open(source.clone(), &descriptor, None, object)?)),
            }
        };
        let object = object.to_owned();
        Ok(StoredDocument { descriptor, entry, document, content, object, source: StoredIn(source) })
    }

    /// Takes an image whose manifest is in memory.
    ///
    /// # Errors
    /// Fails if the manifest is malformed.
    pub fn of_image(image: StoredImage, object: &str) -> Result<StoredDocument> {
        Ok(StoredDocument {
            descriptor: image.descriptor.clone(),
            entry: None,
            document: json::parse(&image.manifest_bytes, json::DOCUMENT_DEPTH, object)?,
            object: object.to_owned(),
            source: StoredIn(image.source.clone()),
            content: DocumentContent::Image(Box::new(image)),
        })
    }

    /// Returns the source of its blobs.
    pub(super) fn source(&self) -> &Arc<dyn BlobSource> {
        &self.source.0
    }

    /// Returns the name of the place in messages.
    pub(super) fn object(&self) -> &str {
        &self.object
    }

    /// Returns what an index lists, in its order. Anything else lists nothing.
    pub fn listed(&self) -> &[Descriptor] {
        match &self.content {
            DocumentContent::Index(index) => index.manifests(),
            DocumentContent::Image(_) | DocumentContent::Artifact => &[],
        }
    }

    /// Reads the document that an index lists at `place`, which `descriptor` describes.
    ///
    /// # Errors
    /// Fails as [`StoredDocument::read`].
    pub fn listed_at(&self, place: usize, descriptor: &Descriptor) -> Result<StoredDocument> {
        let entry = self.document["manifests"].get(place).cloned();
        StoredDocument::read(self.source.0.clone(), descriptor.clone(), entry, &self.object)
    }

    /// Returns the image for `platform`: of an index the listed one that is chosen for it, of an image itself.
    ///
    /// # Errors
    /// Fails if there is no image for the platform, or a document is missing, damaged or malformed.
    pub fn for_platform(self, platform: Option<&Platform>) -> Result<StoredDocument> {
        let mut found = self;
        for _ in 0..=DEEPEST_INDEX {
            let DocumentContent::Index(index) = &found.content else { return found.checked_for(platform) };
            let chosen = index.choose(platform, &found.object)?;
            let place = index.manifests().iter().position(|listed| listed == chosen).unwrap_or_default();
            found = found.listed_at(place, chosen)?;
        }
        Err(Error::invalid(found.object, format!("nesting of indexes deeper than {DEEPEST_INDEX}")))
    }

    /// Returns the document, unless it is an image for another platform than `wanted`.
    fn checked_for(self, wanted: Option<&Platform>) -> Result<StoredDocument> {
        let DocumentContent::Image(image) = &self.content else { return Ok(self) };
        match wanted.filter(|wanted| !image.config.platform().satisfies(wanted)) {
            None => Ok(self),
            Some(wanted) => Err(Error::new(ErrorKind::NotFound, &self.object, format!("no image for {wanted}"))
                .hint(format!("there is {}", image.config.platform()))),
        }
    }
}
