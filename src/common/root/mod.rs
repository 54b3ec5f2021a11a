//! Handles of directories. A path becomes a handle only in this module.
//!
//! A [`Root`] is a directory that the user named. Everything below it is opened through its handle, never by an absolute
//! path, so neither a symbolic link that appears concurrently nor a `..` in a foreign archive can lead out of it.

use crate::common::error::{Error, ErrorKind, Result};
use cap_fs_ext::{DirExt, FollowSymlinks, OpenOptionsFollowExt, OpenOptionsSyncExt};
use cap_std::fs::{Dir, DirBuilder, Metadata, OpenOptions};
use std::borrow::Cow;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

mod destination;
mod from_disk;
mod link_or_copy;
mod path_bytes;
mod path_status;
mod sync;
mod temporary;

pub use destination::Destination;
pub use from_disk::WriteCheck;
pub use path_bytes::{name_bytes, path_of_bytes, slashed};
pub use path_status::PathStatus;
pub use sync::{sync_content, sync_was_refused};
pub use temporary::{Temporary, is_temporary_name, remove_live_temporaries};

use temporary::temporary_name;

/// A directory that the user named, held open.
#[derive(Debug, Clone)]
pub struct Root {
    dir: Arc<Dir>,
    path: Arc<Path>,
}

impl Root {
    /// Opens an existing directory.
    ///
    /// # Errors
    /// Returns an error if there is no directory at `path`, or it may not be read.
    pub fn open(path: &Path) -> Result<Root> {
        #[expect(clippy::disallowed_methods, reason = "this module is the one place with ambient authority")]
        let authority = cap_std::ambient_authority();
        let dir = Dir::open_ambient_dir(path, authority).map_err(|error| Error::file(path, "open", error))?;
        Ok(Root { dir: Arc::new(dir), path: path.into() })
    }

    /// Opens a directory, creating it and its missing parents durably.
    ///
    /// # Errors
    /// Returns an error if a path component exists and is not a directory, or if a directory cannot be created.
    pub fn create(path: &Path) -> Result<Root> {
        Root::create_as(path, &DirBuilder::new())
    }

    /// Opens or creates a directory as [`Root::create`] does. New directories are only accessible to their owner.
    ///
    /// # Errors
    /// The same as [`Root::create`].
    pub fn create_for_owner(path: &Path) -> Result<Root> {
        #[cfg_attr(not(unix), expect(unused_mut, reason = "only Unix has modes"))]
        let mut builder = DirBuilder::new();
        #[cfg(unix)]
        cap_std::fs::DirBuilderExt::mode(&mut builder, 0o700);
        Root::create_as(path, &builder)
    }

    /// Opens or creates a directory, and checks that no other user can change its content.
    ///
    /// New directories are only accessible to their owner, as with [`Root::create_for_owner`].
    ///
    /// # Errors
    /// The same as [`Root::create`]. Also returns an error if the directory belongs to another user or is writable for
    /// others.
    pub fn create_private(path: &Path) -> Result<Root> {
        let root = Root::create_for_owner(path)?;
        #[cfg(unix)]
        root.check_private()?;
        Ok(root)
    }

    /// Opens a directory as [`Root::open`] does, and checks that no other user can change its content.
    ///
    /// # Errors
    /// The same as [`Root::open`]. Also returns an error if the directory belongs to another user or is writable for
    /// others.
    pub fn open_private(path: &Path) -> Result<Root> {
        let root = Root::open(path)?;
        #[cfg(unix)]
        root.check_private()?;
        Ok(root)
    }

    #[cfg(unix)]
    fn check_private(&self) -> Result<()> {
        use cap_std::fs::MetadataExt;
        let metadata = self.dir.dir_metadata().map_err(|error| Error::file(&self.path, "read", error))?;
        let refuse = |reason: &str, hint: &str| {
            let object = self.path.display().to_string();
            Err(Error::new(ErrorKind::Denied, object, reason).hint(hint).at_path(&*self.path))
        };
        if metadata.uid() != rustix::process::geteuid().as_raw() {
            return refuse("owned by another user, who could change its content", "choose another directory");
        }
        if metadata.mode() & 0o022 != 0 {
            return refuse("writable by other users, who could change its content", "chmod go-w");
        }
        Ok(())
    }

