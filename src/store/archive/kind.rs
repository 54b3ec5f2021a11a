//! Which form an archive has, by what it holds.

use super::ArchiveForm;
use super::members::Members;
use crate::root::Root;
use std::io::Read;
use std::path::Path;

/// How compressed tars begin: gzip, zstd, xz, bzip2.
const COMPRESSED: [&[u8]; 4] = [b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ", b"BZh"];

/// The form of the archive at `path`; nothing for a file that is no tar.
///
/// An archive that is both an image layout and a docker-archive counts as a layout, which knows the digests. Any other tar
/// counts as a docker-archive, also a compressed or damaged one: opening it says what is wrong.
pub fn kind(path: &Path) -> Option<ArchiveForm> {
    let mut start = Vec::new();
    Root::open_named_file(path).ok()?.take(512).read_to_end(&mut start).ok()?;
    if COMPRESSED.iter().any(|magic| start.starts_with(magic)) {
        return Some(ArchiveForm::Docker);
    }
    if start.get(257..262) != Some(b"ustar") {
        return None;
    }
    match Members::open(path) {
        Ok(members) if members.contains("index.json") && members.contains("oci-layout") => Some(ArchiveForm::Oci),
        _ => Some(ArchiveForm::Docker),
    }
}
