//! Selection of an image in a layout by its name or digest, or as the only one.

use super::{BlobSource, read_document};
use crate::common::digest::Digest;
use crate::common::error::{Error, ErrorKind, Result};
use crate::common::limits::Limit;
use crate::spec::name::{ImageName, Selector};
use crate::spec::{Artifact, Descriptor, Index, Manifest, media_type};

/// The number of indexes that are opened for a digest that the layout does not list itself.
const MOST_INDEXES: usize = 1000;

/// The number of images to search for without a name: one more than an error lists.
const MOST_CANDIDATES: usize = 21;

/// The maximum number of blobs that an entry may refer to.
const MOST_BLOBS: usize = 100_000;

/// Returns the entry of `index` that `text` selects; without a text, the only image. Artifacts such as SBOMs are passed over
/// where nothing but their digest or name selects them, and a digest also finds the manifest of one platform inside of an
/// index.
pub(super) fn select(source: &dyn BlobSource, index: &Index, text: Option<&str>, object: &str) -> Result<Descriptor> {
    let Some(text) = text else {
        let images = index.manifests().iter().filter(|listed| !is_artifact(source, listed));
        let images: Vec<&Descriptor> = images.take(MOST_CANDIDATES).collect();
        return index.only(&images, None, object).cloned();
    };
    let selector = Selector::of(text);
    let candidates = index.select(&selector);
    if candidates.is_empty()
        && let Some(digest) = selector.digest
    {
        let named = selector.without_digest();
        if let Some(found) = find_inside(source, index.select(&named), digest)? {
            return Ok(found);
        }
    }
    index.only(&candidates, Some(text), object).cloned()
}

/// Returns the names of what [`select`] finds: those that `text` fits if there are such, else all of them.
pub(super) fn names(
    source: &dyn BlobSource,
    index: &Index,
    text: Option<&str>,
    object: &str,
) -> Result<Vec<ImageName>> {
    let start = select(source, index, text, object)?;
    let selector = Selector::of(text.unwrap_or_default());
    let is_it = |listed: &&Descriptor| listed.digest == start.digest;
    let (named, others): (Vec<_>, Vec<_>) =
        index.manifests().iter().filter(is_it).partition(|listed| selector.fits(&listed.annotations));
    let entries = if named.is_empty() { others } else { named };
    Ok(entries.into_iter().filter_map(|listed| ImageName::of_annotations(&listed.annotations)).collect())
}

/// Returns `true` if an entry is an artifact. One that cannot be read counts as an image, so that reading it says what is
/// wrong.
pub(super) fn is_artifact(source: &dyn BlobSource, listed: &Descriptor) -> bool {
    listed.artifact_type.is_some()
        || !is_plainly_image(listed) && artifact(source, listed).is_ok_and(|artifact| artifact.is_some())
}

/// Returns `true` if an entry is that of an image without its manifest being read: it has a name and a platform, as builds and
/// copies list an image, and without an artifact type. So finding the artifacts of one image does not read a whole layout of
/// thousands.
pub(super) fn is_plainly_image(listed: &Descriptor) -> bool {
    let is_named = listed.annotations.contains_key(crate::spec::REF_NAME);
    listed.artifact_type.is_none() && listed.platform.is_some() && is_named
}

/// A manifest about another one, as an index lists it.
#[derive(Debug, Clone)]
pub struct Referrer {
    /// Its entry.
    pub listed: Descriptor,
    /// The blobs that its manifest refers to, except for the subject.
    pub blobs: Vec<Descriptor>,
}

