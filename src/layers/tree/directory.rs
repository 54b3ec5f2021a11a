//! Trees from source directories and files.

use super::extended_attributes::{keeps_xattrs, xattrs};
use super::listing::Status;
use super::lost_special_bits::Losses;
use super::unwanted_directories::Litter;
use super::walk::{FoundEntry, FoundKind, WalkResult, WalkedDirectory, image_path, walk_directory};
use super::{Cause, Entry, Kind, PathKind, Rules, SourceDirectory, SourceFile, Stamp, TreeBuilder};
use crate::common::error::{Error, Result};
use crate::common::progress::Progress;
use crate::common::root::{Root, name_bytes};
use crate::spec::ImagePath;
use rayon::slice::ParallelSliceMut as _;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::Arc;

impl TreeBuilder {
    /// Adds the directory `root` and everything in it under `destination`.
    ///
    /// Symbolic links are kept unchanged. A file with several names stays one file.
    ///
    /// # Errors
    /// Returns an error if something cannot be read, or is a device, socket or pipe and `rules` do not skip those.
    pub fn add_directory(
        &mut self,
        root: &Root,
        destination: &ImagePath,
        rules: &Rules,
        progress: &dyn Progress,
    ) -> Result<()> {
        let own = walk_root(root, destination, rules)?;
        self.add(own)?;
        self.walk(root, destination, rules, progress)
    }

    /// Adds everything in the directory `root`. If a layer below has `destination`, it keeps its attributes from there.
    ///
    /// # Errors
    /// The same as [`TreeBuilder::add_directory`].
    pub fn add_directory_content(
        &mut self,
        root: &Root,
        destination: &ImagePath,
        rules: &Rules,
        progress: &dyn Progress,
    ) -> Result<()> {
        let own = walk_root(root, destination, rules)?;
        self.add_destination(destination, own.attributes)?;
        self.walk(root, destination, rules, progress)
    }

    fn walk(&mut self, root: &Root, destination: &ImagePath, rules: &Rules, progress: &dyn Progress) -> Result<()> {
        let own = root.dir().dir_metadata().and_then(|metadata| Status::of(&metadata));
        let own = own.map_err(|error| Error::file(root.path(), "read", error))?;
        let WalkResult { mut found, excluded, images, lost_bits, .. } =
            walk_directory(root, destination, rules, own.stamp.device, progress)?;
        lost_bits.warn_about_all(&root.path().display().to_string(), progress);
        found.par_sort_unstable_by(|one, other| one.path.cmp(&other.path));
        for (path, kind, cause) in excluded {
            self.exclude(&path, kind, cause);
        }
        for (path, form) in images {
            remove(&mut found, &destination.join(&image_path(&path)?)?);
            self.exclude(&path, PathKind::Directory, Cause::Image(form));
        }
        if own.mode & 0o055 == 0 {
            open_if_all_are_closed(&mut found, rules);
        }
        join_hard_links(&mut found)?;
        let mut litter = Litter::default();
        for directory in &found {
            let WalkedDirectory { path, source: _, entries } = directory;
            let files = entries.iter().filter(|entry| entry.kind.is_file()).count();
            litter.count(path, destination, files, entries.iter().map(|entry| directory.size(entry)).sum());
        }
        litter.warn(&root.path().display().to_string(), progress);
        let names = |directory: &WalkedDirectory| directory.source.names_length();
        self.reserve(found.iter().map(|found| found.entries.len()).sum(), found.iter().map(names).sum());
        for WalkedDirectory { path, source, entries } in found {
            for FoundEntry { number, kind, attributes, has_other_names: _ } in entries {
                let kind = match kind {
                    FoundKind::SourceFile => Kind::of_file(SourceFile::of(&source, number)),
                    FoundKind::Directory => Kind::Directory,
                    FoundKind::Other(kind) => *kind,
                };
                self.add_to(&path, source.name(number), kind, attributes)?;
            }
        }
        Ok(())
    }

    /// Adds the single file `name` of `root` as `destination`.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or is not a regular file.
    pub fn add_file(
        &mut self,
        root: &Root,
        name: &OsStr,
        destination: &ImagePath,
        rules: &Rules,
        progress: &dyn Progress,
    ) -> Result<()> {
        let file = cap_std::fs::File::from_std(root.open_file(name)?);
        let status = file.metadata().and_then(|metadata| Status::of(&metadata));
        let status = status.map_err(|error| root.failed(name, "read", error))?;
        let mut attributes = rules.file(status.access());
        let mut lost_bits = Losses::default();
        lost_bits.note(true, status.access(), || PathBuf::from(name), rules);
        lost_bits.warn_about_all(&root.path().display().to_string(), progress);
        if keeps_xattrs(rules) {
            attributes.xattrs = xattrs(&file.into_std(), &root.display(name))?;
        }
        let mut directory = SourceDirectory::new(root.clone(), PathBuf::new());
        let number = directory.add(name_bytes(name)?, status.stamp)?;
        let kind = Kind::of_file(SourceFile::of(&Arc::new(directory), number));
        self.add(Entry { path: destination.clone(), kind, attributes })
    }
}

/// Returns the entry of the copied directory itself.
fn walk_root(root: &Root, destination: &ImagePath, rules: &Rules) -> Result<Entry> {
    let own = root.dir().dir_metadata().and_then(|metadata| Status::of(&metadata));
    let own = own.map_err(|error| Error::file(root.path(), "read", error))?;
    let mut attributes = rules.directory(own.access());
    if keeps_xattrs(rules) {
        let object = root.path().display().to_string();
        let here = root.dir().open(".").map_err(|error| Error::io(&object, "open", error))?;
        attributes.xattrs = xattrs(&here.into_std(), &object)?;
    }
    Ok(Entry { path: destination.clone(), kind: Kind::Directory, attributes })
}

