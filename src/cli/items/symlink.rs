//! `TARGET:PATH[,chown=UID[:GID]]`: a symbolic link.

use super::options::{ItemOptions, KnownOptions, OptionForm};
use super::{colon_of_pair, path_of_item};
use crate::cli::values;
use ocibuild::build::Source;
use ocibuild::layers::tree::{Owner, Owners, Rules};
use ocibuild::spec::ImagePath;
use ocibuild::{Error, Result};
use std::str::FromStr;

/// The options.
pub(in crate::cli) const OPTIONS: KnownOptions = &[("chown", OptionForm::Value("UID[:GID]"))];

/// The longest target of a link, in bytes (Linux, `PATH_MAX` without its end).
const LONGEST_TARGET: usize = 4095;

/// A value of `--symlink`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct SymlinkItem {
    pub(in crate::cli) path: ImagePath,
    target: String,
    owner: Option<Owner>,
}

impl FromStr for SymlinkItem {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (item, options) = ItemOptions::split(text.as_bytes(), OPTIONS)?;
        let item = String::from_utf8_lossy(&item).into_owned();
        let malformed = || Error::usage(format!("`{item}`"), "not of the form TARGET:PATH with an absolute PATH");
        let at = colon_of_pair(item.as_bytes()).ok_or_else(malformed)?;
        let (target, path) = (item[..at].to_owned(), path_of_item(&item.as_bytes()[at + 1..])?);
        if target.len() > LONGEST_TARGET || target.contains('\0') {
            return Err(Error::usage(
                path.to_string(),
                format!("the target of a link has 1 to {LONGEST_TARGET} bytes"),
            ));
        }
        Ok(SymlinkItem { path, target, owner: options.value("chown", values::owner)? })
    }
}

impl SymlinkItem {
    /// Returns the source. `general` applies to what the item does not say.
    pub(in crate::cli) fn source(&self, general: &Rules) -> Source {
        let owners = self.owner.map_or(general.owners, Owners::Set);
        Source::symlink(self.target.as_bytes(), self.path.clone()).rules(general.clone().owners(owners))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_split_before_its_path() {
        let read = |text: &str| text.parse::<SymlinkItem>().ok().map(|it| (it.target, it.path.to_string()));
        let link = |target: &str, path: &str| Some((target.to_owned(), path.to_owned()));
        assert_eq!(read("busybox:/bin/sh"), link("busybox", "/bin/sh"));
        assert_eq!(read("/usr/lib:/lib,chown=0:0"), link("/usr/lib", "/lib"));
        assert_eq!(read("../a:b,,c:/x"), link("../a:b,c", "/x"));
        for bad in ["a", ":/x", "a:x", "a:/", "a:/x/", "a:/x,mode=0777"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
