//! What of a source is not in the image, and why.

use super::images::ImageForm;
use std::sync::Arc;

/// Why something in a source is not in the image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Cause {
    /// A pattern says so.
    Pattern {
        /// What messages call the list that it is in.
        list: Arc<str>,
        /// The pattern, as it was written.
        pattern: Arc<str>,
    },
    /// The command writes it; the text says what it is.
    Output(Arc<str>),
    /// It is an image itself.
    Image(ImageForm),
    /// It is a device, socket or pipe.
    Special,
}

/// Something in a source that is not in the image. A directory stands for everything in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Excluded {
    /// What messages call the source.
    pub source: Arc<str>,
    /// Why it is not in the image.
    pub cause: Cause,
    /// Its path in the source, with a slash at the end where it is a directory.
    pub path: String,
}

impl Cause {
    /// The list that a pattern is in, or the rule itself, as one word for programs.
    pub fn rule(&self) -> &str {
        match self {
            Cause::Pattern { list, .. } => list,
            Cause::Output(_) => "output",
            Cause::Image(_) => "image",
            Cause::Special => "special",
        }
    }

    /// The pattern, where there is one.
    pub fn pattern(&self) -> Option<&str> {
        match self {
            Cause::Pattern { pattern, .. } => Some(pattern),
            _ => None,
        }
    }
}

/// The cause for people: "`temp/` of the robot rules".
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
