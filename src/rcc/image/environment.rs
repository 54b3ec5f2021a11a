//! A restored environment and its library as the entries of one layer, straight from the hololib.
//!
//! RCC runs an environment only if the library holds every object of the catalog. Shipping both would store everything
//! twice, so a library object and the files of the space with its content are one file with several names. They can be:
//! RCC reads an object that is not gzip as it is, replaces files by renaming and never writes into them. They cannot be
//! where the space's file was rewritten, or where the content itself begins like something compressed, which RCC would
//! unwrap. Such objects stay as the hololib has them.

use super::files::{LibraryFile, LibraryForm, RestoredFile, attributes, directory, file};
use super::places::Management;
use super::scrub::{Scrubbed, Scrubbing};
use super::{EnvironmentMode, Places, meta, text};
use crate::digest::Digest;
use crate::error::Result;
use crate::progress::{Progress, warn};
use crate::rcc::{
    Catalog, CatalogLimits, CatalogName, EntryKind, FileEntry, Hololib, NamedObject, ObjectDigest, Restorer,
};
use crate::tree::{Content, Entry, ImagePath, Kind, Owner};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

/// The mark of RCC's uncompressed mode, without which it would not accept such a library.
const UNCOMPRESSED_MARK: &str = "catalog/compress.no";

/// How many names one file gets. ext4 allows 65,000.
const MOST_NAMES: usize = 60_000;

/// A catalog, complete, and the hololib that it is in.
#[derive(Debug)]
pub struct Environment {
    hololib: Hololib,
    catalog: Arc<Catalog>,
    /// The catalog as the image will have it.
    stored_catalog: Arc<[u8]>,
    scrubbed: Scrubbed,
    restorer: OnceLock<Restorer>,
}

impl Environment {
    /// Takes the catalog called `name` of `hololib`, and looks for what should not leave this machine.
    ///
    /// # Errors
    /// When the catalog cannot be read, or objects that it names are missing.
    pub fn open(
        hololib: Hololib,
        name: &CatalogName,
        limits: &CatalogLimits,
        scrubbing: Scrubbing,
        watcher: &dyn Progress,
    ) -> Result<Environment> {
        let stored = hololib.stored_catalog(name)?;
        let catalog = Catalog::read(&stored[..], name, limits, watcher)?;
        hololib.check_complete(&catalog)?;
        let scrubbed = Scrubbed::find(&hololib, &catalog, scrubbing, watcher)?;
        if scrubbed.is_empty() {
            let restorer = OnceLock::new();
            return Ok(Environment {
                hololib,
                catalog: Arc::new(catalog),
                stored_catalog: stored.into(),
                scrubbed,
                restorer,
            });
        }
        let stored = scrubbed.rewrite_catalog(&stored, &catalog)?;
        let catalog = Catalog::read(&stored[..], name, limits, watcher)?;
        Ok(Environment {
            hololib,
            catalog: Arc::new(catalog),
            stored_catalog: stored.into(),
            scrubbed,
            restorer: OnceLock::new(),
        })
    }

    /// The catalog, as the image will have it.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// The digest of the catalog's document: it fixes every byte of the environment.
    pub fn document_digest(&self) -> Digest {
        self.catalog.document_digest()
    }

    /// Reads a file of the environment as it will be in `space`.
    ///
    /// # Errors
    /// When there is no such file, it is larger than `limit` bytes, or its object is damaged.
    pub(super) fn read(&self, path: &str, space: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        let Some(EntryKind::File(found)) = self.catalog.entry(path).map(|entry| &entry.kind) else { return Ok(None) };
        if let Some(content) = self.scrubbed.content(&found.digest) {
            return Ok(Some(rewritten(content, &found.rewrites, space).to_vec()));
        }
        let restorer = Restorer::new(&self.hololib, &self.catalog, space)?;
        crate::bounded::read(restorer.open(path, found)?, limit, path).map(Some)
    }

