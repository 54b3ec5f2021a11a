//! Maintenance of the cache directory: listing, pruning and repairing layers, bases and other files.
//!
//! Everything is an [`Item`]: files that belong together, and when they were last used. Items are listed without writing
//! anything and without relying on any index, so that a full disk or a damaged file does not prevent it. Files of a running
//! build are never removed (see [`Running`]).

mod bases;
mod damage;
mod files;
mod layers;
mod tidy;

pub use files::{DOWNLOADS, ROBOTS, UNFINISHED_ROBOT, note_use};
pub use tidy::CacheLimits;

use super::Running;
use crate::common::digest::Digest;
use crate::common::directory_lock::DirectoryLock;
use crate::common::error::{Error, Result};
use crate::common::root::Root;
use crate::spec::reference::Reference;
use cap_fs_ext::MetadataExt as _;
use cap_std::fs::Metadata;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// The directories of the cache that may hold temporary files. Those of running builds and of unpacked robots are apart.
const DIRECTORIES: [&str; 12] = [
    "bases",
    "block-index",
    "blocks",
    "layers",
    "left-out",
    "listings",
    DOWNLOADS,
    "seen",
    "signatures",
    "store",
    "used",
    "verified",
];

/// How many levels of directories one of these has, as in `store/blobs/sha256`.
const DEEPEST: usize = 2;

/// The maintenance of a cache directory, as `ocibuild cache` uses it.
#[derive(Debug)]
pub struct Upkeep {
    directory: Root,
    now: SystemTime,
}

/// The kind of a file in the cache directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ItemKind {
    /// The blob of a layer.
    Layer,
    /// A key under which a layer is found.
    Key,
    /// The block list of a layer.
    BlockList,
    /// A base image.
    Base,
    /// The listed content of a base.
    Listing,
    /// A downloaded program.
    Download,
    /// The signatures of a base.
    Signatures,
    /// An unpacked robot that came in one file.
    Robot,
    /// A record that a file was found intact, or when something was used.
    Note,
    /// A file that nothing uses.
    Leftover,
}

/// Files of the cache directory that belong together.
#[derive(Debug)]
pub struct Item {
    /// The kind of its main file.
    pub kind: ItemKind,
    /// Its name for users: a digest, or the name of a base.
    pub name: String,
    /// When it was last used.
    pub used: SystemTime,
    /// Its files.
    pub files: Vec<Stored>,
    /// The image to remove from the list of bases with it.
    listed: Option<Digest>,
    /// The repository that a layer comes from; `None` if it was built on this machine.
    pub from: Option<Reference>,
}

/// A file of the cache directory, or a directory that is removed as a whole.
#[derive(Debug)]
pub struct Stored {
    /// Its kind.
    pub kind: ItemKind,
    /// Its size in bytes.
    pub size: u64,
    /// Whether a layout has a hard link to it, so that removing it frees no space.
    pub is_shared: bool,
    directory: Root,
    name: String,
    used: SystemTime,
}

/// The result of pruning a cache.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// The number of removed items of each kind.
    pub items: BTreeMap<ItemKind, usize>,
    /// The number of freed bytes. Files with a hard link in a layout do not count.
    pub freed: u64,
    /// Whether items were kept because builds are running.
    pub is_in_use: bool,
}

impl Upkeep {
    /// Creates the maintenance of the cache in `directory`, at the time `now`.
    pub fn new(directory: Root, now: SystemTime) -> Upkeep {
        Upkeep { directory, now }
    }

    /// Returns the path of the cache.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Prevents other processes from pruning the cache until the lock is dropped.
    ///
    /// # Errors
    /// Fails if another process has been pruning the cache for a minute.
    pub fn hold(&self) -> Result<DirectoryLock> {
        DirectoryLock::shared(&self.directory)
    }

    /// Lists all items, the least recently used first.
    ///
    /// # Errors
    /// Fails if a directory cannot be read.
    pub fn items(&self) -> Result<Vec<Item>> {
        let mut items = layers::items(&self.directory)?;
        items.extend(bases::items(&self.directory)?);
        items.extend(files::items(&self.directory)?);
        items.sort_by(|a, b| (a.used, &a.name).cmp(&(b.used, &b.name)));
        Ok(items)
    }

    /// Removes items beyond `limits` and useless files. Files of a running build are kept.
    ///
    /// # Errors
    /// Fails if a directory cannot be read, a file cannot be removed, or another process has locked the cache for a minute.
    pub fn prune(&self, limits: CacheLimits) -> Result<Pruned> {
        let _lock = DirectoryLock::of(&self.directory)?;
        self.prune_locked(limits)
    }

    fn prune_locked(&self, limits: CacheLimits) -> Result<Pruned> {
        let in_use_since = Running::first(&self.directory)?;
        self.sweep();
        let mut pruned = Pruned::default();
        if in_use_since.is_none() {
            self.discard_unreadable_stores()?;
        }
        let items = self.items()?;
        let mut left: u64 = items.iter().map(Item::size).sum();
        let mut forgotten = BTreeSet::new();
        for item in items {
            let is_useless = item.kind == ItemKind::Leftover;
            if !(is_useless || limits.exclude(&item, left, self.now)) {
                continue;
            }
            if in_use_since.is_some_and(|since| item.used >= since || is_useless) {
                pruned.is_in_use |= !is_useless;
                continue;
            }
            left -= item.size();
            for file in &item.files {
                pruned.freed += file.remove()?;
            }
            forgotten.extend(item.listed);
            *pruned.items.entry(item.kind).or_default() += 1;
        }
        // Last: a listed base that is missing is fetched again, and a full disk has room for a new list only now.
        bases::forget(&self.directory, &forgotten)?;
        Ok(pruned)
    }

