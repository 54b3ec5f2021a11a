//! What the tar of a layer says beyond its listing: the digest of each file's content, the order of the entries, and the form
//! of their headers. It is collected in the pass that makes the listing, in less than 100 bytes for each entry.

use crate::codec::tar::{BLOCK, EntryType, TarEntry, padding};
use crate::common::digest::Hasher;
use crate::common::error::{Error, Result};
use crate::spec::ImagePath;
use std::cmp::Ordering;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read};

/// The maximum number of entries that are remembered of one layer.
const MOST_RECORDS: usize = 5_000_000;

/// The keys of the hashes of one comparison. They are random, so that no image can be made whose paths collide.
#[derive(Debug, Clone, Default)]
pub(crate) struct HashKeys([RandomState; 2]);

/// A path, as two hashes of its bytes.
type PathKey = [u64; 2];

impl HashKeys {
    fn path(&self, path: &[u8]) -> PathKey {
        [self.0[0].hash_one(path), self.0[1].hash_one(path)]
    }

    fn of<T: std::hash::Hash>(&self, value: T) -> u64 {
        self.0[0].hash_one(value)
    }
}

/// The form of an entry's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum HeaderForm {
    /// POSIX ustar.
    Ustar,
    /// POSIX ustar with a PAX extended header.
    Pax,
    /// GNU tar.
    Gnu,
    /// Older than both.
    Old,
}

impl HeaderForm {
    /// Returns the name for messages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            HeaderForm::Ustar => "ustar",
            HeaderForm::Pax => "PAX",
            HeaderForm::Gnu => "GNU",
            HeaderForm::Old => "old",
        }
    }

    fn of(header: &[u8]) -> HeaderForm {
        match (header.get(156), header.get(257..263)) {
            (Some(b'x'), _) => HeaderForm::Pax,
            (Some(b'L' | b'K'), _) | (_, Some(b"ustar ")) => HeaderForm::Gnu,
            (_, Some(b"ustar\0")) => HeaderForm::Ustar,
            _ => HeaderForm::Old,
        }
    }
}

/// One entry of a tar. Everything but the content is hashed with the keys of the comparison.
#[derive(Debug, Clone)]
pub(crate) struct TarRecord {
    path: PathKey,
    /// The SHA-256 of the content of a file.
    pub(crate) content: [u8; 32],
    /// Kind, mode, owner, size, link target, extended attributes and device numbers.
    pub(crate) node: u64,
    /// The modification time, with its fraction of a second.
    pub(crate) time: u64,
    /// The names of the owner and the group.
    pub(crate) names: u32,
    /// The bytes of the header, and of the padding behind the content.
    pub(crate) header: u64,
    pub(crate) form: HeaderForm,
}

/// The entries of one tar, in its order.
#[derive(Debug, Default)]
pub(crate) struct TarFacts {
    keys: HashKeys,
    records: Vec<TarRecord>,
    /// The places of the records, sorted by path; of several with one path the last comes last.
    sorted: Vec<u32>,
    /// The end of the last entry.
    end: u64,
    /// The number of bytes behind the last entry.
    tail: u64,
}

impl TarFacts {
    pub(crate) fn new(keys: &HashKeys) -> TarFacts {
        TarFacts { keys: keys.clone(), ..TarFacts::default() }
    }

    pub(super) fn keys(&self) -> &HashKeys {
        &self.keys
    }

    /// Adds the next entry, whose content ends at the given position.
    ///
    /// # Errors
    /// Returns an error if there are too many.
    pub(super) fn add(&mut self, (record, end): (TarRecord, u64)) -> Result<()> {
        if self.records.len() >= MOST_RECORDS {
            return Err(Error::invalid("layer", format!("has more than {MOST_RECORDS} entries, too many to compare"))
                .hint("--quiet compares digests only"));
        }
        self.records.push(record);
        self.end = end;
        Ok(())
    }