    /// The entries of the environment's layer.
    pub(super) fn entries(&self, mode: EnvironmentMode, places: &Places) -> Result<Vec<Entry>> {
        let management = match mode {
            EnvironmentMode::Sealed => Management::Unmanaged,
            EnvironmentMode::Ready | EnvironmentMode::Compact | EnvironmentMode::Direct => Management::Managed,
        };
        let space = places.space_name(management);
        let mut entries = Vec::new();
        let mut shared = SharedFiles::default();
        if mode != EnvironmentMode::Compact {
            let directories = if mode == EnvironmentMode::Ready { places.user } else { Owner::default() };
            self.add_space(&space, directories, &mut entries, &mut shared)?;
        }
        if mode != EnvironmentMode::Direct {
            // rcc restores or locks beside the space, whether there is one yet or not.
            entries.push(directory(ImagePath::new(self.catalog.base().as_bytes())?, places.writable()));
            self.add_library(places, &mut entries, &mut shared)?;
            entries.push(self.catalog_entry(places)?);
        }
        if mode == EnvironmentMode::Ready {
            self.add_companions(&space, places, &mut entries)?;
        }
        shared.link(&mut entries);
        Ok(entries)
    }

    pub(super) fn warn_of_unrewritten_paths(&self, watcher: &dyn Progress) {
        let unrewritten = self.restorer.get().map(Restorer::unrewritten).unwrap_or_default();
        if let Some(first) = unrewritten.first() {
            let reason =
                format!("{} files hold a build path that rcc did not list, the first is `{first}`", unrewritten.len());
            warn(watcher, &format!("catalog {}", self.catalog.name()), &reason);
        }
    }

    fn add_space(
        &self,
        space: &str,
        directories: Owner,
        entries: &mut Vec<Entry>,
        shared: &mut SharedFiles,
    ) -> Result<()> {
        let restorer = Restorer::new(&self.hololib, &self.catalog, space)?;
        let restorer = self.restorer.get_or_init(|| restorer);
        let root = ImagePath::new(self.catalog.space_path(space)?.as_bytes())?;
        entries.push(directory(root.clone(), attributes(0o755, directories)));
        for (number, entry) in self.catalog.entries().iter().enumerate() {
            let path = root.join(&ImagePath::new(entry.path.as_bytes())?)?;
            match &entry.kind {
                EntryKind::Directory { .. } => entries.push(directory(path, attributes(0o755, directories))),
                EntryKind::Link { target } => {
                    let kind = Kind::Symlink { target: target.as_bytes().into() };
                    entries.push(Entry { path, kind, attributes: attributes(0o777, Owner::default()) });
                }
                EntryKind::File(found) => {
                    if found.rewrites.is_empty() {
                        shared.add(found, entries.len());
                    }
                    let content = match self.scrubbed.content(&found.digest) {
                        Some(content) => Content::Bytes(rewritten(content, &found.rewrites, space)),
                        None => Content::Stored(Arc::new(RestoredFile {
                            restorer: restorer.clone(),
                            catalog: self.catalog.clone(),
                            entry: number,
                        })),
                    };
                    entries.push(file(path, found.size, content, attributes(found.mode, Owner::default())));
                }
            }
        }
        Ok(())
    }

    fn add_library(&self, places: &Places, entries: &mut Vec<Entry>, shared: &mut SharedFiles) -> Result<()> {
        let objects = self.catalog.objects();
        let forms: Vec<(NamedObject, Form)> = objects
            .par_iter()
            .map(|object| Ok((*object, self.form(object, shared.has(&object.digest))?)))
            .collect::<Result<_>>()?;
        if objects.iter().any(|object| matches!(object.digest, ObjectDigest::SipHash(_))) {
            entries.push(text(places.in_hololib(UNCOMPRESSED_MARK)?, "", attributes(0o644, Owner::default())));
        }
        for (object, form) in forms {
            let path = places.in_hololib(&object.digest.library_path())?;
            let readable = attributes(0o644, Owner::default());
            let (size, content) = match form {
                Form::Shared => {
                    shared.add_object(&object.digest, entries.len());
                    (object.size, self.library_content(object, LibraryForm::Content))
                }
                Form::Stored(size) => (size, self.library_content(object, LibraryForm::AsStored)),
                Form::Bytes(bytes) => (bytes.len() as u64, Content::Bytes(bytes)),
            };
            entries.push(file(path, size, content, readable));
        }
        Ok(())
    }

