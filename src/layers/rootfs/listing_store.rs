//! The listings of layers in the cache directory.
//!
//! ```text
//! listings/v1/<hash of the diff ID>     one listing each (see `listing`)
//! ```

use super::listing::{LayerListing, ListedBlob};
use super::scan::{Scan, encoding_of, scan};
use super::tar_facts::TarFacts;
use crate::common::digest::{DiffId, Digest};
use crate::common::error::{Error, Result};
use crate::common::human_numbers::counted;
use crate::common::progress::{Activity, Progress, warn};
use crate::common::root::Root;
use crate::spec::Descriptor;
use crate::store::BlobSource;
use std::io::Write;
use std::sync::Arc;

/// A directory of listings. A listing that is missing, damaged or of an earlier format is made again.
#[derive(Debug, Clone)]
pub struct Listings {
    directory: Root,
}

/// The result of listing a layer.
#[derive(Debug, Clone)]
pub enum ListedLayer {
    /// The listing of the layer.
    Known(Arc<LayerListing>),
    /// The layer is present, but cannot be listed, for this reason.
    Unlistable(String),
}

impl Listings {
    /// Opens the listings of the cache directory `cache`.
    ///
    /// # Errors
    /// Returns an error if their directory cannot be created.
    pub fn in_cache_directory(cache: &Root) -> Result<Listings> {
        let directory = cache.create_directory("listings")?.create_directory("v1")?;
        directory.sweep_temporaries();
        Ok(Listings { directory })
    }

    /// Returns the listing of the layer `diff_id` if it is in the cache. It must have been made from the blob that
    /// `layer` describes.
    pub fn find(&self, layer: &Descriptor, diff_id: &DiffId) -> Option<LayerListing> {
        let subject = ListedBlob::new(diff_id, &layer.digest, encoding_of(layer)?);
        let name = name_of(diff_id);
        let listing = LayerListing::map(&self.directory.open_file(&name).ok()?, &subject)?;
        Some(listing)
    }

    fn keep(&self, diff_id: &DiffId, bytes: &[u8], progress: &dyn Progress) {
        let name = name_of(diff_id);
        let kept = self.directory.temporary().and_then(|mut temporary| {
            let failed = |error| self.directory.failed(&name, "write", error);
            temporary.write_all(bytes).map_err(failed)?;
            // If a crash leaves it incomplete, it does not match its checksums.
            temporary.rename_unsynced(&name)
        });
        if let Err(error) = kept {
            warn(progress, &error.object(), &format!("{}; the next build reads the layer again", error.reason()));
        }
    }
}

/// Returns the file name of a listing. The diff ID is hashed, so that one of SHA-512 has a name of the same form.
fn name_of(diff_id: &DiffId) -> String {
    Digest::of(diff_id.to_string().as_bytes()).hex()
}

/// Finds the listing of a layer, or reads the layer from `source` and stores its listing.
///
/// # Errors
/// Returns an error if the layer must be read and cannot be read, is damaged, is not compressed as its media type says,
/// or does not hold the tar of `diff_id`.
pub fn find_or_make(
    listings: Option<&Listings>,
    layer: &Descriptor,
    diff_id: &DiffId,
    source: &dyn BlobSource,
    progress: &dyn Progress,
) -> Result<ListedLayer> {
    match listings.and_then(|listings| listings.find(layer, diff_id)) {
        Some(listing) => Ok(ListedLayer::Known(Arc::new(listing))),
        None => make(listings, layer, diff_id, source, progress),
    }
}

/// Reads the layer from `source`, even if it has a listing, and stores its new listing.
///
/// # Errors
/// The same as [`find_or_make`].
pub(super) fn make(
    listings: Option<&Listings>,
    layer: &Descriptor,
    diff_id: &DiffId,
    source: &dyn BlobSource,
    progress: &dyn Progress,
) -> Result<ListedLayer> {
    make_with(listings, layer, diff_id, source, progress, None)
}

/// Makes the listing of a layer, and adds what its tar says beyond it to `facts`.
///
/// # Errors
/// The same as [`find_or_make`], and if the layer has more entries than `facts` can hold.
pub(crate) fn make_with(
    listings: Option<&Listings>,
    layer: &Descriptor,
    diff_id: &DiffId,
    source: &dyn BlobSource,
    progress: &dyn Progress,
    facts: Option<&mut TarFacts>,
) -> Result<ListedLayer> {
    let short: String = layer.digest.to_string().chars().take(19).collect();
    let activity = Activity::start(progress, &format!("list {short}"), Some(layer.size));
    let bytes = match scan(layer, diff_id, source, facts)? {
        Scan::Listed(bytes) => bytes,
        Scan::Unlistable(reason) => {
            activity.finish("not supported");
            return Ok(ListedLayer::Unlistable(reason));
        }
    };
    if let Some(listings) = listings {
        listings.keep(diff_id, &bytes, progress);
    }
    let subject = encoding_of(layer).map(|encoding| ListedBlob::new(diff_id, &layer.digest, encoding));
    // A listing that was just written is mapped, so that its memory can be reclaimed. Otherwise it stays in memory.
    let kept = listings.and_then(|listings| listings.find(layer, diff_id));
    let listing = kept.or_else(|| LayerListing::own(bytes, &subject?));
    let listing = listing.ok_or_else(|| Error::corrupt("listing of a layer", "cannot be read back"))?;
    activity.finish(&counted(usize::try_from(listing.len()).unwrap_or(usize::MAX), "entry"));
    Ok(ListedLayer::Known(Arc::new(listing)))
}
