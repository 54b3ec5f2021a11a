//! Time zones from an archive: a tar or zip of `zoneinfo`, such as a package of tzdata or Go's `zoneinfo.zip`.

use super::{Content, Entry, Kind, PathKind, Rules, Tree, TreeBuilder};
use crate::codec::zip::{Archive, Start};
use crate::common::bounded_read::{self, read_full};
use crate::common::error::{Error, Result};
use crate::common::file_section::read_full_at;
use crate::common::progress::Progress;
use crate::common::root::{Root, path_of_bytes};
use crate::layers::tree::{Access, Owner};
use crate::spec::ImagePath;
use std::fs::File;
use std::io::Read;

/// How a file with a time zone begins (RFC 8536).
const ZONE_MARK: &[u8] = b"TZif";

/// The zone that every directory of time zones has.
const UTC: &[u8] = b"UTC";

/// The largest content of a zip of time zones, in bytes. All zones there are take less than 4 MiB.
const LARGEST_ZIP: u64 = 64 << 20;

/// The most links from one zone to another.
const MOST_LINKS: usize = 8;

/// Reads the start of a file, and returns whether it is a time zone (RFC 8536).
///
/// # Errors
/// Returns an error if it cannot be read.
pub fn is_time_zone(mut file: impl Read) -> std::io::Result<bool> {
    let mut start = [0; ZONE_MARK.len()];
    Ok(read_full(&mut file, &mut start)? == start.len() && start == ZONE_MARK)
}

impl TreeBuilder {
    /// Adds the time zones in the archive `file`, a zip or a tar, under `destination`.
    ///
    /// They are those of the first directory with a time zone called UTC, by depth and name; what is outside of it is no time zone and is
    /// not added. Messages call the archive `object`. A tar may be compressed, and is unpacked into an unnamed file in `spool`.
    ///
    /// # Errors
    /// Returns an error if the archive is malformed or has no such directory, or a zip is too large.
    pub fn add_time_zones(
        &mut self,
        file: File,
        object: &str,
        spool: &Root,
        destination: &ImagePath,
        rules: &Rules,
        progress: &dyn Progress,
    ) -> Result<()> {
        let everything = Rules { ignore: super::IgnoreRules::default(), ..rules.clone() };
        let mut unpacked = TreeBuilder::new(rules);
        match is_zip(&file) {
            true => unpacked.add_zip(file, object, &everything)?,
            false => unpacked.add_archive(file, object, spool, &ImagePath::root(), &everything, progress)?,
        }
        let unpacked = unpacked.finish()?;
        let zones = directory_of_zones(&unpacked)
            .ok_or_else(|| Error::invalid(object, "no directory in it has a time zone called UTC"))?;
        self.add_destination(destination, rules.directory(Access { mode: 0o755, owner: Owner::default() }))?;
        let is_excluded = |zone: &[u8]| rules.ignore.excludes(&path_of_bytes(zone), PathKind::Other).is_some();
        for entry in unpacked.entries() {
            let Some(relative) = below(&entry.path, &zones) else { continue };
            let kind = if matches!(entry.kind, Kind::Directory) { PathKind::Directory } else { PathKind::Other };
            if self.leaves_out(&path_of_bytes(relative), kind, rules) {
                continue;
            }
            let to = destination.join(&ImagePath::new(relative)?)?;
            let kind = match entry.kind {
                Kind::HardLink { target } => match below(&target, &zones).filter(|zone| !is_excluded(zone)) {
                    Some(zone) => Kind::HardLink { target: destination.join(&ImagePath::new(zone)?)? },
                    // The first name of the file is not added, so this name becomes the file.
                    None => {
                        let missing =
                            || Error::invalid(object, format!("the target of the link {} is missing", entry.path));
                        unpacked.find(&target).ok_or_else(missing)?.kind
                    }
                },
                kind => kind,
            };
            self.add(Entry { path: to, kind, attributes: entry.attributes })?;
        }
        Ok(())
    }

    /// Adds the members of a zip.
    fn add_zip(&mut self, file: File, object: &str, rules: &Rules) -> Result<()> {
        let archive = Archive::open_from(file, object, Start::OfFile)?;
        let mut room = LARGEST_ZIP;
        for name in archive.names() {
            let path = ImagePath::new(name.as_bytes()).map_err(|error| error.within(object))?;
            let (member, owner) = (archive.member(name)?, Owner::default());
            if name.ends_with('/') {
                let attributes = rules.directory(Access { mode: 0o755, owner });
                self.add(Entry { path, kind: Kind::Directory, attributes })?;
                continue;
            }
            let too_large = || Error::invalid(object, "larger than 64 MiB, so not an archive of time zones alone");
            room = room.checked_sub(member.size()).ok_or_else(too_large)?;
            let content = bounded_read::read(archive.read(member), member.size(), object)?;
            let kind = Kind::File { size: content.len() as u64, content: Content::Bytes(content.into()) };
            self.add(Entry { path, kind, attributes: rules.file(Access { mode: 0o644, owner }) })?;
        }
        Ok(())
    }
}

fn is_zip(file: &File) -> bool {
    let mut start = [0; 4];
    read_full_at(file, &mut start, 0).is_ok_and(|read| read == start.len()) && start.starts_with(b"PK")
}

/// Returns the directory whose zone UTC is a time zone: of several the one with the fewest names above it, and of those the first.
fn directory_of_zones(tree: &Tree) -> Option<ImagePath> {
    let has_zone = |entry: &Entry| entry.path.name() == UTC && is_zone(tree, &entry.path);
    let directories = tree.entries().filter(has_zone).filter_map(|entry| entry.path.parent());
    directories.min_by_key(|directory| directory.names().count())
}

/// Returns whether the entry at `path` is a time zone, or a link to one.
fn is_zone(tree: &Tree, path: &ImagePath) -> bool {
    let mut at = Some(path.clone());
    for _ in 0..MOST_LINKS {
        let Some(entry) = at.and_then(|path| tree.find(&path)) else { return false };
        at = match entry.kind {
            Kind::File { size, content } => {
                let mut start = Vec::new();
                return size >= ZONE_MARK.len() as u64
                    && content.append(0, ZONE_MARK.len(), size, &mut start).is_ok()
                    && start == ZONE_MARK;
            }
            Kind::HardLink { target } => Some(target),
            Kind::Symlink { target } => target_of(&entry.path, &target),
            Kind::Directory => return false,
        };
    }
    false
}

/// Returns the path that a relative link leads to; `None` if it leads out of the archive.
fn target_of(link: &ImagePath, target: &[u8]) -> Option<ImagePath> {
    let mut at = if target.starts_with(b"/") { ImagePath::root() } else { link.parent()? };
    for name in target.split(|byte| *byte == b'/') {
        at = match name {
            b"" | b"." => at,
            b".." => at.parent()?,
            name => at.join_name(name).ok()?,
        };
    }
    Some(at)
}

/// Returns the part of `path` below `directory`; `None` if it is not below it.
fn below<'p>(path: &'p ImagePath, directory: &ImagePath) -> Option<&'p [u8]> {
    let bytes = path.as_bytes();
    match directory.is_root() {
        true => Some(bytes),
        false => bytes.strip_prefix(directory.as_bytes())?.strip_prefix(b"/"),
    }
}
