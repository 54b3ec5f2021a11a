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
use crate::tree::{Attributes, Content, Entry, ImagePath, Kind, Owner};
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
            self.add_space(&space, &Keeper::of(mode, places), &mut entries, &mut shared)?;
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
        keeper: &Keeper,
        entries: &mut Vec<Entry>,
        shared: &mut SharedFiles,
    ) -> Result<()> {
        let restorer = Restorer::new(&self.hololib, &self.catalog, space)?;
        let restorer = self.restorer.get_or_init(|| restorer);
        let root = ImagePath::new(self.catalog.space_path(space)?.as_bytes())?;
        entries.push(directory(root.clone(), keeper.directory()));
        for (number, entry) in self.catalog.entries().iter().enumerate() {
            let path = root.join(&ImagePath::new(entry.path.as_bytes())?)?;
            match &entry.kind {
                EntryKind::Directory { .. } => entries.push(directory(path, keeper.directory())),
                EntryKind::Link { target } => {
                    let kind = Kind::Symlink { target: target.as_bytes().into() };
                    entries.push(Entry { path, kind, attributes: attributes(0o777, Owner::default()) });
                }
                EntryKind::File(found) => {
                    let kept = keeper.file(found.mode);
                    if found.rewrites.is_empty() {
                        shared.add(found, &kept, entries.len());
                    }
                    let content = match self.scrubbed.content(&found.digest) {
                        Some(content) => Content::Bytes(rewritten(content, &found.rewrites, space)),
                        None => Content::Stored(Arc::new(RestoredFile {
                            restorer: restorer.clone(),
                            catalog: self.catalog.clone(),
                            entry: number,
                        })),
                    };
                    entries.push(file(path, found.size, content, kept));
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

/// Who keeps the files of a space.
enum Keeper {
    /// Root, for everybody: nothing can be changed, and what was the recorder's alone is open to whoever runs.
    Root,
    /// Root and the run user. RCC compares modes, so what is not open to everybody must belong to the user; and it sets the
    /// times of directories, which takes their owner.
    User(Owner),
}

impl Keeper {
    fn of(mode: EnvironmentMode, places: &Places) -> Keeper {
        match mode {
            EnvironmentMode::Ready => Keeper::User(places.user),
            EnvironmentMode::Sealed | EnvironmentMode::Direct | EnvironmentMode::Compact => Keeper::Root,
        }
    }

    fn directory(&self) -> Attributes {
        match self {
            Keeper::Root => attributes(0o755, Owner::default()),
            Keeper::User(user) => attributes(0o755, *user),
        }
    }

    fn file(&self, recorded: u32) -> Attributes {
        // A program that runs as its owner was the recorder's, and must not become root's.
        let open = recorded & 0o777 | (recorded & 0o500) >> 3 | (recorded & 0o500) >> 6;
        match self {
            Keeper::User(user) if open != recorded => attributes(recorded, *user),
            Keeper::User(_) | Keeper::Root => attributes(open, Owner::default()),
        }
    }
}

/// Which entries can be one file: those with one content, one mode and one owner.
#[derive(Default)]
struct SharedFiles {
    entries: BTreeMap<ObjectDigest, BTreeMap<Kept, Vec<usize>>>,
}

/// Owner and mode, root first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Kept {
    uid: u32,
    gid: u32,
    mode: u16,
}

impl SharedFiles {
    fn add(&mut self, file: &FileEntry, attributes: &Attributes, entry: usize) {
        let Attributes { uid, gid, mode, .. } = *attributes;
        self.entries.entry(file.digest).or_default().entry(Kept { uid, gid, mode }).or_default().push(entry);
    }

    /// Whether the space has a file of this content that the library can share: one that nobody can change.
    fn has(&self, digest: &ObjectDigest) -> bool {
        self.entries.get(digest).and_then(|kept| kept.keys().next()).is_some_and(|first| first.uid == 0)
    }

    /// The object itself has no mode of its own, so it takes the lowest that is there.
    fn add_object(&mut self, digest: &ObjectDigest, entry: usize) {
        if let Some(first) = self.entries.get_mut(digest).and_then(|kept| kept.values_mut().next()) {
            first.push(entry);
        }
    }

    /// Makes every name but the first a link to the first, with its attributes: extractors set them through the link.
    fn link(self, entries: &mut [Entry]) {
        let groups = self.entries.into_values().flatten();
        for (Kept { uid, gid, mode }, mut names) in groups {
            names.sort_by(|&a, &b| entries[a].path.cmp(&entries[b].path));
            for group in names.chunks(MOST_NAMES) {
                let target = entries[group[0]].path.clone();
                for (place, &name) in group.iter().enumerate() {
                    entries[name].attributes = attributes(mode.into(), Owner { uid, gid });
                    if place > 0 {
                        entries[name].kind = Kind::HardLink { target: target.clone() };
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_the_recorders_alone_is_open_to_whoever_runs_it() {
        let user = Owner { uid: 1000, gid: 0 };
        let kept = |keeper: &Keeper, mode| {
            let Attributes { mode, uid, .. } = keeper.file(mode);
            (u32::from(mode), uid)
        };
        for (recorded, open) in [(0o644, 0o644), (0o600, 0o644), (0o700, 0o755), (0o555, 0o555), (0o4755, 0o755)] {
            assert_eq!(kept(&Keeper::Root, recorded), (open, 0), "{recorded:o}");
            let owner = if recorded == open { 0 } else { 1000 };
            assert_eq!(kept(&Keeper::User(user), recorded), (recorded, owner), "{recorded:o}");
        }
        assert_eq!(Keeper::User(user).directory().uid, 1000);
    }
}
