//! The mapping from the files of an environment to the packages that installed them.
//!
//! ```text
//! conda-meta/NAME-VERSION-BUILD.json      what conda installed, with a list of its files
//! …/NAME-VERSION.dist-info/RECORD         what pip installed, with a list of its files
//! ```
//!
//! Both are written by other tools and untrusted: lists that are too large or malformed, and paths that lead out of the
//! environment, are ignored without an error; the files then belong to no package.

mod conda;
mod record;

use super::{Catalog, CatalogEntry, CatalogEntryKind, FileEntry};
use crate::common::bounded_read;
use crate::common::error::Result;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::io::Read;

/// The size limit of a list, in bytes. Those of the largest packages take about 10 MiB.
const LARGEST_LIST: u64 = 32 << 20;
/// The limit for the total size of all lists, in bytes.
const MOST_LISTED: u64 = 256 << 20;
/// The maximum length of a package name, in bytes.
const LONGEST_NAME: usize = 100;

/// The owning packages of an environment's files.
#[derive(Debug)]
pub(crate) struct Packages {
    /// Sorted.
    names: Vec<String>,
    /// Indexes into `names`, by the number of the catalog's entry.
    owners: Vec<Option<usize>>,
}

/// A list of files in an environment.
struct List<'a> {
    tool: Tool<'a>,
    /// The normalized name of the package, so that both tools mean the same one.
    package: String,
    /// The number of its entry.
    entry: usize,
    file: FileEntry<'a>,
}

/// The tool that wrote a list. A file that both claim belongs to conda's package.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Tool<'a> {
    Conda,
    /// With the directory of the list.
    Pip(&'a str),
}

impl Packages {
    /// Reads the lists of `catalog`, whose files `open` opens.
    ///
    /// # Errors
    /// Returns an error if a list cannot be read, or its object is damaged.
    pub(crate) fn find(
        catalog: &Catalog,
        open: impl Fn(&str, &FileEntry<'_>) -> Result<Box<dyn Read + Send>> + Sync,
    ) -> Result<Packages> {
        let lists = lists(catalog);
        let claims: Vec<Vec<usize>> = lists
            .par_iter()
            .map(|list| {
                let path = catalog.numbered(list.entry).path;
                let bytes = bounded_read::read(open(path, &list.file)?, LARGEST_LIST, path)?;
                Ok(list.claims(catalog, &bytes))
            })
            .collect::<Result<_>>()?;
        let mut owners: Vec<Option<usize>> = vec![None; catalog.entries().len()];
        for (number, (list, claims)) in lists.iter().zip(claims).enumerate() {
            // A pip list that a conda package installed belongs to that package.
            let package = owners[list.entry].unwrap_or(number);
            for entry in claims {
                owners[entry].get_or_insert(package);
            }
        }
        give_compiled_to_sources(catalog, &mut owners);
        Ok(named(&lists, owners))
    }

    /// Returns the package of the catalog's entry with this number, if it has one.
    pub(crate) fn owner(&self, entry: usize) -> Option<&str> {
        self.owners.get(entry).copied().flatten().map(|name| self.names[name].as_str())
    }
}

/// Returns the lists within the size limits, those of conda first, then by name.
fn lists(catalog: &Catalog) -> Vec<List<'_>> {
    let mut lists: Vec<List<'_>> = Vec::new();
    for (entry, found) in catalog.entries().enumerate() {
        let CatalogEntryKind::File(file) = found.kind else { continue };
        let Some((tool, name)) = list_of(found.path) else { continue };
        if let Some(package) = normal_name(name).filter(|_| file.size <= LARGEST_LIST) {
            lists.push(List { tool, package, entry, file });
        }
    }
    let is_pips = |list: &List<'_>| list.tool != Tool::Conda;
    lists.sort_by(|a, b| (is_pips(a), &a.package, a.entry).cmp(&(is_pips(b), &b.package, b.entry)));
    let mut left = MOST_LISTED;
    lists.retain(|list| match left.checked_sub(list.file.size) {
        Some(rest) => {
            left = rest;
            true
        }
        None => false,
    });
    lists
}

