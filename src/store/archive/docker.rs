//! The format of `docker save` and `podman save`: a config and layers, listed by `manifest.json`.

use super::members::{ArchiveMembers, LIST_FILE};
use crate::codec::compression::{Detected, decode};
use crate::common::digest::{Algorithm, DiffId, Digest, Hashing};
use crate::common::error::{Error, Result};
use crate::common::human_numbers::counted;
use crate::common::json;
use crate::common::limits::Limit;
use crate::spec::name::{ImageName, split_digest};
use crate::spec::reference::Reference;
use crate::spec::{Config, Descriptor, Manifest, Platform, media_type};
use crate::store::layout::INDEX_FILE;
use crate::store::{BlobSource, StoredImage};
use rayon::prelude::*;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// The largest `manifest.json` that is read, in bytes.
const LARGEST_LIST: u64 = 1 << 20;

/// A `docker-archive`, read in place.
#[derive(Debug)]
pub struct DockerArchive {
    members: ArchiveMembers,
    images: Vec<DockerImage>,
    /// The member with the blob of each digest; filled when an image is selected.
    blobs: BTreeMap<Digest, String>,
}

/// An image of which every layer was read.
struct Described {
    config_bytes: Vec<u8>,
    manifest: Manifest,
    /// The member with the blob of each digest.
    members: BTreeMap<Digest, String>,
}

/// One image of `manifest.json`.
#[derive(Debug, Clone)]
struct DockerImage {
    config: String,
    layers: Vec<String>,
    names: Vec<String>,
}

impl DockerArchive {
    /// Opens the archive and reads its list of images.
    ///
    /// # Errors
    /// Fails if it is not a tar, or has no `manifest.json`.
    pub fn open(path: &Path) -> Result<Self> {
        DockerArchive::of(ArchiveMembers::open(path)?)
    }

    pub(super) fn of(members: ArchiveMembers) -> Result<Self> {
        if !members.contains(LIST_FILE) {
            let hint = if members.contains(INDEX_FILE) { "it may be an oci-archive" } else { "see `tar -tf`" };
            return Err(Error::invalid(members.object(), "not a docker-archive: `manifest.json` is missing").hint(hint));
        }
        let object = format!("{}: manifest.json", members.object());
        let document = json::parse(&members.document(LIST_FILE, LARGEST_LIST)?, json::DOCUMENT_DEPTH, &object)?;
        let listed = document.as_array().ok_or_else(|| Error::invalid(&object, "expected a list"))?;
        let images = listed.iter().map(|image| DockerImage::read(image, &object)).collect::<Result<Vec<_>>>()?;
        Ok(DockerArchive { members, images, blobs: BTreeMap::new() })
    }

    /// Returns the image that `name` selects: a reference, a digest, both, or `@` and its place in the list; without one, the
    /// only image.
    ///
    /// The archive names no digests, so every layer is read once, and checked against the config.
    ///
    /// # Errors
    /// Fails if there is no such image, or its members are missing, malformed, or not what the config says.
    pub fn image(mut self, name: Option<&str>, platform: Option<&Platform>) -> Result<StoredImage> {
        let object = self.members.object().to_owned();
        let Described { config_bytes, manifest, members } = self.choose(name)?;
        self.blobs = members;
        let manifest_bytes = manifest.to_bytes();
        let descriptor = Descriptor::of(media_type::MANIFEST, &manifest_bytes);
        let warnings = self.members.warnings();
        let image = StoredImage::assemble(Arc::new(self), descriptor, manifest_bytes, config_bytes, platform, &object)?;
        Ok(StoredImage { warnings, ..image })
    }

    /// Returns the names that `name` selects, or all names of the image that it selects.
    pub fn names_of(&self, name: Option<&str>) -> Vec<ImageName> {
        let candidates = self.candidates(name);
        // Text that is not a name cannot become one elsewhere.
        let all = || candidates.iter().flat_map(|image| &image.names).filter_map(|name| name.parse().ok());
        let (wanted, _) = split_digest(name.unwrap_or_default());
        let named: Vec<ImageName> = all().filter(|known: &ImageName| same_name(&known.to_string(), wanted)).collect();
        match candidates.len() {
            _ if !named.is_empty() => named,
            1 => all().collect(),
            _ => Vec::new(),
        }
    }

    /// Returns the images that have the name in `name`.
    fn candidates(&self, name: Option<&str>) -> Vec<&DockerImage> {
        let (name, _) = split_digest(name.unwrap_or_default());
        if let Some(place) = name.strip_prefix('@').and_then(|place| place.parse::<usize>().ok()) {
            return self.images.get(place).into_iter().collect();
        }
        let fits = |image: &&DockerImage| name.is_empty() || image.names.iter().any(|listed| same_name(listed, name));
        self.images.iter().filter(fits).collect()
    }

