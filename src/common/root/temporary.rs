//! Temporary files: written under a temporary name, and renamed when they are complete.

#[cfg(windows)]
use super::keep_other_writers_out;
use super::sync::tolerate_no_sync;
use super::{Root, WriteCheck, is_removed};
use crate::common::digest::{Digest, Hasher};
use crate::common::error::{Error, ErrorKind, Result};
use cap_fs_ext::{FollowSymlinks, OpenOptionsFollowExt, OpenOptionsSyncExt};
use cap_std::fs::{Dir, OpenOptions};
use std::ffi::OsStr;
use std::fs::File;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The prefix of every temporary name. The rest is 32 hexadecimal digits.
const TEMPORARY_PREFIX: &str = ".ocibuild-";

/// Returns a name for a temporary file that no other process chooses, on any machine.
pub(super) fn temporary_name() -> String {
    // The random numbers of the system, through the seeds of the standard library's hash tables.
    let random = || RandomState::new().hash_one(std::process::id());
    format!("{TEMPORARY_PREFIX}{:016x}{:016x}", random(), random())
}

/// Returns whether `name` has exactly the form of a temporary name. A file of the user that only has the same prefix does
/// not match.
pub fn is_temporary_name(name: &OsStr) -> bool {
    let digits = name.as_encoded_bytes().strip_prefix(TEMPORARY_PREFIX.as_bytes());
    digits.is_some_and(|digits| {
        digits.len() == 32 && digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// A temporary file. If it is dropped before [`Temporary::persist`], it is removed.
#[derive(Debug)]
pub struct Temporary {
    root: Root,
    name: String,
    /// Present until the file is persisted or dropped.
    file: Option<File>,
    /// The hash of what was written one after the other, if it is to be compared with what the disk returns.
    written: Option<Hasher>,
}

impl Root {
    /// Creates a file in this directory that gets its final name when it is complete.
    ///
    /// # Errors
    /// Returns an error if the file cannot be created.
    pub fn temporary(&self) -> Result<Temporary> {
        self.temporary_as(&mut OpenOptions::new())
    }

    /// Creates a temporary file as [`Root::temporary`] does, which only its owner can ever open.
    ///
    /// # Errors
    /// The same as [`Root::temporary`].
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
            // Held while the file is created, so that no file appears unnoticed while the process is being stopped.
            let mut live = self.live_temporaries()?;
            match self.dir.open_with(&name, options) {
                Ok(file) => {
                    let file = file.into_std();
                    // The lock shows that the writer is alive. If locks do not work, files are never swept.
                    if cfg!(unix) && matches!(file.try_lock(), Err(std::fs::TryLockError::WouldBlock)) {
                        continue;
                    }
                    // Another process may have swept the file before it was locked.
                    match is_removed(&file) {
                        Ok(true) => continue,
                        Ok(false) => {}
                        Err(error) => {
                            self.dir.remove_file(&name).ok();
                            return Err(Error::file(&self.path, "create a file", error));
                        }
                    }
                    live.files.push((self.dir.clone(), name.clone()));
                    return Ok(Temporary { root: self.clone(), name, file: Some(file), written: None });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Error::file(&self.path, "create a file", error)),
            }
        }
        Err(Error::new(ErrorKind::Io, self.path.display().to_string(), "cannot find a free temporary name"))
    }

    /// Removes the temporary files of killed processes in this directory: those that are not locked (on Windows: not
    /// open).
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
                // A blob that was about to be renamed may already be read-only.
                opened = self.dir.open_with(&name, options.write(false));
            }
            let Ok(file) = opened else { continue };
            // Locked until it is removed. A process that has created the file, but not yet locked it, finds it locked or
            // removed and creates another one.
            let file = file.into_std();
            if file.try_lock().is_ok() {
                // If it cannot be deleted, it only takes disk space.
                self.dir.remove_file(&name).ok();
            }
            drop(file);
        }
    }
}

impl Root {
    /// Returns the temporary files of this process. While they are held, no signal ends it.
    ///
    /// # Errors
    /// Fails if a signal is ending it.
    pub(super) fn live_temporaries(&self) -> Result<MutexGuard<'static, LiveTemporaries>> {
        let live = live_temporaries();
        match live.stopped {
            true => Err(Error::new(ErrorKind::Interrupted, self.path.display().to_string(), "interrupted by a signal")),
            false => Ok(live),
        }
    }
}

