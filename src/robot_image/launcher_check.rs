//! Checks that a file is a suitable rcc: a static Linux program for the image's processor. The file is read, never run.

use crate::common::error::{Error, Result};
use crate::common::file_section::read_full_at;
use crate::common::root::Root;
use crate::spec::Platform;
use std::fs::File;
use std::path::Path;

/// The size of the header of a 64-bit ELF file, in bytes (gABI, "ELF Header").
const HEADER: usize = 64;
/// The size of a program header, in bytes.
const PROGRAM_HEADER: usize = 56;
/// The segment that names a dynamic loader.
const PT_INTERP: u32 = 3;

/// Checks that the file at `path` is a static Linux program for `platform`.
///
/// # Errors
/// Returns an error if it is missing, is not such a program, or is for another system or processor.
pub fn check_launcher(path: &Path, platform: &Platform) -> Result<()> {
    let object = path.display().to_string();
    let wrong = |reason: &str| {
        let hint = format!("use the static rcc for {platform}; see rcc's release page");
        Error::invalid(&object, reason).hint(hint)
    };
    let file = Root::open_named_file(path)?;
    let header = read(&file, 0, HEADER, &object)?.ok_or_else(|| wrong("not a Linux program"))?;
    if &header[..4] != b"\x7fELF" {
        return Err(wrong("not a Linux program"));
    }
    if header[4] != 2 || header[5] != 1 {
        return Err(wrong("not a 64-bit little-endian program"));
    }
    let machine = match u16::from_le_bytes([header[18], header[19]]) {
        62 => "amd64",
        183 => "arm64",
        _ => "another processor",
    };
    if machine != platform.architecture() {
        return Err(wrong(&format!("a program for {machine}")));
    }
    if !matches!(u16::from_le_bytes([header[16], header[17]]), 2 | 3) {
        return Err(wrong("an ELF file that is not a program"));
    }
    let mut start = [0; 8];
    start.copy_from_slice(&header[32..40]);
    let table = u64::from_le_bytes(start);
    let (size, count) = (u16::from_le_bytes([header[54], header[55]]), u16::from_le_bytes([header[56], header[57]]));
    if usize::from(size) != PROGRAM_HEADER {
        return Err(wrong("a malformed program"));
    }
    let length = usize::from(size) * usize::from(count);
    let headers = read(&file, table, length, &object)?.ok_or_else(|| wrong("a truncated program"))?;
    let needs_loader = headers.chunks_exact(PROGRAM_HEADER).any(|header| header[..4] == PT_INTERP.to_le_bytes());
    if needs_loader { Err(wrong("not statically linked: the base image may lack its loader")) } else { Ok(()) }
}

/// Reads `length` bytes at `offset`. Returns `None` if the file is shorter.
fn read(file: &File, offset: u64, length: usize, object: &str) -> Result<Option<Vec<u8>>> {
    let mut bytes = vec![0; length];
    let read = read_full_at(file, &mut bytes, offset).map_err(|error| Error::io(object, "read", error))?;
    Ok((read == length).then_some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a program with one segment of the given type.
    fn program(machine: u16, segment: u32) -> Vec<u8> {
        let mut bytes = vec![0; HEADER + PROGRAM_HEADER];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[16] = 2;
        bytes[18..20].copy_from_slice(&machine.to_le_bytes());
        bytes[32] = HEADER as u8;
        bytes[54] = PROGRAM_HEADER as u8;
        bytes[56] = 1;
        bytes[HEADER..HEADER + 4].copy_from_slice(&segment.to_le_bytes());
        bytes
    }

    fn verdict(bytes: &[u8]) -> String {
        let keep = tempfile::tempdir().unwrap();
        let path = keep.path().join("rcc");
        std::fs::write(&path, bytes).unwrap();
        check_launcher(&path, &Platform::linux_amd64()).map_or_else(|error| error.reason(), |()| "fine".to_owned())
    }

    #[test]
    fn only_a_static_program_for_the_platform_will_do() {
        assert_eq!(verdict(&program(62, 1)), "fine");
        assert!(verdict(&program(62, PT_INTERP)).starts_with("not static"));
        assert_eq!(verdict(&program(183, 1)), "a program for arm64");
        assert_eq!(verdict(b"#!/bin/sh\n"), "not a Linux program");
        assert_eq!(verdict(&[b"MZ".as_slice(), &[0; 100]].concat()), "not a Linux program");
        assert_eq!(verdict(&program(62, 1)[..100]), "a truncated program");
        let mut shared_object = program(62, 1);
        shared_object[16] = 1;
        assert_eq!(verdict(&shared_object), "an ELF file that is not a program");
    }
}
