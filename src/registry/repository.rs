//! One repository, as a source and a sink of the copy loop.

use super::push::{Mount, Session};
use super::{ManifestDocument, Registry};
use crate::common::bounded_read;
use crate::common::digest::Digest;
use crate::common::error::{Error, Result};
use crate::common::limits::Limit;
use crate::spec::reference::{Reference, Tag};
use crate::spec::{Descriptor, Platform, Replaced, media_type};
use crate::store::{BlobLocations, BlobSink, BlobSource, ImageName, Opener};
use crate::store::{StoredDocument, StoredImage, StoredIndex, Verified};
use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// A repository, and the image in it that a reference names.
#[derive(Debug)]
pub struct Repository {
    registry: Arc<Registry>,
    reference: Reference,
    /// Manifests that were fetched by tag, so that they are not fetched again by digest.
    documents: Mutex<BTreeMap<Digest, Vec<u8>>>,
    /// Uploads that the registry opened in response to a mount request.
    sessions: Mutex<BTreeMap<Digest, Session>>,
    /// The records of blobs in registries.
    locations: Option<Arc<BlobLocations>>,
}

impl Repository {
    /// Creates a client of the repository that `reference` names.
    ///
    /// # Errors
    /// Returns an error if the reference belongs to another registry.
    pub fn new(registry: Arc<Registry>, reference: &Reference) -> Result<Self> {
        if registry.name() != reference.registry() {
            return Err(Error::usage(reference.to_string(), format!("not in the registry {}", registry.name())));
        }
        Ok(Repository {
            registry,
            reference: reference.clone(),
            documents: Mutex::default(),
            sessions: Mutex::default(),
            locations: None,
        })
    }

    /// Sets the records of blobs in registries.
    #[must_use]
    pub fn with_blob_locations(self, locations: Arc<BlobLocations>) -> Self {
        Repository { locations: Some(locations), ..self }
    }

    /// Returns the registry of this repository.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// Fetches the manifest or index that the reference names, and returns its descriptor.
    ///
    /// # Errors
    /// Fails as [`Registry::manifest`] does.
    pub fn resolve(&self) -> Result<Descriptor> {
        let document = self.registry.manifest(&self.reference)?;
        let mut documents = self.documents.lock().unwrap_or_else(PoisonError::into_inner);
        documents.insert(document.descriptor.digest, document.bytes);
        Ok(document.descriptor)
    }

    /// Returns the reference of the image.
    pub fn reference(&self) -> &Reference {
        &self.reference
    }

    /// Fetches the manifest or index that `tag` names in this repository.
    ///
    /// # Errors
    /// Fails as [`Registry::manifest`] does.
    pub fn tagged(&self, tag: &Tag) -> Result<ManifestDocument> {
        self.registry.manifest(&self.reference.clone().without_digest().with_tag(tag.clone()))
    }

    /// Stores a manifest under `tag`. All of its blobs must be in the repository.
    ///
    /// # Errors
    /// Fails if the registry refuses the manifest.
    pub fn put_tagged(&self, tag: &Tag, descriptor: &Descriptor, bytes: &[u8]) -> Result<()> {
        self.registry.put_manifest(self.reference.repository(), descriptor, bytes, tag.as_str()).map(|_| ())
    }

    /// Stores an index under its digest. All of its manifests must be in the repository.
    ///
    /// # Errors
    /// Fails if the registry refuses the index.
    pub fn put_index(&self, descriptor: &Descriptor, bytes: &[u8]) -> Result<()> {
        let name = descriptor.digest.to_string();
        self.registry.put_manifest(self.reference.repository(), descriptor, bytes, &name).map(|_| ())
    }

    /// Stores a manifest or index under the tags of `names`; without any, under its digest.
    fn put_named(&self, descriptor: &Descriptor, bytes: &[u8], names: &[ImageName]) -> Result<Vec<Replaced>> {
        let repository = self.reference.repository();
        let elsewhere = names
            .iter()
            .filter_map(ImageName::reference)
            .find(|name| (name.registry(), name.repository()) != (self.reference.registry(), repository));
        if let Some(name) = elsewhere {
            return Err(Error::usage(name.to_string(), format!("not in {}/{repository}", self.reference.registry())));
        }
        let tags: Vec<String> = match names {
            [] => vec![descriptor.digest.to_string()],
            names => names.iter().map(|name| name.tag().to_owned()).collect(),
        };
        for tag in tags {
            self.registry.put_manifest(repository, descriptor, bytes, &tag)?;
        }
        Ok(Vec::new())
    }

