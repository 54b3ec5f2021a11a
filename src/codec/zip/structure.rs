//! The structure of a zip: end record, central directory and local headers must agree.

use super::central_directory::{CentralHeader, central_headers};
use super::records::{
    DESCRIPTOR, END, END_64, END_64_LENGTH, END_LENGTH, Fields, HAS_DESCRIPTOR, LOCAL, LOCAL_LENGTH, LOCATOR,
    LOCATOR_LENGTH, Sizes,
};
use super::{Start, ZipMember};
use crate::common::error::{Error, Result};
use crate::common::file_section::read_full_at;
use crate::common::limits::{Limit, MostBytes};
use std::collections::HashMap;
use std::fs::File;

/// Checks the structure of the zip in `file` and returns its members by name.
///
/// # Errors
/// Returns an error if the file is not exactly one zip, or could be read in two ways.
pub(super) fn members_of(file: &File, shown: &str, start: Start) -> Result<HashMap<String, ZipMember>> {
    let length = file.metadata().map_err(|error| Error::io(shown, "read", error))?.len();
    let reader = ArchiveReader { file, shown, start };
    let end = reader.end(length)?;
    let directory_at = end.directory_offset + end.skipped;
    let directory = reader.bytes(directory_at, end.directory_size)?;
    let mut headers = central_headers(&directory, end.entries, shown)?;
    for header in &mut headers {
        let overflow = || reader.corrupt("an offset overflows");
        header.offset = header.offset.checked_add(end.skipped).ok_or_else(overflow)?;
    }
    reader.locate(headers, directory_at)
}

/// The fields of the end record.
struct EndRecord {
    entries: u64,
    directory_size: u64,
    directory_offset: u64,
    /// The number of bytes before the position from which offsets are counted.
    skipped: u64,
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
            return Err(self.corrupt("not a zip, or trailing data"));
        }
        let disks = [fields.u16(), fields.u16()];
        let (here, entries) = (fields.u16(), fields.u16());
        let (size, offset, comment) = (fields.u32(), fields.u32(), fields.u16());
        if disks != [Some(0), Some(0)] || here != entries || comment != Some(0) {
            return Err(self.corrupt("a multi-part zip, or a zip with a comment"));
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
                let reason = "the central directory is not at its recorded offset, or unexpected data follows it";
                return Err(self.corrupt(reason));
            }
        }
        Limit::Entries.check(usize::try_from(end.entries).unwrap_or(usize::MAX), self.shown, "member")?;
        MostBytes::from(Limit::CatalogSize)
            .check(end.directory_size, &format!("central directory of {}", self.shown))?;
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
                return Err(wrong("overlaps another member, or data precedes it"));
            }
            let offset = self.data_offset(&header).map_err(|reason| match reason {
                Disagreement::Header(reason) => wrong(reason),
                Disagreement::Other(error) => error,
            })?;
            let data_end = offset.checked_add(header.compressed).ok_or_else(|| wrong("too large"))?;
            let next = headers.peek().map_or(directory_offset, |next| next.offset);
            let gap = next.checked_sub(data_end).ok_or_else(|| wrong("overlaps the next member"))?;
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
            return Err(self.corrupt("unexpected data between the members and the central directory"));
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
