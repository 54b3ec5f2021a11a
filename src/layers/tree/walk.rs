//! The parallel walk of a source directory.

use super::extended_attributes::{keeps_xattrs, xattrs};
use super::images::{self, ImageForm};
use super::listing::{DirectoryListing, FileKind, ListedFile, Status};
use super::lost_special_bits::Losses;
use super::rules::{SPECIAL_HINT, SpecialFiles};
use super::{Access, Attributes, Cause, Content, Kind, PathKind, Rules, SourceDirectory};
use crate::common::error::{Error, Result};
use crate::common::progress::{Progress, warn};
use crate::common::root::{Root, is_temporary_name, name_bytes, slashed};
use crate::common::threads::{FEW_FILES, looking_up};
use crate::spec::ImagePath;
use crate::store::{LAYOUT_FILE, archive};
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Lists `root` and all directories below it, in parallel. `device` is the file system of `root`.
///
/// # Errors
/// Returns the first error of any thread.
pub(super) fn walk_directory(
    root: &Root,
    destination: &ImagePath,
    rules: &Rules,
    device: u64,
    progress: &dyn Progress,
) -> Result<WalkResult> {
    let warned_of_mount = AtomicBool::new(false);
    let walk = Walk { root, destination, rules, progress, device, warned_of_mount, found: Mutex::default() };
    let pending = walk.first_directories();
    if !pending.is_empty() {
        // How many files are below these directories is not known yet: enough for more threads.
        looking_up(FEW_FILES, || walk.all_below(pending));
    }
    let mut result = walk.found.into_inner().unwrap_or_else(PoisonError::into_inner);
    result.error.take().map_or(Ok(result), Err)
}

/// A directory with its path in the image and its entries.
pub(super) struct WalkedDirectory {
    pub(super) path: ImagePath,
    /// The names and stamps of the entries.
    pub(super) source: Arc<SourceDirectory>,
    pub(super) entries: Vec<FoundEntry>,
}

/// An entry as the walk found it. All of them are in memory at the same time.
pub(super) struct FoundEntry {
    /// The number in the source directory.
    pub(super) number: u32,
    pub(super) kind: FoundKind,
    pub(super) attributes: Attributes,
    pub(super) has_other_names: bool,
}

/// The kind of an entry.
pub(super) enum FoundKind {
    /// A file with the content that it has in the source.
    SourceFile,
    /// A directory.
    Directory,
    /// A link, or a file with other content.
    Other(Box<Kind>),
}

impl FoundKind {
    pub(super) fn is_file(&self) -> bool {
        match self {
            FoundKind::SourceFile => true,
            FoundKind::Directory => false,
            FoundKind::Other(kind) => matches!(**kind, Kind::File { .. }),
        }
    }
}

impl WalkedDirectory {
    /// Returns the length of the entry's content in bytes; zero for everything but a file.
    pub(super) fn size(&self, entry: &FoundEntry) -> u64 {
        match &entry.kind {
            FoundKind::SourceFile => self.source.stamp(entry.number).size,
            FoundKind::Other(kind) if let Kind::File { size, .. } = **kind => size,
            FoundKind::Directory | FoundKind::Other(_) => 0,
        }
    }
}

/// The results of all threads of a walk.
#[derive(Default)]
pub(super) struct WalkResult {
    pub(super) found: Vec<WalkedDirectory>,
    pub(super) excluded: Vec<(PathBuf, PathKind, Cause)>,
    /// Directories that were found to be images when they were listed.
    pub(super) images: Vec<(PathBuf, ImageForm)>,
    pub(super) lost_bits: Losses,
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
    lost_bits: Losses,
}

struct Walk<'a> {
    root: &'a Root,
    destination: &'a ImagePath,
    rules: &'a Rules,
    progress: &'a dyn Progress,
    device: u64,
    warned_of_mount: AtomicBool,
    found: Mutex<WalkResult>,
}

