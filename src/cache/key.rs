//! What decides a layer's bytes, as a hash.
//!
//! Everything is destructured without `..`: a new field does not compile until it is part of the key.

use crate::compression::Compression;
use crate::digest::{DiffId, Digest, Hasher};
use crate::tree::{Attributes, Content, Entry, FileContent, Kind, Stamp, Tree};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The rules by which blocks are cut and the versions of the compressors. Whatever changes bytes changes this line.
pub(super) const FORMAT: &str = "layer 1, libdeflate 1.26.1, zstd 0.14.3";

/// A file whose times are this near to the look at it may change again without a new time: FAT counts in steps of two
/// seconds. (Git calls such files racy.)
const RACY: Duration = Duration::from_secs(2);

/// The name of a layer in the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
    pub fn of_files(tree: &Tree, compression: Compression) -> Option<(Self, SystemTime)> {
        let mut key = KeyHasher::layer("of files", compression);
        let mut newest = 0;
        for entry in tree.entries() {
            let content = key.entry(entry);
            match content {
                None => {}
                Some(Content::Bytes(bytes)) => key.bytes(Digest::of(bytes).as_bytes()),
                Some(Content::File(file)) => {
                    let FileContent { root: _, path: _, stamp } = &**file;
                    let Stamp { device, inode, size, modified, changed } = stamp;
                    key.number(*device);
                    key.number(*inode);
                    key.number(*size);
                    key.bytes(&modified.to_be_bytes());
                    key.bytes(&changed.to_be_bytes());
                    newest = newest.max(*modified).max(*changed);
                }
                Some(Content::Stored(_) | Content::Spooled { .. }) => return None,
            }
        }
        let newest = Duration::from_nanos(u64::try_from(newest).unwrap_or(u64::MAX));
        Some((LayerKey(key.finish()), UNIX_EPOCH.checked_add(newest)?))
    }

    /// A layer of a tree of the same names, kinds, attributes and sizes. That is no promise about its content.
    pub fn of_shape(tree: &Tree, compression: Compression) -> Self {
        let mut key = KeyHasher::layer("of shape", compression);
        for entry in tree.entries() {
            key.entry(entry);
        }
        LayerKey(key.finish())
    }

    /// The layer that holds a tar.
    pub fn of_tar(diff_id: &DiffId, compression: Compression) -> Self {
        let mut key = KeyHasher::layer("of tar", compression);
        key.bytes(diff_id.as_digest().as_bytes());
        LayerKey(key.finish())
    }

    pub(super) fn file_name(&self) -> String {
        self.0.hex()
    }
}

/// Whether files whose newest time is `newest` may have changed without a new time since they were looked at, at `recorded`.
pub(super) fn is_racy(newest: SystemTime, recorded: SystemTime) -> bool {
    newest.checked_add(RACY).is_none_or(|settled| settled >= recorded)
}

/// Hashes values so that their borders count.
struct KeyHasher(Hasher);

impl KeyHasher {
    fn new(purpose: &str) -> Self {
        let mut key = KeyHasher(Hasher::sha256());
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

    fn number(&mut self, number: u64) {
        self.0.update(&number.to_be_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.update(bytes);
    }

    fn finish(self) -> Digest {
        self.0.finish()
    }
}
