//! A strict reader of zips, in place: `hololib.zip`, packed robots, archives of time zones.
//!
//! A zip holds all metadata twice, and tools differ in which copy they use. Here the central directory is
//! authoritative, and every local header must agree with it. There must be no other bytes before, between or after the
//! members, no member may overlap another, and no name may occur twice. (APPNOTE.TXT 6.3.10; section numbers below
//! refer to it.)

mod central_directory;
mod member_reader;
mod records;
mod structure;

use crate::common::error::{Error, ErrorKind, Result};
use crate::common::file_section::Section;
use central_directory::Method;
use flate2::read::DeflateDecoder;
use member_reader::MemberReader;
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::sync::Arc;
use structure::members_of;

/// An open zip whose structure has been checked. Members can be read independently, from any thread.
#[derive(Debug)]
pub(crate) struct Archive {
    shown: String,
    file: Arc<File>,
    members: HashMap<String, ZipMember>,
}

/// The location of a member's data, and its expected size and checksum.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ZipMember {
    method: Method,
    crc: u32,
    compressed: u64,
    size: u64,
    offset: u64,
    is_program: bool,
}

/// The offset at which the members of a zip begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// At the beginning of the file.
    OfFile,
    /// At the beginning of the file, or after a program. Offsets may or may not include the program.
    BehindProgram,
}

impl ZipMember {
    /// Returns the uncompressed size, in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Returns whether the owner's execute bit is recorded for the member.
    pub(crate) fn is_program(&self) -> bool {
        self.is_program
    }
}

impl Archive {
    /// Returns the file.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Opens `file` and checks its structure.
    ///
    /// # Errors
    /// Returns an error if it is not exactly one zip, or could be read in two ways.
    pub(crate) fn open(file: File, shown: &str) -> Result<Archive> {
        Archive::open_from(file, shown, Start::OfFile)
    }

    /// Opens a file whose members begin at `start`, as [`Archive::open`] does.
    ///
    /// # Errors
    /// Fails if [`Archive::open`] does.
    pub(crate) fn open_from(file: File, shown: &str, start: Start) -> Result<Archive> {
        let members = members_of(&file, shown, start)?;
        Ok(Archive { shown: shown.to_owned(), file: Arc::new(file), members })
    }

    /// Returns the names of all members, with `/` as separator, in no particular order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.members.keys().map(String::as_str)
    }

    /// Returns the member called `name`.
    ///
    /// # Errors
    /// Returns an error if there is no such member.
    pub(crate) fn member(&self, name: &str) -> Result<ZipMember> {
        let missing = || Error::new(ErrorKind::NotFound, format!("{}: {name}", self.shown), "not found");
        self.members.get(name).copied().ok_or_else(missing)
    }

    /// Opens a member for reading. The reader ends without error only if size and checksum were right.
    pub(crate) fn read(&self, member: ZipMember) -> Box<dyn Read + Send> {
        let data = Section::new(self.file.clone(), member.offset, member.compressed);
        let checked = |source| MemberReader::new(source, member.size, member.crc);
        match member.method {
            Method::Stored => Box::new(checked(Box::new(data) as Box<dyn Read + Send>)),
            Method::Deflated => Box::new(checked(Box::new(DeflateDecoder::new(data)))),
        }
    }
}

#[cfg(test)]
mod tests;
