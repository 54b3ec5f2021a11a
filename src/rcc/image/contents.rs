//! The entries of an environment's layers, straight from the hololib.
//!
//! RCC runs an environment only if the library holds every object of the catalog. Shipping both would store everything
//! twice, so a library object and the files of the space with its content are one file with several names. They can be:
//! RCC reads an object that is not gzip as it is, replaces files by renaming and never writes into them. They cannot be
//! where the space's file was rewritten, or where the content itself begins like something compressed, which RCC would
//! unwrap. Such objects are wrapped.

use super::environment::Opened;
use super::files::{LibraryFile, LibraryForm, RestoredFile, attributes, directory, file};
use super::keeper::Keeper;
use super::places::Management;
use super::sharing::SharedFiles;
use super::wrap::wrapped_size;
use super::{EnvironmentMode, Places, meta, parts, text};
use crate::error::Result;
use crate::rcc::{Catalog, EntryKind, Hololib, NamedObject, Restorer};
use crate::tree::{Content, Entry, ImagePath, Kind, Owner};
use rayon::prelude::*;
use std::sync::Arc;

/// The mark of RCC's uncompressed mode, without which it would not accept such a library.
const UNCOMPRESSED_MARK: &str = "catalog/compress.no";

/// Lists the entries of the layer of `part` in any order.
pub(super) fn entries(
    hololib: &Hololib,
    opened: &Opened,
    part: usize,
    mode: EnvironmentMode,
    places: &Places,
) -> Result<Vec<Entry>> {
    let space = places.space_name(management(mode));
    let mut contents =
        Contents { hololib, opened, part, mode, places, space, entries: Vec::new(), shared: SharedFiles::default() };
    if mode != EnvironmentMode::Compact {
        contents.add_space()?;
    }
    if mode != EnvironmentMode::Direct {
        contents.add_library()?;
    }
    if part == opened.parts.last() {
        contents.add_what_is_of_the_whole()?;
    }
    let Contents { mut entries, shared, .. } = contents;
    shared.link(&mut entries);
    Ok(entries)
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
    entries: Vec<Entry>,
    shared: SharedFiles,
}

