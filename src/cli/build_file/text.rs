//! The text of a build file, and places in it.

use ocibuild::common::bounded_read;
use ocibuild::common::root::Root;
use ocibuild::{Error, Result};
use std::fmt;
use std::path::Path;
use std::rc::Rc;

/// The largest file that is read, in bytes.
const LARGEST: u64 = 1 << 20;

/// The text of a build file.
pub(super) struct BuildFileText {
    /// The path of the file, as messages show it.
    pub(super) shown: Rc<str>,
    /// The directory that its paths are relative to; empty for the working directory.
    pub(super) directory: String,
    pub(super) text: String,
    /// Where each line begins.
    lines: Vec<usize>,
}

/// A place in a build file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FilePlace {
    file: Rc<str>,
    line: usize,
    column: usize,
}

impl BuildFileText {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// Fails if it cannot be read, is larger than 1 MiB, or its text or its directory is not UTF-8.
    pub(super) fn read(path: &Path) -> Result<BuildFileText> {
        let shown = path.display().to_string();
        let bytes = bounded_read::read(Root::open_named_file(path)?, LARGEST, &shown)?;
        let text = String::from_utf8(bytes).map_err(|_| Error::invalid(&shown, "not UTF-8"))?;
        let directory = path.parent().unwrap_or(Path::new("")).to_str();
        let directory = directory.ok_or_else(|| Error::invalid(&shown, "in a directory whose path is not UTF-8"))?;
        let starts = text.match_indices('\n').map(|(at, _)| at + 1);
        let lines = std::iter::once(0).chain(starts).collect();
        Ok(BuildFileText { shown: shown.into(), directory: directory.to_owned(), text, lines })
    }

    /// Returns the place of the byte `at`: its line, and its column in characters, both from 1.
    pub(super) fn place(&self, at: usize) -> FilePlace {
        let line = self.lines.partition_point(|start| *start <= at);
        let start = self.lines.get(line.saturating_sub(1)).copied().unwrap_or_default();
        let before = self.text.get(start..at).unwrap_or_default();
        FilePlace { file: self.shown.clone(), line, column: before.chars().count() + 1 }
    }
}

impl FilePlace {
    /// Returns an error about what is here.
    pub(super) fn error(&self, reason: impl Into<String>) -> Error {
        Error::invalid(self.to_string(), reason)
    }
}

impl fmt::Display for FilePlace {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}:{}", self.file, self.line, self.column)
    }
}
