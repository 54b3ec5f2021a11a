//! Trees from source directories and files.

use super::content::FileContent;
use super::rules::{ExtendedAttributes, SpecialFiles};
use super::{Content, Entry, ImagePath, Kind, PathKind, Rules, Stamp, TreeBuilder, Xattrs};
use crate::error::{Error, Result};
use crate::progress::{Progress, warn};
use crate::root::{Root, name_bytes, slashed};
use cap_fs_ext::{DirEntryExt as _, DirExt, MetadataExt as _};
use cap_std::fs::{Dir, DirEntry, Metadata};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

impl TreeBuilder {
    /// Adds everything in the directory `root` under `destination`, itself included.
    ///
    /// Links are kept as they are; files with several names stay one file.
    ///
    /// # Errors
    /// When something cannot be read, or is a device, socket or pipe and `rules` do not skip those.
    pub fn add_directory(
        &mut self,
        root: &Root,
        destination: &ImagePath,
        rules: &Rules,
        progress: &dyn Progress,
    ) -> Result<()> {
        let own = root.dir().dir_metadata().map_err(|error| Error::io(root.path().display(), "read", error))?;
        let walk = Walk {
            root,
            destination,
            rules,
            progress,
            device: own.dev(),
            warned_of_mount: AtomicBool::new(false),
            found: Mutex::default(),
        };
        rayon::scope(|scope| walk.directory(scope, PathBuf::new()));
        let (mut found, error) = walk.found.into_inner().unwrap_or_else(PoisonError::into_inner).into_parts();
        if let Some(error) = error {
            return Err(error);
        }
        found.push(Found { entry: walk_root(root, &own, destination, rules)?, links: None });
        found.sort_unstable_by(|a, b| a.entry.path.cmp(&b.entry.path));
        for entry in join_hard_links(found) {
            self.add(entry)?;
        }
        Ok(())
    }

    /// Adds the one file `name` of `root` as `destination`.
    ///
    /// # Errors
    /// When it cannot be read or is not a regular file.
    pub fn add_file(&mut self, root: &Root, name: &OsStr, destination: &ImagePath, rules: &Rules) -> Result<()> {
        let file = cap_std::fs::File::from_std(root.open_file(name)?);
        let metadata = file.metadata().map_err(|error| Error::io(root.display(name), "read", error))?;
        let mut attributes = rules.file(mode(&metadata));
        if keeps_xattrs(rules) {
            attributes.xattrs = xattrs(&file.into_std(), &root.display(name))?;
        }
        let kind = file_kind(root, Path::new(name), &metadata)?;
        self.add(Entry { path: destination.clone(), kind, attributes })
    }
}

/// An entry as found, and which file it is if that file has other names, too.
struct Found {
    entry: Entry,
    links: Option<(u64, u64)>,
}

/// What the threads of a walk bring together.
#[derive(Default)]
struct Bag {
    found: Vec<Found>,
    error: Option<Error>,
}

impl Bag {
    fn into_parts(self) -> (Vec<Found>, Option<Error>) {
        (self.found, self.error)
    }
}

struct Walk<'a> {
    root: &'a Root,
    destination: &'a ImagePath,
    rules: &'a Rules,
    progress: &'a dyn Progress,
    device: u64,
    warned_of_mount: AtomicBool,
    found: Mutex<Bag>,
}

