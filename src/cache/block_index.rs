//! The blocks of all layers that were made here, for layers that have some of them too.
//!
//! ```text
//! block-index/v1/<digest of a layer>
//!   magic, SHA-256 of all that follows
//!   format of the blocks, size of the blob
//!   each block: checksum, length, and length in the blob
//! ```
//!
//! Numbers are big-endian. The compressed bytes are those of the blobs in the store, so nothing is stored twice, and an index
//! takes 12 bytes for about half a megabyte. An index that is damaged or whose blob is missing does not count.

use super::{Cache, keys};
use crate::codec::compression::Compression;
use crate::common::bounded_read;
use crate::common::digest::Digest;
use crate::common::file_section::append_from;
use crate::common::progress::{Progress, warn};
use crate::common::root::Root;
use crate::layers::Layer;
use crate::layers::incremental::{BlockStore, DoneBlock};
use crate::spec::{Descriptor, media_type};
use crate::store::OpenBlob;
use std::fmt;
use std::io::Write as _;
use std::sync::OnceLock;
use std::time::SystemTime;

const MAGIC: &[u8; 23] = b"ocibuild block index 1\n";
/// The length of a SHA-256, in bytes.
const HASH: usize = 32;
/// The length of everything before the blocks, in bytes.
const HEAD: usize = MAGIC.len() + 2 * HASH + 8;
/// The length of a block's entry, in bytes.
const ENTRY: usize = 12;
/// The largest number of blocks that are searched: those of the layers that were used last, about 64 GB of files.
const MOST_BLOCKS: usize = 1 << 17;

/// The compressed blocks of the layers in a cache.
pub struct StoredBlocks<'a> {
    cache: &'a Cache,
    compression: Compression,
    found: OnceLock<Found>,
}

/// The blocks of all layers, as their indexes list them.
#[derive(Default)]
struct Found {
    /// Sorted by checksum and length.
    blocks: Vec<StoredBlock>,
    blobs: Vec<Blob>,
}

#[derive(Clone, Copy)]
struct StoredBlock {
    /// The checksum and the length of its content.
    key: (u32, u32),
    /// The number of its blob.
    blob: u32,
    packed: u32,
    offset: u64,
}

struct Blob {
    descriptor: Descriptor,
    /// Opened for its first block; `None` if it is missing or damaged.
    opened: OnceLock<Option<OpenBlob>>,
}

impl Cache {
    /// Returns the blocks of all layers that were made with `compression`.
    pub fn stored_blocks(&self, compression: Compression) -> StoredBlocks<'_> {
        StoredBlocks { cache: self, compression, found: OnceLock::new() }
    }

    /// Keeps the index of a layer that was made with `compression`. A failure only costs time, so it is a warning.
    pub fn index_blocks(&self, layer: &Layer, blocks: &[DoneBlock], compression: Compression, progress: &dyn Progress) {
        let Some(body) = body(layer, blocks, compression).filter(|_| blocks.len() <= MOST_BLOCKS) else { return };
        let name = layer.descriptor.digest.hex();
        let write = || {
            let mut file = self.block_index.temporary()?;
            let sum = Digest::of(&body);
            file.write_all(&[MAGIC, sum.as_bytes(), &body[..]].concat())
                .map_err(|error| self.block_index.failed(&name, "write", error))?;
            file.rename_unsynced(&name)
        };
        if let Err(error) = write() {
            let what = "other layers cannot reuse its blocks";
            warn(progress, &error.object(), &format!("{}; {what}", error.reason()));
        }
    }
}

impl fmt::Debug for StoredBlocks<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredBlocks").field("compression", &self.compression).finish_non_exhaustive()
    }
}

impl BlockStore for StoredBlocks<'_> {
    fn compression(&self) -> Compression {
        self.compression
    }

    fn find(&self, sum: u32, length: u64) -> Option<Vec<u8>> {
        let key = (sum, u32::try_from(length).ok()?);
        // Read for the first block that no other source has, so that an unchanged layer costs nothing.
        let Found { blocks, blobs } = self.found.get_or_init(|| Found::read(self.cache, self.compression));
        let from = blocks.partition_point(|block| block.key < key);
        let same = blocks[from..].iter().take_while(|block| block.key == key);
        same.filter_map(|block| self.read(blobs.get(block.blob as usize)?, block)).next()
    }
}

impl StoredBlocks<'_> {
    fn read(&self, blob: &Blob, block: &StoredBlock) -> Option<Vec<u8>> {
        let Blob { descriptor, opened } = blob;
        let opened = opened.get_or_init(|| {
            let opened = self.cache.store.open_verified(descriptor).ok()?;
            self.cache.block_index.touch(&descriptor.digest.hex(), self.cache.now);
            opened
        });
        let (mut packed, length) = (Vec::new(), block.packed as usize);
        let read = append_from(opened.as_ref()?.file(), block.offset, length, &mut packed).ok()?;
        packed.truncate(length);
        (read >= length).then_some(packed)
    }
}

