//! Layouts in the cache directory. Everything in them can be fetched or built again.

use super::Layout;
use crate::common::directory_lock::DirectoryLock;
use crate::common::error::Result;
use crate::common::progress::{Progress, warn};
use crate::common::root::Root;

/// The directory of layer blobs, below the cache directory.
pub const LAYERS: &str = "store";
/// The directory of base images, below the cache directory.
pub const BASES: &str = "bases";

impl Layout {
    /// Opens the layout `name` of the cache directory, and creates it if it is missing. An unreadable layout is removed, with a
    /// warning.
    ///
    /// # Errors
    /// Fails if the file system fails, or the layout cannot be created.
    pub fn kept(directory: &Root, name: &str, progress: &dyn Progress) -> Result<Layout> {
        let path = directory.path().join(name);
        let open = || match directory.dir().symlink_metadata(name) {
            Ok(metadata) if !metadata.is_dir() => {
                Err(crate::Error::invalid(path.display().to_string(), "not a directory"))
            }
            _ => Layout::create(&path),
        };
        match open() {
            Err(error) if error.is_of_the_content() => {}
            opened => return opened,
        }
        // Another process may have removed it concurrently, and created a new one.
        let _lock = DirectoryLock::of(directory)?;
        match open() {
            Err(error) if error.is_of_the_content() => {
                directory.remove_tree(name)?;
                warn(progress, &error.object(), &format!("{}; all of {} is discarded", error.reason(), path.display()));
                Layout::create(&path)
            }
            opened => opened,
        }
    }
}
