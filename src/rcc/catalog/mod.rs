//! Catalogs: what a recorded environment holds.
//!
//! A catalog is untrusted: it may have been made by anybody, and RCC checks nothing of it. Every name becomes a path in an
//! image, so here they are all checked, before anything is written.

mod document;
mod entries;
mod list;
mod mode;
mod name;

use super::{NAME_LENGTH, ObjectDigest};
use crate::bounded;
use crate::compression::{self, Encoding};
use crate::digest::{Algorithm, Digest, Hashing};
use crate::error::{Error, Result};
use crate::progress::{self, Progress};
use list::Entries;
use std::io::{BufReader, Cursor, Read};

pub use name::CatalogName;

/// How much of a document is looked at once, in bytes.
const BUFFER: usize = 64 << 10;

/// How much a catalog may hold.
#[derive(Debug, Clone, Copy)]
pub struct CatalogLimits {
    /// Bytes of the document.
    pub document: u64,
    /// Levels of directories.
    pub depth: usize,
    /// Directories, files and links.
    pub entries: usize,
}

impl Default for CatalogLimits {
    fn default() -> Self {
        CatalogLimits { document: 1 << 30, depth: 256, entries: 10_000_000 }
    }
}

/// A recorded environment. Nothing in it changes after reading.
#[derive(Debug)]
pub struct Catalog {
    name: CatalogName,
    document: Digest,
    recorder: Option<String>,
    path: String,
    identity: String,
    entries: Entries,
    objects: Vec<NamedObject>,
}

/// Something that RCC restores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Where it is, relative to the environment: `bin/python`. Every parent comes before it.
    pub path: &'a str,
    /// What it is.
    pub kind: EntryKind<'a>,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind<'a> {
    /// A directory.
    Directory {
        /// The Unix mode that was recorded. RCC itself restores every directory with 0750 and its umask.
        mode: u32,
    },
    /// A regular file.
    File(FileEntry<'a>),
    /// A symbolic link.
    Link {
        /// The text of the link, exactly as recorded.
        target: &'a str,
    },
}

/// A regular file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileEntry<'a> {
    /// The Unix mode, with setuid, setgid and sticky where they were recorded.
    pub mode: u32,
    /// How many bytes it has, before and after rewriting.
    pub size: u64,
    /// The library object with its content.
    pub digest: ObjectDigest,
    /// The number of that among [`Catalog::objects`].
    pub object: usize,
    /// Where in the content the recorded identity stands and the name of the space goes. Ascending, without overlaps.
    pub rewrites: &'a [u64],
}

impl FileEntry<'_> {
    /// The library object with its content.
    pub fn named_object(&self) -> NamedObject {
        NamedObject { digest: self.digest, size: self.size }
    }
}

/// A library object that a catalog names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamedObject {
    /// Its name.
    pub digest: ObjectDigest,
    /// How many bytes its content has.
    pub size: u64,
}

impl Catalog {
    /// Reads a catalog as it is stored: one JSON document, wrapped by gzip or zstd.
    ///
    /// # Errors
    /// When `stored` is not exactly that, exceeds a limit, does not belong to `name`, or holds an entry that could not be or
    /// must not be restored: an unsafe or doubled name, a digest or a mode that is none, a rewrite outside its file.
    pub fn read(
        stored: impl Read + Send,
        name: &CatalogName,
        limits: &CatalogLimits,
        watcher: &dyn Progress,
    ) -> Result<Catalog> {
        let object = format!("catalog {name}");
        let bounded = bounded::reader(unwrap(stored, &object)?, limits.document, &object);
        // Not kept: it is several times as large as what is in it.
        let mut bytes = Hashing::new(bounded, Algorithm::Sha256);
        let document = document::parse(BufReader::with_capacity(BUFFER, &mut bytes), limits, &object)?;
        let (digest, _) = bytes.finish().map_err(|error| Error::io(&object, "read", error))?;
        check_origin(&document, name, &object)?;
        let document::Document { recorder, identity, path, tree, .. } = document;
        let (entries, objects) = entries::flatten(&tree, identity.len() as u64, &object)?;
        drop(tree);
        let catalog = Catalog { name: name.clone(), document: digest, recorder, path, identity, entries, objects };
        for warning in entries::warnings(&catalog) {
            progress::warn(watcher, &object, &warning);
        }
        Ok(catalog)
    }

    /// The name of its file.
    pub fn name(&self) -> &CatalogName {
        &self.name
    }

    /// The SHA-256 of the JSON document, without the compression around it: the same for the same environment wherever it
    /// is stored, and different as soon as anything in it is.
    pub fn document_digest(&self) -> Digest {
        self.document
    }

