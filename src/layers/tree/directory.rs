//! Trees from source directories and files.

use super::content::{FileContent, SourceDirectory};
use super::images::{self, ImageForm};
use super::listing::{DirectoryListing, FileKind, ListedFile, Status};
use super::rules::{ExtendedAttributes, SPECIAL_HINT, SpecialFiles};
use super::{Access, Attributes, Cause, Content, Entry, Kind, PathKind, Rules, TreeBuilder, Xattrs};
use crate::common::error::{Error, Result};
use crate::common::progress::{Progress, warn};
use crate::common::root::{Root, is_temporary_name, name_bytes, slashed};
use crate::layers::tree::lost_special_bits::Losses;
use crate::layers::tree::unwanted_directories::Litter;
use crate::spec::ImagePath;
use rayon::slice::ParallelSliceMut as _;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

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
        let own = own.map_err(|error| Error::io(root.path().display(), "read", error))?;
        let walk = Walk {
            root,
            destination,
            rules,
            progress,
            device: own.stamp.device,
            warned_of_mount: AtomicBool::new(false),
            found: Mutex::default(),
        };
        rayon::scope(|scope| walk.directory(scope, PendingDirectory::root()));
        let Bag { mut found, excluded, images, losses, error } =
            walk.found.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = error {
            return Err(error);
        }
        losses.tell(&root.path().display().to_string(), progress);
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
        for WalkedDirectory { path, entries } in &found {
            let files = entries.iter().filter(|entry| matches!(entry.kind, Kind::File { .. })).count();
            litter.count(path, destination, files, entries.iter().map(FoundEntry::size).sum());
        }
        litter.warn(&root.path().display().to_string(), progress);
        let entries = || found.iter().flat_map(|directory| &directory.entries);
        self.reserve(entries().count(), entries().map(|found| found.name.len()).sum());
        for WalkedDirectory { path, entries } in found {
            for FoundEntry { name, kind, attributes, has_other_names: _ } in entries {
                self.add_to(&path, &name, kind, attributes)?;
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
        let status = status.map_err(|error| Error::io(root.display(name), "read", error))?;
        let mut attributes = rules.file(status.access());
        let mut losses = Losses::default();
        losses.note(true, status.access(), || PathBuf::from(name), rules);
        losses.tell(&root.path().display().to_string(), progress);
        if keeps_xattrs(rules) {
            attributes.xattrs = xattrs(&file.into_std(), &root.display(name))?;
        }
        let directory = Arc::new(SourceDirectory { root: root.clone(), path: PathBuf::new() });
        self.add(Entry { path: destination.clone(), kind: file_kind(directory, name, &status), attributes })
    }
}

/// A directory with its path in the image and its entries.
struct WalkedDirectory {
    path: ImagePath,
    entries: Vec<FoundEntry>,
}

/// An entry as the walk found it.
struct FoundEntry {
    name: Box<[u8]>,
    kind: Kind,
    attributes: Attributes,
    has_other_names: bool,
}

impl FoundEntry {
    /// Returns the length of the content in bytes; zero for everything but a file.
    fn size(&self) -> u64 {
        if let Kind::File { size, .. } = self.kind { size } else { 0 }
    }
}

/// The results of all threads of a walk.
#[derive(Default)]
struct Bag {
    found: Vec<WalkedDirectory>,
    excluded: Vec<(PathBuf, PathKind, Cause)>,
    /// Directories that were found to be images when they were listed.
    images: Vec<(PathBuf, ImageForm)>,
    losses: Losses,
    error: Option<Error>,
}

/// A directory to be listed.
struct PendingDirectory {
    path: PathBuf,
    /// The directory is excluded, and only walked for entries that a pattern takes back.
    is_excluded: bool,
}

impl PendingDirectory {
    fn root() -> Self {
        PendingDirectory { path: PathBuf::new(), is_excluded: false }
    }
}

