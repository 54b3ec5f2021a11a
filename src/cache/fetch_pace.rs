//! Whether fetching compressed blocks takes less time than compressing them again, measured while it is done.

use crate::codec::compression::{Compression, Compressor, Decompressor};
use crate::common::error::Result;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

/// The number of blocks that are fetched before it is decided. A few may be slow by accident.
const FIRST: usize = 32;
/// The number of fetched blocks that are compressed again, to know the time that this takes here.
const COMPRESSED_AGAIN: usize = 4;

/// The time that fetching blocks took, and that compressing some of them took.
#[derive(Debug)]
pub(super) struct FetchPace {
    compression: Compression,
    blocks: AtomicUsize,
    /// The number of blocks given to `compress_again`, which compresses the first ones only.
    given: AtomicUsize,
    /// The compressed bytes of the fetched blocks.
    packed: AtomicU64,
    fetching: TimeTaken,
    compressing: TimeTaken,
    has_given_up: AtomicBool,
}

/// The time that something took, for a number of bytes of content.
#[derive(Debug, Default)]
struct TimeTaken {
    bytes: AtomicU64,
    nanoseconds: AtomicU64,
}

impl TimeTaken {
    fn add(&self, bytes: u64, start: Instant) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.nanoseconds.fetch_add(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
    }

    /// Returns the time for each byte.
    fn for_each_byte(&self) -> f64 {
        let [bytes, time] = [&self.bytes, &self.nanoseconds].map(|total| total.load(Ordering::Relaxed) as f64);
        time / bytes.max(1.0)
    }
}

impl FetchPace {
    pub(super) fn new(compression: Compression) -> Self {
        FetchPace {
            compression,
            blocks: AtomicUsize::new(0),
            given: AtomicUsize::new(0),
            packed: AtomicU64::new(0),
            fetching: TimeTaken::default(),
            compressing: TimeTaken::default(),
            has_given_up: AtomicBool::new(false),
        }
    }

    /// Returns whether further blocks are fetched.
    pub(super) fn is_worthwhile(&self) -> bool {
        !self.has_given_up.load(Ordering::Relaxed) && !self.is_slower()
    }

    /// Returns whether fetching has taken longer than compressing would have.
    pub(super) fn is_slower(&self) -> bool {
        let is_early = self.blocks.load(Ordering::Relaxed) < FIRST;
        !is_early && self.fetching.for_each_byte() > self.compressing.for_each_byte()
    }

    /// Fetches no more blocks. Returns whether that is new.
    pub(super) fn give_up(&self) -> bool {
        !self.has_given_up.swap(true, Ordering::Relaxed)
    }

    /// Returns the number of fetched blocks, and the number of their compressed bytes.
    pub(super) fn fetched(&self) -> (usize, u64) {
        (self.blocks.load(Ordering::Relaxed), self.packed.load(Ordering::Relaxed))
    }

    /// Measures `fetch`, which fetches a block with `length` bytes of content.
    ///
    /// # Errors
    /// Returns the error of `fetch`.
    pub(super) fn measure(&self, length: u64, fetch: impl FnOnce() -> Result<Vec<u8>>) -> Result<Vec<u8>> {
        let start = Instant::now();
        let packed = fetch()?;
        self.fetching.add(length, start);
        self.packed.fetch_add(packed.len() as u64, Ordering::Relaxed);
        self.blocks.fetch_add(1, Ordering::Relaxed);
        Ok(packed)
    }

    /// Compresses a fetched block again if it is one of the first, to know the time that this takes.
    ///
    /// # Errors
    /// Fails if the block is damaged.
    pub(super) fn compress_again(&self, packed: &[u8], length: u64) -> Result<()> {
        if self.given.fetch_add(1, Ordering::Relaxed) >= COMPRESSED_AGAIN {
            return Ok(());
        }
        let (mut content, mut again) = (Vec::new(), Vec::new());
        Decompressor::default().decompress(packed, self.compression.encoding(), length as usize, &mut content)?;
        let mut compressor = Compressor::new(self.compression)?;
        let start = Instant::now();
        compressor.compress(&content, &mut again)?;
        self.compressing.add(length, start);
        Ok(())
    }
}
