//! Layers that were made elsewhere, in repositories of registries.
//!
//! What is shared is a group: the layers that belong to one environment. A group has one tag, which follows from its key, so
//! that looking it up is one request, and builds that share different groups do not meet. Two that share the same one write
//! the same.
//!
//! Whoever may write to a repository chooses what is in the layers that are taken from it, so only repositories that the
//! person names are asked. What they say is held against itself: the manifest against the digest that the registry claims, the
//! config against the manifest, the blob against both when it is fetched, and then also its tar against the diff ID, and every
//! entry against the places that such a layer has in an image. Whatever is wrong is warned about, and the layer is made as if it
//! were not shared.

use super::LayerKey;
use super::artifact::{self, Documents, Manifest, SharedLayer};
use super::examined::Examined;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::progress::{Activity, Progress, warn};
use crate::reference::{Reference, Tag};
use crate::spec::Descriptor;
use crate::store::registry::Repository;
use crate::store::{BlobSink, BlobSource, Layout, Moved, copy_blobs, read_document};
use crate::tree::ImagePath;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Cursor;
use std::sync::{Arc, Mutex, PoisonError};

/// What tags begin with where the person does not say.
const PREFIX: &str = "ocibuild-cache";

/// The largest description of a group that is read, in bytes.
const LARGEST_CONFIG: u64 = 1 << 20;

/// A repository, and what the tags of shared groups begin with there.
#[derive(Debug, Clone)]
pub struct CachePlace {
    repository: Arc<Repository>,
    prefix: String,
}

/// Layers in repositories that the person trusts.
pub struct SharedCache {
    places: Vec<CachePlace>,
    progress: Arc<dyn Progress + Send>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    groups: BTreeMap<LayerKey, Option<Arc<Group>>>,
    /// Places that could not be asked, by their number, and are not asked again.
    silent: BTreeSet<usize>,
}

/// A group that was found.
#[derive(Debug)]
struct Group {
    place: CachePlace,
    manifest: Digest,
    layers: Vec<SharedLayer>,
}

/// A layer that was found, and where it is.
#[derive(Debug, Clone)]
pub struct SharedFind {
    /// The layer.
    pub shared: SharedLayer,
    /// The repository that has it.
    pub repository: Arc<Repository>,
}

/// What came of sharing a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Published {
    /// It was there already.
    Unchanged,
    /// It is there now.
    Written(Moved),
}

impl CachePlace {
    /// Shares in `repository`. The tag of its reference, if it has one, is what tags begin with.
    ///
    /// # Errors
    /// When that is too long for tags to begin with, or the reference has a digest.
    pub fn new(repository: Arc<Repository>) -> Result<CachePlace> {
        let prefix = CachePlace::prefix(repository.reference())?;
        Ok(CachePlace { repository, prefix })
    }

    /// What tags begin with in the place that `reference` names.
    ///
    /// # Errors
    /// As [`CachePlace::new`].
    pub fn prefix(reference: &Reference) -> Result<String> {
        if reference.digest().is_some() {
            return Err(Error::usage(reference.to_string(), "a cache has no digest"));
        }
        let prefix = reference.tag().map_or(PREFIX, Tag::as_str).to_owned();
        let longest = format!("{prefix}-{}", Digest::of(b"").hex());
        match longest.parse::<Tag>() {
            Ok(_) => Ok(prefix),
            Err(_) => Err(Error::usage(reference.to_string(), "the tag is too long for others to begin with it")),
        }
    }

    /// What messages call the place.
    pub fn name(&self) -> String {
        let reference = self.repository.reference();
        format!("docker://{}/{}", reference.registry(), reference.repository())
    }

    /// Whether this is in the repository that `name` names.
    pub fn is_at(&self, name: &Reference) -> bool {
        self.repository.reference().is_beside(name)
    }

    fn tag(&self, group: &LayerKey) -> Result<Tag> {
        format!("{}-{}", self.prefix, group.hex()).parse()
    }

    /// Fetches a group. Nothing where there is none of the key.
    fn fetch(&self, group: &LayerKey) -> Result<Option<Group>> {
        let tag = self.tag(group)?;
        let object = format!("{}:{tag}", self.name());
        let document = match self.repository.tagged(&tag) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            document => document?,
        };
        let manifest = Manifest::read(&document.bytes, &object)?;
        let layers = match &manifest.config_bytes {
            Some(bytes) => manifest.layers(bytes, group, &object)?,
            None => {
                let bytes = read_document(&*self.repository, &manifest.config, LARGEST_CONFIG)?;
                manifest.layers(&bytes, group, &object)?
            }
        };
        Ok(Some(Group { place: self.clone(), manifest: document.descriptor.digest, layers }))
    }
}

