//! Splits the content of a layer into several, so that an edit changes few of them.
//!
//! ```text
//!   packages, by path            own files, by path
//!  ├──────┼─────────┼─────┼─────╫────────┼──────┤      cuts: where the most different names meet,
//!   lowest layer                    highest layer       chosen by a hash of the name, in the middle of a part
//! ```
//!
//! The part of a file depends on names, and on sizes only as far as it must so that parts are of similar size (`cuts`). Files
//! of package managers (`packages`) come first, since all layers above a changed one are unpacked again, and the files that are
//! not theirs change more often. Directories are in each part that has something in them, with the same attributes, so the
//! layers together are the same file system as the one layer. A hard link is in the part of its file.

mod choice;
mod cuts;
mod packages;

pub use choice::{Split, SplitLimits};

use crate::layers::tree::Tree;
use crate::spec::ImagePath;
use cuts::{Leaf, cut};
use packages::LeafName;

/// One of the parts of a tree.
#[derive(Debug)]
pub struct TreePart {
    /// What distinguishes it from the other parts: the package, directory or file that it begins with. `None` for the first part.
    pub name: Option<String>,
    /// Its entries.
    pub tree: Tree,
}

/// Splits a tree within `limits`. The parts are in the order of their layers, lowest first.
///
/// A tree that removes paths from the layers below is not split.
pub fn split_tree(tree: Tree, limits: SplitLimits) -> Vec<TreePart> {
    let whole = |tree| vec![TreePart { name: None, tree }];
    // Most trees are small, and need no further look.
    if limits.most < 2 || tree.content_size() <= limits.uncut || (0..tree.len()).any(|number| tree.is_removal(number)) {
        return whole(tree);
    }
    let (leaves, own) = leaves(&tree);
    let starts = cut(&leaves, own, limits);
    if starts.len() < 2 {
        return whole(tree);
    }
    let mut part_of = vec![0; tree.len()];
    let ends = starts.iter().skip(1).copied().chain([leaves.len()]);
    for (part, (start, end)) in (0_u8..).zip(starts.iter().copied().zip(ends)) {
        leaves[start..end].iter().for_each(|leaf| part_of[leaf.entry()] = part);
    }
    let trees = tree.divided(&part_of, starts.len());
    let name = |start: usize| {
        let leaf = leaves.get(start).filter(|_| start > 0)?;
        if start == own {
            return Some("own files".to_owned());
        }
        let begin = ImagePath::new(tree.path(leaf.entry()).as_bytes().get(..leaf.name_length())?).ok()?;
        Some(format!("from {begin}"))
    };
    starts.iter().zip(trees).map(|(start, tree)| TreePart { name: name(*start), tree }).collect()
}

