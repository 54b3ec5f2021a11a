//! What becomes of Python virtual environments in a copy.

use crate::common::error::{Error, Result};
use std::str::FromStr;

/// The handling of Python virtual environments, which hold the absolute paths of the place where they were made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PythonEnvironments {
    /// They are copied unchanged.
    Keep,
    /// The paths in them become those of their new place, and it is an error if they cannot work there.
    Relocate,
}

impl FromStr for PythonEnvironments {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "keep" => Ok(PythonEnvironments::Keep),
            "relocate" => Ok(PythonEnvironments::Relocate),
            _ => Err(Error::usage(format!("`{text}`"), "neither relocate nor keep")),
        }
    }
}
