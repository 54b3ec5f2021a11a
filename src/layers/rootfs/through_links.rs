//! Layers whose files are below symbolic links.
//!
//! A layer may have `lib/x` without an entry for `lib`, on top of a layer where `lib` is a link to `usr/lib`. Extractors follow the
//! link, so the file is `usr/lib/x`. The listing of such a layer is written again with the paths where its files end up.

use super::entry::{ListedKind, ListedNode};
use super::listing::{LayerListing, ListedBlob};
use super::listing_writer::ListingWriter;
use super::moved::{MovedDirectories, place};
use super::stack::{LayerBelow, Resolved, Rootfs};
use crate::common::error::{Error, Result};
use crate::spec::ImagePath;
use std::sync::Arc;

/// Returns the listing of a layer on top of the layers `below`, with the paths where its files end up. `subject` is its layer.
///
/// # Errors
/// Fails if a listing is damaged.
pub(super) fn through_links(
    listing: Arc<LayerListing>,
    below: &[Arc<LayerListing>],
    subject: &ListedBlob,
) -> Result<Arc<LayerListing>> {
    let moved = find_moved(&listing, below)?;
    if moved.is_empty() {
        return Ok(listing);
    }
    let mut writer = ListingWriter::default();
    writer.set_members(listing.members().collect());
    for entry in listing.entries() {
        let entry = entry?;
        let (path, start) = (place(&moved, &entry.path), entry.start);
        if entry.is_whiteout {
            writer.add_whiteout(&path)?;
        }
        if entry.is_opaque {
            writer.add_opaque(&path)?;
        }
        match entry.node {
            // The writer adds those that are needed.
            None | Some(ListedNode { kind: ListedKind::ImpliedDirectory, .. }) => {}
            Some(ListedNode { kind: ListedKind::HardLink { target }, mode, uid, gid, mtime, xattrs }) => {
                let kind = ListedKind::HardLink { target: place(&moved, &target) };
                writer.add(&path, &ListedNode { kind, mode, uid, gid, mtime, xattrs }, start)?;
            }
            Some(node) => writer.add(&path, &node, start)?,
        }
    }
    let listing = LayerListing::own(writer.finish(subject), subject);
    let listing = listing.ok_or_else(|| Error::corrupt("listing of a layer", "cannot be read back"))?;
    Ok(Arc::new(listing.with_moved(moved)))
}

fn find_moved(listing: &LayerListing, below: &[Arc<LayerListing>]) -> Result<MovedDirectories> {
    let below: Vec<LayerBelow<'_>> = below.iter().map(|listing| LayerBelow::Listed(listing)).collect();
    let own = LayerBelow::Listed(listing);
    let lower = Rootfs::new(&below);
    let with_own = Rootfs::new(below.iter().chain([&own]));
    let mut moved = MovedDirectories::new();
    // The links of the layer itself whose names begin the paths that may still come.
    let mut links: Vec<Vec<u8>> = Vec::new();
    for entry in listing.entries() {
        let entry = entry?;
        links.retain(|link| entry.path.strip_prefix(&link[..]).is_some_and(|rest| rest.first() <= Some(&b'/')));
        let is_below = |link: &Vec<u8>| entry.path.get(link.len()) == Some(&b'/');
        if let Some(at) = links.iter().position(is_below) {
            let link = links.remove(at);
            note(&mut moved, link.clone(), with_own.resolve(&ImagePath::new(&link)?)?);
        }
        match entry.node.map(|node| node.kind) {
            Some(ListedKind::ImpliedDirectory) => {
                let here = ImagePath::new(&place(&moved, &entry.path))?;
                note(&mut moved, entry.path, lower.resolve(&here)?);
            }
            Some(ListedKind::Symlink { .. }) => links.push(entry.path),
            _ => {}
        }
    }
    Ok(moved)
}

/// Notes that the directory `from` of a layer is a link, if it leads to another directory or to nothing yet.
fn note(moved: &mut MovedDirectories, from: Vec<u8>, resolved: Resolved) {
    let to = match resolved {
        Resolved::Node(to, found) if found.node.kind.is_directory() => to,
        Resolved::Absent(to) => to,
        _ => return,
    };
    if to.as_bytes() != place(moved, &from) {
        moved.push((from, to.as_bytes().to_vec()));
    }
}
