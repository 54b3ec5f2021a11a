//! The one place where a path becomes a handle.
//!
//! A [`Root`] is a directory that the user named. Everything below it is opened through its handle, never by an absolute
//! path, so neither a symbolic link that appears half-way nor a `..` in somebody's archive can lead out of it.

use crate::error::{Error, ErrorKind, Result};
use cap_fs_ext::{DirExt, FollowSymlinks, OpenOptionsFollowExt, OpenOptionsSyncExt};
use cap_std::fs::{Dir, DirBuilder, Metadata, OpenOptions};
use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

mod destination;
mod sync;
mod take_over;
mod temporary;

pub use destination::Destination;
pub use sync::{sync_content, sync_was_refused};
pub use temporary::{Temporary, is_temporary_name, remove_live_temporaries};

use sync::tolerate_no_sync;
use temporary::temporary_name;

/// A directory named by the user, held open.
#[derive(Debug, Clone)]
pub struct Root {
    dir: Arc<Dir>,
    path: Arc<Path>,
}

impl Root {
    /// Opens an existing directory.
    ///
    /// # Errors
    /// When there is none at `path`, or it may not be read.
    pub fn open(path: &Path) -> Result<Root> {
        #[expect(clippy::disallowed_methods, reason = "this module is the one place with ambient authority")]
        let authority = cap_std::ambient_authority();
        let dir = Dir::open_ambient_dir(path, authority).map_err(|error| Error::io(path.display(), "open", error))?;
        Ok(Root { dir: Arc::new(dir), path: path.into() })
    }

    /// Opens a directory, after making it and its missing parents, durably.
    ///
    /// # Errors
    /// When something other than a directory is in the way, or one cannot be made.
    pub fn create(path: &Path) -> Result<Root> {
        Root::create_as(path, &DirBuilder::new())
    }

    /// As [`Root::create`], and nobody else may enter a directory that is made.
    ///
    /// # Errors
    /// As [`Root::create`].
    pub fn create_for_owner(path: &Path) -> Result<Root> {
        #[cfg_attr(not(unix), expect(unused_mut, reason = "only Unix has modes"))]
        let mut builder = DirBuilder::new();
        #[cfg(unix)]
        cap_std::fs::DirBuilderExt::mode(&mut builder, 0o700);
        Root::create_as(path, &builder)
    }

    /// As [`Root::create_for_owner`], and requires of a directory that exists that nobody else can change what is in it.
    ///
    /// # Errors
    /// As [`Root::create`], and when the directory is somebody else's or others may write in it.
    pub fn create_private(path: &Path) -> Result<Root> {
        let root = Root::create_for_owner(path)?;
        #[cfg(unix)]
        root.check_private()?;
        Ok(root)
    }

    /// As [`Root::open`], and requires that nobody else can change what is in the directory.
    ///
    /// # Errors
    /// As [`Root::open`], and when the directory is somebody else's or others may write in it.
    pub fn open_private(path: &Path) -> Result<Root> {
        let root = Root::open(path)?;
        #[cfg(unix)]
        root.check_private()?;
        Ok(root)
    }