    fn create_as(path: &Path, builder: &DirBuilder) -> Result<Root> {
        match Root::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            opened => return opened,
        }
        let (parent, name) = Root::of_file(path, |parent| Root::create_as(parent, builder))?;
        match parent.dir.create_dir_with(&name, builder) {
            Ok(()) => parent.sync()?,
            // Another process created it first. (A dangling link also ends here, and opening it then fails.)
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Error::file(path, "create directory", error)),
        }
        Root::open(path)
    }

    /// Splits the path of a file into its directory, opened with `open`, and its name.
    ///
    /// # Errors
    /// Returns an error if `path` does not end in a name, or if its directory cannot be opened.
    pub fn of_file(path: &Path, open: impl Fn(&Path) -> Result<Root>) -> Result<(Root, OsString)> {
        let Some(Component::Normal(name)) = path.components().next_back() else {
            return Err(Error::invalid(path.display().to_string(), "does not end in a file name").at_path(path));
        };
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        Ok((open(parent)?, name.to_owned()))
    }

    /// Returns the real path of a file that the user named, following links.
    ///
    /// # Errors
    /// Returns an error if the file does not exist.
    pub fn resolve(path: &Path) -> Result<PathBuf> {
        std::fs::canonicalize(path).map_err(|error| Error::file(path, "open", error))
    }

    /// Returns the path of `inner` below `outer`, with slashes; empty if both are the same. `inner` need not exist.
    pub fn path_inside(outer: &Path, inner: &Path) -> Option<PathBuf> {
        let outer = std::fs::canonicalize(outer).ok()?;
        Root::resolve_new(inner)?.strip_prefix(&outer).ok().map(|rest| slashed(rest).into_owned())
    }

    /// Returns the real path of what is at `path`, or will be there when it is created; `None` if it is at no directory that can be
    /// seen.
    pub fn resolve_new(path: &Path) -> Option<PathBuf> {
        let mut missing = PathBuf::new();
        // Missing directories will be created below the nearest directory that exists.
        let existing = path.ancestors().find_map(|path| {
            let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
            let found = std::fs::canonicalize(path).ok();
            if found.is_none() {
                missing = Path::new(path.file_name()?).join(&missing);
            }
            found
        })?;
        Some(existing.join(missing).components().collect())
    }

    /// Returns the path as the user wrote it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the handle.
    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    /// Returns the path of `name` below this root, for messages.
    pub fn display(&self, name: impl AsRef<Path>) -> String {
        self.path_of(name.as_ref()).display().to_string()
    }

    /// Returns the path of `name` below this root.
    fn path_of(&self, name: &Path) -> Cow<'_, Path> {
        // Joining an empty name would add a trailing slash.
        if name.as_os_str().is_empty() { Cow::Borrowed(&self.path) } else { Cow::Owned(self.path.join(name)) }
    }

    /// Returns the error of `action` (an infinitive) on the file `name` below this root.
    pub fn failed(&self, name: impl AsRef<Path>, action: &str, error: io::Error) -> Error {
        Error::file(&self.path_of(name.as_ref()), action, error)
    }

    /// Opens the directory `name` below this one, without following a link.
    ///
    /// # Errors
    /// Returns an error if it is missing, a link, or not a directory.
    pub fn directory(&self, name: impl AsRef<Path>) -> Result<Root> {
        let path = self.path.join(name.as_ref());
        let dir = self.dir.open_dir_nofollow(name).map_err(|error| Error::file(&path, "open", error))?;
        Ok(Root { dir: Arc::new(dir), path: path.into() })
    }

    /// Opens the directory `name` below this one for listing, without following a link. An empty name is this directory.
    ///
    /// # Errors
    /// Returns an error if it is missing, a link, or not a directory, or may not be read.
    #[cfg(target_os = "linux")]
    pub fn open_to_list(&self, name: &Path) -> io::Result<File> {
        use cap_std::fs::OpenOptionsExt as _;
        let name = if name.as_os_str().is_empty() { Path::new(".") } else { name };
        let mut options = OpenOptions::new();
        options.read(true).follow(FollowSymlinks::No).custom_flags(rustix::fs::OFlags::DIRECTORY.bits() as i32);
        self.dir.open_with(name, &options).map(cap_std::fs::File::into_std)
    }

    /// Opens the directory `name` below this one, creating it if it is missing.
    ///
    /// # Errors
    /// The same as [`Root::directory`]. Also returns an error if the directory cannot be created.
    pub fn create_directory(&self, name: impl AsRef<Path>) -> Result<Root> {
        match self.dir.create_dir(name.as_ref()) {
            Ok(()) => self.sync()?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(self.failed(name, "create directory", error)),
        }
        self.directory(name)
    }

    /// Opens the regular file `name` for reading, without following a link and without blocking on a pipe.
    ///
    /// # Errors
    /// Returns an error if it is missing, may not be read, or is not a regular file.
    pub fn open_file(&self, name: impl AsRef<Path>) -> Result<File> {
        self.open_described_file(name).map(|(file, _)| file)
    }

    /// Opens a file as [`Root::open_file`], and returns it with its metadata.
    ///
    /// # Errors
    /// The same as [`Root::open_file`].
    pub fn open_described_file(&self, name: impl AsRef<Path>) -> Result<(File, Metadata)> {
        self.open_regular(name.as_ref(), FollowSymlinks::No)
    }

    /// Opens a file that the user named by `path`, following links.
    ///
    /// # Errors
    /// Returns an error if it is missing, may not be read, or is not a regular file.
    pub fn open_named_file(path: &Path) -> Result<File> {
        // A link may lead anywhere: the user chose it. Resolving it first keeps the open itself below one directory.
        #[expect(clippy::disallowed_methods, reason = "this module is the one place with ambient authority")]
        let authority = cap_std::ambient_authority();
        let mut options = OpenOptions::new();
        options.read(true).nonblock(true);
        let opened = cap_std::fs::File::open_ambient_with(path, &options, authority);
        regular(opened.map(cap_std::fs::File::into_std), || Cow::Borrowed(path)).map(|(file, _)| file)
    }

    /// Opens the regular file `name` for reading, following links that stay below this directory.
    ///
    /// # Errors
    /// Returns an error if it is missing, may not be read, is not a regular file, or is outside this directory.
    pub fn open_linked_file(&self, name: impl AsRef<Path>) -> Result<File> {
        self.open_regular(name.as_ref(), FollowSymlinks::Yes).map(|(file, _)| file)
    }

    fn open_regular(&self, name: &Path, follow: FollowSymlinks) -> Result<(File, Metadata)> {
        let mut options = OpenOptions::new();
        options.read(true).nonblock(true).follow(follow);
        let opened = self.dir.open_with(name, &options).map(cap_std::fs::File::into_std);
        regular(opened, || self.path_of(name))
    }

    /// Opens or creates the lock file `name` for writing, without following a link.
    ///
    /// # Errors
    /// Returns an error if it cannot be opened, or is not a regular file.
    pub fn open_lock(&self, name: &str) -> Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).nonblock(true).follow(FollowSymlinks::No);
        let mut opened = self.dir.open_with(name, &options);
        if opened.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied) {
            // The file of another user, which we may not write. Most file systems can lock it nevertheless.
            options.write(false).create(false);
            opened = self.dir.open_with(name, &options);
        }
        regular(opened.map(cap_std::fs::File::into_std), || self.path_of(name.as_ref())).map(|(file, _)| file)
    }

    /// Writes `bytes` to `name` durably, so that a reader sees either the old file or the new one.
    ///
    /// # Errors
    /// Returns an error if the system refuses any step. `name` is unchanged then.
    pub fn replace_file(&self, name: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
        let name = name.as_ref();
        let mut temporary = self.temporary()?;
        temporary.write_all(bytes).map_err(|error| self.failed(name, "write", error))?;
        temporary.persist(name)?;
        self.sync()
    }

    /// Returns the size in bytes of the disk of this directory, if it is known.
    pub fn disk_size(&self) -> Option<u64> {
        #[cfg(unix)]
        {
            let disk = rustix::fs::fstatvfs(&*self.dir).ok()?;
            disk.f_blocks.checked_mul(disk.f_frsize)
        }
        #[cfg(not(unix))]
        {
            None
        }
    }

    /// Removes `name` with everything below it. A missing file is not an error.
    ///
    /// # Errors
    /// Returns an error if something cannot be removed.
    pub fn remove_tree(&self, name: &str) -> Result<()> {
        let is_directory = self.dir.symlink_metadata(name).is_ok_and(|metadata| metadata.is_dir());
        let removed = if is_directory { self.dir.remove_dir_all(name) } else { self.dir.remove_file(name) };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.failed(name, "remove", error)),
            _ => Ok(()),
        }
    }

    /// Sets the modification time of a file, if that is possible.
    pub fn touch(&self, name: &str, now: std::time::SystemTime) {
        let mut options = OpenOptions::new();
        options.write(true).nonblock(true).follow(FollowSymlinks::No);
        if let Ok(file) = self.dir.open_with(name, &options) {
            file.into_std().set_modified(now).ok();
        }
    }

    /// Returns whether `name` is a name of the open `file`.
    ///
    /// # Errors
    /// Returns an error if the system cannot read the metadata of either.
    pub fn is_name_of(&self, name: impl AsRef<Path>, file: &File) -> Result<bool> {
        let failed = |error| self.failed(name.as_ref(), "read", error);
        let open = Metadata::from_file(file).map_err(failed)?;
        match self.dir.symlink_metadata(name.as_ref()) {
            Ok(named) => Ok(identity(&named) == identity(&open)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(failed(error)),
        }
    }

    /// Returns whether the path by which this directory was opened still leads to it.
    ///
    /// # Errors
    /// Returns an error if the system cannot read the metadata of either directory.
    pub fn is_at_its_path(&self) -> Result<bool> {
        let metadata = |dir: &Dir| dir.dir_metadata().map_err(|error| Error::file(&self.path, "read", error));
        match Root::open(&self.path) {
            Ok(found) => Ok(identity(&metadata(&found.dir)?) == identity(&metadata(&self.dir)?)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Returns the identity of a file, which is unique on this machine.
fn identity(metadata: &Metadata) -> (u64, u64) {
    use cap_fs_ext::MetadataExt;
    (metadata.dev(), metadata.ino())
}

/// Returns whether the open file has no name any more.
fn is_removed(file: &File) -> io::Result<bool> {
    #[cfg(unix)]
    {
        Ok(std::os::unix::fs::MetadataExt::nlink(&file.metadata()?) == 0)
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        Ok(false)
    }
}

fn regular<'a>(opened: io::Result<File>, path: impl Fn() -> Cow<'a, Path>) -> Result<(File, Metadata)> {
    let invalid = |reason: &str| Error::invalid(path().display().to_string(), reason).at_path(path());
    let not_regular = || invalid("not a regular file");
    // The errors of the systems for a link that must not be followed, and for a device or socket without a reader.
    const ELOOP: [i32; 2] = [40, 62];
    const ENXIO: i32 = 6;
    let file = match opened {
        Ok(file) => file,
        Err(error) if cfg!(unix) && error.raw_os_error().is_some_and(|code| ELOOP.contains(&code) || code == ENXIO) => {
            return Err(not_regular());
        }
        // cap-std's own error, which does not come from a system call.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && error.raw_os_error().is_none() => {
            return Err(invalid("points outside its directory"));
        }
        Err(error) => return Err(Error::file(&path(), "open", error)),
    };
    let metadata = Metadata::from_file(&file).map_err(|error| Error::file(&path(), "read", error))?;
    if metadata.is_file() { Ok((file, metadata)) } else { Err(not_regular()) }
}

/// Opens a file so that no other process can open it for writing. This shows that its writer is alive. A lock, which has
/// this purpose on Unix, would also keep readers out until a moment after the file has its name (LockFileEx: "exclusive"
/// means no other access).
#[cfg(windows)]
fn keep_other_writers_out(options: &mut OpenOptions) {
    use cap_std::fs::OpenOptionsExt as _;
    const FILE_SHARE_READ: u32 = 1;
    const FILE_SHARE_DELETE: u32 = 4;
    options.share_mode(FILE_SHARE_READ | FILE_SHARE_DELETE);
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn scratch() -> (tempfile::TempDir, Root) {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::open(directory.path()).unwrap();
        (directory, root)
    }

    pub(super) fn names(root: &Root) -> Vec<OsString> {
        root.dir().entries().unwrap().map(|entry| entry.unwrap().file_name()).collect()
    }

    #[test]
    fn a_dropped_temporary_leaves_nothing() {
        let (_keep, root) = scratch();
        let mut temporary = root.temporary().unwrap();
        temporary.write_all(b"half").unwrap();
        assert_eq!(names(&root).len(), 1);
        drop(temporary);
        assert!(names(&root).is_empty());
    }

    #[test]
    fn replacing_is_complete() {
        let (_keep, root) = scratch();
        root.replace_file("index.json", b"one").unwrap();
        root.replace_file("index.json", b"two").unwrap();
        assert_eq!(root.dir().read("index.json").unwrap(), b"two");
        assert_eq!(names(&root), ["index.json"]);
    }

    #[test]
    #[cfg(unix)]
    fn only_regular_files_are_opened_and_no_link_is_followed() {
        let (keep, root) = scratch();
        root.dir().create_dir("directory").unwrap();
        root.dir().symlink("nowhere", "link").unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, keep.path().join("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0)
            .unwrap();
        for name in ["directory", "link", "pipe"] {
            let error = root.open_file(name).unwrap_err().to_string();
            assert!(error.ends_with("not a regular file"), "{error}");
        }
        assert!(root.open_file("missing").unwrap_err().to_string().ends_with("missing: not found"));
    }

    #[test]
    #[cfg(unix)]
    fn links_are_followed_only_below_the_directory() {
        let (_keep, root) = scratch();
        root.dir().write("file", b"x").unwrap();
        root.dir().symlink("file", "inside").unwrap();
        root.dir().symlink("../../etc/passwd", "outside").unwrap();
        root.dir().symlink_contents("/etc/passwd", "absolute").unwrap();
        assert!(root.open_linked_file("inside").is_ok());
        for name in ["outside", "absolute", "../x", "/etc/passwd"] {
            let error = root.open_linked_file(name).unwrap_err().to_string();
            assert!(error.ends_with("points outside its directory"), "{error}");
        }
    }
}
