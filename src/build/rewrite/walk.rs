//! The way from a name to the images that change, through indexes, and back.

use super::ChangedImage;
use crate::common::digest::Digest;
use crate::common::error::{Error, ErrorKind, Result};
use crate::common::json;
use crate::common::limits::Limit;
use crate::spec::{Artifact, Descriptor, Index, Platform, media_type};
use crate::store::{BlobSource, RemoteLayers, StoredImage, read_document};
use std::sync::Arc;

/// The largest nesting depth of indexes.
const DEEPEST: usize = 4;

/// The maximum number of entries of indexes that are followed. Indexes may list each other many times.
const MOST_ENTRIES: usize = 1000;

/// Changes one image; `None` if it is already as it should be.
pub type Change<'c> = &'c dyn Fn(StoredImage) -> Result<Option<ChangedImage>>;

/// What a name leads to after the change of its images.
#[derive(Debug)]
pub struct Rewritten {
    /// The manifest or index before the change.
    pub before: Descriptor,
    /// The manifest or index after it. The same if nothing has changed.
    pub after: Descriptor,
    /// The images that were selected, in the order of the index.
    pub images: Vec<RewrittenImage>,
    /// The number of entries of indexes that are not images, such as attestations, and stay as they are.
    pub others: usize,
    /// The indexes that have changed, innermost first.
    pub(super) indexes: Vec<(Descriptor, Vec<u8>)>,
}

/// An image that was selected.
#[derive(Debug)]
pub struct RewrittenImage {
    /// The digest of its manifest before the change.
    pub before: Digest,
    /// The image after the change.
    pub image: StoredImage,
    /// The blobs of the changed image that it did not have before: its config, and perhaps layers.
    pub(super) new_blobs: Vec<Descriptor>,
    /// The layers that stay in a registry because of the change.
    pub left_out: RemoteLayers,
}

impl Rewritten {
    /// Returns whether anything has changed.
    pub fn is_changed(&self) -> bool {
        self.before.digest != self.after.digest
    }
}

/// Changes the image that `start` describes, or the images of the index that it describes: all of them, or the one for
/// `platform`. Nothing is written.
///
/// # Errors
/// Fails if a document is missing, damaged or malformed, there is no image for `platform`, `start` describes an artifact, or
/// `change` fails.
pub(super) fn rewrite(
    source: &Arc<dyn BlobSource>,
    start: &Descriptor,
    platform: Option<&Platform>,
    object: &str,
    change: Change<'_>,
) -> Result<Rewritten> {
    let mut walk =
        ImageWalk { source, platform, object, change, images: Vec::new(), indexes: Vec::new(), others: 0, seen: 0 };
    let after = walk.descend(start, 0)?;
    let ImageWalk { images, indexes, others, .. } = walk;
    if images.is_empty() {
        return Err(Error::new(ErrorKind::NotFound, object, "has no image"));
    }
    Ok(Rewritten { before: start.clone(), after, images, indexes, others })
}

struct ImageWalk<'w> {
    source: &'w Arc<dyn BlobSource>,
    platform: Option<&'w Platform>,
    object: &'w str,
    change: Change<'w>,
    images: Vec<RewrittenImage>,
    indexes: Vec<(Descriptor, Vec<u8>)>,
    others: usize,
    /// The number of entries so far.
    seen: usize,
}

