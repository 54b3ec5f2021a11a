//! Credentials in URLs: `user:password@`, tokens in the path, secrets in the query.

use super::files::ValueStyle;
use super::value::{Demand, is_placeholder, is_random, is_secret};
use super::{SecretEnd, SecretMatch};
use crate::secrets::named_values::{Strength, is_secret_name};
use std::ops::Range;

/// Pairs that documentation uses.
const IN_EXAMPLES: [&str; 12] =
    ["user", "username", "usr", "login", "me", "alice", "bob", "foo", "admin", "name", "root", "u"];
const PASSWORDS_IN_EXAMPLES: [&str; 12] =
    ["pass", "password", "passwd", "pwd", "secret", "token", "bar", "admin", "p", "pw", "passw", "1234"];

/// Users that are no secret: everybody's.
const COMMON_USERS: [&str; 6] = ["git", "hg", "svn", "anonymous", "oauth2", "x-access-token"];

/// Returns whether a byte ends a URL in text, JSON, YAML or a command line.
fn ends_url(byte: u8) -> bool {
    byte.is_ascii_whitespace() || matches!(byte, b'"' | b'\'' | b'<' | b'>' | b'`' | b'\\' | b'|' | b'^')
}

/// Returns the length of the URL at the start of `content`. Punctuation after it belongs to the sentence.
pub(super) fn length(content: &[u8]) -> usize {
    let end = content.iter().position(|byte| ends_url(*byte)).unwrap_or(content.len());
    let is_punctuation = |byte: &u8| matches!(byte, b':' | b',' | b'.' | b';' | b')' | b'!');
    content[..end].iter().rposition(|byte| !is_punctuation(byte)).map_or(0, |last| last + 1)
}

/// Adds the secrets of the URL whose `://` is at `at`.
pub(super) fn search(content: &[u8], at: usize, style: ValueStyle, found: &mut Vec<SecretMatch>) {
    let start = at + 3;
    let url = &content[start..start + length(&content[start..])];
    let place = |range: Range<usize>| start + range.start..start + range.end;
    let mut push =
        |what, range| found.push(SecretMatch { what, span: place(range), end: SecretEnd::Exact, is_named: false });
    let user = user_part(url);
    if let Some(user) = &user
        && are_credentials(&url[user.clone()], style)
    {
        push("credentials in a URL", user.clone());
    }
    let path = user.map_or(0, |user| user.end);
    if let Some(token) = conda_token(&url[path..]) {
        push("a token in a URL", path + token.start..path + token.end);
    }
    for (name, value) in parameters(url) {
        if is_secret_parameter(&url[name], &url[value.clone()], style) {
            push("a secret in a URL", value);
        }
    }
}

/// Returns the range of user and password in a URL without its scheme. A password may contain slashes.
pub(super) fn user_part(url: &[u8]) -> Option<Range<usize>> {
    let authority_end = url.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(url.len());
    if let Some(length) = memchr::memrchr(b'@', &url[..authority_end]) {
        return Some(0..length);
    }
    // Without an `@` before the first slash this is a host, unless the text after its colon is not a port.
    let colon = memchr::memchr(b':', &url[..authority_end])?;
    let is_port = url[colon + 1..authority_end].iter().all(u8::is_ascii_digit);
    if is_port || url[..colon].contains(&b'[') {
        return None;
    }
    let length = memchr::memchr(b'@', &url[authority_end..])?;
    Some(0..authority_end + length)
}

fn are_credentials(user: &[u8], style: ValueStyle) -> bool {
    let text = String::from_utf8_lossy(user);
    let (name, password) = text.split_once(':').map_or((&*text, None), |(name, password)| (name, Some(password)));
    match password {
        Some(password) => {
            let lower = |text: &str| text.to_ascii_lowercase();
            let is_example = style != ValueStyle::Config
                && (password.len() < 4
                    || IN_EXAMPLES.contains(&lower(name).as_str())
                    || PASSWORDS_IN_EXAMPLES.contains(&lower(password).as_str()));
            let is_placeholder = password.is_empty()
                || password.starts_with(['$', '%', '<', '{', '['])
                || password.contains("${")
                || password.contains("{{")
                || password.contains("%s")
                || (password.contains('{') && password.contains('}'))
                || password.chars().all(|c| matches!(c, '*' | 'x' | 'X' | '.' | '…'));
            if is_placeholder { is_lone_secret(name) } else { !is_example }
        }
        None => is_lone_secret(name),
    }
}

/// Returns `true` if a user without a password is a token.
fn is_lone_secret(name: &str) -> bool {
    !COMMON_USERS.contains(&name) && !is_placeholder(name) && is_random(name)
}

/// Returns `/t/<token>/` of conda channels.
fn conda_token(url: &[u8]) -> Option<Range<usize>> {
    let at = memchr::memmem::find(url, b"/t/")? + 3;
    let length = url[at..].iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(url.len() - at);
    let is_conda = |url: &[u8]| {
        let parts: [&[u8]; 7] = [b"conda", b"/get/", b"linux-64", b"noarch", b"osx-", b"win-64", b"/main"];
        parts.iter().any(|part| memchr::memmem::find(url, part).is_some())
    };
    let token = String::from_utf8_lossy(&url[at..at + length]);
    (is_conda(url) && !is_placeholder(&token)).then_some(at..at + length)
}

/// Returns the names and values of the query.
pub(super) fn parameters(url: &[u8]) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
    let query = memchr::memchr(b'?', url).map_or(url.len(), |at| at + 1);
    let mut at = query;
    url[query..].split(|byte| matches!(byte, b'&' | b';')).filter_map(move |parameter| {
        let start = at;
        at += parameter.len() + 1;
        let equals = memchr::memchr(b'=', parameter)?;
        Some((start..start + equals, start + equals + 1..start + parameter.len()))
    })
}

fn is_secret_parameter(name: &[u8], value: &[u8], style: ValueStyle) -> bool {
    let lower = String::from_utf8_lossy(name).to_ascii_lowercase();
    let is_signed = matches!(lower.as_str(), "sig" | "x-amz-signature" | "x-goog-signature" | "x-amz-security-token");
    let demand = match (is_signed, is_secret_name(name), style) {
        (true, ..) => Demand::Random,
        (false, Some((_, Strength::Strong)), ValueStyle::Config) => Demand::Any,
        (false, Some((_, Strength::Strong)), _) => Demand::Mixed,
        (false, Some((_, Strength::Weak)), _) => Demand::Random,
        (false, None, _) => return false,
    };
    is_secret(name, value, demand)
}
