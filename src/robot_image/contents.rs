//! The entries of an environment's layers, straight from the hololib.
//!
//! RCC runs an environment only if the library holds every object of the catalog. Shipping both would store all content
//! twice, so a library object and the files of the space with the same content are hard links to one file. This is
//! possible because RCC reads an object that is not gzip directly, replaces files by renaming and never writes into
//! them. It is not possible if the space's file was rewritten, or if the content itself begins like compressed data,
//! which RCC would decompress. Such objects are stored as gzip without compression.

use super::complete_catalog::{CompleteCatalog, rewritten};
use super::files::{LibraryFiles, LibraryForm, RestoredFiles, attributes, directory, file};
use super::{EnvironmentMode, ImagePaths, meta, text};
use crate::common::error::Result;
use crate::common::threads::looking_up;
use crate::layers::tree::{Content, Entry, Kind, Owner, StoredFile, StoredFiles, TreeBuilder};
use crate::rcc::{Catalog, CatalogEntryKind, FileEntry, Hololib, Restorer};
use crate::robot_image::hard_links::{Name, OwnerAndMode, SharedFiles};
use crate::robot_image::image_paths::management;
use crate::robot_image::ownership::Ownership;
use crate::robot_image::split_environment;
use crate::robot_image::stored_gzip::wrapped_size;
use crate::spec::ImagePath;
use rayon::prelude::*;
use std::sync::Arc;

/// The mark of RCC's uncompressed mode. Without it RCC would not accept such a library.
const UNCOMPRESSED_MARK: &str = "catalog/compress.no";

/// The length of the names that a library file adds to a tree, in bytes: `aa`, `bb` and 64 digits, and the name of a
/// file in the space.
const LIBRARY_NAME: usize = 90;

/// Adds the entries of the layer with number `part` to `tree`.
pub(super) fn add_part(
    hololib: &Hololib,
    opened: &CompleteCatalog,
    part: usize,
    mode: EnvironmentMode,
    places: &ImagePaths,
    tree: &mut TreeBuilder,
) -> Result<()> {
    let space = places.space_name(management(mode));
    let root = ImagePath::new(opened.catalog.space_path(&space)?.as_bytes())?;
    let contents = Contents { hololib, opened, part, mode, places, space, root, keeper: Ownership::of(mode, places) };
    let mut shared = contents.shared_files();
    let objects = contents.objects(&shared)?;
    let are_content = objects.iter().filter(|object| object.form == LibraryForm::Content);
    shared.add_objects(are_content.map(|object| object.number), |name| contents.path(name))?;
    let own = objects.len();
    tree.reserve(opened.parts.entries(part).count() + own + library_directories(own), LIBRARY_NAME * own);
    if mode != EnvironmentMode::Compact {
        contents.add_space(&shared, tree)?;
    }
    contents.add_library(&objects, &shared, tree)?;
    if part == opened.parts.last() {
        contents.add_what_is_of_the_whole(tree)?;
    }
    Ok(())
}

/// Returns how many directories `aa`, `bb` and `cc` a library of so many files has at most.
fn library_directories(files: usize) -> usize {
    [1 << 8, 1 << 16, 1 << 24].map(|names: usize| names.min(files)).iter().sum()
}

struct Contents<'a> {
    hololib: &'a Hololib,
    opened: &'a CompleteCatalog,
    part: usize,
    mode: EnvironmentMode,
    places: &'a ImagePaths,
    space: String,
    /// The directory of the space.
    root: ImagePath,
    keeper: Ownership,
}

/// A library object, and the form in which it is shipped.
struct LibraryObject {
    number: u32,
    form: LibraryForm,
    /// The size in that form, in bytes.
    size: u64,
}

