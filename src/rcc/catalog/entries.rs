//! From the tree of a catalog to the sorted list of what is restored.

use super::document::{Directory, File};
use super::mode::{self, Owner};
use super::{Catalog, CatalogLimits, Entry, EntryKind, FileEntry, NamedObject};
use crate::error::{Error, Result};
use crate::rcc::ObjectDigest;
use std::collections::{BTreeMap, HashMap};
use unicode_normalization::UnicodeNormalization;

/// What Linux allows for a name and for a path.
const NAME_LIMIT: usize = 255;
const PATH_LIMIT: usize = 4096;

/// How many examples a warning names.
const EXAMPLES: usize = 3;

/// The entries and objects of a catalog.
pub(super) struct Flat {
    pub(super) entries: Vec<Entry>,
    pub(super) objects: Vec<NamedObject>,
}

/// Checks `tree` and lists what RCC would restore from it.
///
/// # Errors
/// When a name, mode, digest, size, link or rewrite is not what RCC could have recorded, or must not get into an image.
pub(super) fn flatten(tree: Directory, identity: u64, limits: &CatalogLimits, object: &str) -> Result<Flat> {
    let mut flattening = Flattening { identity, object, entries: Vec::new(), sizes: BTreeMap::new() };
    if tree.other_name.as_deref().is_some_and(|name| !name.is_empty()) || tree.link.is_some() || tree.is_shadow {
        return Err(flattening.wrong("", "the root of `tree` must be a directory without a name"));
    }
    // A stack of our own: the depth is limited, but no limit has to know how large a frame is.
    let mut pending = Vec::with_capacity(limits.depth);
    pending.push((String::new(), tree, Fate::Restored));
    while let Some((path, directory, fate)) = pending.pop() {
        flattening.directory(&path, directory, fate, &mut pending)?;
    }
    let Flattening { mut entries, sizes, .. } = flattening;
    entries.sort_unstable_by(|one, other| one.path.cmp(&other.path));
    let objects = sizes.into_iter().map(|(digest, size)| NamedObject { digest, size }).collect();
    Ok(Flat { entries, objects })
}

/// Whether what lies in a directory is restored, or was only seen through a link.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Restored,
    BehindLink,
}

struct Flattening<'a> {
    /// The length of what is rewritten.
    identity: u64,
    object: &'a str,
    entries: Vec<Entry>,
    sizes: BTreeMap<ObjectDigest, u64>,
}

type Pending = Vec<(String, Directory, Fate)>;

