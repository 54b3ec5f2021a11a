//! What a program needs to start: its loader, and the C library that a native addon is linked to, as the ELF file says.

use super::loaders::Libc;
use crate::layers::tree::{Content, Entry, Kind};

/// The length of the header of a 64-bit ELF file, and of an entry of its program header table (gABI).
const HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;

/// Types of program headers, and tags of dynamic entries (gABI).
const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;

/// Limits of what is read. Programs have about 10 segments and 50 dynamic entries; a file with more says nothing.
const MOST_SEGMENTS: usize = 128;
const LONGEST_DYNAMIC: u64 = 64 << 10;
const LONGEST_NAME: u64 = 4096;
const MOST_LIBRARIES: usize = 256;

/// A 64-bit ELF file in little-endian order, which all platforms of today have but s390x.
pub(super) struct ElfFile<'a> {
    content: &'a Content,
    size: u64,
    segments: Vec<Segment>,
}

#[derive(Debug, Clone, Copy)]
struct Segment {
    kind: u32,
    offset: u64,
    address: u64,
    length: u64,
}

impl<'a> ElfFile<'a> {
    /// Reads the headers of a file; `None` if it is no such file. Read errors are reported when the layer is built.
    pub(super) fn of(entry: &'a Entry) -> Option<ElfFile<'a>> {
        let Kind::File { size, content } = &entry.kind else { return None };
        // The files of a hololib are for the platform, and reading them would mean inflating them.
        if matches!(content, Content::Stored(_)) {
            return None;
        }
        let mut file = ElfFile { content, size: *size, segments: Vec::new() };
        let header = file.read(0, HEADER as u64)?;
        let is_read = header.starts_with(b"\x7fELF\x02\x01");
        let (entry_length, count) = (number(&header, 54, 2)?, usize::try_from(number(&header, 56, 2)?).ok()?);
        if !is_read || entry_length != PROGRAM_HEADER as u64 || count > MOST_SEGMENTS {
            return None;
        }
        let table = file.read(number(&header, 32, 8)?, (count * PROGRAM_HEADER) as u64)?;
        let segment = |bytes: &[u8]| {
            Some(Segment {
                kind: u32::try_from(number(bytes, 0, 4)?).ok()?,
                offset: number(bytes, 8, 8)?,
                address: number(bytes, 16, 8)?,
                length: number(bytes, 32, 8)?,
            })
        };
        file.segments = table.chunks_exact(PROGRAM_HEADER).filter_map(segment).collect();
        Some(file)
    }

    /// Returns the path of its loader; `None` if it is static, or a library.
    pub(super) fn loader(&self) -> Option<String> {
        let Segment { offset, length, .. } = *self.segment(PT_INTERP)?;
        self.text(offset, length.min(LONGEST_NAME))
    }

    /// Returns the C library that it is linked to.
    pub(super) fn libc(&self) -> Option<Libc> {
        let Segment { offset, length, .. } = *self.segment(PT_DYNAMIC)?;
        let dynamic = self.read(offset, length.min(LONGEST_DYNAMIC))?;
        let entries: Vec<(u64, u64)> =
            dynamic.chunks_exact(16).filter_map(|entry| Some((number(entry, 0, 8)?, number(entry, 8, 8)?))).collect();
        let strings = entries.iter().find(|(tag, _)| *tag == DT_STRTAB).and_then(|(_, at)| self.offset_of(*at))?;
        let needed = entries.iter().filter(|(tag, _)| *tag == DT_NEEDED).take(MOST_LIBRARIES);
        let mut names = needed.filter_map(|(_, at)| self.text(strings.checked_add(*at)?, 64));
        names.find_map(|name| match name.as_str() {
            "libc.so.6" => Some(Libc::Glibc),
            "libc.so" => Some(Libc::Musl),
            _ if name.starts_with("libc.musl-") => Some(Libc::Musl),
            _ => None,
        })
    }

    fn segment(&self, kind: u32) -> Option<&Segment> {
        self.segments.iter().find(|segment| segment.kind == kind)
    }

    /// Returns where in the file the byte is that is loaded to `address`.
    fn offset_of(&self, address: u64) -> Option<u64> {
        let mut loaded = self.segments.iter().filter(|segment| segment.kind == PT_LOAD);
        loaded.find_map(|segment| {
            let inside = address.checked_sub(segment.address).filter(|inside| *inside < segment.length)?;
            segment.offset.checked_add(inside)
        })
    }

    /// Reads a text of at most `most` bytes that ends with a zero byte.
    fn text(&self, offset: u64, most: u64) -> Option<String> {
        let bytes = self.read(offset, most.min(self.size.checked_sub(offset)?))?;
        let end = bytes.iter().position(|byte| *byte == 0)?;
        String::from_utf8(bytes.get(..end)?.to_vec()).ok()
    }

    fn read(&self, offset: u64, length: u64) -> Option<Vec<u8>> {
        if offset.checked_add(length)? > self.size {
            return None;
        }
        let mut bytes = Vec::new();
        self.content.append(offset, usize::try_from(length).ok()?, self.size, &mut bytes).ok()?;
        Some(bytes)
    }
}

/// Returns a little-endian number of `length` bytes.
fn number(bytes: &[u8], at: usize, length: usize) -> Option<u64> {
    let part = bytes.get(at..at.checked_add(length)?)?;
    Some(part.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a file with these segments: kind, address and content of each.
    fn elf(segments: &[(u32, u64, &[u8])]) -> Vec<u8> {
        let mut offset = HEADER + segments.len() * PROGRAM_HEADER;
        let mut bytes = vec![0; HEADER];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        (bytes[32], bytes[54], bytes[56]) = (HEADER as u8, PROGRAM_HEADER as u8, segments.len() as u8);
        for (kind, address, content) in segments {
            let mut header = [0; PROGRAM_HEADER];
            header[..4].copy_from_slice(&kind.to_le_bytes());
            header[8..16].copy_from_slice(&(offset as u64).to_le_bytes());
            header[16..24].copy_from_slice(&address.to_le_bytes());
            header[32..40].copy_from_slice(&(content.len() as u64).to_le_bytes());
            bytes.extend(header);
            offset += content.len();
        }
        segments.iter().for_each(|(_, _, content)| bytes.extend(*content));
        bytes
    }

    fn found(bytes: &[u8]) -> Option<(Option<String>, Option<Libc>)> {
        let entry = Entry::test_file("f", bytes);
        ElfFile::of(&entry).map(|file| (file.loader(), file.libc()))
    }

    #[test]
    fn a_program_names_its_loader_and_a_library_its_libraries() {
        let program = elf(&[(PT_INTERP, 0, b"/lib64/ld-linux-x86-64.so.2\0")]);
        assert_eq!(found(&program), Some((Some("/lib64/ld-linux-x86-64.so.2".to_owned()), None)));
        for (library, libc) in
            [("libc.so.6", Some(Libc::Glibc)), ("libc.musl-x86_64.so.1", Some(Libc::Musl)), ("libm.so.6", None)]
        {
            let dynamic: Vec<u8> =
                [DT_NEEDED, 1, DT_STRTAB, 0x1000, 0, 0].iter().flat_map(|number| number.to_le_bytes()).collect();
            let strings = format!("\0{library}\0");
            let strings = [strings.as_bytes(), &[0; 64]].concat();
            assert_eq!(found(&elf(&[(PT_LOAD, 0x1000, &strings), (PT_DYNAMIC, 0, &dynamic)])), Some((None, libc)));
        }
    }

    #[test]
    fn damaged_files_say_nothing() {
        let program = elf(&[(PT_INTERP, 0, b"/lib/ld\0"), (PT_DYNAMIC, 0, &[5; 32])]);
        for length in 0..program.len() {
            assert!(found(&program[..length]).is_none_or(|(loader, libc)| loader.is_none() || libc.is_none()));
        }
        for at in 0..HEADER + 2 * PROGRAM_HEADER {
            let mut damaged = program.clone();
            damaged[at] = 0xff;
            let _ = found(&damaged);
        }
        assert_eq!(found(b"#!/bin/sh\n"), None);
        assert_eq!(found(b""), None);
    }
}
