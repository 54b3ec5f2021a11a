//! The entries of an environment's layers, straight from the hololib.
//!
//! RCC runs an environment only if the library holds every object of the catalog. Shipping both would store everything
//! twice, so a library object and the files of the space with its content are one file with several names. They can be:
//! RCC reads an object that is not gzip as it is, replaces files by renaming and never writes into them. They cannot be
//! where the space's file was rewritten, or where the content itself begins like something compressed, which RCC would
//! unwrap. Such objects are wrapped.

use super::environment::Opened;
use super::files::{LibraryFiles, LibraryForm, RestoredFiles, attributes, directory, file};
use super::keeper::Keeper;
use super::places::Management;
use super::sharing::{JoinedFiles, Name, SharedFiles};
use super::wrap::wrapped_size;
use super::{EnvironmentMode, Places, meta, parts, text};
use crate::error::Result;
use crate::rcc::{Catalog, EntryKind, FileEntry, Hololib, Restorer};
use crate::tree::{Attributes, Content, Entry, ImagePath, Kind, Owner, StoredFile, StoredFiles};
use rayon::prelude::*;
use std::sync::Arc;

/// The mark of RCC's uncompressed mode, without which it would not accept such a library.
const UNCOMPRESSED_MARK: &str = "catalog/compress.no";

/// Hands the entries of the layer of `part` to `add`, in any order.
pub(super) fn each_entry(
    hololib: &Hololib,
    opened: &Opened,
    part: usize,
    mode: EnvironmentMode,
    places: &Places,
    add: &mut dyn FnMut(Entry) -> Result<()>,
) -> Result<()> {
    let space = places.space_name(management(mode));
    let root = ImagePath::new(opened.catalog.space_path(&space)?.as_bytes())?;
    let contents = Contents { hololib, opened, part, mode, places, space, root, keeper: Keeper::of(mode, places) };
    let shared = contents.shared_files();
    let objects = contents.objects(&shared)?;
    let are_content = objects.iter().filter(|object| object.form == LibraryForm::Content);
    let joined = shared.join(are_content.map(|object| object.number), |name| contents.path(name))?;
    if mode != EnvironmentMode::Compact {
        contents.add_space(&joined, add)?;
    }
    contents.add_library(&objects, &joined, add)?;
    if part == opened.parts.last() {
        contents.add_what_is_of_the_whole(add)?;
    }
    Ok(())
}

/// Whether rcc looks after the space in this mode.
pub(super) fn management(mode: EnvironmentMode) -> Management {
    match mode {
        EnvironmentMode::Sealed => Management::Unmanaged,
        EnvironmentMode::Ready | EnvironmentMode::Compact | EnvironmentMode::Direct => Management::Managed,
    }
}

struct Contents<'a> {
    hololib: &'a Hololib,
    opened: &'a Opened,
    part: usize,
    mode: EnvironmentMode,
    places: &'a Places,
    space: String,
    /// The directory of the space.
    root: ImagePath,
    keeper: Keeper,
}

/// How an object of the library is shipped.
struct LibraryObject {
    number: u32,
    form: LibraryForm,
    /// How many bytes it then has.
    size: u64,
}

