//! What `docker save` and `podman save` write: a config and layers, named by `manifest.json`.

use super::members::Members;
use crate::compression::{Encoding, decode};
use crate::digest::{Algorithm, DiffId, Digest, Hasher, Hashing};
use crate::error::{Error, Result};
use crate::json;
use crate::reference::Reference;
use crate::spec::{Config, Descriptor, LARGEST_CONFIG, Manifest, Platform, media_type};
use crate::store::{BlobSource, StoredImage};
use crate::wording::counted;
use rayon::prelude::*;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{Chain, Cursor, Read};
use std::path::Path;
use std::sync::Arc;

/// The largest `manifest.json` that is read, in bytes.
const LARGEST_LIST: u64 = 1 << 20;

/// A `docker-archive`, read in place.
#[derive(Debug)]
pub struct DockerArchive {
    members: Members,
    images: Vec<Listed>,
    /// Which member holds the blob of a digest; filled when an image is chosen.
    blobs: BTreeMap<Digest, String>,
}

/// One image of `manifest.json`.
#[derive(Debug, Clone)]
struct Listed {
    config: String,
    layers: Vec<String>,
    names: Vec<String>,
}

impl DockerArchive {
    /// Opens the archive and reads its list of images.
    ///
    /// # Errors
    /// When it is no tar, or holds no `manifest.json`.
    pub fn open(path: &Path) -> Result<Self> {
        let members = Members::open(path)?;
        if !members.contains("manifest.json") {
            let hint = if members.contains("index.json") { "it may be an oci-archive" } else { "see `tar -tf`" };
            return Err(Error::invalid(members.object(), "not a docker-archive: `manifest.json` is missing").hint(hint));
        }
        let object = format!("{}: manifest.json", members.object());
        let document = json::parse(&members.read("manifest.json", LARGEST_LIST)?, json::DOCUMENT_DEPTH, &object)?;
        let listed = document.as_array().ok_or_else(|| Error::invalid(&object, "expected a list"))?;
        let images = listed.iter().map(|image| Listed::read(image, &object)).collect::<Result<Vec<_>>>()?;
        Ok(DockerArchive { members, images, blobs: BTreeMap::new() })
    }

    /// The image that `name` means: a reference, or `@` and its place in the list; without one, the only image.
    ///
    /// The archive names no digests, so every layer is read once, and checked against the config.
    ///
    /// # Errors
    /// When there is no such image, or its members are missing, malformed, or not what the config says.
    pub fn image(mut self, name: Option<&str>, platform: Option<&Platform>) -> Result<StoredImage> {
        let object = self.members.object().to_owned();
        let listed = self.choose(name)?.clone();
        let config_bytes = self.members.read(&listed.config, LARGEST_CONFIG)?;
        let config = Config::read(&config_bytes, &format!("{object}: {}", listed.config))?;
        if listed.layers.len() != config.diff_ids().len() {
            let (layers, diff_ids) =
                (counted(listed.layers.len(), "layer"), counted(config.diff_ids().len(), "diff ID"));
            let reason = format!("{layers} but {diff_ids}");
            return Err(Error::invalid(object, reason));
        }
        let described = listed
            .layers
            .par_iter()
            .zip(config.diff_ids())
            .map(|(layer, diff_id)| self.describe(layer, diff_id))
            .collect::<Result<Vec<_>>>()?;
        let config_descriptor = Descriptor::of(media_type::CONFIG, &config_bytes);
        self.blobs.insert(config_descriptor.digest, listed.config.clone());
        self.blobs.extend(described.iter().map(|layer| layer.digest).zip(listed.layers));
        let manifest = Manifest { config: config_descriptor, layers: described, annotations: BTreeMap::new() };
        let manifest_bytes = manifest.to_bytes();
        let descriptor = Descriptor::of(media_type::MANIFEST, &manifest_bytes);
        let oddities = self.members.oddities();
        let image = StoredImage::assemble(Arc::new(self), descriptor, manifest_bytes, config_bytes, platform, &object)?;
        Ok(StoredImage { oddities, ..image })
    }

    fn choose(&self, name: Option<&str>) -> Result<&Listed> {
        let object = self.members.object();
        let known = || {
            let names: Vec<String> = self.images.iter().flat_map(|image| image.names.clone()).take(20).collect();
            if names.is_empty() {
                "they have no names; use @0, @1, …".to_owned()
            } else {
                format!("it holds {}", names.join(", "))
            }
        };
        let found = match name {
            None => match &self.images[..] {
                [] => return Err(Error::invalid(object, "holds no image")),
                [only] => Some(only),
                _ => return Err(Error::usage(object, "holds several images, name one").hint(known())),
            },
            Some(name) => match name.strip_prefix('@') {
                Some(place) => place.parse::<usize>().ok().and_then(|place| self.images.get(place)),
                None => self.images.iter().find(|image| image.names.iter().any(|listed| same_name(listed, name))),
            },
        };
        let missing =
            || Error::new(crate::ErrorKind::NotFound, object, format!("no image `{}`", name.unwrap_or_default()));
        found.ok_or_else(|| missing().hint(known()))
    }

    /// Hashes a layer as it is stored and as the tar that it holds.
    fn describe(&self, member: &str, diff_id: &DiffId) -> Result<Descriptor> {
        let object = format!("{}: {member}", self.members.object());
        let (mut section, size) = self.members.member(member)?;
        let mut start = [0; 4];
        let read = section.read(&mut start).map_err(|error| Error::io(&object, "read", error))?;
        let encoding = Encoding::of_bytes(&start[..read]);
        let whole: Chain<Cursor<Vec<u8>>, _> = Cursor::new(start[..read].to_vec()).chain(section);

        let mut stored = Hashing::new(whole, Algorithm::Sha256);
        let mut tar = Hasher::new(diff_id.as_digest().algorithm());
        {
            let mut content = decode(&mut stored, encoding).map_err(|error| Error::io(&object, "read", error))?;
            let mut buffer = vec![0; 128 << 10];
            loop {
                match content.read(&mut buffer).map_err(|error| Error::io(&object, "read", error).within(&object))? {
                    0 => break,
                    read => tar.update(&buffer[..read]),
                }
            }
        }
        // What a decoder leaves unread is still part of the blob.
        let (digest, _) = stored.finish().map_err(|error| Error::io(&object, "read", error))?;
        if tar.finish() != diff_id.as_digest() {
            return Err(Error::corrupt(object, format!("is not the layer {diff_id} of the config")));
        }
        Ok(Descriptor::new(media_type::of_layer(encoding), digest, size))
    }
}

impl BlobSource for DockerArchive {
    fn open(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send + '_>> {
        let missing =
            || Error::new(crate::ErrorKind::NotFound, self.members.object(), format!("no blob {}", descriptor.digest));
        let member = self.blobs.get(&descriptor.digest).ok_or_else(missing)?;
        let (section, _) = self.members.member(member)?;
        Ok(Box::new(section))
    }
}

impl Listed {
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
        Ok(Listed { config: config.to_owned(), layers: strings("Layers")?, names: strings("RepoTags")? })
    }
}

/// Names are the same when they mean the same: `debian:12` is `docker.io/library/debian:12`.
fn same_name(listed: &str, wanted: &str) -> bool {
    let normal = |name: &str| {
        name.parse::<Reference>()
            .ok()
            .map(|name| (name.registry().to_owned(), name.repository().to_owned(), name.tag_or_latest()))
    };
    listed == wanted || normal(listed).is_some_and(|listed| Some(listed) == normal(wanted))
}
