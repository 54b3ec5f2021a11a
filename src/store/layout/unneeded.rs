//! What becomes unneeded when an image is no longer listed.

use super::Layout;
use crate::common::digest::Digest;
use crate::common::error::{Error, Result};
use crate::spec::{Descriptor, Replaced};
use crate::store::select_image::{MissingPlatform, reachable};
use std::collections::BTreeSet;

/// The most images of a layout in which a build counts what it leaves behind: their manifests are read for that, and those of
/// thousands take longer than a build.
const MOST_IMAGES: usize = 100;

impl Layout {
    /// Returns the size in bytes of the blobs in the layout that `images` need and no listed image does.
    ///
    /// # Errors
    /// Fails if a document is missing or damaged that says what is needed.
    pub fn unneeded_without(&self, images: &[Descriptor]) -> Result<u64> {
        let mut known = self.needed()?;
        images.iter().map(|image| self.unneeded_besides(&mut known, image)).sum()
    }

    /// Adds to each of `replaced` how much is unneeded without it, except in a layout of many images. What several of them needed
    /// counts for the first one.
    pub(super) fn with_unneeded(&self, mut replaced: Vec<Replaced>) -> Vec<Replaced> {
        if replaced.is_empty() || self.index().map_or(0, |index| index.manifests().len()) > MOST_IMAGES {
            return replaced;
        }
        // The image is committed. A document that cannot be read is an error of `gc`, which removes nothing then.
        let Ok(mut known) = self.needed() else { return replaced };
        for replaced in &mut replaced {
            replaced.unneeded = self.unneeded_besides(&mut known, &replaced.image).ok();
        }
        replaced
    }

    /// Returns the size of the blobs that `image` needs and that are not in `known`, and adds them.
    fn unneeded_besides(&self, known: &mut BTreeSet<Digest>, image: &Descriptor) -> Result<u64> {
        let mut bytes = 0;
        for blob in reachable(self, image, MissingPlatform::Skipped, &self.display())? {
            if known.insert(blob.digest) {
                bytes += self.size_of(&blob.digest)?;
            }
        }
        Ok(bytes)
    }

    /// Returns the size of a blob, or 0 if the layout does not have it.
    fn size_of(&self, digest: &Digest) -> Result<u64> {
        let Some(directory) = self.find_blob_directory(digest.algorithm())? else { return Ok(0) };
        match directory.dir().symlink_metadata(digest.hex()) {
            Ok(metadata) => Ok(metadata.len()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(Error::io(directory.display(digest.hex()), "read", error)),
        }
    }
}
