//! The files of an image: the listings of its layers, merged.
//!
//! A listing is sorted by the bytes of its paths, so that a directory comes before everything in it. One pass over all listings
//! side by side gives the file system that the layers unpack to, with memory for the directories on the way only.

use super::entry::{ListedEntry, ListedKind, ListedNode};
use super::listing::{LayerListing, ListedBlob};
use super::listing_store::{ListedLayer, Listings, find_or_make, make};
use super::through_links::through_links;
use crate::codec::compression::Encoding;
use crate::common::digest::DiffId;
use crate::common::error::{Error, Result};
use crate::common::progress::Progress;
use crate::spec::Descriptor;
use crate::store::StoredImage;
use rayon::prelude::*;
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::Arc;

/// A file, directory, link or device of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergedEntry {
    /// The path, without a leading slash. The root is empty.
    pub path: Vec<u8>,
    /// The node.
    pub node: ListedNode,
    /// The layer that it is from; the lowest is 0.
    pub layer: usize,
}

/// What stacked layers make of one path.
#[derive(Debug)]
pub(in crate::layers) struct MergedPath {
    /// The path, without a leading slash. The root is empty.
    pub(in crate::layers) path: Vec<u8>,
    /// The node that is visible, with the number of its layer.
    pub(in crate::layers) found: Option<(usize, ListedNode)>,
    /// Whether the layers hide what layers below them have at the path, or in the directory there.
    pub(in crate::layers) hides_below: bool,
    /// Whether the layers delete or replace what layers below them have at the path, so that nothing of it is left.
    pub(in crate::layers) replaces_below: bool,
    /// The lowest layer whose entries are younger than every deletion of the path.
    pub(in crate::layers) exists_from: usize,
    /// The highest layer that has an entry of its own for the path, visible or not.
    pub(in crate::layers) last_node: Option<usize>,
    /// Whether a layer has files below a link or file of a lower one, without an entry for a directory that replaces it. Some
    /// engines follow the link, and others replace it.
    pub(in crate::layers) is_ambiguous: bool,
    /// The same, if the layers below have a link or file at the path: the first entry for it does not replace what is there.
    pub(in crate::layers) begins_implied: bool,
}

/// Iterates over the files of stacked layers, in the order of the bytes of their paths.
///
/// After an item that is an error, because a listing is damaged, there are no more.
pub struct MergedFiles<'a> {
    listings: Vec<Box<dyn Iterator<Item = Result<ListedEntry>> + 'a>>,
    /// The next entry of each layer that has one. The first path comes first.
    next: BinaryHeap<NextEntry>,
    /// The paths whose descendants may still come, each with the lowest layer whose entries below it are visible.
    floors: Vec<(Vec<u8>, usize)>,
    failed: Option<Error>,
}

/// The next entry of a layer.
struct NextEntry {
    entry: ListedEntry,
    layer: usize,
}

impl Ord for NextEntry {
    /// The greatest comes first: the first path, and of one path the lowest layer.
    fn cmp(&self, other: &Self) -> Ordering {
        (&other.entry.path, other.layer).cmp(&(&self.entry.path, self.layer))
    }
}

impl PartialOrd for NextEntry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for NextEntry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for NextEntry {}

/// Lists the layers of `image`, lowest first, several at the same time. A cached listing that is damaged is made again. Files that a
/// layer has below a symbolic link of the layers below are listed where the link leads, as extractors write them.
///
/// # Errors
/// Fails as [`find_or_make`] does, and if a layer cannot be listed.
pub fn list_layers(
    image: &StoredImage,
    listings: Option<&Listings>,
    progress: &dyn Progress,
) -> Result<Vec<Arc<LayerListing>>> {
    list_layers_from(image, 0, listings, progress)
}

/// Lists the layers of `image` as [`list_layers`] does, without the `first` lowest ones.
///
/// # Errors
/// Fails as [`list_layers`] does.
pub fn list_layers_from(
    image: &StoredImage,
    first: usize,
    listings: Option<&Listings>,
    progress: &dyn Progress,
) -> Result<Vec<Arc<LayerListing>>> {
    let layers: Vec<_> = image.manifest.layers.iter().zip(image.config.diff_ids()).skip(first).collect();
    let list = |(layer, diff_id): &(&Descriptor, &DiffId)| {
        let listed = match find_or_make(listings, layer, diff_id, &*image.source, progress)? {
            ListedLayer::Known(listing) if !listing.is_intact() => {
                make(listings, layer, diff_id, &*image.source, progress)?
            }
            listed => listed,
        };
        match listed {
            ListedLayer::Known(listing) => Ok(listing),
            ListedLayer::Unlistable(reason) => Err(Error::invalid(format!("blob {}", layer.digest), reason)),
        }
    };
    let listed: Vec<Arc<LayerListing>> = layers.par_iter().map(list).collect::<Result<_>>()?;
    let mut placed = Vec::new();
    for ((layer, diff_id), listing) in layers.into_iter().zip(listed) {
        let subject = ListedBlob::new(diff_id, &layer.digest, Encoding::Plain);
        placed.push(through_links(listing, &placed, &subject)?);
    }
    Ok(placed)
}

