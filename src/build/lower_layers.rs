//! The layers below the one that is planned: those of the base, with their listings, and those that were planned before.

use super::{LayerCaches, PlannedContent, PlannedLayer};
use crate::build::image::{Base, BaseLayers};
use crate::common::digest::{DiffId, Digest};
use crate::common::error::Result;
use crate::common::progress::{Progress, warn};
use crate::layers::rootfs::{LayerBelow, LayerPlace, ListedLayer, Listings, StoredLayer, Unseen};
use crate::spec::Descriptor;
use crate::store::{BlobSource, StoredImage};
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Lists the layers of a base concurrently, each once.
///
/// # Errors
/// Fails if a layer cannot be read, is damaged, or does not match its media type or diff ID.
pub(super) fn layers_of_base<'a>(
    base: &'a Base,
    listings: Option<&'a Listings>,
    progress: &'a dyn Progress,
) -> Result<Vec<LayerBelow<'a>>> {
    let Base::Image { image, name, layers } = base else { return Ok(Vec::new()) };
    let is_here = |layer: &Descriptor| *layers == BaseLayers::Copied || image.source.repository(layer).is_none();
    let places = places(image, listings, progress, is_here);
    let unseen = Unseen {
        reason: "its layers are not downloaded and were never indexed on this machine".to_owned(),
        hint: format!("ocibuild pull {}, or without --sparse", name.as_deref().unwrap_or("BASE")),
    };
    stacked(places, &unseen, progress)
}

/// Lists the layers at `places` concurrently, each once.
fn stacked<'a>(
    places: Vec<LayerPlace<'a>>,
    unseen: &Unseen,
    progress: &'a dyn Progress,
) -> Result<Vec<LayerBelow<'a>>> {
    let listed = listed(&places)?;
    let below = |place: LayerPlace<'a>| {
        let known = listed.get(&(place.layer.digest, place.diff_id.as_digest())).cloned().flatten();
        LayerBelow::Stored(StoredLayer::listed(place, unseen.clone(), known))
    };
    for ((digest, _), listed) in &listed {
        if let Some(ListedLayer::Unlistable(reason)) = listed {
            warn(
                progress,
                &format!("base image: blob {digest}"),
                &format!("the content of this layer is unknown: {reason}"),
            );
        }
    }
    Ok(places.into_iter().map(below).collect())
}

/// Lists the layers of an image that are not listed yet.
///
/// # Errors
/// Fails if a layer cannot be read, is damaged, or does not match its media type or diff ID.
pub fn list_base(image: &StoredImage, listings: Option<&Listings>, progress: &dyn Progress) -> Result<()> {
    listed(&places(image, listings, progress, |_| true)).map(drop)
}

fn places<'a>(
    image: &'a StoredImage,
    listings: Option<&'a Listings>,
    progress: &'a dyn Progress,
    is_here: impl Fn(&Descriptor) -> bool,
) -> Vec<LayerPlace<'a>> {
    let layers = image.manifest.layers.iter().zip(image.config.diff_ids());
    let place = |(layer, diff_id): (&'a Descriptor, &'a DiffId)| {
        let source = is_here(layer).then_some(&*image.source as &dyn BlobSource);
        LayerPlace { layer, diff_id, source, listings, progress }
    };
    layers.map(place).collect()
}

/// Lists layers concurrently, each once. A layer whose content cannot be read is `None`.
fn listed(places: &[LayerPlace<'_>]) -> Result<BTreeMap<(Digest, Digest), Option<ListedLayer>>> {
    let distinct: BTreeMap<_, _> =
        places.iter().map(|place| ((place.layer.digest, place.diff_id.as_digest()), *place)).collect();
    let distinct: Vec<_> = distinct.into_iter().collect();
    let listed: Vec<_> = distinct.par_iter().map(|(key, place)| Ok((*key, place.list()?))).collect();
    listed.into_iter().collect::<Result<_>>().map_err(|error| error.within("base image"))
}

impl PlannedLayer {
    /// Returns this layer as a lower layer of the next one. A layer from the cache is read, once for its listing, when an
    /// entry that may be in it is needed.
    pub(super) fn below<'a>(
        &'a self,
        caches: Option<LayerCaches<'a>>,
        listings: Option<&'a Listings>,
        progress: &'a dyn Progress,
    ) -> LayerBelow<'a> {
        match &self.content {
            PlannedContent::Tree(tree) => LayerBelow::Tree(tree),
            PlannedContent::Known(known) => {
                let source =
                    caches.filter(|_| known.remote_in.is_none()).map(|caches| caches.layout as &dyn BlobSource);
                let (layer, diff_id) = (&known.layer.descriptor, &known.layer.diff_id);
                let unseen = Unseen {
                    reason: format!("the layer `{}` is not downloaded", self.name),
                    hint: "without --sparse".to_owned(),
                };
                let place = LayerPlace { layer, diff_id, source, listings, progress };
                LayerBelow::Stored(StoredLayer::new(place, unseen).below(&self.roots))
            }
        }
    }
}
