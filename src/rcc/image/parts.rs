//! An environment, divided: which of its layers each file is in.
//!
//! A layer follows from the files that are in it and from nothing else of the environment. What two of them need, the
//! directories and the library objects that several packages use, is in both: an empty `__init__.py` ties no package to
//! another. In the last layer is what belongs to no package.

use super::split::{Split, divide};
use crate::error::Result;
use crate::rcc::packages::Packages;
use crate::rcc::{Catalog, Entry, EntryKind, FileEntry};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::Read;

/// A divided environment.
#[derive(Debug)]
pub(super) struct Parts {
    /// What each part but the last is called.
    names: Vec<String>,
    /// By the number of the catalog's entry: its part. Directories with something in them have none: they are where they
    /// are needed.
    of_entries: Vec<Option<u8>>,
}

impl Parts {
    /// Divides `catalog`, whose files `open` opens.
    ///
    /// # Errors
    /// When a list of a package's files cannot be read, or its object is damaged.
    pub(super) fn of(
        catalog: &Catalog,
        split: Split,
        open: impl Fn(&str, &FileEntry<'_>) -> Result<Box<dyn Read + Send>> + Sync,
    ) -> Result<Parts> {
        let size = catalog.entries().fold(0_u64, |sum, entry| sum.saturating_add(size(&entry)));
        let most_layers = split.most_layers(size);
        if most_layers == 1 {
            return Ok(Parts { names: Vec::new(), of_entries: leaves(catalog, |_| 0) });
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
        Ok(Parts { names: divided.iter().map(|names| described(names)).collect(), of_entries })
    }

    /// What each part but the last is called.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// The number of the last part.
    pub(super) fn last(&self) -> usize {
        self.names.len()
    }

    /// The numbers of the entries in `part`, apart from directories that hold something.
    pub(super) fn entries(&self, part: usize) -> impl Iterator<Item = usize> {
        let entries = self.of_entries.iter().enumerate();
        entries.filter(move |(_, of)| of.map(usize::from) == Some(part)).map(|(number, _)| number)
    }

    /// The numbers of the library objects in `part`: those that its files need; in the last part also those that no file
    /// needs.
    pub(super) fn objects(&self, catalog: &Catalog, part: usize) -> Vec<u32> {
        let count = catalog.objects().len();
        let (mut own, mut of_others) = (vec![false; count], vec![false; count]);
        for (entry, of) in catalog.entries().zip(&self.of_entries) {
            let EntryKind::File(file) = entry.kind else { continue };
            let needed = if of.map(usize::from) == Some(part) { &mut own } else { &mut of_others };
            needed[file.object] = true;
        }
        let is_in = |number: &usize| own[*number] || (part == self.last() && !of_others[*number]);
        (0..count).filter(is_in).map(|number| number as u32).collect()
    }
}

/// The parts of all files, links and empty directories, by the number of their entry. There are few enough for a byte.
fn leaves(catalog: &Catalog, part: impl Fn(usize) -> usize) -> Vec<Option<u8>> {
    let parents: HashSet<&str> = catalog.entries().filter_map(|entry| parent(entry.path)).collect();
    let entries = catalog.entries().enumerate();
    entries.map(|(number, entry)| (!parents.contains(entry.path)).then(|| part(number) as u8)).collect()
}

/// The directories that `paths` need.
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

fn size(entry: &Entry<'_>) -> u64 {
    match &entry.kind {
        EntryKind::File(file) => file.size,
        EntryKind::Directory { .. } | EntryKind::Link { .. } => 0,
    }
}

fn described(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [first, others @ ..] => format!("{first} and {} more", others.len()),
    }
}
