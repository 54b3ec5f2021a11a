//! Writes several layers at once, with one worker for each thread of rayon's pool.

use crate::codec::compression::Compression;
use crate::common::digest::{DiffId, HashState, Hasher};
use crate::common::error::{Error, ErrorKind, Result};
use crate::common::human_numbers;
use crate::common::progress::{Activity, Progress};
use crate::common::threads;
use crate::layers::ContentVisitor;
use crate::layers::Layer;
use crate::layers::LayerCompression;
use crate::layers::block_boundaries::{Block, Blocks, cut};
use crate::layers::fill_block::{BlockFiles, HalfRead, Taken, is_part_of_stream};
use crate::layers::incremental::Sums;
use crate::layers::incremental::{BlockStore, DoneBlock};
use crate::layers::incremental::{Packed, Packer, Packing, Prefix, Reuse};
use crate::layers::ordered_output::Sequence;
use crate::layers::tree::Tree;
use crate::spec::{Descriptor, media_type};
use crate::store::Layout;
use crate::store::layout::{BlobWriter, Gap};
use rayon::prelude::*;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// The largest number of workers for one layer. One thread at a time hashes it, which keeps up with about this many
/// compressors. Additional threads continue with the next layer.
const MOST_OF_ONE_LAYER: usize = 16;

/// A layer to be written.
#[derive(Debug, Clone, Copy)]
pub struct LayerRequest<'a> {
    /// The content of the layer.
    pub tree: &'a Tree,
    /// The name of the layer, for messages.
    pub name: &'a str,
    /// The compression of the layer.
    pub compression: LayerCompression,
    /// Blocks that need not be compressed, because an earlier blob holds them.
    pub reuse: Option<&'a Reuse>,
    /// The compressed blocks of other layers.
    pub store: Option<&'a dyn BlockStore>,
    /// Called with the files, except for those in blocks that are taken over.
    pub visitor: Option<ContentVisitor<'a>>,
}

/// A written layer, with the records that a later build of it can use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeLayer {
    /// The layer.
    pub layer: Layer,
    /// The work that the layer took.
    pub work: Work,
    /// Its blocks, in order.
    pub blocks: Vec<DoneBlock>,
    /// A checksum of each entry's content.
    pub contents: Vec<u32>,
}

/// The work that a layer took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    /// The number of blocks that were reused from an earlier layer.
    pub reused: usize,
    /// The number of blocks that were compressed.
    pub compressed: usize,
    /// The number of bytes in the compressed blocks, before compression.
    pub bytes_compressed: u64,
}

/// Writes every requested layer into `layout` and returns them in the order of the requests. Nothing refers to the blobs
/// yet.
///
/// # Errors
/// Returns an error if a source cannot be read or has changed, or if the layout cannot be written. No partial blob is
/// left behind.
pub fn write_layers(requests: &[LayerRequest<'_>], layout: &Layout, progress: &dyn Progress) -> Result<Vec<MadeLayer>> {
    let mut gaps = Vec::new();
    let start = |request| {
        let mut writer = layout.blob_writer()?;
        gaps.extend(gap(request, &mut writer)?);
        Ok(Line::start(request, Some(writer), progress))
    };
    let lines = requests.iter().map(start).collect::<Result<Vec<_>>>()?;
    // A copy takes little processor time, and the blocks after it have to be hashed concurrently.
    let copy = || gaps.into_iter().try_for_each(|(gap, reuse)| gap.fill(&reuse.blob));
    let (copies, made) = threads::both(copy, || run(&lines));
    let stopped = || Err(Error::new(ErrorKind::Io, "layer", "a copy stopped unexpectedly"));
    made.and(copies.unwrap_or_else(stopped))?;
    // Each blob waits for its disk, so all of them wait at the same time.
    lines.into_par_iter().map(|line| line.finish(layout)).collect()
}

/// Reserves the start of a layer's blob, which is copied from an earlier one.
fn gap<'a>(request: &LayerRequest<'a>, writer: &mut BlobWriter) -> Result<Option<(Gap, &'a Reuse)>> {
    let Some(reuse) = request.reuse.filter(|reuse| !reuse.prefix.done.is_empty()) else { return Ok(None) };
    let gap = writer.begin_behind(reuse.prefix.size, reuse.prefix.blob.clone())?;
    Ok(Some((gap, reuse)))
}

