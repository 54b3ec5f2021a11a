//! An image whose base is still in its registry.

use super::registry::Repository;
use super::{BlobSource, StoredImage};
use crate::error::{ErrorKind, Result};
use crate::reference::Reference;
use crate::spec::Descriptor;
use std::io::Read;
use std::sync::Arc;

/// The annotation that names the base (annotations.md).
pub const BASE_NAME: &str = "org.opencontainers.image.base.name";

/// The blobs of a place, and where that has none of a digest, those of the repository that the base is from. Another
/// repository of the same registry may mount them from there.
struct Completed {
    own: Arc<dyn BlobSource>,
    base: Arc<Repository>,
}

impl StoredImage {
    /// The reference that the image says its base had, if that is in a registry.
    pub fn base_reference(&self) -> Option<Reference> {
        self.manifest.annotations.get(BASE_NAME)?.parse().ok()
    }

    /// Whether a layer is not where the image is: it was left in the registry of the base, or is lost.
    pub fn lacks_layers(&self) -> bool {
        let lacks = |layer| self.source.open(layer).is_err_and(|error| error.kind() == ErrorKind::NotFound);
        self.manifest.layers.iter().any(lacks)
    }

    /// The same image, with `base` to complete it. Whatever comes from there is verified like everything else.
    #[must_use]
    pub fn completed_by(self, base: Arc<Repository>) -> StoredImage {
        StoredImage { source: Arc::new(Completed { own: self.source, base }), ..self }
    }
}

impl BlobSource for Completed {
    fn open(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send + '_>> {
        match self.own.open(descriptor) {
            Err(error) if error.kind() == ErrorKind::NotFound => self.base.open(descriptor),
            opened => opened,
        }
    }

    fn repository(&self) -> Option<&Reference> {
        self.base.repository()
    }
}
