//! What of several layers is visible in the end.

use super::SquashRequest;
use super::markers::Markers;
use super::output::{TarOutput, ambiguous, display, header};
use crate::codec::tar::{EntryType, Header};
use crate::common::digest::Digest;
use crate::common::error::{Error, Result};
use crate::common::limits::Limit;
use crate::layers::rootfs::{LayerListing, ListedKind, ListedNode, MergedFiles, PathLookup};
use crate::spec::ImagePath;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// The most hard links that are followed to the file that they are names of.
const MOST_NAMES: usize = 40;

/// An entry of a layer: the number of the layer, and the beginning of the digest of its path. A digest instead of the path keeps
/// memory small for millions of entries.
type EntryKey = (u32, [u8; 16]);

/// The entries to copy.
#[derive(Default)]
pub(super) struct SquashPlan {
    visible: HashSet<EntryKey>,
    /// The visible names of entries that have several, sorted.
    names: HashMap<EntryKey, Vec<Vec<u8>>>,
}

/// What becomes of an entry of a layer that is no directory.
pub(super) enum Visibility<'p> {
    /// It is not visible in the end.
    Hidden,
    /// It is copied.
    Visible,
    /// It is copied under the first of these names, and the others are links to that.
    Named(&'p [Vec<u8>]),
}

/// Returns the key of the entry at `path` in layer `layer`.
fn key(layer: usize, path: &[u8]) -> EntryKey {
    let mut short = [0; 16];
    short.copy_from_slice(&Digest::of(path).as_bytes()[..16]);
    (u32::try_from(layer).unwrap_or(u32::MAX), short)
}

impl SquashPlan {
    /// Decides about every entry, and writes the directories, whiteouts and opaque markers.
    pub(super) fn make(request: &SquashRequest<'_>, output: &mut TarOutput<'_>) -> Result<SquashPlan> {
        let mut plan = SquashPlan::default();
        if let Some(path) = request.listings.iter().find_map(|listing| listing.first_moved()) {
            return Err(ambiguous(path));
        }
        let mut markers = Markers::new(request.below, output);
        let mut outside = Vec::new();
        let mut files = MergedFiles::new(request.listings);
        while let Some(merged) = files.next_path() {
            let merged = merged?;
            markers.advance(&merged)?;
            let Some((layer, node)) = &merged.found else {
                markers.deleted(&merged)?;
                continue;
            };
            if node.kind.is_directory() {
                markers.directory(&merged, node)?;
                continue;
            }
            plan.check_count()?;
            match &node.kind {
                ListedKind::HardLink { target } => match content_of(request.listings, *layer, target)? {
                    Some(content) => plan.names.entry(content).or_default().push(merged.path),
                    None => outside.push((merged.path, target.clone(), node.clone())),
                },
                _ => drop(plan.visible.insert(key(*layer, &merged.path))),
            }
        }
        markers.finish()?;
        plan.complete_names(request)?;
        for (path, target, node) in outside {
            plan.write_link_below(request, &path, &target, &node, output)?;
        }
        Ok(plan)
    }

    fn check_count(&self) -> Result<()> {
        Limit::Entries.check_so_far(self.visible.len() + self.names.len(), "image", "file")
    }

    /// Returns what becomes of the entry at `path` in layer `layer`.
    pub(super) fn fate(&self, layer: usize, path: &[u8]) -> Visibility<'_> {
        let key = key(layer, path);
        match self.names.get(&key) {
            Some(names) => Visibility::Named(names),
            None if self.visible.contains(&key) => Visibility::Visible,
            None => Visibility::Hidden,
        }
    }

    /// Adds the own name of each file that has hard links, where it is visible.
    fn complete_names(&mut self, request: &SquashRequest<'_>) -> Result<()> {
        for (number, listing) in request.listings.iter().enumerate() {
            if self.names.is_empty() {
                return Ok(());
            }
            for entry in listing.entries() {
                let path = entry?.path;
                let key = key(number, &path);
                if let Some(names) = self.names.get_mut(&key)
                    && self.visible.remove(&key)
                {
                    names.push(path);
                }
            }
        }
        self.names.values_mut().for_each(|names| names.sort_unstable());
        Ok(())
    }

    /// Writes a hard link to a file of the layers below the range, if that file is still there in the end.
    fn write_link_below(
        &self,
        request: &SquashRequest<'_>,
        path: &[u8],
        target: &[u8],
        node: &ListedNode,
        output: &mut TarOutput<'_>,
    ) -> Result<()> {
        let mut is_touched = false;
        for listing in request.listings {
            is_touched |= listing.find(target)?.is_some();
        }
        let is_file = match ImagePath::new(target) {
            Ok(target) => matches!(request.below.look(&target)?, PathLookup::Node(found)
                if matches!(found.node.kind, ListedKind::File { .. })),
            Err(_) => false,
        };
        if is_touched || !is_file {
            let object = display(path);
            let target = display(target);
            let reason = format!("is a hard link to {target}, which is not a file of these layers");
            return Err(Error::invalid(object, reason).hint("squash from a lower layer on"));
        }
        output.header(&Header { link: target, ..header(path, EntryType::HardLink, node) })
    }
}

/// Follows hard links to the entry with the content, which may be in a lower layer of the range. `None` if it is not there.
fn content_of(listings: &[Arc<LayerListing>], layer: usize, target: &[u8]) -> Result<Option<EntryKey>> {
    let mut name = target.to_vec();
    let mut layer = layer;
    for _ in 0..MOST_NAMES {
        match listings[layer].find(&name)?.and_then(|entry| entry.node).map(|node| node.kind) {
            Some(ListedKind::HardLink { target }) => name = target,
            Some(kind) if kind.is_directory() => return Ok(None),
            Some(_) => return Ok(Some(key(layer, &name))),
            None if layer == 0 => return Ok(None),
            None => layer -= 1,
        }
    }
    Err(Error::invalid(display(target), "hard links in a circle"))
}
