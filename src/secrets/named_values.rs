//! Secrets that a name introduces: `DB_PASSWORD=…`, `"api_key": "…"`, `--token …`, `Authorization: …`.

use super::files::ValueStyle;
use super::value::{Demand, is_placeholder, is_secret};
use super::{SecretEnd, SecretMatch};
use crate::secrets::token_formats::is_basic;
use std::ops::Range;

/// The certainty with which a name marks its value as a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Strength {
    /// The value is a secret unless it is a placeholder.
    Strong,
    /// The value is a secret if it looks random.
    Weak,
}

/// The endings of names of secrets, for the search.
pub(super) const ENDINGS: [&str; 18] = [
    "password",
    "passwd",
    "passphrase",
    "passwort",
    "pass",
    "pwd",
    "pw",
    "secret",
    "token",
    "credential",
    "credentials",
    "key",
    "auth",
    "sig",
    "signature",
    "authorization",
    "key-data",
    "key_data",
];

/// Long endings count without a separator in front of them, as in `accesstoken`.
const LONG_ENDINGS: [(&str, &str); 14] = [
    ("password", "a password"),
    ("passwd", "a password"),
    ("passphrase", "a password"),
    ("passwort", "a password"),
    ("secret", "a secret"),
    ("token", "a token"),
    ("apikey", "a key"),
    ("accesskey", "a key"),
    ("secretkey", "a key"),
    ("privatekey", "a key"),
    ("authkey", "a key"),
    ("accountkey", "a key"),
    ("credentials", "credentials"),
    ("keydata", "a key"),
];

/// Words that make a key a secret key.
const SECRET_KEYS: [&str; 31] = [
    "access",
    "account",
    "admin",
    "aes",
    "api",
    "app",
    "application",
    "auth",
    "client",
    "cookie",
    "deploy",
    "encrypt",
    "encryption",
    "fernet",
    "hmac",
    "jwt",
    "license",
    "master",
    "private",
    "rsa",
    "secret",
    "server",
    "service",
    "session",
    "shared",
    "sign",
    "signing",
    "ssh",
    "storage",
    "subscription",
    "webhook",
];

/// Tokens of language models and of lists that go on, and other numbers.
const HARMLESS_TOKENS: [&str; 28] = [
    "audio",
    "begin",
    "bos",
    "cls",
    "continuation",
    "end",
    "eos",
    "image",
    "input",
    "marker",
    "mask",
    "max",
    "min",
    "next",
    "nextpage",
    "num",
    "output",
    "pad",
    "page",
    "prefix",
    "sep",
    "special",
    "split",
    "start",
    "stop",
    "suffix",
    "unk",
    "video",
];

/// Passes of a compiler and of a test.
const HARMLESS_PASSES: [&str; 14] = [
    "by", "can", "first", "forward", "backward", "last", "low", "high", "multi", "one", "render", "second", "single",
    "two",
];

/// Names in front of `pass` without a separator.
const PASSES: [&str; 14] =
    ["db", "pg", "user", "my", "root", "smtp", "ssh", "mysql", "admin", "ftp", "mail", "redis", "imap", "ldap"];

/// Returns whether a name marks its value as a secret, and with what certainty.
pub(super) fn is_secret_name(name: &[u8]) -> Option<(&'static str, Strength)> {
    let text = std::str::from_utf8(name).ok()?;
    if matches!(text, "PWD" | "OLDPWD" | "PASS") {
        return None;
    }
    let words = words(text);
    let (last, before) = match &words[..] {
        [.., before, last] => (last.as_str(), before.as_str()),
        [last] => (last.as_str(), ""),
        [] => return None,
    };
    let strong = |what| Some((what, Strength::Strong));
    let weak = |what| Some((what, Strength::Weak));
    match last {
        "password" | "passwd" | "passphrase" | "passwort" | "pwd" => return strong("a password"),
        "pw" if !before.is_empty() => return strong("a password"),
        "pass" if HARMLESS_PASSES.contains(&before) => return None,
        "pass" => return strong("a password"),
        "token" if HARMLESS_TOKENS.contains(&before) => return None,
        "token" => return strong("a token"),
        "secret" => return strong("a secret"),
        "credential" | "credentials" => return strong("credentials"),
        "authorization" => return strong("an authorization header"),
        "auth" => return weak("credentials"),
        "key" if SECRET_KEYS.contains(&before) => return strong("a key"),
        "key" if before == "public" || before == "primary" || before == "foreign" => return None,
        "key" => return weak("a key"),
        "sig" | "signature" => return weak("a signature"),
        "data" if before == "key" => return strong("a key"),
        _ => {}
    }
    if let Some(stem) = last.strip_suffix("pass") {
        return if PASSES.contains(&stem) { strong("a password") } else { None };
    }
    let (_, what) = LONG_ENDINGS.iter().find(|(ending, _)| last.ends_with(ending))?;
    let is_harmless = last.strip_suffix("token").is_some_and(|stem| HARMLESS_TOKENS.contains(&stem));
    if is_harmless { None } else { strong(what) }
}

