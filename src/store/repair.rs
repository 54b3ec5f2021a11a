//! Repairs a layout: replaces its missing and damaged blobs by the same blobs of other places.
//!
//! A blob is its digest, so the content of any place is as good as any other once it is verified. Nothing else is changed: an
//! index that cannot be read is left alone, since nothing says what was in it.

use super::verify::{Report, check};
use super::{BlobSource, Layout, copy_blobs};
use crate::common::digest::Digest;
use crate::common::error::{ErrorKind, Result};
use crate::common::progress::{Progress, warn};
use crate::spec::Descriptor;
use std::fmt;
use std::sync::Arc;

/// A repaired document may lead to damaged blobs: index, index of platforms, manifest, config and layers.
const MOST_ROUNDS: usize = 8;

/// A place that may have a blob.
#[derive(Clone)]
pub struct RepairSource {
    /// What it is called in reports.
    pub name: String,
    /// Its blobs.
    pub blobs: Arc<dyn BlobSource>,
}

impl fmt::Debug for RepairSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RepairSource").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A blob that was replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepairedBlob {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// The name of the place that it came from.
    pub from: String,
}

/// Finds the places that may have a blob, in the order in which they are tried.
pub type FindSources<'f> = dyn Fn(&Descriptor) -> Result<Vec<RepairSource>> + 'f;

/// Replaces every missing or damaged blob of `layout`, or of its image `name`, and verifies the result. Returns what
/// is still wrong, and what was repaired.
///
/// A blob is verified before it replaces another one, in one step. A place that lacks the blob, or has it damaged, is passed
/// over; any other failure of a place is a warning. Layers that were intentionally left in a registry are not fetched.
///
/// # Errors
/// Fails if there is no image `name`, `sources` fails, or the layout cannot be written.
pub fn repair(
    layout: &Layout,
    name: Option<&str>,
    sources: &FindSources<'_>,
    progress: &dyn Progress,
) -> Result<(Report, Vec<RepairedBlob>)> {
    let (mut report, mut repaired) = (check(layout, name, progress)?, Vec::new());
    for _ in 0..MOST_ROUNDS {
        // A layout may share the file of a blob with the cache, which must not trust it any more either.
        layout.forget(&report.damaged);
        let before = repaired.len();
        for blob in &report.replaceable {
            repaired.extend(replace(layout, blob, sources, progress)?);
        }
        if repaired.len() == before {
            break;
        }
        layout.sync_blobs()?;
        report = check(layout, name, progress)?;
    }
    Ok((report, repaired))
}

/// Replaces one blob by that of the first place that has it.
fn replace(
    layout: &Layout,
    blob: &Descriptor,
    sources: &FindSources<'_>,
    progress: &dyn Progress,
) -> Result<Option<RepairedBlob>> {
    for RepairSource { name, blobs } in sources(blob)? {
        match copy_blobs(&*blobs, std::slice::from_ref(blob), layout, progress) {
            Ok(_) => return Ok(Some(RepairedBlob { digest: blob.digest, size: blob.size, from: name })),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => warn(progress, &format!("{name}: {}", error.object()), &error.reason()),
        }
    }
    Ok(None)
}