    /// The version of RCC that recorded it, where that is known.
    pub fn recorder(&self) -> Option<&str> {
        self.recorder.as_deref()
    }

    /// The name of the directory that was recorded, which stands in its files and is replaced by the name of a space.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// The directory below which every space of this environment must lie, byte by byte.
    pub fn base(&self) -> &str {
        // The path was checked to end in a separator and the identity.
        &self.path[..self.path.len() - self.identity.len() - 1]
    }

    /// All that is restored, sorted by the bytes of the path.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = Entry<'_>> + DoubleEndedIterator {
        (0..self.entries.len()).map(|number| self.numbered(number))
    }

    /// Entry `number` of [`Catalog::entries`], of which there are so many at least.
    pub(in crate::rcc) fn numbered(&self, number: usize) -> Entry<'_> {
        self.entries.entry(number, &self.objects)
    }

    /// The entry at `path`.
    pub fn entry(&self, path: &str) -> Option<Entry<'_>> {
        self.position(path).ok().map(|number| self.numbered(number))
    }

    /// The number of the entry at `path`; where there is none, that of the first one behind it.
    pub(in crate::rcc) fn position(&self, path: &str) -> Result<usize, usize> {
        self.entries.find(path)
    }

    /// Every library object that RCC wants to see before it restores anything, sorted: also those that only links name.
    pub fn objects(&self) -> &[NamedObject] {
        &self.objects
    }

    /// How many bytes the restored files have.
    pub fn size(&self) -> u64 {
        let sizes = self.entries().map(|entry| match entry.kind {
            EntryKind::File(file) => file.size,
            EntryKind::Directory { .. } | EntryKind::Link { .. } => 0,
        });
        sizes.fold(0, u64::saturating_add)
    }

    /// The absolute path of the space `name`.
    ///
    /// # Errors
    /// When RCC would refuse to restore there: the name is not exactly as long as the one that stands in the files.
    pub fn space_path(&self, name: &str) -> Result<String> {
        if name.len() != self.identity.len() {
            let (space, recorded) = (name.len(), self.identity.len());
            let reason = format!("the name of space `{name}` has a length of {space}, the recorded one of {recorded}");
            let hint = match recorded {
                NAME_LENGTH => "a space has 24 characters",
                _ => "record the environment with a newer rcc",
            };
            return Err(Error::invalid(format!("catalog {}", self.name), reason).hint(hint));
        }
        Ok(format!("{}/{name}", self.base()))
    }
}

fn unwrap<'a>(mut stored: impl Read + Send + 'a, object: &str) -> Result<Box<dyn Read + Send + 'a>> {
    let unreadable = |error| Error::io(object, "read", error);
    let mut start = [0; 4];
    let mut filled = 0;
    while filled < start.len() {
        match stored.read(&mut start[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(unreadable(error)),
        }
    }
    let encoding = match Encoding::of_bytes(&start[..filled]) {
        Encoding::Plain if filled == 0 => return Err(Error::corrupt(object, "is empty")),
        Encoding::Plain => return Err(Error::corrupt(object, "is neither gzip nor zstd")),
        encoding => encoding,
    };
    compression::decode(Cursor::new(start).take(filled as u64).chain(stored), encoding).map_err(unreadable)
}

/// Checks what the document says of itself against the name of its file, and the path that everything depends on.
fn check_origin(document: &document::Document, name: &CatalogName, object: &str) -> Result<()> {
    let wrong = |reason: String| Error::invalid(object, reason);
    let document::Document { blueprint, platform, path, identity, .. } = document;
    if blueprint != &name.blueprint.to_string() {
        return Err(wrong(format!("its content is for blueprint `{blueprint}`")));
    }
    if platform != &name.platform {
        return Err(wrong(format!("its content is for platform `{platform}`")));
    }
    if path.chars().any(char::is_control) {
        return Err(wrong(format!("`path`: control characters in `{path}`")));
    }
    let is_windows = platform.starts_with("windows_");
    let separator = if is_windows { '\\' } else { '/' };
    let is_absolute = match is_windows {
        true => path.as_bytes().get(1..3) == Some(b":\\"),
        false => path.starts_with('/'),
    };
    let unsafe_part = |part: &str| matches!(part, "" | "." | "..");
    if !is_absolute || path.split(separator).skip(1).any(unsafe_part) {
        return Err(wrong(format!("`path`: `{path}` is not a clean absolute path")));
    }
    let parent = path.strip_suffix(identity.as_str()).and_then(|parent| parent.strip_suffix(separator));
    if identity.is_empty() || identity.contains(separator) || parent.is_none_or(str::is_empty) {
        return Err(wrong(format!("`path`: `{path}` does not end in the identity `{identity}`")));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
