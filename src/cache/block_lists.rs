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
use crate::common::digest::{DiffId, Digest, HashState};
use crate::common::error::Result;
use crate::common::progress::{Progress, warn};
use crate::common::root::Root;
use crate::layers::incremental::{DoneBlock, Fingerprint, PreviousEntry, PreviousLayer};
use crate::layers::{Block, Layer};
use crate::spec::Descriptor;
use crate::store::OpenBlob;
use std::io::Write;

const MAGIC: &[u8; 18] = b"ocibuild blocks 1\n";
/// The length of a SHA-256, in bytes.
const HASH: usize = 32;
/// The maximum size of a list, in bytes: about 700,000 entries. Larger layers have no list.
const LARGEST: u64 = 64 << 20;
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

    /// Keeps the block list of a layer for the next build in `series`. A failure only costs time, so it is a warning.
    pub fn keep_blocks(&self, series: &SeriesKey, layer: &PreviousLayer, progress: &dyn Progress) {
        let own = series.own_name();
        let written = write(&self.blocks, &own, &encoded(layer))
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
    reader.take(HASH)?;
    reader.digest()
}

fn read(directory: &Root, name: &str) -> Option<PreviousLayer> {
    let bytes = bounded_read::read(directory.open_file(name).ok()?, LARGEST, name).ok()?;
    let mut reader = BlockListReader(&bytes);
    reader.expect(MAGIC)?;
    let sum = reader.digest()?;
    if sum != Digest::of(reader.0) {
        return None;
    }
    let layer = reader.layer().filter(PreviousLayer::is_consistent)?;
    reader.0.is_empty().then_some(layer)
}

fn write(directory: &Root, name: &str, bytes: &[u8]) -> Result<()> {
    if bytes.len() as u64 > LARGEST {
        return Ok(());
    }
    let mut temporary = directory.temporary()?;
    temporary.write_all(bytes).map_err(|error| directory.failed(name, "write", error))?;
    temporary.rename_unsynced(name)
}

fn encoded(earlier: &PreviousLayer) -> Vec<u8> {
    let PreviousLayer { layer: Layer { descriptor, diff_id, tar_size }, entries, blocks } = earlier;
    let mut out = BlockListWriter([&MAGIC[..], &[0; HASH]].concat());
    out.bytes(descriptor.digest.as_bytes());
    out.u64(descriptor.size);
    out.bytes(diff_id.as_digest().as_bytes());
    out.u64(*tar_size);
    out.string(descriptor.media_type.as_bytes());
    out.length(entries.len());
    let mut before: &[u8] = b"";
    for PreviousEntry { path, fingerprint: Fingerprint { shape, whole }, size, content } in entries {
        let shared = before.iter().zip(path).take_while(|(a, b)| a == b).count();
        out.bytes(&(shared as u16).to_be_bytes());
        out.string(&path[shared..]);
        out.u64(*shape);
        out.bytes(&[u8::from(whole.is_some())]);
        out.bytes(&whole.unwrap_or_default());
        out.u64(*size);
        out.u32(*content);
        before = path;
    }
    out.length(blocks.len());
    for DoneBlock { block: Block { entry, offset, length }, packed, sum, tar, blob } in blocks {
        out.length(*entry);
        out.u64(*offset);
        out.u64(*length);
        out.u32(*packed);
        out.u32(*sum);
        out.bytes(tar.as_bytes());
        out.bytes(blob.as_bytes());
    }
    let BlockListWriter(mut bytes) = out;
    let sum = Digest::of(&bytes[MAGIC.len() + HASH..]);
    bytes[MAGIC.len()..][..HASH].copy_from_slice(sum.as_bytes());
    bytes
}

struct BlockListWriter(Vec<u8>);

impl BlockListWriter {
    fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn u32(&mut self, number: u32) {
        self.bytes(&number.to_be_bytes());
    }

    fn u64(&mut self, number: u64) {
        self.bytes(&number.to_be_bytes());
    }

    /// Writes a number of items in memory. A number that is too large makes the list inconsistent.
    fn length(&mut self, length: usize) {
        self.u32(u32::try_from(length).unwrap_or(u32::MAX));
    }

    fn string(&mut self, text: &[u8]) {
        self.bytes(&(text.len() as u16).to_be_bytes());
        self.bytes(text);
    }
}

/// The rest of a list. Every method returns `None` if there are not enough bytes.
struct BlockListReader<'a>(&'a [u8]);

impl<'a> BlockListReader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const LENGTH: usize>(&mut self) -> Option<[u8; LENGTH]> {
        self.take(LENGTH)?.try_into().ok()
    }

    fn expect(&mut self, bytes: &[u8]) -> Option<()> {
        (self.take(bytes.len())? == bytes).then_some(())
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

    fn string(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }

    fn layer(&mut self) -> Option<PreviousLayer> {
        let (digest, size) = (self.digest()?, self.u64()?);
        let (diff_id, tar_size) = (DiffId::of_tar(self.digest()?), self.u64()?);
        let media_type = std::str::from_utf8(self.string()?).ok()?;
        let layer = Layer { descriptor: Descriptor::new(media_type, digest, size), diff_id, tar_size };
        let count = self.u32()?;
        let mut entries: Vec<PreviousEntry> = Vec::new();
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
        let path = [shared, self.string()?].concat().into();
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
