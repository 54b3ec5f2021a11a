//! A stack of layers, and look-ups of paths in it.

use super::entry::{ListedEntry, ListedKind, ListedNode, Program};
use super::listing::LayerListing;
use crate::common::error::Result;
use crate::layers::rootfs::stored_layers::{StoredLayer, Unseen};
use crate::layers::tree::{Entry, Kind, Tree};
use crate::spec::ImagePath;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};

/// The number of links that Linux follows in one path.
const MOST_LINKS: usize = 40;

/// One layer of a stack.
#[derive(Debug)]
pub enum LayerBelow<'a> {
    /// A stored layer.
    Stored(StoredLayer<'a>),
    /// A layer whose listing is known.
    Listed(&'a LayerListing),
    /// The entries of a layer that has not been written yet.
    Tree(&'a Tree),
}

/// The result of looking up a path in a stack.
#[derive(Debug, Clone)]
pub enum PathLookup {
    /// There is no node at the path.
    Absent,
    /// A file, directory, link or device.
    Node(StackedEntry),
    /// The result depends on a layer whose entries are unknown.
    Unseen(Unseen),
}

/// A node in a layer of the stack.
#[derive(Debug, Clone)]
pub struct StackedEntry {
    /// The node, as in a listing.
    pub node: ListedNode,
    /// The entry, if its layer has not been written yet.
    pub entry: Option<Entry>,
}

/// The result of following the links of a path.
#[derive(Debug, Clone)]
pub enum Resolved {
    /// The node at this path, which is free of links.
    Node(ImagePath, StackedEntry),
    /// There is no node at this path, which is free of links.
    Absent(ImagePath),
    /// The path leads through this one, which is not a directory.
    NoDirectory(ImagePath),
    /// There are too many links, or they form a cycle.
    Circle,
    /// The result depends on a layer whose entries are unknown, which decides about this path.
    Unseen(ImagePath, Unseen),
}

/// The file system that a stack of layers unpacks to.
#[derive(Debug)]
pub struct Rootfs<'a> {
    /// The layers, lowest first.
    layers: Vec<&'a LayerBelow<'a>>,
    /// Directories that were looked up, by their paths.
    directories: RefCell<BTreeMap<ImagePath, StackedPath>>,
}

/// The node at a path.
#[derive(Debug, Clone)]
struct StackedPath {
    found: PathLookup,
    /// The lowest layer whose entries in this directory are visible.
    floor: usize,
}

impl<'a> Rootfs<'a> {
    /// Creates the file system of `layers`, lowest first.
    pub fn new(layers: impl IntoIterator<Item = &'a LayerBelow<'a>>) -> Self {
        Rootfs { layers: layers.into_iter().collect(), directories: RefCell::default() }
    }

    /// Returns whether there are no layers.
    pub fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }

    /// Returns the node at `path`, without following links. Only the last component may be a link.
    ///
    /// # Errors
    /// Returns an error if a layer must be read and cannot be read.
    pub fn look(&self, path: &ImagePath) -> Result<PathLookup> {
        self.place(path).map(|place| place.found)
    }

    /// Resolves `path`, following links as a program in the container would.
    ///
    /// # Errors
    /// Returns an error if a layer must be read and cannot be read.
    pub fn resolve(&self, path: &ImagePath) -> Result<Resolved> {
        let mut pending: VecDeque<Vec<u8>> = path.names().map(<[u8]>::to_vec).collect();
        let mut at = ImagePath::root();
        let mut links = 0;
        let mut last = None;
        while let Some(name) = pending.pop_front() {
            if name == b".." {
                at = at.parent().unwrap_or_else(ImagePath::root);
                last = None;
                continue;
            }
            let here = at.join_name(&name)?;
            let below = match self.look(&here)? {
                PathLookup::Unseen(unseen) => return Ok(Resolved::Unseen(here, unseen)),
                PathLookup::Node(below) => below,
                PathLookup::Absent => {
                    // A missing component cannot be a link, so the rest of the path is appended literally.
                    let mut rest = here;
                    for name in pending {
                        rest = match &*name {
                            b".." => rest.parent().unwrap_or_else(ImagePath::root),
                            name => rest.join_name(name)?,
                        };
                    }
                    return Ok(Resolved::Absent(rest));
                }
            };
            if let ListedKind::Symlink { target } = &below.node.kind {
                links += 1;
                if links > MOST_LINKS {
                    return Ok(Resolved::Circle);
                }
                if target.starts_with(b"/") {
                    at = ImagePath::root();
                }
                let names = target.split(|&byte| byte == b'/').filter(|name| !matches!(*name, b"" | b"."));
                for name in names.rev() {
                    pending.push_front(name.to_vec());
                }
                last = None;
                continue;
            }
            if !below.node.kind.is_directory() && !pending.is_empty() {
                return Ok(Resolved::NoDirectory(here));
            }
            at = here;
            last = Some(below);
        }
        match last {
            Some(below) => Ok(Resolved::Node(at, below)),
            // A link to the root, or to a parent of a directory on the way.
            None => Ok(match self.look(&at)? {
                PathLookup::Node(below) => Resolved::Node(at, below),
                PathLookup::Absent => Resolved::Absent(at),
                PathLookup::Unseen(unseen) => Resolved::Unseen(at, unseen),
            }),
        }
    }

    fn place(&self, path: &ImagePath) -> Result<StackedPath> {
        let Some(parent) = path.parent() else { return Ok(root()) };
        if let Some(known) = self.directories.borrow().get(path) {
            return Ok(known.clone());
        }
        let above = self.place(&parent)?;
        let place = match &above.found {
            PathLookup::Node(below) if below.node.kind.is_directory() => self.within(path, above.floor)?,
            PathLookup::Node(_) | PathLookup::Absent => StackedPath { found: PathLookup::Absent, floor: 0 },
            PathLookup::Unseen(_) => above,
        };
        if !matches!(&place.found, PathLookup::Node(below) if !below.node.kind.is_directory()) {
            self.directories.borrow_mut().insert(path.clone(), place.clone());
        }
        Ok(place)
    }

    /// Returns the node at `path`, in whose directory the layers from `floor` on are visible.
    fn within(&self, path: &ImagePath, floor: usize) -> Result<StackedPath> {
        let mut found: Option<StackedEntry> = None;
        for (number, layer) in self.layers.iter().enumerate().skip(floor).rev() {
            let mention = match layer.find(path)? {
                LayerMention::Nothing => continue,
                LayerMention::Entry(mention) => mention,
                // A layer below cannot change a node of a layer above.
                LayerMention::Unseen(unseen) => {
                    let found = found.map_or(PathLookup::Unseen(unseen), PathLookup::Node);
                    return Ok(StackedPath { found, floor });
                }
            };
            let (is_whiteout, is_opaque) = mention.hides;
            if let Some(new) = mention.below {
                let is_directory = new.node.kind.is_directory();
                match &mut found {
                    None if is_directory => found = Some(new),
                    None => return Ok(StackedPath { found: PathLookup::Node(new), floor: number }),
                    Some(above) if is_directory => {
                        // A layer without an entry for a directory does not set its attributes.
                        if above.node.kind == ListedKind::ImpliedDirectory {
                            *above = new;
                        }
                    }
                    // A directory of a layer above has replaced this node.
                    Some(_) => {
                        return Ok(StackedPath {
                            found: found.map_or(PathLookup::Absent, PathLookup::Node),
                            floor: number + 1,
                        });
                    }
                }
            }
            if is_whiteout || is_opaque {
                return Ok(StackedPath { found: found.map_or(PathLookup::Absent, PathLookup::Node), floor: number });
            }
        }
        Ok(StackedPath { found: found.map_or(PathLookup::Absent, PathLookup::Node), floor })
    }
}

