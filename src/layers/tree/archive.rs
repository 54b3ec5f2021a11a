//! Trees from tar archives.
//!
//! A tar is a stream, but a layer needs sorted entries whose sizes are known. The archive is therefore first written to
//! an unnamed temporary file and then read in place. Its files are never unpacked.

use super::rules::{ExtendedAttributes, SPECIAL_HINT, SpecialFiles};
use super::{Access, Attributes, Cause, Content, Entry, Kind, Owner, Owners, PathKind, Rules, TreeBuilder};
use crate::codec::compression::Detected;
use crate::codec::tar;
use crate::codec::tar::{Ending, Headers};
use crate::common::bounded_read;
use crate::common::error::{Error, Result};
use crate::common::progress::{Progress, warn};
use crate::common::root::{Root, path_of_bytes};
use crate::layers::tree::lost_special_bits::Losses;
use crate::layers::tree::unwanted_directories::Litter;
use crate::spec::ImagePath;
use std::collections::BTreeMap;
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::sync::Arc;

impl TreeBuilder {
    /// Adds the entries of the tar stream `source` under `destination`.
    ///
    /// The stream may be plain, gzip or zstd. Messages call it `object`. Owners, modes and times follow `rules`, as for a
    /// directory. The unpacked archive is kept in an unnamed temporary file in `spool` until the process ends.
    ///
    /// # Errors
    /// Returns an error if the archive is malformed, holds a path that leads out of it, or holds a device or pipe and
    /// `rules` do not skip those.
    pub fn add_archive(
        &mut self,
        source: impl Read + Send,
        object: &str,
        spool: &Root,
        destination: &ImagePath,
        rules: &Rules,
        progress: &dyn Progress,
    ) -> Result<()> {
        let file = Arc::new(spooled(source, object, spool)?);
        let length = file.metadata().map_err(|error| Error::io(object, "read", error))?.len();
        let mut reader = BufReader::new(&*file);
        let mut headers = Headers::new(object);
        // An archive may hold a path twice, and then the later entry counts (POSIX, pax).
        let mut latest: BTreeMap<ImagePath, Entry> = BTreeMap::new();
        let mut lost_bits = Losses::default();
        loop {
            reader.seek(SeekFrom::Start(headers.position())).map_err(|error| Error::io(object, "read", error))?;
            let Some(entry) = headers.next(&mut reader)? else { break };
            if entry.offset + entry.size > length {
                return Err(Error::invalid(object, "truncated"));
            }
            let within = |error: Error| error.within(object);
            let inner = ImagePath::new(&entry.path).map_err(within)?;
            let kind = if entry.kind == tar::EntryType::Directory { PathKind::Directory } else { PathKind::Other };
            let relative = path_of_bytes(inner.as_bytes());
            if self.leaves_out(&relative, kind, rules) {
                continue;
            }
            let path = destination.join(&inner).map_err(within)?;
            let own = access(&entry, &path, object, rules)?;
            lost_bits.note(entry.kind == tar::EntryType::File, own, || relative.to_path_buf(), rules);
            match convert(entry, own, path, &file, object, destination, rules)? {
                Some(entry) => drop(latest.insert(entry.path.clone(), entry)),
                None => self.exclude(&relative, kind, Cause::Special),
            }
        }
        lost_bits.warn_about_all(object, progress);
        headers.check_rest(&mut reader)?;
        if let Some(oddity) = headers.ending().and_then(Ending::oddity) {
            warn(progress, object, oddity);
        }
        let mut litter = Litter::default();
        for entry in in_link_order(latest, object)? {
            if let (Kind::File { size, .. }, Some(directory)) = (&entry.kind, entry.path.parent()) {
                litter.count(&directory, destination, 1, *size);
            }
            self.add(entry)?;
        }
        litter.warn(object, progress);
        Ok(())
    }
}

fn spooled(source: impl Read + Send, object: &str, spool: &Root) -> Result<std::fs::File> {
    let failed = |error| Error::io(object, "read", error);
    let content = Detected::new(source).and_then(Detected::decode).map_err(failed)?;
    // The file is unnamed from the start, so that even a killed process does not leave it behind.
    let mut file = spool.temporary()?.into_unnamed()?;
    bounded_read::for_each_piece(content, object, |piece| {
        file.write_all(piece).map_err(|error| Error::file(spool.path(), "write", error))
    })?;
    Ok(file)
}