/// Returns the words of a name in lower case: `_`, `-`, `.` and capital letters separate them. Numbers at its end do not count.
fn words(name: &str) -> Vec<String> {
    let name = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '_');
    let mut words: Vec<String> = Vec::new();
    let mut was_lower = false;
    let mut is_new = true;
    for c in name.chars() {
        if !c.is_ascii_alphanumeric() {
            is_new = true;
            continue;
        }
        if is_new || (was_lower && c.is_ascii_uppercase()) {
            words.push(String::new());
        }
        is_new = false;
        was_lower = c.is_ascii_lowercase() || c.is_ascii_digit();
        if let Some(word) = words.last_mut() {
            word.push(c.to_ascii_lowercase());
        }
    }
    words
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn skip(content: &[u8], from: usize, test: impl Fn(u8) -> bool) -> usize {
    from + content[from..].iter().position(|byte| !test(*byte)).unwrap_or(content.len() - from)
}

/// A name in a text, with its surroundings.
struct NamedValue<'a> {
    content: &'a [u8],
    style: ValueStyle,
    name: Range<usize>,
    what: &'static str,
    strength: Strength,
}

/// Between a name and its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tie {
    /// `:`
    Colon,
    /// `=`
    Equals,
    /// A blank after a flag.
    Blank,
    /// The tag of an element.
    Tag,
}

/// Returns the value of the name whose ending ends at `end`, if it is a secret.
pub(super) fn value(content: &[u8], end: usize, style: ValueStyle) -> Option<SecretMatch> {
    let end = skip(content, end, |byte| byte.is_ascii_digit());
    if content.get(end).is_none_or(|byte| is_name(*byte)) {
        return None;
    }
    // Everything that follows costs little, and nearly all that was found ends here.
    let closes_name = |byte: u8| matches!(byte, b'"' | b'\'' | b'`' | b']');
    let behind = skip(content, end, |byte| closes_name(byte) || is_blank(byte));
    let tied = matches!(content.get(behind)?, b':' | b'=' | b'>' | b'?') || behind > end;
    if !tied {
        return None;
    }
    let start = content[..end].iter().rposition(|byte| !is_name(*byte)).map_or(0, |before| before + 1);
    let (what, strength) = is_secret_name(&content[start..end])?;
    NamedValue { content, style, name: start..end, what, strength }.find()
}

