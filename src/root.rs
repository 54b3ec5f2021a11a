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
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

mod destination;
mod take_over;

pub use destination::Destination;

/// How the name of every file in the making begins. The rest is 32 hexadecimal digits.
const TEMPORARY_PREFIX: &str = ".ocibuild-";

/// A name for a file in the making that no other process chooses, on any machine.
fn temporary_name() -> String {
    // The system's random numbers, by way of what keeps the standard library's tables from being flooded.
    let random = || RandomState::new().hash_one(std::process::id());
    format!("{TEMPORARY_PREFIX}{:016x}{:016x}", random(), random())
}

/// Whether `name` has exactly the form of a file in the making. A file of a person that only begins like one has not.
pub fn is_temporary_name(name: &OsStr) -> bool {
    let digits = name.to_str().and_then(|name| name.strip_prefix(TEMPORARY_PREFIX));
    digits.is_some_and(|digits| {
        digits.len() == 32 && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
    })
}

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

    /// Starts a new file in this directory that gets its name when it is complete.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn temporary(&self) -> Result<Temporary> {
        self.temporary_as(&mut OpenOptions::new())
    }

    /// As [`Root::temporary`], and nobody but the owner can ever open the file.
    ///
    /// # Errors
    /// As [`Root::temporary`].
    pub fn temporary_for_owner(&self) -> Result<Temporary> {
        let mut options = OpenOptions::new();
        #[cfg(unix)]
        cap_std::fs::OpenOptionsExt::mode(&mut options, 0o600);
        self.temporary_as(&mut options)
    }

    fn temporary_as(&self, options: &mut OpenOptions) -> Result<Temporary> {
        options.read(true).write(true).create_new(true);
        #[cfg(windows)]
        keep_other_writers_out(options);
        for _ in 0..100 {
            let name = temporary_name();
            // Held while the file is made, so that none appears behind the back of a process that is being stopped.
            let mut live = live_temporaries();
            if live.stopped {
                return Err(Error::new(ErrorKind::Interrupted, self.path.display().to_string(), "told to stop"));
            }
            match self.dir.open_with(&name, options) {
                Ok(file) => {
                    let file = file.into_std();
                    // The lock tells a living writer from a dead one; where locks do not work, nothing is ever swept.
                    if cfg!(unix) && matches!(file.try_lock(), Err(std::fs::TryLockError::WouldBlock)) {
                        continue;
                    }
                    // A sweeper may have been faster than our lock.
                    match is_removed(&file) {
                        Ok(true) => continue,
                        Ok(false) => {}
                        Err(error) => {
                            self.dir.remove_file(&name).ok();
                            return Err(Error::io(self.path.display(), "create a file", error));
                        }
                    }
                    live.files.push((self.dir.clone(), name.clone()));
                    return Ok(Temporary { root: self.clone(), name, file: Some(file) });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Error::io(self.path.display(), "create a file", error)),
            }
        }
        Err(Error::new(ErrorKind::Io, self.path.display().to_string(), "cannot find a free temporary name"))
    }

    /// Removes what killed processes left in this directory: temporaries that nobody holds locked (on Windows: open).
    pub fn sweep_temporaries(&self) {
        let Ok(entries) = self.dir.entries() else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            if !is_temporary_name(&name) {
                continue;
            }
            let mut options = OpenOptions::new();
            options.read(true).write(true).nonblock(true).follow(FollowSymlinks::No);
            let mut opened = self.dir.open_with(&name, &options);
            if cfg!(unix) && opened.is_err() {
                // A blob that was about to get its name may not be written to any more.
                opened = self.dir.open_with(&name, options.write(false));
            }
            let Ok(file) = opened else { continue };
            // Locked until it is gone: a maker that has made it and not yet locked it finds it locked or removed, and makes
            // another.
            let file = file.into_std();
            if file.try_lock().is_ok() {
                // Without the right to delete, it costs only disk space.
                self.dir.remove_file(&name).ok();
            }
            drop(file);
        }
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

    /// Makes the regular file `name` durable, whoever wrote it.
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

/// A file in the making. Dropped before [`Temporary::persist`], it leaves nothing behind.
#[derive(Debug)]
pub struct Temporary {
    root: Root,
    name: String,
    /// Present until the file is persisted or dropped.
    file: Option<File>,
}