impl Flattening<'_> {
    fn wrong(&self, path: &str, reason: impl Into<String>) -> Error {
        Error::invalid(format!("{}: `{path}`", self.object), reason)
    }

    fn directory(&mut self, path: &str, directory: Directory, fate: Fate, pending: &mut Pending) -> Result<()> {
        let Directory { directories, files, .. } = directory;
        self.check_names(path, &directories, &files)?;
        for (name, file) in files {
            self.file(joined(path, &name), file, fate)?;
        }
        for (name, directory) in directories {
            let path = joined(path, &name);
            if path.len() > PATH_LIMIT {
                return Err(self.wrong(&shortened(&path), format!("a path of more than {PATH_LIMIT} bytes")));
            }
            let mode = mode::unix(directory.mode, Owner::Directory)
                .ok_or_else(|| self.wrong(&path, format!("mode {} is not that of a directory", directory.mode)))?;
            let fate_below = match (&directory.link, directory.is_shadow, fate) {
                (Some(target), _, _) => {
                    self.link(&path, target, fate)?;
                    Fate::BehindLink
                }
                (None, true, Fate::Restored) => {
                    return Err(self.wrong(&path, "a shadow that lies behind no link"));
                }
                (None, _, Fate::BehindLink) => Fate::BehindLink,
                (None, false, Fate::Restored) => {
                    self.entries.push(Entry { path: path.clone(), kind: EntryKind::Directory { mode } });
                    Fate::Restored
                }
            };
            pending.push((path, directory, fate_below));
        }
        Ok(())
    }

    fn file(&mut self, path: String, file: File, fate: Fate) -> Result<()> {
        let File { link, mode, size, digest, rewrites, .. } = file;
        if path.len() > PATH_LIMIT {
            return Err(self.wrong(&shortened(&path), format!("a path of more than {PATH_LIMIT} bytes")));
        }
        // RCC asks for the objects of links and shadows too before it restores anything.
        let known = *self.sizes.entry(digest).or_insert(size);
        if known != size {
            return Err(self.wrong(&path, format!("its object {digest} has {size} bytes here and {known} elsewhere")));
        }
        if let Some(first) = self.sizes.keys().next()
            && std::mem::discriminant(first) != std::mem::discriminant(&digest)
        {
            return Err(self.wrong(&path, "digests of two kinds in one catalog"));
        }
        if let Some(target) = link {
            return self.link(&path, &target, fate);
        }
        let unix = mode::unix(mode, Owner::File)
            .ok_or_else(|| self.wrong(&path, format!("mode {mode} is not that of a regular file")))?;
        let rewrites = self.rewrites(&path, rewrites, size)?;
        if fate == Fate::Restored {
            let kind = EntryKind::File(FileEntry { mode: unix, size, digest, rewrites });
            self.entries.push(Entry { path, kind });
        }
        Ok(())
    }

    fn link(&mut self, path: &str, target: &str, fate: Fate) -> Result<()> {
        if target.contains('\0') {
            return Err(self.wrong(path, "a NUL character in the target of a link"));
        }
        if target.len() > PATH_LIMIT {
            return Err(self.wrong(path, format!("a link target of more than {PATH_LIMIT} bytes")));
        }
        if fate == Fate::Restored {
            self.entries.push(Entry { path: path.to_owned(), kind: EntryKind::Link { target: target.to_owned() } });
        }
        Ok(())
    }

    /// Sorts offsets and drops repetitions: RCC records one twice that stands on the border of two of its chunks.
    fn rewrites(&self, path: &str, mut offsets: Vec<u64>, size: u64) -> Result<Box<[u64]>> {
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
        Ok(offsets.into_boxed_slice())
    }

    fn check_names(&self, path: &str, directories: &[(String, Directory)], files: &[(String, File)]) -> Result<()> {
        let mut seen = HashMap::new();
        let directories = directories.iter().map(|(key, directory)| (key, &directory.other_name));
        let files = files.iter().map(|(key, file)| (key, &file.other_name));
        for (key, other_name) in directories.chain(files) {
            let path = || shortened(&joined(path, key));
            if let Some(reason) = unsafe_name(key) {
                return Err(self.wrong(&path(), format!("unsafe name: {reason}")));
            }
            if let Some(name) = other_name {
                return Err(self.wrong(&path(), format!("the entry `{key}` calls itself `{name}`")));
            }
            if seen.insert(key.as_str(), ()).is_some() {
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

/// Why a name must not become part of a path in an image.
fn unsafe_name(name: &str) -> Option<&'static str> {
    let bytes = name.as_bytes();
    match name {
        "" => Some("it is empty"),
        "." | ".." => Some("it leads to another directory"),
        _ if name.contains(['/', '\\']) => Some("a separator of paths in it"),
        _ if name.contains('\0') => Some("a NUL character in it"),
        _ if name.len() > NAME_LIMIT => Some("longer than 255 bytes"),
        _ if name.starts_with(".wh.") => Some("it would be a whiteout"),
        _ if bytes[0].is_ascii_alphabetic() && bytes.get(1) == Some(&b':') => Some("it begins with a drive letter"),
        _ => None,
    }
}

/// What is legal and still worth a look.
pub(super) fn warnings(catalog: &Catalog) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut warn = |reason: &str, examples: Vec<String>| {
        let more = examples.len().saturating_sub(EXAMPLES);
        if let Some(shown) = examples.get(..examples.len().min(EXAMPLES)).filter(|shown| !shown.is_empty()) {
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            warnings.push(format!("{reason}: {}{more}", shown.join(", ")));
        }
    };
    let links = || {
        catalog.entries.iter().filter_map(|entry| match &entry.kind {
            EntryKind::Link { target } => Some((entry.path.as_str(), target.as_str())),
            _ => None,
        })
    };
    let (into_stage, outside): (Vec<_>, Vec<_>) = links()
        .filter(|(path, target)| leaves_environment(path, target))
        .partition(|(_, target)| target.starts_with(&catalog.path));
    let shown =
        |links: Vec<(&str, &str)>| links.into_iter().map(|(path, target)| format!("`{path}` -> `{target}`")).collect();
    warn("links into the directory that was recorded, which is no more", shown(into_stage));
    warn("links out of the environment", shown(outside));
    warn("names that differ only in case or in their Unicode form", twins(&catalog.entries));
    warnings
}

/// Whether following the link leads out of the environment, as far as names tell.
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

/// Pairs of paths that some file systems would take for one.
fn twins(entries: &[Entry]) -> Vec<String> {
    let mut seen: HashMap<String, &str> = HashMap::with_capacity(entries.len());
    let mut twins = Vec::new();
    for entry in entries {
        let folded = if entry.path.is_ascii() {
            entry.path.to_ascii_lowercase()
        } else {
            entry.path.nfc().flat_map(char::to_lowercase).collect()
        };
        match seen.get(&folded) {
            Some(first) => twins.push(format!("`{first}` and `{}`", entry.path)),
            None => {
                seen.insert(folded, &entry.path);
            }
        }
    }
    twins
}