impl Found {
    /// Reads the indexes, those of the layers that were used last first.
    fn read(cache: &Cache, compression: Compression) -> Found {
        let mut found = Found::default();
        for digest in layers(&cache.block_index) {
            let room = MOST_BLOCKS - found.blocks.len();
            found.add(&cache.block_index, digest, compression, room);
        }
        found.blocks.sort_by_key(|block| (block.key, block.blob));
        found
    }

    /// Adds the blocks of the layer `digest`, if there are at most `room`. Returns `None` if its index cannot be used.
    fn add(&mut self, directory: &Root, digest: Digest, compression: Compression, room: usize) -> Option<()> {
        let (size, listed) = read(directory, &digest.hex(), compression, room)?;
        let blob = u32::try_from(self.blobs.len()).ok()?;
        let mut offset = 0;
        for (key, packed) in listed {
            self.blocks.push(StoredBlock { key, blob, packed, offset });
            offset += u64::from(packed);
        }
        let descriptor = Descriptor::new(media_type::of_layer(compression.encoding()), digest, size);
        self.blobs.push(Blob { descriptor, opened: OnceLock::new() });
        Some(())
    }
}

/// Returns the layers that have an index, the one that was used last first.
fn layers(directory: &Root) -> Vec<Digest> {
    let Ok(entries) = directory.dir().entries() else { return Vec::new() };
    let indexed = entries.flatten().filter_map(|entry| {
        let digest = format!("sha256:{}", entry.file_name().to_str()?).parse().ok()?;
        Some((entry.metadata().ok()?.modified().ok()?.into_std(), digest))
    });
    let mut indexed: Vec<(SystemTime, Digest)> = indexed.collect();
    indexed.sort_by(|a, b| b.cmp(a));
    indexed.into_iter().map(|(_, digest)| digest).collect()
}

/// The checksum and the length of a block's content, and its length in the blob.
type ListedBlock = ((u32, u32), u32);

/// Reads the index `name`: the size of its blob, and at most `room` blocks of this compression.
fn read(directory: &Root, name: &str, compression: Compression, room: usize) -> Option<(u64, Vec<ListedBlock>)> {
    let largest = HEAD + room * ENTRY;
    let bytes = bounded_read::read(directory.open_file(name).ok()?, largest as u64, name).ok()?;
    let (format, size, blocks) = parse(&bytes)?;
    (format == keys::block_format(compression).as_bytes()).then_some(())?;
    let total: u64 = blocks.iter().map(|(_, packed)| u64::from(*packed)).sum();
    (total == size).then_some((size, blocks))
}

/// Returns whether the index `name` can be used.
pub(super) fn is_whole(directory: &Root, name: &str) -> bool {
    let bytes = directory.open_file(name).and_then(|file| {
        let largest = HEAD + MOST_BLOCKS * ENTRY;
        bounded_read::read(file, largest as u64, name)
    });
    bytes.is_ok_and(|bytes| parse(&bytes).is_some())
}

/// Returns the format of the blocks, the size of the blob and the blocks.
fn parse(bytes: &[u8]) -> Option<(&[u8], u64, Vec<ListedBlock>)> {
    let (sum, body) = bytes.strip_prefix(MAGIC)?.split_at_checked(HASH)?;
    (Digest::of(body).as_bytes() == sum).then_some(())?;
    let (format, body) = body.split_at_checked(HASH)?;
    let (size, blocks) = body.split_first_chunk::<8>()?;
    let (blocks, rest) = blocks.as_chunks::<ENTRY>();
    let number = |bytes: &[u8]| bytes.iter().fold(0, |number, &byte| number << 8 | u32::from(byte));
    let blocks = blocks.iter().map(|block| ((number(&block[..4]), number(&block[4..8])), number(&block[8..])));
    rest.is_empty().then(|| (format, u64::from_be_bytes(*size), blocks.collect()))
}

/// Returns the index of a layer without its checksum, or `None` if a block is too large for one.
fn body(layer: &Layer, blocks: &[DoneBlock], compression: Compression) -> Option<Vec<u8>> {
    let mut body = keys::block_format(compression).as_bytes().to_vec();
    body.extend_from_slice(&layer.descriptor.size.to_be_bytes());
    for DoneBlock { block, packed, sum, .. } in blocks {
        let length = u32::try_from(block.length).ok()?;
        [*sum, length, *packed].iter().for_each(|number| body.extend_from_slice(&number.to_be_bytes()));
    }
    Some(body)
}