/// Returns the tool and the package name, if the file at `path` is a list.
fn list_of(path: &str) -> Option<(Tool<'_>, &str)> {
    if let Some(name) = path.strip_prefix("conda-meta/") {
        let stem = name.strip_suffix(".json").filter(|stem| !stem.contains('/'))?;
        return Some((Tool::Conda, stem.rsplitn(3, '-').nth(2).unwrap_or(stem)));
    }
    let directory = path.strip_suffix("/RECORD")?;
    let stem = directory.rsplit('/').next()?.strip_suffix(".dist-info")?;
    Some((Tool::Pip(directory), stem.rsplit_once('-').map_or(stem, |(name, _)| name)))
}

/// Normalizes a package name. Returns `None` if it is invalid.
///
/// The rules are those of the specification of Python's package names ("Names and normalization"), which fit conda's,
/// too.
fn normal_name(name: &str) -> Option<String> {
    let is_separator = |c: char| matches!(c, '-' | '_' | '.');
    let is_name = name.len() <= LONGEST_NAME && name.chars().all(|c| c.is_ascii_alphanumeric() || is_separator(c));
    let parts = name.split(is_separator).filter(|part| !part.is_empty());
    let normal = parts.collect::<Vec<_>>().join("-").to_ascii_lowercase();
    (is_name && !normal.is_empty()).then_some(normal)
}

impl List<'_> {
    /// Returns the numbers of the files and links that the list claims, including its own.
    fn claims(&self, catalog: &Catalog, bytes: &[u8]) -> Vec<usize> {
        let mut claims = Vec::new();
        let claim = |path: &str| {
            let found = catalog.position(path).ok();
            claims.extend(found.filter(|&at| !is_directory(&catalog.numbered(at))));
        };
        let is_read = match self.tool {
            Tool::Conda => conda::each_file(bytes, claim),
            Tool::Pip(directory) => record::each_file(bytes, directory, &stage(catalog), claim),
        };
        if is_read.is_none() {
            return Vec::new();
        }
        claims.push(self.entry);
        if let Tool::Pip(directory) = self.tool {
            claims.extend(below(catalog, directory));
        }
        claims.sort_unstable();
        claims.dedup();
        claims
    }
}

/// Returns the directory in which the environment was recorded, with a slash at its end.
fn stage(catalog: &Catalog) -> String {
    format!("{}/{}/", catalog.base(), catalog.identity())
}

fn is_directory(entry: &CatalogEntry<'_>) -> bool {
    matches!(entry.kind, CatalogEntryKind::Directory { .. })
}

/// Returns the numbers of the files and links below a directory.
fn below(catalog: &Catalog, directory: &str) -> impl Iterator<Item = usize> {
    let prefix = format!("{directory}/");
    let (Ok(first) | Err(first)) = catalog.position(&prefix);
    let entries = (first..catalog.entries().len()).map(|number| (number, catalog.numbered(number)));
    let inside = entries.take_while(move |(_, entry)| entry.path.starts_with(&prefix));
    inside.filter(|(_, entry)| !is_directory(entry)).map(|(number, _)| number)
}

/// Assigns compiled modules that no list claims to the packages of their sources.
fn give_compiled_to_sources(catalog: &Catalog, owners: &mut [Option<usize>]) {
    for (entry, found) in catalog.entries().enumerate() {
        if owners[entry].is_none() && found.path.ends_with(".pyc") {
            let source = source_of(found.path).and_then(|source| catalog.position(&source).ok());
            owners[entry] = source.and_then(|source| owners[source]);
        }
    }
}

/// Returns `a/b.py` for `a/__pycache__/b.cpython-311.pyc` (PEP 3147) and for `a/b.pyc`.
fn source_of(compiled: &str) -> Option<String> {
    let (directory, name) = compiled.rsplit_once('/').unwrap_or(("", compiled));
    let module = name.split('.').next()?;
    let directory = directory.strip_suffix("__pycache__").unwrap_or(directory).trim_end_matches('/');
    Some(if directory.is_empty() { format!("{module}.py") } else { format!("{directory}/{module}.py") })
}

/// Replaces the numbers of lists with those of package names. A package may have several lists.
fn named(lists: &[List<'_>], owners: Vec<Option<usize>>) -> Packages {
    let mut names: BTreeMap<&str, usize> = lists.iter().map(|list| (list.package.as_str(), 0)).collect();
    for (number, place) in names.values_mut().enumerate() {
        *place = number;
    }
    let number = |list: usize| names.get(lists[list].package.as_str()).copied();
    let owners = owners.into_iter().map(|owner| owner.and_then(number)).collect();
    Packages { names: names.keys().map(|name| (*name).to_owned()).collect(), owners }
}

#[cfg(test)]
mod tests;