    #[cfg(unix)]
    fn check_private(&self) -> Result<()> {
        use cap_std::fs::MetadataExt;
        let metadata = self.dir.dir_metadata().map_err(|error| Error::io(self.path.display(), "read", error))?;
        let refuse = |reason: &str, hint: &str| {
            Err(Error::new(ErrorKind::Denied, self.path.display().to_string(), reason).hint(hint))
        };
        if metadata.uid() != rustix::process::geteuid().as_raw() {
            return refuse("belongs to another user, who could change what is in it", "choose another directory");
        }
        if metadata.mode() & 0o022 != 0 {
            return refuse("others may write in it, and could change what is there", "chmod go-w");
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
            // Another process was faster. (A dangling link ends here too, and opening it says so.)
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Error::io(path.display(), "create directory", error)),
        }
        Root::open(path)
    }

    /// Parts the path of a file into its directory, opened by `open`, and its name.
    ///
    /// # Errors
    /// When `path` does not end in a name, or its directory cannot be opened.
    pub fn of_file(path: &Path, open: impl Fn(&Path) -> Result<Root>) -> Result<(Root, OsString)> {
        let Some(Component::Normal(name)) = path.components().next_back() else {
            return Err(Error::invalid(path.display().to_string(), "does not end in a file name"));
        };
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        Ok((open(parent)?, name.to_owned()))
    }

    /// The real path of a file that the user named, links followed.
    ///
    /// # Errors
    /// When it does not exist.
    pub fn resolve(path: &Path) -> Result<PathBuf> {
        std::fs::canonicalize(path).map_err(|error| Error::io(path.display(), "open", error))
    }

    /// Where `inner` lies below `outer`: the rest of its path, with slashes, which is empty when both are one. `inner` need
    /// not exist.
    pub fn path_inside(outer: &Path, inner: &Path) -> Option<PathBuf> {
        let outer = std::fs::canonicalize(outer).ok()?;
        let mut missing = PathBuf::new();
        // What does not exist yet will be made below the nearest directory that does.
        let existing = inner.ancestors().find_map(|path| {
            let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
            let found = std::fs::canonicalize(path).ok();
            if found.is_none() {
                missing = Path::new(path.file_name()?).join(&missing);
            }
            found
        })?;
        let whole: PathBuf = existing.join(missing).components().collect();
        whole.strip_prefix(&outer).ok().map(|rest| slashed(rest).into_owned())
    }

    /// The path as the user wrote it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The handle.
    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    /// `name` below this root, for messages.
    pub fn display(&self, name: impl AsRef<Path>) -> String {
        let name = name.as_ref();
        // Joining nothing would leave a slash at the end.
        if name.as_os_str().is_empty() { Cow::Borrowed(&*self.path) } else { Cow::Owned(self.path.join(name)) }
            .display()
            .to_string()
    }

    /// Opens the directory `name` below this one, itself and not what a link there points to.
    ///
    /// # Errors
    /// When it is missing, a link, or no directory.
    pub fn directory(&self, name: impl AsRef<Path>) -> Result<Root> {
        let path = self.path.join(name.as_ref());
        let dir = self.dir.open_dir_nofollow(name).map_err(|error| Error::io(path.display(), "open", error))?;
        Ok(Root { dir: Arc::new(dir), path: path.into() })
    }

    /// Opens the directory `name` below this one to read what is in it, itself and not what a link there points to. No name is
    /// this directory.
    ///
    /// # Errors
    /// When it is missing, a link, or no directory, or may not be read.
    #[cfg(target_os = "linux")]
    pub fn open_to_list(&self, name: &Path) -> io::Result<File> {
        use cap_std::fs::OpenOptionsExt as _;
        let name = if name.as_os_str().is_empty() { Path::new(".") } else { name };
        let mut options = OpenOptions::new();
        options.read(true).follow(FollowSymlinks::No).custom_flags(rustix::fs::OFlags::DIRECTORY.bits() as i32);
        self.dir.open_with(name, &options).map(cap_std::fs::File::into_std)
    }

    /// Opens the directory `name` below this one, after making it where it is missing.
    ///
    /// # Errors
    /// As [`Root::directory`], and when it cannot be made.
    pub fn create_directory(&self, name: impl AsRef<Path>) -> Result<Root> {
        match self.dir.create_dir(name.as_ref()) {
            Ok(()) => self.sync()?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Error::io(self.display(name), "create directory", error)),
        }
        self.directory(name)
    }

    /// Opens the regular file `name` for reading: never a link, and never blocking on a pipe.
    ///
    /// # Errors
    /// When it is missing, may not be read, or is anything but a regular file.
    pub fn open_file(&self, name: impl AsRef<Path>) -> Result<File> {
        self.open_described_file(name).map(|(file, _)| file)
    }

    /// As [`Root::open_file`], with what the file system says of the open file.
    ///
    /// # Errors
    /// As [`Root::open_file`].
    pub fn open_described_file(&self, name: impl AsRef<Path>) -> Result<(File, Metadata)> {
        self.open_regular(name.as_ref(), FollowSymlinks::No)
    }

    /// Opens a file that the user named by `path`, through links.
    ///
    /// # Errors
    /// When it is missing, may not be read, or is anything but a regular file.
    pub fn open_named_file(path: &Path) -> Result<File> {
        // A link may lead anywhere: the user chose it. Resolving it first keeps the open itself below one directory.
        #[expect(clippy::disallowed_methods, reason = "this module is the one place with ambient authority")]
        let authority = cap_std::ambient_authority();
        let mut options = OpenOptions::new();
        options.read(true).nonblock(true);
        let opened = cap_std::fs::File::open_ambient_with(path, &options, authority);
        regular(opened.map(cap_std::fs::File::into_std), || path.display().to_string()).map(|(file, _)| file)
    }

    /// Opens the regular file `name` for reading, through links that stay below this directory.
    ///
    /// # Errors
    /// When it is missing, may not be read, is anything but a regular file, or lies outside this directory.
    pub fn open_linked_file(&self, name: impl AsRef<Path>) -> Result<File> {
        self.open_regular(name.as_ref(), FollowSymlinks::Yes).map(|(file, _)| file)
    }

    fn open_regular(&self, name: &Path, follow: FollowSymlinks) -> Result<(File, Metadata)> {
        let mut options = OpenOptions::new();
        options.read(true).nonblock(true).follow(follow);
        let opened = self.dir.open_with(name, &options).map(cap_std::fs::File::into_std);
        regular(opened, || self.display(name))
    }

    /// Opens or makes the lock file `name` for writing, itself and not what a link there points to.
    ///
    /// # Errors
    /// When it cannot be opened, or is anything but a regular file.
    pub fn open_lock(&self, name: &str) -> Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).nonblock(true).follow(FollowSymlinks::No);
        let mut opened = self.dir.open_with(name, &options);
        if opened.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied) {
            // Somebody else's, and not for us to write: most file systems lock it all the same.
            options.write(false).create(false);
            opened = self.dir.open_with(name, &options);
        }
        regular(opened.map(cap_std::fs::File::into_std), || self.display(name)).map(|(file, _)| file)
    }

    /// Writes `bytes` to `name` so that a reader sees the old file or the new one, durably.
    ///
    /// # Errors
    /// When the system refuses any step; `name` is then as it was.
    pub fn replace_file(&self, name: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
        let name = name.as_ref();
        let mut temporary = self.temporary()?;
        temporary.write_all(bytes).map_err(|error| Error::io(self.display(name), "write", error))?;
        temporary.persist(name)?;
        self.sync()
    }

    /// How many bytes the disk has that this directory is on, where that is known.
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

    /// Removes `name` with everything below it, whatever it is. That there is none is as good.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn remove_tree(&self, name: &str) -> Result<()> {
        let is_directory = self.dir.symlink_metadata(name).is_ok_and(|metadata| metadata.is_dir());
        let removed = if is_directory { self.dir.remove_dir_all(name) } else { self.dir.remove_file(name) };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::io(self.display(name), "remove", error))
            }
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

    /// Whether `name` is a name of the open `file`.
    ///
    /// # Errors
    /// When the system cannot tell.
    pub fn is_name_of(&self, name: impl AsRef<Path>, file: &File) -> Result<bool> {
        let failed = |error| Error::io(self.display(name.as_ref()), "read", error);
        let open = Metadata::from_file(file).map_err(failed)?;
        match self.dir.symlink_metadata(name.as_ref()) {
            Ok(named) => Ok(identity(&named) == identity(&open)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(failed(error)),
        }
    }

    /// Whether the path by which this directory was opened still leads to it.
    ///
    /// # Errors
    /// When the system cannot tell.
    pub fn is_at_its_path(&self) -> Result<bool> {
        let metadata = |dir: &Dir| dir.dir_metadata().map_err(|error| Error::io(self.path.display(), "read", error));
        match Root::open(&self.path) {
            Ok(found) => Ok(identity(&metadata(&found.dir)?) == identity(&metadata(&self.dir)?)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Makes the regular file `name` durable, whichever program wrote it.
    ///
    /// # Errors
    /// When there is no such file, or the system reports that it could not.
    pub fn sync_file(&self, name: impl AsRef<Path>) -> Result<()> {
        let mut options = OpenOptions::new();
        // Windows syncs only what is open for writing.
        options.read(true).write(cfg!(windows)).nonblock(true).follow(FollowSymlinks::No);
        let opened = self.dir.open_with(name.as_ref(), &options).map(cap_std::fs::File::into_std);
        #[cfg(target_os = "linux")]
        if opened.as_ref().is_err_and(|error| error.raw_os_error() == Some(rustix::io::Errno::ACCESS.raw_os_error())) {
            // The file of another user can be synced without being opened.
            return self.sync_file_system();
        }
        let (file, _) = regular(opened, || self.display(name.as_ref()))?;
        tolerate_no_sync(file.sync_all()).map_err(|error| Error::io(self.display(name), "sync", error))
    }

    /// Makes everything durable that was written to the file system of this directory.
    ///
    /// # Errors
    /// When the system reports that it could not.
    #[cfg(target_os = "linux")]
    pub fn sync_file_system(&self) -> Result<()> {
        let here = self.dir.open(".").map_err(|error| Error::io(self.path.display(), "open", error))?;
        tolerate_no_sync(rustix::fs::syncfs(here).map_err(io::Error::from))
            .map_err(|error| Error::io(self.path.display(), "sync", error))
    }

    /// Makes the entries of this directory durable.
    ///
    /// # Errors
    /// When the system reports that it could not.
    pub fn sync(&self) -> Result<()> {
        // The handle is O_PATH on Linux, which fsync refuses; "." opened for reading is the same directory. Windows has no
        // such operation.
        if cfg!(unix) {
            let here = self.dir.open(".").map_err(|error| Error::io(self.path.display(), "open", error))?;
            tolerate_no_sync(here.into_std().sync_all())
                .map_err(|error| Error::io(self.path.display(), "sync", error))?;
        }
        Ok(())
    }
}

/// What tells a file from every other one of this machine.
fn identity(metadata: &Metadata) -> (u64, u64) {
    use cap_fs_ext::MetadataExt;
    (metadata.dev(), metadata.ino())
}

/// Whether the open file has lost its name.
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

fn regular(opened: io::Result<File>, object: impl Fn() -> String) -> Result<(File, Metadata)> {
    let not_regular = || Error::invalid(object(), "not a regular file");
    // What the systems answer for a link that may not be followed, and for a device or socket without a reader.
    const ELOOP: [i32; 2] = [40, 62];
    const ENXIO: i32 = 6;
    let file = match opened {
        Ok(file) => file,
        Err(error) if cfg!(unix) && error.raw_os_error().is_some_and(|code| ELOOP.contains(&code) || code == ENXIO) => {
            return Err(not_regular());
        }
        // cap-std's own refusal, which no system call made.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && error.raw_os_error().is_none() => {
            return Err(Error::invalid(object(), "leads outside its directory"));
        }
        Err(error) => return Err(Error::io(object(), "open", error)),
    };
    let metadata = Metadata::from_file(&file).map_err(|error| Error::io(object(), "read", error))?;
    if metadata.is_file() { Ok((file, metadata)) } else { Err(not_regular()) }
}

/// Makes an open file tell of its living writer: nobody else can open it for writing. A lock, which does that on Unix, would
/// keep readers out too, until a moment after the file has its name (LockFileEx: "exclusive" means no other access).
#[cfg(windows)]
fn keep_other_writers_out(options: &mut OpenOptions) {
    use cap_std::fs::OpenOptionsExt as _;
    const FILE_SHARE_READ: u32 = 1;
    const FILE_SHARE_DELETE: u32 = 4;
    options.share_mode(FILE_SHARE_READ | FILE_SHARE_DELETE);
}

/// The path with slashes, which on Unix it has already.
pub fn slashed(path: &Path) -> Cow<'_, Path> {
    if cfg!(windows) { PathBuf::from(path.to_string_lossy().replace('\\', "/")).into() } else { path.into() }
}

/// The bytes of a file name, as an image stores them.
///
/// # Errors
/// On Windows, when the name is not Unicode.
pub fn name_bytes(name: &OsStr) -> Result<&[u8]> {
    #[cfg(unix)]
    {
        Ok(std::os::unix::ffi::OsStrExt::as_bytes(name))
    }
    #[cfg(not(unix))]
    match name.to_str() {
        Some(text) => Ok(text.as_bytes()),
        None => Err(Error::invalid(name.to_string_lossy(), "the name is not Unicode")),
    }
}

/// The path that these bytes of an image or a command line name here.
pub fn path_of_bytes(bytes: &[u8]) -> std::borrow::Cow<'_, Path> {
    #[cfg(unix)]
    {
        Path::new(<OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(bytes)).into()
    }
    #[cfg(not(unix))]
    {
        PathBuf::from(String::from_utf8_lossy(bytes).into_owned()).into()
    }
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
            assert!(error.ends_with("leads outside its directory"), "{error}");
        }
    }
}
