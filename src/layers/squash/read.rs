//! Copies the visible entries of one layer.

use super::SquashRequest;
use super::output::{TarOutput, display};
use super::plan::{SquashPlan, Visibility};
use crate::codec::compression::decode;
use crate::codec::tar::{EntryType, Header, Headers, TarEntry, padding};
use crate::common::error::{Error, Result};
use crate::spec::{ImagePath, media_type};
use crate::store::Verified;
use std::io::{self, BufReader, Read};

/// The largest number of a device that a header holds.
const LARGEST_DEVICE: u32 = 0o7_777_777;

/// Reads layer `number` to its end, and copies the files, links and devices that are visible.
///
/// # Errors
/// Fails if the layer is missing or damaged, or holds a path that leads out of it.
pub(super) fn copy_visible(
    request: &SquashRequest<'_>,
    number: usize,
    plan: &SquashPlan,
    output: &mut TarOutput<'_>,
) -> Result<()> {
    let layer = &request.layers[number];
    let object = format!("blob {}", layer.digest);
    let failed = |error| Error::io(&object, "read", error);
    let Some(encoding) = media_type::layer_encoding(&layer.media_type) else {
        return Err(Error::invalid(object, format!("layer type `{}` is not supported", layer.media_type)));
    };
    let mut stored = Verified::new(request.source.open(layer)?, layer);
    let tar = decode(&mut stored, encoding).map_err(failed)?;
    let mut tar = BufReader::with_capacity(64 << 10, tar);
    let mut headers = Headers::new(object.clone());
    while let Some(entry) = headers.next(&mut tar)? {
        let path = ImagePath::new(&entry.path).map_err(|error| error.within(&object))?;
        let left = copy_entry(&entry, path.as_bytes(), plan.fate(number, path.as_bytes()), &mut tar, output)
            .map_err(|error| error.within(&object))?;
        io::copy(&mut (&mut tar).take(left), &mut io::sink()).map_err(failed)?;
    }
    io::copy(&mut tar, &mut io::sink()).map_err(failed)?;
    drop(tar);
    io::copy(&mut stored, &mut io::sink()).map_err(failed)?;
    Ok(())
}

/// Copies one entry, if it is visible. Returns the number of bytes of its content and padding that were not read.
fn copy_entry(
    entry: &TarEntry,
    path: &[u8],
    fate: Visibility<'_>,
    tar: &mut impl Read,
    output: &mut TarOutput<'_>,
) -> Result<u64> {
    let content = entry.size + padding(entry.size);
    // Directories and links are written by the plan, and with the file that they name.
    if matches!(entry.kind, EntryType::Directory | EntryType::HardLink) || is_marker(path) {
        return Ok(content);
    }
    let (first, others) = match fate {
        Visibility::Hidden => return Ok(content),
        Visibility::Visible => (path, &[][..]),
        Visibility::Named(names) => match names.split_first() {
            Some((first, others)) => (first.as_slice(), others),
            None => return Ok(content),
        },
    };
    if entry.device.0.max(entry.device.1) > LARGEST_DEVICE {
        return Err(Error::invalid(display(path), "is a device with a number that Linux does not have"));
    }
    let mut left = content;
    output.header(&header(entry, first, entry.kind))?;
    if entry.kind == EntryType::File {
        copy_content(tar, entry.size, output)?;
        output.pad(entry.size)?;
        left -= entry.size;
    }
    for name in others {
        output.header(&Header { link: first, size: 0, ..header(entry, name, EntryType::HardLink) })?;
    }
    Ok(left)
}

/// Whether an entry is a whiteout, an opaque marker, or a name that AUFS reserved for itself.
fn is_marker(path: &[u8]) -> bool {
    path.rsplit(|byte| *byte == b'/').next().is_some_and(|name| name.starts_with(b".wh.") && name != b".wh.")
}

fn copy_content(tar: &mut impl Read, size: u64, output: &mut TarOutput<'_>) -> Result<()> {
    let mut buffer = vec![0; 64 << 10];
    let mut left = size;
    while left > 0 {
        let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = match tar.read(&mut buffer[..wanted]) {
            Ok(0) => return Err(Error::invalid("tar", "malformed tar: unexpected end inside a file")),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read.map_err(|error| Error::io("tar", "read", error))?,
        };
        output.write(&buffer[..read])?;
        left -= read as u64;
    }
    Ok(())
}

fn header<'a>(entry: &'a TarEntry, path: &'a [u8], kind: EntryType) -> Header<'a> {
    Header {
        path,
        kind,
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        size: if kind == EntryType::File { entry.size } else { 0 },
        mtime: entry.mtime,
        link: if kind == EntryType::Symlink { &entry.link } else { b"" },
        xattrs: &entry.xattrs,
        device: if kind == entry.kind { entry.device } else { (0, 0) },
    }
}
