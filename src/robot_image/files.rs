//! Entries of the kinds in an environment.

use crate::codec::compression::GzipMembers;
use crate::common::error::{Error, Result};
use crate::common::time::Timestamp;
use crate::layers::tree::{Attributes, Content, ContentStream, Entry, Kind, Owner, StoredFiles};
use crate::rcc::Catalog;
use crate::rcc::{CatalogEntryKind, FileEntry, Hololib, NamedObject, Restorer};
use crate::robot_image::stored_gzip;
use crate::spec::ImagePath;
use std::io::Read;
use std::sync::Arc;

/// Returns the attributes of a restored entry: RCC gives every file the same time.
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

/// The files of a space, which are restored while the layer is written.
///
/// Their numbers are those of their entries in the catalog.
#[derive(Debug)]
pub(super) struct RestoredFiles {
    pub(super) restorer: Restorer,
    pub(super) catalog: Arc<Catalog>,
}

impl RestoredFiles {
    fn entry(&self, number: u32) -> Result<(&str, FileEntry<'_>)> {
        match self.catalog.numbered(number as usize) {
            crate::rcc::CatalogEntry { path, kind: CatalogEntryKind::File(file) } => Ok((path, file)),
            _ => Err(Error::invalid(format!("catalog {}", self.catalog.name()), "an entry that is not a file")),
        }
    }
}

impl StoredFiles for RestoredFiles {
    fn open(&self, number: u32) -> Result<Box<dyn Read + Send>> {
        let (path, file) = self.entry(number)?;
        self.restorer.open(path, &file)
    }

    fn read_whole(&self, number: u32, buffer: &mut [u8]) -> Result<()> {
        let (path, file) = self.entry(number)?;
        self.restorer.read(path, &file, buffer)
    }

    fn open_with_members(&self, number: u32) -> Result<(Box<dyn Read + Send>, Option<GzipMembers>)> {
        let (path, file) = self.entry(number)?;
        self.restorer.open_with_members(path, &file)
    }
}

/// Library objects, by their numbers in the catalog, in stored form or as content.
#[derive(Debug)]
pub(super) struct LibraryFiles {
    pub(super) hololib: Hololib,
    pub(super) catalog: Arc<Catalog>,
    pub(super) form: LibraryForm,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LibraryForm {
    /// The stored bytes.
    AsStored,
    /// The content of the object.
    Content,
    /// The content as gzip without compression, for content that RCC would otherwise decompress. So the bytes depend on
    /// the catalog only, not on how the library was compressed; the layer is compressed as a whole.
    Wrapped,
}

impl LibraryFiles {
    fn object(&self, number: u32) -> Result<&NamedObject> {
        let unknown =
            || Error::invalid(format!("catalog {}", self.catalog.name()), "an object that the catalog does not list");
        self.catalog.objects().get(number as usize).ok_or_else(unknown)
    }
}

impl StoredFiles for LibraryFiles {
    fn open(&self, number: u32) -> Result<Box<dyn Read + Send>> {
        let object = self.object(number)?;
        let stored = self.hololib.object(object)?;
        match self.form {
            LibraryForm::AsStored => stored.stored(),
            LibraryForm::Content => stored.content(),
            LibraryForm::Wrapped => Ok(Box::new(stored_gzip::Wrapping::new(stored.content()?, object.size))),
        }
    }

    fn read_whole(&self, number: u32, buffer: &mut [u8]) -> Result<()> {
        match self.form {
            LibraryForm::Content => self.hololib.read(self.object(number)?, buffer),
            LibraryForm::AsStored | LibraryForm::Wrapped => {
                ContentStream::of(self.open(number)?).read(buffer.len() as u64, buffer)
            }
        }
    }

    fn open_with_members(&self, number: u32) -> Result<(Box<dyn Read + Send>, Option<GzipMembers>)> {
        match self.form {
            LibraryForm::Content => self.hololib.object(self.object(number)?)?.content_with_members(),
            LibraryForm::AsStored | LibraryForm::Wrapped => Ok((self.open(number)?, None)),
        }
    }
}
