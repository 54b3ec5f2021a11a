//! Reading one file of an image.

use super::entry::{ListedEntry, ListedKind};
use super::listing::LayerListing;
use crate::codec::compression::decode;
use crate::codec::tar::{EntryType, Headers, padding};
use crate::common::error::{Error, ErrorKind, Result};
use crate::layers::rootfs::scan::encoding_of;
use crate::spec::{Descriptor, ImagePath};
use crate::store::{BlobSource, StoredImage, Verified};
use std::io::{self, BufReader, Read, Write};
use std::sync::Arc;

/// The most hard links that are followed to the file that they are names of.
const MOST_NAMES: usize = 40;

/// Writes the content of the regular file at `path` to `out`. `path` is free of symbolic links, and `listings` are those of the
/// image's layers.
///
/// The layer is read to its end, so that what was written is known to be what the manifest names.
///
/// # Errors
/// Fails if there is no regular file at `path`, the layer is missing or damaged, or `out` cannot be written.
pub fn write_file(
    image: &StoredImage,
    listings: &[Arc<LayerListing>],
    path: &ImagePath,
    out: &mut dyn Write,
) -> Result<()> {
    let object = || format!("/{}", String::from_utf8_lossy(path.as_bytes()));
    for (listing, layer) in listings.iter().zip(&image.manifest.layers).rev() {
        let Some(ListedEntry { node: Some(_), .. }) = listing.find(path.as_bytes())? else { continue };
        let Some(name) = name_in_layer(listing, path.as_bytes())? else {
            return Err(Error::invalid(object(), "is not a regular file"));
        };
        return copy_out(&*image.source, layer, &name, out).map_err(|error| error.within(object()));
    }
    Err(Error::new(ErrorKind::NotFound, object(), "is not in the image"))
}

/// Follows hard links to the entry with the content. Returns `None` if that is not a regular file.
fn name_in_layer(listing: &LayerListing, path: &[u8]) -> Result<Option<Vec<u8>>> {
    let mut name = path.to_vec();
    for _ in 0..MOST_NAMES {
        match listing.find(&name)?.and_then(|entry| entry.node).map(|node| node.kind) {
            Some(ListedKind::File { .. }) => return Ok(Some(name)),
            Some(ListedKind::HardLink { target }) => name = target,
            _ => return Ok(None),
        }
    }
    Ok(None)
}

fn copy_out(source: &dyn BlobSource, layer: &Descriptor, name: &[u8], out: &mut dyn Write) -> Result<()> {
    let object = format!("blob {}", layer.digest);
    let failed = |error| Error::io(&object, "read", error);
    let Some(encoding) = encoding_of(layer) else {
        return Err(Error::invalid(object, format!("`{}` is no layer that can be read", layer.media_type)));
    };
    let mut stored = Verified::new(source.open(layer)?, layer);
    let tar = decode(&mut stored, encoding).map_err(failed)?;
    let mut tar = BufReader::with_capacity(64 << 10, tar);
    let mut headers = Headers::new(object.clone());
    let mut last: Option<u64> = None;
    // A tar may hold a path twice, and the last entry counts; such a tar is read a second time.
    while let Some(entry) = headers.next(&mut tar)? {
        if entry.kind == EntryType::File && is_path(&entry.path, name) {
            last = Some(entry.offset);
        }
        skip(&mut tar, entry.size + padding(entry.size)).map_err(failed)?;
    }
    io::copy(&mut tar, &mut io::sink()).map_err(failed)?;
    drop(tar);
    io::copy(&mut stored, &mut io::sink()).map_err(failed)?;
    let Some(offset) = last else { return Err(Error::corrupt(object, "its listing does not belong to it")) };
    let mut tar = BufReader::with_capacity(64 << 10, decode(source.open(layer)?, encoding).map_err(failed)?);
    let mut headers = Headers::new(object.clone());
    while let Some(entry) = headers.next(&mut tar)? {
        if entry.offset == offset {
            return copy_to(&mut (&mut tar).take(entry.size), out, &object);
        }
        skip(&mut tar, entry.size + padding(entry.size)).map_err(failed)?;
    }
    Err(Error::new(ErrorKind::Changed, object, "changed while it was read"))
}

fn is_path(written: &[u8], name: &[u8]) -> bool {
    ImagePath::new(written).is_ok_and(|path| path.as_bytes() == name)
}

fn skip(source: &mut impl Read, length: u64) -> io::Result<()> {
    io::copy(&mut source.take(length), &mut io::sink()).map(drop)
}

fn copy_to(content: &mut impl Read, out: &mut dyn Write, object: &str) -> Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match content.read(&mut buffer).map_err(|error| Error::io(object, "read", error))? {
            0 => return Ok(()),
            length => {
                out.write_all(&buffer[..length]).map_err(|error| Error::io("standard output", "write", error))?;
            }
        }
    }
}
