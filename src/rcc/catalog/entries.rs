//! Flattens the tree of a catalog into the sorted list of restored entries.

use super::document::{CatalogDirectory, CatalogPlace, CatalogTree, File};
use super::list::CatalogEntries;
use super::mode::{self, ModeOwner};
use super::{Catalog, CatalogEntry, CatalogEntryKind, CatalogLimits, NamedObject};
use crate::common::error::{Error, Result};
use crate::common::limits::Limit;
use hashbrown::{HashTable, hash_table};
use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use unicode_normalization::UnicodeNormalization;

/// Linux's length limit for a name, and below for a path, in bytes.
const NAME_LIMIT: usize = 255;
const PATH_LIMIT: usize = 4096;

/// The number of examples that a warning names.
const EXAMPLES: usize = 3;

/// Checks `tree` and lists the entries that RCC would restore, and the objects that it needs.
///
/// # Errors
/// Returns an error if a name, mode, digest, size, link or rewrite is not one that RCC could have recorded, or must not
/// get into an image, or if all paths together are longer than a document may be.
pub(crate) fn flatten(
    tree: &CatalogTree,
    identity: u64,
    limits: &CatalogLimits,
    object: &str,
) -> Result<(CatalogEntries, Vec<NamedObject>)> {
    let flattening = Flattening { tree, identity, object };
    let root = tree.directories.first();
    if root.is_none_or(|root| root.place.other_name.is_some() || root.link.is_some() || root.is_shadow) {
        return Err(flattening.wrong("", "the root of `tree` must be a directory without a name"));
    }
    flattening.check_names()?;
    let paths = flattening.length_of_paths();
    // A document names a directory once, and each path in it repeats that name.
    let most = limits.document.min(u32::MAX.into());
    Limit::CatalogSize.bound_of(most).check(paths as u64, &format!("{object}: all paths together"))?;
    let mut entries = CatalogEntries::with_room(tree.directories.len() + tree.files.len(), paths);
    let directories = flattening.directories(&mut entries)?;
    let (objects, numbers) = flattening.objects(&directories)?;
    flattening.files(&directories, &numbers, &mut entries)?;
    entries.sort();
    Ok((entries, objects))
}

/// The fate of a directory's contents: restored, or only recorded through a link.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Restored,
    BehindLink,
}

struct Flattening<'a> {
    tree: &'a CatalogTree,
    /// The length of the recorded identity that is rewritten, in bytes.
    identity: u64,
    object: &'a str,
}

/// The path of each directory, and whether its contents are restored.
type Directories = Vec<(String, Fate)>;

