//! Several layers at once, by as many workers as rayon's pool has threads.

use super::blocks::{Block, cut};
use super::fill::{HalfRead, Taken, fill};
use super::packing::{Packed, Packer, Packing, Reuse};
use super::sequence::Sequence;
use super::sums::Sums;
use crate::bounded;
use crate::compression::Compression;
use crate::digest::{DiffId, Hasher};
use crate::error::{Error, ErrorKind, Result};
use crate::progress::{Activity, Progress};
use crate::spec::{Descriptor, media_type};
use crate::store::Layout;
use crate::store::layout::BlobWriter;
use crate::tree::{Content, Kind, Tree};
use rayon::prelude::*;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// One layer is hashed by one thread at a time, which keeps up with about this many compressors. Beyond that, the others
/// go on with the next layer.
const MOST_OF_ONE_LAYER: usize = 16;

/// A layer to be made.
#[derive(Debug, Clone, Copy)]
pub struct LayerRequest<'a> {
    /// What it will hold.
    pub tree: &'a Tree,
    /// What people call it.
    pub name: &'a str,
    /// How it is wrapped.
    pub compression: Compression,
    /// What need not be compressed, because an earlier blob holds it.
    pub reuse: Option<&'a Reuse>,
}

/// A layer that is in the layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// The blob.
    pub descriptor: Descriptor,
    /// The tar in it.
    pub diff_id: DiffId,
    /// The length of that tar in bytes.
    pub tar_size: u64,
}

