//! Hololibs: the catalogs and the library from which RCC restores environments.
//!
//! ```text
//! catalog/5f74d1b6dace1dfcv12.linux_amd64        what an environment holds (gzip of JSON)
//! catalog/5f74d1b6dace1dfcv12.linux_amd64.info   a summary, which nothing reads back
//! catalog/compress.no                            a mark: new objects are stored raw, under checksums
//! library/58/91/b5/5891b5b5…                     one object per content (gzip or raw)
//! ```
//!
//! A `hololib.zip` has members of the same names. Either is untrusted, and may change while it is read: RCC removes
//! files without coordination.

mod home;
mod restore;
mod small_objects;
mod stored;

use super::{Catalog, CatalogLimits, CatalogName, NamedObject};
use crate::codec::compression::Encoding;
use crate::codec::zip::Archive;
use crate::common::error::{Error, ErrorKind, Result};
use crate::common::progress;
use crate::common::progress::Progress;
use crate::common::root::Root;
use crate::common::threads::looking_up;
use crate::layers::tree::Stamp;
use cap_fs_ext::MetadataExt as _;
use rayon::prelude::*;
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

pub use home::{Holotree, Product, Sharing, local_channel};
pub use restore::Restorer;
pub use stored::StoredObject;

/// A hololib, open for reading. Cheap to clone, and readable from many threads at once.
#[derive(Debug, Clone)]
pub struct Hololib {
    place: Arc<ObjectPlace>,
}

#[derive(Debug)]
enum ObjectPlace {
    Directory(Root),
    Archive(Arc<Archive>, String),
}

impl Hololib {
    /// Opens a directory that holds `catalog` and `library`.
    ///
    /// Warns if everyone may write to it, as to a shared hololib.
    ///
    /// # Errors
    /// Returns an error if it has no `catalog`.
    pub fn in_directory(root: Root, watcher: &dyn Progress) -> Result<Hololib> {
        let catalogs = root.directory("catalog").map_err(|error| match error.kind() {
            ErrorKind::NotFound => {
                Error::new(ErrorKind::NotFound, root.path().display().to_string(), "no hololib found")
            }
            _ => error,
        })?;
        if is_writable_by_all(&catalogs) {
            let shown = root.path().display().to_string();
            progress::warn(watcher, &shown, "writable by every user of this machine");
        }
        Ok(Hololib { place: Arc::new(ObjectPlace::Directory(root)) })
    }

    /// Opens a `hololib.zip`, which messages call `shown`.
    ///
    /// # Errors
    /// Returns an error if it is not a zip, or one that could be read in two ways.
    pub fn in_archive(file: File, shown: &str) -> Result<Hololib> {
        let archive = Arc::new(Archive::open(file, shown)?);
        Ok(Hololib { place: Arc::new(ObjectPlace::Archive(archive, shown.to_owned())) })
    }

    /// Returns the name of the hololib for messages.
    pub fn shown(&self) -> String {
        match &*self.place {
            ObjectPlace::Directory(root) => root.path().display().to_string(),
            ObjectPlace::Archive(_, shown) => shown.clone(),
        }
    }

    /// Returns a string that identifies the hololib on this machine.
    ///
    /// Its objects never change, so the same hololib yields the same bytes.
    pub(crate) fn identity(&self) -> String {
        match &*self.place {
            ObjectPlace::Directory(root) => {
                let which = root.dir().dir_metadata().map(|metadata| (metadata.dev(), metadata.ino()));
                format!("directory {:?} {which:?}", root.path())
            }
            ObjectPlace::Archive(archive, shown) => format!("archive {shown} {}", identity(archive.file())),
        }
    }

    /// Returns the names of all catalogs that this program can read, sorted.
    ///
    /// # Errors
    /// Returns an error if the folder cannot be listed.
    pub fn catalogs(&self) -> Result<Vec<CatalogName>> {
        let mut names: Vec<CatalogName> = match &*self.place {
            ObjectPlace::Directory(root) => {
                let unlisted = |error| root.failed("catalog", "list", error);
                let mut names = Vec::new();
                for entry in root.directory("catalog")?.dir().entries().map_err(unlisted)? {
                    let name = entry.map_err(unlisted)?.file_name();
                    names.extend(name.to_str().and_then(|name| CatalogName::parse(name).ok()));
                }
                names
            }
            ObjectPlace::Archive(archive, _) => {
                let names = archive.names().filter_map(|name| name.strip_prefix("catalog/"));
                names.filter_map(|name| CatalogName::parse(name).ok()).collect()
            }
        };
        names.sort();
        Ok(names)
    }

