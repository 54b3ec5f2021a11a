//! The layers of one of two images that are compared.

use super::tar_form::ReadLayer;
use crate::common::digest::DiffId;
use crate::common::error::Result;
use crate::common::progress::Progress;
use crate::layers::rootfs::{
    HashKeys, LayerListing, ListedLayer, Listings, MergedEntry, TarFacts, TarRecord, find_or_make, make_with,
};
use crate::spec::Descriptor;
use crate::store::{RemoteLayers, StoredImage};
use std::cell::OnceCell;
use std::sync::Arc;

/// An image, and what its layers are read with.
#[derive(Clone)]
pub(super) struct LayerReading<'a> {
    pub(super) image: &'a StoredImage,
    pub(super) keys: HashKeys,
    pub(super) listings: Option<&'a Listings>,
    pub(super) progress: &'a dyn Progress,
}

impl LayerReading<'_> {
    fn layer(&self, place: usize) -> (&Descriptor, &DiffId) {
        (&self.image.manifest.layers[place], &self.image.config.diff_ids()[place])
    }

    /// Reads the layer at `place`: its listing, and what its tar says beyond it.
    ///
    /// # Errors
    /// Fails if the layer is missing or damaged, or has too many entries.
    pub(super) fn read(&self, place: usize) -> Result<(ListedLayer, TarFacts)> {
        let (layer, diff_id) = self.layer(place);
        let mut facts = TarFacts::new(&self.keys);
        let source = &*self.image.source;
        let listed = make_with(self.listings, layer, diff_id, source, self.progress, Some(&mut facts))?;
        Ok((listed, facts))
    }

    /// Returns the listing of the layer at `place` if the cache has it.
    pub(super) fn cached(&self, place: usize) -> Option<ListedLayer> {
        let (layer, diff_id) = self.layer(place);
        let listing = self.listings?.find(layer, diff_id).filter(LayerListing::is_intact)?;
        Some(ListedLayer::Known(Arc::new(listing)))
    }

    /// Returns whether the layer at `place` can be read without asking a registry.
    pub(super) fn is_on_this_machine(&self, place: usize) -> bool {
        let (layer, _) = self.layer(place);
        let is_left_out = || RemoteLayers::of(&self.image.descriptor).repository(&layer.digest).is_some();
        self.image.source.repository(layer).is_none() && !is_left_out()
    }

    /// Lists the layer at `place`.
    ///
    /// # Errors
    /// Fails if the layer is missing or damaged.
    pub(super) fn list(&self, place: usize) -> Result<ListedLayer> {
        let (layer, diff_id) = self.layer(place);
        find_or_make(self.listings, layer, diff_id, &*self.image.source, self.progress)
    }
}

/// One of two images that are compared, and what is known of its layers.
pub(super) struct ComparedPlace<'a> {
    pub(super) reading: LayerReading<'a>,
    pub(super) layers: Vec<ComparedLayer>,
    /// The listings that are merged, lowest first, and the places of their layers in the image.
    merged: (Vec<Arc<LayerListing>>, Vec<usize>),
}

/// What is known of a layer.
#[derive(Default)]
pub(super) struct ComparedLayer {
    listing: Option<Arc<LayerListing>>,
    facts: OnceCell<TarFacts>,
    /// Why its entries are not used, although they might matter.
    pub(super) unread: Option<&'static str>,
    /// Why it cannot be listed.
    pub(super) unlistable: Option<String>,
}

impl ComparedLayer {
    /// Returns the layer if it was read for the comparison.
    pub(super) fn read(&self) -> Option<ReadLayer<'_>> {
        Some(ReadLayer { listing: self.listing.as_ref()?, facts: self.facts.get()? })
    }

    /// Sets the listing.
    pub(super) fn set(&mut self, listed: ListedLayer) {
        match listed {
            ListedLayer::Known(listing) => self.listing = Some(listing),
            ListedLayer::Unlistable(reason) => self.unlistable = Some(reason),
        }
    }
}

impl<'a> ComparedPlace<'a> {
    pub(super) fn new(reading: LayerReading<'a>) -> Self {
        let layers = reading.image.manifest.layers.iter().map(|_| ComparedLayer::default()).collect();
        ComparedPlace { reading, layers, merged: (Vec::new(), Vec::new()) }
    }

    pub(super) fn image(&self) -> &'a StoredImage {
        self.reading.image
    }

    /// Takes what [`LayerReading::read`] returned.
    pub(super) fn set_read(&mut self, place: usize, (listed, facts): (ListedLayer, TarFacts)) {
        self.layers[place].set(listed);
        self.layers[place].facts.set(facts).ok();
    }

    /// Puts the listings together that are known.
    pub(super) fn merge(&mut self) {
        let listed = self.layers.iter().enumerate();
        let listed = listed.filter_map(|(place, layer)| Some((layer.listing.clone()?, place)));
        self.merged = listed.unzip();
    }

    pub(super) fn listings(&self) -> &[Arc<LayerListing>] {
        &self.merged.0
    }

    fn place_of(&self, entry: &MergedEntry) -> usize {
        self.merged.1.get(entry.layer).copied().unwrap_or_default()
    }

    pub(super) fn diff_id(&self, entry: &MergedEntry) -> Option<&DiffId> {
        self.image().config.diff_ids().get(self.place_of(entry))
    }

    /// Returns `entry` with the place of its layer in the image.
    pub(super) fn with_place_in_image(&self, entry: MergedEntry) -> MergedEntry {
        MergedEntry { layer: self.place_of(&entry), ..entry }
    }

    /// Returns what the tar says of `entry`, if its layer was read.
    pub(super) fn known_record(&self, entry: &MergedEntry) -> Option<&TarRecord> {
        self.layers.get(self.place_of(entry))?.facts.get()?.find(&entry.path)
    }

    /// Returns the digest of the content of a file. Its layer is read if that has not been done: it is in both images, but the
    /// other one has the file from another layer.
    ///
    /// # Errors
    /// Fails as [`LayerReading::read`].
    pub(super) fn content(&self, entry: &MergedEntry) -> Result<Option<[u8; 32]>> {
        let place = self.place_of(entry);
        if let Some(layer) = self.layers.get(place)
            && layer.facts.get().is_none()
        {
            layer.facts.set(self.reading.read(place)?.1).ok();
        }
        Ok(self.known_record(entry).map(|record| record.content))
    }
}
