//! The base images that were pulled, kept for the next build: one image layout that all builds share.
//!
//! ```text
//! bases/                        an image layout (see `layout`)
//!   index.json
//!     io.containerd.image.name           docker.io/library/debian:stable-slim@sha256:…
//!     org.opencontainers.image.ref.name  docker.io/library/debian:stable-slim+linux/amd64
//! ```
//!
//! The full name tells what the registry answered to the tag: the digest of an index or of a manifest. What is listed is
//! the manifest that was chosen for a platform. Each image is listed a second time by that digest alone, so that a pin
//! still finds it when the tag has moved on.
//!
//! What a tag stands for at a mirror is known of the mirror only, so its repository stands behind the platform:
//! `docker.io/library/debian:stable-slim+linux/amd64+mirror.example/library/debian`.

use super::registry::Repository;
use super::{BASES, BlobSink as _, ImageName, Layout, Moved, StoredImage, VerifiedFiles, copy};
use crate::digest::Digest;
use crate::error::Result;
use crate::progress::Progress;
use crate::reference::Reference;
use crate::root::Root;
use crate::spec::{CONTAINERD_NAME, Descriptor, Platform, REF_NAME, media_type};
use std::sync::Arc;

/// Base images on this machine.
#[derive(Debug)]
pub struct BaseStore {
    layout: Arc<Layout>,
}

/// A base image in the store.
#[derive(Debug, Clone)]
pub struct StoredBase {
    /// The image.
    pub image: StoredImage,
    /// What its name stood for when it was pulled: the digest of an index, or of the manifest itself.
    pub named: Digest,
    /// The mirror at which the tag stood for that; nothing where the registry itself said so, or where a digest was asked for.
    pub mirror: Option<Reference>,
}

/// Where the meaning of a tag has to come from. What a digest names is the same everywhere.
#[derive(Debug, Clone, Copy)]
pub enum Meanings<'p> {
    /// From the first of these repositories that is known to have one.
    Of(&'p [Reference]),
    /// From the registry itself if its word is known, else from any mirror.
    Any,
}

impl Meanings<'_> {
    /// How much the word of `mirror`, or of the registry itself, counts for `reference`: the lower the more.
    fn rank(&self, mirror: Option<&Reference>, reference: &Reference) -> Option<usize> {
        match self {
            Meanings::Of(places) => {
                let place = mirror.unwrap_or(reference);
                places.iter().position(|known| known.is_beside(place))
            }
            Meanings::Any => Some(usize::from(mirror.is_some())),
        }
    }
}

/// What came of a pull.
#[derive(Debug)]
pub struct Pulled {
    /// The image, now in the store.
    pub base: StoredBase,
    /// What the tag stood for before, where that was something else.
    pub before: Option<Digest>,
    /// What was transferred.
    pub moved: Moved,
}

impl BaseStore {
    /// Opens the store in the cache directory `directory`, after making it where it is missing or cannot be read. Blobs that
    /// `memory` knows to be whole are not read again.
    ///
    /// # Errors
    /// As [`Layout::kept`].
    pub fn create(directory: &Root, memory: Option<VerifiedFiles>, progress: &dyn Progress) -> Result<Self> {
        let layout = Layout::kept(directory, BASES, progress)?;
        let layout = match memory {
            Some(memory) => layout.with_memory(memory),
            None => layout,
        };
        Ok(BaseStore { layout: Arc::new(layout) })
    }

    /// The platform that a reference means where it names images for several and the person names none. It is the same on
    /// every machine, since the platform decides the bytes of what is built.
    pub fn default_platform() -> Platform {
        Platform::linux_amd64()
    }

