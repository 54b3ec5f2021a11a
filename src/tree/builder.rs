//! Putting a tree together.

use super::nodes::{Nodes, ROOT, What, count};
use super::sorted::WHITEOUT_PREFIX;
use super::{Attributes, Content, Entry, ImagePath, Kind, Rules, Tree};
use crate::error::{Error, Result};
use hashbrown::HashTable;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

/// More entries than this no tree may have.
const MOST_ENTRIES: usize = 10_000_000;

/// No child, no sibling, no source.
const NONE: u32 = u32::MAX;

/// Collects entries from one or more sources.
#[derive(Debug)]
pub struct TreeBuilder {
    nodes: Nodes,
    /// By the number of their place.
    relations: Vec<Relations>,
    /// Finds places by the number of their directory and by their name.
    places: HashTable<u32>,
    hasher: RandomState,
    /// Finds attributes, which few entries have for themselves.
    attributes: BTreeMap<Attributes, u32>,
    /// The directory that the entry before was put into: most are in the same one.
    recent: (ImagePath, u32),
    sources: Vec<String>,
    /// For directories that nobody named.
    parents: Attributes,
    /// For those among them of which more is known.
    known: BTreeMap<ImagePath, Attributes>,
}

/// What there is to know of a place until the tree is finished.
#[derive(Debug, Clone, Copy)]
struct Relations {
    first_child: u32,
    next_sibling: u32,
    /// Who named it; a directory that nobody did is there because others need it.
    source: u32,
}

const UNRELATED: Relations = Relations { first_child: NONE, next_sibling: NONE, source: NONE };

impl TreeBuilder {
    /// Starts with nothing. Directories that no source names, but that its entries need, get the owner root, the mode 0755
    /// and the time of `rules`.
    pub fn new(rules: &Rules) -> Self {
        let parents = Attributes { mode: 0o755, uid: 0, gid: 0, mtime: rules.mtime.seconds(), xattrs: None };
        TreeBuilder {
            nodes: Nodes::new(parents.clone()),
            relations: vec![UNRELATED],
            places: HashTable::new(),
            hasher: RandomState::new(),
            attributes: [(parents.clone(), 0)].into(),
            recent: (ImagePath::root(), ROOT),
            sources: vec!["the layer".to_owned()],
            parents,
            known: BTreeMap::new(),
        }
    }

    /// Says what the directories in `known` are like, wherever an entry needs one that no source names.
    #[must_use]
    pub fn with_known_directories(mut self, known: BTreeMap<ImagePath, Attributes>) -> Self {
        self.known = known;
        self
    }

    /// Declares that what is added from now on comes from `name`, for messages.
    pub fn begin_source(&mut self, name: impl Into<String>) {
        self.sources.push(name.into());
    }

    /// Adds an entry. Two directories of one path are one, and the first one counts.
    ///
    /// # Errors
    /// When its name would delete a file (whiteouts are only made by [`TreeBuilder::remove`]), it would be the root without
    /// being a directory, its path is there already, a file is where it needs a directory, it is a file where another one
    /// needs a directory, or there are too many.
    pub fn add(&mut self, entry: Entry) -> Result<()> {
        if entry.path.name().starts_with(WHITEOUT_PREFIX) {
            return Err(Error::invalid(
                entry.path.to_string(),
                "would be a whiteout: it would delete a file instead of adding one",
            ));
        }
        if !entry.path.is_root() {
            return self.put(entry);
        }
        // The root is in every image already, and a header for it would only change its owner.
        match entry.kind {
            Kind::Directory => Ok(()),
            _ => {
                let source = self.source(count(&self.sources) - 1);
                Err(Error::invalid("/", format!("is a directory in every image, and no directory in {source}")))
            }
        }
    }

    /// Marks `path` of the layers below as deleted.
    ///
    /// # Errors
    /// When `path` is the root, or as [`TreeBuilder::add`].
    pub fn remove(&mut self, path: &ImagePath) -> Result<()> {
        let Some(parent) = path.parent() else {
            return Err(Error::usage("/", "the root cannot be removed"));
        };
        let name = [WHITEOUT_PREFIX, path.name()].concat();
        let attributes = Attributes { mode: 0o644, ..self.parents.clone() };
        let kind = Kind::File { size: 0, content: Content::Bytes(Arc::from(&b""[..])) };
        self.put(Entry { path: parent.join_name(&name)?, kind, attributes })
    }

