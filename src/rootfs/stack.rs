//! A stack of layers, and what it holds at a path.

use super::entry::{ListedEntry, ListedKind, ListedNode, Program};
use super::listing::Listing;
use super::stored::StoredLayer;
use crate::error::Result;
use crate::tree::{Entry, ImagePath, Kind, Tree};
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};

/// As many links as Linux follows in one path.
const MOST_LINKS: usize = 40;

/// One layer of a stack.
#[derive(Debug)]
pub enum LayerBelow<'a> {
    /// A stored layer.
    Stored(StoredLayer<'a>),
    /// The entries of a layer that is being made.
    Tree(&'a Tree),
}

/// Why nothing is known of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unseen {
    /// The reason: "its layers stay in their registry".
    pub reason: String,
    /// What helps.
    pub hint: String,
}

/// What a stack holds at a path.
#[derive(Debug, Clone)]
pub enum Found {
    /// Nothing.
    Absent,
    /// A file, directory, link or device.
    Node(Below),
    /// A layer of which nothing is known decides.
    Unseen(Unseen),
}

/// Something in a layer of the stack.
#[derive(Debug, Clone)]
pub struct Below {
    /// What it is.
    pub node: ListedNode,
    /// The entry, where its layer is being made.
    pub entry: Option<Entry>,
}

/// Where a path leads when its links are followed.
#[derive(Debug, Clone)]
pub enum Resolved {
    /// To this path without links, and what is there.
    Node(ImagePath, Below),
    /// To this path without links, at which nothing is.
    Absent(ImagePath),
    /// Through this path, which is no directory.
    NoDirectory(ImagePath),
    /// Nowhere: there are too many links, or they lead in a circle.
    Circle,
    /// Into a layer of which nothing is known, which decides about this path.
    Unseen(ImagePath, Unseen),
}

/// The file system that a stack of layers unpacks to.
#[derive(Debug)]
pub struct Rootfs<'a> {
    /// Lowest first.
    layers: Vec<&'a LayerBelow<'a>>,
    /// What is known of directories, by their paths.
    directories: RefCell<BTreeMap<ImagePath, Place>>,
}

/// What is at a path.
#[derive(Debug, Clone)]
struct Place {
    found: Found,
    /// The lowest layer whose entries in this directory can be seen.
    floor: usize,
}

impl<'a> Rootfs<'a> {
    /// The file system of `layers`, lowest first.
    pub fn new(layers: impl IntoIterator<Item = &'a LayerBelow<'a>>) -> Self {
        Rootfs { layers: layers.into_iter().collect(), directories: RefCell::default() }
    }

    /// Whether there are no layers, so that nothing is anywhere.
    pub fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }

    /// What is at `path` itself: the last name is not followed if it is a link, and no other name may be one.
    ///
    /// # Errors
    /// When a layer has to be read and cannot be.
    pub fn look(&self, path: &ImagePath) -> Result<Found> {
        self.place(path).map(|place| place.found)
    }

    /// Where `path` leads, links followed as a program in the container would.
    ///
    /// # Errors
    /// When a layer has to be read and cannot be.
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
                Found::Unseen(unseen) => return Ok(Resolved::Unseen(here, unseen)),
                Found::Node(below) => below,
                Found::Absent => {
                    // What is not there is no link either: the rest is taken by the word.
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
            // A link to the root, or up from a directory that was seen on the way.
            None => Ok(match self.look(&at)? {
                Found::Node(below) => Resolved::Node(at, below),
                Found::Absent => Resolved::Absent(at),
                Found::Unseen(unseen) => Resolved::Unseen(at, unseen),
            }),
        }
    }

    fn place(&self, path: &ImagePath) -> Result<Place> {
        let Some(parent) = path.parent() else { return Ok(root()) };
        if let Some(known) = self.directories.borrow().get(path) {
            return Ok(known.clone());
        }
        let above = self.place(&parent)?;
        let place = match &above.found {
            Found::Node(below) if below.node.kind.is_directory() => self.within(path, above.floor)?,
            Found::Node(_) | Found::Absent => Place { found: Found::Absent, floor: 0 },
            Found::Unseen(_) => above,
        };
        if !matches!(&place.found, Found::Node(below) if !below.node.kind.is_directory()) {
            self.directories.borrow_mut().insert(path.clone(), place.clone());
        }
        Ok(place)
    }

    /// What is at `path`, in whose directory the layers from `floor` on can be seen.
    fn within(&self, path: &ImagePath, floor: usize) -> Result<Place> {
        let mut found: Option<Below> = None;
        for (number, layer) in self.layers.iter().enumerate().skip(floor).rev() {
            let said = match layer.find(path)? {
                Said::Nothing => continue,
                Said::Entry(said) => said,
                // Whatever is below decides nothing that is above.
                Said::Unseen(unseen) => {
                    let found = found.map_or(Found::Unseen(unseen), Found::Node);
                    return Ok(Place { found, floor });
                }
            };
            let (is_whiteout, is_opaque) = said.hides;
            if let Some(new) = said.below {
                let is_directory = new.node.kind.is_directory();
                match &mut found {
                    None if is_directory => found = Some(new),
                    None => return Ok(Place { found: Found::Node(new), floor: number }),
                    Some(above) if is_directory => {
                        // A layer without an entry for a directory says nothing about its attributes.
                        if above.node.kind == ListedKind::ImpliedDirectory {
                            *above = new;
                        }
                    }
                    // Something else that a directory of a layer above has replaced.
                    Some(_) => return Ok(Place { found: found.map_or(Found::Absent, Found::Node), floor: number + 1 }),
                }
            }
            if is_whiteout || is_opaque {
                return Ok(Place { found: found.map_or(Found::Absent, Found::Node), floor: number });
            }
        }
        Ok(Place { found: found.map_or(Found::Absent, Found::Node), floor })
    }
}