    /// Notes the end of the tar, after `length` bytes.
    pub(super) fn end(&mut self, length: u64) {
        self.tail = length.saturating_sub(self.end);
        self.records.shrink_to_fit();
        self.sorted = (0..u32::try_from(self.records.len()).unwrap_or(u32::MAX)).collect();
        let path = |place: &u32| (self.records[*place as usize].path, *place);
        self.sorted.sort_unstable_by_key(path);
    }

    /// Returns the last entry for `path`.
    pub(crate) fn find(&self, path: &[u8]) -> Option<&TarRecord> {
        self.find_key(self.keys.path(path))
    }

    fn find_key(&self, path: PathKey) -> Option<&TarRecord> {
        let end = self.sorted.partition_point(|place| self.records[*place as usize].path <= path);
        let record = &self.records[*self.sorted.get(end.checked_sub(1)?)? as usize];
        (record.path == path).then_some(record)
    }

    /// Returns the number of bytes behind the last entry.
    pub(crate) fn tail(&self) -> u64 {
        self.tail
    }

    /// Returns the last entry of each path with the number of its entries, sorted by the hashes of the paths.
    fn last_entries(&self) -> impl Iterator<Item = (&TarRecord, usize)> {
        self.sorted.chunk_by(|one, other| self.record(*one).path == self.record(*other).path).filter_map(|places| {
            let last = self.record(*places.last()?);
            Some((last, places.len()))
        })
    }

    fn record(&self, place: u32) -> &TarRecord {
        &self.records[place as usize]
    }

    /// Calls `visit` for each path of both tars: with its last entry in each, and how many entries it has there.
    pub(crate) fn pair_up(&self, other: &TarFacts, mut visit: impl FnMut(PairedRecords<'_>)) {
        let (mut ours, mut theirs) = (self.last_entries().peekable(), other.last_entries().peekable());
        loop {
            let order = match (ours.peek(), theirs.peek()) {
                (None, None) => return,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((one, _)), Some((other, _))) => one.path.cmp(&other.path),
            };
            match (ours.next_if(|_| order.is_le()), theirs.next_if(|_| order.is_ge())) {
                (Some((one, count)), Some((other, other_count))) => {
                    visit(PairedRecords::Both { records: [one, other], counts: [count, other_count] });
                }
                _ => visit(PairedRecords::One),
            }
        }
    }

    /// Returns whether the paths that both tars have are in one order in both. Of several entries of a path the last counts.
    pub(crate) fn has_order_of(&self, other: &TarFacts) -> bool {
        self.common_paths(other).eq(other.common_paths(self))
    }

    fn common_paths<'a>(&'a self, other: &'a TarFacts) -> impl Iterator<Item = PathKey> + 'a {
        let is_last = |record: &&TarRecord| self.find_key(record.path).is_some_and(|last| std::ptr::eq(last, *record));
        self.records.iter().filter(is_last).map(|record| record.path).filter(|path| other.find_key(*path).is_some())
    }
}

/// The entries of two tars for one path.
pub(crate) enum PairedRecords<'a> {
    /// Only one of the tars has the path.
    One,
    /// Both have it.
    Both {
        /// The last entry in each.
        records: [&'a TarRecord; 2],
        /// The number of entries in each.
        counts: [usize; 2],
    },
}

/// A reader that keeps the bytes of headers, and counts all bytes.
pub(super) struct RecordedReader<R> {
    source: R,
    kept: Option<Vec<u8>>,
    length: u64,
}

impl<R> RecordedReader<R> {
    pub(super) fn new(source: R) -> Self {
        RecordedReader { source, kept: None, length: 0 }
    }

    /// Keeps what is read from here on.
    pub(super) fn record(&mut self) {
        self.kept = Some(Vec::new());
    }

    /// Returns what was kept, and keeps no more.
    pub(super) fn recorded(&mut self) -> Vec<u8> {
        self.kept.take().unwrap_or_default()
    }

