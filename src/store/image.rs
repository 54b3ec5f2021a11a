//! One image in some place: its documents read, its layers still there.

use super::{BlobSource, Referrer, read_document};
use crate::compression::Encoding;
use crate::error::{Error, ErrorKind, Result};
use crate::reference::Reference;
use crate::spec::{Config, Descriptor, Index, LARGEST_CONFIG, LARGEST_MANIFEST, Manifest, Platform, media_type};
use crate::wording::counted;
use std::sync::Arc;

/// The annotation of an image in `index.json` that says which name it had in the registry that it came from. A layout that was
/// carried to another machine so tells which base it holds.
const ORIGIN: &str = "dev.ocibuild.origin";

/// How deeply indexes may list indexes.
const DEEPEST_INDEX: usize = 4;

/// A manifest and a config that fit together, and the place that holds their blobs.
#[derive(Clone)]
pub struct StoredImage {
    /// What the manifest is referred to as.
    pub descriptor: Descriptor,
    /// The manifest, as digested.
    pub manifest_bytes: Arc<[u8]>,
    /// The manifest, read.
    pub manifest: Manifest,
    /// The config, as digested.
    pub config_bytes: Arc<[u8]>,
    /// The config, read.
    pub config: Config,
    /// The artifacts about the image that are listed beside it, such as SBOMs and signatures.
    pub referrers: Vec<Referrer>,
    /// The name in the registry that it came from, where that is known. It is no part of the image.
    pub origin: Option<Reference>,
    /// What is odd about the place that it was found in, for people.
    pub oddities: Vec<String>,
    /// Where the blobs are.
    pub source: Arc<dyn BlobSource>,
}

impl std::fmt::Debug for StoredImage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoredImage").field("descriptor", &self.descriptor).finish_non_exhaustive()
    }
}

impl StoredImage {
    /// Reads the image that `start` leads to, through indexes if need be.
    ///
    /// # Errors
    /// When a document is missing, damaged or malformed, when no image of an index is for `platform`, or when the image is
    /// for another platform.
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
            let bytes = read_document(&*source, &descriptor, LARGEST_MANIFEST).map_err(|error| error.within(object))?;
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
            read_document(&*source, &descriptor, LARGEST_MANIFEST).map_err(|error| error.within(object))?;
        let manifest = Manifest::read(&manifest_bytes, &descriptor.media_type, object)?;
        let config_bytes =
            read_document(&*source, &manifest.config, LARGEST_CONFIG).map_err(|error| error.within(object))?;
        let origin = start.annotations.get(ORIGIN).and_then(|origin| origin.parse().ok());
        let image = StoredImage::assemble(source, descriptor, manifest_bytes, config_bytes, platform, object)?;
        Ok(StoredImage { origin, ..image })
    }

    /// Notes the registry that the image came from in its entry of an index, where that is known.
    pub(super) fn note_origin(&self, listed: Descriptor) -> Descriptor {
        match &self.origin {
            Some(origin) => listed.annotated(ORIGIN, origin.to_string()),
            None => listed,
        }
    }

    /// Puts together documents that are already at hand.
    ///
    /// # Errors
    /// As [`StoredImage::open`], except that nothing can be missing.
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
            oddities: Vec::new(),
            source,
        })
    }

    /// Whether a layer is wrapped in zstd, which older engines cannot read.
    pub fn has_zstd_layers(&self) -> bool {
        self.manifest.layers.iter().any(|layer| media_type::layer_encoding(&layer.media_type) == Some(Encoding::Zstd))
    }
}
