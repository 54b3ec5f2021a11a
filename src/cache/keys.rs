//! The cache keys of layers: hashes of everything that determines a layer's bytes.
//!
//! Everything is destructured without `..`: a new field does not compile until it is in the key.

use crate::codec::compression::Compression;
use crate::common::digest::{Algorithm, DiffId, Digest, Hasher};
use crate::layers::incremental::Fingerprint;
use crate::layers::tree::{Attributes, Content, Entry, Kind, Stamp, Tree};
use crate::layers::{CompressionPolicy, LayerCompression};
use rayon::prelude::*;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The rules for block boundaries and the versions of the compressors. Every change of the output must change this text.
pub(super) const FORMAT: &str = "layer 1, libdeflate 1.26.1, zstd 0.14.3";

/// The suffix of the files that name the latest list.
pub(super) const LATEST: &str = ".latest";

/// A file modified this shortly before it was read may change again without a new time: FAT has a resolution of two seconds.
/// (Git calls such files racy.)
const RACY: Duration = Duration::from_secs(2);

/// The key of a layer in the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LayerKey(Digest);

/// The key of a layer's content, known without reading its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecipeKey {
    content: Digest,
    /// The store with the compressed content. It does not affect the tar, but a blob that passes gzip members through.
    store: Digest,
}

impl RecipeKey {
    /// Creates a key from the pieces of a recipe, in order, and the store of its files. Different lists of pieces have
    /// different keys.
    pub fn new(parts: &[&[u8]], store: &str) -> Self {
        let mut key = KeyHasher::new("recipe");
        for part in parts {
            key.bytes(part);
        }
        RecipeKey { content: key.finish(), store: Digest::of(store.as_bytes()) }
    }
}

impl LayerKey {
    /// Returns the key of the layer that a recipe produces.
    pub fn of_recipe(recipe: &RecipeKey, policy: CompressionPolicy) -> Self {
        let RecipeKey { content, store } = recipe;
        let mut key = KeyHasher::layer("of recipe", policy);
        key.bytes(content.as_bytes());
        if policy.passes_gzip_through() {
            key.bytes(store.as_bytes());
        }
        LayerKey(key.finish())
    }

    /// Returns the key of a layer whose files are unchanged, and the newest time of any of them. Returns `None` if the file
    /// system cannot prove that some content is unchanged.
    pub fn of_files(tree: &Fingerprints, compression: LayerCompression) -> Option<(Self, SystemTime)> {
        let Fingerprints { entries, newest } = tree;
        let mut key = KeyHasher::layer("of files", compression.policy());
        for Fingerprint { shape: _, whole } in entries {
            key.bytes(&(*whole)?);
        }
        let newest = newest.iter().copied().max().unwrap_or(i64::MIN);
        Some((LayerKey(key.finish()), time(newest)?))
    }

    /// Returns the key of a layer with the same names, kinds, attributes and sizes. The content may differ.
    pub fn of_shape(tree: &Fingerprints, compression: LayerCompression) -> Self {
        let mut key = KeyHasher::layer("of shape", compression.policy());
        for Fingerprint { shape, whole: _ } in &tree.entries {
            key.number(*shape);
        }
        LayerKey(key.finish())
    }

    /// Returns the key of the layer with this tar.
    pub fn of_tar(diff_id: &DiffId, compression: LayerCompression) -> Self {
        let mut key = KeyHasher::layer("of tar", compression.policy());
        key.bytes(diff_id.as_digest().as_bytes());
        LayerKey(key.finish())
    }

    /// Returns the key of the content of a blob, compressed again.
    pub(super) fn of_blob_compressed_again(blob: &Digest, compression: Compression) -> Self {
        let mut key = KeyHasher::layer("of blob compressed again", compression.into());
        key.bytes(blob.to_string().as_bytes());
        LayerKey(key.finish())
    }

    pub(super) fn hex(&self) -> String {
        self.0.hex()
    }

    /// Parses the output of [`LayerKey::hex`].
    pub(super) fn from_hex(text: &str) -> Option<Self> {
        format!("sha256:{text}").parse().ok().map(LayerKey)
    }
}

/// Returns the key of everything but its content that determines the compressed bytes of a block.
pub(super) fn block_format(compression: Compression) -> Digest {
    KeyHasher::layer("block", compression.into()).finish()
}

/// The key of the successive builds of one layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesKey {
    /// The key of builds from the same sources on this machine.
    own: Digest,
    /// The key of builds from any sources.
    any: Digest,
}

impl SeriesKey {
    /// Creates the key of a layer whose history entry is `created_by`, built from `sources`.
    pub fn new(created_by: &str, sources: &[Vec<u8>], policy: CompressionPolicy) -> Self {
        let mut any = KeyHasher::layer("series", policy);
        any.bytes(created_by.as_bytes());
        let mut own = any.clone();
        for source in sources {
            own.bytes(source);
        }
        SeriesKey { own: own.finish(), any: any.finish() }
    }

    /// Returns the file name of the previous build's list.
    pub(super) fn own_name(&self) -> String {
        self.own.hex()
    }