impl Temporary {
    /// Makes the content durable, still without its name.
    ///
    /// # Errors
    /// When the system reports that it could not.
    pub fn sync(&self) -> Result<()> {
        let synced = self.file.as_ref().map_or(Ok(()), File::sync_all);
        tolerate_no_sync(synced).map_err(|error| Error::io(self.root.path.display(), "write", error))
    }

    /// Writes `bytes` where they belong, whatever was written before.
    ///
    /// # Errors
    /// When the system cannot write there.
    pub fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let file = self.file.as_ref().ok_or_else(|| io::Error::other("already closed"))?;
        crate::section::write_all_at(file, bytes, offset)
    }

    /// A second handle of the same file, for whoever writes to another part of it.
    ///
    /// # Errors
    /// When the system has no more.
    pub fn share(&self) -> io::Result<File> {
        self.file.as_ref().ok_or_else(|| io::Error::other("already closed"))?.try_clone()
    }

    /// Makes the content durable and gives the file its name, replacing what had it. The directory still has to be synced.
    ///
    /// Returns the open file. Another process may put its own under the name at once, which [`Root::is_name_of`] shows.
    ///
    /// # Errors
    /// When the system refuses either, or the temporary name has become that of another file; nothing is left behind then.
    pub fn persist(mut self, name: impl AsRef<Path>) -> Result<File> {
        let name = name.as_ref();
        let file = self.file.take().ok_or_else(|| closed(&self.root.display(name)))?;
        tolerate_no_sync(file.sync_all()).map_err(|error| Error::io(self.root.display(name), "write", error))?;
        if !self.root.is_name_of(&self.name, &file)? {
            return Err(Error::new(ErrorKind::Changed, self.root.display(name), "its temporary file was replaced"));
        }
        // Returned open, and so locked, under its final name: a sweeper never meets it unlocked.
        self.rename_to(name).map_err(|error| Error::io(self.root.display(name), "write", error))?;
        Ok(file)
    }

    /// Takes the right to write to the file from everybody, its owner included, where the file system can. What is open for
    /// writing stays so.
    ///
    /// # Errors
    /// When the system fails at it.
    pub fn make_read_only(&self) -> Result<()> {
        #[cfg(unix)]
        if let Some(file) = &self.file {
            use std::os::unix::fs::PermissionsExt;
            let read_only = |metadata: std::fs::Metadata| {
                let mode = metadata.permissions().mode() & 0o7555;
                file.set_permissions(std::fs::Permissions::from_mode(mode))
            };
            match file.metadata().and_then(read_only) {
                // It guards against accidents; a file system without modes has no such guard.
                Err(error) if matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported) => {}
                done => done.map_err(|error| Error::io(self.root.path.display(), "protect a file", error))?,
            }
        }
        Ok(())
    }

    /// Gives the file its name without making anything durable: for what may be lost.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn rename_unsynced(mut self, name: impl AsRef<Path>) -> Result<()> {
        let file = self.file.take();
        self.rename_to(name.as_ref()).map_err(|error| Error::io(self.root.display(name.as_ref()), "write", error))?;
        drop(file);
        Ok(())
    }

    /// Gives up the name and keeps the content, readable through the handle until it is closed.
    ///
    /// # Errors
    /// When the name cannot be removed.
    pub fn into_unnamed(mut self) -> Result<File> {
        let file = self.file.take();
        drop(self);
        file.ok_or_else(|| closed("temporary file"))
    }

    fn rename_to(&self, name: &Path) -> io::Result<()> {
        let rename = || self.root.dir.rename(&self.name, &self.root.dir, name);
        let mut result = rename();
        if cfg!(windows) {
            // A virus scanner or an indexer may hold the target open for a moment.
            let mut pause = std::time::Duration::from_millis(5);
            while result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
                && pause.as_secs() < 1
            {
                std::thread::sleep(pause);
                pause *= 2;
                result = rename();
            }
        }
        result
    }
}

