//! Reading the files of one layer, in the order of its tar.

use super::listing::LayerListing;
use super::scan::encoding_of;
use crate::codec::compression::decode;
use crate::codec::tar::{Headers, TarEntry, padding};
use crate::common::error::{Error, Result};
use crate::spec::{Descriptor, ImagePath};
use crate::store::{BlobSource, Verified};
use std::io::{self, BufReader, Read};

/// Passes every entry of `layer`, with the path at which `listing` has it and a reader of its content, to `take`, and reads the layer
/// to its end.
///
/// # Errors
/// Returns the error of `take`, and an error if the layer is missing, damaged or of an unknown type, or has an
/// entry that leads out of the image. What was taken is not
/// verified then.
pub(super) fn for_each_file(
    source: &dyn BlobSource,
    layer: &Descriptor,
    listing: &LayerListing,
    mut take: impl FnMut(&[u8], TarEntry, &mut dyn Read) -> Result<()>,
) -> Result<()> {
    let object = format!("blob {}", layer.digest);
    let failed = |error| Error::io(&object, "read", error);
    let Some(encoding) = encoding_of(layer) else {
        return Err(Error::invalid(object, format!("`{}` is no layer that can be read", layer.media_type)));
    };
    let mut stored = Verified::new(source.open(layer)?, layer);
    let mut tar = BufReader::with_capacity(64 << 10, decode(&mut stored, encoding).map_err(failed)?);
    let mut headers = Headers::new(object.clone());
    while let Some(entry) = headers.next(&mut tar)? {
        let size = entry.size;
        let mut content = (&mut tar).take(size);
        let path = ImagePath::new(&entry.path).map_err(|error| error.within(&object))?;
        take(&listing.place(path.as_bytes()), entry, &mut content)?;
        let left = content.limit() + padding(size);
        if io::copy(&mut (&mut tar).take(left), &mut io::sink()).map_err(failed)? < left {
            return Err(Error::corrupt(object, "truncated inside a file"));
        }
    }
    io::copy(&mut tar, &mut io::sink()).map_err(failed)?;
    drop(tar);
    io::copy(&mut stored, &mut io::sink()).map(drop).map_err(failed)
}
