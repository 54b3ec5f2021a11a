//! A strict reader of `hololib.zip`, in place.
//!
//! A zip holds all metadata twice, and tools differ in which copy they use. Here the central directory is
//! authoritative, and every local header must agree with it. There must be no other bytes before, between or after the
//! members, no member may overlap another, and no name may occur twice. (APPNOTE.TXT 6.3.10; section numbers below
//! refer to it.)

use crate::common::error::{Error, ErrorKind, Result};
use crate::common::file_section::{Section, read_full_at};
use crate::common::human_numbers;
use flate2::Crc;
use flate2::read::DeflateDecoder;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

/// The maximum number of members in an archive.
const MEMBER_LIMIT: u64 = 10_000_000;

/// The maximum size of the central directory, in bytes.
const DIRECTORY_LIMIT: u64 = 1 << 30;

/// Section 4.3.16: end of central directory record.
const END: u32 = 0x0605_4b50;
const END_LENGTH: u64 = 22;
/// Section 4.3.15: its 64-bit locator.
const LOCATOR: u32 = 0x0706_4b50;
const LOCATOR_LENGTH: u64 = 20;
/// Section 4.3.14: its 64-bit form.
const END_64: u32 = 0x0606_4b50;
const END_64_LENGTH: u64 = 56;
/// Section 4.3.12: central directory header.
const CENTRAL: u32 = 0x0201_4b50;
const CENTRAL_LENGTH: usize = 46;
/// Section 4.3.7: local file header.
const LOCAL: u32 = 0x0403_4b50;
const LOCAL_LENGTH: usize = 30;
/// Section 4.3.9: data descriptor.
const DESCRIPTOR: u32 = 0x0807_4b50;
/// Section 4.5.3: the extra field with 64-bit sizes.
const EXTRA_64: u16 = 1;

/// Section 4.4.4: sizes follow the data. `ALLOWED_FLAGS` adds UTF-8 names and the two bits for the compression level.
const HAS_DESCRIPTOR: u16 = 1 << 3;
const ALLOWED_FLAGS: u16 = HAS_DESCRIPTOR | 1 << 11 | 1 << 1 | 1 << 2;

/// An open zip whose structure has been checked. Members can be read independently, from any thread.
#[derive(Debug)]
pub(in crate::rcc) struct Archive {
    shown: String,
    file: Arc<File>,
    members: HashMap<String, ZipMember>,
}

/// The compression method of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Stored,
    Deflated,
}

/// The location of a member's data, and its expected size and checksum.
#[derive(Debug, Clone, Copy)]
pub(in crate::rcc) struct ZipMember {
    method: Method,
    crc: u32,
    compressed: u64,
    size: u64,
    offset: u64,
    is_program: bool,
}

/// The offset at which the members of a zip begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::rcc) enum Start {
    /// At the beginning of the file.
    OfFile,
    /// At the beginning of the file, or after a program. Offsets may or may not include the program.
    BehindProgram,
}

impl ZipMember {
    /// Returns the uncompressed size, in bytes.
    pub(in crate::rcc) fn size(&self) -> u64 {
        self.size
    }

    /// Returns whether the owner's execute bit is recorded for the member.
    pub(in crate::rcc) fn is_program(&self) -> bool {
        self.is_program
    }
}

impl Archive {
    /// Returns a string that distinguishes this file from others, and from its own earlier versions.
    pub(super) fn identity(&self) -> String {
        let metadata = cap_std::fs::Metadata::from_file(&self.file);
        let stamp = metadata.and_then(|metadata| crate::layers::tree::Stamp::of(&metadata));
        stamp.map_or_else(|_| "unknown".to_owned(), |stamp| format!("{stamp:?}"))
    }

    /// Opens `file` and checks its structure.
    ///
    /// # Errors
    /// Returns an error if it is not exactly one zip, or could be read in two ways.
    pub(in crate::rcc) fn open(file: File, shown: &str) -> Result<Archive> {
        Archive::open_from(file, shown, Start::OfFile)
    }

