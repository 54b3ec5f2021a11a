//! A finished tree.

use super::nodes::{DESTINATION, NOBODY, Nodes};
use super::{Attributes, Content, Entry, ImagePath, Rules, TreeBuilder};
use crate::error::Result;
use rayon::iter::{IndexedParallelIterator, IntoParallelIterator as _, ParallelIterator as _};
use std::cmp::Ordering;

/// How whiteouts begin (layer.md, "Whiteouts"). Nothing else may.
pub(super) const WHITEOUT_PREFIX: &[u8] = b".wh.";

/// The content of a future layer: entries sorted by the bytes of their paths, each path once, parents before children.
///
/// Entries are made when they are asked for; a tree keeps them in a smaller form.
#[derive(Debug, Clone)]
pub struct Tree {
    /// The root, and the entries in order.
    nodes: Nodes,
}

/// Who named an entry of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryOrigin {
    /// A source, or somebody who knows what the directory is like.
    Named,
    /// Nobody: it is a directory that other entries need.
    Implied,
    /// It is the directory that a source is copied into, and stays what it is where a layer below has it.
    Destination,
}

impl Tree {
    pub(super) fn of_sorted(nodes: Nodes) -> Tree {
        Tree { nodes }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.nodes.list.len() - 1
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The entries, in order.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = Entry> + '_ {
        (0..self.len()).map(|number| self.made(number))
    }

    /// The entries, in order, for all threads.
    pub fn par_entries(&self) -> impl IndexedParallelIterator<Item = Entry> + '_ {
        (0..self.len()).into_par_iter().map(|number| self.made(number))
    }

    /// The entries from `first` on, with their numbers.
    pub fn entries_from(&self, first: usize) -> impl Iterator<Item = (usize, Entry)> + '_ {
        (first..self.len()).map(|number| (number, self.made(number)))
    }

    /// Entry `number`, if there are so many.
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

    /// Whether `path` of the layers below is marked as deleted.
    pub fn removes(&self, path: &ImagePath) -> bool {
        let mark = [WHITEOUT_PREFIX, path.name()].concat();
        path.parent().and_then(|parent| parent.join_name(&mark).ok()).is_some_and(|mark| self.find(&mark).is_some())
    }

    /// The path that an entry marks as deleted in the layers below, if it is such a mark.
    pub fn removed_by(entry: &Entry) -> Option<ImagePath> {
        let name = entry.path.name().strip_prefix(WHITEOUT_PREFIX)?;
        entry.path.parent().and_then(|parent| parent.join_name(name).ok())
    }

    /// Who named entry `number`.
    pub fn origin(&self, number: usize) -> EntryOrigin {
        match self.nodes.node(number as u32 + 1).source {
            NOBODY => EntryOrigin::Implied,
            DESTINATION => EntryOrigin::Destination,
            _ => EntryOrigin::Named,
        }
    }

    /// The number of the directory that entry `number` is in; `None` for the root.
    pub fn parent(&self, number: usize) -> Option<usize> {
        (self.nodes.node(number as u32 + 1).parent as usize).checked_sub(1)
    }

    /// Whether entry `number` marks something of the layers below as deleted.
    pub fn is_removal(&self, number: usize) -> bool {
        self.nodes.name(number as u32 + 1).starts_with(WHITEOUT_PREFIX)
    }

    /// Gives entry `number` other attributes.
    pub fn set_attributes(&mut self, number: usize, attributes: Attributes) {
        let known = self.nodes.attributes.iter().position(|other| *other == attributes);
        let known = known.unwrap_or_else(|| {
            self.nodes.attributes.push(attributes);
            self.nodes.attributes.len() - 1
        });
        self.nodes.list[number + 1].attributes = known as u32;
    }

    fn path(&self, number: usize) -> ImagePath {
        self.nodes.path(number as u32 + 1)
    }

    fn made(&self, number: usize) -> Entry {
        self.nodes.entry(number as u32 + 1)
    }

    /// Where the bytes of its files come from.
    pub fn contents(&self) -> impl Iterator<Item = &Content> {
        self.nodes.files.iter().map(|(_, content)| content)
    }

    /// The entries without the marks of deletion, and what those delete from the layers below.
    ///
    /// # Errors
    /// Never for the entries of a tree.
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

    /// The bytes of all files together.
    pub fn content_size(&self) -> u64 {
        self.nodes.files.iter().map(|(size, _)| *size).sum()
    }
}
