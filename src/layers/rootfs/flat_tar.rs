//! The final file system of an image as one tar.
//!
//! Its entries are sorted by the bytes of their paths, and those of a layer are not, so the contents are kept in unnamed files
//! first, one for each layer. The same files give the same bytes, in however many layers they are.

use super::entry::{ListedKind, ListedNode};
use super::flat_files::{FlatEntry, FlatFiles};
use super::layer_files::for_each_file;
use super::listing::LayerListing;
use super::path_map::PathMap;
use crate::codec::tar::{self, EntryType, Header, TarEntry, padding};
use crate::common::bounded_read::for_each_piece;
use crate::common::error::{Error, Result};
use crate::common::file_section::append_from;
use crate::common::human_numbers;
use crate::common::progress::{Activity, Progress};
use crate::common::root::Root;
use crate::spec::Descriptor;
use crate::store::{BlobSource, StoredImage};
use rayon::prelude::*;
use std::fs::File;
use std::io::{Read, Write};
use std::sync::Arc;

/// The length of the pieces in which contents are copied, in bytes.
const PIECE: u64 = 256 << 10;

/// Writes the `files` of `image` to `out`, which messages call `object`, as a tar. Contents are kept in unnamed files of `spool`
/// until then.
///
/// # Errors
/// Fails if a layer is missing or damaged, or if `spool` or `out` cannot be written.
pub fn write_flat_tar(
    image: &StoredImage,
    files: &FlatFiles<'_>,
    spool: &Root,
    out: &mut dyn Write,
    object: &str,
    progress: &dyn Progress,
) -> Result<()> {
    let failed = |error| Error::io(object, "write", error);
    let mut kept: Vec<KeptContents> = Vec::new();
    for _ in &image.manifest.layers {
        kept.push(KeptContents {
            places: PathMap::default(),
            file: spool.temporary_for_owner()?.into_unnamed()?,
            end: 0,
        });
    }
    let mut bytes = 0;
    for entry in files.entries() {
        let FlatEntry { node, source, .. } = entry?;
        if let ListedKind::File { size, .. } = node.kind {
            bytes += size;
        }
        if matches!(node.kind, ListedKind::File { .. } | ListedKind::CharacterDevice | ListedKind::BlockDevice) {
            kept[source.layer].places.insert(&source.path, KeptPlace::Missing);
        }
    }
    let activity = Activity::start(progress, object, Some(bytes));
    let layers = image.manifest.layers.par_iter().zip(files.listings()).zip(&mut kept);
    layers
        .filter(|(_, kept)| !kept.places.is_empty())
        .try_for_each(|(layer, kept)| kept.read(&*image.source, layer, spool))?;
    let mut buffer = Vec::new();
    for entry in files.entries() {
        let FlatEntry { path, node, source } = entry?;
        // The root has no name in a tar.
        if path.is_empty() {
            continue;
        }
        let kept = &kept[source.layer];
        let place = kept.places.get(&source.path);
        buffer.clear();
        tar::append(&header(&path, &node, place), &mut buffer);
        out.write_all(&buffer).map_err(failed)?;
        let ListedKind::File { size, .. } = node.kind else { continue };
        let Some(KeptPlace::Content { start, .. }) = place.filter(|place| place.has(size)) else {
            return Err(Error::corrupt("listing of a layer", "has files that the layer does not have"));
        };
        kept.copy(*start, size, &mut buffer, |piece| {
            activity.advance(piece.len() as u64);
            out.write_all(piece).map_err(failed)
        })?;
    }
    out.write_all(&tar::END).map_err(failed)?;
    activity.finish(&human_numbers::size(bytes));
    Ok(())
}

/// The wanted contents of a layer.
struct KeptContents {
    places: PathMap<KeptPlace>,
    file: File,
    /// The number of bytes in the file.
    end: u64,
}

/// What is known of a wanted file.
#[derive(Clone, Copy)]
enum KeptPlace {
    /// It has not been read yet.
    Missing,
    /// Where its content begins, and its length.
    Content { start: u64, size: u64 },
    /// The numbers of a device.
    Device(u32, u32),
}

impl KeptPlace {
    fn has(&self, length: u64) -> bool {
        matches!(self, KeptPlace::Content { size, .. } if *size == length)
    }
}

impl KeptContents {
    /// Reads the wanted files of `layer`. A path may be there twice, and the last entry counts.
    fn read(
        &mut self,
        source: &dyn BlobSource,
        (layer, listing): (&Descriptor, &Arc<LayerListing>),
        spool: &Root,
    ) -> Result<()> {
        let object = format!("blob {}", layer.digest);
        for_each_file(source, layer, listing, |path, entry, content| {
            let Some(place) = self.places.get_mut(path) else { return Ok(()) };
            match entry.kind {
                EntryType::File => {
                    *place = KeptPlace::Content { start: self.end, size: entry.size };
                    self.end += entry.size;
                    keep(content, &self.file, &object, &entry, spool)
                }
                EntryType::CharacterDevice | EntryType::BlockDevice => {
                    *place = KeptPlace::Device(entry.device.0, entry.device.1);
                    Ok(())
                }
                _ => Ok(()),
            }
        })
    }

    /// Passes a content and its padding to `take`, piece by piece.
    fn copy(
        &self,
        start: u64,
        size: u64,
        buffer: &mut Vec<u8>,
        mut take: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut position = 0;
        while position < size {
            let length = (size - position).min(PIECE) as usize;
            buffer.clear();
            let read = append_from(&self.file, start + position, length, buffer)
                .map_err(|error| Error::io("temporary file", "read", error))?;
            if read < length {
                return Err(Error::corrupt("temporary file", "truncated"));
            }
            take(&buffer[..length])?;
            position += length as u64;
        }
        take(&tar::END[..padding(size) as usize])
    }
}

fn keep(content: &mut dyn Read, mut file: &File, object: &str, entry: &TarEntry, spool: &Root) -> Result<()> {
    let not_written = |error| Error::file(spool.path(), "write", error);
    if entry.size <= PIECE {
        // Most files are small, and each is written at once.
        let bytes = crate::common::bounded_read::read(content, PIECE, object)?;
        return file.write_all(&bytes).map_err(not_written);
    }
    for_each_piece(content, object, |piece| file.write_all(piece).map_err(not_written))
}

fn header<'a>(path: &'a [u8], node: &'a ListedNode, place: Option<&KeptPlace>) -> Header<'a> {
    let (kind, size, link) = match &node.kind {
        ListedKind::Directory | ListedKind::ImpliedDirectory => (EntryType::Directory, 0, &b""[..]),
        ListedKind::File { size, .. } => (EntryType::File, *size, &b""[..]),
        ListedKind::Symlink { target } => (EntryType::Symlink, 0, &target[..]),
        ListedKind::HardLink { target } => (EntryType::HardLink, 0, &target[..]),
        ListedKind::CharacterDevice => (EntryType::CharacterDevice, 0, &b""[..]),
        ListedKind::BlockDevice => (EntryType::BlockDevice, 0, &b""[..]),
        ListedKind::Fifo => (EntryType::Fifo, 0, &b""[..]),
    };
    let device = match place {
        Some(KeptPlace::Device(major, minor)) => (*major, *minor),
        _ => (0, 0),
    };
    Header {
        path,
        kind,
        mode: node.mode.into(),
        uid: node.uid.into(),
        gid: node.gid.into(),
        size,
        mtime: node.mtime,
        link,
        xattrs: &node.xattrs,
        device,
    }
}
