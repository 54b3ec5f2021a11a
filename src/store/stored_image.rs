//! An image in a store: its documents in memory, its layers still in the store.

use super::{BlobSource, Referrer, read_document};
use crate::codec::compression::Encoding;
use crate::common::error::{Error, ErrorKind, Result};
use crate::common::human_numbers::counted;
use crate::common::limits::Limit;
use crate::spec::reference::Reference;
use crate::spec::{Config, Descriptor, Index, Manifest, Platform, media_type};
use std::sync::Arc;

/// The annotation in `index.json` that records an image's name in the registry of its origin. With it, a layout on another
/// machine still names the base that it contains.
const ORIGIN: &str = "dev.ocibuild.origin";

/// The maximum nesting depth of indexes.
const DEEPEST_INDEX: usize = 4;

/// A manifest with its config, and the source of their blobs.
#[derive(Clone)]
pub struct StoredImage {
    /// The descriptor of the manifest.
    pub descriptor: Descriptor,
    /// The exact bytes of the manifest.
    pub manifest_bytes: Arc<[u8]>,
    /// The parsed manifest.
    pub manifest: Manifest,
    /// The exact bytes of the config.
    pub config_bytes: Arc<[u8]>,
    /// The parsed config.
    pub config: Config,
    /// The artifacts about the image that are listed with it, such as SBOMs and signatures.
    pub referrers: Vec<Referrer>,
    /// The image's name in the registry of its origin, if known. It is not stored in the image.
    pub origin: Option<Reference>,
    /// Warnings about the place where it was found.
    pub warnings: Vec<String>,
    /// The source of its blobs.
    pub source: Arc<dyn BlobSource>,
}

/// Returns the entry of an image whose name in a registry is no longer known.
pub(super) fn without_origin(mut listed: Descriptor) -> Descriptor {
    listed.annotations.remove(ORIGIN);
    listed
}

/// Returns the name in the registry of its origin that an entry of an index notes.
pub(super) fn origin_of(listed: &Descriptor) -> Option<Reference> {
    listed.annotations.get(ORIGIN).and_then(|origin| origin.parse().ok())
}

/// Adds the name in the registry of its origin, if known, to an entry of an index.
pub(super) fn note_origin(listed: Descriptor, origin: Option<&Reference>) -> Descriptor {
    match origin {
        Some(origin) => listed.annotated(ORIGIN, origin.to_string()),
        None => listed,
    }
}

impl std::fmt::Debug for StoredImage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoredImage").field("descriptor", &self.descriptor).finish_non_exhaustive()
    }
}

impl StoredImage {
    /// Whether not all of its layers are compressed in one way.
    pub fn has_several_compressions(&self) -> bool {
        let mut encodings = self.manifest.layers.iter().map(|layer| media_type::layer_encoding(&layer.media_type));
        let first = encodings.next();
        encodings.any(|encoding| Some(encoding) != first)
    }

    /// Opens the image that `start` refers to, directly or through indexes.
    ///
    /// # Errors
    /// Fails if a document is missing, damaged or malformed, if an index has no image for `platform`, or if the image is for
    /// another platform.
    pub fn open(
        source: Arc<dyn BlobSource>,
        start: &Descriptor,
        platform: Option<&Platform>,
        object: &str,
    ) -> Result<Self> {
        let mut descriptor = start.clone();
        let mut depth = 0;
        while media_type::is_index(&descriptor.media_type) {
            depth += 1;
            if depth > DEEPEST_INDEX {
                return Err(Error::invalid(object, format!("nesting of indexes deeper than {DEEPEST_INDEX}")));
            }
            let bytes =
                read_document(&*source, &descriptor, Limit::DocumentSize).map_err(|error| error.within(object))?;
            let index = Index::read(&bytes, &descriptor.media_type, object)?;
            descriptor = index.choose(platform, object)?.clone();
        }
        if !media_type::is_manifest(&descriptor.media_type) {
            return Err(Error::invalid(
                object,
                format!("`{}` is neither an image nor an index", descriptor.media_type),
            ));
        }
        let manifest_bytes =
            read_document(&*source, &descriptor, Limit::DocumentSize).map_err(|error| error.within(object))?;
        let manifest = Manifest::read(&manifest_bytes, &descriptor.media_type, object)?;
        let config_bytes =
            read_document(&*source, &manifest.config, Limit::DocumentSize).map_err(|error| error.within(object))?;
        let origin = origin_of(start);
        let image = StoredImage::assemble(source, descriptor, manifest_bytes, config_bytes, platform, object)?;
        Ok(StoredImage { origin, ..image })
    }

    /// Adds the registry of the image's origin, if known, to its entry in an index.
    pub(super) fn note_origin(&self, listed: Descriptor) -> Descriptor {
        note_origin(listed, self.origin.as_ref())
    }

    /// Creates an image from documents in memory.
    ///
    /// # Errors
    /// Fails as [`StoredImage::open`] does, except that no document can be missing.
    pub fn assemble(
        source: Arc<dyn BlobSource>,
        descriptor: Descriptor,
        manifest_bytes: Vec<u8>,
        config_bytes: Vec<u8>,
        platform: Option<&Platform>,
        object: &str,
    ) -> Result<Self> {
        let manifest = Manifest::read(&manifest_bytes, &descriptor.media_type, object)?;
        let config = Config::read(&config_bytes, object)?;
        let (layers, diff_ids) = (manifest.layers.len(), config.diff_ids().len());
        if layers != diff_ids {
            return Err(Error::invalid(
                object,
                format!("{} but {}", counted(layers, "layer"), counted(diff_ids, "diff ID")),
            ));
        }
        if let Some(wanted) = platform.filter(|wanted| !config.platform().satisfies(wanted)) {
            let reason = format!("no image for {wanted}");
            let hint = format!("there is {}", config.platform());
            return Err(Error::new(ErrorKind::NotFound, object, reason).hint(hint));
        }
        Ok(StoredImage {
            descriptor,
            manifest_bytes: manifest_bytes.into(),
            manifest,
            config_bytes: config_bytes.into(),
            config,
            referrers: Vec::new(),
            origin: None,
            warnings: Vec::new(),
            source,
        })
    }

    /// Returns whether a layer is compressed with zstd, which older engines cannot read.
    pub fn has_zstd_layers(&self) -> bool {
        self.manifest.layers.iter().any(|layer| media_type::layer_encoding(&layer.media_type) == Some(Encoding::Zstd))
    }
}
