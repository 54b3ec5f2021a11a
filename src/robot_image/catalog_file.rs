//! A stored catalog, and the copy that rcc keeps next to a managed space.
//!
//! Both are files of the image. Neither is kept in memory: the catalog of 100,000 files takes 6 MB in its stored form,
//! and 40 MB when decompressed.

use crate::common::bounded_read;
use crate::common::digest::{Algorithm, Digest, Hashing};
use crate::common::error::{Error, Result};
use crate::layers::tree::StoredFiles;
use crate::rcc::{CatalogName, Hololib};
use crate::store::Verified;
use std::io::{Cursor, Read};
use std::sync::Arc;

/// The size limit of a stored catalog, in bytes.
const LARGEST: u64 = 256 << 20;

/// A catalog in its stored form.
#[derive(Debug, Clone)]
pub(super) struct CatalogFile {
    pub(super) name: CatalogName,
    place: CatalogCopy,
    /// The digest of the stored bytes.
    pub(super) digest: Digest,
    /// The size of the stored bytes.
    pub(super) size: u64,
}

#[derive(Debug, Clone)]
enum CatalogCopy {
    Hololib(Hololib),
    /// A changed catalog, which is in no hololib.
    Memory(Arc<[u8]>),
}

impl CatalogFile {
    /// Finds the catalog called `name`.
    ///
    /// # Errors
    /// Returns an error if it is missing, cannot be read, or is larger than 256 MiB.
    pub(super) fn find(hololib: &Hololib, name: &CatalogName) -> Result<CatalogFile> {
        let object = format!("{}: catalog/{name}", hololib.shown());
        let stored = bounded_read::reader(hololib.stored_catalog(name)?, LARGEST, &object);
        let read = Hashing::new(stored, Algorithm::Sha256).finish();
        let (digest, size) = read.map_err(|error| Error::io(&object, "read", error))?;
        Ok(CatalogFile { name: name.clone(), place: CatalogCopy::Hololib(hololib.clone()), digest, size })
    }

    /// Creates a catalog file from a changed catalog.
    pub(super) fn of_bytes(name: &CatalogName, bytes: Vec<u8>) -> CatalogFile {
        let (digest, size) = (Digest::of(&bytes), bytes.len() as u64);
        CatalogFile { name: name.clone(), place: CatalogCopy::Memory(bytes.into()), digest, size }
    }

    /// Opens the file. The reader ends without error only if its bytes have the recorded digest and size.
    ///
    /// # Errors
    /// Returns an error if it is missing.
    pub(super) fn open(&self) -> Result<Box<dyn Read + Send>> {
        let CatalogFile { name, place, digest, size } = self;
        let source: Box<dyn Read + Send> = match place {
            CatalogCopy::Hololib(hololib) => hololib.stored_catalog(name)?,
            CatalogCopy::Memory(bytes) => return Ok(Box::new(Cursor::new(bytes.clone()))),
        };
        Ok(Box::new(Verified::unchanged(source, *digest, *size, format!("catalog {name}"))))
    }
}

impl StoredFiles for CatalogFile {
    fn open(&self, _: u32) -> Result<Box<dyn Read + Send>> {
        CatalogFile::open(self)
    }
}
