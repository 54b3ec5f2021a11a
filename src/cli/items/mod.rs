//! Items: the values of the flags that say what goes into an image. Each type reads one of them from text, and makes the source of it.
//!
//! `SRC:DST,chown=1000,exclude=*.md` is an item with two options.

mod copy;
mod directory;
mod exclusions;
mod file;
mod of_the_host;
mod options;
mod symlink;

pub(super) use copy::{Copy, OPTIONS as COPY_OPTIONS};
pub(super) use directory::DirectoryItem;
pub(super) use exclusions::Exclusions;
pub(super) use file::FileItem;
pub(super) use of_the_host::{FilesFrom, HOST};
pub(super) use options::{ItemOptions, KnownOptions, OptionForm, PLACED_OPTIONS, doubled};
pub(super) use symlink::{OPTIONS as SYMLINK_OPTIONS, SymlinkItem};

use super::values;
use ocibuild::spec::ImagePath;
use ocibuild::{Error, Result};

/// Returns where `A:/B` is split: at the last colon before a slash, so that the colon of a Windows drive stays in A.
pub(super) fn colon_of_pair(item: &[u8]) -> Option<usize> {
    item.windows(2).rposition(|pair| pair == b":/").filter(|at| *at > 0)
}

/// Reads an absolute path in the image, which must not end with a slash: an item of this kind has no name of its own to put there.
fn path_of_item(bytes: &[u8]) -> Result<ImagePath> {
    let path = absolute_path(bytes)?;
    if bytes.ends_with(b"/") {
        return Err(Error::usage(path.to_string(), "ends with a slash, so it has no name"));
    }
    Ok(path)
}

/// Reads an absolute path in the image.
fn absolute_path(bytes: &[u8]) -> Result<ImagePath> {
    match std::str::from_utf8(bytes) {
        Ok(text) => values::image_path(text),
        Err(_) => Err(Error::usage(format!("`{}`", String::from_utf8_lossy(bytes)), "not UTF-8")),
    }
}