impl NamedValue<'_> {
    fn find(&self) -> Option<SecretMatch> {
        let before = self.name.start.checked_sub(1).map(|at| self.content[at]);
        if before == Some(b'$')
            || (before == Some(b'{') && self.name.start > 1 && self.content[self.name.start - 2] == b'$')
        {
            return None;
        }
        let (tie, value) = self.tie(before)?;
        let line = value + memchr::memchr(b'\n', &self.content[value..]).unwrap_or(self.content.len() - value);
        let (span, end) = self.span(tie, value, line)?;
        self.is_secret(tie, &self.content[span.clone()]).then_some(SecretMatch {
            what: self.what,
            span,
            end,
            is_named: true,
        })
    }

    /// Returns the separator between name and value, and the start of the value.
    fn tie(&self, before: Option<u8>) -> Option<(Tie, usize)> {
        let content = self.content;
        let is_flag = content[self.name.start] == b'-';
        if before == Some(b'<') && content.get(self.name.end) == Some(&b'>') {
            return Some((Tie::Tag, self.name.end + 1));
        }
        let mut at = self.name.end;
        let is_quoted = matches!(content.get(at), Some(b'"' | b'\'' | b'`'));
        at += usize::from(is_quoted);
        at += usize::from(content.get(at) == Some(&b']'));
        let gap = skip(content, at, is_blank);
        let value = |from| skip(content, from, is_blank);
        match (content.get(gap)?, content.get(gap + 1)) {
            (b'=', Some(b'=' | b'~')) | (b':', Some(b':')) => None,
            (b'=', Some(b'>')) | (b':' | b'?' | b'+', Some(b'=')) => Some((Tie::Equals, value(gap + 2))),
            (b'=', _) => Some((Tie::Equals, value(gap + 1))),
            // In YAML and in headers a blank follows.
            (b':', Some(next)) if is_quoted || is_blank(*next) || matches!(next, b'"' | b'\'') => {
                Some((Tie::Colon, value(gap + 1)))
            }
            _ if is_flag && gap > self.name.end && !is_quoted => Some((Tie::Blank, gap)),
            _ => None,
        }
    }

    /// Returns the place of the value that begins at `start`, in a line that ends at `line`.
    fn span(&self, tie: Tie, mut start: usize, line: usize) -> Option<(Range<usize>, SecretEnd)> {
        let content = self.content;
        if self.style == ValueStyle::Code && content.get(start).is_some_and(|byte| b"bBrRuUfF".contains(byte)) {
            start += usize::from(matches!(content.get(start + 1), Some(b'"' | b'\'')));
        }
        let first = *content.get(start).filter(|_| start < line)?;
        if self.what == "an authorization header" {
            start += scheme_length(&content[start..line]);
        }
        let is_quote = matches!(first, b'"' | b'\'') || first == b'`' && self.style == ValueStyle::Code;
        if is_quote && start < line {
            let open = if start == skip(content, start, |byte| byte == first) { start } else { start + 1 };
            return Some(match closing_quote(&content[open..line], first) {
                Some(length) => (open..open + length, SecretEnd::Exact),
                None => (open..trimmed(content, open, line), SecretEnd::Guessed),
            });
        }
        if tie == Tie::Tag {
            let end = start + memchr::memchr(b'<', &content[start..line])?;
            return Some((start..end, SecretEnd::Exact));
        }
        if matches!(first, b'|' | b'>') && tie == Tie::Colon && self.style == ValueStyle::Config {
            return self.block(start, line);
        }
        if self.style == ValueStyle::Code {
            return None;
        }
        // An alias of YAML, or what a command will say.
        let is_placeholder = first == b'`' || first == b'*' && tie == Tie::Colon;
        (!is_placeholder).then(|| self.unquoted(tie, start, line))
    }

    fn unquoted(&self, tie: Tie, start: usize, line: usize) -> (Range<usize>, SecretEnd) {
        let content = self.content;
        let text = &content[start..line];
        let is_assignment = tie != Tie::Blank && self.begins_line();
        let mut length = text.len();
        if !is_assignment || self.style == ValueStyle::Prose {
            let ends = |byte: &u8| byte.is_ascii_whitespace() || b"\"'<>`,;&)}\\".contains(byte);
            length = text.iter().position(ends).unwrap_or(length);
            return (start..start + length, SecretEnd::Exact);
        }
        // A list of settings in one line.
        if let Some(at) = memchr::memchr(b';', text).filter(|at| text[*at..].contains(&b'=')) {
            length = at;
        }
        if let Some(at) = memchr::memmem::find(&text[..length], b" #") {
            length = at;
        }
        let end = trimmed(content, start, start + length);
        let goes_on = content[..end].ends_with(b"\\");
        (start..end, if goes_on { SecretEnd::Guessed } else { SecretEnd::Exact })
    }

    /// Returns `true` if nothing but what declares a variable is in front of the name.
    fn begins_line(&self) -> bool {
        let start = memchr::memrchr(b'\n', &self.content[..self.name.start]).map_or(0, |at| at + 1);
        let before = String::from_utf8_lossy(&self.content[start..self.name.start]).into_owned();
        let before = before.trim_matches([' ', '\t', '-', '"', '\'', '#', ';']);
        let declarations =
            ["", "export", "set", "setx", "ENV", "ARG", "env", "declare -x", "local", "readonly", "$env:", "?"];
        // npm writes the registry in front.
        declarations.contains(&before) || (before.starts_with("//") && !before.contains(' '))
    }

    /// Returns the lines of a block of YAML, which are indented more than the line of the name.
    fn block(&self, start: usize, line: usize) -> Option<(Range<usize>, SecretEnd)> {
        let content = self.content;
        let header = content[start + 1..line].trim_ascii();
        if !header.iter().all(|byte| matches!(byte, b'+' | b'-' | b'0'..=b'9')) {
            return None;
        }
        let own = memchr::memrchr(b'\n', &content[..self.name.start]).map_or(0, |at| at + 1);
        let own_indent = skip(content, own, |byte| matches!(byte, b' ' | b'-')) - own;
        let (mut at, mut begin, mut end) = (line + 1, None, line);
        while at < content.len() {
            let next = at + memchr::memchr(b'\n', &content[at..]).unwrap_or(content.len() - at);
            let text = skip(content, at, |byte| byte == b' ');
            let is_empty = content[at..next].trim_ascii().is_empty();
            if !is_empty && text - at <= own_indent {
                break;
            }
            if !is_empty {
                begin.get_or_insert(text);
                end = trimmed(content, at, next);
            }
            at = next + 1;
        }
        Some((begin?..end, SecretEnd::Exact))
    }

    fn is_secret(&self, tie: Tie, value: &[u8]) -> bool {
        let name = &self.content[self.name.clone()];
        let text = String::from_utf8_lossy(value);
        if tie == Tie::Blank {
            let is_conspicuous = text.contains(|c: char| c.is_ascii_digit() || "!@#%^".contains(c));
            return !text.starts_with('-') && text.len() > 3 && is_conspicuous && is_secret(name, value, Demand::Any);
        }
        if matches!(self.content.get(self.name.end..), Some([b':', ..])) && text.contains('\n') {
            // A block, whose content is not a label.
            return !is_placeholder(&text);
        }
        if self.what == "credentials" && self.strength == Strength::Weak {
            return is_basic(value);
        }
        if self.what == "an authorization header" {
            let demand = if self.style == ValueStyle::Config { Demand::Any } else { Demand::Mixed };
            return value.len() > 3 && !text.contains(' ') && is_secret(name, value, demand);
        }
        // In the middle of a line, a colon is a mark of punctuation as well.
        // The line `passwd: files` of nsswitch.conf names no password either.
        let is_quoted = matches!(self.content.get(self.name.end), Some(b'"' | b'\''));
        let is_loose = tie == Tie::Colon && !is_quoted && (!self.begins_line() || name == b"passwd");
        let style = if is_loose && self.style == ValueStyle::Config { ValueStyle::Prose } else { self.style };
        is_secret_value(name, (self.what, self.strength), value, style)
    }
}