    /// Opens a file whose members begin at `start`, as [`Archive::open`] does.
    ///
    /// # Errors
    /// Fails if [`Archive::open`] does.
    pub(in crate::rcc) fn open_from(file: File, shown: &str, start: Start) -> Result<Archive> {
        let length = file.metadata().map_err(|error| Error::io(shown, "read", error))?.len();
        let reader = ArchiveReader { file: &file, shown, start };
        let end = reader.end(length)?;
        let directory_at = end.directory_offset + end.skipped;
        let directory = reader.bytes(directory_at, end.directory_size)?;
        let mut headers = central_headers(&directory, &end, shown)?;
        for header in &mut headers {
            let overflow = || reader.corrupt("an offset overflows");
            header.offset = header.offset.checked_add(end.skipped).ok_or_else(overflow)?;
        }
        let members = reader.locate(headers, directory_at)?;
        Ok(Archive { shown: shown.to_owned(), file: Arc::new(file), members })
    }

    /// Returns the names of all members, with `/` as separator, in no particular order.
    pub(in crate::rcc) fn names(&self) -> impl Iterator<Item = &str> {
        self.members.keys().map(String::as_str)
    }

    /// Returns the member called `name`.
    ///
    /// # Errors
    /// Returns an error if there is no such member.
    pub(in crate::rcc) fn member(&self, name: &str) -> Result<ZipMember> {
        let missing = || Error::new(ErrorKind::NotFound, format!("{}: {name}", self.shown), "not found");
        self.members.get(name).copied().ok_or_else(missing)
    }

    /// Opens a member for reading. The reader ends without error only if size and checksum were right.
    pub(in crate::rcc) fn read(&self, member: ZipMember) -> Box<dyn Read + Send> {
        let data = Section::new(self.file.clone(), member.offset, member.compressed);
        let checked = |source| Checked { source, crc: Crc::new(), left: member.size, expected: member.crc };
        match member.method {
            Method::Stored => Box::new(checked(Box::new(data) as Box<dyn Read + Send>)),
            Method::Deflated => Box::new(checked(Box::new(DeflateDecoder::new(data)))),
        }
    }
}

/// The fields of the end record.
struct EndRecord {
    entries: u64,
    directory_size: u64,
    directory_offset: u64,
    /// The number of bytes before the position from which offsets are counted.
    skipped: u64,
}

/// A header of the central directory.
struct CentralHeader {
    name: String,
    raw_name: Vec<u8>,
    flags: u16,
    method: Method,
    crc: u32,
    compressed: u64,
    size: u64,
    offset: u64,
    is_program: bool,
}

struct ArchiveReader<'a> {
    file: &'a File,
    shown: &'a str,
    start: Start,
}

