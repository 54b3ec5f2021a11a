//! Layers from other machines, in repositories of registries.
//!
//! The unit of sharing is a group: the layers of one environment. A group has one tag, which follows from its key, so that a
//! look-up takes one request, and builds of different groups do not conflict. Builds of the same group write the same content.
//!
//! Anyone with write access to a repository controls the content of its layers, so only repositories that the user names are
//! used. Everything is verified: the manifest against the digest that the registry reports, the config against the manifest,
//! the downloaded blob against both, its tar against the diff ID, and every entry against the paths that such a layer may have
//! in an image. Any mismatch is a warning, and the layer is built as if it were not shared.
//!
//! Beside the groups there is one tag for the blocks of all layers with one compression (`shared_block_lists`).

use super::shared_block_lists::{self, LayerBlocks};
use super::{LayerKey, keys};
use crate::cache::shared_artifact;
use crate::cache::shared_artifact::{ArtifactDocuments, CONFIG_TYPE, CacheManifest, SharedLayer};
use crate::cache::shared_layer_check::Examined;
use crate::codec::compression::Compression;
use crate::common::digest::Digest;
use crate::common::error::{Error, ErrorKind, Result};
use crate::common::progress::{Activity, Progress, warn};
use crate::registry::Repository;
use crate::spec::Descriptor;
use crate::spec::ImagePath;
use crate::spec::reference::{Reference, Tag};
use crate::store::{BlobSink, BlobSource, Layout, TransferStats, copy_blobs, read_document};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Cursor;
use std::sync::{Arc, Mutex, PoisonError};

/// The default prefix of tags.
const PREFIX: &str = "ocibuild-cache";

/// The maximum size of a group's config, in bytes.
const LARGEST_CONFIG: u64 = 1 << 20;

/// A repository, and the prefix of the tags of its groups.
#[derive(Debug, Clone)]
pub struct CachePlace {
    repository: Arc<Repository>,
    prefix: String,
}

/// Shared layers in repositories that the user trusts.
pub struct SharedCache {
    places: Vec<CachePlace>,
    progress: Arc<dyn Progress + Send>,
    known: Mutex<KnownLayer>,
}

#[derive(Default)]
struct KnownLayer {
    groups: BTreeMap<LayerKey, Option<Arc<CacheGroup>>>,
    /// Places that could not be reached, by their number. They are not tried again.
    silent: BTreeSet<usize>,
}

/// A group that was found.
#[derive(Debug)]
struct CacheGroup {
    place: CachePlace,
    manifest: Digest,
    layers: Vec<SharedLayer>,
}

/// An artifact that was found.
struct FoundArtifact {
    /// Its name in messages.
    object: String,
    /// The digest of its manifest.
    digest: Digest,
    manifest: CacheManifest,
    config: Vec<u8>,
}

/// A shared layer, and its repository.
#[derive(Debug, Clone)]
pub struct SharedFind {
    /// The layer.
    pub shared: SharedLayer,
    /// The repository of the layer.
    pub repository: Arc<Repository>,
}

/// The result of publishing a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Published {
    /// The group existed already.
    Unchanged,
    /// The group was uploaded.
    Written(TransferStats),
}

impl CachePlace {
    /// Creates a place for groups in `repository`. The tag of its reference, if any, is the prefix of the groups' tags.
    ///
    /// # Errors
    /// Returns an error if the tag is too long for a prefix, or the reference has a digest.
    pub fn new(repository: Arc<Repository>) -> Result<CachePlace> {
        let prefix = CachePlace::prefix(repository.reference())?;
        Ok(CachePlace { repository, prefix })
    }

    /// Returns the prefix of tags for the place that `reference` names.
    ///
    /// # Errors
    /// Fails as [`CachePlace::new`] does.
    pub fn prefix(reference: &Reference) -> Result<String> {
        if reference.digest().is_some() {
            return Err(Error::usage(reference.to_string(), "a cache has no digest"));
        }
        let prefix = reference.tag().map_or(PREFIX, Tag::as_str).to_owned();
        let longest = format!("{prefix}-{}", Digest::of(b"").hex());
        match longest.parse::<Tag>() {
            Ok(_) => Ok(prefix),
            Err(_) => Err(Error::usage(reference.to_string(), "the tag is too long for a prefix")),
        }
    }

    /// Returns the name of the place in messages.
    pub fn name(&self) -> String {
        let reference = self.repository.reference();
        format!("docker://{}/{}", reference.registry(), reference.repository())
    }

    /// Returns whether this place is in the repository that `name` names.
    pub fn is_at(&self, name: &Reference) -> bool {
        self.repository.reference().same_repository(name)
    }

