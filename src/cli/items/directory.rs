//! `PATH[,mode=MODE][,chown=UID[:GID]]`: a directory.

use super::absolute_path;
use super::options::{ItemOptions, PLACED_OPTIONS};
use crate::cli::values;
use ocibuild::build::Source;
use ocibuild::layers::tree::{Owner, Rules};
use ocibuild::spec::ImagePath;
use ocibuild::{Error, Result};
use std::str::FromStr;

/// A value of `--mkdir`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct DirectoryItem {
    pub(in crate::cli) path: ImagePath,
    mode: Option<u16>,
    owner: Option<Owner>,
}

impl FromStr for DirectoryItem {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (path, options) = ItemOptions::split(text.as_bytes(), PLACED_OPTIONS)?;
        let path = absolute_path(&path)?;
        if path.is_root() {
            return Err(Error::usage("/", "is in every image"));
        }
        let (mode, owner) = (options.value("mode", values::mode)?, options.value("chown", values::owner)?);
        Ok(DirectoryItem { path, mode, owner })
    }
}

impl DirectoryItem {
    /// Returns the source. `general` applies to what the item does not say.
    pub(in crate::cli) fn source(&self, general: &Rules) -> Source {
        Source::new_directory(self.path.clone(), self.mode, self.owner).rules(general.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_a_path_a_mode_and_an_owner() {
        let read = |text: &str| text.parse::<DirectoryItem>().ok().map(|it| (it.path.to_string(), it.mode, it.owner));
        let owner = Owner { uid: 5, gid: 6 };
        assert_eq!(read("/tmp,mode=1777"), Some(("/tmp".to_owned(), Some(0o1777), None)));
        assert_eq!(read("/a,,b/,chown=5:6"), Some(("/a,b".to_owned(), None, Some(owner))));
        for bad in ["tmp", "/", "/../x", "/tmp,mode=8", "/tmp,chown=app", "/tmp,chmod=0755", ""] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
