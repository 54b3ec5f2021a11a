//! Comparing the layers of two images, and preparing the comparison of their files.

use super::alignment::{AlignedLayers, align};
use super::files::FileDifferences;
use super::place::{ComparedLayer, ComparedPlace, LayerReading};
use super::stored_form::{reasons_of_compression, reasons_of_descriptors, reasons_of_types};
use super::tar_form::reasons_of_tars;
use super::{IgnoredDifference, IgnoredDifferences, LayerAspect, LayerChange, LayerDifference, LayerReason};
use crate::common::digest::DiffId;
use crate::common::error::Result;
use crate::common::json;
use crate::common::progress::Progress;
use crate::layers::rootfs::{HashKeys, ListedKind, Listings, MergedFiles};
use crate::spec::Descriptor;
use crate::store::StoredImage;
use rayon::prelude::*;
use serde_json::Value;
use std::collections::BTreeSet;

/// Two images whose layers were compared, and whose files can be.
pub struct ImageComparison<'a> {
    sides: [ComparedPlace<'a>; 2],
    ignored: &'a IgnoredDifferences,
    layers: Vec<LayerDifference>,
    /// Whether the files may differ.
    has_other_files: bool,
}

impl std::fmt::Debug for ImageComparison<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImageComparison").field("layers", &self.layers).finish_non_exhaustive()
    }
}

impl<'a> ImageComparison<'a> {
    /// Compares the layers of two images. Those that only one of them has are read.
    ///
    /// # Errors
    /// Fails if a layer that must be read is missing or damaged, or has too many entries.
    pub fn new(
        images: [&'a StoredImage; 2],
        ignored: &'a IgnoredDifferences,
        listings: Option<&'a Listings>,
        progress: &'a dyn Progress,
    ) -> Result<ImageComparison<'a>> {
        let keys = HashKeys::default();
        let mut sides =
            images.map(|image| ComparedPlace::new(LayerReading { image, keys: keys.clone(), listings, progress }));
        let aligned = align(images[0].config.diff_ids(), images[1].config.diff_ids());
        let is_same = |pair: &AlignedLayers| matches!(pair, AlignedLayers::Same(..));
        let has_other_files = !aligned.iter().all(is_same);
        if has_other_files {
            read_different(&mut sides)?;
            list_common(&mut sides, &aligned)?;
            sides.iter_mut().for_each(ComparedPlace::merge);
        }
        let mut comparison = ImageComparison { sides, ignored, layers: Vec::new(), has_other_files };
        comparison.layers = comparison.layer_differences(aligned)?;
        Ok(comparison)
    }

    /// Returns the layers of both images, those that they share as well, from below.
    pub fn layers(&self) -> &[LayerDifference] {
        &self.layers
    }