    fn tag(&self, group: &LayerKey) -> Result<Tag> {
        format!("{}-{}", self.prefix, group.hex()).parse()
    }

    fn blocks_tag(&self, compression: Compression) -> Result<Tag> {
        format!("{}-{}", self.prefix, keys::block_format(compression).hex()).parse()
    }

    /// Fetches a group. Returns `None` if it does not exist.
    fn fetch(&self, group: &LayerKey) -> Result<Option<CacheGroup>> {
        let tag = self.tag(group)?;
        let Some(found) = self.artifact(&tag, CONFIG_TYPE)? else { return Ok(None) };
        let layers = found.manifest.layers(&found.config, group, &found.object)?;
        Ok(Some(CacheGroup { place: self.clone(), manifest: found.digest, layers }))
    }

    /// Fetches the blocks of the layers that are shared here. Returns `None` if there are none.
    fn block_lists(&self, compression: Compression) -> Result<Option<Vec<LayerBlocks>>> {
        let tag = self.blocks_tag(compression)?;
        let Some(found) = self.artifact(&tag, shared_block_lists::CONFIG_TYPE)? else { return Ok(None) };
        shared_block_lists::read(&found.config, found.manifest.layers, compression, &found.object).map(Some)
    }

    /// Fetches the artifact of a tag, with its config. Returns `None` if it does not exist.
    fn artifact(&self, tag: &Tag, config_type: &str) -> Result<Option<FoundArtifact>> {
        let object = format!("{}:{tag}", self.name());
        let document = match self.repository.tagged(tag) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            document => document?,
        };
        let mut manifest = CacheManifest::read(&document.bytes, config_type, &object)?;
        let config = match manifest.config_bytes.take() {
            Some(bytes) => bytes,
            None => read_document(&*self.repository, &manifest.config, LARGEST_CONFIG)?,
        };
        Ok(Some(FoundArtifact { object, digest: document.descriptor.digest, manifest, config }))
    }

    /// Stores the documents of an artifact whose blobs are there.
    fn put_documents(&self, tag: &Tag, documents: &ArtifactDocuments) -> Result<TransferStats> {
        let ArtifactDocuments { config, config_bytes, manifest, manifest_bytes } = documents;
        let mut moved = TransferStats::default();
        if !self.repository.contains(config)? {
            self.repository.put(config, &|| Ok(Box::new(Cursor::new(&config_bytes[..]))))?;
            moved.add(TransferStats { copied: 1, copied_bytes: config.size, ..TransferStats::default() });
        }
        self.repository.put_tagged(tag, manifest, manifest_bytes)?;
        Ok(moved)
    }

    /// Returns the repository.
    pub(super) fn repository(&self) -> &Repository {
        &self.repository
    }
}

impl SharedCache {
    /// Creates a cache of `places`, which are searched in order.
    pub fn new(places: Vec<CachePlace>, progress: Arc<dyn Progress + Send>) -> SharedCache {
        SharedCache { places, progress, known: Mutex::default() }
    }

    /// Finds the layer of `key`, if `group` is shared and contains it.
    pub fn find(&self, group: &LayerKey, key: &LayerKey) -> Option<SharedFind> {
        let group = self.group(group)?;
        let shared = group.layers.iter().find(|shared| shared.keys.contains(key))?.clone();
        Some(SharedFind { shared, repository: group.place.repository.clone() })
    }