impl Flattening<'_> {
    fn wrong(&self, path: &str, reason: impl Into<String>) -> Error {
        Error::invalid(format!("{}: `{path}`", self.object), reason)
    }

    fn path(&self, directories: &Directories, place: &CatalogPlace) -> String {
        let name = self.tree.name(place);
        directories.get(place.directory).map_or_else(|| name.to_owned(), |(parent, _)| joined(parent, name))
    }

    /// Returns the path of an entry from the names alone, which may be unchecked.
    fn path_by_names(&self, place: &CatalogPlace) -> String {
        let (mut path, mut above) = (self.tree.name(place).to_owned(), place.directory);
        while above > 0 {
            let directory = &self.tree.directories[above].place;
            path = joined(self.tree.name(directory), &path);
            above = directory.directory;
        }
        path
    }

    /// Returns the total length of all paths in bytes.
    fn length_of_paths(&self) -> usize {
        let mut lengths = vec![0_usize];
        let length =
            |lengths: &[usize], place: &CatalogPlace| lengths[place.directory] + 1 + self.tree.name(place).len();
        for directory in self.tree.directories.iter().skip(1) {
            lengths.push(length(&lengths, &directory.place));
        }
        let files = self.tree.files.iter().map(|file| length(&lengths, &file.place));
        files.chain(lengths.iter().copied()).fold(0, usize::saturating_add)
    }

    fn directories(&self, entries: &mut CatalogEntries) -> Result<Directories> {
        let mut directories = vec![(String::new(), Fate::Restored)];
        for directory in self.tree.directories.iter().skip(1) {
            let path = self.path(&directories, &directory.place);
            let fate = directories.get(directory.place.directory).map_or(Fate::BehindLink, |(_, fate)| *fate);
            let fate = self.directory(&path, directory, fate, entries)?;
            directories.push((path, fate));
        }
        Ok(directories)
    }

    /// Lists a directory and returns whether its contents are restored.
    ///
    /// `fate` is that of the directory itself.
    fn directory(
        &self,
        path: &str,
        directory: &CatalogDirectory,
        fate: Fate,
        entries: &mut CatalogEntries,
    ) -> Result<Fate> {
        self.check_path(path)?;
        let mode = mode::unix(directory.mode, ModeOwner::Directory)
            .ok_or_else(|| self.wrong(path, format!("mode {} is not that of a directory", directory.mode)))?;
        match (&directory.link, directory.is_shadow, fate) {
            (Some(target), _, _) => {
                self.link(path, target, fate, entries)?;
                Ok(Fate::BehindLink)
            }
            (None, true, Fate::Restored) => Err(self.wrong(path, "a shadow without a link")),
            (None, _, Fate::BehindLink) => Ok(Fate::BehindLink),
            (None, false, Fate::Restored) => {
                entries.push_directory(path, mode);
                Ok(Fate::Restored)
            }
        }
    }

    /// Returns the objects that the catalog names, sorted, and the index of each file's object.
    ///
    /// RCC also requires the objects of links and shadows before it restores anything.
    fn objects(&self, directories: &Directories) -> Result<(Vec<NamedObject>, Vec<u32>)> {
        let files = &self.tree.files;
        let path = |number: usize| self.path(directories, &files[number].place);
        let mut order: Vec<usize> = (0..files.len()).collect();
        order.sort_unstable_by_key(|&number| (files[number].digest, number));
        let mut numbers = vec![0; files.len()];
        let mut objects: Vec<NamedObject> = Vec::with_capacity(files.len());
        for number in order {
            let File { digest, size, .. } = files[number];
            match objects.last() {
                Some(known) if known.digest == digest && known.size != size => {
                    let reason =
                        format!("its object {digest} has {size} bytes here and {} bytes elsewhere", known.size);
                    return Err(self.wrong(&path(number), reason));
                }
                Some(known) if known.digest == digest => {}
                Some(known) if known.digest.is_forgeable() != digest.is_forgeable() => {
                    return Err(self.wrong(&path(number), "digests of two kinds in one catalog"));
                }
                _ => objects.push(NamedObject { digest, size }),
            }
            numbers[number] = objects.len() as u32 - 1;
        }
        objects.shrink_to_fit();
        Ok((objects, numbers))
    }

    fn files(&self, directories: &Directories, objects: &[u32], entries: &mut CatalogEntries) -> Result<()> {
        for (file, object) in self.tree.files.iter().zip(objects) {
            let path = self.path(directories, &file.place);
            let fate = directories.get(file.place.directory).map_or(Fate::BehindLink, |(_, fate)| *fate);
            self.check_path(&path)?;
            if let Some(target) = &file.link {
                self.link(&path, target, fate, entries)?;
                continue;
            }
            let mode = mode::unix(file.mode, ModeOwner::File)
                .ok_or_else(|| self.wrong(&path, format!("mode {} is not that of a regular file", file.mode)))?;
            let rewrites = self.rewrites(&path, self.tree.offsets(file).to_vec(), file.size)?;
            if fate == Fate::Restored {
                entries.push_file(&path, mode, *object, &rewrites);
            }
        }
        Ok(())
    }

    fn link(&self, path: &str, target: &str, fate: Fate, entries: &mut CatalogEntries) -> Result<()> {
        if target.contains('\0') {
            return Err(self.wrong(path, "a NUL character in the target of a link"));
        }
        if target.len() > PATH_LIMIT {
            return Err(self.wrong(path, format!("a link target of more than {PATH_LIMIT} bytes")));
        }
        if fate == Fate::Restored {
            entries.push_link(path, target);
        }
        Ok(())
    }

    /// Sorts and deduplicates offsets. RCC records an offset twice if it is on the boundary of two of its chunks.
    fn rewrites(&self, path: &str, mut offsets: Vec<u64>, size: u64) -> Result<Vec<u64>> {
        offsets.sort_unstable();
        offsets.dedup();
        if let Some(last) = offsets.last()
            && last.checked_add(self.identity).is_none_or(|end| end > size)
        {
            return Err(self.wrong(path, format!("rewrite offset {last} beyond its {size} bytes")));
        }
        if let Some(pair) = offsets.windows(2).find(|pair| pair[1] - pair[0] < self.identity) {
            return Err(self.wrong(path, format!("rewrite offsets {} and {} overlap", pair[0], pair[1])));
        }
        Ok(offsets)
    }

    fn check_path(&self, path: &str) -> Result<()> {
        if path.len() > PATH_LIMIT {
            return Err(self.wrong(&shortened(path), format!("a path of more than {PATH_LIMIT} bytes")));
        }
        Ok(())
    }

    fn check_names(&self) -> Result<()> {
        let CatalogTree { directories: below, files, .. } = self.tree;
        let mut seen = HashSet::with_capacity(below.len() + files.len());
        let places = below.iter().skip(1).map(|directory| &directory.place).chain(files.iter().map(|file| &file.place));
        for place in places {
            let name = self.tree.name(place);
            let path = || shortened(&self.path_by_names(place));
            if let Some(reason) = unsafe_name(name) {
                return Err(self.wrong(&path(), format!("unsafe name: {reason}")));
            }
            if let Some(other) = &place.other_name {
                return Err(self.wrong(&path(), format!("the entry `{name}` has the name `{other}`")));
            }
            if !seen.insert((place.directory, name)) {
                return Err(self.wrong(&path(), "duplicate name"));
            }
        }
        Ok(())
    }
}

