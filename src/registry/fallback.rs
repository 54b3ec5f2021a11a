//! Images some of whose blobs are only in a registry.

use crate::common::digest::Digest;
use crate::common::error::{Error, ErrorKind, Result};
use crate::common::progress::{Progress, warn};
use crate::registry::Repository;
use crate::spec::Descriptor;
use crate::spec::reference::Reference;
use crate::store::{BlobSource, Layout, StoredImage, Verified};
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The annotation that names the base (annotations.md).
pub const BASE_NAME: &str = "org.opencontainers.image.base.name";

/// A repository whose blobs are read from its mirrors first, and last from itself.
pub struct MirroredRepository {
    name: Reference,
    places: Vec<Arc<Repository>>,
    progress: Arc<dyn Progress + Send>,
    asked: Mutex<BTreeMap<Digest, Asked>>,
}

/// The progress of reading a blob: the place where the last reader began, and the number of places that failed.
#[derive(Debug, Clone, Copy, Default)]
struct Asked {
    begun: usize,
    failed: usize,
}

/// The sources of an image's missing blobs.
#[derive(Debug, Default)]
pub struct Fallback {
    /// The repositories of single blobs.
    pub blobs: BTreeMap<Digest, Arc<MirroredRepository>>,
    /// A hint for errors about blobs that no source has.
    pub advice: Option<String>,
}

/// A source of blobs, with repositories for the blobs that it lacks. A push to the same registry may mount those.
struct Completed {
    own: Arc<dyn BlobSource>,
    complement: Fallback,
}

impl StoredImage {
    /// Returns the layers that the image's source lacks, because they are remote or lost.
    pub fn absent_layers(&self) -> impl Iterator<Item = &Descriptor> {
        let is_absent = |layer| self.source.open(layer).is_err_and(|error| error.kind() == ErrorKind::NotFound);
        self.manifest.layers.iter().filter(move |layer| is_absent(layer))
    }

    /// Adds sources for missing blobs. Their content is verified like all other content.
    #[must_use]
    pub fn with_fallback(self, complement: Fallback) -> StoredImage {
        StoredImage { source: Arc::new(Completed { own: self.source, complement }), ..self }
    }
}

impl Completed {
    fn elsewhere(&self, descriptor: &Descriptor) -> Option<&Arc<MirroredRepository>> {
        self.complement.blobs.get(&descriptor.digest)
    }
}

impl BlobSource for Completed {
    fn open(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send + '_>> {
        let missing = |error: &Error| error.kind() == ErrorKind::NotFound;
        match (self.own.open(descriptor), self.elsewhere(descriptor), &self.complement.advice) {
            (Err(error), Some(elsewhere), _) if missing(&error) => elsewhere.open(descriptor),
            (Err(error), None, Some(advice)) if missing(&error) => Err(error.hint(advice)),
            (opened, _, _) => opened,
        }
    }

    fn open_range(&self, descriptor: &Descriptor, range: Range<u64>) -> Result<Option<Box<dyn Read + Send + '_>>> {
        match self.elsewhere(descriptor) {
            Some(elsewhere) if self.own.open(descriptor).is_err() => elsewhere.open_range(descriptor, range),
            _ => self.own.open_range(descriptor, range),
        }
    }

    fn holds(&self, descriptor: &Descriptor) -> Result<bool> {
        self.own.holds(descriptor)
    }

    fn layout(&self, descriptor: &Descriptor) -> Option<&Layout> {
        self.own.layout(descriptor)
    }

    fn repository(&self, descriptor: &Descriptor) -> Option<&Reference> {
        self.elsewhere(descriptor)?.repository(descriptor)
    }

    fn has_another(&self, descriptor: &Descriptor, error: &Error) -> bool {
        self.elsewhere(descriptor).is_some_and(|elsewhere| elsewhere.has_another(descriptor, error))
    }
}

impl MirroredRepository {
    /// Creates the repository `name`, whose blobs are read from `places` in order.
    pub fn new(name: Reference, places: Vec<Arc<Repository>>, progress: Arc<dyn Progress + Send>) -> Self {
        MirroredRepository { name, places, progress, asked: Mutex::default() }
    }

    fn asked(&self) -> MutexGuard<'_, BTreeMap<Digest, Asked>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
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
        let failed = {
            let mut asked = self.asked();
            let asked = asked.entry(descriptor.digest).or_default();
            asked.begun = asked.failed;
            asked.failed
        };
        let Some((first, _)) = self.places.get(failed..).and_then(<[_]>::split_first) else {
            return Err(Error::new(ErrorKind::NotFound, self.name.to_string(), "not found in any location"));
        };
        let reader = Verified::new(first.open(descriptor)?, descriptor);
        Ok(Box::new(FirstThatAnswers {
            reader,
            mirrored: self,
            place: failed,
            blob: descriptor.clone(),
            has_begun: false,
        }))
    }

    fn open_range(&self, descriptor: &Descriptor, range: Range<u64>) -> Result<Option<Box<dyn Read + Send + '_>>> {
        // What is wrong with a place is said when the whole blob is read.
        let opened = self.places.iter().map(|place| place.open_range(descriptor, range.clone()));
        Ok(opened.flatten().flatten().next())
    }

    fn repository(&self, _: &Descriptor) -> Option<&Reference> {
        Some(&self.name)
    }

    fn has_another(&self, descriptor: &Descriptor, error: &Error) -> bool {
        let asked = self.asked().get(&descriptor.digest).copied().unwrap_or_default();
        let has_another = asked.failed > asked.begun && asked.failed < self.places.len();
        if has_another {
            warn(&*self.progress, &error.object(), &format!("{}; trying the next location", error.reason()));
        }
        has_another
    }
}

/// Reads from the first place that returns a byte. After a later failure, the next reader of the blob begins at the next place.
struct FirstThatAnswers<'m> {
    reader: Verified<Box<dyn Read + Send + 'm>>,
    mirrored: &'m MirroredRepository,
    /// The number of the current place.
    place: usize,
    blob: Descriptor,
    has_begun: bool,
}

impl Read for FirstThatAnswers<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let error = match self.reader.read(buffer) {
                Ok(read) => {
                    self.has_begun = true;
                    return Ok(read);
                }
                Err(error) => error,
            };
            self.place += 1;
            self.mirrored.asked().entry(self.blob.digest).or_default().failed = self.place;
            let Some(next) = self.mirrored.places.get(self.place).filter(|_| !self.has_begun) else {
                return Err(error);
            };
            let error = Error::io("mirror", "read", error);
            let reason = format!("{}; trying the next location", error.reason());
            warn(&*self.mirrored.progress, &error.object(), &reason);
            self.reader = Verified::new(next.open(&self.blob)?, &self.blob);
        }
    }
}