    /// Returns the group of a key. Each group is fetched only once.
    fn group(&self, key: &LayerKey) -> Option<Arc<CacheGroup>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(group) = known.groups.get(key) {
            return group.clone();
        }
        let found = self.answers(&mut known.silent, |place| place.fetch(key)).next().map(Arc::new);
        known.groups.insert(*key, found.clone());
        found
    }

    /// Returns the blocks of the layers that are shared in any place.
    pub(super) fn block_lists(&self, compression: Compression) -> Vec<(&CachePlace, Vec<LayerBlocks>)> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let fetch = |place| Ok(CachePlace::block_lists(place, compression)?.map(|lists| (place, lists)));
        self.answers(&mut known.silent, fetch).collect()
    }

    pub(super) fn progress(&self) -> &dyn Progress {
        &*self.progress
    }

    /// Asks the places in order, except for the silent ones. A place that fails is a warning.
    fn answers<'s, T>(
        &'s self,
        silent: &mut BTreeSet<usize>,
        fetch: impl Fn(&'s CachePlace) -> Result<Option<T>>,
    ) -> impl Iterator<Item = T> {
        self.places.iter().enumerate().filter_map(move |(number, place)| {
            if silent.contains(&number) {
                return None;
            }
            fetch(place).unwrap_or_else(|error| {
                // A place with an invalid response can be reached, and may have valid groups.
                if !matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Corrupt) {
                    silent.insert(number);
                }
                warn(&*self.progress, &error.object(), &format!("{}; building without this cache", error.reason()));
                None
            })
        })
    }

    /// Uploads `layers` as `group` to `place`. Their blobs come from `source`.
    ///
    /// # Errors
    /// Fails if a blob cannot be read, or the registry refuses a blob or document.
    pub fn publish(
        &self,
        place: &CachePlace,
        group: &LayerKey,
        layers: &[SharedLayer],
        source: &dyn BlobSource,
    ) -> Result<Published> {
        let documents = shared_artifact::documents(group, layers);
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).groups.get(group).cloned().flatten();
        let is_there = |known: &Arc<CacheGroup>| {
            known.manifest == documents.manifest.digest
                && (known.place.name(), &known.place.prefix) == (place.name(), &place.prefix)
        };
        if known.as_ref().is_some_and(is_there) {
            return Ok(Published::Unchanged);
        }
        let blobs: Vec<Descriptor> = layers.iter().map(|shared| shared.layer.descriptor.clone()).collect();
        let mut moved = copy_blobs(source, &blobs, &*place.repository, &self.progress)?;
        moved.add(place.put_documents(&place.tag(group)?, &documents)?);
        Ok(Published::Written(moved))
    }

    /// Uploads those of `layers`, made with `compression`, for which there is room to `place`, so that builds on other machines
    /// reuse their blocks. Their blobs come from `source`. Layers that others shared before stay there as far as there is room.
    ///
    /// # Errors
    /// Fails if a blob cannot be read, or the registry refuses a blob or document.
    pub fn publish_blocks(
        &self,
        place: &CachePlace,
        layers: &[LayerBlocks],
        compression: Compression,
        source: &dyn BlobSource,
    ) -> Result<Published> {
        let layers = shared_block_lists::with_room(layers);
        if layers.is_empty() {
            return Ok(Published::Unchanged);
        }
        let earlier = match place.block_lists(compression) {
            // What is there cannot be used, and is replaced.
            Err(error) if matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Corrupt) => Vec::new(),
            earlier => earlier?.unwrap_or_default(),
        };
        if layers.iter().all(|layer| earlier.contains(layer)) {
            return Ok(Published::Unchanged);
        }
        let blobs: Vec<Descriptor> = layers.iter().map(|layer| layer.descriptor.clone()).collect();
        let mut moved = copy_blobs(source, &blobs, &*place.repository, &self.progress)?;
        // The registry may have removed earlier blobs, and takes no manifest that names them then.
        let is_there = |layer: &&LayerBlocks| place.repository.contains(&layer.descriptor).unwrap_or(false);
        let both = layers.iter().copied().chain(earlier.iter().filter(is_there));
        let documents = shared_block_lists::documents(&shared_block_lists::with_room(both), compression);
        moved.add(place.put_documents(&place.blocks_tag(compression)?, &documents)?);
        Ok(Published::Written(moved))
    }
}

impl SharedFind {
    /// Downloads the layer into `layout`, and verifies it: all of its entries must be below `roots`.
    ///
    /// # Errors
    /// Fails if the layer cannot be downloaded, does not match its description, has forbidden entries, or cannot be written.
    pub fn fetch(&self, layout: &Layout, roots: &[ImagePath], progress: &dyn Progress) -> Result<()> {
        let SharedLayer { layer, .. } = &self.shared;
        let examined = Examined::new(&*self.repository, layer, roots);
        copy_blobs(&examined, std::slice::from_ref(&layer.descriptor), layout, progress)?;
        if !examined.has_passed() {
            // The layout had the blob already, perhaps from another source.
            let examined = Examined::new(layout, layer, roots);
            let mut reader = examined.open(&layer.descriptor)?;
            std::io::copy(&mut reader, &mut std::io::sink())
                .map_err(|error| Error::io(format!("blob {}", layer.descriptor.digest), "read", error))?;
        }
        Ok(())
    }

    /// Checks that the repository has the layer, without downloading it.
    ///
    /// # Errors
    /// Fails if the layer is missing or has another size, or the registry cannot be reached.
    pub fn check(&self, progress: &dyn Progress) -> Result<()> {
        let Descriptor { digest, .. } = self.shared.layer.descriptor;
        let activity = Activity::start(progress, &format!("layer {digest}"), None);
        let name = self.repository.reference().clone().without_tag();
        if !self.repository.offers(&self.shared.layer.descriptor)? {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("{name}: blob {digest}"),
                "missing or of a different size",
            ));
        }
        activity.finish(&format!("not downloaded, in {name}"));
        Ok(())
    }
}

impl std::fmt::Debug for SharedCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedCache").field("places", &self.places).finish_non_exhaustive()
    }
}
