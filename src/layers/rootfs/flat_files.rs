//! The final file system of an image, to be written elsewhere: each content once, under the first of its names, and its other
//! names as hard links to that one.

use super::content::{FoundNode, follow_hard_links, resolve};
use super::entry::{ListedKind, ListedNode};
use super::listing::LayerListing;
use super::merged::{MergedEntry, MergedFiles};
use crate::common::error::{Error, Result};
use crate::spec::ImagePath;
use std::collections::HashMap;
use std::sync::Arc;

/// The files of an image at or below a path.
#[derive(Debug)]
pub struct FlatFiles<'a> {
    listings: &'a [Arc<LayerListing>],
    selected: Selected,
    links: HardLinks,
}

/// Which files are written, and where.
#[derive(Debug)]
enum Selected {
    /// Everything in this directory.
    Directory(Vec<u8>),
    /// The file at this path, under this name.
    File(Vec<u8>, Vec<u8>),
}

/// A file, directory, link or device that is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FlatEntry {
    /// The path where it is written. The selected directory is empty.
    pub(super) path: Vec<u8>,
    /// The node. The target of a hard link is the path of an earlier entry.
    pub(super) node: ListedNode,
    /// The entry of a layer with the content of a file, or the numbers of a device.
    pub(super) source: EntryPlace,
}

/// An entry of a layer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct EntryPlace {
    pub(super) layer: usize,
    pub(super) path: Vec<u8>,
}

/// The files with several names.
#[derive(Debug, Default)]
struct HardLinks {
    /// The first name of each such file, where it is written.
    first: Vec<(EntryPlace, Vec<u8>)>,
    by_place: HashMap<EntryPlace, usize>,
    /// The file of each hard link, by the path of the link in the image.
    by_link: HashMap<Vec<u8>, usize>,
}

impl<'a> FlatFiles<'a> {
    /// Selects what is at `path` of the image with the layers `listings`: everything in a directory, or one file. Links are
    /// followed inside of the image.
    ///
    /// # Errors
    /// Fails if there is nothing at `path`, a listing is damaged, or a hard link leads to nothing.
    pub fn new(listings: &'a [Arc<LayerListing>], path: &ImagePath) -> Result<Self> {
        let (real, is_directory) = resolve(listings, path)?;
        let real = real.as_bytes().to_vec();
        let selected = match is_directory {
            true => Selected::Directory(real),
            false => Selected::File(real, path.name().to_vec()),
        };
        let mut files = FlatFiles { listings, selected, links: HardLinks::default() };
        files.find_links()?;
        Ok(files)
    }