    fn choose(&self, name: Option<&str>) -> Result<Described> {
        let object = self.members.object();
        let known = || {
            let names: Vec<String> = self.images.iter().flat_map(|image| image.names.clone()).take(20).collect();
            match names.is_empty() {
                true => "the images have no names; use @0, @1, …".to_owned(),
                false => format!("it has {}", names.join(", ")),
            }
        };
        let missing = || {
            let reason = format!("no image `{}`", name.unwrap_or_default());
            Error::new(crate::ErrorKind::NotFound, object, reason).hint(known())
        };
        let candidates = self.candidates(name);
        if let (_, Some(digest)) = split_digest(name.unwrap_or_default()) {
            for candidate in candidates {
                let described = self.describe_image(candidate)?;
                if Digest::of(&described.manifest.to_bytes()) == digest || described.manifest.config.digest == digest {
                    return Ok(described);
                }
            }
            return Err(missing());
        }
        match (&candidates[..], name) {
            ([], None) => Err(Error::invalid(object, "has no image")),
            ([], Some(_)) => Err(missing()),
            ([first, ..], Some(_)) | ([first], None) => self.describe_image(first),
            (_, None) => Err(Error::usage(object, "has several images, select one").hint(known())),
        }
    }

    fn describe_image(&self, listed: &DockerImage) -> Result<Described> {
        let object = self.members.object();
        let config_bytes = self.members.document(&listed.config, Limit::DocumentSize)?;
        let config = Config::read(&config_bytes, &format!("{object}: {}", listed.config))?;
        if listed.layers.len() != config.diff_ids().len() {
            let (layers, diff_ids) =
                (counted(listed.layers.len(), "layer"), counted(config.diff_ids().len(), "diff ID"));
            return Err(Error::invalid(object, format!("{layers} but {diff_ids}")));
        }
        let layers = listed
            .layers
            .par_iter()
            .zip(config.diff_ids())
            .map(|(layer, diff_id)| self.describe(layer, diff_id))
            .collect::<Result<Vec<_>>>()?;
        let config = Descriptor::of(media_type::CONFIG, &config_bytes);
        let mut members = BTreeMap::from([(config.digest, listed.config.clone())]);
        members.extend(layers.iter().map(|layer| layer.digest).zip(listed.layers.iter().cloned()));
        let manifest = Manifest { config, layers, annotations: BTreeMap::new() };
        Ok(Described { config_bytes, manifest, members })
    }

    /// Computes the digest of a layer's blob, and of the tar that it contains.
    fn describe(&self, member: &str, diff_id: &DiffId) -> Result<Descriptor> {
        let object = format!("{}: {member}", self.members.object());
        let failed = |error| Error::io(&object, "read", error);
        let (section, size) = self.members.member(member)?;
        let stored = Detected::new(section).map_err(failed)?;
        let encoding = stored.encoding();
        let mut stored = Hashing::new(stored, Algorithm::Sha256);
        let content = decode(&mut stored, encoding).map_err(failed)?;
        let tar = Hashing::new(content, diff_id.as_digest().algorithm()).finish();
        let (tar, _) = tar.map_err(|error| failed(error).within(&object))?;
        // The bytes that a decoder does not read are part of the blob.
        let (digest, _) = stored.finish().map_err(failed)?;
        if tar != diff_id.as_digest() {
            return Err(Error::corrupt(object, format!("does not match the diff ID {diff_id} of the config")));
        }
        Ok(Descriptor::new(media_type::of_layer(encoding), digest, size))
    }
}

impl BlobSource for DockerArchive {
    fn open(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send + '_>> {
        let missing = || {
            Error::new(crate::ErrorKind::NotFound, self.members.object(), format!("no blob {}", descriptor.digest))
                .about_blob(&descriptor.digest)
        };
        let member = self.blobs.get(&descriptor.digest).ok_or_else(missing)?;
        let (section, _) = self.members.member(member)?;
        Ok(Box::new(section))
    }
}

impl DockerImage {
    fn read(value: &Value, object: &str) -> Result<Self> {
        let strings = |key: &str| -> Result<Vec<String>> {
            let listed = json::array_at(value, key, object)?.map_or(&[][..], |listed| listed);
            listed
                .iter()
                .map(|text| {
                    text.as_str()
                        .map(str::to_owned)
                        .ok_or_else(|| Error::invalid(object, format!("`{key}`: expected strings")))
                })
                .collect()
        };
        let config = json::string_at(value, "Config", object)?
            .ok_or_else(|| Error::invalid(object, "an image without `Config`"))?;
        Ok(DockerImage { config: config.to_owned(), layers: strings("Layers")?, names: strings("RepoTags")? })
    }
}

/// Returns whether both are names of one image: `debian:12` is `docker.io/library/debian:12`.
fn same_name(listed: &str, wanted: &str) -> bool {
    let normal = |name: &str| {
        name.parse::<Reference>()
            .ok()
            .map(|name| (name.registry().to_owned(), name.repository().to_owned(), name.tag_or_latest()))
    };
    listed == wanted || normal(listed).is_some_and(|listed| Some(listed) == normal(wanted))
}