impl Temporary {
    /// Sets what is known of the file before it gets its name. What is read back has to be written from its start to its end.
    #[must_use]
    pub fn checking(mut self, check: WriteCheck) -> Self {
        self.written = (check == WriteCheck::ReadBack).then(Hasher::sha256);
        self
    }

    /// Makes the content durable, reads it back from the disk, and compares it with what was written, which has the digest
    /// `written`. Messages call the file `object`.
    ///
    /// # Errors
    /// Returns an error if the system refuses any of this, the file system reads from memory only, or the disk returns
    /// something else.
    pub fn check_on_disk(&self, written: &Digest, object: &str) -> Result<()> {
        self.sync()?;
        let found = self.root.digest_on_disk(&self.name, written.algorithm(), object)?;
        if found == *written {
            return Ok(());
        }
        Err(Error::corrupt(object, format!("the disk returns other bytes than were written: {found}"))
            .hint("check the disk, or write to another one"))
    }

    /// Makes the content durable, still under the temporary name.
    ///
    /// # Errors
    /// Returns an error if the system reports a failure.
    pub fn sync(&self) -> Result<()> {
        let synced = self.file.as_ref().map_or(Ok(()), File::sync_all);
        tolerate_no_sync(synced).map_err(|error| Error::file(&self.root.path, "write", error))
    }

    /// Writes `bytes` at `offset`, independent of earlier writes.
    ///
    /// # Errors
    /// Returns an error if the system cannot write there.
    pub fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let file = self.file.as_ref().ok_or_else(|| io::Error::other("already closed"))?;
        crate::common::file_section::write_all_at(file, bytes, offset)
    }

    /// Returns a second handle of the same file, for a writer of another range of it.
    ///
    /// # Errors
    /// Returns an error if the system has no handles left.
    pub fn share(&self) -> io::Result<File> {
        self.file.as_ref().ok_or_else(|| io::Error::other("already closed"))?.try_clone()
    }

    /// Makes the content durable and renames the file to `name`, replacing a file of that name. The directory still has
    /// to be synced.
    ///
    /// Returns the open file. Another process may replace the file at once, which [`Root::is_name_of`] detects.
    ///
    /// # Errors
    /// Returns an error if the system refuses either step, the disk returns something else than was written and that is
    /// checked, or another file has taken the temporary name. Nothing is left behind then.
    pub fn persist(mut self, name: impl AsRef<Path>) -> Result<File> {
        let name = name.as_ref();
        if let Some(written) = self.written.take() {
            self.check_on_disk(&written.finish(), &self.root.display(name))?;
        }
        let file = self.file.take().ok_or_else(|| closed(&self.root.display(name)))?;
        tolerate_no_sync(file.sync_all()).map_err(|error| self.root.failed(name, "write", error))?;
        if !self.root.is_name_of(&self.name, &file)? {
            return Err(Error::new(ErrorKind::Changed, self.root.display(name), "its temporary file was replaced"));
        }
        // The file is returned open, and therefore locked, so a sweep never finds it unlocked under its final name.
        self.rename_to(name, &file).map_err(|error| self.root.failed(name, "write", error))?;
        Ok(file)
    }

    /// Removes the write permission of the file for everyone, including its owner. A file system without modes is not an
    /// error. Handles that are open for writing stay usable.
    ///
    /// # Errors
    /// Returns an error if the system fails to do so.
    pub fn make_read_only(&self) -> Result<()> {
        #[cfg(unix)]
        if let Some(file) = &self.file {
            use std::os::unix::fs::PermissionsExt;
            let read_only = |metadata: std::fs::Metadata| {
                let mode = metadata.permissions().mode() & 0o7555;
                file.set_permissions(std::fs::Permissions::from_mode(mode))
            };
            match file.metadata().and_then(read_only) {
                // Read-only files are a guard against accidents. File systems without modes do not have it.
                Err(error) if matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported) => {}
                done => done.map_err(|error| Error::file(&self.root.path, "protect a file", error))?,
            }
        }
        Ok(())
    }

    /// Renames the file to its final name without making anything durable, for files that may be lost.
    ///
    /// # Errors
    /// Returns an error if the system refuses to rename it.
    pub fn rename_unsynced(mut self, name: impl AsRef<Path>) -> Result<()> {
        let name = name.as_ref();
        let file = self.file.take().ok_or_else(|| closed(&self.root.display(name)))?;
        self.rename_to(name, &file).map_err(|error| self.root.failed(name, "write", error))
    }

    /// Removes the name and keeps the content, which is readable through the handle until that is closed.
    ///
    /// # Errors
    /// Returns an error if the file is already closed, or if the system refuses to remove the name.
    pub fn into_unnamed(mut self) -> Result<File> {
        let file = self.file.take().ok_or_else(|| closed("temporary file"))?;
        match self.root.dir.remove_file(&self.name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.root.failed(&self.name, "remove", error)),
            _ => Ok(file),
        }
    }

    /// Renames `file`, which has the temporary name, to `name`.
    fn rename_to(&self, name: &Path, file: &File) -> io::Result<()> {
        let rename = || self.root.dir.rename(&self.name, &self.root.dir, name);
        let mut result = rename();
        if cfg!(windows) {
            // A virus scanner or an indexer may keep the target open for a moment.
            let mut pause = std::time::Duration::from_millis(5);
            while result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
                && pause.as_secs() < 1
            {
                std::thread::sleep(pause);
                pause *= 2;
                result = rename();
            }
        }
        match result {
            // A file server whose answer was lost is asked again, and finds nothing at the temporary name any more.
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.has_name(name, file) => Ok(()),
            result => result,
        }
    }

    fn has_name(&self, name: &Path, file: &File) -> bool {
        self.root.is_name_of(name, file).unwrap_or(false)
    }
}

