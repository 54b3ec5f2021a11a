//! The directory of a robot that comes in one file.
//!
//! With a cache it is kept there under the digest of the file, so that the next build finds the same files, untouched. It is
//! made beside that name and renamed when it is complete; what a killed process leaves is removed with what the cache does not
//! need. Without a cache it is a temporary directory.

use super::cache_directory::CacheDirectory;
use ocibuild::cache::maintenance::{ROBOTS, UNFINISHED_ROBOT};
use ocibuild::common::digest::{Algorithm, Hashing};
use ocibuild::common::root::Root;
use ocibuild::rcc::{is_unpacked, unpack_robot};
use ocibuild::{Digest, Error, ErrorKind, Result};
use std::fs::DirBuilder;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};

/// A directory that only this user can enter.
#[derive(Debug)]
pub(super) enum UnpackedRobot {
    /// It stays in the cache.
    Kept(Root),
    /// It is removed at the end.
    Temporary(PathBuf),
}

impl UnpackedRobot {
    /// Unpacks the robot in `file`, as `rcc robot wrap` or `rcc robot bundle` wrote it, or finds it in the cache.
    pub(super) fn new(file: &Path, cache: Option<&CacheDirectory>) -> Result<UnpackedRobot> {
        // A cache that cannot be used costs time.
        if let Some((cache, directory)) = cache.and_then(|cache| Some((cache, cache.open().ok()?))) {
            let digest = digest(file)?;
            cache.note_use(&digest);
            return find_or_unpack(file, &digest, &directory).map(UnpackedRobot::Kept);
        }
        let unpacked = UnpackedRobot::Temporary(private_directory()?);
        unpack_robot(Root::open_named_file(file)?, &shown(file), &unpacked.open()?)?;
        Ok(unpacked)
    }

    /// Opens the robot's directory.
    pub(super) fn open(&self) -> Result<Root> {
        match self {
            UnpackedRobot::Kept(directory) => Ok(directory.clone()),
            UnpackedRobot::Temporary(path) => Root::open(path),
        }
    }
}

impl Drop for UnpackedRobot {
    #[expect(clippy::disallowed_methods, reason = "the directory was created by this program")]
    fn drop(&mut self) {
        if let UnpackedRobot::Temporary(path) = self {
            // A failure leaves a directory among the temporary files of this machine.
            std::fs::remove_dir_all(path).ok();
        }
    }
}

fn shown(file: &Path) -> String {
    file.display().to_string()
}

fn digest(file: &Path) -> Result<Digest> {
    let read_failed = |error| Error::io(file.display(), "read", error);
    let hashing = Hashing::new(Root::open_named_file(file)?, Algorithm::Sha256);
    hashing.finish().map(|(digest, _)| digest).map_err(read_failed)
}

/// Returns the robot in `file`, below the cache directory.
fn find_or_unpack(file: &Path, digest: &Digest, cache: &Root) -> Result<Root> {
    let robots = ROBOTS.split('/').try_fold(cache.clone(), |directory, name| directory.create_directory(name))?;
    let name = digest.hex();
    let find = || -> Result<Option<Root>> {
        let found = match robots.directory(&name) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            found => found?,
        };
        let is_whole = is_unpacked(Root::open_named_file(file)?, &shown(file), &found)?;
        Ok(is_whole.then_some(found))
    };
    if let Some(found) = find()? {
        return Ok(found);
    }
    let unfinished = format!("{name}.{:016x}{UNFINISHED_ROBOT}", RandomState::new().hash_one(std::process::id()));
    let directory = robots.create_directory(&unfinished)?;
    let unpacked = unpack_robot(Root::open_named_file(file)?, &shown(file), &directory).and_then(|()| {
        // The existing directory is incomplete, or another process was faster.
        if find()?.is_none() {
            robots.remove_tree(&name)?;
            let renamed = robots.dir().rename(&unfinished, robots.dir(), &name);
            renamed.map_err(|error| Error::io(robots.display(&name), "rename", error))?;
        }
        Ok(())
    });
    // Gone, if it was renamed.
    let removed = robots.remove_tree(&unfinished);
    unpacked.and(removed)?;
    robots.directory(&name)
}

#[expect(clippy::disallowed_methods, reason = "the directory of a packed robot may be read-only")]
fn private_directory() -> Result<PathBuf> {
    const MOST_ATTEMPTS: u32 = 16;
    let place = std::env::temp_dir();
    for attempt in 0..MOST_ATTEMPTS {
        let path = place.join(format!("ocibuild-robot-{:016x}", RandomState::new().hash_one(attempt)));
        match private_builder().create(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Error::io(path.display(), "create", error)),
        }
    }
    Err(Error::new(ErrorKind::Io, place.display().to_string(), "no free name for a temporary directory"))
}

/// Makes directories that only this user can enter; on Windows those of a user are.
fn private_builder() -> DirBuilder {
    #[cfg(unix)]
    {
        let mut builder = DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder
    }
    #[cfg(not(unix))]
    DirBuilder::new()
}