impl Write for Temporary {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.file {
            Some(file) => file.write(bytes),
            None => Err(io::Error::other("already closed")),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl io::Seek for Temporary {
    fn seek(&mut self, position: io::SeekFrom) -> io::Result<u64> {
        match &mut self.file {
            Some(file) => file.seek(position),
            None => Err(io::Error::other("already closed")),
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After a rename the name is gone, and removing it again does nothing.
        self.root.dir.remove_file(&self.name).ok();
        live_temporaries().files.retain(|(dir, name)| !(Arc::ptr_eq(dir, &self.root.dir) && *name == self.name));
    }
}

/// Removes every file in the making of this process, and lets it make no more. For a signal handler's thread, right before
/// the process ends.
pub fn remove_live_temporaries() {
    let mut live = live_temporaries();
    live.stopped = true;
    for (dir, name) in &live.files {
        dir.remove_file(name).ok();
    }
}

/// Whether a file system refused to make something durable since the process began (some network file systems do).
pub fn sync_was_refused() -> bool {
    SYNC_REFUSED.load(Ordering::Relaxed)
}

static SYNC_REFUSED: AtomicBool = AtomicBool::new(false);

/// The files in the making of this process, and whether it may make more.
struct LiveTemporaries {
    files: Vec<(Arc<Dir>, String)>,
    stopped: bool,
}

fn live_temporaries() -> std::sync::MutexGuard<'static, LiveTemporaries> {
    static LIVE: Mutex<LiveTemporaries> = Mutex::new(LiveTemporaries { files: Vec::new(), stopped: false });
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes the content of a file in the making durable, so far as it is written.
///
/// # Errors
/// When the system reports that it could not. It does so once: syncing the file again may seem to go well.
pub fn sync_content(file: &File) -> io::Result<()> {
    tolerate_no_sync(file.sync_data())
}

/// Some file systems (FUSE, SMB, exFAT) cannot sync and say so; the work goes on and the user is warned once.
fn tolerate_no_sync(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error)
            if matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::InvalidInput)
                || is_enotty(&error) =>
        {
            SYNC_REFUSED.store(true, Ordering::Relaxed);
            Ok(())
        }
        other => other,
    }
}

fn is_enotty(error: &io::Error) -> bool {
    const ENOTTY: i32 = 25;
    cfg!(unix) && error.raw_os_error() == Some(ENOTTY)
}

fn closed(object: &str) -> Error {
    Error::new(ErrorKind::Io, object, "already closed")
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

    /// M33: a process that stalls and another one with its number never mean the same file.
    #[test]
    fn temporary_names_are_never_the_same() {
        let names: std::collections::BTreeSet<String> = (0..1000).map(|_| temporary_name()).collect();
        assert_eq!(names.len(), 1000);
    }

    /// M33: what has the temporary name now is not given the final one.
    #[test]
    fn a_temporary_that_was_replaced_is_not_persisted() {
        let (_keep, root) = scratch();
        let mut temporary = root.temporary().unwrap();
        temporary.write_all(b"ours").unwrap();
        root.dir().write("other", b"theirs").unwrap();
        root.dir().rename("other", root.dir(), &temporary.name).unwrap();
        let error = temporary.persist("final").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Changed, "{error}");
        assert!(names(&root).is_empty());
    }

    fn scratch() -> (tempfile::TempDir, Root) {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::open(directory.path()).unwrap();
        (directory, root)
    }

    fn names(root: &Root) -> Vec<OsString> {
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
    fn sweeping_spares_the_living_and_strangers() {
        let (_keep, root) = scratch();
        let living = root.temporary().unwrap();
        root.dir().write(temporary_name(), b"x").unwrap();
        let strangers = [".ocibuild-notes", ".ocibuild-0123456789ABCDEF0123456789abcdef", "stranger"];
        strangers.iter().for_each(|name| root.dir().write(name, b"x").unwrap());
        root.sweep_temporaries();
        drop(living);
        let mut left = names(&root);
        left.sort_by_key(|name| strangers.iter().position(|stranger| name == stranger));
        assert_eq!(left, strangers);
    }

    #[test]
    fn sweepers_never_take_what_is_being_made() {
        let (_keep, root) = scratch();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        root.sweep_temporaries();
                    }
                });
            }
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                for round in 0..2000 {
                    root.temporary().unwrap().persist("made").unwrap_or_else(|error| panic!("round {round}: {error}"));
                }
            }));
            stop.store(true, Ordering::Relaxed);
            outcome.unwrap();
        });
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