impl Walk<'_> {
    /// Lists one directory and leaves its subdirectories to whoever has time. The handle is opened here and not before, so
    /// that never more are open than threads run.
    fn directory<'s>(&'s self, scope: &rayon::Scope<'s>, relative: PathBuf) {
        let result = self.list(&relative).map(|(found, below)| {
            for directory in below {
                scope.spawn(move |scope| self.directory(scope, directory));
            }
            found
        });
        let mut bag = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(found) => bag.found.extend(found),
            Err(error) => drop(bag.error.get_or_insert(error)),
        }
    }

    fn list(&self, relative: &Path) -> Result<(Vec<Found>, Vec<PathBuf>)> {
        let failed = |error| Error::io(self.root.display(relative), "read directory", error);
        let opened;
        let dir: &Dir = if relative.as_os_str().is_empty() {
            self.root.dir()
        } else {
            opened = self.root.dir().open_dir_nofollow(relative).map_err(failed)?;
            &opened
        };
        let here = self.destination.join(&image_path(relative)?)?;
        let (mut found, mut below) = (Vec::new(), Vec::new());
        for entry in dir.entries().map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let path = relative.join(entry.file_name());
            let file_type = entry.file_type().map_err(|error| Error::io(self.root.display(&path), "read", error))?;
            let kind = if file_type.is_dir() { PathKind::Directory } else { PathKind::Other };
            let is_left_out = !self.rules.ignore.is_empty() && self.rules.ignore.leaves_out(&slashed(&path), kind);
            if is_left_out && !self.rules.ignore.may_take_back() {
                continue;
            }
            // Windows tells the identity of a file only through a handle.
            let metadata = entry.full_metadata().map_err(|error| Error::io(self.root.display(&path), "read", error))?;
            if metadata.is_dir() {
                self.notice_mount(&path, &metadata);
                below.push(path.clone());
            }
            if !is_left_out && let Some(entry) = self.found(dir, &here, &entry, &path, &metadata)? {
                found.push(entry);
            }
        }
        Ok((found, below))
    }

    /// What `entry` of `dir` will be in the image, where that directory is called `here`.
    fn found(
        &self,
        dir: &Dir,
        here: &ImagePath,
        entry: &DirEntry,
        path: &Path,
        metadata: &Metadata,
    ) -> Result<Option<Found>> {
        let object = || self.root.display(path);
        let file_type = metadata.file_type();
        let (kind, mut attributes) = if file_type.is_dir() {
            (Kind::Directory, self.rules.directory(mode(metadata)))
        } else if file_type.is_file() {
            (file_kind(self.root, path, metadata)?, self.rules.file(mode(metadata)))
        } else if file_type.is_symlink() {
            let target =
                dir.read_link_contents(entry.file_name()).map_err(|error| Error::io(object(), "read link", error))?;
            let target = image_bytes(&target)?.into();
            (Kind::Symlink { target }, self.rules.symlink())
        } else if self.rules.special_files == SpecialFiles::Skip {
            return Ok(None);
        } else {
            let reason = "neither a file, nor a directory, nor a link";
            return Err(Error::invalid(object(), reason).hint("--skip-special leaves such files out"));
        };
        if keeps_xattrs(self.rules) && !file_type.is_symlink() {
            attributes.xattrs = xattrs_at(dir, entry, file_type.is_dir(), &object())?;
        }
        let links = (file_type.is_file() && metadata.nlink() > 1).then(|| (metadata.dev(), metadata.ino()));
        let path = here.join_name(&name_bytes(&entry.file_name())?)?;
        Ok(Some(Found { entry: Entry { path, kind, attributes }, links }))
    }

    fn notice_mount(&self, path: &Path, metadata: &Metadata) {
        if metadata.dev() != self.device && !self.warned_of_mount.swap(true, Ordering::Relaxed) {
            warn(self.progress, &self.root.display(path), "another file system is mounted here, and copied too");
        }
    }
}

/// The entry of the copied directory itself.
fn walk_root(root: &Root, own: &Metadata, destination: &ImagePath, rules: &Rules) -> Result<Entry> {
    let mut attributes = rules.directory(mode(own));
    if keeps_xattrs(rules) {
        let object = root.path().display().to_string();
        let here = root.dir().open(".").map_err(|error| Error::io(&object, "open", error))?;
        attributes.xattrs = xattrs(&here.into_std(), &object)?;
    }
    Ok(Entry { path: destination.clone(), kind: Kind::Directory, attributes })
}

