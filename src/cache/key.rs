//! What decides a layer's bytes, as a hash.
//!
//! Everything is destructured without `..`: a new field does not compile until it is part of the key.

use super::blocks::LATEST;
use crate::compression::Compression;
use crate::digest::{DiffId, Digest};
use crate::layer::Fingerprint;
use crate::tree::{Attributes, Content, Entry, FileContent, Kind, Stamp, Tree};
use rayon::prelude::*;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The rules by which blocks are cut and the versions of the compressors. Whatever changes bytes changes this line.
pub(super) const FORMAT: &str = "layer 1, libdeflate 1.26.1, zstd 0.14.3";

/// A file whose times are this near to the look at it may change again without a new time: FAT counts in steps of two
/// seconds. (Git calls such files racy.)
const RACY: Duration = Duration::from_secs(2);

/// The name of a layer in the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LayerKey(Digest);

/// What decides the content of a layer, where that is known without looking at its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecipeKey {
    content: Digest,
    /// Who holds the content compressed. That decides no byte of the tar, but some of a blob that takes gzip over.
    store: Digest,
}

impl RecipeKey {
    /// Names a recipe by its parts, in order, and by the store that its files come from. Each part stands for itself: no two
    /// lists of parts have one name.
    pub fn new(parts: &[&[u8]], store: &str) -> Self {
        let mut key = KeyHasher::new("recipe");
        for part in parts {
            key.bytes(part);
        }
        RecipeKey { content: key.finish(), store: Digest::of(store.as_bytes()) }
    }
}

impl LayerKey {
    /// The layer that a recipe makes.
    pub fn of_recipe(recipe: &RecipeKey, compression: Compression) -> Self {
        let RecipeKey { content, store } = recipe;
        let mut key = KeyHasher::layer("of recipe", compression);
        key.bytes(content.as_bytes());
        if matches!(compression, Compression::Reuse(_)) {
            key.bytes(store.as_bytes());
        }
        LayerKey(key.finish())
    }

    /// The layer of a tree whose files are exactly those that they are now, and the newest time of any of them. Nothing for a
    /// tree with content that the file system cannot vouch for.
    pub fn of_files(tree: &Fingerprints, compression: Compression) -> Option<(Self, SystemTime)> {
        let Fingerprints { entries, newest } = tree;
        let mut key = KeyHasher::layer("of files", compression);
        for Fingerprint { shape: _, whole } in entries {
            key.bytes(&(*whole)?);
        }
        let newest = newest.iter().copied().max().unwrap_or(i128::MIN);
        Some((LayerKey(key.finish()), time(newest)?))
    }

    /// A layer of a tree of the same names, kinds, attributes and sizes. That is no promise about its content.
    pub fn of_shape(tree: &Fingerprints, compression: Compression) -> Self {
        let mut key = KeyHasher::layer("of shape", compression);
        for Fingerprint { shape, whole: _ } in &tree.entries {
            key.number(*shape);
        }
        LayerKey(key.finish())
    }

    /// The layer that holds a tar.
    pub fn of_tar(diff_id: &DiffId, compression: Compression) -> Self {
        let mut key = KeyHasher::layer("of tar", compression);
        key.bytes(diff_id.as_digest().as_bytes());
        LayerKey(key.finish())
    }

    pub(super) fn hex(&self) -> String {
        self.0.hex()
    }

    /// Reads what [`LayerKey::hex`] wrote.
    pub(super) fn from_hex(text: &str) -> Option<Self> {
        format!("sha256:{text}").parse().ok().map(LayerKey)
    }
}

/// The builds of one layer over time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesKey {
    /// Those from the same places of this machine.
    own: Digest,
    /// Those from anywhere.
    any: Digest,
}

impl SeriesKey {
    /// The builds of the layer whose history entry says `created_by`, from `sources`.
    pub fn new(created_by: &str, sources: &[Vec<u8>], compression: Compression) -> Self {
        let mut any = KeyHasher::layer("series", compression);
        any.bytes(created_by.as_bytes());
        let mut own = KeyHasher(any.0.clone());
        for source in sources {
            own.bytes(source);
        }
        SeriesKey { own: own.finish(), any: any.finish() }
    }

    /// The name of what the build before kept.
    pub(super) fn own_name(&self) -> String {
        self.own.hex()
    }

    /// The name of what says which of them was the last anywhere.
    pub(super) fn latest_name(&self) -> String {
        format!("{}{LATEST}", self.any.hex())
    }
}

/// What every entry of a tree is like.
#[derive(Debug, Clone)]
pub struct Fingerprints {
    /// In the order of the tree.
    pub entries: Vec<Fingerprint>,
    /// The newest time of each one's file.
    newest: Vec<i128>,
}

impl Fingerprints {
    /// Fingerprints the entries of `tree`, without reading any.
    pub fn of(tree: &Tree) -> Self {
        let (entries, newest) = (0..tree.len())
            .into_par_iter()
            .filter_map(|number| tree.entry(number))
            .map(|entry| fingerprint(&entry))
            .unzip();
        Fingerprints { entries, newest }
    }

