//! A finished tree.

use super::nodes::{Nodes, ROOT};
use super::{Content, Entry, ImagePath, Rules, TreeBuilder};
use crate::error::Result;

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

    /// The entries from `first` on, with their numbers.
    pub fn entries_from(&self, first: usize) -> impl Iterator<Item = (usize, Entry)> + '_ {
        (first..self.len()).map(|number| (number, self.made(number)))
    }

    /// Entry `number`, if there are so many.
    pub fn entry(&self, number: usize) -> Option<Entry> {
        (number < self.len()).then(|| self.made(number))
    }

    fn made(&self, number: usize) -> Entry {
        self.nodes.entry(number as u32 + 1)
    }

    /// The names of what is in the root.
    pub fn names_in_root(&self) -> impl Iterator<Item = &[u8]> {
        let numbers = 1..=self.len() as u32;
        numbers.filter(|&number| self.nodes.node(number).parent == ROOT).map(|number| self.nodes.name(number))
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
        let removed = |entry: &Entry| {
            let name = entry.path.name().strip_prefix(WHITEOUT_PREFIX)?;
            entry.path.parent().and_then(|parent| parent.join_name(name).ok())
        };
        let mut kept = TreeBuilder::new(&Rules::default());
        let mut removals = Vec::new();
        for entry in self.entries() {
            match removed(&entry) {
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