impl ArchiveReader<'_> {
    fn corrupt(&self, reason: impl Into<String>) -> Error {
        Error::corrupt(self.shown, reason)
    }

    fn bytes(&self, offset: u64, length: u64) -> Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(length).map_err(|_| self.corrupt("too large for this machine"))?];
        let read = read_full_at(self.file, &mut bytes, offset).map_err(|error| Error::io(self.shown, "read", error))?;
        if read < bytes.len() { Err(self.corrupt("truncated")) } else { Ok(bytes) }
    }

    fn end(&self, length: u64) -> Result<EndRecord> {
        let at = length.checked_sub(END_LENGTH).ok_or_else(|| self.corrupt("not a zip: too short"))?;
        let record = self.bytes(at, END_LENGTH)?;
        let mut fields = Fields(&record);
        if fields.u32() != Some(END) {
            return Err(self.corrupt("not a zip, or something stands behind its end"));
        }
        let disks = [fields.u16(), fields.u16()];
        let (here, entries) = (fields.u16(), fields.u16());
        let (size, offset, comment) = (fields.u32(), fields.u32(), fields.u16());
        if disks != [Some(0), Some(0)] || here != entries || comment != Some(0) {
            return Err(self.corrupt("a part of several, or with a comment"));
        }
        let (entries, size, offset) = (entries.unwrap_or(0), size.unwrap_or(0), offset.unwrap_or(0));
        let is_64 = entries == u16::MAX || size == u32::MAX || offset == u32::MAX;
        let (mut end, directory_end) = match is_64 {
            true => self.end_64(at)?,
            false => {
                let (directory_size, directory_offset) = (size.into(), offset.into());
                (EndRecord { entries: entries.into(), directory_size, directory_offset, skipped: 0 }, at)
            }
        };
        let counted = end.directory_offset.checked_add(end.directory_size);
        match counted.and_then(|counted| directory_end.checked_sub(counted)) {
            Some(0) => {}
            Some(skipped) if self.start == Start::BehindProgram => end.skipped = skipped,
            _ => {
                let reason = "the central directory is not where its end says, or something stands between";
                return Err(self.corrupt(reason));
            }
        }
        if end.entries > MEMBER_LIMIT || end.directory_size > DIRECTORY_LIMIT {
            return Err(self.corrupt(format!(
                "more than {MEMBER_LIMIT} members, or a directory larger than {}",
                human_numbers::size(DIRECTORY_LIMIT)
            )));
        }
        Ok(end)
    }

    /// Reads the 64-bit end record.
    ///
    /// It directly precedes its locator, which directly precedes the other end record.
    fn end_64(&self, end: u64) -> Result<(EndRecord, u64)> {
        let wrong = || self.corrupt("its 64-bit end is missing or wrong");
        let locator_at = end.checked_sub(LOCATOR_LENGTH).ok_or_else(wrong)?;
        let at = locator_at.checked_sub(END_64_LENGTH).ok_or_else(wrong)?;
        let locator = self.bytes(locator_at, LOCATOR_LENGTH)?;
        let mut fields = Fields(&locator);
        if (fields.u32(), fields.u32(), fields.u64(), fields.u32()) != (Some(LOCATOR), Some(0), Some(at), Some(1)) {
            return Err(wrong());
        }
        let record = self.bytes(at, END_64_LENGTH)?;
        let mut fields = Fields(&record);
        let head = (fields.u32(), fields.u64(), fields.u32(), fields.u32(), fields.u32());
        let (signature, rest_length, _versions, disk, directory_disk) = head;
        let (here, entries, size, offset) = (fields.u64(), fields.u64(), fields.u64(), fields.u64());
        let is_right = signature == Some(END_64)
            && rest_length == Some(END_64_LENGTH - 12)
            && (disk, directory_disk) == (Some(0), Some(0))
            && here == entries;
        match (is_right, entries, size, offset) {
            (true, Some(entries), Some(directory_size), Some(directory_offset)) => {
                Ok((EndRecord { entries, directory_size, directory_offset, skipped: 0 }, at))
            }
            _ => Err(wrong()),
        }
    }

    /// Finds the data of every member.
    ///
    /// Checks that the members fill the file up to the central directory.
    fn locate(&self, mut headers: Vec<CentralHeader>, directory_offset: u64) -> Result<HashMap<String, ZipMember>> {
        headers.sort_unstable_by_key(|header| header.offset);
        let mut members = HashMap::with_capacity(headers.len());
        let mut expected_at = match self.start {
            Start::OfFile => 0,
            Start::BehindProgram => headers.first().map_or(directory_offset, |first| first.offset),
        };
        let mut headers = headers.into_iter().peekable();
        while let Some(header) = headers.next() {
            let wrong = |reason: &str| self.corrupt(format!("member `{}`: {reason}", header.name));
            if header.offset != expected_at {
                return Err(wrong("overlaps another, or something stands before it"));
            }
            let offset = self.data_offset(&header).map_err(|reason| match reason {
                Disagreement::Header(reason) => wrong(reason),
                Disagreement::Other(error) => error,
            })?;
            let data_end = offset.checked_add(header.compressed).ok_or_else(|| wrong("too large"))?;
            let next = headers.peek().map_or(directory_offset, |next| next.offset);
            let gap = next.checked_sub(data_end).ok_or_else(|| wrong("overlaps what follows"))?;
            if header.flags & HAS_DESCRIPTOR == 0 {
                expected_at = data_end;
            } else {
                self.check_descriptor(&header, data_end, gap)?;
                expected_at = next;
            }
            let CentralHeader { name, method, crc, compressed, size, is_program, .. } = header;
            let duplicate = format!("member `{name}`: duplicate");
            if members.insert(name, ZipMember { method, crc, compressed, size, offset, is_program }).is_some() {
                return Err(self.corrupt(duplicate));
            }
        }
        if expected_at != directory_offset {
            return Err(self.corrupt("something stands between the members and the central directory"));
        }
        Ok(members)
    }

    /// Returns the offset of a member's data, after a local header that must agree.
    fn data_offset(&self, header: &CentralHeader) -> Result<u64, Disagreement> {
        let local = self.bytes(header.offset, LOCAL_LENGTH as u64).map_err(Disagreement::Other)?;
        let mut fields = Fields(&local);
        let signature = fields.u32();
        let _version = fields.u16();
        let (flags, method) = (fields.u16(), fields.u16());
        let _time = fields.u32();
        let (crc, compressed, size) = (fields.u32(), fields.u32(), fields.u32());
        let (name_length, extra_length) = (fields.u16().unwrap_or(0), fields.u16().unwrap_or(0));
        if signature != Some(LOCAL) {
            return Err(Disagreement::Header("no local header"));
        }
        if flags != Some(header.flags) || method != Some(header.method.number()) {
            return Err(Disagreement::Header("the local header disagrees on the method"));
        }
        let tail_length = u64::from(name_length) + u64::from(extra_length);
        let tail = self.bytes(header.offset + LOCAL_LENGTH as u64, tail_length).map_err(Disagreement::Other)?;
        let (name, extra) = tail.split_at(name_length.into());
        if name != header.raw_name {
            return Err(Disagreement::Header("the local header has another name"));
        }
        if header.flags & HAS_DESCRIPTOR == 0 {
            let mut sizes = Sizes::new(extra);
            let size = sizes.widen(size.unwrap_or(0));
            let compressed = sizes.widen(compressed.unwrap_or(0));
            if crc != Some(header.crc) || size != Some(header.size) || compressed != Some(header.compressed) {
                return Err(Disagreement::Header("the local header disagrees on size or checksum"));
            }
        }
        Ok(header.offset + LOCAL_LENGTH as u64 + tail_length)
    }

    /// Checks that only a descriptor, in one of its four forms, follows the data.
    fn check_descriptor(&self, header: &CentralHeader, at: u64, length: u64) -> Result<()> {
        let wrong = || self.corrupt(format!("member `{}`: its data descriptor is wrong", header.name));
        if !matches!(length, 12 | 16 | 20 | 24) {
            return Err(wrong());
        }
        let record = self.bytes(at, length)?;
        let mut fields = Fields(&record);
        if matches!(length, 16 | 24) && fields.u32() != Some(DESCRIPTOR) {
            return Err(wrong());
        }
        let crc = fields.u32();
        let (compressed, size) = match length {
            12 | 16 => (fields.u32().map(u64::from), fields.u32().map(u64::from)),
            _ => (fields.u64(), fields.u64()),
        };
        let is_right = (crc, compressed, size) == (Some(header.crc), Some(header.compressed), Some(header.size));
        if is_right { Ok(()) } else { Err(wrong()) }
    }
}