    /// Returns the file name of the reference to the latest list from any sources.
    pub(super) fn latest_name(&self) -> String {
        format!("{}{LATEST}", self.any.hex())
    }
}

/// The fingerprints of all entries of a tree.
#[derive(Debug, Clone)]
pub struct Fingerprints {
    /// In the order of the tree.
    pub entries: Vec<Fingerprint>,
    /// The newest time of the file of each entry, in nanoseconds since the epoch.
    newest: Vec<i64>,
}

impl Fingerprints {
    /// Fingerprints the entries of `tree`, without reading their content.
    pub fn of(tree: &Tree) -> Self {
        let (entries, newest) = tree.par_entries().map(|entry| fingerprint(&entry)).unzip();
        Fingerprints { entries, newest }
    }

    /// Returns the fingerprints that later builds can rely on, for files that were read at `recorded`. Files that could change
    /// again without a new time have none.
    pub fn lasting(&self, recorded: SystemTime) -> impl ExactSizeIterator<Item = Fingerprint> {
        let racy = move |newest| time(newest).is_none_or(|newest| is_racy(newest, recorded));
        self.entries.iter().zip(&self.newest).map(move |(&Fingerprint { shape, whole }, &newest)| {
            let whole = whole.filter(|_| !racy(newest));
            Fingerprint { shape, whole }
        })
    }
}

fn fingerprint(entry: &Entry) -> (Fingerprint, i64) {
    let mut key = KeyHasher::new("entry");
    let content = key.entry(entry);
    let without_stamp = key.digest();
    let (whole, newest) = match content {
        // An entry without content has no file whose time could matter.
        None => (Some(without_stamp), i64::MIN),
        Some(content) => match key.content(content) {
            Some(newest) => (Some(key.finish()), newest),
            None => (None, 0),
        },
    };
    let mut shape = [0; 8];
    shape.copy_from_slice(&without_stamp.as_bytes()[..8]);
    let whole = whole.map(|whole| {
        let mut start = [0; 16];
        start.copy_from_slice(&whole.as_bytes()[..16]);
        start
    });
    (Fingerprint { shape: u64::from_be_bytes(shape), whole }, newest)
}

/// Converts nanoseconds since the epoch; earlier times become the epoch.
fn time(nanoseconds: i64) -> Option<SystemTime> {
    let since = Duration::from_nanos(u64::try_from(nanoseconds.max(0)).unwrap_or(u64::MAX));
    UNIX_EPOCH.checked_add(since)
}

/// Returns whether files with the newest time `newest` may have changed without a new time since they were read at `recorded`.
pub(super) fn is_racy(newest: SystemTime, recorded: SystemTime) -> bool {
    newest.checked_add(RACY).is_none_or(|settled| settled >= recorded)
}

/// Hashes values with their boundaries. Values are gathered first, since hashing many short pieces takes longer.
#[derive(Clone)]
struct KeyHasher {
    hashed: Hasher,
    gathered: Vec<u8>,
}

impl KeyHasher {
    fn new(purpose: &str) -> Self {
        let mut key = KeyHasher { hashed: Hasher::new(Algorithm::Sha256), gathered: Vec::with_capacity(256) };
        key.bytes(purpose.as_bytes());
        key
    }

    fn layer(purpose: &str, policy: CompressionPolicy) -> Self {
        let mut key = KeyHasher::new(purpose);
        key.bytes(FORMAT.as_bytes());
        match policy {
            CompressionPolicy::Compress(Compression::None) => key.bytes(b"none"),
            CompressionPolicy::Compress(Compression::Gzip(level)) => key.bytes(&[b'g', level]),
            CompressionPolicy::GzipPassthrough(level) => key.bytes(&[b'r', level]),
            CompressionPolicy::Compress(Compression::Zstd(level)) => key.bytes(&[b'z', level]),
        }
        key
    }

    /// Hashes an entry without its content, and returns the content.
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

    /// Hashes the identity of a content, and returns its newest time. Returns `None` for content that must be read.
    fn content(&mut self, content: &Content) -> Option<i64> {
        match content {
            Content::Bytes(bytes) => {
                self.bytes(Digest::of(bytes).as_bytes());
                Some(i64::MIN)
            }
            Content::File(file) => {
                let Stamp { device, inode, size, modified, changed } = file.stamp();
                self.number(*device);
                self.number(*inode);
                self.number(*size);
                self.bytes(&i128::from(*modified).to_be_bytes());
                self.bytes(&i128::from(*changed).to_be_bytes());
                Some(*modified.max(changed))
            }
            Content::Stored(_) | Content::Spooled { .. } => None,
        }
    }

    fn number(&mut self, number: u64) {
        self.gathered.extend_from_slice(&number.to_be_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.gathered.extend_from_slice(bytes);
    }

    /// Returns the hash of everything so far.
    fn digest(&mut self) -> Digest {
        self.hashed.update(&self.gathered);
        self.gathered.clear();
        self.hashed.clone().finish()
    }

    fn finish(mut self) -> Digest {
        self.hashed.update(&self.gathered);
        self.hashed.finish()
    }
}
