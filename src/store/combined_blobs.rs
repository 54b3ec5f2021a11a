//! Blobs of several places, as one source.

use super::{BlobSource, Layout};
use crate::common::digest::Digest;
use crate::common::error::{Error, Result};
use crate::spec::Descriptor;
use crate::spec::reference::Reference;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Cursor, Read};
use std::sync::Arc;

/// Documents in memory, blobs of other sources, and one source for all other blobs.
#[derive(Clone)]
pub struct CombinedBlobs {
    documents: BTreeMap<Digest, Arc<[u8]>>,
    elsewhere: Vec<(BTreeSet<Digest>, Arc<dyn BlobSource>)>,
    others: Arc<dyn BlobSource>,
}

impl CombinedBlobs {
    /// Creates a source with the blobs of `others` alone.
    pub fn of(others: Arc<dyn BlobSource>) -> Self {
        CombinedBlobs { documents: BTreeMap::new(), elsewhere: Vec::new(), others }
    }

    /// Adds a document.
    #[must_use]
    pub fn with_document(mut self, digest: Digest, bytes: Arc<[u8]>) -> Self {
        self.documents.insert(digest, bytes);
        self
    }

    /// Adds the blobs with these digests, which are in `source`.
    #[must_use]
    pub fn with_blobs(mut self, digests: impl IntoIterator<Item = Digest>, source: Arc<dyn BlobSource>) -> Self {
        self.elsewhere.push((digests.into_iter().collect(), source));
        self
    }

    fn source_of(&self, descriptor: &Descriptor) -> &dyn BlobSource {
        let has_it = |(digests, _): &&(BTreeSet<Digest>, Arc<dyn BlobSource>)| digests.contains(&descriptor.digest);
        self.elsewhere.iter().find(has_it).map_or(&*self.others, |(_, source)| &**source)
    }
}

impl std::fmt::Debug for CombinedBlobs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CombinedBlobs").field("documents", &self.documents.len()).finish_non_exhaustive()
    }
}

impl BlobSource for CombinedBlobs {
    fn open(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send + '_>> {
        match self.documents.get(&descriptor.digest) {
            Some(bytes) => Ok(Box::new(Cursor::new(bytes.clone()))),
            None => self.source_of(descriptor).open(descriptor),
        }
    }

    fn layout(&self, descriptor: &Descriptor) -> Option<&Layout> {
        match self.documents.contains_key(&descriptor.digest) {
            true => None,
            false => self.source_of(descriptor).layout(descriptor),
        }
    }

    fn repository(&self, descriptor: &Descriptor) -> Option<&Reference> {
        match self.documents.contains_key(&descriptor.digest) {
            true => None,
            false => self.source_of(descriptor).repository(descriptor),
        }
    }

    fn holds(&self, descriptor: &Descriptor) -> Result<bool> {
        match self.documents.contains_key(&descriptor.digest) {
            true => Ok(true),
            false => self.source_of(descriptor).holds(descriptor),
        }
    }

    fn has_another(&self, descriptor: &Descriptor, error: &Error) -> bool {
        self.source_of(descriptor).has_another(descriptor, error)
    }
}