enum Disagreement {
    Header(&'static str),
    Other(Error),
}

impl Method {
    fn number(self) -> u16 {
        match self {
            Method::Stored => 0,
            Method::Deflated => 8,
        }
    }
}

/// Parses the central directory.
fn central_headers(directory: &[u8], end: &EndRecord, shown: &str) -> Result<Vec<CentralHeader>> {
    let mut headers = Vec::new();
    let mut rest = directory;
    while !rest.is_empty() {
        let header = central_header(&mut rest).map_err(|reason| Error::corrupt(shown, reason))?;
        headers.push(header);
    }
    if headers.len() as u64 != end.entries {
        let reason = format!("its end counts {} members, the central directory has {}", end.entries, headers.len());
        return Err(Error::corrupt(shown, reason));
    }
    Ok(headers)
}

fn central_header(rest: &mut &[u8]) -> Result<CentralHeader, String> {
    let cut_off = || "the central directory is cut off".to_owned();
    let (fixed, behind) = rest.split_at_checked(CENTRAL_LENGTH).ok_or_else(cut_off)?;
    let mut fields = Fields(fixed);
    if fields.u32() != Some(CENTRAL) {
        return Err("the central directory is malformed".to_owned());
    }
    let made_by = fields.u16().unwrap_or(0);
    let _needed = fields.u16();
    let (flags, method) = (fields.u16().unwrap_or(0), fields.u16().unwrap_or(0));
    let _time = fields.u32();
    let crc = fields.u32().unwrap_or(0);
    let (compressed, size) = (fields.u32().unwrap_or(0), fields.u32().unwrap_or(0));
    let lengths = [fields.u16(), fields.u16(), fields.u16()].map(|length| usize::from(length.unwrap_or(0)));
    let (disk, _internal) = (fields.u16(), fields.u16());
    let (attributes, offset) = (fields.u32().unwrap_or(0), fields.u32().unwrap_or(0));

    let (variable, behind) = behind.split_at_checked(lengths.iter().sum()).ok_or_else(cut_off)?;
    let (raw_name, variable) = variable.split_at(lengths[0]);
    let (extra, _comment) = variable.split_at(lengths[1]);
    *rest = behind;

    let name = safe_name(raw_name)?;
    let wrong = |reason: &str| format!("member `{name}`: {reason}");
    if flags & 1 != 0 {
        return Err(wrong("encrypted"));
    }
    if flags & !ALLOWED_FLAGS != 0 {
        return Err(wrong("unknown flags"));
    }
    let method = match method {
        0 => Method::Stored,
        8 => Method::Deflated,
        _ => return Err(wrong(&format!("unknown compression method {method}"))),
    };
    // Section 4.4.2: 3 is Unix, whose mode is in the upper half of the attributes.
    let mode = attributes >> 16;
    if made_by >> 8 == 3 && !matches!(mode & 0o170_000, 0 | 0o100_000 | 0o040_000) {
        return Err(wrong("neither a file nor a directory"));
    }
    let is_program = made_by >> 8 == 3 && mode & 0o100 != 0;
    let mut sizes = Sizes::new(extra);
    let size = sizes.widen(size);
    let compressed = sizes.widen(compressed);
    let offset = sizes.widen(offset);
    let (Some(size), Some(compressed), Some(offset), Some(0)) = (size, compressed, offset, disk) else {
        return Err(wrong("its 64-bit sizes are missing or wrong"));
    };
    if method == Method::Stored && size != compressed {
        return Err(wrong("stored, and yet of two sizes"));
    }
    Ok(CentralHeader { raw_name: raw_name.to_vec(), flags, method, crc, compressed, size, offset, is_program, name })
}

/// Returns a safe name with `/` as separator. RCC on Windows writes `\`.
fn safe_name(raw: &[u8]) -> Result<String, String> {
    let name = std::str::from_utf8(raw).map_err(|_| "a name that is not UTF-8".to_owned())?.replace('\\', "/");
    let parts = name.strip_suffix('/').unwrap_or(&name).split('/');
    let is_unsafe = parts.into_iter().any(|part| matches!(part, "" | "." | "..") || part.contains(['\0', ':']));
    if is_unsafe { Err(format!("unsafe name `{name}`")) } else { Ok(name) }
}

/// A parser of consecutive little-endian numbers.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*number)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
}