/// Reads everything that a layer of `tree` would hold, and returns its diff ID.
///
/// # Errors
/// Returns an error if a source cannot be read or has changed.
pub fn hash_layer(tree: &Tree, name: &str, progress: &dyn Progress) -> Result<DiffId> {
    let request =
        LayerRequest { tree, name, compression: Compression::None.into(), reuse: None, store: None, visitor: None };
    let lines = [Line::start(&request, None, progress)];
    run(&lines)?;
    let [Line { blocks, tar, activity, .. }] = lines;
    let tar = complete(Some(tar), blocks.len(), name)?;
    activity.finish("read");
    Ok(DiffId::of_tar(tar.hasher.finish()))
}

fn run(lines: &[Line<'_>]) -> Result<()> {
    let threads = rayon::current_num_threads();
    let schedule = Arc::new(Schedule {
        state: Mutex::new(WriteState {
            lines: lines.iter().map(|line| WritePosition { next: line.first, ..WritePosition::default() }).collect(),
            tickets: 2 * threads + 2,
            error: None,
        }),
        changed: Condvar::new(),
    });
    // Every thread of the pool runs one worker. If the pool has one thread, everything runs on it.
    rayon::broadcast(|_| work(lines, &schedule));
    let error = schedule.lock().error.take();
    error.map_or(Ok(()), Err)
}

/// One layer that is being written.
struct Line<'a> {
    request: LayerRequest<'a>,
    blocks: Blocks,
    /// The first block to be made; earlier blocks are copied unchanged.
    first: usize,
    half_read: Mutex<HalfRead>,
    tar: Sequence<Filled, HashedTar>,
    /// Absent if only the hash of the tar is needed.
    blob: Option<Sequence<Ready, WrittenBlob>>,
    /// The checksum of each entry's content, combined from all blocks of a large one.
    contents: Vec<AtomicU32>,
    activity: Activity<'a>,
}

/// The hash of the tar so far, with its state at the end of each block.
struct HashedTar {
    hasher: Hasher,
    states: Vec<Option<HashState>>,
}

/// The blob that has been written so far.
struct WrittenBlob {
    writer: BlobWriter,
    blocks: Vec<WrittenBlock>,
    work: Work,
}

/// A block that has been written to a blob.
struct WrittenBlock {
    packed: u32,
    sum: u32,
    state: Option<HashState>,
}

/// A block's bytes, shared by the hash and the compressor.
struct Filled {
    bytes: Arc<Vec<u8>>,
    _ticket: Arc<Ticket>,
}

/// A block's compressed bytes, ready to be written.
struct Ready {
    packed: Packed,
    tar_length: u64,
    sum: u32,
    _ticket: Arc<Ticket>,
}

/// The next block of each layer, and the number of further blocks that may be in memory.
struct Schedule {
    state: Mutex<WriteState>,
    changed: Condvar,
}

/// The progress of a layer.
#[derive(Default, Clone, Copy)]
struct WritePosition {
    next: usize,
    in_memory: usize,
    /// Whether a range of a stored file is being read. The next range can only be read after it.
    in_stream: bool,
}

struct WriteState {
    lines: Vec<WritePosition>,
    tickets: usize,
    error: Option<Error>,
}

/// The right to hold one block in memory. It is returned when the block has been hashed and written.
struct Ticket {
    schedule: Arc<Schedule>,
    line: usize,
}

/// A block that a thread is to make.
struct ScheduledBlock {
    line: usize,
    number: usize,
    ticket: Arc<Ticket>,
}

impl WritePosition {
    /// Returns the number of blocks that no thread has taken.
    fn left(&self, line: &Line<'_>) -> usize {
        line.blocks.len() - self.next
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut state = self.schedule.lock();
        state.tickets += 1;
        state.lines[self.line].in_memory -= 1;
        drop(state);
        self.schedule.changed.notify_all();
    }
}