    /// Returns why the files are not compared, if they are not: a layer is not a tar that can be read.
    pub fn unreadable(&self) -> Option<String> {
        let reason = |side: &ComparedPlace<'_>| {
            let mut layers = side.layers.iter().enumerate();
            layers.find_map(|(place, layer)| Some((place, layer.unlistable.clone()?)))
        };
        self.sides.iter().find_map(reason).map(|(place, reason)| format!("layer {}: {reason}", place + 1))
    }

    /// Returns the files that differ. Without readable layers there are none.
    pub fn files(&self) -> Option<FileDifferences<'_>> {
        let is_compared = self.has_other_files && self.unreadable().is_none();
        is_compared.then(|| FileDifferences::new([&self.sides[0], &self.sides[1]], self.ignored))
    }

    fn layer_differences(&self, aligned: Vec<AlignedLayers>) -> Result<Vec<LayerDifference>> {
        let documents = [&self.sides[0], &self.sides[1]]
            .map(|side| json::parse(&side.image().manifest_bytes, json::DOCUMENT_DEPTH, "manifest"));
        let [before, after] = documents;
        let documents = [before?, after?];
        let mut found =
            aligned.into_iter().map(|layers| self.layer_difference(layers, &documents)).collect::<Result<Vec<_>>>()?;
        let ignores_storage = self.ignored.contains(&IgnoredDifference::Storage);
        found.retain(|layer| match layer.change {
            LayerChange::Same => true,
            LayerChange::Changed => !ignores_storage && !layer.reasons.is_empty(),
            LayerChange::Moved | LayerChange::Added | LayerChange::Removed => !ignores_storage,
        });
        let place = |layer: &LayerDifference| {
            let place = |side: &Option<(usize, Descriptor)>| side.as_ref().map(|(place, _)| *place);
            place(&layer.before).max(place(&layer.after))
        };
        found.sort_by_key(place);
        Ok(found)
    }

    fn layer_difference(&self, layers: AlignedLayers, documents: &[Value; 2]) -> Result<LayerDifference> {
        let (change, before, after) = match layers {
            AlignedLayers::Same(before, after) => (LayerChange::Same, Some(before), Some(after)),
            AlignedLayers::Moved(before, after) => (LayerChange::Moved, Some(before), Some(after)),
            AlignedLayers::Changed(before, after) => (LayerChange::Changed, Some(before), Some(after)),
            AlignedLayers::Removed(before) => (LayerChange::Removed, Some(before), None),
            AlignedLayers::Added(after) => (LayerChange::Added, None, Some(after)),
        };
        let mut difference = LayerDifference {
            change,
            before: before.map(|place| (place, self.sides[0].image().manifest.layers[place].clone())),
            after: after.map(|place| (place, self.sides[1].image().manifest.layers[place].clone())),
            reasons: Vec::new(),
        };
        if let (Some(before), Some(after)) = (before, after) {
            difference.reasons = self.reasons(change, [before, after], documents)?;
            if change == LayerChange::Same && difference.reasons.iter().any(|it| it.what != LayerAspect::Unread) {
                difference.change = LayerChange::Changed;
            }
        }
        Ok(difference)
    }

    fn reasons(&self, change: LayerChange, places: [usize; 2], documents: &[Value; 2]) -> Result<Vec<LayerReason>> {
        let layers = [0, 1].map(|side| &self.sides[side].image().manifest.layers[places[side]]);
        let sources = [0, 1].map(|side| &*self.sides[side].image().source);
        let mut reasons = reasons_of_types(layers[0], layers[1]);
        let described = [0, 1].map(|side: usize| documents[side]["layers"].get(places[side]));
        reasons.extend(reasons_of_descriptors(described[0], described[1]));
        let of_place = [0, 1].map(|side: usize| &self.sides[side].layers[places[side]]);
        if change == LayerChange::Changed {
            let [one, other] = of_place.map(ComparedLayer::read);
            match (one, other) {
                (Some(one), Some(other)) => reasons.extend(reasons_of_tars(&one, &other, self.ignored)?),
                _ => {
                    let unlistable = of_place.iter().find_map(|layer| layer.unlistable.clone());
                    reasons.push(LayerReason::new(LayerAspect::Unread, unlistable.unwrap_or_default()));
                }
            }
            return Ok(reasons);
        }
        let is_one_encoding = !reasons.iter().any(|reason| reason.what == LayerAspect::Compression);
        let is_stored_in_one_way = self.ignored.contains(&IgnoredDifference::Storage);
        if layers[0].digest != layers[1].digest && is_one_encoding && !is_stored_in_one_way {
            reasons.extend(reasons_of_compression((sources[0], layers[0]), (sources[1], layers[1]))?);
        }
        let unlistable = of_place.iter().find_map(|layer| layer.unlistable.clone());
        let unread = of_place[0].unread.map(str::to_owned);
        reasons.extend(unlistable.or(unread).map(|reason| LayerReason::new(LayerAspect::Unread, reason)));
        Ok(reasons)
    }
}

/// Layers of more bytes are read one after the other, so that the memory for the entries of one is free for the next.
const READ_AT_ONCE: u64 = 1 << 20;

