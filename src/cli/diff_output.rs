//! Where the differences between two images go.

use super::diff_json::JsonDifferences;
use super::diff_text::TextDifferences;
use super::found_difference::FoundDifference;
use std::io::{self, Write};

/// A form of output.
#[derive(Debug)]
pub(super) enum DifferenceOutput {
    /// Lines for people.
    Text(TextDifferences),
    /// JSON for programs.
    Json(JsonDifferences),
}

impl DifferenceOutput {
    /// Writes the next difference.
    ///
    /// # Errors
    /// Fails if it cannot be written.
    pub(super) fn write(&mut self, found: &FoundDifference<'_>, out: &mut dyn Write) -> io::Result<()> {
        match self {
            DifferenceOutput::Text(text) => text.write(found, out),
            DifferenceOutput::Json(json) => json.write(found, out),
        }
    }

    /// Writes what follows the last difference.
    ///
    /// # Errors
    /// Fails if it cannot be written.
    pub(super) fn end(&mut self, out: &mut dyn Write) -> io::Result<()> {
        match self {
            DifferenceOutput::Text(text) => text.end(out),
            DifferenceOutput::Json(json) => json.end(out),
        }
    }
}