/// Returns the root, which is a directory in every image.
fn root() -> StackedPath {
    let (kind, xattrs) = (ListedKind::Directory, Box::default());
    let node = ListedNode { kind, mode: 0o755, uid: 0, gid: 0, mtime: 0, xattrs };
    StackedPath { found: PathLookup::Node(StackedEntry { node, entry: None }), floor: 0 }
}

/// The entry of one layer for a path.
pub(super) enum LayerMention {
    Nothing,
    Entry(LayerEntry),
    Unseen(Unseen),
}

/// The node that one layer adds at a path, and its whiteouts there.
pub(super) struct LayerEntry {
    below: Option<StackedEntry>,
    /// Whether it deletes the path from the layers below, and whether it hides their entries in the directory.
    hides: (bool, bool),
}

impl LayerBelow<'_> {
    fn find(&self, path: &ImagePath) -> Result<LayerMention> {
        match self {
            LayerBelow::Stored(layer) => layer.find(path),
            LayerBelow::Listed(listing) => {
                Ok(find_in_listing(listing, path.as_bytes())?.map_or(LayerMention::Nothing, LayerMention::Entry))
            }
            LayerBelow::Tree(tree) => Ok(find_in_tree(tree, path)),
        }
    }
}

impl StoredLayer<'_> {
    fn find(&self, path: &ImagePath) -> Result<LayerMention> {
        if self.is_elsewhere(path) {
            return Ok(LayerMention::Nothing);
        }
        let listing = match self.listing()? {
            Ok(listing) => listing,
            Err(unseen) => return Ok(LayerMention::Unseen(unseen)),
        };
        // A listing that turns out to be damaged is made again.
        let found = match find_in_listing(&listing, path.as_bytes()) {
            Ok(found) => found,
            Err(_) => match self.listing_made_again()? {
                Ok(listing) => find_in_listing(&listing, path.as_bytes())?,
                Err(unseen) => return Ok(LayerMention::Unseen(unseen)),
            },
        };
        Ok(found.map_or(LayerMention::Nothing, LayerMention::Entry))
    }
}