/// Returns the referrers of `subject` that `index` lists, and the referrers of these.
///
/// # Errors
/// Fails as [`artifact`].
pub(super) fn referrers(source: &dyn BlobSource, index: &Index, subject: Digest) -> Result<Vec<Referrer>> {
    let mut rest: Vec<(&Descriptor, Artifact)> = Vec::new();
    for listed in index.manifests().iter().filter(|listed| !is_plainly_image(listed)) {
        rest.extend(artifact(source, listed)?.map(|artifact| (listed, artifact)));
    }
    let (mut subjects, mut found) = (vec![subject], Vec::new());
    while let Some(subject) = subjects.pop() {
        let is_about = |(_, artifact): &(&Descriptor, Artifact)| {
            artifact.subject.as_ref().is_some_and(|about| about.digest == subject)
        };
        let (about, others) = rest.into_iter().partition::<Vec<_>, _>(is_about);
        for (listed, Artifact { blobs, .. }) in about {
            subjects.push(listed.digest);
            found.push(Referrer { listed: listed.clone(), blobs });
        }
        rest = others;
    }
    Ok(found)
}

/// Returns the artifact that `listed` describes, if it is one. A manifest that is missing, damaged or malformed is not.
///
/// # Errors
/// Fails if the system fails to read the manifest.
pub(super) fn artifact(source: &dyn BlobSource, listed: &Descriptor) -> Result<Option<Artifact>> {
    if media_type::is_index(&listed.media_type) {
        return Ok(None);
    }
    let read = read_document(source, listed, Limit::DocumentSize)
        .and_then(|bytes| Artifact::read(&bytes, &listed.media_type, "manifest"));
    match read {
        Err(error) if !error.is_of_the_content() => Err(error),
        read => Ok(read.ok().flatten()),
    }
}

/// What [`reachable`] does about a manifest that an index lists and that is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MissingPlatform {
    /// It fails.
    Fails,
    /// It is skipped: an index may be copied with only some of its platforms.
    Skipped,
}

/// Returns every blob that `listed` leads to, and last itself.
///
/// # Errors
/// Fails if a document on the way is missing, damaged or malformed, or indexes are nested without an end.
pub(super) fn reachable(
    source: &dyn BlobSource,
    listed: &Descriptor,
    missing: MissingPlatform,
    object: &str,
) -> Result<Vec<Descriptor>> {
    let (mut pending, mut found) = (vec![listed.clone()], Vec::new());
    while let Some(next) = pending.pop() {
        let is_index = media_type::is_index(&next.media_type);
        if media_type::refers_to_blobs(&next.media_type) {
            let bytes = match read_document(source, &next, Limit::DocumentSize) {
                Err(error)
                    if missing == MissingPlatform::Skipped
                        && error.kind() == ErrorKind::NotFound
                        && next.digest != listed.digest =>
                {
                    continue;
                }
                read => read.map_err(|error| error.within(object))?,
            };
            if is_index {
                pending.extend(Index::read(&bytes, &next.media_type, object)?.manifests().iter().cloned());
            } else if let Some(artifact) = Artifact::read(&bytes, &next.media_type, object)? {
                found.extend(artifact.blobs);
            } else {
                found.extend(Manifest::read(&bytes, &next.media_type, object)?.blobs().cloned());
            }
        }
        found.push(next);
        if found.len() + pending.len() > MOST_BLOBS {
            return Err(Error::invalid(object, format!("refers to more than {MOST_BLOBS} blobs")));
        }
    }
    Ok(found)
}

fn find_inside(source: &dyn BlobSource, entries: Vec<&Descriptor>, digest: Digest) -> Result<Option<Descriptor>> {
    let mut pending: Vec<Descriptor> = entries.into_iter().cloned().collect();
    for _ in 0..MOST_INDEXES {
        let Some(listed) = pending.pop() else { break };
        if listed.digest == digest {
            return Ok(Some(listed));
        }
        if media_type::is_index(&listed.media_type) {
            let inner = read_document(source, &listed, Limit::DocumentSize)
                .and_then(|bytes| Index::read(&bytes, &listed.media_type, "index"));
            match inner {
                Ok(inner) => pending.extend(inner.manifests().iter().cloned()),
                Err(error) if !error.is_of_the_content() => return Err(error),
                // A missing, damaged or malformed index leads to no image.
                Err(_) => {}
            }
        }
    }
    Ok(None)
}
