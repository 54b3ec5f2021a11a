//! Documents in memory and the blobs of a store, as one source.

use super::{BlobSource, Layout};
use crate::common::digest::Digest;
use crate::common::error::{Error, Result};
use crate::spec::Descriptor;
use crate::spec::reference::Reference;
use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::sync::Arc;

/// Documents in memory, and one source for all other blobs.
#[derive(Clone)]
pub struct CombinedBlobs {
    documents: BTreeMap<Digest, Arc<[u8]>>,
    others: Arc<dyn BlobSource>,
}

impl CombinedBlobs {
    /// Creates a source with the blobs of `others` alone.
    pub fn of(others: Arc<dyn BlobSource>) -> Self {
        CombinedBlobs { documents: BTreeMap::new(), others }
    }

    /// Adds a document.
    #[must_use]
    pub fn with_document(mut self, digest: Digest, bytes: Arc<[u8]>) -> Self {
        self.documents.insert(digest, bytes);
        self
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
            None => self.others.open(descriptor),
        }
    }

    fn layout(&self) -> Option<&Layout> {
        self.others.layout()
    }

    fn repository(&self, descriptor: &Descriptor) -> Option<&Reference> {
        match self.documents.contains_key(&descriptor.digest) {
            true => None,
            false => self.others.repository(descriptor),
        }
    }

    fn holds(&self, descriptor: &Descriptor) -> Result<bool> {
        match self.documents.contains_key(&descriptor.digest) {
            true => Ok(true),
            false => self.others.holds(descriptor),
        }
    }

    fn has_another(&self, descriptor: &Descriptor, error: &Error) -> bool {
        self.others.has_another(descriptor, error)
    }
}
