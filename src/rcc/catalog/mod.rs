//! Catalogs: the contents of a recorded environment.
//!
//! A catalog is untrusted: it may come from anyone, and RCC does not check it. Every name becomes a path in an image,
//! so all names are checked here, before anything is written.

mod document;
mod entries;
mod list;
mod mode;
mod name;

use super::{NAME_LENGTH, ObjectDigest};
use crate::codec::compression::{Detected, Encoding};
use crate::common::bounded_read;
use crate::common::digest::{Algorithm, Digest, Hashing};
use crate::common::error::{Error, Result};
use crate::common::limits::Limit;
use crate::common::progress;
use crate::common::progress::Progress;
use list::CatalogEntries;
use std::io::{BufReader, Read};

pub use name::CatalogName;

/// The size of the read buffer for a document, in bytes.
const BUFFER: usize = 64 << 10;

/// Limits for a catalog.
#[derive(Debug, Clone, Copy)]
pub struct CatalogLimits {
    /// Size of the document, in bytes.
    pub document: u64,
    /// Levels of directories.
    pub depth: usize,
    /// Number of directories, files and links.
    pub entries: usize,
}

impl Default for CatalogLimits {
    fn default() -> Self {
        let entries = usize::try_from(Limit::Entries.value()).unwrap_or(usize::MAX);
        CatalogLimits { document: Limit::CatalogSize.value(), depth: 256, entries }
    }
}

/// A recorded environment. It does not change after reading.
#[derive(Debug)]
pub struct Catalog {
    name: CatalogName,
    document: Digest,
    recorder: Option<String>,
    path: String,
    identity: String,
    entries: CatalogEntries,
    objects: Vec<NamedObject>,
}

/// A directory, file or link that RCC restores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CatalogEntry<'a> {
    /// The path relative to the environment, such as `bin/python`. Every parent comes before it.
    pub path: &'a str,
    /// The kind of the entry.
    pub kind: CatalogEntryKind<'a>,
}

/// The kind of an entry, and its details.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CatalogEntryKind<'a> {
    /// A directory.
    Directory {
        /// The Unix mode that was recorded. RCC itself restores every directory with 0750 and its umask.
        mode: u32,
    },
    /// A regular file.
    File(FileEntry<'a>),
    /// A symbolic link.
    Link {
        /// The target of the link, exactly as recorded.
        target: &'a str,
    },
}

/// A regular file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileEntry<'a> {
    /// The Unix mode, with setuid, setgid and sticky if they were recorded.
    pub mode: u32,
    /// The size in bytes, before and after rewriting.
    pub size: u64,
    /// The digest of the library object with the content.
    pub digest: ObjectDigest,
    /// The index of that object in [`Catalog::objects`].
    pub object: usize,
    /// Offsets in the content at which the name of the space replaces the recorded identity. Ascending, without
    /// overlaps.
    pub rewrites: &'a [u64],
}

impl FileEntry<'_> {
    /// Returns the library object with the content.
    pub fn named_object(&self) -> NamedObject {
        NamedObject { digest: self.digest, size: self.size }
    }
}

/// A library object that a catalog names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamedObject {
    /// The digest of the object.
    pub digest: ObjectDigest,
    /// The size of its content, in bytes.
    pub size: u64,
}

impl Catalog {
    /// Reads a stored catalog: one JSON document, compressed with gzip or zstd.
    ///
    /// # Errors
    /// Returns an error if `stored` is not exactly that, exceeds a limit, does not belong to `name`, or holds an entry
    /// that could not or must not be restored: an unsafe or duplicate name, an invalid digest or mode, a rewrite
    /// outside its file.
    pub fn read(
        stored: impl Read + Send,
        name: &CatalogName,
        limits: &CatalogLimits,
        watcher: &dyn Progress,
    ) -> Result<Catalog> {
        let object = format!("catalog {name}");
        let bounded =
            bounded_read::reader(unwrap(stored, &object)?, Limit::CatalogSize.bound_of(limits.document), &object);
        // The document is parsed during reading and not kept: it is several times as large as the resulting entries.
        let mut bytes = Hashing::new(bounded, Algorithm::Sha256);
        let document = document::parse(BufReader::with_capacity(BUFFER, &mut bytes), limits, &object)?;
        let (digest, _) = bytes.finish().map_err(|error| Error::io(&object, "read", error))?;
        check_origin(&document, name, &object)?;
        let document::CatalogDocument { recorder, identity, path, tree, .. } = document;
        let (entries, objects) = entries::flatten(&tree, identity.len() as u64, limits, &object)?;
        drop(tree);
        let catalog = Catalog { name: name.clone(), document: digest, recorder, path, identity, entries, objects };
        for warning in entries::warnings(&catalog) {
            progress::warn(watcher, &object, &warning);
        }
        Ok(catalog)
    }

