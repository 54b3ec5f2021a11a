//! A tree in several parts.

use super::Tree;
use super::nodes::{NodeKind, Nodes, ROOT};

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
        (0..count).map(|part| Tree::of_sorted(self.nodes.selected(&self.kept_in(part_of, part)))).collect()
    }

    /// Returns for each node whether it is in a part.
    fn kept_in(&self, part_of: &[u8], part: usize) -> Vec<bool> {
        let mut kept = vec![false; self.nodes.list.len()];
        kept[ROOT as usize] = true;
        for (number, node) in self.nodes.list.iter().enumerate().skip(1) {
            let leaf = match node.what {
                NodeKind::HardLink(file) => file as usize,
                _ if node.is_parent => continue,
                _ => number,
            };
            let mut above = number;
            while usize::from(part_of[leaf - 1]) == part && !kept[above] {
                kept[above] = true;
                above = self.nodes.list[above].parent as usize;
            }
        }
        kept
    }
}

impl Nodes {
    /// Returns the nodes that are `kept`, in the same order. The directory of each of them, and the file of each link, must be.
    fn selected(&self, kept: &[bool]) -> Nodes {
        let mut places = vec![ROOT; self.list.len()];
        let count = kept.iter().filter(|kept| **kept).count();
        let mut place = 0;
        for (number, _) in kept.iter().enumerate().skip(1).filter(|(_, kept)| **kept) {
            place += 1;
            places[number] = place;
        }
        let mut selected = Nodes::new(self.attributes[0].clone());
        selected.attributes.clone_from(&self.attributes);
        selected.reserve(count, 0);
        for (number, node) in self.list.iter().enumerate().skip(1).filter(|(number, _)| kept[*number]) {
            let new = selected.push(places[node.parent as usize], self.name(number as u32));
            let what = match node.what {
                NodeKind::Directory => NodeKind::Directory,
                NodeKind::File(file) => NodeKind::File(add(&mut selected.files, &self.files[file as usize])),
                NodeKind::Symlink(target) => {
                    NodeKind::Symlink(add(&mut selected.targets, &self.targets[target as usize]))
                }
                NodeKind::HardLink(file) => NodeKind::HardLink(places[file as usize]),
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
