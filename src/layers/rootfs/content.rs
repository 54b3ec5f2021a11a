//! Reading one file of an image.

use super::entry::{ListedEntry, ListedKind, ListedNode};
use super::layer_files::for_each_file;
use super::listing::LayerListing;
use super::ranged_file::copy_members;
use super::stack::{LayerBelow, Resolved, Rootfs};
use crate::codec::tar::EntryType;
use crate::common::bounded_read::for_each_piece;
use crate::common::error::{Error, ErrorKind, Result};
use crate::common::root::Root;
use crate::spec::{Descriptor, ImagePath};
use crate::store::{BlobSource, StoredImage};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::sync::Arc;

/// The most hard links that are followed to the file that they are names of.
const MOST_NAMES: usize = 40;

/// Opens the regular file at `path` of `image`, whose layers have these `listings`. Links are followed inside of the image.
///
/// The file is kept in an unnamed file of `spool` until it is known to be what the manifest names: the layer is read to its end, or,
/// in a registry, the gzip members that the file is in, if the listing has their digests.
///
/// # Errors
/// Fails if there is no regular file at `path`, the layer is missing or damaged, or `spool` cannot be written.
pub fn open_file(
    image: &StoredImage,
    listings: &[Arc<LayerListing>],
    path: &ImagePath,
    spool: &Root,
) -> Result<impl Read + use<>> {
    let object = path.to_string();
    let (real, _) = resolve(listings, path)?;
    let found = match listings.len().checked_sub(1) {
        Some(top) => follow_hard_links(listings, top, real.as_bytes())?,
        None => None,
    };
    let Some(FoundNode { layer, path, start, node: ListedNode { kind: ListedKind::File { size, .. }, .. } }) = found
    else {
        return Err(Error::invalid(object, "is not a regular file"));
    };
    let mut file = spool.temporary_for_owner()?.into_unnamed()?;
    let (layer, listing) = (&image.manifest.layers[layer], &listings[layer]);
    let content = start..start.saturating_add(size);
    // If that fails, the whole layer is read, which says what is wrong.
    if let Ok(true) = copy_members(&*image.source, (layer, listing), &content, &mut file) {
        file.rewind().map_err(|error| Error::file(spool.path(), "read", error))?;
        return Ok(file);
    }
    copy_out(&*image.source, (layer, listing), &path, &file, spool).map_err(|error| error.within(object))?;
    Ok(file)
}

/// Follows the links of `path`, and returns whether there is a directory.
///
/// # Errors
/// Fails if there is nothing at `path`, its links form a circle, or a listing is damaged.
pub(super) fn resolve(listings: &[Arc<LayerListing>], path: &ImagePath) -> Result<(ImagePath, bool)> {
    let object = path.to_string();
    let below: Vec<LayerBelow<'_>> = listings.iter().map(|listing| LayerBelow::Listed(listing)).collect();
    match Rootfs::new(&below).resolve(path)? {
        Resolved::Node(real, found) => Ok((real, found.node.kind.is_directory())),
        Resolved::Circle => Err(Error::invalid(object, "too many symbolic links")),
        Resolved::NoDirectory(file) => {
            Err(Error::new(ErrorKind::NotFound, object, format!("{file} is not a directory")))
        }
        Resolved::Absent(_) | Resolved::Unseen(..) => {
            Err(Error::new(ErrorKind::NotFound, object, "is not in the image"))
        }
    }
}

/// An entry of a layer that is no hard link.
#[derive(Debug)]
pub(super) struct FoundNode {
    pub(super) layer: usize,
    /// Its path there.
    pub(super) path: Vec<u8>,
    /// Where its content begins in the tar of the layer.
    start: u64,
    pub(super) node: ListedNode,
}

/// Follows the hard links from `path`, as the layers up to `top` have it. Returns `None` if they do not lead to a file, symbolic link
/// or device.
pub(super) fn follow_hard_links(listings: &[Arc<LayerListing>], top: usize, path: &[u8]) -> Result<Option<FoundNode>> {
    let (mut layer, mut path, mut links) = (top, path.to_vec(), 0);
    loop {
        match listings[layer].find(&path)? {
            Some(ListedEntry { node: Some(node), start, .. }) => match node.kind {
                ListedKind::HardLink { target } if links < MOST_NAMES => {
                    links += 1;
                    path = target;
                }
                ListedKind::HardLink { .. } | ListedKind::Directory | ListedKind::ImpliedDirectory => return Ok(None),
                _ => return Ok(Some(FoundNode { layer, path, start, node })),
            },
            Some(ListedEntry { is_whiteout: true, .. }) => return Ok(None),
            _ => match layer.checked_sub(1) {
                Some(below) => layer = below,
                None => return Ok(None),
            },
        }
    }
}

/// Reads the whole layer, and writes the content of its file `path` to `out`, an empty file of `spool`.
fn copy_out(
    source: &dyn BlobSource,
    (layer, listing): (&Descriptor, &LayerListing),
    path: &[u8],
    mut out: &File,
    spool: &Root,
) -> Result<()> {
    let object = format!("blob {}", layer.digest);
    let not_written = |error| Error::file(spool.path(), "write", error);
    let mut found = false;
    for_each_file(source, layer, listing, |place, entry, content| {
        if entry.kind != EntryType::File || place != path {
            return Ok(());
        }
        found = true;
        // A tar may hold a path twice, and the last entry counts.
        out.set_len(0).and_then(|()| out.rewind()).map_err(not_written)?;
        for_each_piece(content, &object, |piece| out.write_all(piece).map_err(not_written))
    })?;
    match found {
        true => out.rewind().map_err(not_written),
        false => Err(Error::corrupt(object, "its listing does not belong to it")),
    }
}
