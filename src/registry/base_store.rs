//! The store of pulled base images: one image layout that all builds share.
//!
//! ```text
//! bases/                        an image layout (see `layout`)
//!   index.json
//!     io.containerd.image.name           docker.io/library/debian:stable-slim@sha256:…
//!     org.opencontainers.image.ref.name  docker.io/library/debian:stable-slim+linux/amd64
//! ```
//!
//! The full name contains the digest that the registry returned for the tag, of an index or of a manifest. The entry describes
//! the manifest that was chosen for a platform. Each image has a second entry with that digest alone, so that a pin still finds
//! it after the tag has moved.
//!
//! A tag that was resolved by a mirror is valid for that mirror only, so the mirror's repository follows the platform:
//! `docker.io/library/debian:stable-slim+linux/amd64+mirror.example/library/debian`.

use crate::common::digest::Digest;
use crate::common::error::Result;
use crate::common::progress::Progress;
use crate::common::root::{Root, WriteCheck};
use crate::registry::Repository;
use crate::spec::reference::Reference;
use crate::spec::{CONTAINERD_NAME, Descriptor, Platform, REF_NAME, media_type};
use crate::store::{BASES, BlobSink as _, ImageName, Layout, StoredImage, TransferStats, VerifiedFiles, copy};
use std::sync::Arc;

/// The store of base images on this machine.
#[derive(Debug)]
pub struct BaseStore {
    layout: Arc<Layout>,
}

/// A base image in the store.
#[derive(Debug, Clone)]
pub struct StoredBase {
    /// The image.
    pub image: StoredImage,
    /// The digest to which its name was resolved: that of an index, or of the manifest itself.
    pub named: Digest,
    /// The mirror that resolved the tag; `None` if the registry itself did, or a digest was given.
    pub mirror: Option<Reference>,
}

/// The accepted sources of a tag's digest. A digest names the same content everywhere.
#[derive(Debug, Clone, Copy)]
pub enum Meanings<'p> {
    /// The first of these repositories that has resolved the tag.
    Of(&'p [Reference]),
    /// The registry itself if it has resolved the tag, else any mirror.
    Any,
}

impl Meanings<'_> {
    /// Returns the rank of a tag of `reference` that `mirror`, or the registry itself, has resolved; the lowest is preferred.
    fn rank(&self, mirror: Option<&Reference>, reference: &Reference) -> Option<usize> {
        match self {
            Meanings::Of(places) => {
                let place = mirror.unwrap_or(reference);
                places.iter().position(|known| known.same_repository(place))
            }
            Meanings::Any => Some(usize::from(mirror.is_some())),
        }
    }
}

/// The result of a pull.
#[derive(Debug)]
pub struct Pulled {
    /// The image, now in the store.
    pub base: StoredBase,
    /// The previous digest of the tag, if it has changed.
    pub before: Option<Digest>,
    /// The blobs that were transferred.
    pub moved: TransferStats,
}

impl BaseStore {
    /// Opens the store in the cache directory `directory`, and creates it if it is missing or unreadable.
    ///
    /// Blobs that `memory` has recorded as verified are not read again. `check` is what is known of a new one before it gets its name.
    ///
    /// # Errors
    /// Fails as [`Layout::kept`] does.
    pub fn create(
        directory: &Root,
        memory: Option<VerifiedFiles>,
        check: WriteCheck,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let layout = Layout::kept(directory, BASES, progress)?.checking(check);
        let layout = match memory {
            Some(memory) => layout.with_verification_cache(memory),
            None => layout,
        };
        Ok(BaseStore { layout: Arc::new(layout) })
    }

    /// Returns the default platform of multi-platform images. It is the same on every host, since the platform determines the
    /// bytes of the built image.
    pub fn default_platform() -> Platform {
        Platform::linux_amd64()
    }

    /// Finds the complete image that `reference` named when it was pulled. A pin is found by its digest, whatever its tag.
    ///
    /// # Errors
    /// Fails if the index of the store cannot be read.
    pub fn find(
        &self,
        reference: &Reference,
        platform: Option<&Platform>,
        meanings: Meanings<'_>,
    ) -> Result<Option<StoredBase>> {
        let index = self.layout.index()?;
        let mut found: Option<(usize, StoredBase)> = None;
        for listed in index.manifests() {
            let Some(BaseName { name, digest: named, mirror }) = name_of(listed) else { continue };
            let rank = match reference.digest() {
                Some(pin) => (name.same_repository(reference) && (named == pin || listed.digest == pin)).then_some(0),
                None if name.same_repository(reference) && name.tag() == Some(&reference.tag_or_latest()) => {
                    meanings.rank(mirror.as_ref(), reference)
                }
                None => None,
            };
            let Some(rank) = rank.filter(|rank| found.as_ref().is_none_or(|(best, _)| rank < best)) else { continue };
            if is_for(listed, named, reference.digest(), platform) {
                let start = Descriptor::new(&listed.media_type, listed.digest, listed.size);
                let object = reference.to_string();
                // Missing and damaged blobs are fetched again.
                let Ok(image) = StoredImage::open(self.layout.clone(), &start, platform, &object) else { continue };
                if image.manifest.layers.iter().all(|layer| self.layout.contains(layer).unwrap_or(false)) {
                    let mirror = mirror.filter(|_| reference.digest().is_none());
                    found = Some((rank, StoredBase { image, named, mirror }));
                }
            }
        }
        Ok(found.map(|(_, base)| base))
    }

