//! Lists of a layer's compressed blocks, kept for the next incremental build of the layer.
//!
//! ```text
//! magic, SHA-256 of all that follows
//! digest, size, diff ID, tar size, media type
//! number of entries; each: path (length shared with the previous one, and the rest), fingerprint, size, checksum
//! number of blocks;  each: start and length, its size in the blob, checksum, the hash states of tar and blob at its end
//! ```
//!
//! Numbers are big-endian. A list is one binary file, since a Python environment has 40,000 entries, and a build in which one
//! file has changed reads and writes all of them: 3 MB, in milliseconds. Any error in a list is a cache miss.

use super::Cache;
use crate::cache::keys::SeriesKey;
use crate::common::bounded_read;
use crate::common::digest::{Algorithm, DiffId, Digest, HashState, Hashing, HashingWriter};
use crate::common::error::Result;
use crate::common::progress::{Progress, warn};
use crate::common::root::Root;
use crate::layers::incremental::{DoneBlock, Fingerprint, PreviousEntry, PreviousLayer};
use crate::layers::{Block, Layer};
use crate::spec::Descriptor;
use crate::store::OpenBlob;
use std::io::{self, BufRead as _, BufReader, BufWriter, Read, Seek as _, SeekFrom, Write};

const MAGIC: &[u8; 18] = b"ocibuild blocks 1\n";
/// The length of a SHA-256, in bytes.
const HASH: usize = 32;
/// The maximum size of a list, in bytes: about 700,000 entries. Larger layers have no list.
const LARGEST: u64 = 64 << 20;
/// The length of an entry without a path of its own, in bytes.
const SHORTEST_ENTRY: u64 = 41;
/// The maximum total length of the paths of a list, in bytes. Each path is stored without what it shares with the previous one,
/// so a list could name a thousand times its own size.
const LONGEST_PATHS: usize = 512 << 20;

impl Cache {
    /// Returns the block list of the previous build in `series`, and its verified blob.
    pub fn earlier(&self, series: &SeriesKey) -> Option<(PreviousLayer, OpenBlob)> {
        let read = |name: &str| read(&self.blocks, name);
        let earlier = read(&series.own_name()).or_else(|| read(&latest(&self.blocks, &series.latest_name())?))?;
        let blob = self.store.open_verified(&earlier.layer.descriptor).ok()??;
        Some((earlier, blob))
    }

    /// Keeps the block list of a layer for the next build in `series`: its blocks, and the entries of its tree. A failure only
    /// costs time, so it is a warning.
    pub fn keep_blocks(
        &self,
        series: &SeriesKey,
        (layer, blocks): (&Layer, &[DoneBlock]),
        entries: impl ExactSizeIterator<Item = PreviousEntry>,
        progress: &dyn Progress,
    ) {
        let own = series.own_name();
        let written = write_list(&self.blocks, &own, (layer, blocks), entries)
            .and_then(|()| write(&self.blocks, &series.latest_name(), own.as_bytes()));
        if let Err(error) = written {
            warn(progress, &error.object(), &format!("{}; the next build compresses everything again", error.reason()));
        }
    }
}

/// Returns whether the list `name` can be used.
pub(super) fn is_whole(directory: &Root, name: &str) -> bool {
    read(directory, name).is_some()
}

/// Reads the name of the latest list from the file `name`.
pub(super) fn latest(directory: &Root, name: &str) -> Option<String> {
    let text = bounded_read::read(directory.open_file(name).ok()?, 64, name).ok()?;
    // Parsed, so that it cannot name anything but a list.
    let list: Digest = format!("sha256:{}", std::str::from_utf8(&text).ok()?).parse().ok()?;
    Some(list.hex())
}

/// Returns the digest of the layer that the list `name` describes. Reads only the start of the file.
pub(super) fn subject(directory: &Root, name: &str) -> Option<Digest> {
    let mut start = [0; MAGIC.len() + 2 * HASH];
    let file = directory.open_file(name).ok()?;
    let read = crate::common::file_section::read_full_at(&file, &mut start, 0).ok()?;
    let mut reader = BlockListReader(&start[..read]);
    reader.expect(MAGIC)?;
    reader.digest()?;
    reader.digest()
}