/// Returns the mode and owner of an entry. An owner outside the range of Linux user IDs fails only if owners are kept.
fn access(entry: &tar::TarEntry, path: &ImagePath, object: &str, rules: &Rules) -> Result<Access> {
    let number = |number: u64| match u32::try_from(number) {
        Ok(number) => Ok(number),
        Err(_) if rules.owners != Owners::Keep => Ok(u32::MAX),
        Err(_) => {
            let reason = format!("`{path}` has the owner {number}, which is not a valid ID on Linux");
            Err(Error::invalid(object, reason).hint("--chown UID:GID"))
        }
    };
    Ok(Access { mode: entry.mode, owner: Owner { uid: number(entry.uid)?, gid: number(entry.gid)? } })
}

fn convert(
    entry: tar::TarEntry,
    own: Access,
    path: ImagePath,
    file: &Arc<std::fs::File>,
    object: &str,
    destination: &ImagePath,
    rules: &Rules,
) -> Result<Option<Entry>> {
    let (kind, attributes) = match entry.kind {
        tar::EntryType::File => {
            let content = Content::Spooled { file: file.clone(), offset: entry.offset };
            (Kind::File { size: entry.size, content }, rules.file(own))
        }
        tar::EntryType::Directory => (Kind::Directory, rules.directory(own)),
        tar::EntryType::Symlink => (Kind::Symlink { target: entry.link.into() }, rules.symlink(own.owner)),
        tar::EntryType::HardLink => {
            let target = ImagePath::new(&entry.link).and_then(|link| destination.join(&link));
            let target = target.map_err(|error| error.within(object))?;
            (Kind::HardLink { target }, rules.file(own))
        }
        tar::EntryType::CharacterDevice | tar::EntryType::BlockDevice | tar::EntryType::Fifo
            if rules.special_files == SpecialFiles::Skip =>
        {
            return Ok(None);
        }
        tar::EntryType::CharacterDevice | tar::EntryType::BlockDevice | tar::EntryType::Fifo => {
            let reason = format!("`{path}` is a device or pipe");
            return Err(Error::invalid(object, reason).hint(SPECIAL_HINT));
        }
    };
    let keeps_xattrs = rules.xattrs == ExtendedAttributes::Keep && !entry.xattrs.is_empty();
    let xattrs = keeps_xattrs.then(|| entry.xattrs.into_boxed_slice());
    Ok(Some(Entry { path, kind, attributes: Attributes { xattrs, ..attributes } }))
}

/// Orders the entries so that each file comes before the hard links to it.
///
/// Sorted by path, a link may come before the file that it names in the archive. The first name of each file gets its
/// content, and the other names link to the first one, with its attributes.
fn in_link_order(mut entries: BTreeMap<ImagePath, Entry>, object: &str) -> Result<Vec<Entry>> {
    let mut names: BTreeMap<ImagePath, Vec<ImagePath>> = BTreeMap::new();
    for entry in entries.values() {
        if let Kind::HardLink { target } = &entry.kind {
            let owner = resolve(target, &entries).ok_or_else(|| {
                Error::invalid(
                    object,
                    format!(
                        "the hard link `{}` has the target `{target}`, which is not a file in the archive",
                        entry.path
                    ),
                )
            })?;
            names.entry(owner).or_default().push(entry.path.clone());
        }
    }
    for (owner, links) in names {
        let Some(Entry { kind, attributes, .. }) = entries.get(&owner).cloned() else { continue };
        // `links` is sorted, because the entries were.
        let first = links.iter().chain([&owner]).min().cloned().unwrap_or_else(|| owner.clone());
        for path in links.into_iter().chain([owner]) {
            let kind = if path == first { kind.clone() } else { Kind::HardLink { target: first.clone() } };
            entries.insert(path.clone(), Entry { path, kind, attributes: attributes.clone() });
        }
    }
    Ok(entries.into_values().collect())
}

