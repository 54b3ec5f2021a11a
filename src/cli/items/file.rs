//! `[OPTION,]...PATH=TEXT`: a small file. The options come before the path, so that TEXT may contain commas.

use super::options::{ItemOptions, PLACED_OPTIONS};
use super::path_of_item;
use crate::cli::values;
use ocibuild::build::Source;
use ocibuild::layers::tree::{Modes, Owner, Owners, Rules};
use ocibuild::spec::ImagePath;
use ocibuild::{Error, Result};
use std::str::FromStr;

/// A value of `--file`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct FileItem {
    pub(in crate::cli) path: ImagePath,
    /// The content of the file.
    text: String,
    mode: Option<u16>,
    owner: Option<Owner>,
}

impl FromStr for FileItem {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        // The text is not shown: it may be secret.
        let malformed =
            || Error::usage("item", "not of the form PATH=TEXT with an absolute PATH").hint("no Dockerfile is read");
        let at = text.find('/').filter(|at| *at == 0 || text[..*at].ends_with(',')).ok_or_else(malformed)?;
        let (path, line) = text[at..].split_once('=').ok_or_else(malformed)?;
        let options = ItemOptions::read(&text[..at], PLACED_OPTIONS)?;
        let end = if line.is_empty() || line.ends_with('\n') { "" } else { "\n" };
        Ok(FileItem {
            path: path_of_item(path.as_bytes())?,
            text: format!("{line}{end}"),
            mode: options.value("mode", values::mode)?,
            owner: options.value("chown", values::owner)?,
        })
    }
}

impl FileItem {
    /// Returns the source. `general` applies to what the item does not say.
    pub(in crate::cli) fn source(&self, general: &Rules) -> Source {
        let owners = self.owner.map_or(general.owners, Owners::Set);
        let modes = self.mode.map_or(general.modes, Modes::Set);
        Source::text(&self.text, self.path.clone()).rules(general.clone().owners(owners).modes(modes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_behind_the_first_equals_sign_is_text() {
        let read = |text: &str| text.parse::<FileItem>().ok().map(|it| (it.path.to_string(), it.text, it.mode));
        let file = |path: &str, text: &str, mode| Some((path.to_owned(), text.to_owned(), mode));
        assert_eq!(read("/etc/motd=hello, world"), file("/etc/motd", "hello, world\n", None));
        assert_eq!(read("/etc/a,b=x=y,mode=1"), file("/etc/a,b", "x=y,mode=1\n", None));
        assert_eq!(read("mode=0600,chown=5,/etc/key=a/b"), file("/etc/key", "a/b\n", Some(0o600)));
        assert_eq!(read("/empty="), file("/empty", "", None));
        assert_eq!(read("/two=a\nb\n"), file("/two", "a\nb\n", None));
        for bad in
            ["/etc/motd", "etc/motd=x", "/etc/=x", "mode=0600/x=y", "chmod=1,/x=y", "mode=0600,=y", "=x", ",/x=y"]
        {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