impl Schedule {
    fn lock(&self) -> MutexGuard<'_, WriteState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the next block to make, lowest layer first. Returns `None` if all blocks are taken or an error has
    /// occurred.
    ///
    /// This cannot wait for ever: the lowest block of each layer that has a ticket is being processed, or is the next one of a
    /// thread that waits for nothing. When it is finished, it and the blocks after it return their tickets.
    fn next(self: &Arc<Self>, lines: &[Line<'_>]) -> Option<ScheduledBlock> {
        let mut state = self.lock();
        loop {
            if state.error.is_some() || !lines.iter().zip(&state.lines).any(|(line, position)| position.left(line) > 0)
            {
                return None;
            }
            if let Some(block) = self.take(&mut state, lines) {
                return Some(block);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Returns a block to make after the current one, if there are enough for all threads. Does not wait: others may wait for
    /// the current one.
    fn next_without_waiting(self: &Arc<Self>, lines: &[Line<'_>]) -> Option<ScheduledBlock> {
        let mut state = self.lock();
        let left: usize = lines.iter().zip(&state.lines).map(|(line, position)| position.left(line)).sum();
        if state.error.is_some() || left < 2 * rayon::current_num_threads() {
            return None;
        }
        self.take(&mut state, lines)
    }

    fn take(self: &Arc<Self>, state: &mut WriteState, lines: &[Line<'_>]) -> Option<ScheduledBlock> {
        let free = (0..lines.len()).find(|&line| {
            let position @ WritePosition { next, in_memory, in_stream } = state.lines[line];
            position.left(&lines[line]) > 0
                && in_memory < MOST_OF_ONE_LAYER
                && !(in_stream && lines[line].is_in_stream(next))
        });
        let line = free.filter(|_| state.tickets > 0)?;
        state.tickets -= 1;
        let position = &mut state.lines[line];
        position.in_memory += 1;
        let number = position.next;
        position.next += 1;
        position.in_stream |= lines[line].is_in_stream(number);
        Some(ScheduledBlock { line, number, ticket: Arc::new(Ticket { schedule: self.clone(), line }) })
    }

    /// Records that the current range of a stored file has been read.
    fn end_of_stream_part(&self, line: usize) {
        self.lock().lines[line].in_stream = false;
        self.changed.notify_all();
    }

    fn fail(&self, error: Error) {
        self.lock().error.get_or_insert(error);
        self.changed.notify_all();
    }
}

/// Stops the other workers if a worker panics. They would wait for its block for ever.
struct TellOthers<'a>(&'a Schedule);

impl Drop for TellOthers<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail(Error::new(ErrorKind::Io, "layer", "a worker stopped unexpectedly"));
        }
    }
}

fn work(lines: &[Line<'_>], schedule: &Arc<Schedule>) {
    let _guard = TellOthers(schedule);
    let mut packer = Packer::default();
    let mut ahead = None;
    loop {
        let Some(current) = ahead.take().or_else(|| schedule.next(lines).map(|block| opened(lines, block))) else {
            return;
        };
        // The files of the next block are read from the disk while the current one is compressed.
        ahead = schedule.next_without_waiting(lines).map(|block| opened(lines, block));
        let (ScheduledBlock { line, number, ticket }, files) = current;
        let filled = files.and_then(|files| lines[line].fill(number, files));
        if lines[line].is_in_stream(number) {
            schedule.end_of_stream_part(line);
        }
        if let Err(error) = filled.and_then(|filled| lines[line].advance(number, filled, ticket, &mut packer)) {
            schedule.fail(error.within(lines[line].request.name));
        }
    }
}

/// Opens the first files of a block.
fn opened<'a>(lines: &'a [Line<'_>], block: ScheduledBlock) -> (ScheduledBlock, Result<BlockFiles<'a>>) {
    let line = &lines[block.line];
    let files = line.block(block.number).and_then(|range| BlockFiles::open(line.request.tree, &range));
    (block, files)
}

impl<'a> Line<'a> {
    fn start(request: &LayerRequest<'a>, blob: Option<BlobWriter>, progress: &'a dyn Progress) -> Self {
        let nothing = Prefix::nothing();
        let (blocks, prefix) = match request.reuse {
            Some(reuse) => (reuse.blocks.clone(), &reuse.prefix),
            None => (cut(request.tree), &nothing),
        };
        let first = prefix.done.len();
        let activity = Activity::start(progress, request.name, Some(blocks.bytes()));
        activity.advance(blocks.iter().take(first).map(|block| block.length).sum());
        let work = Work { reused: first, ..Work::default() };
        let mut contents = prefix.contents.clone();
        contents.resize(request.tree.len(), 0);
        Line {
            request: *request,
            blocks,
            first,
            half_read: Mutex::new(None),
            tar: Sequence::new(first, HashedTar { hasher: prefix.tar.clone(), states: Vec::new() }),
            blob: blob.map(|writer| Sequence::new(first, WrittenBlob { writer, blocks: Vec::new(), work })),
            contents: contents.into_iter().map(AtomicU32::new).collect(),
            activity,
        }
    }

    fn is_in_stream(&self, number: usize) -> bool {
        is_part_of_stream(self.request.tree, &self.blocks, number)
    }

    fn block(&self, number: usize) -> Result<Block> {
        self.blocks.get(number).ok_or_else(|| Error::invalid(self.request.name, "block not found"))
    }

    fn fill(&self, number: usize, files: BlockFiles<'_>) -> Result<(Vec<u8>, Vec<Taken>)> {
        let (mut bytes, mut taken) = (Vec::new(), Vec::new());
        let taking = self.request.compression.passes_gzip_through().then_some(&mut taken);
        if self.is_in_stream(number) {
            let mut half_read = self.half_read.lock().unwrap_or_else(PoisonError::into_inner);
            files.fill(&mut half_read, taking, &mut bytes)?;
        } else {
            files.fill(&mut None, taking, &mut bytes)?;
        }
        Ok((bytes, taken))
    }

    /// Packs a block, and passes it to the hash and to the blob. Both are advanced only after that, so a thread that
    /// advances one of them never holds back an item that the other one waits for.
    fn advance(
        &self,
        number: usize,
        (bytes, taken): (Vec<u8>, Vec<Taken>),
        ticket: Arc<Ticket>,
        packer: &mut Packer,
    ) -> Result<()> {
        let bytes = Arc::new(bytes);
        self.tar.put(number, Filled { bytes: bytes.clone(), _ticket: ticket.clone() });
        let Some(blob) = &self.blob else { return self.advance_tar() };
        let sums = Sums::of(self.request.tree, &self.block(number)?, &bytes, self.request.visitor);
        for (entry, sum) in sums.contents {
            self.contents[entry].fetch_add(sum, Ordering::Relaxed);
        }
        let packing = if taken.is_empty() { self.packing(number) } else { Packing::TakeOver(&taken) };
        let packed = packer.pack(&bytes, sums.block, packing, self.request.compression.compression())?;
        let tar_length = bytes.len() as u64;
        drop((bytes, taken));
        blob.put(number, Ready { packed, tar_length, sum: sums.block, _ticket: ticket });
        self.advance_tar()?;
        blob.consume(|blob, ready| {
            blob.append(ready)?;
            let is_complete = self.first + blob.blocks.len() == self.blocks.len();
            // The disk writes this layer while the next ones are compressed.
            if is_complete { blob.writer.start_sync() } else { Ok(()) }
        })
    }

    fn advance_tar(&self) -> Result<()> {
        self.tar.consume(|tar, filled| {
            tar.hasher.update(&filled.bytes);
            tar.states.push(tar.hasher.state());
            self.activity.advance(filled.bytes.len() as u64);
            Ok(())
        })
    }

    fn packing(&self, number: usize) -> Packing<'_> {
        let copy = self.request.reuse.and_then(|reuse| reuse.packing(number));
        copy.unwrap_or(Packing::Compress(self.request.store))
    }

    fn finish(self, layout: &Layout) -> Result<MadeLayer> {
        let Line { request, blocks, tar, blob, contents, activity, .. } = self;
        let tar = complete(Some(tar), blocks.len(), request.name)?;
        let WrittenBlob { writer, blocks: written, work } = complete(blob, blocks.len(), request.name)?;
        if let Some(reuse) = request.reuse {
            reuse.blob.check_untouched()?;
        }
        let (digest, size) = layout.finish_blob(writer)?;
        activity.finish(&human_numbers::size(size));
        let media_type = media_type::of_layer(request.compression.compression().encoding());
        let layer = Layer {
            descriptor: Descriptor::new(media_type, digest, size),
            diff_id: DiffId::of_tar(tar.hasher.finish()),
            tar_size: blocks.bytes(),
        };
        let mut done = request.reuse.map(|reuse| reuse.prefix.done.clone()).unwrap_or_default();
        let made = blocks.iter().skip(done.len()).zip(tar.states).zip(written);
        done.extend(made.filter_map(|((block, tar), WrittenBlock { packed, sum, state })| {
            Some(DoneBlock { block, packed, sum, tar: tar?, blob: state? })
        }));
        Ok(MadeLayer { layer, work, blocks: done, contents: contents.into_iter().map(AtomicU32::into_inner).collect() })
    }
}

impl WrittenBlob {
    fn append(&mut self, ready: Ready) -> Result<()> {
        let Ready { packed, tar_length, sum, _ticket } = ready;
        match &packed {
            Packed::Copied(_) => self.work.reused += 1,
            Packed::Compressed(_) => {
                self.work.compressed += 1;
                self.work.bytes_compressed += tar_length;
            }
        }
        self.writer.write(packed.bytes())?;
        let packed = u32::try_from(packed.bytes().len()).unwrap_or(u32::MAX);
        self.blocks.push(WrittenBlock { packed, sum, state: self.writer.state() });
        Ok(())
    }
}

/// Returns the final state of a sequence, if all of its `count` items have arrived.
fn complete<Item, WriteState>(
    sequence: Option<Sequence<Item, WriteState>>,
    count: usize,
    name: &str,
) -> Result<WriteState> {
    let (arrived, state) = sequence.map_or((0, None), Sequence::finish);
    let incomplete = || Error::new(ErrorKind::Io, name, "blocks are missing");
    state.filter(|_| arrived == count).ok_or_else(incomplete)
}