impl Walk<'_> {
    /// Lists directories one after the other as long as few entries were found. Returns the directories that are left.
    fn first_directories(&self) -> Vec<PendingDirectory> {
        let mut pending = VecDeque::from([PendingDirectory::root()]);
        let mut entries = 0;
        while entries < FEW_FILES
            && let Some(place) = pending.pop_front()
        {
            pending.extend(self.directory(place));
            let found = &self.found.lock().unwrap_or_else(PoisonError::into_inner).found;
            entries += 1 + found.last().map_or(0, |directory| directory.entries.len());
        }
        pending.into()
    }

    /// Lists `pending` and all directories below them, in parallel.
    fn all_below(&self, pending: Vec<PendingDirectory>) {
        rayon::scope(|scope| self.spawn_all(scope, pending));
    }

    /// Spawns a task for each of `pending`, which spawns others. A handle is opened in a task only, so that never more of them
    /// are open than threads run.
    fn spawn_all<'s>(&'s self, scope: &rayon::Scope<'s>, pending: Vec<PendingDirectory>) {
        for place in pending {
            scope.spawn(move |scope| self.spawn_all(scope, self.directory(place)));
        }
    }

    /// Lists one directory. Returns the directories in it that are to be listed.
    fn directory(&self, place: PendingDirectory) -> Vec<PendingDirectory> {
        let PendingDirectory { path, is_excluded } = place;
        let listed = self.list(path.clone(), is_excluded);
        let mut bag = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        match listed {
            // An excluded directory is reported once, without the entries in it.
            Ok(DirectoryContents { image: Some(_), .. }) if is_excluded => {}
            Ok(DirectoryContents { image: Some(form), .. }) => bag.images.push((path, form)),
            Ok(DirectoryContents { directory, below, excluded, lost_bits, image: None }) => {
                bag.found.push(directory);
                bag.excluded.extend(excluded);
                bag.lost_bits.add(lost_bits);
                return below;
            }
            Err(error) => drop(bag.error.get_or_insert(error)),
        }
        Vec::new()
    }

    /// Returns the entries of the directory at `path`, and the directories below it.
    fn list(&self, path: PathBuf, is_excluded: bool) -> Result<DirectoryContents> {
        let relative = &*path;
        let mut source = SourceDirectory::new(self.root.clone(), path.clone());
        let failed = |error| self.root.failed(relative, "read directory", error);
        let here = self.destination.join(&image_path(relative)?)?;
        let (mut entries, mut below, mut excluded) = (Vec::new(), Vec::new(), Vec::new());
        let (mut image, mut lost_bits) = (None, Losses::default());
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
            match self.found(&here, &mut source, &entry, &status)? {
                Some(found) => {
                    lost_bits.note(status.kind == FileKind::File, status.access(), path, self.rules);
                    entries.push(found);
                }
                None => excluded.push((path(), PathKind::Other, Cause::Special)),
            }
            Ok(())
        })?;
        // They stay until the whole walk is done.
        entries.shrink_to_fit();
        source.shrink_to_fit();
        let image = image.filter(|_| !self.rules.ignore.keeps(&slashed(relative)));
        let directory = WalkedDirectory { path: here, source: Arc::new(source), entries };
        Ok(DirectoryContents { directory, below, excluded, image, lost_bits })
    }

    /// Returns the kind of image that `entry` makes of `directory`. The directory that the user named never counts as an
    /// image.
    fn image_of(&self, directory: &Path, entry: &ListedFile<'_>, status: &Status) -> Result<Option<ImageForm>> {
        if directory.as_os_str().is_empty() || status.kind != FileKind::File {
            return Ok(None);
        }
        if entry.name() == LAYOUT_FILE {
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
            && archive::may_be_archive(entry.name(), status.stamp.size)
            && entry.open().is_ok_and(archive::is_archive_of_image)
    }

    fn cause_to_exclude(&self, directory: &Path, entry: &ListedFile<'_>) -> Result<Option<Cause>> {
        let ignore = &self.rules.ignore;
        if is_temporary_name(entry.name()) {
            return Ok(Some(Cause::Output(Arc::from("a temporary file"))));
        }
        if ignore.is_empty() {
            return Ok(None);
        }
        let kind = entry.path_kind().map_err(|error| self.read_failed(directory, entry, error))?;
        Ok(ignore.excludes(&slashed(&directory.join(entry.name())), kind))
    }

    fn read_failed(&self, directory: &Path, entry: &ListedFile<'_>, error: io::Error) -> Error {
        self.root.failed(directory.join(entry.name()), "read", error)
    }

    /// Converts `entry` of `source`, whose path in the image is `here`, to an entry of the tree.
    fn found(
        &self,
        here: &ImagePath,
        source: &mut SourceDirectory,
        entry: &ListedFile<'_>,
        status: &Status,
    ) -> Result<Option<FoundEntry>> {
        let path = || source.path().join(entry.name());
        let object = || self.root.display(path());
        let (kind, mut attributes) = match status.kind {
            FileKind::Directory => (FoundKind::Directory, self.rules.directory(status.access())),
            FileKind::File => self.file(path, status),
            FileKind::Symlink => {
                let target = entry.target().map_err(|error| Error::io(object(), "read link", error))?;
                let kind = Kind::Symlink { target: image_bytes(&target)?.into() };
                (FoundKind::Other(Box::new(kind)), self.rules.symlink(status.owner))
            }
            FileKind::Special if self.rules.special_files == SpecialFiles::Skip => return Ok(None),
            FileKind::Special => {
                let reason = "not a file, directory or link";
                return Err(Error::invalid(object(), reason).hint(SPECIAL_HINT));
            }
        };
        if keeps_xattrs(self.rules) && status.kind != FileKind::Symlink {
            let file = entry.open().map_err(|error| Error::io(object(), "open", error))?;
            attributes.xattrs = xattrs(&file, &object())?;
        }
        let name = name_bytes(entry.name())?;
        here.check_name(name)?;
        let number = source.add(name, status.stamp)?;
        Ok(Some(FoundEntry { number, kind, attributes, has_other_names: status.has_other_names }))
    }

    /// Returns the content and attributes of the regular file at `path`, with the changes that the rules name.
    fn file(&self, path: impl Fn() -> PathBuf, status: &Status) -> (FoundKind, Attributes) {
        let kind = match self.rules.changes.content(&path) {
            Some(content) => {
                let (size, content) = (content.len() as u64, Content::Bytes(content.clone()));
                FoundKind::Other(Box::new(Kind::File { size, content }))
            }
            None => FoundKind::SourceFile,
        };
        (kind, self.rules.file(Access { mode: self.rules.changes.mode(path, status.mode), owner: status.owner }))
    }

    fn notice_mount(&self, path: &Path, status: &Status) {
        if status.stamp.device != self.device && !self.warned_of_mount.swap(true, Ordering::Relaxed) {
            warn(
                self.progress,
                &self.root.display(path),
                "a mount point of another file system; its content is copied too",
            );
        }
    }
}

/// Converts a path of this platform to an image path.
pub(super) fn image_path(path: &Path) -> Result<ImagePath> {
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
