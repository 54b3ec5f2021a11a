//! Entries of the kinds that an environment is made of.

use super::wrap;
use crate::compression::Members;
use crate::error::{Error, Result};
use crate::rcc::Catalog;
use crate::rcc::{EntryKind, FileEntry, Hololib, NamedObject, Restorer};
use crate::time::Timestamp;
use crate::tree::{Attributes, Content, ContentStream, Entry, ImagePath, Kind, Owner, Stored};
use std::io::Read;
use std::sync::Arc;

/// Attributes of something that was restored: RCC gives every file one time.
pub(super) fn attributes(mode: u32, owner: Owner) -> Attributes {
    Attributes {
        mode: (mode & 0o7777) as u16,
        uid: owner.uid,
        gid: owner.gid,
        mtime: Timestamp::RCC.seconds(),
        xattrs: None,
    }
}

pub(super) fn directory(path: ImagePath, attributes: Attributes) -> Entry {
    Entry { path, kind: Kind::Directory, attributes }
}

pub(super) fn file(path: ImagePath, size: u64, content: Content, attributes: Attributes) -> Entry {
    Entry { path, kind: Kind::File { size, content }, attributes }
}

/// A file of a space, restored while the layer is written.
#[derive(Debug)]
pub(super) struct RestoredFile {
    pub(super) restorer: Restorer,
    pub(super) catalog: Arc<Catalog>,
    /// Which entry of the catalog.
    pub(super) entry: usize,
}

impl RestoredFile {
    fn entry(&self) -> Result<(&str, &FileEntry)> {
        match self.catalog.entries().get(self.entry).map(|entry| (&entry.path, &entry.kind)) {
            Some((path, EntryKind::File(file))) => Ok((path, file)),
            _ => Err(Error::invalid(format!("catalog {}", self.catalog.name()), "an entry that is no file")),
        }
    }
}

impl Stored for RestoredFile {
    fn open(&self) -> Result<Box<dyn Read + Send>> {
        let (path, file) = self.entry()?;
        self.restorer.open(path, file)
    }

    fn read_whole(&self, buffer: &mut [u8]) -> Result<()> {
        let (path, file) = self.entry()?;
        self.restorer.read(path, file, buffer)
    }

    fn open_with_members(&self) -> Result<(Box<dyn Read + Send>, Option<Members>)> {
        let (path, file) = self.entry()?;
        self.restorer.open_with_members(path, file)
    }
}

/// A library object, in the form in which the hololib has it or as what it holds.
#[derive(Debug)]
pub(super) struct LibraryFile {
    pub(super) hololib: Hololib,
    pub(super) object: NamedObject,
    pub(super) form: LibraryForm,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LibraryForm {
    /// The bytes of the library.
    AsStored,
    /// The content in them.
    Content,
    /// The content, as RCC stores what it would otherwise unwrap: in gzip, without being made smaller. So its bytes follow
    /// from the catalog, whoever compressed the library; the layer is compressed as a whole.
    Wrapped,
}

impl Stored for LibraryFile {
    fn open(&self) -> Result<Box<dyn Read + Send>> {
        let stored = self.hololib.object(&self.object)?;
        match self.form {
            LibraryForm::AsStored => stored.stored(),
            LibraryForm::Content => stored.content(),
            LibraryForm::Wrapped => Ok(Box::new(wrap::Wrapping::new(stored.content()?, self.object.size))),
        }
    }

    fn read_whole(&self, buffer: &mut [u8]) -> Result<()> {
        match self.form {
            LibraryForm::Content => self.hololib.read(&self.object, buffer),
            LibraryForm::AsStored | LibraryForm::Wrapped => {
                ContentStream::open(self)?.read(buffer.len() as u64, buffer)
            }
        }
    }

    fn open_with_members(&self) -> Result<(Box<dyn Read + Send>, Option<Members>)> {
        match self.form {
            LibraryForm::Content => self.hololib.object(&self.object)?.content_with_members(),
            LibraryForm::AsStored | LibraryForm::Wrapped => Ok((self.open()?, None)),
        }
    }
}