/// The result of listing one directory.
struct DirectoryContents {
    directory: WalkedDirectory,
    below: Vec<PendingDirectory>,
    excluded: Vec<(PathBuf, PathKind, Cause)>,
    image: Option<ImageForm>,
    losses: Losses,
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
    /// Lists one directory and spawns a task for each subdirectory. The handle is opened here, so that never more handles
    /// are open than threads run.
    fn directory<'s>(&'s self, scope: &rayon::Scope<'s>, place: PendingDirectory) {
        let PendingDirectory { path, is_excluded } = place;
        let directory = Arc::new(SourceDirectory { root: self.root.clone(), path });
        let listed = self.list(&directory, is_excluded);
        let mut bag = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        match listed {
            // An excluded directory is reported once, without the entries in it.
            Ok(DirectoryContents { image: Some(_), .. }) if is_excluded => {}
            Ok(DirectoryContents { image: Some(form), .. }) => bag.images.push((directory.path.clone(), form)),
            Ok(DirectoryContents { directory, below, excluded, losses, image: None }) => {
                bag.found.push(directory);
                bag.excluded.extend(excluded);
                bag.losses.add(losses);
                drop(bag);
                below.into_iter().for_each(|place| scope.spawn(move |scope| self.directory(scope, place)));
            }
            Err(error) => drop(bag.error.get_or_insert(error)),
        }
    }

    /// Returns the entries of `directory`, and the directories below it.
    fn list(&self, directory: &Arc<SourceDirectory>, is_excluded: bool) -> Result<DirectoryContents> {
        let relative = &*directory.path;
        let failed = |error| Error::io(self.root.display(relative), "read directory", error);
        let here = self.destination.join(&image_path(relative)?)?;
        let (mut entries, mut below, mut excluded) = (Vec::new(), Vec::new(), Vec::new());
        let (mut image, mut losses) = (None, Losses::default());
        let listing = DirectoryListing::open(self.root, relative).map_err(failed)?;
        listing.for_each(|entry| {
            let entry = entry.map_err(failed)?;
            let path = || relative.join(entry.name());
            let cause = self.cause_to_exclude(relative, &entry)?;
            if let Some(cause) = &cause {
                let kind = entry.path_kind().map_err(|error| self.read_failed(relative, &entry, error))?;
                // An excluded directory is reported once, without the entries in it.
                if !is_excluded {
                    excluded.push((path(), kind, cause.clone()));
                }
                if !self.rules.ignore.may_take_back() || matches!(cause, Cause::Output(_)) {
                    return Ok(());
                }
            }
            let status = entry.status().map_err(|error| self.read_failed(relative, &entry, error))?;
            if status.kind == FileKind::Directory {
                let path = path();
                self.notice_mount(&path, &status);
                below.push(PendingDirectory { path, is_excluded: cause.is_some() });
            }
            if cause.is_some() {
                return Ok(());
            }
            image = image.or(self.image_of(relative, &entry, &status)?);
            if self.is_archive_of_image(&entry, &status) && !self.rules.ignore.keeps(&slashed(&path())) {
                excluded.push((path(), PathKind::Other, Cause::Image(ImageForm::Archive)));
                return Ok(());
            }
            match self.found(&here, directory, &entry, &status)? {
                Some(found) => {
                    losses.note(status.kind == FileKind::File, status.access(), path, self.rules);
                    entries.push(found);
                }
                None => excluded.push((path(), PathKind::Other, Cause::Special)),
            }
            Ok(())
        })?;
        let image = image.filter(|_| !self.rules.ignore.keeps(&slashed(relative)));
        Ok(DirectoryContents { directory: WalkedDirectory { path: here, entries }, below, excluded, image, losses })
    }

    /// Returns the kind of image that `entry` makes of `directory`. The directory that the user named never counts as an
    /// image.
    fn image_of(&self, directory: &Path, entry: &ListedFile<'_>, status: &Status) -> Result<Option<ImageForm>> {
        if directory.as_os_str().is_empty() || status.kind != FileKind::File {
            return Ok(None);
        }
        if entry.name() == images::LAYOUT_FILE {
            return Ok(Some(ImageForm::Layout));
        }
        if entry.name() != images::DOCKERFILE {
            return Ok(None);
        }
        let file = entry.open().map_err(|error| self.read_failed(directory, entry, error))?;
        Ok(images::is_own_dockerfile(file).then_some(ImageForm::Context))
    }

    /// Returns whether a file is an archive of an image. A file that cannot be opened fails later, when it is copied.
    fn is_archive_of_image(&self, entry: &ListedFile<'_>, status: &Status) -> bool {
        status.kind == FileKind::File
            && images::may_be_archive(entry.name(), status.stamp.size)
            && entry.open().is_ok_and(images::is_archive_of_image)
    }

    fn cause_to_exclude(&self, directory: &Path, entry: &ListedFile<'_>) -> Result<Option<Cause>> {
        let ignore = &self.rules.ignore;
        if is_temporary_name(entry.name()) {
            return Ok(Some(Cause::Output(Arc::from("a file in the making"))));
        }
        if ignore.is_empty() {
            return Ok(None);
        }
        let kind = entry.path_kind().map_err(|error| self.read_failed(directory, entry, error))?;
        Ok(ignore.excludes(&slashed(&directory.join(entry.name())), kind))
    }

    fn read_failed(&self, directory: &Path, entry: &ListedFile<'_>, error: io::Error) -> Error {
        Error::io(self.root.display(directory.join(entry.name())), "read", error)
    }

    /// Converts `entry` of `directory`, whose path in the image is `here`, to an entry of the tree.
    fn found(
        &self,
        here: &ImagePath,
        directory: &Arc<SourceDirectory>,
        entry: &ListedFile<'_>,
        status: &Status,
    ) -> Result<Option<FoundEntry>> {
        let object = || self.root.display(directory.path.join(entry.name()));
        let (kind, mut attributes) = match status.kind {
            FileKind::Directory => (Kind::Directory, self.rules.directory(status.access())),
            FileKind::File => self.file(directory, entry, status),
            FileKind::Symlink => {
                let target = entry.target().map_err(|error| Error::io(object(), "read link", error))?;
                (Kind::Symlink { target: image_bytes(&target)?.into() }, self.rules.symlink(status.owner))
            }
            FileKind::Special if self.rules.special_files == SpecialFiles::Skip => return Ok(None),
            FileKind::Special => {
                let reason = "neither a file, nor a directory, nor a link";
                return Err(Error::invalid(object(), reason).hint(SPECIAL_HINT));
            }
        };
        if keeps_xattrs(self.rules) && status.kind != FileKind::Symlink {
            let file = entry.open().map_err(|error| Error::io(object(), "open", error))?;
            attributes.xattrs = xattrs(&file, &object())?;
        }
        let name = name_bytes(entry.name())?;
        here.check_name(name)?;
        Ok(Some(FoundEntry { name: name.into(), kind, attributes, has_other_names: status.has_other_names }))
    }

    /// Returns the content and attributes of a regular file, with the changes that the rules name.
    fn file(&self, directory: &Arc<SourceDirectory>, entry: &ListedFile<'_>, status: &Status) -> (Kind, Attributes) {
        let path = || directory.path.join(entry.name());
        let kind = match self.rules.changes.content(path) {
            Some(content) => Kind::File { size: content.len() as u64, content: Content::Bytes(content.clone()) },
            None => file_kind(directory.clone(), entry.name(), status),
        };
        (kind, self.rules.file(Access { mode: self.rules.changes.mode(path, status.mode), owner: status.owner }))
    }

    fn notice_mount(&self, path: &Path, status: &Status) {
        if status.stamp.device != self.device && !self.warned_of_mount.swap(true, Ordering::Relaxed) {
            warn(self.progress, &self.root.display(path), "another file system is mounted here, and copied too");
        }
    }
}