impl SharedCache {
    /// Takes layers from `places`, which are asked in order.
    pub fn new(places: Vec<CachePlace>, progress: Arc<dyn Progress + Send>) -> SharedCache {
        SharedCache { places, progress, known: Mutex::default() }
    }

    /// The layer of `key`, if it is shared as a part of `group`.
    pub fn find(&self, group: &LayerKey, key: &LayerKey) -> Option<SharedFind> {
        let group = self.group(group)?;
        let shared = group.layers.iter().find(|shared| shared.keys.contains(key))?.clone();
        Some(SharedFind { shared, repository: group.place.repository.clone() })
    }

    /// The group of a key. Each is asked for once.
    fn group(&self, key: &LayerKey) -> Option<Arc<Group>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(group) = known.groups.get(key) {
            return group.clone();
        }
        let mut found = None;
        for (number, place) in self.places.iter().enumerate() {
            if known.silent.contains(&number) {
                continue;
            }
            match place.fetch(key) {
                Ok(Some(group)) => {
                    found = Some(Arc::new(group));
                    break;
                }
                Ok(None) => {}
                Err(error) => {
                    // What could be reached and says nonsense may know other groups.
                    if !matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Corrupt) {
                        known.silent.insert(number);
                    }
                    warn(&*self.progress, &error.object(), &format!("{}; building without this cache", error.reason()));
                }
            }
        }
        known.groups.insert(*key, found.clone());
        found
    }

    /// Shares `layers` as `group` in `place`. Their blobs come from `source`.
    ///
    /// # Errors
    /// When a blob cannot be read, or the registry does not take what it is given.
    pub fn publish(
        &self,
        place: &CachePlace,
        group: &LayerKey,
        layers: &[SharedLayer],
        source: &dyn BlobSource,
    ) -> Result<Published> {
        let Documents { config, config_bytes, manifest, manifest_bytes } = artifact::documents(group, layers);
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).groups.get(group).cloned().flatten();
        let is_there = |known: &Arc<Group>| {
            known.manifest == manifest.digest
                && (known.place.name(), &known.place.prefix) == (place.name(), &place.prefix)
        };
        if known.as_ref().is_some_and(is_there) {
            return Ok(Published::Unchanged);
        }
        let blobs: Vec<Descriptor> = layers.iter().map(|shared| shared.layer.descriptor.clone()).collect();
        let mut moved = copy_blobs(source, &blobs, &*place.repository, &self.progress)?;
        if !place.repository.contains(&config)? {
            place.repository.put(&config, &|| Ok(Box::new(Cursor::new(&config_bytes[..]))))?;
            moved.add(Moved { copied: 1, copied_bytes: config.size, ..Moved::default() });
        }
        place.repository.put_tagged(&place.tag(group)?, &manifest, &manifest_bytes)?;
        Ok(Published::Written(moved))
    }
}

impl SharedFind {
    /// Brings the layer into `layout`. While it arrives it is verified and examined: everything in it has to lie below `roots`.
    ///
    /// # Errors
    /// When it cannot be fetched, is not what was said of it, holds what it must not, or cannot be written.
    pub fn fetch(&self, layout: &Layout, roots: &[ImagePath], progress: &dyn Progress) -> Result<()> {
        let SharedLayer { layer, .. } = &self.shared;
        let examined = Examined::new(&*self.repository, layer, roots);
        copy_blobs(&examined, std::slice::from_ref(&layer.descriptor), layout, progress)?;
        if !examined.has_passed() {
            // It was here already, perhaps for another reason.
            let examined = Examined::new(layout, layer, roots);
            let mut reader = examined.open(&layer.descriptor)?;
            std::io::copy(&mut reader, &mut std::io::sink())
                .map_err(|error| Error::io(format!("blob {}", layer.descriptor.digest), "read", error))?;
        }
        Ok(())
    }

    /// Requires that the layer is where it is said to be, without fetching it.
    ///
    /// # Errors
    /// When it is not, or the registry cannot be asked.
    pub fn check(&self, progress: &dyn Progress) -> Result<()> {
        let Descriptor { digest, .. } = self.shared.layer.descriptor;
        let activity = Activity::start(progress, &format!("layer {digest}"), None);
        let name = self.repository.reference().clone().without_tag();
        if !self.repository.offers(&self.shared.layer.descriptor)? {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("{name}: blob {digest}"),
                "missing, or of another size",
            ));
        }
        activity.finish(&format!("left in {name}"));
        Ok(())
    }
}

impl std::fmt::Debug for SharedCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedCache").field("places", &self.places).finish_non_exhaustive()
    }
}
