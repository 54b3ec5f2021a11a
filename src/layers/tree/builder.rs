//! Builds a tree from entries.

use super::nodes::{DESTINATION, IMPLIED, KNOWN, NodeKind, Nodes, ROOT, TreeNode, count};
use super::sorted::WHITEOUT_PREFIX;
use super::{Attributes, Cause, Content, Entry, Excluded, Kind, PathKind, Rules, Tree};
use crate::common::error::{Error, Result};
use crate::common::limits::Limit;
use crate::common::root::slashed;
use crate::spec::ImagePath;
use hashbrown::HashTable;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::Arc;

/// Collects entries from one or more sources.
#[derive(Debug)]
pub struct TreeBuilder {
    nodes: Nodes,
    /// Finds a node by the number of its parent directory and its name.
    places: HashTable<u32>,
    hasher: RandomState,
    /// Finds the number of a set of attributes. Few entries have attributes of their own.
    attributes: BTreeMap<Attributes, u32>,
    /// The directory of the previous entry. Most entries are in the same directory as the one before.
    recent: (ImagePath, u32),
    sources: Vec<String>,
    excluded: Vec<Excluded>,
    /// The attributes of directories that no source names.
    parents: Attributes,
    /// Attributes for some of those directories, by path.
    known: BTreeMap<ImagePath, Attributes>,
}

impl TreeBuilder {
    /// Creates an empty builder.
    ///
    /// Directories that no source names, but that its entries need, get the owner root, the mode 0755 and the time of
    /// `rules`.
    pub fn new(rules: &Rules) -> Self {
        let parents = Attributes { mode: 0o755, uid: 0, gid: 0, mtime: rules.mtime.seconds(), xattrs: None };
        TreeBuilder {
            nodes: Nodes::new(parents.clone()),
            places: HashTable::new(),
            hasher: RandomState::new(),
            attributes: [(parents.clone(), 0)].into(),
            recent: (ImagePath::root(), ROOT),
            sources: vec!["the layer".to_owned()],
            excluded: Vec::new(),
            parents,
            known: BTreeMap::new(),
        }
    }

    /// Sets the attributes of the directories in `known`. They apply if an entry needs such a directory and no source
    /// names it.
    #[must_use]
    pub fn with_known_directories(mut self, known: BTreeMap<ImagePath, Attributes>) -> Self {
        self.known = known;
        self
    }

    /// Sets the name of the source of all following entries, for messages.
    pub fn begin_source(&mut self, name: impl Into<String>) {
        self.sources.push(name.into());
    }

    /// Records that `path`, relative to the source, is excluded from the image.
    pub(super) fn exclude(&mut self, path: &Path, kind: PathKind, cause: Cause) {
        let slash = if kind == PathKind::Directory { "/" } else { "" };
        let path = format!("{}{slash}", slashed(path).display());
        let source = Arc::from(self.source(self.current_source()));
        self.excluded.push(Excluded { source, cause, path });
    }

    /// Returns whether `rules` exclude a path of an archive, which is then recorded. An excluded directory is recorded once, without what
    /// is in it.
    pub(super) fn leaves_out(&mut self, path: &Path, kind: PathKind, rules: &Rules) -> bool {
        let Some(cause) = rules.ignore.excludes(path, kind) else { return false };
        if path.parent().and_then(|above| rules.ignore.excludes(above, PathKind::Directory)).is_none() {
            self.exclude(path, kind, cause);
        }
        true
    }

    /// Takes the recorded exclusions, sorted by source, cause and path.
    pub fn take_excluded(&mut self) -> Vec<Excluded> {
        let mut excluded = std::mem::take(&mut self.excluded);
        excluded.sort_unstable();
        excluded
    }

