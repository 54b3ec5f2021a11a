//! Looking after everything in the cache directory: layers, bases, and what else makes a later build shorter.
//!
//! Everything is an [`Item`]: some files that are of use only together, and when they were last used. Items are listed without
//! making anything and without believing any index, so that a full disk or a damaged file stops nothing. What a running
//! build uses is never taken out (see [`Running`]).

mod bases;
mod damage;
mod files;
mod layers;
mod tidy;

pub use files::{DOWNLOADS, note_use};
pub use tidy::Limits;

use super::Running;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::lock::DirectoryLock;
use crate::reference::Reference;
use crate::root::Root;
use cap_fs_ext::MetadataExt as _;
use cap_std::fs::Metadata;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// The cache directory, as `ocibuild cache` sees it.
#[derive(Debug)]
pub struct Upkeep {
    directory: Root,
    now: SystemTime,
}

/// What a file in the cache directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The blob of a layer.
    Layer,
    /// A key under which a layer is found.
    Key,
    /// What is kept of a layer's blocks.
    BlockList,
    /// A base image.
    Base,
    /// What a base holds, listed.
    Listing,
    /// A program that was fetched.
    Download,
    /// That a file was found whole, or when something was used.
    Note,
    /// A file that is of no use to anybody.
    Leftover,
}

/// Files of the cache directory that are of use only together.
#[derive(Debug)]
pub struct Item {
    /// What its main file is.
    pub kind: Kind,
    /// What a person calls it: a digest, or the names of a base.
    pub name: String,
    /// When it was last used.
    pub used: SystemTime,
    /// Its files.
    pub files: Vec<Stored>,
    /// The image that a list of bases has to forget with it.
    listed: Option<Digest>,
    /// The repository that a layer was taken from; `None` if it was made here.
    pub from: Option<Reference>,
}

/// A file of the cache directory.
#[derive(Debug)]
pub struct Stored {
    /// What it is.
    pub kind: Kind,
    /// How many bytes it has.
    pub size: u64,
    /// Whether it is also a file of a layout, so that its bytes stay when it is taken out.
    pub is_shared: bool,
    directory: Root,
    name: String,
    used: SystemTime,
}

/// What was taken out of a cache.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// How many items there were of each kind.
    pub items: BTreeMap<Kind, usize>,
    /// How many bytes came free. A file that a layout shares has its bytes still.
    pub freed: u64,
    /// Whether something was left for builds that are running.
    pub is_in_use: bool,
}

impl Upkeep {
    /// Looks after the cache in `directory`. `now` is what the clock says.
    pub fn new(directory: Root, now: SystemTime) -> Upkeep {
        Upkeep { directory, now }
    }

    /// Where the cache is.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Keeps everything from being taken out by others, as long as the value lives.
    ///
    /// # Errors
    /// When something has been taken out for a minute.
    pub fn hold(&self) -> Result<DirectoryLock> {
        DirectoryLock::shared(&self.directory)
    }

    /// Everything that is there, what was not used for longest first.
    ///
    /// # Errors
    /// When a directory cannot be read.
    pub fn items(&self) -> Result<Vec<Item>> {
        let mut items = layers::items(&self.directory)?;
        items.extend(bases::items(&self.directory)?);
        items.extend(files::items(&self.directory)?);
        items.sort_by(|a, b| (a.used, &a.name).cmp(&(b.used, &b.name)));
        Ok(items)
    }

    /// Takes out what is beyond `limits`, and what is of no use. What a running build uses stays.
    ///
    /// # Errors
    /// When a directory cannot be read, something cannot be removed, or another process holds the cache for a minute.
    pub fn prune(&self, limits: Limits) -> Result<Pruned> {
        let _lock = DirectoryLock::of(&self.directory)?;
        self.prune_locked(limits)
    }

    fn prune_locked(&self, limits: Limits) -> Result<Pruned> {
        let in_use_since = Running::first(&self.directory);
        self.sweep();
        let mut pruned = Pruned::default();
        if in_use_since.is_none() {
            self.discard_unreadable_stores()?;
        }
        let items = self.items()?;
        let mut left: u64 = items.iter().map(Item::size).sum();
        let mut forgotten = BTreeSet::new();
        for item in items {
            let is_useless = item.kind == Kind::Leftover;
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
        // Last: a base that is listed and not there is fetched again, and on a full disk there is room for a new list now.
        bases::forget(&self.directory, &forgotten)?;
        Ok(pruned)
    }

    /// Removes what killed processes left, wherever files are made.
    fn sweep(&self) {
        self.directory.sweep_temporaries();
        let places =
            ["layers/v1", "blocks/v1", "verified/v1", "verified/v2", "used/v1", "rcc", "listings", "listings/v1"];
        let stores =
            ["store", "store/blobs/sha256", "store/blobs/sha512", "bases", "bases/blobs/sha256", "bases/blobs/sha512"];
        for place in places.into_iter().chain(stores) {
            if let Ok(Some(place)) = existing(&self.directory, place) {
                place.sweep_temporaries();
            }
        }
    }
}

impl Item {
    /// How many bytes its files have.
    pub fn size(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    /// An item of one file, with its name.
    fn of(kind: Kind, file: Stored) -> Item {
        Item { kind, name: file.name.clone(), used: file.used, files: vec![file], listed: None, from: None }
    }

    /// Adds a file that is used whenever it is written.
    fn add(&mut self, file: Stored) {
        self.used = self.used.max(file.used);
        self.files.insert(0, file);
    }
}

impl Stored {
    fn of(kind: Kind, directory: &Root, name: &str, metadata: &Metadata) -> Stored {
        let used = metadata.modified().map_or(UNIX_EPOCH, cap_std::time::SystemTime::into_std);
        let (size, is_shared) = (metadata.len(), metadata.nlink() > 1);
        Stored { kind, size, is_shared, directory: directory.clone(), name: name.to_owned(), used }
    }

    /// Removes the file, and answers how many bytes come free.
    fn remove(&self) -> Result<u64> {
        let links = self.directory.dir().symlink_metadata(&self.name).map_or(0, |metadata| metadata.nlink());
        match self.directory.dir().remove_file(&self.name) {
            Ok(()) => Ok(if links == 1 { self.size } else { 0 }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(Error::io(self.directory.display(&self.name), "remove", error)),
        }
    }
}

/// The directory at `path` below the cache directory, if it is there.
fn existing(directory: &Root, path: &str) -> Result<Option<Root>> {
    let opened = path.split('/').try_fold(directory.clone(), |directory, name| directory.directory(name));
    match opened {
        Err(error) if error.kind() == crate::ErrorKind::NotFound => Ok(None),
        opened => opened.map(Some),
    }
}

/// The regular files of the directory at `path` below the cache directory, all of a kind.
fn stored(directory: &Root, path: &str, kind: Kind) -> Result<Vec<Stored>> {
    let Some(directory) = existing(directory, path)? else { return Ok(Vec::new()) };
    let unreadable = |error| Error::io(directory.path().display(), "read", error);
    let mut files = Vec::new();
    for entry in directory.dir().entries().map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        // What has gone since it was listed is not there.
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_file() && !crate::root::is_temporary_name(name.as_ref()) {
            files.push(Stored::of(kind, &directory, &name, &metadata));
        }
    }
    Ok(files)
}

/// Whether a name is that many hexadecimal digits, as names are that we give.
fn is_hex(name: &str, digits: usize) -> bool {
    name.len() == digits && name.bytes().all(|digit| digit.is_ascii_hexdigit())
}