    /// Finds the image that `reference` named when it was pulled, if all of it is here. A pin is found by its digest,
    /// whatever its tag.
    ///
    /// # Errors
    /// When the index of the store cannot be read.
    pub fn find(
        &self,
        reference: &Reference,
        platform: Option<&Platform>,
        meanings: Meanings<'_>,
    ) -> Result<Option<StoredBase>> {
        let index = self.layout.index()?;
        let mut found: Option<(usize, StoredBase)> = None;
        for listed in index.manifests() {
            let Some(Named { name, digest: named, mirror }) = name_of(listed) else { continue };
            let rank = match reference.digest() {
                Some(pin) => (name.is_beside(reference) && (named == pin || listed.digest == pin)).then_some(0),
                None if name.is_beside(reference) && name.tag() == Some(&reference.tag_or_latest()) => {
                    meanings.rank(mirror.as_ref(), reference)
                }
                None => None,
            };
            let Some(rank) = rank.filter(|rank| found.as_ref().is_none_or(|(best, _)| rank < best)) else { continue };
            if is_for(listed, named, reference.digest(), platform) {
                let start = Descriptor::new(&listed.media_type, listed.digest, listed.size);
                let object = reference.to_string();
                // What is missing or damaged is fetched again.
                let Ok(image) = StoredImage::open(self.layout.clone(), &start, platform, &object) else { continue };
                if image.manifest.layers.iter().all(|layer| self.layout.contains(layer).unwrap_or(false)) {
                    let mirror = mirror.filter(|_| reference.digest().is_none());
                    found = Some((rank, StoredBase { image, named, mirror }));
                }
            }
        }
        Ok(found.map(|(_, base)| base))
    }

    /// Brings the image that `source` names into the store, under `reference`. `source` is another name of it where a
    /// mirror is asked. A blob that is here already is read and held against its digest, unless the store's memory knows
    /// it.
    ///
    /// # Errors
    /// When the registry cannot be asked or has no such image, a blob is not what its digest says, or the store cannot be
    /// written.
    pub fn pull(
        &self,
        source: &Arc<Repository>,
        reference: &Reference,
        platform: Option<&Platform>,
        progress: &dyn Progress,
    ) -> Result<Pulled> {
        let start = source.resolve()?;
        let image = BaseStore::choose(source, &start, platform, &reference.to_string())?;
        let named = start.digest;
        let place = source.reference();
        let before = self.find(reference, platform, Meanings::Of(std::slice::from_ref(place)))?;
        let before = before.map(|base| base.named).filter(|before| *before != named);
        let mirror = (!place.is_beside(reference)).then(|| place.clone().without_tag().without_digest());
        let names = names(reference, named, image.config.platform(), mirror.as_ref());
        let moved = copy(&image, &*self.layout, &names, progress)?;
        self.layout.warn_of_repairs(progress);
        let image = StoredImage { source: self.layout.clone(), ..image };
        Ok(Pulled { base: StoredBase { image, named, mirror }, before, moved })
    }

    /// The image in the store that the tag of `reference` still stands for, as `source` says.
    ///
    /// # Errors
    /// When the registry cannot be asked, or the index of the store cannot be read.
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

    /// Opens the image that `start` leads to in a registry, for `platform` or the default one.
    ///
    /// # Errors
    /// As [`StoredImage::open`].
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

/// What an entry says of its name.
struct Named {
    name: Reference,
    /// What it stood for.
    digest: Digest,
    /// Where that was learnt, if not at the registry itself.
    mirror: Option<Reference>,
}

fn name_of(listed: &Descriptor) -> Option<Named> {
    let name: Reference = listed.annotations.get(CONTAINERD_NAME)?.parse().ok()?;
    let mirror = match listed.annotations.get(REF_NAME)?.split('+').nth(2) {
        // A note that cannot be read must not make a mirror's word the registry's.
        Some(noted) => Some(noted.parse().ok()?),
        None => None,
    };
    Some(Named { digest: name.digest()?, name, mirror })
}

/// Whether the entry is what a person means who asks for `platform`.
fn is_for(listed: &Descriptor, named: Digest, pin: Option<Digest>, platform: Option<&Platform>) -> bool {
    let default = BaseStore::default_platform();
    let came_from_index = named != listed.digest && pin != Some(listed.digest);
    match platform.or(came_from_index.then_some(&default)) {
        Some(wanted) => listed.platform.as_ref().is_some_and(|platform| platform.satisfies(wanted)),
        None => true,
    }
}

/// What an image is listed as: by its tag, where it was asked for by one, with the mirror that said what it stands for; and by the
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
