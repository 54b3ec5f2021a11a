//! Detection of the format of an archive by its content.

use super::members::ArchiveMembers;
use super::{ArchiveForm, DockerArchive, OciArchive};
use crate::common::bounded_read;
use crate::common::error::{Error, Result};
use crate::common::root::Root;
use crate::spec::Platform;
use crate::store::StoredImage;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// The number of bytes that identify a file: the first header of a tar.
const START: u64 = 512;

/// The magic numbers of compressed tars: gzip, zstd, xz, bzip2.
const COMPRESSED: [&[u8]; 4] = [b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ", b"BZh"];

/// Returns the form of the archive at `path`; nothing for a file that is not a tar.
///
/// An archive that is both an image layout and a docker-archive counts as a layout, which knows the digests. Any other tar
/// counts as a docker-archive, also a compressed or damaged one: opening it says what is wrong.
pub fn kind(path: &Path) -> Option<ArchiveForm> {
    let start = Root::open_named_file(path).ok()?.take(START);
    let start = bounded_read::read(start, START, "archive").ok()?;
    if COMPRESSED.iter().any(|magic| start.starts_with(magic)) {
        return Some(ArchiveForm::Docker);
    }
    if start.get(257..262) != Some(b"ustar") {
        return None;
    }
    match ArchiveMembers::open(path) {
        Ok(members) if is_layout(&members) => Some(ArchiveForm::Oci),
        _ => Some(ArchiveForm::Docker),
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
    members.contains("index.json") && members.contains("oci-layout")
}

/// Requires that nothing but an image archive or an empty file is lost where `path`, or what it links to, is replaced.
///
/// # Errors
/// Fails if there is another file at `path`.
pub fn check_replaceable(path: &Path) -> Result<()> {
    let is_other = path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() > 0);
    if is_other && OciArchive::open(path).is_err() && DockerArchive::open(path).is_err() {
        return Err(Error::invalid(path.display().to_string(), "exists and is not an image archive")
            .hint("remove it, or name another file"));
    }
    Ok(())
}
