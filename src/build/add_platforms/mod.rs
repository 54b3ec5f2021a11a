//! Adding images for other platforms to the image that a name has, from machines that build one platform each.
//!
//! ```text
//!  machine A: image for amd64 ─┐
//!                              ├─▶ the index that the name has, read again for as long as others change it ─▶ the name moves
//!  machine B: image for arm64 ─┘
//! ```
//!
//! The index is the one that a build for all platforms at once makes, byte for byte, whichever image comes first.

mod in_layout;
mod in_repository;

pub use in_layout::add_platforms_in_layout;
pub use in_repository::add_platforms_in_repository;

use crate::common::digest::Digest;
use crate::common::error::{Error, ErrorKind, Result};
use crate::common::human_numbers::counted;
use crate::common::progress::{Progress, warn};
use crate::spec::{Descriptor, Platform};
use crate::store::{
    BlobSink, BlobSource, PlatformIndex, RemoteLayers, StoredDocument, StoredImage, TransferStats, copy_blobs,
};
use std::io::Cursor;
use std::sync::Arc;

/// The number of times that the work is repeated because other processes have moved the name.
const MOST_ATTEMPTS: usize = 20;

/// An index to which images were added.
#[derive(Debug)]
pub struct GrownIndex {
    /// The descriptor of the index.
    pub descriptor: Descriptor,
    /// The platforms of its images, each with the digest of its manifest.
    pub images: Vec<(Platform, Digest)>,
    /// What was copied, and what had the name before.
    pub moved: TransferStats,
}

/// Returns the index that `before` is, or the image that it is as the only one of an index, with `images`.
fn grown(
    source: &Arc<dyn BlobSource>,
    before: Option<&Descriptor>,
    images: &[StoredImage],
    object: &str,
) -> Result<PlatformIndex> {
    let mut index = match before {
        Some(before) => PlatformIndex::of(&StoredDocument::read(source.clone(), before.clone(), None, object)?)?,
        None => PlatformIndex::empty(object),
    };
    for image in images {
        index.put(image);
    }
    Ok(index)
}

/// Copies the blobs of `images` into `sink`, except for layers in `left_out`, and then their manifests.
fn store(
    images: &[StoredImage],
    left_out: &RemoteLayers,
    sink: &dyn BlobSink,
    progress: &dyn Progress,
) -> Result<TransferStats> {
    let mut moved = TransferStats::default();
    for image in images {
        let is_moved = |blob: &&Descriptor| left_out.repository(&blob.digest).is_none();
        let blobs: Vec<Descriptor> = image.manifest.blobs().filter(is_moved).cloned().collect();
        moved.add(copy_blobs(&*image.source, &blobs, sink, progress)?);
        // Written, not shared: other programs write manifests of a layout in place.
        if !sink.contains(&image.descriptor)? {
            let open = || Ok(Box::new(Cursor::new(image.manifest_bytes.clone())) as _);
            sink.put(&image.descriptor, &open)?;
        }
        if !image.referrers.is_empty() {
            let artifacts = counted(image.referrers.len(), "artifact");
            let reason = format!("{artifacts} about the image stay behind: `export` without --into-index copies them");
            warn(progress, &image.descriptor.digest.to_string(), &reason);
        }
    }
    Ok(moved)
}

fn keeps_moving(object: String) -> Error {
    Error::new(ErrorKind::Changed, object, "repeatedly moved by other processes").hint("run the command again")
}