/// The root is a directory in every image.
fn root() -> Place {
    let (kind, xattrs) = (ListedKind::Directory, Box::default());
    let node = ListedNode { kind, mode: 0o755, uid: 0, gid: 0, mtime: 0, xattrs };
    Place { found: Found::Node(Below { node, entry: None }), floor: 0 }
}

/// What one layer says about a path.
pub(super) enum Said {
    Nothing,
    Entry(Entered),
    Unseen(Unseen),
}

/// What one layer puts at a path, and what it hides there.
pub(super) struct Entered {
    below: Option<Below>,
    /// Whether it deletes what is below, and whether it hides what is below in the directory.
    hides: (bool, bool),
}

impl LayerBelow<'_> {
    fn find(&self, path: &ImagePath) -> Result<Said> {
        match self {
            LayerBelow::Stored(layer) => layer.find(path),
            LayerBelow::Tree(tree) => Ok(find_in_tree(tree, path)),
        }
    }
}

impl StoredLayer<'_> {
    fn find(&self, path: &ImagePath) -> Result<Said> {
        let listing = match self.listing()? {
            Ok(listing) => listing,
            Err(unseen) => return Ok(Said::Unseen(unseen)),
        };
        // A listing that proves to be damaged is made again.
        let found = match find_in_listing(&listing, path.as_bytes()) {
            Ok(found) => found,
            Err(_) => match self.listing_made_again()? {
                Ok(listing) => find_in_listing(&listing, path.as_bytes())?,
                Err(unseen) => return Ok(Said::Unseen(unseen)),
            },
        };
        Ok(found.map_or(Said::Nothing, Said::Entry))
    }
}

fn find_in_listing(listing: &Listing, path: &[u8]) -> Result<Option<Entered>> {
    let Some(ListedEntry { path: _, node, is_whiteout, is_opaque }) = listing.find(path)? else { return Ok(None) };
    let node = match node {
        // A hard link is what it links to.
        Some(ListedNode { kind: ListedKind::HardLink { target }, .. }) => {
            listing.find(&target)?.and_then(|entry| entry.node)
        }
        node => node,
    };
    let below = node.map(|node| Below { node, entry: None });
    Ok(Some(Entered { below, hides: (is_whiteout, is_opaque) }))
}

fn find_in_tree(tree: &Tree, path: &ImagePath) -> Said {
    let below = tree.find(path).map(|entry| Below { node: node_of(&entry), entry: Some(entry) });
    let is_whiteout = tree.removes(path);
    if below.is_none() && !is_whiteout {
        return Said::Nothing;
    }
    Said::Entry(Entered { below, hides: (is_whiteout, false) })
}

/// An entry that is being made, as a listing would say it. What its content is, its content says.
fn node_of(entry: &Entry) -> ListedNode {
    let kind = match &entry.kind {
        Kind::Directory => ListedKind::Directory,
        Kind::File { size, .. } => ListedKind::File { size: *size, program: Program::Unknown, content: None },
        Kind::Symlink { target } => ListedKind::Symlink { target: target.to_vec() },
        // Its target is a file of the same tree, with the same attributes.
        Kind::HardLink { .. } => ListedKind::File { size: 0, program: Program::Unknown, content: None },
    };
    let xattrs = entry.attributes.xattrs.clone().unwrap_or_default();
    let attributes = &entry.attributes;
    let (mode, uid, gid, mtime) = (attributes.mode, attributes.uid, attributes.gid, attributes.mtime);
    ListedNode { kind, mode, uid, gid, mtime, xattrs }
}
