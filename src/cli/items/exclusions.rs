//! What is left out of a source: of all of them, by flags, or of one, by its options.

use clap::Args;
use ocibuild::common::bounded_read;
use ocibuild::common::root::Root;
use ocibuild::layers::tree::IgnoreRules;
use ocibuild::{Error, Result};
use std::fs::File;
use std::path::PathBuf;

#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub(in crate::cli) struct Exclusions {
    /// Exclude files that match GLOB (.dockerignore syntax) from --copy and the robot. Repeatable
    #[arg(long, value_name = "GLOB", help_heading = "Content")]
    pub(super) exclude: Vec<String>,
    /// Include files that match GLOB despite all exclude rules, even images. Repeatable
    #[arg(long, value_name = "GLOB", help_heading = "Content")]
    pub(super) include: Vec<String>,
    /// Read exclude patterns from FILE
    #[arg(long, value_name = "FILE", help_heading = "Content")]
    pub(super) ignore_file: Option<PathBuf>,
}

impl Exclusions {
    /// Returns the name of the first of them that is given, without hyphens.
    pub(in crate::cli) fn first_given(&self) -> Option<&'static str> {
        let given = [
            ("exclude", !self.exclude.is_empty()),
            ("include", !self.include.is_empty()),
            ("ignore-file", self.ignore_file.is_some()),
        ];
        given.into_iter().find(|(_, is_given)| *is_given).map(|(name, _)| name)
    }

    /// Adds what to exclude and to keep.
    ///
    /// # Errors
    /// Fails if a file of patterns cannot be read, or a pattern is malformed.
    pub(in crate::cli) fn add_to(&self, ignore: &mut IgnoreRules) -> Result<()> {
        if let Some(file) = &self.ignore_file {
            let object = file.display().to_string();
            ignore.begin_list(&object);
            add_file(ignore, Root::open_named_file(file)?, &object)?;
        }
        ignore.begin_list("--exclude");
        for pattern in &self.exclude {
            ignore.add(pattern)?;
        }
        self.include.iter().try_for_each(|pattern| ignore.keep(pattern))
    }
}

/// Adds the patterns of an ignore file, which messages call `object`.
pub(super) fn add_file(ignore: &mut IgnoreRules, file: File, object: &str) -> Result<()> {
    const LARGEST: u64 = 1 << 20;
    let text = bounded_read::read(file, LARGEST, object)?;
    let text = String::from_utf8(text).map_err(|_| Error::invalid(object, "not UTF-8"))?;
    ignore.add_file(&text).map_err(|error| error.within(object))
}