    /// The fingerprints that hold later, too, if files were looked at when the clock said `recorded`: not those of files
    /// that could change again without a new time.
    pub fn lasting(self, recorded: SystemTime) -> Vec<Fingerprint> {
        let racy = |newest| time(newest).is_none_or(|newest| is_racy(newest, recorded));
        let Fingerprints { entries, newest } = self;
        let lasting = |(Fingerprint { shape, whole }, newest)| {
            let whole = whole.filter(|_| !racy(newest));
            Fingerprint { shape, whole }
        };
        entries.into_iter().zip(newest).map(lasting).collect()
    }
}

fn fingerprint(entry: &Entry) -> (Fingerprint, i128) {
    let mut key = KeyHasher::new("entry");
    let content = key.entry(entry);
    let mut shape = [0; 8];
    shape.copy_from_slice(&key.digest().as_bytes()[..8]);
    // What has no content of its own is as old as time.
    let newest = content.map_or(Some(i128::MIN), |content| key.content(content));
    let whole = newest.map(|_| {
        let mut start = [0; 16];
        start.copy_from_slice(&key.finish().as_bytes()[..16]);
        start
    });
    (Fingerprint { shape: u64::from_be_bytes(shape), whole }, newest.unwrap_or_default())
}

/// A time in nanoseconds since the epoch; what was before is the epoch.
fn time(nanoseconds: i128) -> Option<SystemTime> {
    let since = Duration::from_nanos(u64::try_from(nanoseconds.max(0)).unwrap_or(u64::MAX));
    UNIX_EPOCH.checked_add(since)
}

/// Whether files whose newest time is `newest` may have changed without a new time since they were looked at, at `recorded`.
pub(super) fn is_racy(newest: SystemTime, recorded: SystemTime) -> bool {
    newest.checked_add(RACY).is_none_or(|settled| settled >= recorded)
}

/// Hashes values so that their borders count. They are gathered first: hashing many short pieces takes longer.
struct KeyHasher(Vec<u8>);

impl KeyHasher {
    fn new(purpose: &str) -> Self {
        let mut key = KeyHasher(Vec::with_capacity(256));
        key.bytes(purpose.as_bytes());
        key
    }

    fn layer(purpose: &str, compression: Compression) -> Self {
        let mut key = KeyHasher::new(purpose);
        key.bytes(FORMAT.as_bytes());
        match compression {
            Compression::None => key.bytes(b"none"),
            Compression::Gzip(level) => key.bytes(&[b'g', level]),
            Compression::Reuse(level) => key.bytes(&[b'r', level]),
            Compression::Zstd(level) => key.bytes(&[b'z', level]),
        }
        key
    }

    /// Hashes all of an entry but its content, and gives that back.
    fn entry<'a>(&mut self, entry: &'a Entry) -> Option<&'a Content> {
        let Entry { path, kind, attributes } = entry;
        let Attributes { mode, uid, gid, mtime, xattrs } = attributes;
        self.bytes(path.as_bytes());
        self.number(u64::from(*mode));
        self.number(u64::from(*uid));
        self.number(u64::from(*gid));
        self.bytes(&mtime.to_be_bytes());
        let xattrs = xattrs.as_deref().unwrap_or_default();
        self.number(xattrs.len() as u64);
        for (name, value) in xattrs {
            self.bytes(name);
            self.bytes(value);
        }
        match kind {
            Kind::File { size, content } => {
                self.bytes(b"file");
                self.number(*size);
                return Some(content);
            }
            Kind::Directory => self.bytes(b"directory"),
            Kind::Symlink { target } => {
                self.bytes(b"symlink");
                self.bytes(target);
            }
            Kind::HardLink { target } => {
                self.bytes(b"hard link");
                self.bytes(target.as_bytes());
            }
        }
        None
    }

    /// Hashes what vouches for a content, and tells its newest time. Nothing for content that only reading tells.
    fn content(&mut self, content: &Content) -> Option<i128> {
        match content {
            Content::Bytes(bytes) => {
                self.bytes(Digest::of(bytes).as_bytes());
                Some(i128::MIN)
            }
            Content::File(file) => {
                let FileContent { root: _, path: _, stamp } = &**file;
                let Stamp { device, inode, size, modified, changed } = stamp;
                self.number(*device);
                self.number(*inode);
                self.number(*size);
                self.bytes(&modified.to_be_bytes());
                self.bytes(&changed.to_be_bytes());
                Some(*modified.max(changed))
            }
            Content::Stored(_) | Content::Spooled { .. } => None,
        }
    }

    fn number(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_be_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    /// The hash of everything so far.
    fn digest(&self) -> Digest {
        Digest::of(&self.0)
    }

    fn finish(self) -> Digest {
        self.digest()
    }
}