/// Returns the entry of the copied directory itself.
fn walk_root(root: &Root, destination: &ImagePath, rules: &Rules) -> Result<Entry> {
    let own = root.dir().dir_metadata().and_then(|metadata| Status::of(&metadata));
    let own = own.map_err(|error| Error::io(root.path().display(), "read", error))?;
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
        found[above].entries.retain(|entry| *entry.name != *path.name());
    }
}

/// Opens the files of a private source if none of them is readable to others: the umask then closed them.
fn open_if_all_are_closed(found: &mut [WalkedDirectory], rules: &Rules) {
    let is_file = |found: &FoundEntry| matches!(found.kind, Kind::File { .. });
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
    for WalkedDirectory { path, entries } in found {
        for FoundEntry { name, kind, .. } in entries.iter_mut().filter(|found| found.has_other_names) {
            if let Kind::File { content: Content::File(file), .. } = kind {
                let file = (file.stamp.device, file.stamp.inode);
                linked.push((path.join_name(name)?, file, kind));
            }
        }
    }
    linked.sort_unstable_by(|one, other| one.0.cmp(&other.0));
    let mut first_names: BTreeMap<(u64, u64), ImagePath> = BTreeMap::new();
    for (path, file, kind) in linked {
        match first_names.get(&file) {
            Some(target) => *kind = Kind::HardLink { target: target.clone() },
            None => drop(first_names.insert(file, path)),
        }
    }
    Ok(())
}

fn file_kind(directory: Arc<SourceDirectory>, name: &OsStr, status: &Status) -> Kind {
    let stamp = status.stamp;
    let content = Content::File(Arc::new(FileContent { directory, name: name.into(), stamp }));
    Kind::File { size: stamp.size, content }
}

/// Converts a path of this platform to an image path.
fn image_path(path: &Path) -> Result<ImagePath> {
    ImagePath::new(&image_bytes(path)?)
}

/// Returns the bytes of a path of this platform, with slashes.
fn image_bytes(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = name_bytes(path.as_os_str())?.to_vec();
    if cfg!(windows) {
        bytes.iter_mut().filter(|byte| **byte == b'\\').for_each(|byte| *byte = b'/');
    }
    Ok(bytes)
}

/// Returns whether extended attributes are kept. Other systems have none that an image could hold.
fn keeps_xattrs(rules: &Rules) -> bool {
    cfg!(unix) && rules.xattrs == ExtendedAttributes::Keep
}

#[cfg(unix)]
fn xattrs(file: &File, object: &str) -> Result<Option<Box<Xattrs>>> {
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
        // The label belongs to the security policy of the host, not to the file.
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
fn xattrs(_: &File, _: &str) -> Result<Option<Box<Xattrs>>> {
    Ok(None)
}

/// The limit of Linux for a list of names and for a value, in bytes (XATTR_SIZE_MAX).
#[cfg(unix)]
const LARGEST_XATTR: usize = 64 << 10;

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;
    use crate::common::progress::Silent;
    use crate::layers::tree::Tree;
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
