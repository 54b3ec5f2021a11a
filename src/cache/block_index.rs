//! The blocks of all layers that were made here, for layers that have some of them too.
//!
//! ```text
//! block-index/v1/<digest of a layer>
//!   magic, SHA-256 of all that follows
//!   format of the blocks, size of the blob
//!   list of the blocks (`block_table`)
//! ```
//!
//! Numbers are big-endian. The compressed bytes are those of the blobs in the store, so nothing is stored twice, and an index
//! takes 12 bytes for about half a megabyte. An index that is damaged or whose blob is missing does not count.

use super::block_table::{BlockList, BlockTable, ENTRY};
use super::{Cache, keys};
use crate::codec::compression::Compression;
use crate::common::bounded_read;
use crate::common::digest::Digest;
use crate::common::error::{ErrorKind, Result};
use crate::common::file_section::append_from;
use crate::common::root::Root;
use crate::layers::Layer;
use crate::layers::incremental::{BlockStore, DoneBlock};
use crate::spec::{Descriptor, media_type};
use crate::store::OpenBlob;
use std::fmt;
use std::io::Write as _;
use std::ops::Range;
use std::sync::OnceLock;
use std::time::SystemTime;

const MAGIC: &[u8; 23] = b"ocibuild block index 1\n";
/// The length of a SHA-256, in bytes.
const HASH: usize = 32;
/// The length of everything before the blocks, in bytes.
const HEAD: usize = MAGIC.len() + 2 * HASH + 8;
/// The largest number of blocks that are searched: those of the layers that were used last, about 64 GB of files.
const MOST_BLOCKS: usize = 1 << 17;

/// The compressed blocks of the layers in a cache.
pub struct StoredBlocks<'a> {
    cache: &'a Cache,
    compression: Compression,
    found: OnceLock<BlockTable<Blob>>,
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

    /// Keeps the index of a layer that was made with `compression`. A layer with too many blocks has none.
    ///
    /// # Errors
    /// Fails if the cache cannot be written.
    pub fn index_blocks(&self, layer: &Layer, blocks: &[DoneBlock], compression: Compression) -> Result<()> {
        let Some(list) = BlockList::of(blocks).filter(|_| blocks.len() <= MOST_BLOCKS) else { return Ok(()) };
        let format = keys::block_format(compression);
        let body = [format.as_bytes(), &layer.descriptor.size.to_be_bytes()[..], &list.to_bytes()].concat();
        let name = layer.descriptor.digest.hex();
        let mut file = self.block_index.temporary()?;
        let sum = Digest::of(&body);
        file.write_all(&[MAGIC, sum.as_bytes(), &body[..]].concat())
            .map_err(|error| self.block_index.failed(&name, "write", error))?;
        file.rename_unsynced(&name)
    }

    /// Returns the blocks of the layer `digest`, if it was made here with `compression` and they are known.
    ///
    /// # Errors
    /// Fails if the index of the layer cannot be read.
    pub(super) fn listed_blocks(&self, digest: Digest, compression: Compression) -> Result<Option<BlockList>> {
        match read(&self.block_index, &digest.hex(), compression, MOST_BLOCKS) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            read => read.map(|found| found.map(|(_, list)| list)),
        }
    }

    /// Returns the blocks of all layers, those of the layers that were used last first.
    fn all_blocks(&self, compression: Compression) -> BlockTable<Blob> {
        let mut room = MOST_BLOCKS;
        BlockTable::new(layers(&self.block_index).into_iter().filter_map(|digest| {
            let (size, list) = read(&self.block_index, &digest.hex(), compression, room).ok()??;
            room -= list.len();
            let descriptor = Descriptor::new(media_type::of_layer(compression.encoding()), digest, size);
            Some((Blob { descriptor, opened: OnceLock::new() }, list))
        }))
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
        // Read for the first block that no other source has, so that an unchanged layer costs nothing.
        let table = self.found.get_or_init(|| self.cache.all_blocks(self.compression));
        table.find(sum, length).filter_map(|(blob, range)| self.read(blob, range)).next()
    }
}

impl StoredBlocks<'_> {
    fn read(&self, blob: &Blob, range: Range<u64>) -> Option<Vec<u8>> {
        let Blob { descriptor, opened } = blob;
        let opened = opened.get_or_init(|| {
            let opened = self.cache.store.open_verified(descriptor).ok()?;
            self.cache.block_index.touch(&descriptor.digest.hex(), self.cache.now);
            opened
        });
        let (mut packed, length) = (Vec::new(), (range.end - range.start) as usize);
        let read = append_from(opened.as_ref()?.file(), range.start, length, &mut packed).ok()?;
        packed.truncate(length);
        (read >= length).then_some(packed)
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

/// Reads the index `name`: the size of its blob, and its blocks. Returns `None` if it is damaged or of another compression.
///
/// # Errors
/// Fails if it cannot be read, or has more than `room` blocks.
fn read(directory: &Root, name: &str, compression: Compression, room: usize) -> Result<Option<(u64, BlockList)>> {
    let largest = HEAD + room * ENTRY;
    let bytes = bounded_read::read(directory.open_file(name)?, largest as u64, name)?;
    let of_compression = |(format, size, list): (&[u8], _, _)| {
        (format == keys::block_format(compression).as_bytes()).then_some((size, list))
    };
    Ok(parse(&bytes).and_then(of_compression))
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
fn parse(bytes: &[u8]) -> Option<(&[u8], u64, BlockList)> {
    let (sum, body) = bytes.strip_prefix(MAGIC)?.split_at_checked(HASH)?;
    (Digest::of(body).as_bytes() == sum).then_some(())?;
    let (format, body) = body.split_at_checked(HASH)?;
    let (size, blocks) = body.split_first_chunk::<8>()?;
    let size = u64::from_be_bytes(*size);
    Some((format, size, BlockList::read(blocks, size)?))
}
