//! Putting a tree together.

use super::{Attributes, Content, Entry, ImagePath, Kind, Rules};
use crate::error::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How whiteouts begin (layer.md, "Whiteouts"). Nothing else may.
const WHITEOUT_PREFIX: &[u8] = b".wh.";

/// More entries than this no tree may have.
const MOST_ENTRIES: usize = 10_000_000;

/// The content of a future layer: entries sorted by the bytes of their paths, each path once, parents before children.
#[derive(Debug, Clone)]
pub struct Tree {
    entries: Vec<Entry>,
}

impl Tree {
    /// The entries, in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entries, in order, to be changed and added to another tree.
    pub fn into_entries(self) -> Vec<Entry> {
        self.entries
    }

    /// The entries without the marks of deletion, and what those delete from the layers below.
    pub fn without_removals(&self) -> (Tree, Vec<ImagePath>) {
        let removed = |entry: &Entry| {
            let name = entry.path.name().strip_prefix(WHITEOUT_PREFIX)?;
            entry.path.parent().and_then(|parent| parent.join_name(name).ok())
        };
        let removals = self.entries.iter().filter_map(removed).collect();
        let kept = self.entries.iter().filter(|entry| removed(entry).is_none()).cloned().collect();
        (Tree { entries: kept }, removals)
    }

    /// The bytes of all files together.
    pub fn content_size(&self) -> u64 {
        self.entries.iter().map(Entry::size).sum()
    }
}

/// Collects entries from one or more sources.
#[derive(Debug)]
pub struct TreeBuilder {
    entries: Vec<Entry>,
    /// Which source each entry came from, as ranges of `entries`: the first index and the name.
    sources: Vec<(usize, String)>,
    /// For directories that nobody named.
    parents: Attributes,
    /// For those among them of which more is known.
    known: BTreeMap<ImagePath, Attributes>,
}

impl TreeBuilder {
    /// Starts with nothing. Directories that no source names, but that its entries need, get the owner root, the mode 0755
    /// and the time of `rules`.
    pub fn new(rules: &Rules) -> Self {
        let parents = Attributes { mode: 0o755, uid: 0, gid: 0, mtime: rules.mtime.seconds(), xattrs: None };
        TreeBuilder { entries: Vec::new(), sources: Vec::new(), parents, known: BTreeMap::new() }
    }

    /// Says what the directories in `known` are like, wherever an entry needs one that no source names.
    #[must_use]
    pub fn with_known_directories(mut self, known: BTreeMap<ImagePath, Attributes>) -> Self {
        self.known = known;
        self
    }

    /// Declares that what is added from now on comes from `name`, for messages.
    pub fn begin_source(&mut self, name: impl Into<String>) {
        self.sources.push((self.entries.len(), name.into()));
    }

    /// Adds an entry.
    ///
    /// # Errors
    /// When its name would delete a file (whiteouts are only made by [`TreeBuilder::remove`]), it would be the root without
    /// being a directory, or there are too many.
    pub fn add(&mut self, entry: Entry) -> Result<()> {
        if entry.path.name().starts_with(WHITEOUT_PREFIX) {
            return Err(Error::invalid(
                entry.path.to_string(),
                "would be a whiteout: it would delete a file instead of adding one",
            ));
        }
        if entry.path.is_root() && !matches!(entry.kind, Kind::Directory) {
            let source = self.source_of(self.entries.len());
            return Err(Error::invalid("/", format!("is a directory in every image, and no directory in {source}")));
        }
        self.push(entry)
    }

    /// Marks `path` of the layers below as deleted.
    ///
    /// # Errors
    /// When `path` is the root.
    pub fn remove(&mut self, path: &ImagePath) -> Result<()> {
        let Some(parent) = path.parent() else {
            return Err(Error::usage("/", "the root cannot be removed"));
        };
        let name = [WHITEOUT_PREFIX, path.name()].concat();
        let attributes = Attributes { mode: 0o644, ..self.parents.clone() };
        let kind = Kind::File { size: 0, content: Content::Bytes(Arc::from(&b""[..])) };
        self.push(Entry { path: parent.join_name(&name)?, kind, attributes })
    }

    fn push(&mut self, entry: Entry) -> Result<()> {
        if self.entries.len() >= MOST_ENTRIES {
            return Err(Error::invalid("layer", format!("more than {MOST_ENTRIES} entries")));
        }
        self.entries.push(entry);
        Ok(())
    }

