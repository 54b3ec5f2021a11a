//! The error type of the crate, with an object, a reason and advice.
//!
//! Every message has the form `object: reason (hint)` and fits on one line, even if the names in it contain line breaks.

use crate::secrets::Redacted;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The result of every fallible operation of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure, with a message for people.
///
/// Programs that must branch use [`Error::kind`]. [`Error::path`] and [`Error::digest`] return the file or the blob that
/// failed, if the object is one.
///
/// ```
/// use ocibuild::{Error, ErrorKind};
///
/// let error = Error::new(ErrorKind::Invalid, "robot.yaml", "no tasks").hint("add a task");
/// assert_eq!(error.to_string(), "robot.yaml: no tasks (add a task)");
/// assert_eq!(error.kind(), ErrorKind::Invalid);
/// assert_eq!((error.object(), error.reason()), ("robot.yaml".to_owned(), "no tasks".to_owned()));
/// assert_eq!(error.advice().as_deref(), Some("add a task"));
/// ```
#[derive(Debug)]
pub struct Error(Box<ErrorParts>);

#[derive(Debug)]
struct ErrorParts {
    kind: ErrorKind,
    object: String,
    reason: String,
    hint: Option<String>,
    source: Option<io::Error>,
    path: Option<PathBuf>,
    /// A digest as text, because digests are parsed above errors.
    digest: Option<String>,
}

/// The classes of failure that a caller may treat differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A usage error in the request itself: a malformed reference, two equal tags.
    Usage,
    /// Something that was named does not exist.
    NotFound,
    /// Input that violates its own format or a limit.
    Invalid,
    /// Bytes that do not match their digest, size or checksum.
    Corrupt,
    /// A source that changed while it was being read.
    Changed,
    /// A layout that is locked by another process.
    Locked,
    /// A registry refused the credentials, or there were none.
    Denied,
    /// A registry or the connection to it failed.
    Network,
    /// The operating system refused a file operation.
    Io,
    /// The user asked the program to stop.
    Interrupted,
}

impl Error {
    /// Creates an error about `object`.
    pub fn new(kind: ErrorKind, object: impl Into<String>, reason: impl Into<String>) -> Self {
        let (object, reason) = (object.into(), reason.into());
        Error(Box::new(ErrorParts { kind, object, reason, hint: None, source: None, path: None, digest: None }))
    }

    /// Creates an [`ErrorKind::Invalid`] error, the most common kind.
    pub fn invalid(object: impl Into<String>, reason: impl Into<String>) -> Self {
        Error::new(ErrorKind::Invalid, object, reason)
    }

    /// Creates an [`ErrorKind::Corrupt`] error.
    pub fn corrupt(object: impl Into<String>, reason: impl Into<String>) -> Self {
        Error::new(ErrorKind::Corrupt, object, reason)
    }

    /// Creates an [`ErrorKind::Usage`] error.
    pub fn usage(object: impl Into<String>, reason: impl Into<String>) -> Self {
        Error::new(ErrorKind::Usage, object, reason)
    }

    /// Reports that `action` (an infinitive, "open", "write") failed on `object`.
    ///
    /// If an `io::Error` only carries one of our own errors through a `Read` or `Write`, that error is returned, so that
    /// a damaged blob is reported as damaged and not as unreadable.
    pub fn io(object: impl fmt::Display, action: &str, error: io::Error) -> Self {
        if error.get_ref().is_some_and(|inner| inner.is::<Error>()) {
            if let Some(Ok(ours)) = error.into_inner().map(|inner| inner.downcast::<Error>()) {
                return *ours;
            }
            return Error::new(ErrorKind::Io, object.to_string(), format!("cannot {action}"));
        }
        let kind = match error.kind() {
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            io::ErrorKind::Interrupted => ErrorKind::Interrupted,
            _ => ErrorKind::Io,
        };
        let reason = match error.kind() {
            io::ErrorKind::NotFound if action == "open" => "not found".to_owned(),
            _ => format!("cannot {action}: {}", plain_words(&error)),
        };
        let mut made = Error::new(kind, object.to_string(), reason);
        made.0.source = Some(error);
        made
    }

    /// Reports that `action` failed on the file or directory at `path`. The same as [`Error::io`], with [`Error::path`].
    pub fn file(path: &Path, action: &str, error: io::Error) -> Self {
        // An error of our own that only passed through is about another object.
        let is_ours = error.get_ref().is_some_and(|inner| inner.is::<Error>());
        let made = Error::io(path.display(), action, error);
        if is_ours { made } else { made.at_path(path) }
    }

