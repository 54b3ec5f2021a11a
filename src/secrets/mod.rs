//! Finds secrets in bytes, hides them in messages, and overwrites them.
//!
//! A secret is known by its name (`DB_PASSWORD=…`), by its form (a private key, a token with the prefix of its vendor,
//! `user:password@` in a URL), or by its file (`.netrc`, `id_rsa`). Values that only refer to a secret, such as `${TOKEN}`,
//! are none.
//!
//! ```text
//! find       bytes of a file  → spans, each with its line and what it looks like
//! find_in_…  a file, read in parts or in memory → the lines of its secrets, and what they look like
//! Redacted   text of a message → the same text with `***` for every secret
//! overwrite  bytes of a file  → the same number of bytes without their secrets, or an error
//! ```

mod files;
mod json;
mod named_values;
mod overwrite;
mod parts;
pub mod record;
mod redact;
mod text;
mod token_formats;
mod url;
mod value;

pub use files::{holds_credentials, is_searched};
pub use overwrite::{NotOverwritten, overwrite};
pub use parts::{FoundLine, PART, find_in_content, find_in_file};
pub use redact::{Redacted, bare_url};

use files::{Convention, ValueStyle};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// The version of the rules: findings of another version are searched for again.
pub const RULES: u64 = 3;

/// A secret in the content of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The kind of secret, for messages: "a private key".
    pub what: &'static str,
    /// The line that it begins in, counted from one.
    pub line: usize,
    /// Its bytes.
    pub span: Range<usize>,
    /// Whether the end of the span is certain.
    pub end: SecretEnd,
}

/// A secret in a file of an image, as messages and records name it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FoundSecret {
    /// The layer or the environment that the file is in.
    pub source: String,
    /// The path of the file there.
    pub path: String,
    /// The line that it begins in, counted from one.
    pub line: usize,
    /// The kind of secret.
    #[serde(rename = "looksLike")]
    pub what: String,
}

/// Whether the end of a secret is certain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SecretEnd {
    /// A delimiter or the form of the secret ends it.
    Exact,
    /// The rest of the line or of the file may belong to the secret.
    Guessed,
}

/// A secret before its line is known.
#[derive(Debug, Clone, PartialEq, Eq)]
struct SecretMatch {
    what: &'static str,
    span: Range<usize>,
    end: SecretEnd,
    /// Whether a name precedes it, so that more of it may follow the span in a text file.
    is_named: bool,
}

/// Finds the secrets in `content`, in order and without overlaps. `path` says what kind of file it is.
pub fn find(path: &[u8], content: &[u8]) -> Vec<Finding> {
    with_lines(content, found(path, content))
}

fn found(path: &[u8], content: &[u8]) -> Vec<SecretMatch> {
    let convention = Convention::of(path);
    let mut found = match ValueStyle::of(path) {
        _ if memchr::memchr(0, content).is_some() => Vec::new(),
        ValueStyle::Config if files::is_json(path) => {
            json::search(content).unwrap_or_else(|| text::search(content, ValueStyle::Config))
        }
        style => text::search(content, style),
    };
    if let Some(convention) = convention {
        convention.search(content, &mut found);
    }
    without_overlaps(found)
}

fn without_overlaps(mut found: Vec<SecretMatch>) -> Vec<SecretMatch> {
    found.retain(|found| !found.span.is_empty());
    // Of two that begin at one place the longer one counts.
    found.sort_by_key(|found| (found.span.start, usize::MAX - found.span.end, found.is_named));
    let mut end = 0;
    found.retain(|found| {
        let is_free = found.span.start >= end;
        end = end.max(found.span.end);
        is_free
    });
    found
}

fn with_lines(content: &[u8], found: Vec<SecretMatch>) -> Vec<Finding> {
    let (mut line, mut counted) = (1, 0);
    let finding = |SecretMatch { what, span, end, is_named: _ }| {
        line += memchr::memchr_iter(b'\n', &content[counted..span.start]).count();
        counted = span.start;
        Finding { what, line, span, end }
    };
    found.into_iter().map(finding).collect()
}

#[cfg(test)]
mod tests;
