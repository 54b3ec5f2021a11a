//! Layouts of the cache directory: nothing in them is lost that cannot be had again.

use super::Layout;
use crate::error::{ErrorKind, Result};
use crate::lock::DirectoryLock;
use crate::progress::{Progress, warn};
use crate::root::Root;

/// Where the blobs of layers are, below the cache directory.
pub const LAYERS: &str = "store";
/// Where base images are, below the cache directory.
pub const BASES: &str = "bases";

impl Layout {
    /// Opens the layout `name` of the cache directory, after making it where it is missing. One that cannot be read is thrown
    /// away, and the watcher is told.
    ///
    /// # Errors
    /// When the file system fails, or the layout cannot be made.
    pub fn kept(directory: &Root, name: &str, progress: &dyn Progress) -> Result<Layout> {
        let path = directory.path().join(name);
        let open = || match directory.dir().symlink_metadata(name) {
            Ok(metadata) if !metadata.is_dir() => {
                Err(crate::Error::invalid(path.display().to_string(), "not a directory"))
            }
            _ => Layout::create(&path),
        };
        let is_unreadable = |error: &crate::Error| {
            matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Corrupt | ErrorKind::NotFound)
        };
        match open() {
            Err(error) if is_unreadable(&error) => {}
            opened => return opened,
        }
        // Another process may have thrown it away meanwhile, and made another.
        let _lock = DirectoryLock::of(directory)?;
        match open() {
            Err(error) if is_unreadable(&error) => {
                directory.remove_tree(name)?;
                warn(
                    progress,
                    &error.object(),
                    &format!("{}; all of {} is thrown away", error.reason(), path.display()),
                );
                Layout::create(&path)
            }
            opened => opened,
        }
    }
}