/// Writes every requested layer into `layout`, in the order of the requests. Nothing refers to the blobs yet.
///
/// # Errors
/// When a source cannot be read or has changed, or the layout cannot be written. No blob is left half-made.
pub fn write_layers(requests: &[LayerRequest<'_>], layout: &Layout, progress: &dyn Progress) -> Result<Vec<Layer>> {
    let start = |request| Ok(Line::start(request, Some(layout.blob_writer()?), progress));
    let lines = requests.iter().map(start).collect::<Result<Vec<_>>>()?;
    run(&lines)?;
    // Each blob waits for its disk, so all wait at once.
    lines.into_par_iter().map(|line| line.finish(layout)).collect()
}

/// Reads everything that a layer of `tree` would hold, and tells the diff ID that it would have.
///
/// # Errors
/// When a source cannot be read or has changed.
pub fn hash_layer(tree: &Tree, name: &str, progress: &dyn Progress) -> Result<DiffId> {
    let request = LayerRequest { tree, name, compression: Compression::None, reuse: None };
    let lines = [Line::start(&request, None, progress)];
    run(&lines)?;
    let [line] = lines;
    let diff_id = line.hashed()?;
    line.activity.finish("read");
    Ok(diff_id)
}

fn run(lines: &[Line<'_>]) -> Result<()> {
    let threads = rayon::current_num_threads();
    let schedule = Arc::new(Schedule {
        state: Mutex::new(State {
            lines: lines.iter().map(|_| Position::default()).collect(),
            tickets: 2 * threads + 2,
            error: None,
        }),
        changed: Condvar::new(),
    });
    // Every thread of the pool runs one worker; with one thread, everything happens on it.
    rayon::broadcast(|_| work(lines, &schedule));
    let error = schedule.lock().error.take();
    error.map_or(Ok(()), Err)
}

/// One layer in the making.
struct Line<'a> {
    request: LayerRequest<'a>,
    blocks: Vec<Block>,
    half_read: Mutex<HalfRead>,
    tar: Sequence<Filled, Hasher>,
    /// Absent where only the hash of the tar is wanted.
    blob: Option<Sequence<Ready, BlobWriter>>,
    activity: Activity<'a>,
}

/// A block's bytes, shared by the hash and the compressor.
struct Filled {
    bytes: Arc<Vec<u8>>,
    _ticket: Arc<Ticket>,
}

/// A block's compressed bytes, ready to be written.
struct Ready {
    packed: Packed,
    _ticket: Arc<Ticket>,
}

/// Which block is next in each layer, and how many more may be in memory.
struct Schedule {
    state: Mutex<State>,
    changed: Condvar,
}

/// How far a layer is.
#[derive(Default, Clone, Copy)]
struct Position {
    next: usize,
    in_memory: usize,
    /// Whether a part of a stored file is being read. The next part can only be read after it.
    in_stream: bool,
}

struct State {
    lines: Vec<Position>,
    tickets: usize,
    error: Option<Error>,
}

/// The right to hold one block in memory, given back when the block has been hashed and written.
struct Ticket {
    schedule: Arc<Schedule>,
    line: usize,
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
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next block to make, lowest layer first; nothing when all are taken or something failed.
    ///
    /// Waiting here cannot last for ever: the lowest block of each layer that is in memory is being worked on, and when it
    /// is done it and those behind it give their tickets back.
    fn next(self: &Arc<Self>, lines: &[Line<'_>]) -> Option<(usize, usize, Arc<Ticket>)> {
        let mut state = self.lock();
        loop {
            if state.error.is_some() {
                return None;
            }
            let mut unfinished =
                (0..lines.len()).filter(|&line| state.lines[line].next < lines[line].blocks.len()).peekable();
            unfinished.peek()?;
            let free = unfinished.find(|&line| {
                let Position { next, in_memory, in_stream } = state.lines[line];
                in_memory < MOST_OF_ONE_LAYER && !(in_stream && lines[line].is_in_stream(next))
            });
            if let Some(line) = free.filter(|_| state.tickets > 0) {
                state.tickets -= 1;
                let position = &mut state.lines[line];
                position.in_memory += 1;
                let block = position.next;
                position.next += 1;
                position.in_stream |= lines[line].is_in_stream(block);
                return Some((line, block, Arc::new(Ticket { schedule: self.clone(), line })));
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The part of a stored file that was being read is read.
    fn end_of_stream_part(&self, line: usize) {
        self.lock().lines[line].in_stream = false;
        self.changed.notify_all();
    }

    fn fail(&self, error: Error) {
        self.lock().error.get_or_insert(error);
        self.changed.notify_all();
    }
}

/// A worker that panics takes its block with it, and the others would wait for that block for ever.
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
    while let Some((line, block, ticket)) = schedule.next(lines) {
        let filled = lines[line].fill(block);
        if lines[line].is_in_stream(block) {
            schedule.end_of_stream_part(line);
        }
        if let Err(error) = filled.and_then(|filled| lines[line].advance(block, filled, ticket, &mut packer)) {
            schedule.fail(error.within(lines[line].request.name));
        }
    }
}

impl<'a> Line<'a> {
    fn start(request: &LayerRequest<'a>, blob: Option<BlobWriter>, progress: &'a dyn Progress) -> Self {
        let blocks = cut(request.tree);
        let size = blocks.iter().map(|block| block.length).sum();
        Line {
            request: *request,
            blocks,
            half_read: Mutex::new(None),
            tar: Sequence::new(Hasher::sha256()),
            blob: blob.map(Sequence::new),
            activity: Activity::start(progress, request.name, Some(size)),
        }
    }

    /// Whether a block begins or ends within a stored file.
    fn is_in_stream(&self, number: usize) -> bool {
        let begins_within = |block: &Block| {
            let entry = self.request.tree.entries().get(block.entry).filter(|_| block.offset > 0);
            entry.is_some_and(|entry| matches!(&entry.kind, Kind::File { content: Content::Stored(_), .. }))
        };
        self.blocks[number..].iter().take(2).any(begins_within)
    }

    fn fill(&self, number: usize) -> Result<(Vec<u8>, Vec<Taken>)> {
        let (mut bytes, mut taken) = (Vec::new(), Vec::new());
        let taking = matches!(self.request.compression, Compression::Reuse(_)).then_some(&mut taken);
        if self.is_in_stream(number) {
            let mut half_read = self.half_read.lock().unwrap_or_else(PoisonError::into_inner);
            fill(self.request.tree, &self.blocks[number], &mut half_read, taking, &mut bytes)?;
        } else {
            fill(self.request.tree, &self.blocks[number], &mut None, taking, &mut bytes)?;
        }
        Ok((bytes, taken))
    }

    /// Hands a block to the hash, packs it and hands it to the blob.
    fn advance(
        &self,
        number: usize,
        (bytes, taken): (Vec<u8>, Vec<Taken>),
        ticket: Arc<Ticket>,
        packer: &mut Packer,
    ) -> Result<()> {
        let bytes = Arc::new(bytes);
        self.tar.deliver(number, Filled { bytes: bytes.clone(), _ticket: ticket.clone() }, |hasher, filled| {
            hasher.update(&filled.bytes);
            self.activity.advance(filled.bytes.len() as u64);
            Ok(())
        })?;
        let Some(blob) = &self.blob else { return Ok(()) };
        let sums = Sums::of(self.request.tree, &self.blocks[number], &bytes);
        let packing = if taken.is_empty() { self.packing(number) } else { Packing::TakeOver(&taken) };
        let packed = packer.pack(&bytes, sums.block, packing, self.request.compression)?;
        drop(bytes);
        blob.deliver(number, Ready { packed, _ticket: ticket }, |writer, ready| writer.write(ready.packed.bytes()))
    }

    fn packing(&self, number: usize) -> Packing<'_> {
        self.request.reuse.map_or(Packing::Compress, |reuse| reuse.packing(number))
    }

    /// The diff ID, once every block has arrived.
    fn hashed(&self) -> Result<DiffId> {
        match self.tar.finished() {
            (hashed, Some(hasher)) if hashed == self.blocks.len() => Ok(DiffId::of_tar(hasher.finish())),
            _ => Err(self.incomplete()),
        }
    }

    fn incomplete(&self) -> Error {
        Error::new(ErrorKind::Io, self.request.name, "not every block arrived")
    }

    fn finish(mut self, layout: &Layout) -> Result<Layer> {
        let diff_id = self.hashed()?;
        let (written, writer) = self.blob.take().map_or((0, None), Sequence::finish);
        let writer = writer.filter(|_| written == self.blocks.len()).ok_or_else(|| self.incomplete())?;
        let (digest, size) = layout.finish_blob(writer)?;
        self.activity.finish(&bounded::size(size));
        let media_type = media_type::of_layer(self.request.compression.encoding());
        Ok(Layer {
            descriptor: Descriptor::new(media_type, digest, size),
            diff_id,
            tar_size: self.blocks.iter().map(|block| block.length).sum(),
        })
    }
}