impl Contents<'_> {
    fn catalog(&self) -> &Arc<Catalog> {
        &self.opened.catalog
    }

    /// Returns the path of a file in the image.
    fn path(&self, name: Name) -> Result<ImagePath> {
        match name {
            Name::OfEntry(number) => self.in_space(self.catalog().numbered(number as usize).path),
            Name::OfObject(number) => {
                self.places.in_hololib(&self.catalog().objects()[number as usize].digest.library_path())
            }
        }
    }

    fn in_space(&self, path: &str) -> Result<ImagePath> {
        self.root.join(&ImagePath::new(path.as_bytes())?)
    }

    /// Returns the files of the space that can be hard links: those that are not rewritten.
    fn shared_files(&self) -> SharedFiles {
        if self.mode == EnvironmentMode::Compact {
            return SharedFiles::default();
        }
        let catalog = self.catalog();
        let shared = |number: usize| match catalog.numbered(number).kind {
            CatalogEntryKind::File(found) if found.rewrites.is_empty() => {
                Some((found.object as u32, OwnerAndMode::of(&self.keeper.file(found.mode)), number as u32))
            }
            _ => None,
        };
        SharedFiles::of(|| self.opened.parts.entries(self.part).filter_map(shared))
    }

    /// Returns the objects of the library, if the image has one.
    fn objects(&self, shared: &SharedFiles) -> Result<Vec<LibraryObject>> {
        if self.mode == EnvironmentMode::Direct {
            return Ok(Vec::new());
        }
        let numbers = self.opened.parts.objects(self.catalog(), self.part);
        looking_up(numbers.len(), || numbers.into_par_iter().map(|number| self.object(number, shared)).collect())
    }

    /// Determines the form in which an object is shipped, and its size in that form.
    fn object(&self, number: u32, shared: &SharedFiles) -> Result<LibraryObject> {
        let object = &self.catalog().objects()[number as usize];
        let is_scrubbed = self.opened.scrubbed.content(&object.digest).is_some();
        let (form, size) = if self.mode == EnvironmentMode::Compact && !is_scrubbed {
            (LibraryForm::AsStored, self.hololib.object(object)?.stored_size())
        } else if object.digest.is_forgeable() {
            // In uncompressed mode, rcc decompresses nothing.
            (LibraryForm::Content, object.size)
        } else if is_scrubbed {
            let form = if shared.has(number) { LibraryForm::Content } else { LibraryForm::Wrapped };
            (form, object.size)
        } else if shared.has(number) && !self.hololib.content_looks_compressed(object)? {
            (LibraryForm::Content, object.size)
        } else {
            (LibraryForm::Wrapped, wrapped_size(object.size))
        };
        Ok(LibraryObject { number, form, size })
    }

    fn add_space(&self, shared: &SharedFiles, tree: &mut TreeBuilder) -> Result<()> {
        let catalog = self.catalog();
        let restorer = Restorer::new(self.hololib, catalog, &self.space)?;
        let restorer = self.opened.restorer.get_or_init(|| restorer).clone();
        let files: Arc<dyn StoredFiles> = Arc::new(RestoredFiles { restorer, catalog: catalog.clone() });
        tree.add(directory(self.root.clone(), self.keeper.directory()))?;
        let numbers = || self.opened.parts.entries(self.part);
        for path in split_environment::directories(numbers().map(|number| catalog.numbered(number).path)) {
            tree.add(directory(self.in_space(path)?, self.keeper.directory()))?;
        }
        for number in numbers() {
            let entry = catalog.numbered(number);
            let path = self.in_space(entry.path)?;
            tree.add(match entry.kind {
                CatalogEntryKind::Directory { .. } => directory(path, self.keeper.directory()),
                CatalogEntryKind::Link { target } => {
                    let kind = Kind::Symlink { target: target.as_bytes().into() };
                    Entry { path, kind, attributes: attributes(0o777, Owner::default()) }
                }
                CatalogEntryKind::File(found) => {
                    let content = self.restored(&found, StoredFile { files: files.clone(), number: number as u32 });
                    let alone = file(path, found.size, content, self.keeper.file(found.mode));
                    match found.rewrites.is_empty() {
                        true => self.shared(shared, found.object as u32, Name::OfEntry(number as u32), alone)?,
                        false => alone,
                    }
                }
            })?;
        }
        Ok(())
    }

    fn restored(&self, found: &FileEntry<'_>, stored: StoredFile) -> Content {
        match self.opened.scrubbed.content(&found.digest) {
            Some(content) => Content::Bytes(rewritten(content, found.rewrites, &self.space)),
            None => Content::Stored(stored),
        }
    }

    /// Returns the entry of the file `name`, which holds `object`.
    ///
    /// This is `alone`, or a hard link if another name of the same file comes first.
    fn shared(&self, shared: &SharedFiles, object: u32, name: Name, alone: Entry) -> Result<Entry> {
        let first = shared.first(object, OwnerAndMode::of(&alone.attributes), name, |name| self.path(name))?;
        let kind = if first == name { alone.kind } else { Kind::HardLink { target: self.path(first)? } };
        Ok(Entry { kind, ..alone })
    }

    fn add_library(&self, objects: &[LibraryObject], shared: &SharedFiles, tree: &mut TreeBuilder) -> Result<()> {
        let (hololib, catalog) = (self.hololib, self.catalog());
        let files = |form| LibraryFiles { hololib: hololib.clone(), catalog: catalog.clone(), form };
        let of_form = |form| -> Arc<dyn StoredFiles> { Arc::new(files(form)) };
        let as_stored = of_form(LibraryForm::AsStored);
        let (contents, wrapped) = (of_form(LibraryForm::Content), of_form(LibraryForm::Wrapped));
        for &LibraryObject { number, form, size } in objects {
            let name = Name::OfObject(number);
            let files = match form {
                LibraryForm::AsStored => &as_stored,
                LibraryForm::Content => &contents,
                LibraryForm::Wrapped => &wrapped,
            };
            let scrubbed = self.opened.scrubbed.content(&catalog.objects()[number as usize].digest);
            let content = match (scrubbed, form) {
                (Some(content), LibraryForm::Content) => Content::Bytes(content.clone()),
                (Some(content), LibraryForm::AsStored | LibraryForm::Wrapped) => Content::Bytes(meta::gzip(content)?),
                (None, _) => Content::Stored(StoredFile { files: files.clone(), number }),
            };
            let size = if let Content::Bytes(bytes) = &content { bytes.len() as u64 } else { size };
            let kept = shared.lowest(number).filter(|_| form == LibraryForm::Content).map(OwnerAndMode::attributes);
            let own = || attributes(0o644, Owner::default());
            let alone = file(self.path(name)?, size, content, kept.clone().unwrap_or_else(own));
            tree.add(if kept.is_some() { self.shared(shared, number, name, alone)? } else { alone })?;
        }
        Ok(())
    }

    fn add_what_is_of_the_whole(&self, tree: &mut TreeBuilder) -> Result<()> {
        if self.mode != EnvironmentMode::Direct {
            // rcc restores or locks next to the space, whether or not there is one yet.
            let base = ImagePath::new(self.catalog().base().as_bytes())?;
            tree.add(directory(base, self.places.writable()))?;
            self.add_catalog(tree)?;
        }
        if self.mode == EnvironmentMode::Ready {
            self.add_companions(tree)?;
        }
        Ok(())
    }

    fn add_catalog(&self, tree: &mut TreeBuilder) -> Result<()> {
        if self.catalog().objects().iter().any(|object| object.digest.is_forgeable()) {
            let mark = self.places.in_hololib(UNCOMPRESSED_MARK)?;
            tree.add(text(mark, "", attributes(0o644, Owner::default())))?;
        }
        let path = self.places.in_hololib(&format!("catalog/{}", self.catalog().name()))?;
        let stored = &self.opened.stored;
        let content = Content::Stored(StoredFile { files: Arc::new(stored.clone()), number: 0 });
        tree.add(file(path, stored.size, content, attributes(0o644, Owner::default())))
    }

    /// Adds the files that rcc writes next to a managed space.
    ///
    /// With them, rcc has nothing to do at a start.
    fn add_companions(&self, tree: &mut TreeBuilder) -> Result<()> {
        let beside = |ending: &str| ImagePath::new(format!("{}{ending}", self.root).as_bytes());
        let documents = meta::documents(&self.opened.stored, self.catalog(), &self.space, self.places)?;
        let writable = self.places.writable_file();
        let size = documents.meta.size()?;
        let meta = Content::Stored(StoredFile { files: Arc::new(documents.meta), number: 0 });
        tree.add(file(beside(".meta")?, size, meta, writable.clone()))?;
        let size = documents.info.len() as u64;
        tree.add(file(beside(".meta.info")?, size, Content::Bytes(documents.info), writable.clone()))?;
        tree.add(text(beside(".lck")?, "", writable.clone()))?;
        tree.add(text(beside(".use")?, ".", writable))
    }
}