    /// Reads the catalog called `name`.
    ///
    /// # Errors
    /// Returns an error if it is missing, or if [`Catalog::read`] fails.
    pub fn catalog(&self, name: &CatalogName, limits: &CatalogLimits, watcher: &dyn Progress) -> Result<Catalog> {
        Catalog::read(self.stored_catalog(name)?, name, limits, watcher)
    }

    /// Opens the catalog called `name` in its stored, compressed form.
    ///
    /// # Errors
    /// Returns an error if it is missing.
    pub fn stored_catalog(&self, name: &CatalogName) -> Result<Box<dyn Read + Send>> {
        let path = format!("catalog/{name}");
        match &*self.place {
            ObjectPlace::Directory(root) => Ok(Box::new(root.open_file(&path)?)),
            ObjectPlace::Archive(archive, _) => Ok(archive.read(archive.member(&path)?)),
        }
    }

    /// Opens a library object.
    ///
    /// # Errors
    /// Returns an error if it is missing, is not a regular file, or cannot be read.
    pub fn object(&self, object: &NamedObject) -> Result<StoredObject> {
        let path = object.digest.library_path();
        let missing = |error: Error| match error.kind() {
            ErrorKind::NotFound => {
                let shown = format!("{}: library file {path}", self.shown());
                Error::new(ErrorKind::NotFound, shown, "missing")
                    .hint("run `rcc holotree check` and build the environment again")
            }
            _ => error,
        };
        match &*self.place {
            ObjectPlace::Directory(root) => {
                let (file, metadata) = root.open_described_file(&path).map_err(missing)?;
                StoredObject::in_file(*object, file, &metadata, root.display(&path))
            }
            ObjectPlace::Archive(archive, shown) => {
                let member = archive.member(&path).map_err(missing)?;
                StoredObject::in_archive(*object, archive.clone(), member, format!("{shown}: {path}"))
            }
        }
    }

    /// Reads the verified content of `object` into `content`, which must have its length.
    ///
    /// # Errors
    /// Returns an error if the object is missing, is not a regular file, is damaged, or cannot be read.
    pub fn read(&self, object: &NamedObject, content: &mut [u8]) -> Result<()> {
        if let ObjectPlace::Directory(root) = &*self.place
            && let Ok((file, metadata)) = root.open_described_file(object.digest.library_path())
            && small_objects::read(object, (&file, metadata.len()), content)
        {
            return Ok(());
        }
        self.object(object)?.read(content)
    }

    /// Returns whether the content of an object itself begins like gzip or zstd.
    ///
    /// RCC would decompress such content if it were stored raw in a library.
    ///
    /// # Errors
    /// Returns an error if the object cannot be read, or its beginning is damaged.
    pub fn content_looks_compressed(&self, object: &NamedObject) -> Result<bool> {
        if let ObjectPlace::Directory(root) = &*self.place
            && let Ok((file, metadata)) = root.open_described_file(object.digest.library_path())
            && let Some(encoding) = small_objects::encoding_of_content(object, &file, metadata.len())
        {
            return Ok(encoding != Encoding::Plain);
        }
        self.object(object)?.content_looks_compressed()
    }

    /// Returns the objects that `catalog` names and the hololib lacks.
    ///
    /// RCC does not restore from a catalog with missing objects.
    ///
    /// # Errors
    /// Returns an error if the system cannot say whether an object is there.
    pub fn missing<'a>(&self, catalog: &'a Catalog) -> Result<Vec<&'a NamedObject>> {
        let present = |object: &NamedObject| {
            let path = object.digest.library_path();
            match &*self.place {
                ObjectPlace::Directory(root) => match root.dir().symlink_metadata(&path) {
                    Ok(metadata) => Ok(metadata.is_file()),
                    Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                        Ok(false)
                    }
                    Err(error) => Err(Error::io(format!("library file {path}"), "open", error)),
                },
                ObjectPlace::Archive(archive, _) => Ok(archive.member(&path).is_ok()),
            }
        };
        let missing = |object| match present(object) {
            Ok(true) => None,
            Ok(false) => Some(Ok(object)),
            Err(error) => Some(Err(error)),
        };
        let objects = catalog.objects();
        looking_up(objects.len(), || objects.par_iter().filter_map(missing).collect())
    }
}

/// Returns a string that distinguishes this file from others, and from its own earlier versions.
fn identity(file: &File) -> String {
    let stamp = cap_std::fs::Metadata::from_file(file).and_then(|metadata| Stamp::of(&metadata));
    stamp.map_or_else(|_| "unknown".to_owned(), |stamp| format!("{stamp:?}"))
}

fn is_writable_by_all(root: &Root) -> bool {
    #[cfg(unix)]
    {
        use cap_std::fs::PermissionsExt;
        root.dir().dir_metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o002 != 0)
    }
    #[cfg(not(unix))]
    {
        let _ = root;
        false
    }
}

#[cfg(test)]
mod tests;