    fn library_content(&self, object: NamedObject, form: LibraryForm) -> Content {
        match self.scrubbed.content(&object.digest) {
            Some(content) if form == LibraryForm::Content => Content::Bytes(content.clone()),
            _ => Content::Stored(Arc::new(LibraryFile { hololib: self.hololib.clone(), object, form })),
        }
    }

    /// Decides how an object is shipped.
    fn form(&self, object: &NamedObject, is_in_space: bool) -> Result<Form> {
        if let Some(content) = self.scrubbed.content(&object.digest) {
            return Ok(if is_in_space { Form::Shared } else { Form::Bytes(meta::gzip(content)?) });
        }
        let stored = self.hololib.object(object)?;
        if is_in_space && (matches!(object.digest, ObjectDigest::SipHash(_)) || !stored.content_looks_compressed()?) {
            return Ok(Form::Shared);
        }
        Ok(Form::Stored(stored.stored_size()))
    }

    fn catalog_entry(&self, places: &Places) -> Result<Entry> {
        let path = places.in_hololib(&format!("catalog/{}", self.catalog.name()))?;
        let content = Content::Bytes(self.stored_catalog.clone());
        Ok(file(path, self.stored_catalog.len() as u64, content, attributes(0o644, Owner::default())))
    }

    /// What rcc writes beside a managed space, so that it finds nothing to do.
    fn add_companions(&self, space: &str, places: &Places, entries: &mut Vec<Entry>) -> Result<()> {
        let beside = |ending: &str| ImagePath::new(format!("{}{ending}", self.catalog.space_path(space)?).as_bytes());
        let documents = meta::documents(&self.stored_catalog, &self.catalog, space, places)?;
        for (ending, bytes) in [(".meta", documents.meta), (".meta.info", documents.info)] {
            entries.push(file(beside(ending)?, bytes.len() as u64, Content::Bytes(bytes), places.writable_file()));
        }
        entries.push(text(beside(".lck")?, "", places.writable_file()));
        entries.push(text(beside(".use")?, ".", places.writable_file()));
        Ok(())
    }
}

/// An overwritten file as it will be in `space`. The catalog's offsets were checked against its size.
fn rewritten(content: &Arc<[u8]>, rewrites: &[u64], space: &str) -> Arc<[u8]> {
    let mut content = content.to_vec();
    for offset in rewrites {
        let at = *offset as usize;
        if let Some(place) = content.get_mut(at..at + space.len()) {
            place.copy_from_slice(space.as_bytes());
        }
    }
    content.into()
}

enum Form {
    /// One file with the space's files of this content.
    Shared,
    /// As the hololib has it, so many bytes.
    Stored(u64),
    /// These bytes.
    Bytes(Arc<[u8]>),
}

/// Which entries can be one file: those with one content and one mode.
#[derive(Default)]
struct SharedFiles {
    entries: BTreeMap<ObjectDigest, BTreeMap<u32, Vec<usize>>>,
}

impl SharedFiles {
    fn add(&mut self, file: &FileEntry, entry: usize) {
        self.entries.entry(file.digest).or_default().entry(file.mode).or_default().push(entry);
    }

    fn has(&self, digest: &ObjectDigest) -> bool {
        self.entries.contains_key(digest)
    }

    /// The object itself has no mode of its own, so it takes the lowest that is there.
    fn add_object(&mut self, digest: &ObjectDigest, entry: usize) {
        if let Some(lowest) = self.entries.get_mut(digest).and_then(|modes| modes.values_mut().next()) {
            lowest.push(entry);
        }
    }

    /// Makes every name but the first a link to the first, with its attributes: extractors set them through the link.
    fn link(self, entries: &mut [Entry]) {
        let groups = self.entries.into_values().flatten();
        for (mode, mut names) in groups {
            names.sort_by(|&a, &b| entries[a].path.cmp(&entries[b].path));
            for group in names.chunks(MOST_NAMES) {
                let target = entries[group[0]].path.clone();
                for (place, &name) in group.iter().enumerate() {
                    entries[name].attributes = attributes(mode, Owner::default());
                    if place > 0 {
                        entries[name].kind = Kind::HardLink { target: target.clone() };
                    }
                }
            }
        }
    }
}