fn joined(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_owned() } else { format!("{parent}/{name}") }
}

fn shortened(path: &str) -> String {
    match path.char_indices().nth(200) {
        Some((cut, _)) => format!("{}…", &path[..cut]),
        None => path.to_owned(),
    }
}

/// Returns why a name must not become a component of a path in an image.
fn unsafe_name(name: &str) -> Option<&'static str> {
    let bytes = name.as_bytes();
    match name {
        "" => Some("it is empty"),
        "." | ".." => Some("it points to another directory"),
        _ if name.contains(['/', '\\']) => Some("a separator of paths in it"),
        _ if name.contains('\0') => Some("a NUL character in it"),
        _ if name.len() > NAME_LIMIT => Some("longer than 255 bytes"),
        _ if name.starts_with(".wh.") => Some("it would be a whiteout"),
        _ if bytes[0].is_ascii_alphabetic() && bytes.get(1) == Some(&b':') => Some("it begins with a drive letter"),
        _ => None,
    }
}

/// Returns warnings about entries that are legal but questionable.
pub(crate) fn warnings(catalog: &Catalog) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut warn = |reason: &str, examples: Vec<String>| {
        let more = examples.len().saturating_sub(EXAMPLES);
        if let Some(shown) = examples.get(..examples.len().min(EXAMPLES)).filter(|shown| !shown.is_empty()) {
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            warnings.push(format!("{reason}: {}{more}", shown.join(", ")));
        }
    };
    let links = || {
        catalog.entries().filter_map(|CatalogEntry { path, kind }| match kind {
            CatalogEntryKind::Link { target } => Some((path, target)),
            CatalogEntryKind::Directory { .. } | CatalogEntryKind::File(_) => None,
        })
    };
    let (into_stage, outside): (Vec<_>, Vec<_>) = links()
        .filter(|(path, target)| leaves_environment(path, target))
        .partition(|(_, target)| target.starts_with(&catalog.path));
    let shown =
        |links: Vec<(&str, &str)>| links.into_iter().map(|(path, target)| format!("`{path}` -> `{target}`")).collect();
    warn("links into the recorded directory, which is not in the image", shown(into_stage));
    warn("links out of the environment", shown(outside));
    warn("names that differ only in case or in their Unicode form", twins(catalog));
    warnings
}

/// Returns whether the link leads out of the environment, judging by names alone.
fn leaves_environment(path: &str, target: &str) -> bool {
    if target.starts_with('/') {
        return true;
    }
    let mut depth = path.matches('/').count();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." if depth == 0 => return true,
            ".." => depth -= 1,
            _ => depth += 1,
        }
    }
    false
}

/// Returns pairs of paths that some file systems do not distinguish.
fn twins(catalog: &Catalog) -> Vec<String> {
    // Keyed by hash, since the folded paths themselves would take as much memory as the catalog.
    let (hasher, mut seen) = (RandomState::new(), HashTable::with_capacity(catalog.entries().len()));
    let path = |number: usize| catalog.numbered(number).path;
    let mut twins = Vec::new();
    for (number, CatalogEntry { path: own, .. }) in catalog.entries().enumerate() {
        let folded = folded(own);
        let is_twin = |first: &usize| self::folded(path(*first)) == folded;
        match seen.entry(hasher.hash_one(&folded), is_twin, |first| hasher.hash_one(self::folded(path(*first)))) {
            hash_table::Entry::Occupied(first) => twins.push(format!("`{}` and `{own}`", path(*first.get()))),
            hash_table::Entry::Vacant(place) => drop(place.insert(number)),
        }
    }
    twins
}

/// Returns the path as seen by file systems that ignore case and Unicode normalization forms.
fn folded(path: &str) -> String {
    match path.is_ascii() {
        true => path.to_ascii_lowercase(),
        false => path.nfc().flat_map(char::to_lowercase).collect(),
    }
}