/// Reads the layers that only one of the images has.
fn read_different(sides: &mut [ComparedPlace<'_>; 2]) -> Result<()> {
    let common = common_layers(sides);
    let mut wanted = Vec::new();
    for (side, of) in sides.iter().enumerate() {
        let layers = of.image().config.diff_ids().iter().enumerate();
        wanted.extend(layers.filter(|(_, layer)| !common.contains(layer)).map(|(place, _)| (side, place)));
    }
    let readings = [sides[0].reading.clone(), sides[1].reading.clone()];
    let size = |(side, place): &(usize, usize)| readings[*side].image.manifest.layers[*place].size;
    let read = |(side, place): &(usize, usize)| readings[*side].read(*place);
    let (small, large): (Vec<_>, Vec<_>) = wanted.into_iter().partition(|layer| size(layer) <= READ_AT_ONCE);
    let read_small = small.par_iter().map(read).collect::<Result<Vec<_>>>()?;
    for ((side, place), layer) in small.into_iter().zip(read_small) {
        sides[side].set_read(place, layer);
    }
    for (side, place) in large {
        sides[side].set_read(place, readings[side].read(place)?);
    }
    Ok(())
}

/// Returns the layers that both images have.
fn common_layers<'a>(sides: &[ComparedPlace<'a>; 2]) -> BTreeSet<&'a DiffId> {
    let [before, after] = [&sides[0], &sides[1]].map(|side| side.image().config.diff_ids().iter().collect());
    let (before, after): (BTreeSet<_>, BTreeSet<_>) = (before, after);
    before.intersection(&after).copied().collect()
}

/// Lists the layers that both images have, as far as the files depend on them.
fn list_common(sides: &mut [ComparedPlace<'_>; 2], aligned: &[AlignedLayers]) -> Result<()> {
    let ids = [&sides[0], &sides[1]].map(|side| side.image().config.diff_ids());
    let below = ids[0].iter().zip(ids[1]).take_while(|(one, other)| one == other).count();
    let has_questions = leaves_questions(sides)?;
    for layer in common_layers(sides) {
        let places: Vec<(usize, usize)> = (0..2)
            .flat_map(|side| ids[side].iter().enumerate().map(move |(place, id)| (side, place, id)))
            .filter_map(|(side, place, id)| (id == layer).then_some((side, place)))
            .collect();
        let is_below = places.iter().all(|(_, place)| *place < below);
        let is_in_order = places.iter().all(|(side, place)| stays(aligned, *side, *place));
        let here = places.iter().find(|(side, place)| sides[*side].reading.is_on_this_machine(*place));
        let cached = places.iter().find_map(|(side, place)| sides[*side].reading.cached(*place));
        let listed = match (cached, here.or(places.first())) {
            (Some(listed), _) => listed,
            (None, _) if is_below && !has_questions => continue,
            // Its place is what differs.
            (None, Some((side, place))) if here.is_some() || !is_in_order => sides[*side].reading.list(*place)?,
            (None, _) => {
                for (side, place) in places {
                    sides[side].layers[place].unread =
                        Some("it is in a registry; paths of it may be in the list of files");
                }
                continue;
            }
        };
        for (side, place) in places {
            sides[side].layers[place].set(listed.clone());
        }
    }
    Ok(())
}

/// Returns whether both images have the layer in the same order as its neighbours.
fn stays(aligned: &[AlignedLayers], side: usize, place: usize) -> bool {
    aligned.iter().any(|layers| matches!(layers, AlignedLayers::Same(one, other) if [*one, *other][side] == place))
}

/// Returns whether the files depend on the layers below those that differ: a path is only in one of the images, as a directory
/// only in one, or is deleted.
fn leaves_questions(sides: &mut [ComparedPlace<'_>; 2]) -> Result<bool> {
    sides.iter_mut().for_each(ComparedPlace::merge);
    for listing in sides.iter().flat_map(ComparedPlace::listings) {
        for entry in listing.entries() {
            let entry = entry?;
            if entry.is_whiteout || entry.is_opaque {
                return Ok(true);
            }
        }
    }
    let [mut before, mut after] = [&sides[0], &sides[1]].map(|side| MergedFiles::new(side.listings()));
    loop {
        match (before.next().transpose()?, after.next().transpose()?) {
            (None, None) => return Ok(false),
            (Some(one), Some(other)) if one.path == other.path => {
                let kinds = [&one.node.kind, &other.node.kind];
                let is_one_kind = kinds[0].is_directory() == kinds[1].is_directory();
                let is_implied = kinds.map(|kind| *kind == ListedKind::ImpliedDirectory);
                if !is_one_kind || is_implied[0] != is_implied[1] {
                    return Ok(true);
                }
            }
            _ => return Ok(true),
        }
    }
}