impl Contents<'_> {
    fn catalog(&self) -> &Arc<Catalog> {
        &self.opened.catalog
    }

    fn add_space(&mut self) -> Result<()> {
        let catalog = self.catalog().clone();
        let restorer = Restorer::new(self.hololib, &catalog, &self.space)?;
        let restorer = self.opened.restorer.get_or_init(|| restorer);
        let keeper = Keeper::of(self.mode, self.places);
        let root = ImagePath::new(catalog.space_path(&self.space)?.as_bytes())?;
        self.entries.push(directory(root.clone(), keeper.directory()));
        let numbers = || self.opened.parts.entries(self.part);
        let paths = numbers().map(|number| catalog.entries()[number].path.as_str());
        for path in parts::directories(paths) {
            self.entries.push(directory(root.join(&ImagePath::new(path.as_bytes())?)?, keeper.directory()));
        }
        for number in numbers() {
            let entry = &catalog.entries()[number];
            let path = root.join(&ImagePath::new(entry.path.as_bytes())?)?;
            self.entries.push(match &entry.kind {
                EntryKind::Directory { .. } => directory(path, keeper.directory()),
                EntryKind::Link { target } => {
                    let kind = Kind::Symlink { target: target.as_bytes().into() };
                    Entry { path, kind, attributes: attributes(0o777, Owner::default()) }
                }
                EntryKind::File(found) => {
                    let kept = keeper.file(found.mode);
                    if found.rewrites.is_empty() {
                        self.shared.add(found, &kept, self.entries.len());
                    }
                    let content = match self.opened.scrubbed.content(&found.digest) {
                        Some(content) => Content::Bytes(rewritten(content, &found.rewrites, &self.space)),
                        None => Content::Stored(Arc::new(RestoredFile {
                            restorer: restorer.clone(),
                            catalog: catalog.clone(),
                            entry: number,
                        })),
                    };
                    file(path, found.size, content, kept)
                }
            });
        }
        Ok(())
    }

    fn add_library(&mut self) -> Result<()> {
        let catalog = self.catalog().clone();
        let forms: Vec<(NamedObject, LibraryForm, u64)> = self
            .opened
            .parts
            .objects(&catalog, self.part)
            .into_par_iter()
            .map(|object| self.form(&object).map(|(form, size)| (object, form, size)))
            .collect::<Result<_>>()?;
        for (object, form, size) in forms {
            let path = self.places.in_hololib(&object.digest.library_path())?;
            if form == LibraryForm::Content {
                self.shared.add_object(&object.digest, self.entries.len());
            }
            let content = match (self.opened.scrubbed.content(&object.digest), form) {
                (Some(content), LibraryForm::Content) => Content::Bytes(content.clone()),
                (Some(content), LibraryForm::AsStored | LibraryForm::Wrapped) => Content::Bytes(meta::gzip(content)?),
                (None, form) => Content::Stored(Arc::new(LibraryFile { hololib: self.hololib.clone(), object, form })),
            };
            let size = if let Content::Bytes(bytes) = &content { bytes.len() as u64 } else { size };
            self.entries.push(file(path, size, content, attributes(0o644, Owner::default())));
        }
        Ok(())
    }

    /// Decides how an object is shipped, and how long it then is.
    fn form(&self, object: &NamedObject) -> Result<(LibraryForm, u64)> {
        if self.opened.scrubbed.content(&object.digest).is_some() {
            let form = if self.shared.has(&object.digest) { LibraryForm::Content } else { LibraryForm::Wrapped };
            return Ok((form, object.size));
        }
        if self.mode == EnvironmentMode::Compact {
            return Ok((LibraryForm::AsStored, self.hololib.object(object)?.stored_size()));
        }
        // In uncompressed mode, rcc unwraps nothing.
        if object.digest.is_forgeable() {
            return Ok((LibraryForm::Content, object.size));
        }
        if self.shared.has(&object.digest) && !self.hololib.content_looks_compressed(object)? {
            return Ok((LibraryForm::Content, object.size));
        }
        Ok((LibraryForm::Wrapped, wrapped_size(object.size)))
    }

    fn add_what_is_of_the_whole(&mut self) -> Result<()> {
        if self.mode != EnvironmentMode::Direct {
            // rcc restores or locks beside the space, whether there is one yet or not.
            let base = ImagePath::new(self.catalog().base().as_bytes())?;
            self.entries.push(directory(base, self.places.writable()));
            self.add_catalog()?;
        }
        if self.mode == EnvironmentMode::Ready {
            self.add_companions()?;
        }
        Ok(())
    }

    fn add_catalog(&mut self) -> Result<()> {
        if self.catalog().objects().iter().any(|object| object.digest.is_forgeable()) {
            let mark = self.places.in_hololib(UNCOMPRESSED_MARK)?;
            self.entries.push(text(mark, "", attributes(0o644, Owner::default())));
        }
        let path = self.places.in_hololib(&format!("catalog/{}", self.catalog().name()))?;
        let stored = &self.opened.stored;
        let content = Content::Bytes(stored.clone());
        self.entries.push(file(path, stored.len() as u64, content, attributes(0o644, Owner::default())));
        Ok(())
    }

    /// What rcc writes beside a managed space, so that it finds nothing to do.
    fn add_companions(&mut self) -> Result<()> {
        let space = self.catalog().space_path(&self.space)?;
        let beside = |ending: &str| ImagePath::new(format!("{space}{ending}").as_bytes());
        let documents = meta::documents(&self.opened.stored, self.catalog(), &self.space, self.places)?;
        let writable = self.places.writable_file();
        for (ending, bytes) in [(".meta", documents.meta), (".meta.info", documents.info)] {
            self.entries.push(file(beside(ending)?, bytes.len() as u64, Content::Bytes(bytes), writable.clone()));
        }
        self.entries.push(text(beside(".lck")?, "", writable.clone()));
        self.entries.push(text(beside(".use")?, ".", writable));
        Ok(())
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
