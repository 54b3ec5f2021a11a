//! A tree in several parts.

use super::Tree;
use super::nodes::{NodeKind, Nodes, ROOT};
use rayon::iter::{IntoParallelRefIterator as _, ParallelIterator as _};
use std::collections::HashSet;

impl Tree {
    /// Returns whether entry `number` is a file, a link or an empty directory, and not an additional name of a file.
    pub(crate) fn is_leaf(&self, number: usize) -> bool {
        let node = self.nodes.node(number as u32 + 1);
        !node.is_parent && !matches!(node.what, NodeKind::HardLink(_))
    }

    /// Divides the tree among `count` trees. `part_of` has the number of the one that each leaf is in.
    ///
    /// Directories are in each tree that has something in them; additional names of a file are where the file is.
    pub(crate) fn divided(&self, part_of: &[u8], count: usize) -> Vec<Tree> {
        let mut members: Vec<Vec<u32>> = vec![Vec::new(); count];
        let mut directories = HashSet::new();
        for (number, node) in (0..).zip(&self.nodes.list).skip(1) {
            let leaf = match node.what {
                NodeKind::HardLink(file) => file,
                _ if node.is_parent => continue,
                _ => number,
            };
            let part = part_of[leaf as usize - 1];
            let members = &mut members[usize::from(part)];
            members.push(number);
            let mut above = node.parent;
            while above != ROOT && directories.insert((above, part)) {
                members.push(above);
                above = self.nodes.node(above).parent;
            }
        }
        // `a-b` is between `a` and `a/c`, so a directory may be needed behind the place that it has.
        members.iter_mut().for_each(|members| members.sort_unstable());
        members.par_iter().map(|members| Tree::of_sorted(self.nodes.selected(members))).collect()
    }
}

impl Nodes {
    /// Returns the nodes `members`, in the same order, which is that of their numbers. The directory of each of them, and the file
    /// of each link, must be among them.
    fn selected(&self, members: &[u32]) -> Nodes {
        let place = |number: u32| members.binary_search(&number).map_or(ROOT, |place| place as u32 + 1);
        let mut selected = Nodes::new(self.attributes[0].clone());
        selected.attributes.clone_from(&self.attributes);
        selected.reserve(members.len(), 0);
        for &number in members {
            let node = self.node(number);
            let new = selected.push(place(node.parent), self.name(number));
            let what = match node.what {
                NodeKind::Directory => NodeKind::Directory,
                NodeKind::File(file) => {
                    NodeKind::File(selected.files.push(self.files.size(file), self.files.content(file)))
                }
                NodeKind::Symlink(target) => {
                    NodeKind::Symlink(add(&mut selected.targets, &self.targets[target as usize]))
                }
                NodeKind::HardLink(file) => NodeKind::HardLink(place(file)),
            };
            let copy = &mut selected.list[new as usize];
            (copy.what, copy.attributes, copy.source) = (what, node.attributes, node.source);
        }
        selected
    }
}

/// Adds an item to a list, and returns its number.
fn add<T: Clone>(list: &mut Vec<T>, item: &T) -> u32 {
    list.push(item.clone());
    super::nodes::count(list) - 1
}
