//! Redaction of secrets in messages.

use super::files::ValueStyle;
use super::{SecretMatch, text, url, without_overlaps};
use std::fmt;
use std::ops::Range;

/// The replacement for a secret.
const HIDDEN: &str = "***";

/// Parameters of a query that say nothing secret.
const PLAIN_PARAMETERS: [&str; 16] = [
    "account",
    "artifactType",
    "client_id",
    "digest",
    "from",
    "last",
    "mount",
    "n",
    "ns",
    "offline_token",
    "page",
    "platform",
    "ref",
    "scope",
    "service",
    "tag",
];

/// Displays a text with `***` in place of each secret.
///
/// ```
/// use ocibuild::secrets::Redacted;
///
/// let text = "https://user:pass@host/file?sig=0123: not found";
/// assert_eq!(Redacted::message(text).to_string(), "https://***@host/file?sig=***: not found");
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Redacted<'a> {
    text: &'a str,
    origin: TextOrigin,
}

/// The origin of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TextOrigin {
    /// The program, which speaks of names but does not quote settings.
    Message,
    /// A file or another program.
    Foreign,
}

impl<'a> Redacted<'a> {
    /// Hides the secrets that a message may contain: users and queries of URLs and references, tokens, and private keys.
    pub fn message(text: &'a str) -> Self {
        Redacted { text, origin: TextOrigin::Message }
    }

    /// Hides these in a text of other origin, and values such as that of `PASSWORD=…`.
    pub fn foreign(text: &'a str) -> Self {
        Redacted { text, origin: TextOrigin::Foreign }
    }

    fn hidden(&self) -> Vec<Range<usize>> {
        let content = self.text.as_bytes();
        let mut found = match self.origin {
            TextOrigin::Message => text::forms(content, ValueStyle::Config),
            TextOrigin::Foreign => text::search(content, ValueStyle::Config),
        };
        let mut hide = |span| found.push(SecretMatch { what: "", span, end: super::SecretEnd::Exact, is_named: false });
        for at in memchr::memmem::find_iter(content, b"://") {
            let start = at + 3;
            let address = &content[start..start + url::length(&content[start..])];
            url::user_part(address).into_iter().for_each(|user| hide(start..start + user.end));
            for (name, value) in url::parameters(address) {
                if !PLAIN_PARAMETERS.contains(&String::from_utf8_lossy(&address[name]).as_ref()) {
                    hide(start + value.start..start + value.end);
                }
            }
        }
        users_without_scheme(self.text).for_each(hide);
        without_overlaps(found).into_iter().map(|found| found.span).collect()
    }
}

impl fmt::Display for Redacted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut at = 0;
        for span in self.hidden() {
            f.write_str(self.text.get(at..span.start).unwrap_or_default())?;
            f.write_str(HIDDEN)?;
            at = span.end;
        }
        f.write_str(self.text.get(at..).unwrap_or_default())
    }
}

/// Returns `user:password@` before a host without a scheme, as in a reference. A digest may follow an `@`, too.
fn users_without_scheme(text: &str) -> impl Iterator<Item = Range<usize>> {
    let is_end = |c: char| c.is_whitespace() || "`\"'()<>,".contains(c);
    memchr::memchr_iter(b'@', text.as_bytes()).filter_map(move |at| {
        let start = text[..at].rfind(is_end).map_or(0, |before| before + 1);
        let word = &text[start..at];
        let host = text[at + 1..].split(is_end).next().unwrap_or_default();
        let algorithm = host.split(':').next().unwrap_or_default();
        let is_digest = algorithm.starts_with("sha") || host.len() > algorithm.len() + 32;
        let scheme = word.find("://").map_or(0, |at| at + 3);
        let has_user = word[scheme..].contains(':') && scheme == 0;
        (has_user && !is_digest && !host.is_empty()).then_some(start..at)
    })
}

/// Returns the address of a file without its user, query and fragment, for records.
pub fn bare_url(address: &str) -> String {
    let (scheme, rest) = address.split_once("://").unwrap_or(("", address));
    let user = url::user_part(rest.as_bytes()).map_or(0, |user| user.end + 1);
    let rest = rest.get(user..).unwrap_or_default();
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    if scheme.is_empty() { rest.to_owned() } else { format!("{scheme}://{rest}") }
}
