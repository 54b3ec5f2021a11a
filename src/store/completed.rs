//! An image of which something is in a registry only.

use super::registry::Repository;
use super::{BlobSource, StoredImage};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::progress::{Progress, warn};
use crate::reference::Reference;
use crate::spec::Descriptor;
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;

/// The annotation that names the base (annotations.md).
pub const BASE_NAME: &str = "org.opencontainers.image.base.name";

/// A repository, and the places that are asked for its blobs: its mirrors, and last itself.
pub struct MirroredRepository {
    name: Reference,
    places: Vec<Arc<Repository>>,
    progress: Arc<dyn Progress + Send>,
}

/// What completes an image.
#[derive(Debug, Default)]
pub struct Complement {
    /// Where single blobs are.
    pub blobs: BTreeMap<Digest, Arc<MirroredRepository>>,
    /// Where every other blob may be.
    pub others: Option<Arc<MirroredRepository>>,
}

/// The blobs of a place, and where that has none of a digest, those of repositories. Another repository of the same registry
/// may mount them from there.
struct Completed {
    own: Arc<dyn BlobSource>,
    complement: Complement,
}

impl StoredImage {
    /// The reference that the image says its base had, if that is in a registry.
    pub fn base_reference(&self) -> Option<Reference> {
        self.manifest.annotations.get(BASE_NAME)?.parse().ok()
    }

    /// The layers that are not where the image is: they were left out, or are lost.
    pub fn absent_layers(&self) -> impl Iterator<Item = &Descriptor> {
        let is_absent = |layer| self.source.open(layer).is_err_and(|error| error.kind() == ErrorKind::NotFound);
        self.manifest.layers.iter().filter(move |layer| is_absent(layer))
    }

    /// The same image, completed. Whatever comes from elsewhere is verified like everything else.
    #[must_use]
    pub fn completed_by(self, complement: Complement) -> StoredImage {
        StoredImage { source: Arc::new(Completed { own: self.source, complement }), ..self }
    }
}

impl Completed {
    fn elsewhere(&self, descriptor: &Descriptor) -> Option<&Arc<MirroredRepository>> {
        self.complement.blobs.get(&descriptor.digest).or(self.complement.others.as_ref())
    }
}

impl BlobSource for Completed {
    fn open(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send + '_>> {
        match (self.own.open(descriptor), self.elsewhere(descriptor)) {
            (Err(error), Some(elsewhere)) if error.kind() == ErrorKind::NotFound => elsewhere.open(descriptor),
            (opened, _) => opened,
        }
    }

    fn repository(&self, descriptor: &Descriptor) -> Option<&Reference> {
        self.elsewhere(descriptor)?.repository(descriptor)
    }
}

impl MirroredRepository {
    /// The repository `name`, for whose blobs `places` are asked in order.
    pub fn new(name: Reference, places: Vec<Arc<Repository>>, progress: Arc<dyn Progress + Send>) -> Self {
        MirroredRepository { name, places, progress }
    }
}

impl fmt::Debug for MirroredRepository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MirroredRepository")
            .field("name", &self.name)
            .field("places", &self.places)
            .finish_non_exhaustive()
    }
}

impl BlobSource for MirroredRepository {
    fn open(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send + '_>> {
        let Some((first, others)) = self.places.split_first() else {
            return Err(Error::new(ErrorKind::NotFound, self.name.to_string(), "is nowhere"));
        };
        let (blob, progress) = (descriptor.clone(), &*self.progress);
        Ok(Box::new(FirstThatAnswers { reader: first.open(descriptor)?, others, blob, progress }))
    }

    fn repository(&self, _: &Descriptor) -> Option<&Reference> {
        Some(&self.name)
    }
}

/// Reads from the first place that gives a byte.
struct FirstThatAnswers<'m> {
    reader: Box<dyn Read + Send + 'm>,
    /// The places to ask when that fails; none any more after the first byte.
    others: &'m [Arc<Repository>],
    blob: Descriptor,
    progress: &'m dyn Progress,
}

impl Read for FirstThatAnswers<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let error = match (self.reader.read(buffer), self.others.split_first()) {
                (Err(error), Some((next, others))) => {
                    self.reader = next.open(&self.blob)?;
                    self.others = others;
                    Error::io("mirror", "read", error)
                }
                (read, _) => {
                    self.others = &[];
                    return read;
                }
            };
            warn(self.progress, &error.object(), &format!("{}; asking the next place", error.reason()));
        }
    }
}