    /// Adds an entry. If a directory is added twice, the first one counts.
    ///
    /// # Errors
    /// Returns an error if its name is that of a whiteout (only [`TreeBuilder::remove`] makes those), its path is the
    /// root and it is no directory, its path is already taken, it needs a directory where a file is, it is a file where
    /// another entry needs a directory, or there are too many entries.
    pub fn add(&mut self, entry: Entry) -> Result<()> {
        let Entry { path, kind, attributes } = entry;
        if let Some(parent) = path.parent() {
            return self.add_to(&parent, path.name(), kind, attributes);
        }
        // The root is in every image already, and a header for it would only change its owner.
        match kind {
            Kind::Directory => Ok(()),
            _ => {
                let source = self.source(self.current_source());
                Err(Error::invalid("/", format!("must be a directory, and is not one in {source}")))
            }
        }
    }

    /// Adds the directory that a source is copied into.
    ///
    /// If a layer below has the directory, it keeps its attributes from there. Otherwise it gets these `attributes`.
    ///
    /// # Errors
    /// The same as [`TreeBuilder::add`].
    pub fn add_destination(&mut self, path: &ImagePath, attributes: Attributes) -> Result<()> {
        let place = self.place(path)?;
        let TreeNode { what, source, .. } = *self.nodes.node(place);
        if what != NodeKind::Directory {
            let (first, second) = (self.source(source), self.source(self.current_source()));
            return Err(Error::invalid(path.to_string(), format!("is in both {first} and {second}")));
        }
        if place != ROOT && source == IMPLIED {
            let attributes = self.number_of(attributes);
            let node = &mut self.nodes.list[place as usize];
            (node.attributes, node.source) = (attributes, DESTINATION);
        }
        Ok(())
    }

    /// Adds an entry of `directory`, as [`TreeBuilder::add`]. Its name must be valid in a path.
    pub(super) fn add_to(
        &mut self,
        directory: &ImagePath,
        name: &[u8],
        kind: Kind,
        attributes: Attributes,
    ) -> Result<()> {
        if name.starts_with(WHITEOUT_PREFIX) {
            return Err(Error::invalid(
                directory.join_name(name)?.to_string(),
                "would be a whiteout: it would delete a file instead of adding one",
            ));
        }
        self.put(directory, name, kind, attributes)
    }

    /// Reserves memory for `entries` more entries, whose own names take `names` bytes in all. This avoids reallocations.
    pub fn reserve(&mut self, entries: usize, names: usize) {
        let TreeBuilder { nodes, places, hasher, .. } = self;
        nodes.reserve(entries, names);
        places.reserve(entries, |&other| hasher.hash_one((nodes.node(other).parent, nodes.name(other))));
    }

    /// Adds a whiteout, which deletes `path` from the layers below.
    ///
    /// # Errors
    /// Returns an error if `path` is the root, or for the reasons of [`TreeBuilder::add`].
    pub fn remove(&mut self, path: &ImagePath) -> Result<()> {
        let Some(parent) = path.parent() else {
            return Err(Error::usage("/", "the root cannot be removed"));
        };
        let name = [WHITEOUT_PREFIX, path.name()].concat();
        let attributes = Attributes { mode: 0o644, ..self.parents.clone() };
        let kind = Kind::File { size: 0, content: Content::Bytes(Arc::from(&b""[..])) };
        parent.check_name(&name)?;
        self.put(&parent, &name, kind, attributes)
    }

    fn put(&mut self, directory: &ImagePath, name: &[u8], kind: Kind, attributes: Attributes) -> Result<()> {
        let place = self.place_in(directory, name)?;
        let source = self.current_source();
        let TreeNode { what: known, is_parent, source: earlier, .. } = *self.nodes.node(place);
        let is_directory = matches!(kind, Kind::Directory);
        if earlier != IMPLIED {
            if is_directory && known == NodeKind::Directory {
                return Ok(());
            }
            let (first, second) = (self.source(earlier), self.source(source));
            return Err(Error::invalid(self.nodes.path(place).to_string(), format!("is in both {first} and {second}")));
        }
        if !is_directory && is_parent {
            let below = (place..count(&self.nodes.list)).find(|&other| self.nodes.node(other).parent == place);
            let below = self.nodes.path(below.unwrap_or(place));
            return Err(self.no_directory(&self.nodes.path(place), source, &below));
        }
        let what = match kind {
            Kind::Directory => NodeKind::Directory,
            Kind::File { size, content } => NodeKind::File(self.nodes.files.push(size, content)),
            Kind::Symlink { target } => {
                self.nodes.targets.push(target);
                NodeKind::Symlink(count(&self.nodes.targets) - 1)
            }
            Kind::HardLink { target } => NodeKind::HardLink(self.place(&target)?),
        };
        let attributes = self.number_of(attributes);
        let node = &mut self.nodes.list[place as usize];
        (node.what, node.attributes, node.source) = (what, attributes, source);
        Ok(())
    }