impl Write for Temporary {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let file = self.file.as_mut().ok_or_else(|| io::Error::other("already closed"))?;
        let length = file.write(bytes)?;
        if let Some(written) = &mut self.written {
            written.update(&bytes[..length]);
        }
        Ok(length)
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
        // After a rename the temporary name is gone, and removing it again has no effect.
        self.root.dir.remove_file(&self.name).ok();
        live_temporaries().files.retain(|(dir, name)| !(Arc::ptr_eq(dir, &self.root.dir) && *name == self.name));
    }
}

/// Removes every temporary file of this process, and prevents new ones. A signal handler's thread calls this right before
/// the process ends.
pub fn remove_live_temporaries() {
    let mut live = live_temporaries();
    live.stopped = true;
    for (dir, name) in &live.files {
        dir.remove_file(name).ok();
    }
}

/// The temporary files of this process, and whether new ones are prevented.
pub(super) struct LiveTemporaries {
    files: Vec<(Arc<Dir>, String)>,
    stopped: bool,
}

fn live_temporaries() -> MutexGuard<'static, LiveTemporaries> {
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

    /// M33: a stalled process and another one with the same process ID never choose the same name.
    #[test]
    fn temporary_names_are_never_the_same() {
        let names: std::collections::BTreeSet<String> = (0..1000).map(|_| temporary_name()).collect();
        assert_eq!(names.len(), 1000);
    }

    #[test]
    fn a_temporary_that_keeps_its_name_is_not_unnamed() {
        let (_keep, root) = scratch();
        let temporary = root.temporary().unwrap();
        root.dir().remove_file(&temporary.name).unwrap();
        root.dir().create_dir(&temporary.name).unwrap();
        let error = temporary.into_unnamed().unwrap_err();
        assert!(error.reason().starts_with("cannot remove: "), "{error}");
        root.temporary().unwrap().into_unnamed().unwrap();
        assert_eq!(names(&root).len(), 1);
    }

    /// M33: another file that has taken the temporary name does not get the final one.
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
    fn sweeping_keeps_files_of_running_processes_and_unknown_files() {
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
                    // Without a sync, since what counts is how often a file is made beside the sweepers.
                    let made = root.temporary().unwrap().rename_unsynced("made");
                    made.unwrap_or_else(|error| panic!("round {round}: {error}"));
                }
            }));
            stop.store(true, Ordering::Relaxed);
            outcome.unwrap();
        });
    }
}