/// Removes a directory that is not part of the tree from the entries found.
fn remove(found: &mut [WalkedDirectory], path: &ImagePath) {
    let above = path.parent().and_then(|parent| found.binary_search_by(|other| other.path.cmp(&parent)).ok());
    if let Some(above) = above {
        let WalkedDirectory { source, entries, .. } = &mut found[above];
        entries.retain(|entry| source.name(entry.number) != path.name());
    }
}

/// Opens the files of a private source if none of them is readable to others: the umask then closed them.
fn open_if_all_are_closed(found: &mut [WalkedDirectory], rules: &Rules) {
    let is_file = |found: &FoundEntry| found.kind.is_file();
    let is_closed = |found: &FoundEntry| found.attributes.mode & 0o044 == 0;
    let all = || found.iter().flat_map(|directory| &directory.entries);
    if all().all(|entry| !is_file(entry) || is_closed(entry)) {
        let entries = found.iter_mut().flat_map(|directory| &mut directory.entries);
        entries.filter(|entry| is_file(entry)).for_each(|file| rules.open(&mut file.attributes));
    }
}

/// Turns names of the same file into hard links. The first name in the order of paths stays the file.
fn join_hard_links(found: &mut [WalkedDirectory]) -> Result<()> {
    let mut linked = Vec::new();
    for WalkedDirectory { path, source, entries } in found {
        for FoundEntry { number, kind, .. } in entries.iter_mut().filter(|found| found.has_other_names) {
            if let FoundKind::SourceFile = kind {
                let Stamp { device, inode, .. } = *source.stamp(*number);
                linked.push((path.join_name(source.name(*number))?, (device, inode), kind));
            }
        }
    }
    linked.sort_unstable_by(|one, other| one.0.cmp(&other.0));
    let mut first_names: BTreeMap<(u64, u64), ImagePath> = BTreeMap::new();
    for (path, file, kind) in linked {
        match first_names.get(&file) {
            Some(target) => *kind = FoundKind::Other(Box::new(Kind::HardLink { target: target.clone() })),
            None => drop(first_names.insert(file, path)),
        }
    }
    Ok(())
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;
    use crate::common::progress::Silent;
    use crate::layers::tree::{SpecialFiles, Tree};
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    fn tree(at: &Path, rules: &Rules) -> Result<Tree> {
        let mut builder = TreeBuilder::new(rules);
        builder.add_directory(&Root::open(at)?, &ImagePath::new(b"app")?, rules, &Silent)?;
        builder.finish()
    }

    fn described(tree: &Tree) -> Vec<String> {
        let kind = |entry: &Entry| match &entry.kind {
            Kind::File { size, .. } => format!("file {size}"),
            Kind::Directory => "directory".to_owned(),
            Kind::Symlink { target } => format!("-> {}", String::from_utf8_lossy(target)),
            Kind::HardLink { target } => format!("= {target}"),
        };
        tree.entries().map(|entry| format!("{} {:o} {}", entry.path, entry.attributes.mode, kind(&entry))).collect()
    }

    #[test]
    fn a_directory_becomes_a_tree() {
        let keep = tempfile::tempdir().unwrap();
        let at = keep.path();
        fs::create_dir_all(at.join("b/deep")).unwrap();
        fs::write(at.join("b/deep/file"), "12345").unwrap();
        fs::hard_link(at.join("b/deep/file"), at.join("a")).unwrap();
        symlink("/absolute/../odd", at.join("link")).unwrap();
        fs::write(at.join("skip.pyc"), "x").unwrap();
        let mut rules = Rules::default();
        rules.ignore.add("**/*.pyc").unwrap();
        assert_eq!(
            described(&tree(at, &rules).unwrap()),
            [
                "/app 755 directory",
                "/app/a 644 file 5",
                "/app/b 755 directory",
                "/app/b/deep 755 directory",
                "/app/b/deep/file 644 = /app/a",
                "/app/link 777 -> /absolute/../odd",
            ]
        );
    }

    #[test]
    fn what_is_taken_back_is_found_in_directories_that_are_left_out() {
        let keep = tempfile::tempdir().unwrap();
        fs::create_dir_all(keep.path().join("docs/more")).unwrap();
        fs::write(keep.path().join("docs/keep"), "x").unwrap();
        fs::write(keep.path().join("docs/more/drop"), "x").unwrap();
        let mut rules = Rules::default();
        rules.ignore.add_file("docs\n!docs/keep").unwrap();
        assert_eq!(
            described(&tree(keep.path(), &rules).unwrap()),
            ["/app 755 directory", "/app/docs 755 directory", "/app/docs/keep 644 file 1"]
        );
    }

    #[test]
    fn special_files_are_refused_or_skipped() {
        let keep = tempfile::tempdir().unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, keep.path().join("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0)
            .unwrap();
        let error = tree(keep.path(), &Rules::default()).unwrap_err().to_string();
        assert!(error.contains("not a file, directory or link"), "{error}");
        let skipping = Rules { special_files: SpecialFiles::Skip, ..Rules::default() };
        assert_eq!(described(&tree(keep.path(), &skipping).unwrap()), ["/app 755 directory"]);
    }

    #[test]
    fn a_deep_tree_does_not_overflow_the_stack() {
        let keep = tempfile::tempdir().unwrap();
        let mut at = keep.path().to_owned();
        for _ in 0..900 {
            at.push("d");
        }
        fs::create_dir_all(&at).unwrap();
        assert_eq!(tree(keep.path(), &Rules::default()).unwrap().len(), 901);
    }
}