    /// Sorts the entries, adds the directories that they need, and checks that they fit together.
    ///
    /// # Errors
    /// When two sources give the same path, or a file is where another entry needs a directory.
    pub fn finish(mut self) -> Result<Tree> {
        // The root is in every image already, and a header for it would only change its owner.
        let mut order: Vec<usize> = (0..self.entries.len()).filter(|&at| !self.entries[at].path.is_root()).collect();
        order.sort_by(|&a, &b| self.entries[a].path.cmp(&self.entries[b].path).then(a.cmp(&b)));
        self.check_duplicates(&mut order)?;
        let mut directories: BTreeSet<&ImagePath> = BTreeSet::new();
        let mut needed: BTreeSet<ImagePath> = BTreeSet::new();
        let mut seen = None;
        for &at in &order {
            let entry = &self.entries[at];
            if matches!(entry.kind, Kind::Directory) {
                directories.insert(&entry.path);
            }
            // Most entries are in the directory of the one before.
            let mut parent = entry.path.parent();
            if parent == seen {
                continue;
            }
            seen.clone_from(&parent);
            while let Some(path) =
                parent.filter(|path| !path.is_root() && !directories.contains(path) && !needed.contains(path))
            {
                parent = path.parent();
                needed.insert(path);
            }
        }
        for path in &needed {
            if let Ok(place) = order.binary_search_by(|&at| self.entries[at].path.cmp(path)) {
                let below = self.entries.iter().find(|entry| entry.path.parent().as_ref() == Some(path));
                let below = below.map(|entry| entry.path.to_string()).unwrap_or_default();
                let source = self.source_of(order[place]);
                return Err(Error::invalid(
                    path.to_string(),
                    format!("is no directory in {source}, and {below} needs one"),
                ));
            }
        }
        let mut slots: Vec<Option<Entry>> = std::mem::take(&mut self.entries).into_iter().map(Some).collect();
        let mut entries: Vec<Entry> = Vec::with_capacity(order.len() + needed.len());
        entries.extend(order.into_iter().filter_map(|at| slots[at].take()));
        drop(slots);
        let implied = needed.into_iter().map(|path| {
            let attributes = self.known.get(&path).unwrap_or(&self.parents).clone();
            Entry { path, kind: Kind::Directory, attributes }
        });
        entries.extend(implied);
        // In place: no path is there twice.
        entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(Tree { entries })
    }

    /// Two directories of one path are one; anything else twice is an error.
    fn check_duplicates(&self, order: &mut Vec<usize>) -> Result<()> {
        let mut twice = None;
        order.dedup_by(|later, earlier| {
            let (a, b) = (&self.entries[*earlier], &self.entries[*later]);
            if a.path != b.path {
                return false;
            }
            let both_directories = matches!((&a.kind, &b.kind), (Kind::Directory, Kind::Directory));
            if !both_directories {
                twice.get_or_insert((*earlier, *later));
            }
            both_directories
        });
        match twice {
            None => Ok(()),
            Some((earlier, later)) => {
                let (first, second) = (self.source_of(earlier), self.source_of(later));
                Err(Error::invalid(self.entries[later].path.to_string(), format!("is in {first} and in {second}")))
            }
        }
    }

    fn source_of(&self, at: usize) -> &str {
        let source = self.sources.iter().rev().find(|(first, _)| *first <= at);
        source.map_or("the layer", |(_, name)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> ImagePath {
        ImagePath::new(text.as_bytes()).unwrap()
    }

    fn file(at: &str) -> Entry {
        let content = Content::Bytes(Arc::from(&b""[..]));
        Entry { path: path(at), kind: Kind::File { size: 0, content }, attributes: Rules::default().file(0o644) }
    }

    fn directory(at: &str) -> Entry {
        Entry { path: path(at), kind: Kind::Directory, attributes: Rules::default().directory(0o755) }
    }

    fn build(sources: &[(&str, Vec<Entry>)]) -> Result<Vec<String>> {
        let mut builder = TreeBuilder::new(&Rules::default());
        for (name, entries) in sources {
            builder.begin_source(*name);
            for entry in entries {
                builder.add(entry.clone())?;
            }
        }
        Ok(builder.finish()?.entries().iter().map(|entry| entry.path.to_string()).collect())
    }

    #[test]
    fn entries_are_sorted_by_bytes_and_parents_come_first() {
        let entries = vec![file("a/c"), file("a-b"), file("z/y/x"), file("B")];
        assert_eq!(build(&[("s", entries)]).unwrap(), ["/B", "/a", "/a-b", "/a/c", "/z", "/z/y", "/z/y/x"]);
    }

    #[test]
    fn the_same_path_twice_names_both_sources() {
        let error = build(&[("one", vec![file("a/b")]), ("two", vec![file("a/b")])]).unwrap_err();
        assert_eq!(error.to_string(), "/a/b: is in one and in two");
        let merged = build(&[("one", vec![directory("a"), file("a/b")]), ("two", vec![directory("a"), file("a/c")])]);
        assert_eq!(merged.unwrap(), ["/a", "/a/b", "/a/c"]);
    }

    #[test]
    fn a_file_cannot_be_a_parent() {
        let error = build(&[("one", vec![file("a")]), ("two", vec![file("a/b")])]).unwrap_err();
        assert_eq!(error.to_string(), "/a: is no directory in one, and /a/b needs one");
        assert!(build(&[("one", vec![file("a"), directory("a")])]).is_err());
    }

    #[test]
    fn whiteouts_are_made_on_purpose_only() {
        assert!(build(&[("s", vec![file("d/.wh.x")])]).unwrap_err().to_string().contains("whiteout"));
        let mut builder = TreeBuilder::new(&Rules::default());
        builder.remove(&path("/etc/motd")).unwrap();
        let tree = builder.finish().unwrap();
        assert_eq!(tree.entries()[1].path, path("etc/.wh.motd"));
        assert!(TreeBuilder::new(&Rules::default()).remove(&ImagePath::root()).is_err());
    }
}