    fn number_of(&mut self, attributes: Attributes) -> u32 {
        if let Some(&number) = self.attributes.get(&attributes) {
            return number;
        }
        let number = count(&self.nodes.attributes);
        self.nodes.attributes.push(attributes.clone());
        self.attributes.insert(attributes, number);
        number
    }

    /// Returns the node of `path`. Adds it and the directories that it needs if they are missing.
    fn place(&mut self, path: &ImagePath) -> Result<u32> {
        match path.parent() {
            Some(parent) => self.place_in(&parent, path.name()),
            None => Ok(ROOT),
        }
    }

    fn place_in(&mut self, directory: &ImagePath, name: &[u8]) -> Result<u32> {
        if *directory != self.recent.0 {
            let (mut at, depth) = self.shared_with_recent(directory);
            for above in directory.names().skip(depth) {
                at = self.child(at, above)?;
                let TreeNode { what, source, .. } = *self.nodes.node(at);
                if what != NodeKind::Directory {
                    return Err(self.no_directory(&self.nodes.path(at), source, &directory.join_name(name)?));
                }
            }
            self.recent = (directory.clone(), at);
        }
        self.child(self.recent.1, name)
    }

    /// Returns the deepest directory shared by `directory` and that of the previous entry, and its depth. Most sources
    /// list neighbouring entries one after the other.
    fn shared_with_recent(&self, directory: &ImagePath) -> (u32, usize) {
        let (recent, mut at) = (&self.recent.0, self.recent.1);
        let depth = recent.names().zip(directory.names()).take_while(|(one, other)| one == other).count();
        for _ in depth..recent.names().count() {
            at = self.nodes.node(at).parent;
        }
        (at, depth)
    }

    fn child(&mut self, parent: u32, name: &[u8]) -> Result<u32> {
        let hash = self.hasher.hash_one((parent, name));
        if let Some(found) = self.find_child(hash, parent, name) {
            return Ok(found);
        }
        let TreeBuilder { nodes, places, hasher, .. } = self;
        // The root is no entry.
        Limit::Entries.check_so_far(nodes.list.len(), "layer", "entry")?;
        let number = nodes.push(parent, name);
        places.insert_unique(hash, number, |&other| hasher.hash_one((nodes.node(other).parent, nodes.name(other))));
        Ok(number)
    }

    /// Sorts the entries, and adds the directories that they need.
    ///
    /// # Errors
    /// Returns an error if a hard link names something other than a file of the tree.
    pub fn finish(mut self) -> Result<Tree> {
        self.complete_directories();
        self.check_hard_links()?;
        // Freed before the lists that sorting takes: both together would be the most memory of a build.
        self.places = HashTable::new();
        let order = self.order();
        let mut nodes = self.nodes;
        nodes.reorder(&order);
        Ok(Tree::of_sorted(nodes))
    }

    /// Sets the known attributes of directories that no source named.
    fn complete_directories(&mut self) {
        for (path, attributes) in std::mem::take(&mut self.known) {
            let below = |at, name| self.find_child(self.hasher.hash_one((at, name)), at, name);
            let found = path.names().try_fold(ROOT, below);
            if let Some(place) = found.filter(|&place| place != ROOT && self.nodes.node(place).source == IMPLIED) {
                let attributes = self.number_of(attributes);
                let node = &mut self.nodes.list[place as usize];
                (node.attributes, node.source) = (attributes, KNOWN);
            }
        }
    }

    /// Finds the node `name` in `parent`. Its hash is `hash`.
    fn find_child(&self, hash: u64, parent: u32, name: &[u8]) -> Option<u32> {
        let is_it = |&other: &u32| self.nodes.node(other).parent == parent && self.nodes.name(other) == name;
        self.places.find(hash, is_it).copied()
    }