fn find_in_listing(listing: &LayerListing, path: &[u8]) -> Result<Option<LayerEntry>> {
    let Some(ListedEntry { node, is_whiteout, is_opaque, .. }) = listing.find(path)? else { return Ok(None) };
    let node = match node {
        // A hard link has the node of its target. A few programs write links to files of the layers below.
        Some(link @ ListedNode { kind: ListedKind::HardLink { .. }, .. }) => {
            let target = match &link.kind {
                ListedKind::HardLink { target } => listing.find(target)?.and_then(|entry| entry.node),
                _ => None,
            };
            Some(target.unwrap_or(link))
        }
        node => node,
    };
    let below = node.map(|node| StackedEntry { node, entry: None });
    Ok(Some(LayerEntry { below, hides: (is_whiteout, is_opaque) }))
}

fn find_in_tree(tree: &Tree, path: &ImagePath) -> LayerMention {
    let below = tree.find(path).map(|entry| StackedEntry { node: node_of(&entry), entry: Some(entry) });
    let is_whiteout = tree.removes(path);
    if below.is_none() && !is_whiteout {
        return LayerMention::Nothing;
    }
    LayerMention::Entry(LayerEntry { below, hides: (is_whiteout, false) })
}

/// Converts an entry of an unwritten layer to a node of a listing. The kind of program is unknown without its content.
fn node_of(entry: &Entry) -> ListedNode {
    let kind = match &entry.kind {
        Kind::Directory => ListedKind::Directory,
        Kind::File { size, .. } => ListedKind::File { size: *size, program: Program::Unknown, content: None },
        Kind::Symlink { target } => ListedKind::Symlink { target: target.to_vec() },
        // The target of the link is a file of the same tree, with the same attributes.
        Kind::HardLink { .. } => ListedKind::File { size: 0, program: Program::Unknown, content: None },
    };
    let xattrs = entry.attributes.xattrs.clone().unwrap_or_default();
    let attributes = &entry.attributes;
    let (mode, uid, gid, mtime) = (attributes.mode, attributes.uid, attributes.gid, attributes.mtime);
    ListedNode { kind, mode, uid, gid, mtime, xattrs }
}
