//! A stored layer of a stack: its listing is found, or made, when something asks for it.

use super::listing::Listing;
use super::listings::{Listed, Listings, find_or_make, make};
use super::stack::Unseen;
use crate::digest::DiffId;
use crate::error::Result;
use crate::progress::Progress;
use crate::spec::Descriptor;
use crate::store::BlobSource;
use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

/// A layer, and where it can be read.
#[derive(Clone, Copy)]
pub struct LayerPlace<'a> {
    /// The blob.
    pub layer: &'a Descriptor,
    /// The tar that it holds.
    pub diff_id: &'a DiffId,
    /// Where the blob is; `None` for one that is not to be fetched, of which only a kept listing tells.
    pub source: Option<&'a dyn BlobSource>,
    /// The listings that are kept.
    pub listings: Option<&'a Listings>,
    /// Watches a layer being read.
    pub progress: &'a dyn Progress,
}

impl fmt::Debug for LayerPlace<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LayerPlace").field("diff_id", &self.diff_id).finish_non_exhaustive()
    }
}

impl LayerPlace<'_> {
    /// Finds the listing of the layer or reads the layer. `None` where neither can be.
    ///
    /// # Errors
    /// As [`find_or_make`].
    pub fn list(&self) -> Result<Option<Listed>> {
        let LayerPlace { layer, diff_id, source, listings, progress } = *self;
        match source {
            Some(source) => find_or_make(listings, layer, diff_id, source, progress).map(Some),
            None => Ok(listings.and_then(|it| it.find(layer, diff_id)).map(|found| Listed::Known(Arc::new(found)))),
        }
    }
}

/// A layer of a stack that is stored.
#[derive(Debug)]
pub struct StoredLayer<'a> {
    place: LayerPlace<'a>,
    /// What is said of the layer where it cannot be read.
    unseen: Unseen,
    /// The listing, once it was asked for.
    known: RefCell<Option<Result<Arc<Listing>, Unseen>>>,
}

impl<'a> StoredLayer<'a> {
    /// A layer that is read when something asks for it.
    pub fn new(place: LayerPlace<'a>, unseen: Unseen) -> Self {
        StoredLayer { place, unseen, known: RefCell::new(None) }
    }

    /// A layer of which it is known already what [`LayerPlace::list`] answers.
    pub fn listed(place: LayerPlace<'a>, unseen: Unseen, listed: Option<Listed>) -> Self {
        let known = known(listed, &unseen);
        StoredLayer { place, unseen, known: RefCell::new(Some(known)) }
    }

    /// Why nothing is known of the layer, if that is so.
    ///
    /// # Errors
    /// When the layer has to be read and cannot be.
    pub fn unseen(&self) -> Result<Option<Unseen>> {
        self.listing().map(Result::err)
    }

    pub(super) fn listing(&self) -> Result<Result<Arc<Listing>, Unseen>> {
        if let Some(known) = &*self.known.borrow() {
            return Ok(known.clone());
        }
        let found = known(self.place.list()?, &self.unseen);
        Ok(self.known.borrow_mut().insert(found).clone())
    }

    /// The listing, made again because the one that was kept is damaged.
    pub(super) fn listing_made_again(&self) -> Result<Result<Arc<Listing>, Unseen>> {
        let LayerPlace { layer, diff_id, source, listings, progress } = self.place;
        let listed = source.map(|source| make(listings, layer, diff_id, source, progress)).transpose()?;
        Ok(self.known.borrow_mut().insert(known(listed, &self.unseen)).clone())
    }
}

fn known(listed: Option<Listed>, unseen: &Unseen) -> Result<Arc<Listing>, Unseen> {
    match listed {
        Some(Listed::Known(listing)) => Ok(listing),
        Some(Listed::Unlistable(reason)) => {
            Err(Unseen { reason, hint: "give the directories on the way in the source".to_owned() })
        }
        None => Err(unseen.clone()),
    }
}
