//! The assignment of an environment's files to its layers.
//!
//! A layer is determined by its own files and nothing else in the environment. Directories and library objects that
//! files of several layers need are in each of them: so an empty `__init__.py` does not link one package to another.
//! The last layer holds the files that belong to no package.

use super::split::divide;
use crate::common::error::Result;
use crate::layers::split::Split;
use crate::rcc::packages::Packages;
use crate::rcc::{Catalog, CatalogEntry, CatalogEntryKind, FileEntry};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::Read;

/// An environment that is split into layers.
#[derive(Debug)]
pub(super) struct SplitEnvironment {
    /// The names of all layers but the last.
    names: Vec<String>,
    /// The layer of each entry of the catalog, by number. `None` for directories that are not empty: each layer holds
    /// those that it needs.
    of_entries: Vec<Option<u8>>,
}

impl SplitEnvironment {
    /// Splits `catalog`, whose files `open` opens.
    ///
    /// # Errors
    /// Returns an error if a list of a package's files cannot be read, or its object is damaged.
    pub(super) fn of(
        catalog: &Catalog,
        split: Split,
        open: impl Fn(&str, &FileEntry<'_>) -> Result<Box<dyn Read + Send>> + Sync,
    ) -> Result<SplitEnvironment> {
        let size = catalog.entries().fold(0_u64, |sum, entry| sum.saturating_add(size(&entry)));
        let most_layers = split.most_layers(size);
        if most_layers == 1 {
            return Ok(SplitEnvironment { names: Vec::new(), of_entries: leaves(catalog, |_| 0) });
        }
        let packages = Packages::find(catalog, open)?;
        let mut sizes: BTreeMap<&str, u64> = BTreeMap::new();
        for (number, entry) in catalog.entries().enumerate() {
            if let Some(package) = packages.owner(number) {
                let sum = sizes.entry(package).or_default();
                *sum = sum.saturating_add(self::size(&entry));
            }
        }
        let divided = divide(&sizes, most_layers);
        let numbers: BTreeMap<&str, usize> =
            divided.iter().enumerate().flat_map(|(part, names)| names.iter().map(move |name| (*name, part))).collect();
        let part = |number| packages.owner(number).and_then(|package| numbers.get(package).copied());
        let of_entries = leaves(catalog, |number| part(number).unwrap_or(divided.len()));
        Ok(SplitEnvironment { names: divided.iter().map(|names| described(names)).collect(), of_entries })
    }

    /// Returns the names of all layers but the last.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// Returns the number of the last layer.
    pub(super) fn last(&self) -> usize {
        self.names.len()
    }

    /// Returns the numbers of the entries in a layer, except directories that are not empty.
    pub(super) fn entries(&self, part: usize) -> impl Iterator<Item = usize> {
        let entries = self.of_entries.iter().enumerate();
        entries.filter(move |(_, of)| of.map(usize::from) == Some(part)).map(|(number, _)| number)
    }

    /// Returns the numbers of the library objects in a layer: those that its files need.
    ///
    /// The last layer also holds the objects that no file needs.
    pub(super) fn objects(&self, catalog: &Catalog, part: usize) -> Vec<u32> {
        let count = catalog.objects().len();
        let (mut own, mut of_others) = (vec![false; count], vec![false; count]);
        for (entry, of) in catalog.entries().zip(&self.of_entries) {
            let CatalogEntryKind::File(file) = entry.kind else { continue };
            let needed = if of.map(usize::from) == Some(part) { &mut own } else { &mut of_others };
            needed[file.object] = true;
        }
        let is_in = |number: &usize| own[*number] || (part == self.last() && !of_others[*number]);
        (0..count).filter(is_in).map(|number| number as u32).collect()
    }
}

/// Returns the layers of all files, links and empty directories, by the number of their entry.
///
/// Layers are few enough for a byte.
fn leaves(catalog: &Catalog, part: impl Fn(usize) -> usize) -> Vec<Option<u8>> {
    let parents: HashSet<&str> = catalog.entries().filter_map(|entry| parent(entry.path)).collect();
    let entries = catalog.entries().enumerate();
    entries.map(|(number, entry)| (!parents.contains(entry.path)).then(|| part(number) as u8)).collect()
}

/// Returns the parent directories of `paths`.
pub(super) fn directories<'a>(paths: impl Iterator<Item = &'a str>) -> BTreeSet<&'a str> {
    let mut directories = BTreeSet::new();
    for path in paths {
        let mut above = parent(path);
        while let Some(directory) = above.filter(|directory| directories.insert(*directory)) {
            above = parent(directory);
        }
    }
    directories
}

fn parent(path: &str) -> Option<&str> {
    path.rsplit_once('/').map(|(parent, _)| parent)
}

fn size(entry: &CatalogEntry<'_>) -> u64 {
    match &entry.kind {
        CatalogEntryKind::File(file) => file.size,
        CatalogEntryKind::Directory { .. } | CatalogEntryKind::Link { .. } => 0,
    }
}

fn described(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [first, others @ ..] => format!("{first} and {} more", others.len()),
    }
}
