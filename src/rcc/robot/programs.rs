//! Programs in the directories that a robot adds to `PATH`.

use super::Robot;
use crate::common::bounded_read;
use crate::common::error::{ErrorKind, Result};
use crate::common::progress;
use crate::common::progress::Progress;
use crate::common::root::{Root, slashed};
use crate::layers::tree::{FileChanges, IgnoreRules, PathKind};
use cap_std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};

/// Extensions of data files, which never become programs.
const DATA: [&str; 15] =
    ["svg", "bmp", "png", "gif", "jpg", "jpeg", "md", "txt", "htm", "html", "csv", "yml", "yaml", "json", "robot"];

/// The size limit of a shell script that is searched for CR, in bytes.
const SIZE_LIMIT: u64 = 16 << 20;

impl Robot {
    /// Finds the changes that `rcc run` makes to a robot: programs get execute bits, shell scripts lose CR.
    ///
    /// RCC considers the files directly in each directory of `PATH`. All but data and hidden files are programs.
    ///
    /// # Errors
    /// Returns an error if a directory or a shell script cannot be read.
    pub fn program_changes(
        &self,
        directory: &Root,
        ignore: &IgnoreRules,
        watcher: &dyn Progress,
    ) -> Result<FileChanges> {
        let mut changes = FileChanges::default();
        for folder in self.path.iter().filter_map(|entry| self.inner(entry)) {
            let folder = PathBuf::from(folder);
            let target = match found(directory, &folder) {
                Err(_) if ignore.excludes(&slashed(&folder), PathKind::Directory).is_some() => continue,
                target => target?,
            };
            // A search path may name what does not exist, or is not a directory.
            let Some((folder, _)) = target.filter(|(_, metadata)| metadata.is_dir()) else { continue };
            let opened = directory.directory(&folder)?;
            let unlisted = |error| directory.failed(&folder, "list", error);
            for entry in opened.dir().entries().map_err(unlisted)? {
                let path = relative(&folder, Path::new(&entry.map_err(unlisted)?.file_name()));
                if ignore.excludes(&slashed(&path), PathKind::Other).is_none()
                    && let Some((file, metadata)) = found(directory, &path)?
                    && metadata.is_file()
                {
                    add(&mut changes, directory, &path, file, watcher)?;
                }
            }
        }
        for path in changes.contents.keys() {
            let reason = "CR is removed, as by `rcc run` for shell scripts in PATH";
            progress::warn(watcher, &directory.display(path), reason);
        }
        Ok(changes)
    }
}

/// Adds the changes to the file at `path`. `file` is that file, or the target if `path` is a link.
fn add(changes: &mut FileChanges, directory: &Root, path: &Path, file: PathBuf, watcher: &dyn Progress) -> Result<()> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let extension = name.rsplit_once('.').map_or(String::new(), |(_, extension)| extension.to_ascii_lowercase());
    if extension == "sh"
        && let Some(content) = without_carriage_returns(directory, &file, watcher)?
    {
        changes.contents.insert(file.clone(), content.into());
    }
    if !name.starts_with('.') && !DATA.contains(&extension.as_str()) {
        changes.programs.insert(file);
    }
    Ok(())
}

/// Returns the real path of `path`, with links resolved, and what is there.
///
/// Returns `None` if it is missing, or if a link leads to nothing or outside.
fn found(directory: &Root, path: &Path) -> Result<Option<(PathBuf, Metadata)>> {
    let real = directory.dir().canonicalize(path);
    let found = real.and_then(|real| directory.dir().symlink_metadata(&real).map(|metadata| (real, metadata)));
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        // cap-std's own error for a link that leads outside, which does not come from a system call.
        Err(error) if error.raw_os_error().is_none() => Ok(None),
        Err(_) if directory.dir().symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink()) => Ok(None),
        Err(error) => Err(directory.failed(path, "open", error)),
    }
}

/// Returns the content of a shell script without CR; `None` if it has none.
fn without_carriage_returns(directory: &Root, path: &Path, watcher: &dyn Progress) -> Result<Option<Vec<u8>>> {
    let shown = directory.display(path);
    let bytes = match bounded_read::read(directory.open_file(path)?, SIZE_LIMIT, &shown) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::Io => return Err(error),
        Err(error) => {
            progress::warn(watcher, &shown, &format!("{}, so it is not searched for CR", error.reason()));
            return Ok(None);
        }
    };
    if !bytes.contains(&b'\r') {
        return Ok(None);
    }
    Ok(Some(bytes.into_iter().filter(|byte| *byte != b'\r').collect()))
}

/// Returns `folder/name`, without the `.` for the robot's directory.
fn relative(folder: &Path, name: &Path) -> PathBuf {
    if folder == Path::new(".") { name.to_owned() } else { folder.join(name) }
}
