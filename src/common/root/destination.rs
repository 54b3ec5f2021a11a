//! The destination of a result that the user named by a path.

use super::Root;
use super::path_status::is_absence;
use crate::common::error::{Error, Result};
use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};

/// The kind of file that the path of a result leads to.
#[derive(Debug)]
pub enum Destination {
    /// A regular file, or a missing one. Its whole content is replaced in one step.
    File(Root, OsString),
    /// An open file of this process, by its number: `/dev/stdout`, `/dev/fd/3`.
    Descriptor(u32, PathBuf),
    /// A pipe or character device. It keeps its name, and the bytes are written to it.
    Stream(PathBuf),
}

impl Destination {
    /// Returns whether `path` leads to the standard output of this process.
    pub fn is_standard_output(path: &Path) -> bool {
        descriptor(path) == Some(1)
    }

    /// Finds the destination that `path` leads to, following links. The directory of a regular file is opened with
    /// `open`.
    ///
    /// # Errors
    /// Returns an error if the path leads to a directory, a socket, a block device, or a dangling link, or if the
    /// directory cannot be opened.
    pub fn find(path: &Path, open: impl Fn(&Path) -> Result<Root>) -> Result<Destination> {
        if let Some(number) = descriptor(path) {
            return Ok(Destination::Descriptor(number, path.to_owned()));
        }
        let refuse = |reason: &str| Err(Error::invalid(path.display().to_string(), reason));
        let of_file = |path: &Path| Root::of_file(path, &open).map(|(root, name)| Destination::File(root, name));
        #[expect(clippy::disallowed_methods, reason = "this module is the one place with ambient authority")]
        let (target, itself) = (std::fs::metadata(path), || std::fs::symlink_metadata(path));
        let metadata = match target {
            Ok(target) => target,
            Err(error) if is_absence(&error) => match itself() {
                Ok(_) => return refuse("is a dangling link"),
                Err(error) if is_absence(&error) => return of_file(path),
                Err(error) => return Err(Error::file(path, "inspect", error)),
            },
            Err(error) => return Err(Error::file(path, "inspect", error)),
        };
        if metadata.is_dir() {
            return refuse("is a directory");
        }
        if metadata.is_file() {
            return of_file(&Root::resolve(path)?);
        }
        match is_stream(&metadata) {
            true => Ok(Destination::Stream(path.to_owned())),
            false => refuse("not a file, pipe or character device"),
        }
    }

    /// Opens a pipe or device for writing at its end. Opening a pipe waits for its reader.
    ///
    /// # Errors
    /// Returns an error if it cannot be opened.
    pub fn open_stream(path: &Path) -> Result<File> {
        #[expect(clippy::disallowed_methods, reason = "this module is the one place with ambient authority")]
        let authority = cap_std::ambient_authority();
        let mut options = cap_std::fs::OpenOptions::new();
        options.append(true);
        cap_std::fs::File::open_ambient_with(path, &options, authority)
            .map(cap_std::fs::File::into_std)
            .map_err(|error| Error::file(path, "open", error))
    }
}

#[cfg(unix)]
fn is_stream(metadata: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::FileTypeExt;
    metadata.file_type().is_fifo() || metadata.file_type().is_char_device()
}

#[cfg(not(unix))]
fn is_stream(_: &std::fs::Metadata) -> bool {
    false
}

/// Returns the number of the open file of this process that `path` leads to. By its real path, a regular file would be
/// replaced instead.
fn descriptor(path: &Path) -> Option<u32> {
    const MOST_LINKS: usize = 40;
    let own = PathBuf::from(format!("/proc/{}/fd", std::process::id()));
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let (parent, name) = (std::fs::canonicalize(parent).ok()?, path.file_name()?);
        if parent == own || parent == Path::new("/dev/fd") {
            return name.to_str()?.parse().ok();
        }
        path = parent.join(std::fs::read_link(parent.join(name)).ok()?);
    }
    None
}