    fn check_hard_links(&self) -> Result<()> {
        for (place, node) in self.nodes.list.iter().enumerate() {
            if let NodeKind::HardLink(target) = node.what
                && !matches!(self.nodes.node(target).what, NodeKind::File(_))
            {
                let (link, target) = (self.nodes.path(place as u32), self.nodes.path(target));
                return Err(Error::invalid(
                    link.to_string(),
                    format!("is a link to {target}, which is not a file in the layer"),
                ));
            }
        }
        Ok(())
    }

    /// Returns all nodes but the root, in the order of their paths.
    fn order(&self) -> Vec<u32> {
        let mut siblings: Vec<u32> = (1..count(&self.nodes.list)).collect();
        siblings.sort_unstable_by_key(|&place| self.nodes.node(place).parent);
        let mut order = Vec::with_capacity(siblings.len());
        // An explicit stack, because the source decides how deep the tree is.
        let mut open = vec![self.steps(ROOT, &siblings)];
        while let Some(steps) = open.last_mut() {
            match steps.next() {
                None => drop(open.pop()),
                Some(ListingStep { place, part: ListingPart::Itself }) => order.push(place),
                Some(ListingStep { place, part: ListingPart::Below }) => open.push(self.steps(place, &siblings)),
            }
        }
        order
    }

    /// Lists a directory in order. `a-b` comes between `a` and `a/c`, so a directory and its content are two steps.
    fn steps(&self, directory: u32, siblings: &[u32]) -> std::vec::IntoIter<ListingStep> {
        let first = siblings.partition_point(|&place| self.nodes.node(place).parent < directory);
        let own = siblings[first..].iter().take_while(|&&place| self.nodes.node(place).parent == directory);
        let mut steps = Vec::new();
        for &place in own {
            steps.push(ListingStep { place, part: ListingPart::Itself });
            if self.nodes.node(place).is_parent {
                steps.push(ListingStep { place, part: ListingPart::Below });
            }
        }
        steps.sort_unstable_by(|one, other| self.compare(one, other));
        steps.into_iter()
    }

    /// Compares the paths that `one` and `other` begin with.
    fn compare(&self, one: &ListingStep, other: &ListingStep) -> Ordering {
        let (a, b) = (self.nodes.name(one.place), self.nodes.name(other.place));
        let shared = a.len().min(b.len());
        let next = |name: &[u8], step: &ListingStep| {
            name.get(shared).copied().or((step.part == ListingPart::Below).then_some(b'/'))
        };
        a[..shared].cmp(&b[..shared]).then_with(|| next(a, one).cmp(&next(b, other)))
    }

    fn no_directory(&self, path: &ImagePath, source: u16, below: &ImagePath) -> Error {
        let source = self.source(source);
        Error::invalid(path.to_string(), format!("is not a directory in {source}, but {below} is below it"))
    }

    /// Returns the number of the current source. Source numbers are only used in messages, so numbers that are too large
    /// are capped.
    fn current_source(&self) -> u16 {
        u16::try_from(self.sources.len() - 1).map_or(DESTINATION - 1, |number| number.min(DESTINATION - 1))
    }

    fn source(&self, number: u16) -> &str {
        self.sources.get(usize::from(number)).map_or("the layer", String::as_str)
    }
}

#[cfg(test)]
impl Entry {
    /// Returns a file of root at `path`, with the default mode.
    pub(crate) fn test_file(path: impl AsRef<[u8]>, content: &[u8]) -> Entry {
        let kind = Kind::File { size: content.len() as u64, content: Content::Bytes(content.into()) };
        let attributes = Rules::default().file(crate::layers::tree::Access::of_root(0o644));
        Entry { path: ImagePath::of_names(path.as_ref().to_vec()), kind, attributes }
    }
}