/// Returns the files, links and empty directories of a tree without additional names of files, and where those begin that
/// belong to no package.
fn leaves(tree: &Tree) -> (Vec<Leaf>, usize) {
    let (mut of_packages, mut own) = (Vec::new(), Vec::new());
    let (mut last_of_packages, mut last_own) = (LeafName::root(), LeafName::root());
    for number in (0..tree.len()).filter(|number| tree.is_leaf(*number)) {
        let name = LeafName::of(tree.path(number));
        let (leaves, last) = match name.package() {
            Some(_) => (&mut of_packages, &mut last_of_packages),
            None => (&mut own, &mut last_own),
        };
        leaves.push(Leaf::after(last, (number, &name), tree.size(number)));
        *last = name;
    }
    let begin_of_own = of_packages.len();
    of_packages.append(&mut own);
    (of_packages, begin_of_own)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::tree::{Access, Content, Entry, Kind, Rules, TreeBuilder};
    use std::collections::BTreeMap;
    use std::sync::Arc;

    const MIB: u64 = 1 << 20;

    /// Files with their sizes; nothing reads their content.
    type Files = BTreeMap<String, u64>;

    fn tree(files: &Files) -> Tree {
        let mut builder = TreeBuilder::new(&Rules::default());
        for (path, size) in files {
            let kind = Kind::File { size: *size, content: Content::Bytes(Arc::from(&b""[..])) };
            let attributes = Rules::default().file(Access::of_root(0o644));
            builder.add(Entry { path: path.parse().unwrap(), kind, attributes }).unwrap();
        }
        builder.finish().unwrap()
    }

    fn split(files: &Files, split: Split) -> Vec<TreePart> {
        split_tree(tree(files), split.limits(100))
    }

    /// Paths with sizes of each part.
    fn parts(files: &Files) -> Vec<Vec<(String, u64)>> {
        let described = |part: TreePart| {
            let files = part.tree.entries().filter(|entry| matches!(entry.kind, Kind::File { .. }));
            files.map(|entry| (entry.path.to_string(), entry.size())).collect()
        };
        split(files, Split::WhereWorthIt).into_iter().map(described).collect()
    }

    fn size(part: &[(String, u64)]) -> u64 {
        part.iter().map(|(_, size)| size).sum()
    }

    /// Numbers that look random, always the same.
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, limit: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % limit
        }
    }

    /// An environment of 1.2 GB: 200 packages, of which a few are large, and own files beside them.
    fn environment() -> Files {
        let mut numbers = Numbers(7);
        let mut files = Files::new();
        for package in 0..200 {
            let large = if package % 10 == 3 { 300 } else { 10 };
            for module in 0..10 + numbers.below(20) {
                let power = numbers.below(16);
                let size = 100 + numbers.below(4 << power) * large;
                let directory = numbers.below(4);
                files.insert(format!("/app/lib/site-packages/p{package:03}/d{directory}/m{module}.py"), size);
            }
        }
        for module in 0..50 {
            files.insert(format!("/app/src/m{module}.py"), 5_000);
        }
        files
    }

    #[test]
    fn parts_are_few_and_of_similar_size_and_own_files_are_the_last() {
        let files = environment();
        let all: u64 = files.values().sum();
        assert!(all > 800 * MIB, "{all}");
        let parts = parts(&files);
        assert!((16..=32).contains(&parts.len()), "{} parts", parts.len());
        let (own, packages) = parts.split_last().unwrap();
        assert!(own.iter().all(|(path, _)| path.starts_with("/app/src/")), "{own:?}");
        assert_eq!(own.len(), 50);
        let heaviest = packages.iter().map(|part| size(part)).max().unwrap();
        assert!(heaviest < all / 12, "{heaviest} of {all}");
        let together: Files = parts.into_iter().flatten().collect();
        assert_eq!(together, files);
    }

    #[test]
    fn packages_are_rarely_torn() {
        let parts = parts(&environment());
        let package = |(path, _): &(String, u64)| path.split('/').nth(4).unwrap_or(path).to_owned();
        let mut homes: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (number, part) in parts.iter().enumerate() {
            let packages: std::collections::BTreeSet<_> = part.iter().map(package).collect();
            packages.into_iter().for_each(|package| homes.entry(package).or_default().push(number));
        }
        let torn = homes.values().filter(|homes| homes.len() > 1).count();
        assert!(torn <= 20, "{torn} of {}", homes.len());
    }

    #[test]
    fn an_edit_changes_the_part_of_its_file_and_hardly_ever_another() {
        let files = environment();
        let before = parts(&files);
        let mut numbers = Numbers(11);
        let (mut edits, mut changed) = (0, 0);
        for _ in 0..30 {
            let mut edited = files.clone();
            let path = files.keys().nth(numbers.below(files.len() as u64) as usize).unwrap().clone();
            match numbers.below(3) {
                0 => *edited.get_mut(&path).unwrap() += numbers.below(2_000),
                1 => drop(edited.remove(&path)),
                _ => drop(edited.insert(format!("{path}.new"), numbers.below(20_000))),
            }
            let after = parts(&edited);
            let new = after.iter().filter(|part| !before.contains(part)).count();
            edits += 1;
            changed += new;
            assert!(new <= 4, "{path}: {new} parts are new");
        }
        assert!(changed <= edits + 3, "{edits} edits changed {changed} parts");
    }

    #[test]
    fn packages_of_the_same_size_are_not_cut_in_turn() {
        let path = |package: u64, file: u64| format!("/site-packages/p{package}/{file}");
        let files: Files = (0..6).map(|number| (path(number / 3, number % 3), 3 * MIB + 10)).collect();
        let parts = |files: &Files| -> Vec<Vec<String>> {
            let paths = |part: TreePart| part.tree.entries().map(|entry| entry.path.to_string()).collect();
            split(files, Split::AtMost(3)).into_iter().map(paths).collect()
        };
        let before = parts(&files);
        assert_eq!(before.len(), 3);
        for edited in files.keys() {
            for size in [3 * MIB, 3 * MIB + 20] {
                let mut other = files.clone();
                other.insert(edited.clone(), size);
                assert_eq!(parts(&other), before, "{edited}");
            }
        }
    }

    #[test]
    fn a_part_is_cut_as_soon_as_it_is_too_large() {
        let files = |count: u64| -> Files { (0..count).map(|number| (format!("/data/{number:03}"), MIB)).collect() };
        let sizes = |count| parts(&files(count)).iter().map(|part| size(part) / MIB).collect::<Vec<_>>();
        assert_eq!(sizes(63), [63]);
        let cut = sizes(65);
        assert_eq!(cut.len(), 2, "{cut:?}");
        assert!(cut.iter().all(|size| (24..=40).contains(size)), "{cut:?}");
        let names: Vec<_> = split(&files(65), Split::WhereWorthIt).into_iter().map(|part| part.name).collect();
        assert_eq!(names[0], None);
        assert!(names[1].as_ref().unwrap().starts_with("from /data/"));
        assert_eq!(split(&files(65), Split::Undivided).len(), 1);
        assert_eq!(split(&files(65), Split::AtMost(1)).len(), 1);
        assert_eq!(split(&files(65), Split::AtMost(5)).len(), 5);
        assert_eq!(split(&files(5), Split::Packages).len(), 2);
    }

    #[test]
    fn a_large_file_is_cut_off_and_one_alone_stays() {
        let files: Files = [("/a/1", 20 * MIB), ("/a/2", 400 * MIB), ("/a/3", 30 * MIB)]
            .map(|(path, size)| (path.to_owned(), size))
            .into();
        let sizes: Vec<_> = parts(&files).iter().map(|part| size(part) / MIB).collect();
        assert_eq!(sizes, [20, 400, 30]);
        let alone: Files = [("/a".to_owned(), 400 * MIB)].into();
        assert_eq!(parts(&alone).len(), 1);
    }

    #[test]
    fn directories_are_where_they_are_needed_and_links_where_their_file_is() {
        let mut builder = TreeBuilder::new(&Rules::default());
        let add = |builder: &mut TreeBuilder, path: &str, kind| {
            let attributes = Rules::default().file(Access::of_root(0o644));
            builder.add(Entry { path: path.parse().unwrap(), kind, attributes }).unwrap();
        };
        let file = |size| Kind::File { size, content: Content::Bytes(Arc::from(&b""[..])) };
        add(&mut builder, "/a/one", file(3 * MIB));
        add(&mut builder, "/b/two", file(3 * MIB));
        add(&mut builder, "/b/link", Kind::HardLink { target: "/a/one".parse().unwrap() });
        add(&mut builder, "/b/empty", Kind::Directory);
        add(&mut builder, "/c/empty", Kind::Directory);
        let parts = split_tree(builder.finish().unwrap(), Split::AtMost(2).limits(100));
        let paths = |part: &TreePart| part.tree.entries().map(|entry| entry.path.to_string()).collect::<Vec<_>>();
        let [first, second] = &parts[..] else { panic!("{} parts", parts.len()) };
        assert_eq!(paths(first), ["/a", "/a/one", "/b", "/b/link"]);
        assert_eq!(paths(second), ["/b", "/b/empty", "/b/two", "/c", "/c/empty"]);
        let link = first.tree.entry(3).unwrap();
        assert!(matches!(link.kind, Kind::HardLink { target } if target.to_string() == "/a/one"));
    }

    #[test]
    fn a_tree_that_removes_paths_is_one_layer() {
        let mut builder = TreeBuilder::new(&Rules::default());
        for name in 0..9 {
            let kind = Kind::File { size: 9 * MIB, content: Content::Bytes(Arc::from(&b""[..])) };
            let attributes = Rules::default().file(Access::of_root(0o644));
            builder.add(Entry { path: format!("/a/{name}").parse().unwrap(), kind, attributes }).unwrap();
        }
        builder.remove(&"/b".parse().unwrap()).unwrap();
        assert_eq!(split_tree(builder.finish().unwrap(), Split::AtMost(9).limits(100)).len(), 1);
    }
}
