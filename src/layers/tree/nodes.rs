//! The representation of a tree in memory: as a tree of names.
//!
//! An environment of 100,000 files has about 350,000 entries, most of them in directories with long paths. The names that
//! paths share are kept once, and so are attributes, so that an entry takes 24 bytes, its own name, and the data that
//! only files and links have.

use super::file_contents::FileContents;
use super::{Attributes, Entry, Kind};
use crate::spec::ImagePath;

/// The number of the root, which is a directory in every tree.
pub(super) const ROOT: u32 = 0;

/// One entry of a tree.
#[derive(Debug, Clone, Copy)]
pub(super) struct TreeNode {
    /// The number of the directory that it is in. The root is its own parent.
    pub(super) parent: u32,
    /// Its kind.
    pub(super) what: NodeKind,
    /// The number of its attributes.
    pub(super) attributes: u32,
    name_start: u32,
    name_length: u8,
    /// Whether it has entries.
    pub(super) is_parent: bool,
    /// The number of the source that named it, or one of the constants below such as [`IMPLIED`].
    pub(super) source: u16,
}

/// The source of a directory that no source named, but that other entries need.
pub(super) const IMPLIED: u16 = u16::MAX;
/// The source of a directory that no source named, but whose attributes are known.
pub(super) const KNOWN: u16 = u16::MAX - 1;
/// The source of a directory that a source is copied into. Its attributes in a layer below take precedence.
pub(super) const DESTINATION: u16 = u16::MAX - 2;

/// The kind of a node, with the number of its further data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NodeKind {
    Directory,
    File(u32),
    Symlink(u32),
    /// Another name of the file at this node.
    HardLink(u32),
}

/// The nodes of a tree, with the data that they share.
#[derive(Debug, Clone)]
pub(super) struct Nodes {
    pub(super) list: Vec<TreeNode>,
    /// All names, concatenated.
    names: Vec<u8>,
    pub(super) attributes: Vec<Attributes>,
    /// Sizes and contents.
    pub(super) files: FileContents,
    pub(super) targets: Vec<Box<[u8]>>,
}

impl TreeNode {
    fn directory(parent: u32, name_start: u32, name_length: u8) -> TreeNode {
        let (what, is_parent, source) = (NodeKind::Directory, false, IMPLIED);
        TreeNode { parent, what, attributes: 0, name_start, name_length, is_parent, source }
    }
}

impl Nodes {
    /// Creates a tree with only the root.
    pub(super) fn new(root: Attributes) -> Nodes {
        let list = vec![TreeNode::directory(ROOT, 0, 0)];
        Nodes { list, names: Vec::new(), attributes: vec![root], files: FileContents::default(), targets: Vec::new() }
    }

    /// Adds the directory `name` to the node `parent`, with the attributes of the root. Returns its number. The name must
    /// come from a valid path.
    pub(super) fn push(&mut self, parent: u32, name: &[u8]) -> u32 {
        let number = count(&self.list);
        // A name has at most 255 bytes.
        let (name_start, name_length) = (count(&self.names), name.len() as u8);
        self.names.extend_from_slice(name);
        self.list.push(TreeNode::directory(parent, name_start, name_length));
        self.list[parent as usize].is_parent = true;
        number
    }

    pub(super) fn reserve(&mut self, places: usize, names: usize) {
        self.list.reserve(places);
        self.names.reserve(names);
    }

    pub(super) fn node(&self, number: u32) -> &TreeNode {
        &self.list[number as usize]
    }

    pub(super) fn name(&self, number: u32) -> &[u8] {
        let node = self.node(number);
        &self.names[node.name_start as usize..][..usize::from(node.name_length)]
    }

    pub(super) fn path(&self, number: u32) -> ImagePath {
        let mut length = 0;
        let mut above = number;
        while above != ROOT {
            length += usize::from(length > 0) + self.name(above).len();
            above = self.node(above).parent;
        }
        // Fills the path from its end.
        let mut path = vec![b'/'; length];
        let (mut end, mut above) = (length, number);
        while above != ROOT {
            let name = self.name(above);
            path[end - name.len()..end].copy_from_slice(name);
            end = (end - name.len()).saturating_sub(1);
            above = self.node(above).parent;
        }
        ImagePath::of_names(path)
    }

    pub(super) fn entry(&self, number: u32) -> Entry {
        let kind = match self.node(number).what {
            NodeKind::Directory => Kind::Directory,
            NodeKind::File(file) => Kind::File { size: self.files.size(file), content: self.files.content(file) },
            NodeKind::Symlink(target) => Kind::Symlink { target: self.targets[target as usize].clone() },
            NodeKind::HardLink(target) => Kind::HardLink { target: self.path(target) },
        };
        let attributes = self.attributes[self.node(number).attributes as usize].clone();
        Entry { path: self.path(number), kind, attributes }
    }

    /// Sorts the nodes into `order`, which names each node but the root once.
    pub(super) fn reorder(&mut self, order: &[u32]) {
        let mut places = vec![ROOT; self.list.len()];
        for (place, &number) in order.iter().enumerate() {
            places[number as usize] = place as u32 + 1;
        }
        for node in &mut self.list {
            node.parent = places[node.parent as usize];
            if let NodeKind::HardLink(target) = &mut node.what {
                *target = places[*target as usize];
            }
        }
        // Sorted in place, because a second list would be the largest allocation of the process.
        for number in 0..places.len() {
            while places[number] as usize != number {
                let place = places[number] as usize;
                self.list.swap(number, place);
                places.swap(number, place);
            }
        }
        self.list.shrink_to_fit();
        self.names.shrink_to_fit();
        self.files.shrink_to_fit();
    }
}

/// Returns the number of the next item in `list`. The builder limits the number of items, so it fits.
pub(super) fn count<T>(list: &[T]) -> u32 {
    u32::try_from(list.len()).unwrap_or(u32::MAX)
}