/// The first name in the order of paths is the file, the others are links to it.
fn join_hard_links(found: Vec<Found>) -> impl Iterator<Item = Entry> {
    let mut first_names: BTreeMap<(u64, u64), ImagePath> = BTreeMap::new();
    found.into_iter().map(move |Found { mut entry, links }| {
        if let Some(file) = links {
            match first_names.get(&file) {
                Some(target) => entry.kind = Kind::HardLink { target: target.clone() },
                None => drop(first_names.insert(file, entry.path.clone())),
            }
        }
        entry
    })
}

fn file_kind(root: &Root, path: &Path, metadata: &Metadata) -> Result<Kind> {
    let stamp = Stamp::of(metadata).map_err(|error| Error::io(root.display(path), "read", error))?;
    let content = Content::File(Box::new(FileContent { root: root.clone(), path: path.into(), stamp }));
    Ok(Kind::File { size: metadata.len(), content })
}

/// A path of this platform as an image path.
fn image_path(path: &Path) -> Result<ImagePath> {
    ImagePath::new(&image_bytes(path)?)
}

/// The bytes of a path of this platform, with slashes.
fn image_bytes(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = name_bytes(path.as_os_str())?;
    if cfg!(windows) {
        bytes.iter_mut().filter(|byte| **byte == b'\\').for_each(|byte| *byte = b'/');
    }
    Ok(bytes)
}

#[cfg(unix)]
fn mode(metadata: &Metadata) -> u32 {
    use cap_std::fs::MetadataExt as _;
    metadata.mode()
}

/// Windows has no execute bit; the policy alone decides.
#[cfg(not(unix))]
fn mode(metadata: &Metadata) -> u32 {
    if metadata.is_dir() { 0o755 } else { 0o644 }
}

/// Other systems have nothing that an image could hold.
fn keeps_xattrs(rules: &Rules) -> bool {
    cfg!(unix) && rules.xattrs == ExtendedAttributes::Keep
}

fn xattrs_at(dir: &Dir, entry: &DirEntry, is_directory: bool, object: &str) -> Result<Option<Box<Xattrs>>> {
    let failed = |error| Error::io(object, "open", error);
    let file = if is_directory {
        dir.open_dir_nofollow(entry.file_name()).and_then(|below| below.open(".")).map_err(failed)?
    } else {
        entry.open().map_err(failed)?
    };
    xattrs(&file.into_std(), object)
}

#[cfg(unix)]
fn xattrs(file: &std::fs::File, object: &str) -> Result<Option<Box<Xattrs>>> {
    use rustix::fs::{fgetxattr, flistxattr};
    let failed = |error: rustix::io::Errno| Error::io(object, "read extended attributes", error.into());
    let mut names = vec![0; LARGEST_XATTR];
    let length = match flistxattr(file, &mut names[..]) {
        Ok(length) => length,
        Err(rustix::io::Errno::OPNOTSUPP) => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut found = Vec::new();
    for name in names[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        // The label says what the host's policy thinks of the file, nothing about the file.
        if name == b"security.selinux" {
            continue;
        }
        let mut value = vec![0; LARGEST_XATTR];
        let length = fgetxattr(file, name, &mut value[..]).map_err(failed)?;
        value.truncate(length);
        found.push((name.to_vec(), value));
    }
    found.sort();
    Ok(if found.is_empty() { None } else { Some(found.into()) })
}

#[cfg(not(unix))]
fn xattrs(_: &std::fs::File, _: &str) -> Result<Option<Box<Xattrs>>> {
    Ok(None)
}

/// Linux keeps neither a list of names nor a value longer than this (XATTR_SIZE_MAX).
#[cfg(unix)]
const LARGEST_XATTR: usize = 64 << 10;

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;
    use crate::progress::Silent;
    use crate::tree::Tree;
    use std::fs;
    use std::os::unix::fs::symlink;

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
        assert!(error.contains("neither a file"), "{error}");
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