/// The 64-bit values of an extra field.
///
/// They are in the order of the header fields that are too small for them.
struct Sizes<'a>(Fields<'a>);

impl<'a> Sizes<'a> {
    fn new(mut extra: &'a [u8]) -> Sizes<'a> {
        while let Some((head, rest)) = extra.split_first_chunk::<4>() {
            let [id_low, id_high, length_low, length_high] = *head;
            let length = usize::from(u16::from_le_bytes([length_low, length_high]));
            let Some((content, rest)) = rest.split_at_checked(length) else { break };
            if u16::from_le_bytes([id_low, id_high]) == EXTRA_64 {
                return Sizes(Fields(content));
            }
            extra = rest;
        }
        Sizes(Fields(&[]))
    }

    fn widen(&mut self, narrow: u32) -> Option<u64> {
        if narrow == u32::MAX { self.0.u64() } else { Some(narrow.into()) }
    }
}

/// A reader that checks the size and checksum of a member.
struct Checked<R> {
    source: R,
    crc: Crc,
    left: u64,
    expected: u32,
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let corrupt = |reason: &str| Error::corrupt("zip", reason);
        let read = self.source.read(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => {
                corrupt("malformed deflate data").into()
            }
            _ => error,
        })?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| corrupt("longer than its size"))?;
        self.crc.update(&buffer[..read]);
        if read == 0 && self.left > 0 {
            return Err(corrupt("shorter than its size").into());
        }
        if read == 0 && self.crc.sum() != self.expected {
            return Err(corrupt("checksum mismatch").into());
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests;
