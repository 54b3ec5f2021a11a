//! What is on the disk: the fingerprint of a directory, and comparisons of two.

use ocibuild::Digest;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// An entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    Directory,
    /// Its mode and digest.
    File(u32, Digest),
    Link(String),
}

/// The entries below a directory, by path.
pub(super) type Tree = BTreeMap<String, Node>;

/// Files that say which process works, not what it did.
pub(super) const LOCKS: [&str; 2] = [".ocibuild.lock", ".ocibuild-lock"];

/// Reads everything below `directory` but what is in the directories or files `ignored`.
pub(super) fn read(directory: &Path, ignored: &[&str]) -> Tree {
    let mut tree = Tree::new();
    read_into(&mut tree, directory, "", ignored);
    tree
}

fn read_into(tree: &mut Tree, directory: &Path, prefix: &str, ignored: &[&str]) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        let path = format!("{prefix}{name}");
        if LOCKS.contains(&name.as_str()) || ignored.contains(&path.as_str()) {
            continue;
        }
        let kind = entry.file_type().unwrap();
        let node = if kind.is_dir() {
            read_into(tree, &entry.path(), &format!("{path}/"), ignored);
            Node::Directory
        } else if kind.is_symlink() {
            Node::Link(fs::read_link(entry.path()).unwrap().display().to_string())
        } else {
            // The content of a blob is all that counts; its mode only marks who wrote it.
            let is_blob = prefix.contains("blobs/");
            let mode = if is_blob { 0 } else { entry.metadata().unwrap().permissions().mode() & 0o7777 };
            Node::File(mode, Digest::of(&fs::read(entry.path()).unwrap_or_else(|error| panic!("{path}: {error}"))))
        };
        tree.insert(path, node);
    }
}

/// Copies plain files, directories and links, with their modes.
pub(super) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            copy(&entry.path(), &target);
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(entry.path()).unwrap(), target).unwrap();
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Whether a file may be there while a program writes, and after it was killed: what every file in the making is called.
pub(super) fn is_temporary(path: &str) -> bool {
    path.split('/').any(|name| name.starts_with(".ocibuild-"))
}

/// Returns the paths at which `now` is neither as in `before` nor as in `after`.
pub(super) fn unexpected<'t>(now: &'t Tree, before: &'t Tree, after: &'t Tree) -> Vec<&'t String> {
    let paths = now.keys().chain(before.keys()).chain(after.keys());
    let is_as_in = |path: &String, tree: &Tree| now.get(path) == tree.get(path);
    let mut paths: Vec<&String> = paths.filter(|path| !is_as_in(path, before) && !is_as_in(path, after)).collect();
    paths.sort();
    paths.dedup();
    paths
}