/// Returns `true` if `value`, whose name has the certainty `what`, is a secret.
pub(super) fn is_secret_value(
    name: &[u8],
    (what, strength): (&str, Strength),
    value: &[u8],
    style: ValueStyle,
) -> bool {
    let demand = match (strength, style) {
        (Strength::Weak, _) => Demand::Random,
        (Strength::Strong, ValueStyle::Config) => Demand::Any,
        (Strength::Strong, ValueStyle::Code | ValueStyle::Prose) => Demand::Mixed,
    };
    let is_number = value.iter().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'*'));
    let may_be_number = what == "a password" && value.len() > 3 && !value.contains(&b'.');
    (!is_number || may_be_number) && value.len() > 1 && is_secret(name, value, demand)
}

/// Returns the length of a scheme such as `Bearer `, with a quote before it, at the start of an authorization.
pub(super) fn scheme_length(text: &[u8]) -> usize {
    let is_quoted = usize::from(matches!(text.first(), Some(b'"' | b'\'')));
    let word = skip(text, is_quoted, |byte| byte.is_ascii_alphabetic());
    let blank = skip(text, word, is_blank);
    if blank > word && word > is_quoted { blank } else { 0 }
}

/// Returns the length of a text up to the quote that closes it.
fn closing_quote(text: &[u8], quote: u8) -> Option<usize> {
    let mut at = 0;
    while at < text.len() {
        match text[at] {
            b'\\' => at += 2,
            byte if byte == quote => return Some(at),
            _ => at += 1,
        }
    }
    None
}

/// Returns the end of the text in `start..end` without trailing blanks.
fn trimmed(content: &[u8], start: usize, end: usize) -> usize {
    start + content[start..end].trim_ascii_end().len()
}