impl ImageWalk<'_> {
    fn descend(&mut self, listed: &Descriptor, depth: usize) -> Result<Descriptor> {
        if media_type::is_index(&listed.media_type) {
            if depth == DEEPEST {
                return Err(Error::invalid(self.object, format!("nesting of indexes deeper than {DEEPEST}")));
            }
            return self.index(listed, depth);
        }
        self.check_no_artifact(listed)?;
        let image = StoredImage::open(self.source.clone(), listed, self.platform, self.object)?;
        self.image(image)
    }

    fn index(&mut self, listed: &Descriptor, depth: usize) -> Result<Descriptor> {
        let bytes = self.document(listed)?;
        let index = Index::read(&bytes, &listed.media_type, self.object)?;
        let chosen = match self.platform {
            Some(platform) => Some(index.choose(Some(platform), self.object)?.digest),
            None => None,
        };
        let mut document = index.document().clone();
        let mut is_changed = false;
        for (number, entry) in index.manifests().iter().enumerate() {
            if chosen.is_some_and(|chosen| chosen != entry.digest) {
                continue;
            }
            self.seen += 1;
            if self.seen > MOST_ENTRIES {
                return Err(Error::invalid(self.object, format!("refers to more than {MOST_ENTRIES} images")));
            }
            if chosen.is_none() && !self.is_image(entry)? {
                self.others += 1;
                continue;
            }
            let after = self.descend(entry, depth + 1)?;
            if after.digest != entry.digest {
                is_changed = true;
                let after = Descriptor { digest: after.digest, size: after.size, ..entry.clone() };
                after.replace_in(&mut document["manifests"][number]);
            }
        }
        if !is_changed {
            return Ok(listed.clone());
        }
        let bytes = json::canonical(&document);
        let after = Descriptor::of(&listed.media_type, &bytes);
        self.indexes.push((after.clone(), bytes));
        Ok(after)
    }

    fn image(&mut self, image: StoredImage) -> Result<Descriptor> {
        let before = image.clone();
        let Some(ChangedImage { image, left_out }) = (self.change)(image)? else {
            let after = before.descriptor.clone();
            let digest = after.digest;
            let left_out = RemoteLayers::default();
            self.images.push(RewrittenImage { before: digest, image: before, new_blobs: Vec::new(), left_out });
            return Ok(after);
        };
        let is_new = |blob: &&Descriptor| {
            let is_known = before.manifest.blobs().any(|known| known.digest == blob.digest);
            !is_known && left_out.repository(&blob.digest).is_none()
        };
        let new_blobs = image.manifest.blobs().filter(is_new).cloned().collect();
        let after = image.descriptor.clone();
        self.images.push(RewrittenImage { before: before.descriptor.digest, image, new_blobs, left_out });
        Ok(after)
    }

    fn document(&self, listed: &Descriptor) -> Result<Vec<u8>> {
        read_document(&**self.source, listed, Limit::DocumentSize).map_err(|error| {
            let is_missing = error.kind() == ErrorKind::NotFound;
            let error = error.within(self.object);
            if is_missing { error.hint("--platform selects one of the images that are there") } else { error }
        })
    }

    /// Returns whether an entry of an index is an image, or an index of images.
    fn is_image(&self, entry: &Descriptor) -> Result<bool> {
        if entry.platform.as_ref().is_some_and(Platform::is_unknown) || entry.artifact_type.is_some() {
            return Ok(false);
        }
        if media_type::is_index(&entry.media_type) {
            return Ok(true);
        }
        if !media_type::is_manifest(&entry.media_type) {
            return Ok(false);
        }
        let bytes = self.document(entry)?;
        Ok(Artifact::read(&bytes, &entry.media_type, self.object)?.is_none())
    }

    fn check_no_artifact(&self, listed: &Descriptor) -> Result<()> {
        if !media_type::is_manifest(&listed.media_type) {
            return Ok(());
        }
        let bytes = self.document(listed)?;
        match Artifact::read(&bytes, &listed.media_type, self.object)? {
            None => Ok(()),
            Some(artifact) => {
                let kind = match artifact.artifact_type.as_str() {
                    "" => "of an unknown type".to_owned(),
                    kind => format!("`{kind}`"),
                };
                Err(Error::invalid(self.object, format!("an artifact {kind}, not an image")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_keeps_what_is_not_selected() {
        let entry = serde_json::json!({"mediaType": "m", "digest": Digest::of(b"1").to_string(), "size": 1, "x": 1,
            "platform": {"os": "linux", "architecture": "amd64", "os.features": ["a"]}, "data": "MQ=="});
        let mut member = entry.clone();
        let before = Descriptor::read(&entry, "x").unwrap();
        let after = Descriptor { digest: Digest::of(b"2"), size: 2, ..before };
        after.replace_in(&mut member);
        assert_eq!((&member["x"], &member["size"]), (&serde_json::json!(1), &serde_json::json!(2)));
        assert_eq!(member["platform"], entry["platform"]);
        assert_eq!(member.get("data"), None);
    }
}
