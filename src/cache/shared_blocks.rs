//! The compressed blocks of layers from other machines, for layers that have some of them too.
//!
//! Blocks are read from ranges of the blobs. Each one is decompressed and compared before it is used, so a registry chooses at
//! most how a block is compressed.

use super::blob_stream::BlobStream;
use super::block_table::BlockTable;
use super::fetch_pace::FetchPace;
use super::shared_block_lists::{LayerBlocks, SMALLEST};
use super::{CachePlace, SharedCache};
use crate::codec::compression::Compression;
use crate::common::error::{Error, Result};
use crate::common::human_numbers::{self, counted};
use crate::common::progress::{Activity, warn};
use crate::layers::incremental::BlockStore;
use crate::spec::Descriptor;
use std::ops::Range;
use std::sync::{Mutex, OnceLock, PoisonError};

/// The number of bytes that the compressed form of a block may have beyond its content.
const MARGIN: u64 = 64 << 10;

/// The largest number of blobs that are read at the same time: those of the layers that are built now.
const MOST_STREAMS: usize = 3;

/// The blocks that a shared cache has. What they are is requested for the first block that no other source has.
#[derive(Debug)]
pub(crate) struct SharedBlocks<'a> {
    shared: &'a SharedCache,
    compression: Compression,
    found: OnceLock<BlockTable<(&'a CachePlace, Descriptor)>>,
    /// The blobs that are read, the one that was used last at the end.
    streams: Mutex<Vec<BlobStream<'a>>>,
    pace: FetchPace,
}

impl<'a> SharedBlocks<'a> {
    /// Returns the blocks of all layers in `shared` that were made with `compression`.
    pub(crate) fn new(shared: &'a SharedCache, compression: Compression) -> Self {
        let (found, streams, pace) = (OnceLock::new(), Mutex::default(), FetchPace::new(compression));
        SharedBlocks { shared, compression, found, streams, pace }
    }

    /// Reports what was fetched.
    pub(crate) fn finish(&self) {
        let (blocks, bytes) = self.pace.fetched();
        if blocks > 0 {
            let stopped = if self.pace.is_slower() { "; compressing the others, which is faster" } else { "" };
            let outcome = format!("{}, {} fetched{stopped}", counted(blocks, "block"), human_numbers::size(bytes));
            Activity::start(self.shared.progress(), "shared cache", None).finish(&outcome);
        }
    }

    /// Fetches a block. After a failure, no more blocks are fetched.
    fn fetch(&self, place: &'a CachePlace, blob: &Descriptor, range: &Range<u64>, length: u64) -> Option<Vec<u8>> {
        if !self.pace.is_worthwhile() {
            return None;
        }
        let object = format!("{}: blob {}", place.name(), blob.digest);
        let packed = self.pace.measure(length, || self.read(place, blob, range, &object));
        let packed = packed.and_then(|packed| match self.pace.compress_again(&packed, length) {
            Ok(()) => Ok(packed),
            Err(_) => Err(Error::corrupt(&object, "a block is damaged")),
        });
        packed.inspect_err(|error| self.give_up(error)).ok()
    }

    fn give_up(&self, error: &Error) {
        if self.pace.give_up() {
            let reason = format!("{}; compressing its blocks", error.reason());
            warn(self.shared.progress(), &error.object(), &reason);
        }
    }

    /// Reads a range of a blob. Threads take turns, because most ranges follow each other.
    fn read(&self, place: &'a CachePlace, blob: &Descriptor, range: &Range<u64>, object: &str) -> Result<Vec<u8>> {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        // Where two have it, one of them goes on and the other is closed.
        let open = streams.iter().rposition(|stream| stream.has(blob, range));
        let mut stream = match open {
            Some(number) => streams.remove(number),
            None => BlobStream::open(place.repository(), blob, range.start, object)?,
        };
        let packed = stream.read(range, object)?;
        if streams.len() >= MOST_STREAMS {
            streams.remove(0);
        }
        streams.push(stream);
        Ok(packed)
    }
}

impl BlockStore for SharedBlocks<'_> {
    fn compression(&self) -> Compression {
        self.compression
    }

    fn find(&self, sum: u32, length: u64) -> Option<Vec<u8>> {
        if length < SMALLEST {
            return None;
        }
        let table = self.found.get_or_init(|| {
            let shared = self.shared.block_lists(self.compression).into_iter();
            BlockTable::new(shared.flat_map(|(place, layers)| {
                layers.into_iter().map(move |LayerBlocks { descriptor, list }| ((place, descriptor), list))
            }))
        });
        let small_enough = table.find(sum, length).filter(|(_, range)| range.end - range.start <= length + MARGIN);
        small_enough.filter_map(|((place, blob), range)| self.fetch(place, blob, &range, length)).next()
    }
}
