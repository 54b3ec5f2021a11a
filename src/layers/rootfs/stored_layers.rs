//! A stored layer of a stack. Its listing is found or made on demand.

use super::listing::LayerListing;
use crate::common::digest::DiffId;
use crate::common::error::Result;
use crate::common::progress::Progress;
use crate::layers::rootfs::listing_store::{ListedLayer, Listings, find_or_make, make};
use crate::spec::{Descriptor, ImagePath};
use crate::store::BlobSource;
use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

/// A layer, with the source of its blob.
#[derive(Clone, Copy)]
pub struct LayerPlace<'a> {
    /// The descriptor of the blob.
    pub layer: &'a Descriptor,
    /// The digest of the tar that it holds.
    pub diff_id: &'a DiffId,
    /// The source of the blob; `None` if it must not be fetched, so that only a cached listing can be used.
    pub source: Option<&'a dyn BlobSource>,
    /// The cached listings.
    pub listings: Option<&'a Listings>,
    /// Reports the progress of reading a layer.
    pub progress: &'a dyn Progress,
}

impl fmt::Debug for LayerPlace<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LayerPlace").field("diff_id", &self.diff_id).finish_non_exhaustive()
    }
}

impl LayerPlace<'_> {
    /// Finds the listing of the layer or reads the layer. Returns `None` if neither is possible.
    ///
    /// # Errors
    /// The same as [`find_or_make`].
    pub fn list(&self) -> Result<Option<ListedLayer>> {
        let LayerPlace { layer, diff_id, source, listings, progress } = *self;
        match source {
            Some(source) => find_or_make(listings, layer, diff_id, source, progress).map(Some),
            None => {
                Ok(listings.and_then(|it| it.find(layer, diff_id)).map(|found| ListedLayer::Known(Arc::new(found))))
            }
        }
    }
}

/// A layer of a stack that is stored.
#[derive(Debug)]
pub struct StoredLayer<'a> {
    place: LayerPlace<'a>,
    /// What contains all of its entries; empty if that is unknown.
    roots: &'a [ImagePath],
    /// The reason to report if the layer cannot be read.
    unseen: Unseen,
    /// The listing, once it has been requested.
    known: RefCell<Option<Result<Arc<LayerListing>, Unseen>>>,
}

impl<'a> StoredLayer<'a> {
    /// Creates a layer that is read on demand.
    pub fn new(place: LayerPlace<'a>, unseen: Unseen) -> Self {
        StoredLayer { place, roots: &[], unseen, known: RefCell::new(None) }
    }

    /// Sets the directories and files that contain all of its entries, so that it is not read for other paths.
    #[must_use]
    pub fn below(self, roots: &'a [ImagePath]) -> Self {
        StoredLayer { roots, ..self }
    }

    /// Creates a layer for which [`LayerPlace::list`] has already returned `listed`.
    pub fn listed(place: LayerPlace<'a>, unseen: Unseen, listed: Option<ListedLayer>) -> Self {
        let known = known(listed, &unseen);
        StoredLayer { place, roots: &[], unseen, known: RefCell::new(Some(known)) }
    }

    /// Returns why the entries of the layer are unknown, or `None` if they are known.
    ///
    /// # Errors
    /// Returns an error if the layer must be read and cannot be read.
    pub fn unseen(&self) -> Result<Option<Unseen>> {
        self.listing().map(Result::err)
    }

    /// Returns whether the layer has no entry at `path`, as far as that is known without its listing.
    pub(super) fn is_elsewhere(&self, path: &ImagePath) -> bool {
        !self.roots.is_empty() && self.roots.iter().all(|root| !path.is_in(root) && !root.is_in(path))
    }

    pub(super) fn listing(&self) -> Result<Result<Arc<LayerListing>, Unseen>> {
        if let Some(known) = &*self.known.borrow() {
            return Ok(known.clone());
        }
        let found = known(self.place.list()?, &self.unseen);
        Ok(self.known.borrow_mut().insert(found).clone())
    }

    /// Makes the listing again, because the cached one is damaged.
    pub(super) fn listing_made_again(&self) -> Result<Result<Arc<LayerListing>, Unseen>> {
        let LayerPlace { layer, diff_id, source, listings, progress } = self.place;
        let listed = source.map(|source| make(listings, layer, diff_id, source, progress)).transpose()?;
        Ok(self.known.borrow_mut().insert(known(listed, &self.unseen)).clone())
    }
}

fn known(listed: Option<ListedLayer>, unseen: &Unseen) -> Result<Arc<LayerListing>, Unseen> {
    match listed {
        Some(ListedLayer::Known(listing)) => Ok(listing),
        Some(ListedLayer::Unlistable(reason)) => {
            Err(Unseen { reason, hint: "add the parent directories to the source".to_owned() })
        }
        None => Err(unseen.clone()),
    }
}

/// The reason why a layer's entries are unknown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unseen {
    /// The reason: "its layers stay in their registry".
    pub reason: String,
    /// Advice on how to make them known.
    pub hint: String,
}
