//! Secrets in JSON, where every value has a name and an end.

use super::files::ValueStyle;
use super::value::{Demand, is_secret};
use super::{SecretEnd, SecretMatch, text};
use crate::secrets::named_values::{Strength, is_secret_name, is_secret_value, scheme_length};
use crate::secrets::token_formats;
use std::borrow::Cow;
use std::ops::Range;

/// A string of a document.
struct Text<'a> {
    /// Its bytes between the quotes.
    span: Range<usize>,
    /// The decoded characters.
    decoded: Cow<'a, [u8]>,
    /// Whether the string is the name of a member.
    is_name: bool,
}

/// Finds the secrets in a document; `None` if `content` is not JSON.
pub(super) fn search(content: &[u8]) -> Option<Vec<SecretMatch>> {
    let strings = strings(content)?;
    let mut found = Vec::new();
    let mut name: &[u8] = b"";
    let mut flag: &[u8] = b"";
    let mut end = 0;
    for string in &strings {
        // A name belongs to the string after its colon, not to one that is deeper or further on.
        let follows =
            content[end..string.span.start].iter().all(|byte| byte.is_ascii_whitespace() || b"\":".contains(byte));
        end = string.span.end + 1;
        if string.is_name {
            name = &string.decoded;
            continue;
        }
        let own_name = if follows { name } else { flag };
        name = b"";
        flag = if string.decoded.starts_with(b"-") { &string.decoded } else { b"" };
        let whole = |what| SecretMatch { what, span: string.span.clone(), end: SecretEnd::Exact, is_named: false };
        match is_secret_name(own_name) {
            // Any other value of such a name is not a secret, whatever it looks like.
            Some((_, Strength::Weak)) if own_name.ends_with(b"auth") && !token_formats::is_basic(&string.decoded) => {}
            Some((_, Strength::Weak)) if own_name.ends_with(b"auth") => {
                found.push(whole("credentials"));
                continue;
            }
            Some((what @ "an authorization header", _)) => {
                let start = string.span.start + scheme_length(&string.decoded);
                let value = &content[start.min(string.span.end)..string.span.end];
                if value.len() > 3 && !value.contains(&b' ') && is_secret(own_name, value, Demand::Any) {
                    found.push(SecretMatch {
                        what,
                        span: start..string.span.end,
                        end: SecretEnd::Exact,
                        is_named: false,
                    });
                    continue;
                }
            }
            Some(known) if is_secret_value(own_name, known, &string.decoded, ValueStyle::Config) => {
                found.push(whole(known.0));
                continue;
            }
            _ => {}
        }
        within(content, string, &mut found);
    }
    Some(found)
}

/// Adds the secrets inside a string. If it contains escapes, the secret is the whole string.
fn within(content: &[u8], string: &Text<'_>, found: &mut Vec<SecretMatch>) {
    let is_as_written = content[string.span.clone()] == *string.decoded;
    for inner in text::search(&string.decoded, ValueStyle::Prose).into_iter().chain(urls(&string.decoded)) {
        let span = match is_as_written {
            true => string.span.start + inner.span.start..string.span.start + inner.span.end,
            false => string.span.clone(),
        };
        found.push(SecretMatch { span, end: SecretEnd::Exact, is_named: false, ..inner });
    }
}

/// In settings, no password of a URL is an example.
fn urls(text: &[u8]) -> Vec<SecretMatch> {
    let mut found = Vec::new();
    for at in memchr::memmem::find_iter(text, b"://") {
        super::url::search(text, at, ValueStyle::Config, &mut found);
    }
    found
}

/// Returns the strings of a document.
fn strings(content: &[u8]) -> Option<Vec<Text<'_>>> {
    serde_json::from_slice::<serde::de::IgnoredAny>(content).ok()?;
    let mut strings = Vec::new();
    let mut at = 0;
    while let Some(open) = memchr::memchr(b'"', &content[at..]).map(|length| at + length) {
        let start = open + 1;
        let mut end = start;
        let mut has_escapes = false;
        while *content.get(end)? != b'"' {
            has_escapes |= content[end] == b'\\';
            end += if content[end] == b'\\' { 2 } else { 1 };
        }
        let decoded = match has_escapes {
            false => Cow::Borrowed(&content[start..end]),
            true => Cow::Owned(serde_json::from_slice::<String>(&content[open..=end]).ok()?.into_bytes()),
        };
        let behind = content[end + 1..].iter().find(|byte| !byte.is_ascii_whitespace());
        strings.push(Text { span: start..end, decoded, is_name: behind == Some(&b':') });
        at = end + 1;
    }
    Some(strings)
}

/// Returns the quoted string of a document that contains all of `span`.
pub(super) fn string_around(content: &[u8], span: &Range<usize>) -> Option<Range<usize>> {
    let holds = |text: &Text<'_>| text.span.start <= span.start && span.end <= text.span.end;
    strings(content)?.into_iter().find(holds).map(|text| text.span)
}