/// An entry of a directory, or the content of a subdirectory.
#[derive(Debug, Clone, Copy)]
struct ListingStep {
    place: u32,
    part: ListingPart,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ListingPart {
    Itself,
    Below,
}

impl Tree {
    /// Returns the entries without whiteouts, and the paths that the whiteouts delete from the layers below.
    ///
    /// # Errors
    /// Never returns an error for the entries of a tree.
    pub fn without_removals(&self) -> Result<(Tree, Vec<ImagePath>)> {
        let mut kept = TreeBuilder::new(&Rules::default());
        let mut removals = Vec::new();
        for entry in self.entries() {
            match Tree::removed_by(&entry) {
                Some(path) => removals.push(path),
                None => kept.add(entry)?,
            }
        }
        Ok((kept.finish()?, removals))
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
        Entry {
            path: path(at),
            kind: Kind::File { size: 0, content },
            attributes: Rules::default().file(crate::layers::tree::Access::of_root(0o644)),
        }
    }

    fn directory(at: &str) -> Entry {
        Entry {
            path: path(at),
            kind: Kind::Directory,
            attributes: Rules::default().directory(crate::layers::tree::Access::of_root(0o755)),
        }
    }

    fn build(sources: &[(&str, Vec<Entry>)]) -> Result<Vec<String>> {
        let mut builder = TreeBuilder::new(&Rules::default());
        for (name, entries) in sources {
            builder.begin_source(*name);
            for entry in entries {
                builder.add(entry.clone())?;
            }
        }
        Ok(builder.finish()?.entries().map(|entry| entry.path.to_string()).collect())
    }

    #[test]
    fn entries_are_sorted_by_bytes_and_parents_come_first() {
        let entries = vec![file("a/c"), file("a-b"), file("z/y/x"), file("B")];
        assert_eq!(build(&[("s", entries)]).unwrap(), ["/B", "/a", "/a-b", "/a/c", "/z", "/z/y", "/z/y/x"]);
    }

    #[test]
    fn neighbours_and_strangers_find_their_directory() {
        let entries = ["a/b/c/d", "a/b/x", "a/b/c/f", "a/e", "q", "a/b/c", "b/b/c", "a/bc/c"].map(file).to_vec();
        let error = build(&[("s", entries.clone())]).unwrap_err();
        assert_eq!(error.to_string(), "/a/b/c: is not a directory in s, but /a/b/c/d is below it");
        let entries = entries.into_iter().filter(|entry| entry.path != path("a/b/c")).collect();
        assert_eq!(
            build(&[("s", entries)]).unwrap(),
            [
                "/a", "/a/b", "/a/b/c", "/a/b/c/d", "/a/b/c/f", "/a/b/x", "/a/bc", "/a/bc/c", "/a/e", "/b", "/b/b",
                "/b/b/c", "/q"
            ]
        );
    }

    #[test]
    fn the_same_path_twice_names_both_sources() {
        let error = build(&[("one", vec![file("a/b")]), ("two", vec![file("a/b")])]).unwrap_err();
        assert_eq!(error.to_string(), "/a/b: is in both one and two");
        let merged = build(&[("one", vec![directory("a"), file("a/b")]), ("two", vec![directory("a"), file("a/c")])]);
        assert_eq!(merged.unwrap(), ["/a", "/a/b", "/a/c"]);
    }

    #[test]
    fn a_file_cannot_be_a_parent() {
        let error = build(&[("one", vec![file("a")]), ("two", vec![file("a/b")])]).unwrap_err();
        assert_eq!(error.to_string(), "/a: is not a directory in one, but /a/b is below it");
        assert!(build(&[("one", vec![file("a"), directory("a")])]).is_err());
    }

    #[test]
    fn whiteouts_are_made_on_purpose_only() {
        assert!(build(&[("s", vec![file("d/.wh.x")])]).unwrap_err().to_string().contains("whiteout"));
        let mut builder = TreeBuilder::new(&Rules::default());
        builder.remove(&path("/etc/motd")).unwrap();
        let tree = builder.finish().unwrap();
        assert_eq!(tree.entry(1).unwrap().path, path("etc/.wh.motd"));
        assert!(TreeBuilder::new(&Rules::default()).remove(&ImagePath::root()).is_err());
    }
}
