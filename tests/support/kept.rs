//! Directories that take long to create, and are kept between runs in the build's target directory.

use super::{Scratch, command, run};
use std::path::{Path, PathBuf};

/// Returns the directory `name`, created by `make` if no previous run has. It must not be written to afterwards; the name has a
/// number that is increased when `make` changes.
pub(crate) fn kept(name: &str, make: impl FnOnce(&Scratch) -> Option<PathBuf>) -> Option<PathBuf> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("test-cache");
    let kept = directory.join(name);
    std::fs::create_dir_all(&directory).unwrap();
    let lock = std::fs::File::create(directory.join(format!("{name}.lock"))).unwrap();
    lock.lock().unwrap();
    if !kept.exists() {
        let scratch = Scratch::new();
        let made = make(&scratch)?;
        // In two steps, since a scratch directory may be on another file system.
        let nearly = directory.join(format!("{name}.unfinished"));
        std::fs::remove_dir_all(&nearly).ok();
        run(command("cp").arg("-a").args([&made, &nearly])).success();
        std::fs::rename(nearly, &kept).unwrap();
    }
    Some(kept)
}