/// Follows a chain of hard links to its file. Returns `None` for a missing file, another kind of entry, or a cycle.
fn resolve(target: &ImagePath, entries: &BTreeMap<ImagePath, Entry>) -> Option<ImagePath> {
    let mut target = target;
    for _ in 0..64 {
        let entry = entries.get(target)?;
        match &entry.kind {
            Kind::File { .. } => return Some(entry.path.clone()),
            Kind::HardLink { target: next } => target = next,
            Kind::Directory | Kind::Symlink { .. } => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::progress::Silent;

    const FILE: tar::Header<'_> = tar::Header {
        path: b"f",
        kind: tar::EntryType::File,
        mode: 0o600,
        uid: 7,
        gid: 7,
        size: 0,
        mtime: 9,
        link: b"",
        xattrs: &[],
        device: (0, 0),
    };

    fn archive(headers: &[tar::Header<'_>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for header in headers {
            tar::append(header, &mut bytes);
            bytes.resize(bytes.len() + (header.size + tar::padding(header.size)) as usize, b'c');
        }
        bytes.extend(tar::END);
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Vec<Entry>> {
        let keep = tempfile::tempdir().unwrap();
        let spool = Root::open(keep.path()).unwrap();
        let mut builder = TreeBuilder::new(&Rules::default());
        builder.add_archive(bytes, "x.tar", &spool, &ImagePath::new(b"d").unwrap(), &Rules::default(), &Silent)?;
        assert_eq!(spool.dir().entries().unwrap().count(), 0, "the spooled file has no name");
        Ok(builder.finish()?.entries().collect())
    }

    #[test]
    fn entries_are_normalised_and_moved() {
        let entries = read(&archive(&[tar::Header { path: b"./a//b", size: 3, ..FILE }])).unwrap();
        let last = entries.last().unwrap();
        assert_eq!(last.path.to_string(), "/d/a/b");
        assert_eq!((last.attributes.uid, last.attributes.mode, last.attributes.mtime), (0, 0o600, 0));
        let Kind::File { size, content } = &last.kind else { panic!("{last:?}") };
        let mut bytes = Vec::new();
        content.append(0, 3, *size, &mut bytes).unwrap();
        assert_eq!(bytes, b"ccc");
    }

    #[test]
    fn a_compressed_archive_is_the_same() {
        let plain = archive(&[FILE]);
        let zstd = zstd::bulk::compress(&plain, 1).unwrap();
        assert_eq!(read(&zstd).unwrap().len(), read(&plain).unwrap().len());
    }

    #[test]
    fn links_find_their_file_whatever_the_order() {
        let link = tar::Header { path: b"a", kind: tar::EntryType::HardLink, link: b"./z", ..FILE };
        let chained = tar::Header { path: b"m", kind: tar::EntryType::HardLink, link: b"a", ..FILE };
        let file = tar::Header { path: b"z", size: 5, ..FILE };
        let entries = read(&archive(&[file, link, chained])).unwrap();
        assert!(matches!(entries[1].kind, Kind::File { size: 5, .. }));
        for entry in &entries[2..] {
            assert!(matches!(&entry.kind, Kind::HardLink { target } if target.to_string() == "/d/a"), "{entry:?}");
        }
        assert!(read(&archive(&[link])).unwrap_err().to_string().contains("not a file in the archive"));
        let circle = tar::Header { link: b"a", ..link };
        assert!(read(&archive(&[circle])).is_err());
    }

    #[test]
    fn the_later_of_two_entries_counts() {
        let entries = read(&archive(&[tar::Header { size: 1, ..FILE }, tar::Header { size: 2, ..FILE }])).unwrap();
        assert_eq!(entries.last().unwrap().size(), 2);
    }

    #[test]
    fn unsafe_and_unusable_entries_are_refused() {
        for path in [&b"../x"[..], b"a/../../b"] {
            assert!(read(&archive(&[tar::Header { path, ..FILE }])).unwrap_err().to_string().starts_with("x.tar: "));
        }
        let fifo = tar::Header { kind: tar::EntryType::Fifo, ..FILE };
        assert!(read(&archive(&[fifo])).unwrap_err().to_string().contains("device or pipe"));
        let whole = archive(&[tar::Header { size: 2000, ..FILE }]);
        assert!(read(&whole[..1200]).unwrap_err().to_string().contains("truncated"));
        assert!(
            read(&archive(&[tar::Header { path: b".wh.x", ..FILE }])).unwrap_err().to_string().contains("whiteout")
        );
    }
}
