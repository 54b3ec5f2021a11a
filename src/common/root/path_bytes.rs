//! Paths of this machine as an image stores them: bytes, with slashes.

#[cfg(not(unix))]
use crate::common::error::Error;
use crate::common::error::Result;
use std::borrow::Cow;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// Returns the path with slashes. On Unix it is returned unchanged.
pub fn slashed(path: &Path) -> Cow<'_, Path> {
    if cfg!(windows) { PathBuf::from(path.to_string_lossy().replace('\\', "/")).into() } else { path.into() }
}

/// Returns the bytes of a file name, as an image stores them.
///
/// # Errors
/// Returns an error on Windows if the name is not Unicode.
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

/// Returns the path on this machine for the bytes of a path. The bytes come from an image or a command line.
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