    fn put(&mut self, entry: Entry) -> Result<()> {
        let Entry { path, kind, attributes } = entry;
        let place = self.place(&path)?;
        let source = count(&self.sources) - 1;
        let Relations { first_child, source: earlier, .. } = self.relations[place as usize];
        let is_directory = matches!(kind, Kind::Directory);
        if earlier != NONE {
            if is_directory && self.nodes.node(place).what == What::Directory {
                return Ok(());
            }
            let (first, second) = (self.source(earlier), self.source(source));
            return Err(Error::invalid(path.to_string(), format!("is in {first} and in {second}")));
        }
        if !is_directory && first_child != NONE {
            return Err(self.no_directory(&path, source, &self.nodes.path(first_child)));
        }
        let what = match kind {
            Kind::Directory => What::Directory,
            Kind::File { size, content } => {
                self.nodes.files.push((size, content));
                What::File(count(&self.nodes.files) - 1)
            }
            Kind::Symlink { target } => {
                self.nodes.targets.push(target);
                What::Symlink(count(&self.nodes.targets) - 1)
            }
            Kind::HardLink { target } => What::HardLink(self.place(&target)?),
        };
        let attributes = self.number_of(attributes);
        let node = &mut self.nodes.list[place as usize];
        (node.what, node.attributes) = (what, attributes);
        self.relations[place as usize].source = source;
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

    /// The place of `path`, which is made where there is none, together with the directories that it needs.
    fn place(&mut self, path: &ImagePath) -> Result<u32> {
        let Some(parent) = path.parent() else { return Ok(ROOT) };
        if parent != self.recent.0 {
            let mut at = ROOT;
            for name in parent.names() {
                at = self.child(at, name)?;
                let source = self.relations[at as usize].source;
                if source != NONE && self.nodes.node(at).what != What::Directory {
                    return Err(self.no_directory(&self.nodes.path(at), source, path));
                }
            }
            self.recent = (parent, at);
        }
        self.child(self.recent.1, path.name())
    }

    fn child(&mut self, parent: u32, name: &[u8]) -> Result<u32> {
        let TreeBuilder { nodes, relations, places, hasher, .. } = self;
        let hash = hasher.hash_one((parent, name));
        if let Some(&found) =
            places.find(hash, |&other| nodes.node(other).parent == parent && nodes.name(other) == name)
        {
            return Ok(found);
        }
        if nodes.list.len() > MOST_ENTRIES {
            return Err(Error::invalid("layer", format!("more than {MOST_ENTRIES} entries")));
        }
        let number = nodes.push(parent, name);
        places.insert_unique(hash, number, |&other| hasher.hash_one((nodes.node(other).parent, nodes.name(other))));
        let next_sibling = std::mem::replace(&mut relations[parent as usize].first_child, number);
        relations.push(Relations { next_sibling, ..UNRELATED });
        Ok(number)
    }

    /// Sorts the entries, and adds the directories that they need.
    ///
    /// # Errors
    /// When a hard link names what is no file of the tree.
    pub fn finish(mut self) -> Result<Tree> {
        self.complete_directories();
        self.check_hard_links()?;
        let order = self.order();
        let TreeBuilder { mut nodes, relations, places, .. } = self;
        drop((relations, places));
        nodes.reorder(&order);
        Ok(Tree::of_sorted(nodes))
    }

    /// Gives the directories that nobody named the attributes that are known.
    fn complete_directories(&mut self) {
        for (path, attributes) in std::mem::take(&mut self.known) {
            let found = path.names().try_fold(ROOT, |at, name| self.find_child(at, name));
            if let Some(place) = found.filter(|&place| place != ROOT && self.relations[place as usize].source == NONE) {
                self.nodes.list[place as usize].attributes = self.number_of(attributes);
            }
        }
    }

    fn find_child(&self, parent: u32, name: &[u8]) -> Option<u32> {
        let is_it = |&other: &u32| self.nodes.node(other).parent == parent && self.nodes.name(other) == name;
        self.places.find(self.hasher.hash_one((parent, name)), is_it).copied()
    }

    fn check_hard_links(&self) -> Result<()> {
        for (place, node) in self.nodes.list.iter().enumerate() {
            if let What::HardLink(target) = node.what
                && !matches!(self.nodes.node(target).what, What::File(_))
            {
                let (link, target) = (self.nodes.path(place as u32), self.nodes.path(target));
                return Err(Error::invalid(link.to_string(), format!("is a link to {target}, which is no file here")));
            }
        }
        Ok(())
    }

    /// All places but the root, in the order of their paths.
    fn order(&self) -> Vec<u32> {
        let mut order = Vec::with_capacity(self.nodes.list.len() - 1);
        // A stack of our own: how deep a tree is, its source decides.
        let mut open = vec![self.steps(ROOT)];
        while let Some(steps) = open.last_mut() {
            match steps.next() {
                None => drop(open.pop()),
                Some(Step { place, part: Part::Itself }) => order.push(place),
                Some(Step { place, part: Part::Below }) => open.push(self.steps(place)),
            }
        }
        order
    }

    /// What is in a directory, in order. `a-b` comes between `a` and `a/c`, so a directory and what is in it are two steps.
    fn steps(&self, directory: u32) -> std::vec::IntoIter<Step> {
        let mut steps = Vec::new();
        let mut child = self.relations[directory as usize].first_child;
        while child != NONE {
            let Relations { first_child, next_sibling, .. } = self.relations[child as usize];
            steps.push(Step { place: child, part: Part::Itself });
            if first_child != NONE {
                steps.push(Step { place: child, part: Part::Below });
            }
            child = next_sibling;
        }
        steps.sort_unstable_by(|one, other| self.compare(one, other));
        steps.into_iter()
    }

    /// Compares the paths that `one` and `other` begin with.
    fn compare(&self, one: &Step, other: &Step) -> Ordering {
        let (a, b) = (self.nodes.name(one.place), self.nodes.name(other.place));
        let shared = a.len().min(b.len());
        let next = |name: &[u8], step: &Step| name.get(shared).copied().or((step.part == Part::Below).then_some(b'/'));
        a[..shared].cmp(&b[..shared]).then_with(|| next(a, one).cmp(&next(b, other)))
    }

    fn no_directory(&self, path: &ImagePath, source: u32, below: &ImagePath) -> Error {
        let source = self.source(source);
        Error::invalid(path.to_string(), format!("is no directory in {source}, and {below} needs one"))
    }

    fn source(&self, number: u32) -> &str {
        &self.sources[number as usize]
    }
}

/// A part of a directory's listing.
#[derive(Debug, Clone, Copy)]
struct Step {
    place: u32,
    part: Part,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Itself,
    Below,
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
        Ok(builder.finish()?.entries().map(|entry| entry.path.to_string()).collect())
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
        assert_eq!(tree.entry(1).unwrap().path, path("etc/.wh.motd"));
        assert!(TreeBuilder::new(&Rules::default()).remove(&ImagePath::root()).is_err());
    }
}