    /// Copies the image of `source` into the store, under `reference`, if `accept` accepts it. No layer is fetched before.
    ///
    /// `source` is another name of the image if it is pulled from a mirror. An existing blob is verified, unless the store has
    /// a record of it.
    ///
    /// # Errors
    /// Fails if the registry cannot be reached or has no such image, `accept` refuses it, a blob does not match its digest, or
    /// the store cannot be written.
    pub fn pull(
        &self,
        source: &Arc<Repository>,
        reference: &Reference,
        platform: Option<&Platform>,
        accept: &dyn Fn(&StoredImage) -> Result<()>,
        progress: &dyn Progress,
    ) -> Result<Pulled> {
        let start = source.resolve()?;
        let image = BaseStore::choose(source, &start, platform, &reference.to_string())?;
        accept(&image)?;
        let named = start.digest;
        let place = source.reference();
        let before = self.find(reference, platform, Meanings::Of(std::slice::from_ref(place)))?;
        let before = before.map(|base| base.named).filter(|before| *before != named);
        let mirror = (!place.same_repository(reference)).then(|| place.clone().without_tag().without_digest());
        let names = names(reference, named, image.config.platform(), mirror.as_ref());
        let moved = copy(&image, &*self.layout, &names, progress)?;
        self.layout.warn_of_repairs(progress);
        let image = StoredImage { source: self.layout.clone(), ..image };
        Ok(Pulled { base: StoredBase { image, named, mirror }, before, moved })
    }

    /// Returns the image in the store if `source` still resolves the tag of `reference` to it.
    ///
    /// # Errors
    /// Fails if the registry cannot be reached, or the index of the store cannot be read.
    pub fn current(
        &self,
        source: &Repository,
        reference: &Reference,
        platform: Option<&Platform>,
    ) -> Result<Option<StoredBase>> {
        let place = std::slice::from_ref(source.reference());
        let Some(base) = self.find(reference, platform, Meanings::Of(place))? else { return Ok(None) };
        let start = source.resolve()?;
        Ok((start.digest == base.named).then_some(base))
    }

    /// Opens the image that `start` refers to in a registry, for `platform` or the default one.
    ///
    /// # Errors
    /// Fails as [`StoredImage::open`] does.
    pub fn choose(
        source: &Arc<Repository>,
        start: &Descriptor,
        platform: Option<&Platform>,
        object: &str,
    ) -> Result<StoredImage> {
        let default = BaseStore::default_platform();
        let platform = platform.or(media_type::is_index(&start.media_type).then_some(&default));
        StoredImage::open(source.clone(), start, platform, object)
    }
}

/// The parsed name of an entry.
struct BaseName {
    name: Reference,
    /// The digest to which the name was resolved.
    digest: Digest,
    /// The mirror that resolved it, if it was not the registry itself.
    mirror: Option<Reference>,
}

fn name_of(listed: &Descriptor) -> Option<BaseName> {
    let name: Reference = listed.annotations.get(CONTAINERD_NAME)?.parse().ok()?;
    let mirror = match listed.annotations.get(REF_NAME)?.split('+').nth(2) {
        // A name that cannot be parsed must not make a mirror's digest count as the registry's.
        Some(noted) => Some(noted.parse().ok()?),
        None => None,
    };
    Some(BaseName { digest: name.digest()?, name, mirror })
}

/// Returns whether the entry is for `platform`, or for the default platform if the image was chosen from an index.
fn is_for(listed: &Descriptor, named: Digest, pin: Option<Digest>, platform: Option<&Platform>) -> bool {
    let default = BaseStore::default_platform();
    let came_from_index = named != listed.digest && pin != Some(listed.digest);
    match platform.or(came_from_index.then_some(&default)) {
        Some(wanted) => listed.platform.as_ref().is_some_and(|platform| platform.satisfies(wanted)),
        None => true,
    }
}

/// Returns the names of an image in the store: its tag, if it was pulled by one, with the mirror that resolved it; and the
/// digest alone.
fn names(reference: &Reference, named: Digest, platform: &Platform, mirror: Option<&Reference>) -> Vec<ImageName> {
    let pin = reference.clone().without_tag().with_digest(named);
    let by_digest = ImageName::of_layout(&format!("{pin}+{platform}"), Some(&pin.to_string()));
    if reference.digest().is_some() {
        return vec![by_digest];
    }
    let tagged = reference.clone().with_tag(reference.tag_or_latest());
    let full = tagged.clone().with_digest(named).to_string();
    let mirror = mirror.map(|mirror| format!("+{mirror}")).unwrap_or_default();
    vec![ImageName::of_layout(&format!("{tagged}+{platform}{mirror}"), Some(&full)), by_digest]
}