    /// Returns the name of the catalog's file.
    pub fn name(&self) -> &CatalogName {
        &self.name
    }

    /// Returns the SHA-256 of the uncompressed JSON document.
    ///
    /// The digest is the same for the same environment wherever it is stored, and changes if anything in it changes.
    pub fn document_digest(&self) -> Digest {
        self.document
    }

    /// Returns the version of RCC that recorded the catalog, if it is known.
    pub fn recorder(&self) -> Option<&str> {
        self.recorder.as_deref()
    }

    /// Returns the name of the recorded directory.
    ///
    /// The name of a space replaces it in the files.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Returns the directory that must contain every space of this environment, byte by byte.
    pub fn base(&self) -> &str {
        // `check_origin` has checked that the path ends in a separator and the identity.
        &self.path[..self.path.len() - self.identity.len() - 1]
    }

    /// Returns all entries that are restored, sorted by the bytes of the path.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = CatalogEntry<'_>> + DoubleEndedIterator {
        (0..self.entries.len()).map(|number| self.numbered(number))
    }

    /// Returns entry `number` of [`Catalog::entries`]. Panics if there are not that many.
    pub(crate) fn numbered(&self, number: usize) -> CatalogEntry<'_> {
        self.entries.entry(number, &self.objects)
    }

    /// Returns the entry at `path`.
    pub fn entry(&self, path: &str) -> Option<CatalogEntry<'_>> {
        self.position(path).ok().map(|number| self.numbered(number))
    }

    /// Returns the index of the entry at `path`.
    ///
    /// The error is the index of the first entry after it.
    pub(crate) fn position(&self, path: &str) -> Result<usize, usize> {
        self.entries.find(path)
    }

    /// Returns every library object that RCC requires before it restores anything, sorted.
    ///
    /// That includes objects that only links name.
    pub fn objects(&self) -> &[NamedObject] {
        &self.objects
    }

    /// Returns the total size of the restored files, in bytes.
    pub fn size(&self) -> u64 {
        let sizes = self.entries().map(|entry| match entry.kind {
            CatalogEntryKind::File(file) => file.size,
            CatalogEntryKind::Directory { .. } | CatalogEntryKind::Link { .. } => 0,
        });
        sizes.fold(0, u64::saturating_add)
    }

    /// Returns the absolute path of the space `name`.
    ///
    /// # Errors
    /// Returns an error if the name is not exactly as long as the recorded identity in the files, since RCC refuses to
    /// restore there.
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

fn unwrap<'a>(stored: impl Read + Send + 'a, object: &str) -> Result<Box<dyn Read + Send + 'a>> {
    let unreadable = |error| Error::io(object, "read", error);
    let stored = Detected::new(stored).map_err(unreadable)?;
    match stored.encoding() {
        Encoding::Plain if stored.is_empty() => Err(Error::corrupt(object, "is empty")),
        Encoding::Plain => Err(Error::corrupt(object, "is neither gzip nor zstd")),
        Encoding::Gzip | Encoding::Zstd => stored.decode().map_err(unreadable),
    }
}

/// Checks the document's header against the name of its file, and its recorded path.
fn check_origin(document: &document::CatalogDocument, name: &CatalogName, object: &str) -> Result<()> {
    let wrong = |reason: String| Error::invalid(object, reason);
    let document::CatalogDocument { blueprint, platform, path, identity, .. } = document;
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
