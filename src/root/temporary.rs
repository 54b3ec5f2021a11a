//! Files in the making: written under a temporary name, and renamed when they are whole.

#[cfg(windows)]
use super::keep_other_writers_out;
use super::sync::tolerate_no_sync;
use super::{Root, is_removed};
use crate::error::{Error, ErrorKind, Result};
use cap_fs_ext::{FollowSymlinks, OpenOptionsFollowExt, OpenOptionsSyncExt};
use cap_std::fs::{Dir, OpenOptions};
use std::ffi::OsStr;
use std::fs::File;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// How the name of every file in the making begins. The rest is 32 hexadecimal digits.
const TEMPORARY_PREFIX: &str = ".ocibuild-";

/// A name for a file in the making that no other process chooses, on any machine.
pub(super) fn temporary_name() -> String {
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

/// A file in the making. Dropped before [`Temporary::persist`], it leaves nothing behind.
#[derive(Debug)]
pub struct Temporary {
    root: Root,
    name: String,
    /// Present until the file is persisted or dropped.
    file: Option<File>,
}

impl Root {
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

/// The files in the making of this process, and whether it may make more.
struct LiveTemporaries {
    files: Vec<(Arc<Dir>, String)>,
    stopped: bool,
}

fn live_temporaries() -> std::sync::MutexGuard<'static, LiveTemporaries> {
    static LIVE: Mutex<LiveTemporaries> = Mutex::new(LiveTemporaries { files: Vec::new(), stopped: false });
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn closed(object: &str) -> Error {
    Error::new(ErrorKind::Io, object, "already closed")
}

#[cfg(test)]
mod tests {
    use super::super::tests::{names, scratch};
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

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
}
