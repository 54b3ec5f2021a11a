//! The parallel walk of a source directory.

use super::content::{FileContent, SourceDirectory};
use super::extended_attributes::{keeps_xattrs, xattrs};
use super::images::{self, ImageForm};
use super::listing::{DirectoryListing, FileKind, ListedFile, Status};
use super::lost_special_bits::Losses;
use super::rules::{SPECIAL_HINT, SpecialFiles};
use super::{Access, Attributes, Cause, Content, Kind, PathKind, Rules};
use crate::common::error::{Error, Result};
use crate::common::progress::{Progress, warn};
use crate::common::root::{Root, is_temporary_name, name_bytes, slashed};
use crate::spec::ImagePath;
use crate::store::{LAYOUT_FILE, archive};
use std::ffi::OsStr;
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
    rayon::scope(|scope| walk.directory(scope, PendingDirectory::root()));
    let mut result = walk.found.into_inner().unwrap_or_else(PoisonError::into_inner);
    result.error.take().map_or(Ok(result), Err)
}

/// A directory with its path in the image and its entries.
pub(super) struct WalkedDirectory {
    pub(super) path: ImagePath,
    pub(super) entries: Vec<FoundEntry>,
}

/// An entry as the walk found it.
pub(super) struct FoundEntry {
    pub(super) name: Box<[u8]>,
    pub(super) kind: Kind,
    pub(super) attributes: Attributes,
    pub(super) has_other_names: bool,
}

impl FoundEntry {
    /// Returns the length of the content in bytes; zero for everything but a file.
    pub(super) fn size(&self) -> u64 {
        if let Kind::File { size, .. } = self.kind { size } else { 0 }
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
            Ok(DirectoryContents { directory, below, excluded, lost_bits, image: None }) => {
                bag.found.push(directory);
                bag.excluded.extend(excluded);
                bag.lost_bits.add(lost_bits);
                drop(bag);
                below.into_iter().for_each(|place| scope.spawn(move |scope| self.directory(scope, place)));
            }
            Err(error) => drop(bag.error.get_or_insert(error)),
        }
    }

    /// Returns the entries of `directory`, and the directories below it.
    fn list(&self, directory: &Arc<SourceDirectory>, is_excluded: bool) -> Result<DirectoryContents> {
        let relative = &*directory.path;
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
            match self.found(&here, directory, &entry, &status)? {
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
        let image = image.filter(|_| !self.rules.ignore.keeps(&slashed(relative)));
        Ok(DirectoryContents { directory: WalkedDirectory { path: here, entries }, below, excluded, image, lost_bits })
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
            warn(
                self.progress,
                &self.root.display(path),
                "a mount point of another file system; its content is copied too",
            );
        }
    }
}

/// Returns a regular file of `directory`, whose content is read later.
pub(super) fn file_kind(directory: Arc<SourceDirectory>, name: &OsStr, status: &Status) -> Kind {
    let stamp = status.stamp;
    let content = Content::File(Arc::new(FileContent { directory, name: name.into(), stamp }));
    Kind::File { size: stamp.size, content }
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