fn read(directory: &Root, name: &str) -> Option<PreviousLayer> {
    let mut file = directory.open_file(name).ok()?;
    let mut start = BlockListReader(&mut file);
    start.expect(MAGIC)?;
    let sum = start.digest()?;
    let most_entries = file.metadata().ok()?.len() / SHORTEST_ENTRY;
    let mut reader = BlockListReader(BufReader::new(Hashing::new(file.take(LARGEST), Algorithm::Sha256)));
    let layer = reader.layer(most_entries)?;
    let is_end = reader.0.fill_buf().ok()?.is_empty();
    let (found, _) = reader.0.into_inner().finish().ok()?;
    (is_end && found == sum && layer.is_consistent()).then_some(layer)
}

fn write(directory: &Root, name: &str, bytes: &[u8]) -> Result<()> {
    let mut temporary = directory.temporary()?;
    temporary.write_all(bytes).map_err(|error| directory.failed(name, "write", error))?;
    temporary.rename_unsynced(name)
}

/// Writes a list as its entries come, since all of them together would be the largest part of the memory of a build.
fn write_list(
    directory: &Root,
    name: &str,
    (layer, blocks): (&Layer, &[DoneBlock]),
    entries: impl ExactSizeIterator<Item = PreviousEntry>,
) -> Result<()> {
    let failed = |error| directory.failed(name, "write", error);
    let mut file = directory.temporary()?;
    file.write_all(&[&MAGIC[..], &[0; HASH]].concat()).map_err(failed)?;
    let mut out = BlockListWriter(BufWriter::new(HashingWriter::new(file)));
    out.list(layer, blocks, entries).map_err(failed)?;
    let hashed = out.0.into_inner().map_err(|error| failed(error.into_error()))?;
    if hashed.size() > LARGEST {
        return Ok(());
    }
    let (mut file, sum) = hashed.finish();
    file.seek(SeekFrom::Start(MAGIC.len() as u64)).map_err(failed)?;
    file.write_all(sum.as_bytes()).map_err(failed)?;
    file.rename_unsynced(name)
}

struct BlockListWriter<W>(W);

impl<W: Write> BlockListWriter<W> {
    fn list(
        &mut self,
        layer: &Layer,
        blocks: &[DoneBlock],
        entries: impl ExactSizeIterator<Item = PreviousEntry>,
    ) -> io::Result<()> {
        let Layer { descriptor, diff_id, tar_size } = layer;
        self.bytes(descriptor.digest.as_bytes())?;
        self.u64(descriptor.size)?;
        self.bytes(diff_id.as_digest().as_bytes())?;
        self.u64(*tar_size)?;
        self.string(descriptor.media_type.as_bytes())?;
        self.length(entries.len())?;
        let mut before: Box<[u8]> = Box::default();
        for entry in entries {
            self.entry(&entry, &before)?;
            before = entry.path;
        }
        self.length(blocks.len())?;
        blocks.iter().try_for_each(|block| self.block(block))
    }

    fn entry(&mut self, entry: &PreviousEntry, before: &[u8]) -> io::Result<()> {
        let PreviousEntry { path, fingerprint: Fingerprint { shape, whole }, size, content } = entry;
        let shared = before.iter().zip(path).take_while(|(a, b)| a == b).count();
        self.bytes(&(shared as u16).to_be_bytes())?;
        self.string(&path[shared..])?;
        self.u64(*shape)?;
        self.bytes(&[u8::from(whole.is_some())])?;
        self.bytes(&whole.unwrap_or_default())?;
        self.u64(*size)?;
        self.u32(*content)
    }