impl Contents<'_> {
    fn catalog(&self) -> &Arc<Catalog> {
        &self.opened.catalog
    }

    /// Where in the image a file is.
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

    /// The files of the space that can be one with others: those that are not rewritten.
    fn shared_files(&self) -> SharedFiles {
        if self.mode == EnvironmentMode::Compact {
            return SharedFiles::default();
        }
        let catalog = self.catalog();
        let shared = |number: usize| match catalog.numbered(number).kind {
            EntryKind::File(found) if found.rewrites.is_empty() => {
                Some((found.object as u32, self.keeper.file(found.mode), number as u32))
            }
            _ => None,
        };
        SharedFiles::of(self.opened.parts.entries(self.part).filter_map(shared))
    }

    /// The objects of the library, where the image has one.
    fn objects(&self, shared: &SharedFiles) -> Result<Vec<LibraryObject>> {
        if self.mode == EnvironmentMode::Direct {
            return Ok(Vec::new());
        }
        let numbers = self.opened.parts.objects(self.catalog(), self.part);
        numbers.into_par_iter().map(|number| self.object(number, shared)).collect()
    }

    /// Decides how an object is shipped, and how long it then is.
    fn object(&self, number: u32, shared: &SharedFiles) -> Result<LibraryObject> {
        let object = &self.catalog().objects()[number as usize];
        let (form, size) = if self.opened.scrubbed.content(&object.digest).is_some() {
            let form = if shared.has(number) { LibraryForm::Content } else { LibraryForm::Wrapped };
            (form, object.size)
        } else if self.mode == EnvironmentMode::Compact {
            (LibraryForm::AsStored, self.hololib.object(object)?.stored_size())
        } else if object.digest.is_forgeable() {
            // In uncompressed mode, rcc unwraps nothing.
            (LibraryForm::Content, object.size)
        } else if shared.has(number) && !self.hololib.content_looks_compressed(object)? {
            (LibraryForm::Content, object.size)
        } else {
            (LibraryForm::Wrapped, wrapped_size(object.size))
        };
        Ok(LibraryObject { number, form, size })
    }

    fn add_space(&self, joined: &JoinedFiles, add: &mut dyn FnMut(Entry) -> Result<()>) -> Result<()> {
        let catalog = self.catalog();
        let restorer = Restorer::new(self.hololib, catalog, &self.space)?;
        let restorer = self.opened.restorer.get_or_init(|| restorer).clone();
        let files: Arc<dyn StoredFiles> = Arc::new(RestoredFiles { restorer, catalog: catalog.clone() });
        add(directory(self.root.clone(), self.keeper.directory()))?;
        let numbers = || self.opened.parts.entries(self.part);
        for path in parts::directories(numbers().map(|number| catalog.numbered(number).path)) {
            add(directory(self.in_space(path)?, self.keeper.directory()))?;
        }
        for number in numbers() {
            let entry = catalog.numbered(number);
            let path = self.in_space(entry.path)?;
            add(match entry.kind {
                EntryKind::Directory { .. } => directory(path, self.keeper.directory()),
                EntryKind::Link { target } => {
                    let kind = Kind::Symlink { target: target.as_bytes().into() };
                    Entry { path, kind, attributes: attributes(0o777, Owner::default()) }
                }
                EntryKind::File(found) => {
                    let name = Name::OfEntry(number as u32);
                    let content = self.restored(&found, StoredFile { files: files.clone(), number: number as u32 });
                    self.joined(joined, name, file(path, found.size, content, self.keeper.file(found.mode)))?
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

    /// The entry of the file `name`: `alone` if it has no other name, and a link if another one comes first.
    fn joined(&self, joined: &JoinedFiles, name: Name, alone: Entry) -> Result<Entry> {
        let Some((attributes, first)) = joined.find(name) else { return Ok(alone) };
        let kind = if first == name { alone.kind } else { Kind::HardLink { target: self.path(first)? } };
        Ok(Entry { path: alone.path, kind, attributes })
    }

    fn add_library(
        &self,
        objects: &[LibraryObject],
        joined: &JoinedFiles,
        add: &mut dyn FnMut(Entry) -> Result<()>,
    ) -> Result<()> {
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
            let kept: Attributes = attributes(0o644, Owner::default());
            add(self.joined(joined, name, file(self.path(name)?, size, content, kept))?)?;
        }
        Ok(())
    }

    fn add_what_is_of_the_whole(&self, add: &mut dyn FnMut(Entry) -> Result<()>) -> Result<()> {
        if self.mode != EnvironmentMode::Direct {
            // rcc restores or locks beside the space, whether there is one yet or not.
            let base = ImagePath::new(self.catalog().base().as_bytes())?;
            add(directory(base, self.places.writable()))?;
            self.add_catalog(add)?;
        }
        if self.mode == EnvironmentMode::Ready {
            self.add_companions(add)?;
        }
        Ok(())
    }

    fn add_catalog(&self, add: &mut dyn FnMut(Entry) -> Result<()>) -> Result<()> {
        if self.catalog().objects().iter().any(|object| object.digest.is_forgeable()) {
            let mark = self.places.in_hololib(UNCOMPRESSED_MARK)?;
            add(text(mark, "", attributes(0o644, Owner::default())))?;
        }
        let path = self.places.in_hololib(&format!("catalog/{}", self.catalog().name()))?;
        let stored = &self.opened.stored;
        let content = Content::Stored(StoredFile { files: Arc::new(stored.clone()), number: 0 });
        add(file(path, stored.size, content, attributes(0o644, Owner::default())))
    }

    /// What rcc writes beside a managed space, so that it finds nothing to do.
    fn add_companions(&self, add: &mut dyn FnMut(Entry) -> Result<()>) -> Result<()> {
        let beside = |ending: &str| ImagePath::new(format!("{}{ending}", self.root).as_bytes());
        let documents = meta::documents(&self.opened.stored, self.catalog(), &self.space, self.places)?;
        let writable = self.places.writable_file();
        let size = documents.meta.size()?;
        let meta = Content::Stored(StoredFile { files: Arc::new(documents.meta), number: 0 });
        add(file(beside(".meta")?, size, meta, writable.clone()))?;
        let size = documents.info.len() as u64;
        add(file(beside(".meta.info")?, size, Content::Bytes(documents.info), writable.clone()))?;
        add(text(beside(".lck")?, "", writable.clone()))?;
        add(text(beside(".use")?, ".", writable))
    }
}

/// An overwritten file as it will be in `space`. The catalog's offsets were checked against its size.
pub(super) fn rewritten(content: &Arc<[u8]>, rewrites: &[u64], space: &str) -> Arc<[u8]> {
    let mut content = content.to_vec();
    for offset in rewrites {
        let at = *offset as usize;
        if let Some(place) = content.get_mut(at..at + space.len()) {
            place.copy_from_slice(space.as_bytes());
        }
    }
    content.into()
}
