//! Images that lie in a source: a copy of them in the image of that source would only make it grow from build to build.

use crate::codec::compression::{Encoding, decode};
use crate::codec::tar;
use crate::codec::tar::Headers;
use crate::common::bounded_read;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufReader, Cursor, Read, Seek, SeekFrom};

/// The file that makes a directory an image layout.
pub(super) const LAYOUT_FILE: &str = "oci-layout";

/// The file that builders of a context look for.
pub const DOCKERFILE: &str = "Dockerfile";

/// How every Dockerfile begins that this program writes.
pub const DOCKERFILE_MARK: &str = "# The tars are what `ocibuild dockerfile --context DIR` writes beside this file.";

/// More entries than this are not looked at: no image has as many in front of what names it.
const MOST_SEARCHED: usize = 4096;

/// How much of a compressed archive is looked at, in bytes.
const MOST_UNPACKED: u64 = 1 << 20;

/// How much of a list of images is looked at, in bytes.
const START_OF_LIST: u64 = 4096;

/// The forms in which images lie in a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ImageForm {
    /// A directory with `oci-layout`.
    Layout,
    /// A tar that holds a layout, or what `docker save` writes.
    Archive,
    /// A Dockerfile and the tars that it adds, written by this program.
    Context,
}

impl std::fmt::Display for ImageForm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ImageForm::Layout => "an image layout",
            ImageForm::Archive => "an archive of an image",
            ImageForm::Context => "a context with an image",
        })
    }
}

/// Whether a file of this name and size may be a tar. Nearly every other file need not be opened.
pub(super) fn may_be_archive(name: &OsStr, size: u64) -> bool {
    size >= 2 * tar::BLOCK && size.is_multiple_of(tar::BLOCK) || is_compressed(name)
}

fn is_compressed(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    [&b".tar.gz"[..], b".tgz", b".tar.zst"].iter().any(|ending| name.ends_with(ending))
}

/// Whether `file` is an archive that holds an image. An unreadable one does not count.
pub(super) fn is_archive_of_image(mut file: File) -> bool {
    let mut start = [0; 4];
    if file.read_exact(&mut start).is_err() {
        return false;
    }
    match Encoding::of_bytes(&start) {
        Encoding::Plain => file.rewind().is_ok() && holds_image(&mut file),
        encoding => {
            let mut unpacked = Vec::new();
            let stored = Cursor::new(start).chain(file);
            let Ok(content) = decode(stored, encoding) else { return false };
            // What was unpacked before a fault, or before the end of what is looked at, may tell.
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
        let path = entry.path.strip_prefix(b"./").unwrap_or(&entry.path);
        match path {
            b"oci-layout" => return true,
            // A layout in an archive begins with its blobs, and they may be large.
            _ if path.strip_prefix(b"blobs/sha256/").is_some_and(is_digest) => return true,
            b"manifest.json" => {
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

fn is_digest(name: &[u8]) -> bool {
    name.len() == 64 && name.iter().all(u8::is_ascii_hexdigit)
}

/// Whether `file` is a Dockerfile that this program wrote.
pub(super) fn is_own_dockerfile(file: File) -> bool {
    let mut start = Vec::new();
    bounded_read::read_start(file, DOCKERFILE_MARK.len() as u64, &mut start).is_ok()
        && start == DOCKERFILE_MARK.as_bytes()
}