    fn block(&mut self, done: &DoneBlock) -> io::Result<()> {
        let DoneBlock { block: Block { entry, offset, length }, packed, sum, tar, blob } = done;
        self.length(*entry)?;
        self.u64(*offset)?;
        self.u64(*length)?;
        self.u32(*packed)?;
        self.u32(*sum)?;
        self.bytes(tar.as_bytes())?;
        self.bytes(blob.as_bytes())
    }

    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn u32(&mut self, number: u32) -> io::Result<()> {
        self.bytes(&number.to_be_bytes())
    }

    fn u64(&mut self, number: u64) -> io::Result<()> {
        self.bytes(&number.to_be_bytes())
    }

    /// Writes a number of items in memory. A number that is too large makes the list inconsistent.
    fn length(&mut self, length: usize) -> io::Result<()> {
        self.u32(u32::try_from(length).unwrap_or(u32::MAX))
    }

    fn string(&mut self, text: &[u8]) -> io::Result<()> {
        self.bytes(&(text.len() as u16).to_be_bytes())?;
        self.bytes(text)
    }
}

/// The rest of a list. Every method returns `None` if there are not enough bytes, or they cannot be read.
struct BlockListReader<R>(R);

impl<R: Read> BlockListReader<R> {
    fn array<const LENGTH: usize>(&mut self) -> Option<[u8; LENGTH]> {
        let mut array = [0; LENGTH];
        self.0.read_exact(&mut array).ok()?;
        Some(array)
    }

    fn expect<const LENGTH: usize>(&mut self, bytes: &[u8; LENGTH]) -> Option<()> {
        (self.array()? == *bytes).then_some(())
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    fn digest(&mut self) -> Option<Digest> {
        self.array().map(Digest::from_sha256)
    }

    /// Reads a string, and returns it behind `start`.
    fn string_after(&mut self, start: &[u8]) -> Option<Box<[u8]>> {
        let mut text = vec![0; start.len() + usize::from(self.u16()?)];
        text[..start.len()].copy_from_slice(start);
        self.0.read_exact(&mut text[start.len()..]).ok()?;
        Some(text.into())
    }

    fn layer(&mut self, most_entries: u64) -> Option<PreviousLayer> {
        let (digest, size) = (self.digest()?, self.u64()?);
        let (diff_id, tar_size) = (DiffId::of_tar(self.digest()?), self.u64()?);
        let media_type = self.string_after(b"")?;
        let descriptor = Descriptor::new(std::str::from_utf8(&media_type).ok()?, digest, size);
        let layer = Layer { descriptor, diff_id, tar_size };
        let count = self.u32()?;
        let mut entries: Vec<PreviousEntry> = Vec::with_capacity(u64::from(count).min(most_entries) as usize);
        let mut left = LONGEST_PATHS;
        for _ in 0..count {
            let before = entries.last().map_or(&b""[..], |entry| &entry.path);
            let entry = self.entry(before)?;
            left = left.checked_sub(entry.path.len())?;
            entries.push(entry);
        }
        let count = self.u32()?;
        let blocks = (0..count).map(|_| self.block()).collect::<Option<Vec<_>>>()?;
        Some(PreviousLayer { layer, entries, blocks })
    }

    fn entry(&mut self, before: &[u8]) -> Option<PreviousEntry> {
        let shared = before.get(..usize::from(self.u16()?))?;
        let path = self.string_after(shared)?;
        let shape = self.u64()?;
        let [has_whole] = self.array()?;
        let whole = self.array()?;
        let fingerprint = Fingerprint { shape, whole: (has_whole == 1).then_some(whole) };
        Some(PreviousEntry { path, fingerprint, size: self.u64()?, content: self.u32()? })
    }

    fn block(&mut self) -> Option<DoneBlock> {
        let block = Block { entry: usize::try_from(self.u32()?).ok()?, offset: self.u64()?, length: self.u64()? };
        let (packed, sum) = (self.u32()?, self.u32()?);
        let (tar, blob) = (HashState::from_bytes(self.array()?), HashState::from_bytes(self.array()?));
        Some(DoneBlock { block, packed, sum, tar, blob })
    }
}