    /// Returns the listings of the layers.
    pub(super) fn listings(&self) -> &'a [Arc<LayerListing>] {
        self.listings
    }

    /// Iterates over the entries in the order of the bytes of their paths. After an error there are no more.
    pub(super) fn entries(&self) -> impl Iterator<Item = Result<FlatEntry>> + '_ {
        let mut directories = OpenDirectories::default();
        MergedFiles::new(self.listings).filter_map(move |entry| {
            let entry = match entry.and_then(|entry| directories.check(&entry).map(|()| entry)) {
                Ok(entry) => entry,
                Err(error) => return Some(Err(error)),
            };
            let path = self.selected.place(&entry.path)?.to_vec();
            Some(self.entry(path, entry))
        })
    }

    fn entry(&self, path: Vec<u8>, entry: MergedEntry) -> Result<FlatEntry> {
        let MergedEntry { path: in_image, node, layer } = entry;
        let linked = match &node.kind {
            ListedKind::HardLink { .. } => self.links.by_link.get(&in_image).copied(),
            _ => None,
        };
        let source = match linked {
            Some(number) => self.links.first[number].0.clone(),
            None => EntryPlace { layer, path: in_image },
        };
        let first = self.links.by_place.get(&source).map(|number| &self.links.first[*number].1);
        let node = match first {
            Some(first) if *first != path => {
                ListedNode { kind: ListedKind::HardLink { target: first.clone() }, ..node }
            }
            Some(_) if linked.is_some() => self.node_of(&source)?,
            _ => node,
        };
        Ok(FlatEntry { path, node, source })
    }

    fn node_of(&self, place: &EntryPlace) -> Result<ListedNode> {
        let found = self.listings[place.layer].find(&place.path)?;
        found.and_then(|entry| entry.node).ok_or_else(|| Error::corrupt("listing of a layer", "changed"))
    }

    /// Finds the selected files that have several names, and the first name of each.
    fn find_links(&mut self) -> Result<()> {
        for entry in MergedFiles::new(self.listings) {
            let MergedEntry { path, node, layer } = entry?;
            let ListedKind::HardLink { target } = &node.kind else { continue };
            let Some(place) = self.selected.place(&path) else { continue };
            let Some(FoundNode { layer, path: source, .. }) = follow_hard_links(self.listings, layer, target)? else {
                let path = ImagePath::new(&path)?.to_string();
                let reason =
                    format!("a hard link to /{}, which is no file of the image", String::from_utf8_lossy(target));
                return Err(Error::invalid(path, reason));
            };
            let number = self.links.add(EntryPlace { layer, path: source }, place);
            self.links.by_link.insert(path, number);
        }
        if self.links.first.is_empty() {
            return Ok(());
        }
        for entry in MergedFiles::new(self.listings) {
            let MergedEntry { path, node, layer } = entry?;
            let is_linked = !node.kind.is_directory() && !matches!(node.kind, ListedKind::HardLink { .. });
            let Some(place) = self.selected.place(&path).filter(|_| is_linked).map(<[u8]>::to_vec) else { continue };
            let source = EntryPlace { layer, path };
            if self.links.by_place.contains_key(&source) {
                self.links.add(source, &place);
            }
        }
        Ok(())
    }
}

impl Selected {
    /// Returns where the file at `path` of the image is written, if it is selected.
    fn place<'p>(&'p self, path: &'p [u8]) -> Option<&'p [u8]> {
        match self {
            Selected::File(selected, name) => (path == selected).then_some(name),
            Selected::Directory(directory) if directory.is_empty() || path == directory => {
                Some(&path[directory.len()..])
            }
            Selected::Directory(directory) => path.strip_prefix(&directory[..])?.strip_prefix(b"/"),
        }
    }
}

impl HardLinks {
    /// Notes that the file at `place` is written under `name`.
    fn add(&mut self, place: EntryPlace, name: &[u8]) -> usize {
        let next = self.first.len();
        let number = *self.by_place.entry(place.clone()).or_insert(next);
        match self.first.get_mut(number) {
            Some((_, first)) if name < &first[..] => *first = name.to_vec(),
            Some(_) => {}
            None => self.first.push((place, name.to_vec())),
        }
        number
    }
}

/// The directories whose files may still come.
#[derive(Default)]
struct OpenDirectories(Vec<Vec<u8>>);

impl OpenDirectories {
    /// Checks that an entry is in a directory. A layer can have files below something else.
    fn check(&mut self, entry: &MergedEntry) -> Result<()> {
        let may_go_on = |rest: &[u8]| rest.first().is_none_or(|byte| *byte <= b'/');
        self.0.retain(|directory| entry.path.strip_prefix(&directory[..]).is_some_and(may_go_on));
        if let Some(slash) = entry.path.iter().rposition(|&byte| byte == b'/') {
            let parent = &entry.path[..slash];
            if !self.0.iter().rev().any(|directory| directory == parent) {
                let reason = format!("is below /{}, which is not a directory", String::from_utf8_lossy(parent));
                return Err(Error::invalid(format!("/{}", String::from_utf8_lossy(&entry.path)), reason));
            }
        }
        if entry.node.kind.is_directory() && !entry.path.is_empty() {
            self.0.push(entry.path.clone());
        }
        Ok(())
    }
}
