//! A private directory for a robot that comes in one file.

use ocibuild::root::Root;
use ocibuild::{Error, ErrorKind, Result};
use std::fs::DirBuilder;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};

/// A directory that only this user can enter, and that is removed at the end.
#[derive(Debug)]
pub(super) struct UnpackedRobot {
    path: PathBuf,
}

impl UnpackedRobot {
    /// Unpacks the robot in `file`, as `rcc robot wrap` or `rcc robot bundle` wrote it.
    pub(super) fn new(file: &Path) -> Result<UnpackedRobot> {
        let unpacked = UnpackedRobot { path: private_directory()? };
        let shown = file.display().to_string();
        ocibuild::rcc::unpack_robot(Root::open_named_file(file)?, &shown, &unpacked.open()?)?;
        Ok(unpacked)
    }

    /// Opens the robot's directory.
    pub(super) fn open(&self) -> Result<Root> {
        Root::open(&self.path)
    }
}

impl Drop for UnpackedRobot {
    #[expect(clippy::disallowed_methods, reason = "the directory is this program's own and goes as a whole")]
    fn drop(&mut self) {
        // A failure leaves a directory among the temporary files of this machine.
        std::fs::remove_dir_all(&self.path).ok();
    }
}

#[expect(clippy::disallowed_methods, reason = "the directory of a packed robot may be one that nobody can write to")]
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