    /// Returns whether the content is missing, damaged or malformed. Every other error, such as a failure of the system, may
    /// be gone at the next attempt.
    pub fn is_of_the_content(&self) -> bool {
        matches!(self.kind(), ErrorKind::NotFound | ErrorKind::Corrupt | ErrorKind::Invalid)
    }

    /// Returns whether the permissions of a file or a directory do not let this user do it.
    pub fn is_refused_by_permissions(&self) -> bool {
        self.0.source.as_ref().is_some_and(|source| source.kind() == io::ErrorKind::PermissionDenied)
    }

    /// Adds advice for the user.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Records the path of the file or directory that failed. The message stays the same.
    #[must_use]
    pub fn at_path(mut self, path: impl Into<PathBuf>) -> Self {
        self.0.path = Some(path.into());
        self
    }

    /// Records the digest of the blob that failed, as text.
    pub(super) fn with_digest_text(mut self, digest: String) -> Self {
        self.0.digest = Some(digest);
        self
    }

    /// Returns the recorded digest, as text.
    pub(super) fn digest_text(&self) -> Option<&str> {
        self.0.digest.as_deref()
    }

    /// Puts `outer` in front of the object: `layer 3 of base: blob sha256:…: …`.
    #[must_use]
    pub fn within(mut self, outer: impl fmt::Display) -> Self {
        self.0.object = format!("{outer}: {}", self.0.object);
        self
    }

    /// Returns the class of this failure.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns the object of the failure, without control characters and credentials.
    pub fn object(&self) -> String {
        message_text(&self.0.object)
    }

    /// Returns the reason of the failure, without control characters and credentials.
    pub fn reason(&self) -> String {
        message_text(&self.0.reason)
    }

    /// Returns the path of the file or directory that failed, if the object is one.
    ///
    /// ```
    /// use ocibuild::{ErrorKind, Layout};
    /// use std::path::Path;
    ///
    /// let error = Layout::open(Path::new("no-such-layout")).unwrap_err();
    /// assert_eq!((error.kind(), error.path()), (ErrorKind::NotFound, Some(Path::new("no-such-layout"))));
    /// ```
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    /// Returns advice for the user, if there is any.
    pub fn advice(&self) -> Option<String> {
        self.0.hint.as_deref().map(message_text)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.object(), self.reason())?;
        match self.advice() {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|source| source as &(dyn std::error::Error + 'static))
    }
}

/// Carries our errors through `Read` and `Write`. [`Error::io`] extracts them again.
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        io::Error::other(error)
    }
}

/// Returns text in the form for messages: on one line, and without credentials.
pub fn message_text(text: &str) -> String {
    one_line(&Redacted::message(text).to_string())
}

/// Escapes control characters, line separators and characters that reverse text. They could break a message into two
/// lines or move a terminal's cursor.
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        let reverses_text = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if c.is_control() || reverses_text || matches!(c, '\u{2028}' | '\u{2029}') {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

/// Returns the system's message without its error number: "no space left on device".
fn plain_words(error: &io::Error) -> String {
    let text = error.to_string();
    let words = text.split(" (os error").next().unwrap_or(&text);
    let mut chars = words.chars();
    let starts_as_a_word = words.chars().nth(1).is_some_and(char::is_lowercase);
    match chars.next() {
        Some(first) if starts_as_a_word => first.to_lowercase().chain(chars).collect(),
        _ => words.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_whatever_the_name_contains() {
        let error = Error::invalid("a\nb\u{1b}[31m\u{202e}c", "bad\0name");
        assert_eq!(error.to_string(), "a\\nb\\u{1b}[31m\\u{202e}c: bad\\u{0}name");
    }

    #[test]
    fn an_error_survives_the_way_through_a_reader() {
        let through: io::Error = Error::corrupt("blob", "too short").into();
        let back = Error::io("layer", "read", through);
        assert_eq!(back.to_string(), "blob: too short");
        assert_eq!(back.kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn the_systems_number_is_left_out() {
        let full = Error::io("out/index.json", "write", io::Error::from_raw_os_error(28));
        #[cfg(unix)]
        assert_eq!(full.to_string(), "out/index.json: cannot write: no space left on device");
        let missing = Error::io("x", "open", io::Error::from(io::ErrorKind::NotFound));
        assert_eq!(missing.to_string(), "x: not found");
    }
}
