//! Recognises archives of images by their content.

use super::members::{ArchiveMembers, LIST_FILE};
use super::{ArchiveForm, DockerArchive, OciArchive};
use crate::codec::compression::{Detected, Encoding};
use crate::codec::tar;
use crate::codec::tar::Headers;
use crate::common::bounded_read;
use crate::common::error::{Error, Result};
use crate::common::root::{PathStatus, Root};
use crate::spec::Platform;
use crate::store::StoredImage;
use crate::store::layout::{INDEX_FILE, LAYOUT_FILE};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

/// The number of bytes that show whether a file is a tar: its first header.
const START: u64 = 512;

/// The first bytes of compressed files that cannot be decompressed here: xz and bzip2.
const UNSUPPORTED: [&[u8]; 2] = [b"\xfd7zXZ", b"BZh"];

/// The largest number of entries that are searched. No image has as many entries before those that identify it.
const MOST_SEARCHED: usize = 4096;

/// The number of bytes of a compressed archive that are searched.
const MOST_UNPACKED: u64 = 1 << 20;

/// The number of bytes of a list of images that are searched.
const START_OF_LIST: u64 = 4096;

/// Returns the form of the archive at `path`, or `None` if the file is not a tar.
///
/// An archive that is both an image layout and a docker-archive counts as a layout, which names the digests. Any other
/// tar counts as a docker-archive, even a compressed or damaged one: opening it reports the error.
///
/// # Errors
/// Fails if the file cannot be read.
pub fn detect_form(path: &Path) -> Result<Option<ArchiveForm>> {
    let mut start = Vec::new();
    bounded_read::read_start(Root::open_named_file(path)?, START, &mut start)
        .map_err(|error| Error::file(path, "read", error))?;
    let is_unsupported = UNSUPPORTED.iter().any(|magic| start.starts_with(magic));
    if is_unsupported || Encoding::of_bytes(&start) != Encoding::Plain {
        return Ok(Some(ArchiveForm::Docker));
    }
    if start.get(257..262) != Some(b"ustar") {
        return Ok(None);
    }
    match unless_unreadable(ArchiveMembers::open(path))? {
        Some(members) if is_layout(&members) => Ok(Some(ArchiveForm::Oci)),
        _ => Ok(Some(ArchiveForm::Docker)),
    }
}

/// Returns the image `name` of the archive in `file`, which the engine's program `object` wrote.
///
/// # Errors
/// Fails if it is not an archive, or the image in it has another name, is for another platform, or is damaged.
pub fn read_saved(file: File, object: &str, name: &str, platform: Option<&Platform>) -> Result<StoredImage> {
    let members = ArchiveMembers::read(file, object.to_owned())?;
    match is_layout(&members) {
        true => Arc::new(OciArchive::of(members)?).image(Some(name), platform),
        false => DockerArchive::of(members)?.image(Some(name), platform),
    }
}

fn is_layout(members: &ArchiveMembers) -> bool {
    members.contains(INDEX_FILE) && members.contains(LAYOUT_FILE)
}

/// Returns whether a file of this name and size may be a tar, so that only few files have to be opened.
pub fn may_be_archive(name: &OsStr, size: u64) -> bool {
    let name = name.as_encoded_bytes();
    let is_compressed = [&b".tar.gz"[..], b".tgz", b".tar.zst"].iter().any(|ending| name.ends_with(ending));
    size >= 2 * tar::BLOCK && size.is_multiple_of(tar::BLOCK) || is_compressed
}

/// Returns whether `file` is an archive of an image, also a compressed one. An unreadable file is not.
///
/// Only the start of the archive is read. Other than [`detect_form`], it is not checked.
pub fn is_archive_of_image(mut file: File) -> bool {
    let Ok(stored) = Detected::new(&file) else { return false };
    match stored.encoding() {
        Encoding::Plain => file.rewind().is_ok() && holds_image(&mut file),
        Encoding::Gzip | Encoding::Zstd => {
            let mut unpacked = Vec::new();
            let Ok(content) = stored.decode() else { return false };
            // The entries before an error, or before the limit, may be enough.
            bounded_read::read_start(content, MOST_UNPACKED, &mut unpacked).ok();
            holds_image(&mut Cursor::new(unpacked))
        }
    }
}

fn holds_image(archive: &mut (impl Read + Seek)) -> bool {
    let mut archive = BufReader::new(archive);
    let mut headers = Headers::new("archive");
    for _ in 0..MOST_SEARCHED {
        let at_header = archive.seek(SeekFrom::Start(headers.position()));
        let Some(entry) = at_header.ok().and_then(|_| headers.next(&mut archive).ok().flatten()) else { return false };
        let path = String::from_utf8_lossy(entry.path.strip_prefix(b"./").unwrap_or(&entry.path));
        match &*path {
            LAYOUT_FILE => return true,
            // A layout in an archive begins with its blobs, which may be large.
            _ if path.strip_prefix("blobs/sha256/").is_some_and(is_digest) => return true,
            LIST_FILE => {
                let mut start = Vec::new();
                let content = archive.seek(SeekFrom::Start(entry.offset));
                let read = content.and_then(|_| bounded_read::read_start(&mut archive, START_OF_LIST, &mut start));
                let start = String::from_utf8_lossy(&start);
                return read.is_ok() && start.trim_start().starts_with('[') && start.contains("\"Layers\"");
            }
            _ => {}
        }
    }
    false
}

fn is_digest(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Returns the oci-archive at `path`, whose images a new archive there has to keep. Requires that nothing but an image archive or
/// an empty file is lost where `path`, or what it links to, is replaced.
///
/// # Errors
/// Fails if there is another file at `path`, or one that cannot be read.
pub fn archive_to_replace(path: &Path) -> Result<Option<OciArchive>> {
    if !matches!(PathStatus::of(path)?, PathStatus::File(1..)) {
        return Ok(None);
    }
    if let Some(archive) = unless_unreadable(OciArchive::open(path))? {
        return Ok(Some(archive));
    }
    match unless_unreadable(DockerArchive::open(path))? {
        Some(_) => Ok(None),
        None => Err(Error::invalid(path.display().to_string(), "exists and is not an image archive")
            .hint("remove it, or name another file")),
    }
}

/// Returns what was opened, or `None` if the file has another or damaged content.
fn unless_unreadable<T>(opened: Result<T>) -> Result<Option<T>> {
    match opened {
        Err(error) if error.is_of_the_content() => Ok(None),
        opened => opened.map(Some),
    }
}