    /// Returns the number of bytes that were read.
    pub(super) fn length(&self) -> u64 {
        self.length
    }
}

impl<R: Read> Read for RecordedReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.length += read as u64;
        if let Some(kept) = &mut self.kept {
            kept.extend_from_slice(&buffer[..read]);
        }
        Ok(read)
    }
}

/// A reader of the content of one entry and of the padding behind it.
pub(super) struct EntryReader<'a, R> {
    source: &'a mut R,
    keys: HashKeys,
    record: TarRecord,
    hasher: Hasher,
    /// The rest of the content, in bytes.
    left: u64,
    end: u64,
    padding: Vec<u8>,
}

impl<'a, R: Read> EntryReader<'a, R> {
    /// Creates a reader for `entry`, of which `header` are all the bytes of the headers.
    pub(super) fn new(source: &'a mut R, entry: &TarEntry, header: &[u8], keys: &HashKeys) -> Self {
        // The last block is the header of the entry itself; extended headers come before it.
        let own = header.len().checked_sub(BLOCK as usize).map_or(&[][..], |start| &header[start..]);
        let device = match entry.kind {
            EntryType::CharacterDevice | EntryType::BlockDevice => own.get(329..345).unwrap_or_default(),
            _ => &[],
        };
        let node = (entry.kind, entry.mode, entry.uid, entry.gid, entry.size, &entry.link, &entry.xattrs, device);
        let path = ImagePath::new(&entry.path).map_or_else(|_| entry.path.clone(), |path| path.as_bytes().to_vec());
        let record = TarRecord {
            path: keys.path(&path),
            content: [0; 32],
            node: keys.of(node),
            time: keys.of((entry.mtime, fraction(header))),
            names: keys.of(own.get(265..329)) as u32,
            header: keys.of(header),
            form: HeaderForm::of(header),
        };
        let end = entry.offset.saturating_add(entry.size).saturating_add(padding(entry.size));
        let (keys, hasher) = (keys.clone(), Hasher::sha256());
        EntryReader { source, keys, record, hasher, left: entry.size, end, padding: Vec::new() }
    }

    /// Returns the record of the entry, whose content was read, and the position of its end.
    pub(super) fn finish(self) -> (TarRecord, u64) {
        let EntryReader { mut record, hasher, keys, padding, end, .. } = self;
        if let Ok(content) = <[u8; 32]>::try_from(hasher.finish().as_bytes()) {
            record.content = content;
        }
        if padding.iter().any(|byte| *byte != 0) {
            record.header = keys.of((record.header, padding));
        }
        (record, end)
    }
}

impl<R: Read> Read for EntryReader<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        let content = read.min(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.hasher.update(&buffer[..content]);
        self.left -= content as u64;
        // At most the rest of a block.
        self.padding.extend_from_slice(&buffer[content..read]);
        Ok(read)
    }
}

/// Returns the digits behind the point of the time in a PAX header, without zeros at the end.
fn fraction(header: &[u8]) -> &[u8] {
    let mut rest = if header.get(156) == Some(&b'x') { header.get(BLOCK as usize..).unwrap_or_default() } else { &[] };
    // The reader of headers has checked the form of the records.
    while let Some(space) = rest.iter().take(20).position(|byte| *byte == b' ') {
        let length = std::str::from_utf8(&rest[..space]).ok().and_then(|digits| digits.parse::<usize>().ok());
        let Some(record) = length.and_then(|length| rest.get(space + 1..length)) else { break };
        if let Some(time) = record.strip_prefix(b"mtime=") {
            let fraction = time.iter().position(|byte| *byte == b'.').map_or(&[][..], |point| &time[point + 1..]);
            let end = fraction.iter().rposition(|byte| byte.is_ascii_digit() && *byte != b'0');
            return end.map_or(&[], |end| &fraction[..=end]);
        }
        rest = &rest[length.unwrap_or(rest.len())..];
    }
    &[]
}