    /// Checks whether the repository has the blob, with no more than read access.
    ///
    /// # Errors
    /// Fails if the registry cannot be reached or denies access.
    pub fn offers(&self, descriptor: &Descriptor) -> Result<bool> {
        self.registry.offers_blob(&self.reference, descriptor)
    }

    /// Opens the image that the reference names; `platform` selects one of a multi-platform image.
    ///
    /// # Errors
    /// Fails as [`StoredImage::open`] does, and if the registry cannot be reached.
    pub fn image(self: &Arc<Self>, platform: Option<&Platform>) -> Result<StoredImage> {
        let start = self.resolve()?;
        StoredImage::open(self.clone(), &start, platform, &self.reference.to_string())
    }
}

impl Repository {
    /// Fetches the index, manifest or artifact that the reference names, without choosing a platform.
    ///
    /// # Errors
    /// Fails as [`StoredDocument::read`] does, and if the registry cannot be reached.
    pub fn open_document(self: &Arc<Self>) -> Result<StoredDocument> {
        StoredDocument::read(self.clone(), self.resolve()?, None, &self.reference.to_string())
    }
}

impl BlobSource for Repository {
    fn open(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send + '_>> {
        let is_document =
            media_type::is_index(&descriptor.media_type) || media_type::is_manifest(&descriptor.media_type);
        let repository = self.reference.repository();
        if !is_document {
            return Ok(Box::new(self.registry.blob(&self.reference, descriptor)));
        }
        let known = self.documents.lock().unwrap_or_else(PoisonError::into_inner).get(&descriptor.digest).cloned();
        let bytes = match known {
            Some(bytes) => bytes,
            None => self.registry.manifest_of(repository, descriptor.digest)?.bytes,
        };
        Ok(Box::new(Cursor::new(bytes)))
    }

    fn open_range(&self, descriptor: &Descriptor, range: Range<u64>) -> Result<Option<Box<dyn Read + Send + '_>>> {
        self.registry.part_of_blob(&self.reference, descriptor, &range)
    }

    fn repository(&self, _: &Descriptor) -> Option<&Reference> {
        Some(&self.reference)
    }
}

impl BlobSink for Repository {
    fn takes_referrer(&self, listed: &Descriptor) -> bool {
        media_type::is_manifest(&listed.media_type)
    }

    fn transfers(&self) -> usize {
        self.registry.options.transfers
    }

    fn contains(&self, descriptor: &Descriptor) -> Result<bool> {
        // The list that an artifact is in may be missing although the artifact is here.
        let is_document = media_type::refers_to_blobs(&descriptor.media_type);
        Ok(!is_document && self.registry.has_blob(&self.reference, descriptor)?)
    }

    fn put(&self, descriptor: &Descriptor, open: &Opener<'_>) -> Result<()> {
        if media_type::is_manifest(&descriptor.media_type) {
            return self.put_artifact(descriptor, open);
        }
        if media_type::is_index(&descriptor.media_type) {
            let object = format!("{}@{}", self.reference, descriptor.digest);
            let bytes = bounded_read::read(Verified::new(open()?, descriptor), Limit::DocumentSize, &object)?;
            return self.put_index(descriptor, &bytes);
        }
        let session = self.sessions.lock().unwrap_or_else(PoisonError::into_inner).remove(&descriptor.digest);
        self.registry.upload(&self.reference, descriptor, open, session)
    }

    fn try_mount(&self, descriptor: &Descriptor, from: &Reference) -> Result<bool> {
        let (here, there) = (&self.reference, from);
        let same_repository = here.registry() == there.registry() && here.repository() != there.repository();
        if !same_repository || media_type::refers_to_blobs(&descriptor.media_type) {
            return Ok(false);
        }
        // The registry opened an upload in response to a mount request, so it does not have the blob.
        if self.sessions.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&descriptor.digest) {
            return Ok(false);
        }
        match self.registry.mount(here.repository(), descriptor, there.repository()) {
            Mount::Done => Ok(true),
            Mount::Failed => Ok(false),
            Mount::Session(session) => {
                self.sessions.lock().unwrap_or_else(PoisonError::into_inner).insert(descriptor.digest, session);
                Ok(false)
            }
        }
    }

    fn seen_in(&self, descriptor: &Descriptor) -> Option<Reference> {
        self.locations.as_ref()?.other_repository(&descriptor.digest, &self.reference)
    }

    fn commit(&self, image: &StoredImage, names: &[ImageName]) -> Result<Vec<Replaced>> {
        self.put_named(&image.descriptor, &image.manifest_bytes, names)
    }

    fn commit_index(&self, index: &StoredIndex, names: &[ImageName]) -> Result<Vec<Replaced>> {
        self.put_named(&index.descriptor, &index.bytes, names)
    }
}