impl<'a> MergedFiles<'a> {
    /// Merges `layers`, lowest first.
    pub fn new(layers: &'a [Arc<LayerListing>]) -> Self {
        let listings = layers.iter().map(|layer| Box::new(layer.entries()) as Box<dyn Iterator<Item = _>>).collect();
        let mut files = MergedFiles { listings, next: BinaryHeap::new(), floors: Vec::new(), failed: None };
        for layer in 0..layers.len() {
            files.advance(layer);
        }
        files
    }

    /// Reads the next entry of `layer`.
    fn advance(&mut self, layer: usize) {
        match self.listings[layer].next() {
            Some(Ok(entry)) => self.next.push(NextEntry { entry, layer }),
            Some(Err(error)) => self.failed = self.failed.take().or(Some(error)),
            None => {}
        }
    }

    /// Takes the entries of all layers for the first path, lowest layer first.
    fn take_first(&mut self) -> Option<Vec<NextEntry>> {
        let first = self.next.pop()?;
        self.advance(first.layer);
        let mut group = vec![first];
        while self.next.peek().is_some_and(|next| next.entry.path == group[0].entry.path) {
            group.extend(self.next.pop());
            self.advance(group[group.len() - 1].layer);
        }
        Some(group)
    }

    /// Returns the lowest layer whose entry for `path` is visible, and forgets the directories that are finished.
    fn floor(&mut self, path: &[u8]) -> usize {
        // Names that begin with that of a directory and go on with a smaller byte than a slash come before its files.
        let may_go_on = |rest: &[u8]| rest.first().is_none_or(|byte| *byte <= b'/');
        self.floors.retain(|(above, _)| above.is_empty() || path.strip_prefix(&above[..]).is_some_and(may_go_on));
        let is_above =
            |above: &[u8]| above.is_empty() || path.strip_prefix(above).is_some_and(|rest| rest.starts_with(b"/"));
        // Sorted, so the last is the nearest.
        self.floors.iter().rfind(|(above, _)| is_above(above)).map_or(0, |(_, floor)| *floor)
    }

    /// Applies the entries of one path, lowest layer first.
    fn merge(&mut self, mut group: Vec<NextEntry>) -> MergedPath {
        let path = group.first_mut().map(|first| std::mem::take(&mut first.entry.path)).unwrap_or_default();
        let (mut hides_below, mut replaces_below) = (false, false);
        let (mut is_ambiguous, mut begins_implied) = (false, false);
        let floor = self.floor(&path);
        let mut found: Option<(usize, ListedNode)> = None;
        let (mut floor_below, mut exists_from) = (floor, floor);
        let is_own = |node: &ListedNode| node.kind != ListedKind::ImpliedDirectory;
        let last_node = group.iter().rfind(|next| next.entry.node.as_ref().is_some_and(is_own)).map(|next| next.layer);
        for NextEntry { entry, layer } in group.into_iter().filter(|next| next.layer >= floor) {
            hides_below |= entry.is_whiteout || entry.is_opaque;
            replaces_below |= entry.is_whiteout;
            if entry.is_whiteout {
                found = None;
                (floor_below, exists_from) = (layer, layer);
            }
            if entry.is_opaque {
                floor_below = layer;
            }
            let Some(node) = entry.node else { continue };
            let is_implied = node.kind == ListedKind::ImpliedDirectory;
            begins_implied |= is_implied && found.is_none() && floor == 0 && !replaces_below;
            hides_below |= !node.kind.is_directory();
            replaces_below |= !node.kind.is_directory();
            let was_directory = found.as_ref().is_some_and(|(_, before)| before.kind.is_directory());
            is_ambiguous |= found.is_some() && !was_directory && is_implied;
            if found.is_some() && !(was_directory && node.kind.is_directory()) {
                (floor_below, exists_from) = (layer, layer);
            }
            if !(was_directory && is_implied) {
                found = Some((layer, node));
            }
        }
        if floor_below != floor || found.as_ref().is_some_and(|(_, node)| node.kind.is_directory()) {
            self.floors.push((path.clone(), floor_below));
        }
        MergedPath { path, found, hides_below, replaces_below, exists_from, last_node, is_ambiguous, begins_implied }
    }

    /// Returns the next path that a layer has an entry for, visible or not.
    pub(in crate::layers) fn next_path(&mut self) -> Option<Result<MergedPath>> {
        if let Some(error) = self.failed.take() {
            self.next.clear();
            return Some(Err(error));
        }
        let group = self.take_first()?;
        Some(Ok(self.merge(group)))
    }
}

impl Iterator for MergedFiles<'_> {
    type Item = Result<MergedEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.next_path()? {
                Err(error) => return Some(Err(error)),
                Ok(MergedPath { path, found: Some((layer, node)), .. }) => {
                    return Some(Ok(MergedEntry { path, node, layer }));
                }
                Ok(_) => {}
            }
        }
    }
}

impl std::fmt::Debug for MergedFiles<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MergedFiles").field("layers", &self.listings.len()).finish_non_exhaustive()
    }
}