    /// Removes temporary files of killed processes.
    fn sweep(&self) {
        self.directory.sweep_temporaries();
        for name in DIRECTORIES {
            // What cannot be opened only takes disk space.
            if let Ok(directory) = self.directory.directory(name) {
                sweep_below(&directory, DEEPEST);
            }
        }
    }
}

impl Item {
    /// Returns the total size of its files, in bytes.
    pub fn size(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    /// Creates an item of one file, with its name.
    fn of(kind: ItemKind, file: Stored) -> Item {
        Item { kind, name: file.name.clone(), used: file.used, files: vec![file], listed: None, from: None }
    }

    /// Adds a file whose modification time is a time of use.
    fn add(&mut self, file: Stored) {
        self.used = self.used.max(file.used);
        self.files.insert(0, file);
    }
}

impl Stored {
    fn of(kind: ItemKind, directory: &Root, name: &str, metadata: &Metadata) -> Stored {
        let used = metadata.modified().map_or(UNIX_EPOCH, cap_std::time::SystemTime::into_std);
        let (size, is_shared) = (metadata.len(), metadata.nlink() > 1);
        Stored { kind, size, is_shared, directory: directory.clone(), name: name.to_owned(), used }
    }

    /// Removes the file, and returns the number of freed bytes.
    fn remove(&self) -> Result<u64> {
        let metadata = self.directory.dir().symlink_metadata(&self.name);
        if metadata.as_ref().is_ok_and(Metadata::is_dir) {
            return self.directory.remove_tree(&self.name).map(|()| self.size);
        }
        let links = metadata.map_or(0, |metadata| metadata.nlink());
        match self.directory.dir().remove_file(&self.name) {
            Ok(()) => Ok(if links == 1 { self.size } else { 0 }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(self.directory.failed(&self.name, "remove", error)),
        }
    }
}

/// Removes temporary files of killed processes in `directory` and `depth` levels below it. What cannot be read only takes
/// disk space.
fn sweep_below(directory: &Root, depth: usize) {
    directory.sweep_temporaries();
    let Ok(entries) = directory.dir().entries() else { return };
    for entry in entries.flatten() {
        if depth > 0
            && entry.file_type().is_ok_and(|kind| kind.is_dir())
            && let Ok(below) = directory.directory(entry.file_name())
        {
            sweep_below(&below, depth - 1);
        }
    }
}

/// Opens the directory at `path` below the cache directory, if it exists.
fn existing(directory: &Root, path: &str) -> Result<Option<Root>> {
    let opened = path.split('/').try_fold(directory.clone(), |directory, name| directory.directory(name));
    match opened {
        Err(error) if error.kind() == crate::ErrorKind::NotFound => Ok(None),
        opened => opened.map(Some),
    }
}

/// Lists the regular files of the directory at `path` below the cache directory, all of one kind.
fn stored(directory: &Root, path: &str, kind: ItemKind) -> Result<Vec<Stored>> {
    let Some(directory) = existing(directory, path)? else { return Ok(Vec::new()) };
    let unreadable = |error| Error::file(directory.path(), "read", error);
    let mut files = Vec::new();
    for entry in directory.dir().entries().map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        // This program writes no such names.
        let Ok(name) = entry.file_name().into_string() else { continue };
        let Some(metadata) = unless_removed(entry.metadata()).map_err(unreadable)? else { continue };
        if metadata.is_file() && !crate::common::root::is_temporary_name(name.as_ref()) {
            files.push(Stored::of(kind, &directory, &name, &metadata));
        }
    }
    Ok(files)
}

/// Lists the directories in `path` below the cache directory, each with the size of all files below it.
fn directories(directory: &Root, path: &str, kind: ItemKind) -> Result<Vec<Stored>> {
    let Some(directory) = existing(directory, path)? else { return Ok(Vec::new()) };
    let unreadable = |error| Error::file(directory.path(), "read", error);
    let mut found = Vec::new();
    for entry in directory.dir().entries().map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        // This program writes no such names.
        let Ok(name) = entry.file_name().into_string() else { continue };
        let Some(metadata) = unless_removed(entry.metadata()).map_err(unreadable)? else { continue };
        if metadata.is_dir()
            && let Some(opened) = existing(&directory, &name)?
        {
            let size = size_below(opened)?;
            found.push(Stored { size, is_shared: false, ..Stored::of(kind, &directory, &name, &metadata) });
        }
    }
    Ok(found)
}

/// Returns `None` for a file that a concurrent build has removed or renamed since its directory was listed.
fn unless_removed<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

/// Returns the number of bytes that the files below a directory have.
fn size_below(directory: Root) -> Result<u64> {
    let (mut size, mut open) = (0, vec![directory]);
    while let Some(directory) = open.pop() {
        let unreadable = |error| Error::file(directory.path(), "read", error);
        for entry in directory.dir().entries().map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let Some(metadata) = unless_removed(entry.metadata()).map_err(unreadable)? else { continue };
            if metadata.is_dir() {
                match directory.directory(entry.file_name()) {
                    Err(error) if error.kind() == crate::ErrorKind::NotFound => {}
                    below => open.push(below?),
                }
            } else {
                size += metadata.len();
            }
        }
    }
    Ok(size)
}

/// Returns whether `name` has exactly `digits` hexadecimal digits, as the names of cache files have.
fn is_hex(name: &str, digits: usize) -> bool {
    name.len() == digits && name.bytes().all(|digit| digit.is_ascii_hexdigit())
}
