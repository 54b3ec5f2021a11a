//! A finished tree.

use super::nodes::{DESTINATION, IMPLIED, NodeKind, Nodes};
use super::{Attributes, Content, Entry};
use crate::spec::ImagePath;
use rayon::iter::{IndexedParallelIterator, IntoParallelIterator as _, ParallelIterator as _};
use std::cmp::Ordering;
use std::sync::Arc;

/// The prefix of whiteouts (layer.md, "Whiteouts"). No other entry may have it.
pub(super) const WHITEOUT_PREFIX: &[u8] = b".wh.";

/// The content of a future layer.
///
/// The entries are sorted by the bytes of their paths, each path once, parents before children. They are made on demand,
/// because a tree keeps them in a smaller form.
#[derive(Debug, Clone)]
pub struct Tree {
    /// The root, and the entries in order.
    pub(super) nodes: Nodes,
}

/// The origin of an entry's name and attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryOrigin {
    /// A source named it, or its attributes were given.
    Named,
    /// No source named it: it is a directory that other entries need.
    Implied,
    /// It is the directory that a source is copied into. If a layer below has it, it keeps its attributes from there.
    Destination,
}

impl Tree {
    pub(super) fn of_sorted(nodes: Nodes) -> Tree {
        Tree { nodes }
    }

    /// Returns the number of entries.
    pub fn len(&self) -> usize {
        self.nodes.list.len() - 1
    }

    /// Returns whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the entries, in order.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = Entry> + '_ {
        (0..self.len()).map(|number| self.made(number))
    }

    /// Returns the entries, in order, as a parallel iterator.
    pub fn par_entries(&self) -> impl IndexedParallelIterator<Item = Entry> + '_ {
        (0..self.len()).into_par_iter().map(|number| self.made(number))
    }

    /// Returns the entries from `first` on, with their numbers.
    pub fn entries_from(&self, first: usize) -> impl Iterator<Item = (usize, Entry)> + '_ {
        (first..self.len()).map(|number| (number, self.made(number)))
    }

    /// Returns entry `number`, or `None` if there are fewer entries.
    pub fn entry(&self, number: usize) -> Option<Entry> {
        (number < self.len()).then(|| self.made(number))
    }

    /// Finds the entry at `path`.
    pub fn find(&self, path: &ImagePath) -> Option<Entry> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.path(middle).cmp(path) {
                Ordering::Less => low = middle + 1,
                Ordering::Equal => return Some(self.made(middle)),
                Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// Returns whether `path` is deleted from the layers below.
    pub fn removes(&self, path: &ImagePath) -> bool {
        let mark = [WHITEOUT_PREFIX, path.name()].concat();
        path.parent().and_then(|parent| parent.join_name(&mark).ok()).is_some_and(|mark| self.find(&mark).is_some())
    }

    /// Returns the path that an entry deletes from the layers below, if it is a whiteout.
    pub fn removed_by(entry: &Entry) -> Option<ImagePath> {
        let name = entry.path.name().strip_prefix(WHITEOUT_PREFIX)?;
        entry.path.parent().and_then(|parent| parent.join_name(name).ok())
    }

    /// Returns the origin of entry `number`.
    pub fn origin(&self, number: usize) -> EntryOrigin {
        match self.nodes.node(number as u32 + 1).source {
            IMPLIED => EntryOrigin::Implied,
            DESTINATION => EntryOrigin::Destination,
            _ => EntryOrigin::Named,
        }
    }

    /// Returns the number of the directory that entry `number` is in, or `None` if that is the root.
    pub fn parent(&self, number: usize) -> Option<usize> {
        (self.nodes.node(number as u32 + 1).parent as usize).checked_sub(1)
    }

    /// Returns whether entry `number` is a whiteout.
    pub fn is_removal(&self, number: usize) -> bool {
        self.nodes.name(number as u32 + 1).starts_with(WHITEOUT_PREFIX)
    }

    /// Returns the numbers of the entries with this name, whatever directory they are in.
    pub fn named<'t>(&'t self, name: &'t [u8]) -> impl Iterator<Item = usize> + 't {
        (0..self.len()).filter(move |number| self.nodes.name(*number as u32 + 1) == name)
    }

    /// Returns the entries in `directory` at any depth, with their numbers, in order.
    pub fn entries_below(&self, directory: &ImagePath) -> impl Iterator<Item = (usize, Entry)> + '_ {
        let mut start = directory.as_bytes().to_vec();
        if !start.is_empty() {
            start.push(b'/');
        }
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.path(middle).as_bytes() < &*start { low = middle + 1 } else { high = middle }
        }
        self.entries_from(low).take_while(move |(_, entry)| entry.path.as_bytes().starts_with(&start))
    }

    /// Replaces the content of entry `number`, if it is a file.
    pub fn set_content(&mut self, number: usize, content: Arc<[u8]>) {
        if let NodeKind::File(file) = self.nodes.node(number as u32 + 1).what {
            self.nodes.files.set(file, content.len() as u64, Content::Bytes(content));
        }
    }

    /// Replaces the target of entry `number`, if it is a symbolic link.
    pub fn set_target(&mut self, number: usize, target: Box<[u8]>) {
        if let NodeKind::Symlink(link) = self.nodes.node(number as u32 + 1).what {
            self.nodes.targets[link as usize] = target;
        }
    }

    /// Replaces the attributes of entry `number`.
    pub fn set_attributes(&mut self, number: usize, attributes: Attributes) {
        let known = self.nodes.attributes.iter().position(|other| *other == attributes);
        let known = known.unwrap_or_else(|| {
            self.nodes.attributes.push(attributes);
            self.nodes.attributes.len() - 1
        });
        self.nodes.list[number + 1].attributes = known as u32;
    }

    /// Returns the path of entry `number`, which there must be.
    pub(crate) fn path(&self, number: usize) -> ImagePath {
        self.nodes.path(number as u32 + 1)
    }

    fn made(&self, number: usize) -> Entry {
        self.nodes.entry(number as u32 + 1)
    }

    /// Returns the size of the file that entry `number` is, in bytes; zero for everything else.
    pub(crate) fn size(&self, number: usize) -> u64 {
        match self.nodes.node(number as u32 + 1).what {
            NodeKind::File(file) => self.nodes.files.size(file),
            NodeKind::Directory | NodeKind::Symlink(_) | NodeKind::HardLink(_) => 0,
        }
    }

    /// Returns the sources of its file contents.
    pub fn contents(&self) -> impl Iterator<Item = Content> {
        self.nodes.files.contents()
    }

    /// Returns the size of all files together, in bytes.
    pub fn content_size(&self) -> u64 {
        self.nodes.files.total_size()
    }
}
