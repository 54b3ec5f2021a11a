//! The members of an archive, found by one pass over its headers and read in place.

use crate::codec::compression::Encoding;
use crate::codec::tar::{Ending, EntryType, Headers};
use crate::common::bounded_read;
use crate::common::error::{Error, ErrorKind, Result};
use crate::common::file_section::Section;
use crate::common::limits::MostBytes;
use crate::common::root::Root;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

/// The member of a docker-archive that lists its images.
pub(super) const LIST_FILE: &str = "manifest.json";

/// The largest number of members. An image has two for each layer, and a few documents.
const MOST_MEMBERS: usize = 1_000_000;

/// An open archive with the offsets of its files.
#[derive(Debug)]
pub(super) struct ArchiveMembers {
    object: String,
    file: Arc<File>,
    members: BTreeMap<String, ArchiveMember>,
    ending: Option<Ending>,
}

#[derive(Debug, Clone)]
enum ArchiveMember {
    File {
        offset: u64,
        size: u64,
    },
    /// `docker save` once stored equal layers as links to each other.
    Link {
        target: String,
    },
}

impl ArchiveMembers {
    pub(super) fn open(path: &Path) -> Result<Self> {
        ArchiveMembers::read(Root::open_named_file(path)?, path.display().to_string())
    }

    /// Like [`ArchiveMembers::open`], for an open file with the name `object` in messages.
    pub(super) fn read(mut file: File, object: String) -> Result<Self> {
        file.rewind().map_err(|error| Error::io(&object, "read", error))?;
        let file = Arc::new(file);
        let length = file.metadata().map_err(|error| Error::io(&object, "read", error))?.len();
        let mut source = BufReader::new(&*file);
        let start = source.fill_buf().map_err(|error| Error::io(&object, "read", error))?;
        if Encoding::of_bytes(start) != Encoding::Plain {
            return Err(Error::invalid(object, "the archive itself is compressed").hint("decompress it first"));
        }
        let mut headers = Headers::new(&object);
        let mut members = BTreeMap::new();
        loop {
            seek(&mut source, headers.position(), &object)?;
            let Some(entry) = headers.next(&mut source)? else { break };
            let name = member_name(&entry.path, &object)?;
            let member = match entry.kind {
                EntryType::Directory => continue,
                EntryType::File if entry.offset + entry.size > length => {
                    return Err(Error::invalid(object, format!("truncated in the middle of `{name}`")));
                }
                EntryType::File => ArchiveMember::File { offset: entry.offset, size: entry.size },
                EntryType::Symlink => ArchiveMember::Link { target: link_target(&name, &entry.link, &object)? },
                _ => return Err(Error::invalid(object, format!("`{name}` is neither a file nor a directory"))),
            };
            if members.insert(name.clone(), member).is_some() {
                return Err(Error::invalid(object, format!("duplicate member `{name}`")));
            }
            if members.len() > MOST_MEMBERS {
                return Err(Error::invalid(object, format!("more than {MOST_MEMBERS} members")));
            }
        }
        if headers.ending() == Some(Ending::Absent) && members.is_empty() {
            return Err(Error::invalid(object, "an empty file, not an archive"));
        }
        headers.check_rest(&mut source)?;
        Ok(ArchiveMembers { object, file, members, ending: headers.ending() })
    }

    /// Returns warnings about the archive.
    pub(super) fn warnings(&self) -> Vec<String> {
        let oddity = self.ending.and_then(Ending::oddity);
        oddity.map(|oddity| format!("{}: {oddity}", self.object)).into_iter().collect()
    }

    /// Returns the name of the archive in messages.
    pub(super) fn object(&self) -> &str {
        &self.object
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.members.contains_key(name)
    }

    /// Opens a member for reading in place; a link is followed once.
    pub(super) fn member(&self, name: &str) -> Result<(Section, u64)> {
        let missing = || Error::new(ErrorKind::NotFound, &self.object, format!("no `{name}` in the archive"));
        let found = match self.members.get(name).ok_or_else(missing)? {
            ArchiveMember::Link { target } => self.members.get(target).ok_or_else(missing)?,
            file => file,
        };
        match found {
            ArchiveMember::File { offset, size } => Ok((Section::new(self.file.clone(), *offset, *size), *size)),
            ArchiveMember::Link { .. } => Err(Error::invalid(&self.object, format!("`{name}` is a link to a link"))),
        }
    }

    /// Reads a small member completely.
    pub(super) fn document(&self, name: &str, most: impl Into<MostBytes>) -> Result<Vec<u8>> {
        let (section, _) = self.member(name)?;
        bounded_read::read(section, most, &format!("{}: {name}", self.object))
    }
}

/// Moves to `position`, within the buffer where that is possible.
fn seek(source: &mut BufReader<&File>, position: u64, object: &str) -> Result<()> {
    let failed = |error| Error::io(object, "read", error);
    let here = source.stream_position().map_err(failed)?;
    match i64::try_from(i128::from(position) - i128::from(here)) {
        Ok(distance) => source.seek_relative(distance).map_err(failed),
        Err(_) => source.seek(SeekFrom::Start(position)).map(|_| ()).map_err(failed),
    }
}

/// Returns a member's name without `./`; one that leads out of the archive is refused although nothing is ever unpacked.
fn member_name(path: &[u8], object: &str) -> Result<String> {
    let unsafe_name =
        || Error::invalid(object, format!("unsafe name `{}` in the archive", String::from_utf8_lossy(path)));
    let text = std::str::from_utf8(path).map_err(|_| unsafe_name())?;
    if text.starts_with('/') {
        return Err(unsafe_name());
    }
    let parts: Vec<&str> = text.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if parts.contains(&"..") { Err(unsafe_name()) } else { Ok(parts.join("/")) }
}

/// Returns the target of a link, relative to the root of the archive.
fn link_target(name: &str, link: &[u8], object: &str) -> Result<String> {
    let leads_out = || Error::invalid(object, format!("the link `{name}` points outside the archive"));
    let link = std::str::from_utf8(link).map_err(|_| leads_out())?;
    if link.starts_with('/') {
        return Err(leads_out());
    }
    let mut parts: Vec<&str> = name.split('/').collect();
    parts.pop();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop().ok_or_else(leads_out)?),
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside() {
        assert_eq!(member_name(b"./a//b/.", "x").unwrap(), "a/b");
        for bad in [&b"/a"[..], b"../a", b"a/../../b", b"\xff"] {
            assert!(member_name(bad, "x").is_err());
        }
        assert_eq!(link_target("abc/layer.tar", b"../def/layer.tar", "x").unwrap(), "def/layer.tar");
        assert!(link_target("layer.tar", b"../../etc/passwd", "x").is_err());
        assert!(link_target("layer.tar", b"/etc/passwd", "x").is_err());
    }
}
