//! Source entries that are excluded from the image, and the reasons.

use super::images::ImageForm;
use std::sync::Arc;

/// The reason why a source entry is excluded from the image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Cause {
    /// A pattern excludes it.
    Pattern {
        /// The name of the pattern's list, for messages.
        list: Arc<str>,
        /// The pattern as written.
        pattern: Arc<str>,
    },
    /// It is an output of the command; the text describes it.
    Output(Arc<str>),
    /// It is itself an image.
    Image(ImageForm),
    /// It is a device, socket or pipe.
    Special,
}

/// A source entry that is excluded from the image. A directory includes everything in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Excluded {
    /// The name of the source, for messages.
    pub source: Arc<str>,
    /// The reason why it is excluded.
    pub cause: Cause,
    /// Its path in the source, with a trailing slash for a directory.
    pub path: String,
}

impl Cause {
    /// Returns the list of the pattern, or the rule itself, as one word for programs.
    pub fn rule(&self) -> &str {
        match self {
            Cause::Pattern { list, .. } => list,
            Cause::Output(_) => "output",
            Cause::Image(_) => "image",
            Cause::Special => "special",
        }
    }

    /// Returns the pattern, if a pattern excluded the entry.
    pub fn pattern(&self) -> Option<&str> {
        match self {
            Cause::Pattern { pattern, .. } => Some(pattern),
            _ => None,
        }
    }
}

/// Formats the cause for people: "`temp/` of the robot rules".
impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Cause::Pattern { list, pattern } => write!(f, "{list}: {pattern}"),
            Cause::Output(what) => f.write_str(what),
            Cause::Image(form) => write!(f, "{form}"),
            Cause::Special => f.write_str("a device, socket or pipe"),
        }
    }
}
