//! Overwriting secrets so that nothing else in a file moves, and nothing of them stays.

use super::files::{is_json, is_yaml};
use super::{SecretEnd, SecretMatch, found, json, with_lines};
use granit_parser::{Event, Parser};
use std::fmt;
use std::ops::Range;

/// A secret that was not overwritten, because its end is not certain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotOverwritten {
    /// The line that it begins in, counted from one.
    pub line: usize,
    /// The kind of secret.
    pub what: &'static str,
}

impl fmt::Display for NotOverwritten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NotOverwritten { line, what } = self;
        write!(f, "line {line}: {what} cannot be overwritten: its end is ambiguous")
    }
}

impl std::error::Error for NotOverwritten {}

/// Overwrites every secret in `content` with `x`, and returns the positions. `path` determines the kind of file.
///
/// In JSON the whole string is overwritten, in YAML the whole scalar, elsewhere the value of a name up to the end of its line.
/// The content keeps its length and its lines.
///
/// # Errors
/// Fails if it is not certain where a secret ends, or one is left. The content is then as it was.
pub fn overwrite(path: &[u8], content: &mut [u8]) -> Result<usize, NotOverwritten> {
    let secrets = found(path, content);
    let mut changed = content.to_vec();
    let format = SecretFormat::of(path, content);
    for secret in &secrets {
        let span = format.extended(content, secret).ok_or_else(|| unclear(content, secret))?;
        fill(&mut changed[span]);
    }
    // Overwritten text no longer looks like a secret. A remaining secret was cut at the wrong place.
    if let Some(left) = found(path, &changed).first() {
        return Err(unclear(&changed, left));
    }
    content.copy_from_slice(&changed);
    Ok(secrets.len())
}

fn unclear(content: &[u8], secret: &SecretMatch) -> NotOverwritten {
    let line = with_lines(content, vec![secret.clone()]).first().map_or(1, |finding| finding.line);
    NotOverwritten { line, what: secret.what }
}

/// Replaces everything but line breaks and the indentation of lines.
fn fill(text: &mut [u8]) {
    let mut is_indentation = false;
    for byte in text {
        is_indentation = matches!(byte, b'\n' | b'\r') || is_indentation && matches!(byte, b' ' | b'\t');
        if !is_indentation {
            *byte = b'x';
        }
    }
}

/// The rule by which values end in a file.
enum SecretFormat {
    /// The quotes of a string.
    Json,
    /// The ends of scalars.
    Yaml(Vec<Range<usize>>),
    /// The ends of lines.
    Text,
}

impl SecretFormat {
    fn of(path: &[u8], content: &[u8]) -> SecretFormat {
        if is_json(path) && serde_json::from_slice::<serde::de::IgnoredAny>(content).is_ok() {
            return SecretFormat::Json;
        }
        match is_yaml(path).then(|| scalars(content)).flatten() {
            Some(scalars) => SecretFormat::Yaml(scalars),
            None => SecretFormat::Text,
        }
    }

    /// Everything to overwrite for `secret`; `None` if that is not certain.
    fn extended(&self, content: &[u8], secret: &SecretMatch) -> Option<Range<usize>> {
        match self {
            SecretFormat::Json => json::string_around(content, &secret.span),
            SecretFormat::Yaml(scalars) => {
                let holds = |scalar: &&Range<usize>| scalar.start <= secret.span.start && secret.span.end <= scalar.end;
                match scalars.iter().find(holds) {
                    Some(scalar) => Some(scalar.clone()),
                    // In a comment.
                    None => in_text(content, secret),
                }
            }
            SecretFormat::Text => in_text(content, secret),
        }
    }
}

/// Returns the scalars of a YAML document without their quotes; `None` if it is not YAML.
fn scalars(content: &[u8]) -> Option<Vec<Range<usize>>> {
    let text = std::str::from_utf8(content).ok()?;
    let mut scalars = Vec::new();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.ok()?;
        if matches!(event, Event::Scalar(..)) {
            scalars.push(without_marks(content, span.byte_range()?)?);
        }
    }
    Some(scalars)
}

/// Returns a scalar without its quotes, or without the line that begins a block.
fn without_marks(content: &[u8], span: Range<usize>) -> Option<Range<usize>> {
    let text = content.get(span.clone())?;
    let quoted = text.len() > 1 && matches!(text[0], b'"' | b'\'') && text.last() == text.first();
    if quoted {
        return Some(span.start + 1..span.end - 1);
    }
    match (text.first(), memchr::memchr(b'\n', text)) {
        (Some(b'|' | b'>'), Some(line)) => {
            let indentation = text[line + 1..].iter().position(|byte| !matches!(byte, b' ' | b'\n' | b'\r'));
            Some(span.start + line + 1 + indentation.unwrap_or(0)..span.end)
        }
        _ => Some(span),
    }
}

/// Returns a secret in a text: up to the end of its line where a name introduced it, and else as it was found.
fn in_text(content: &[u8], secret: &SecretMatch) -> Option<Range<usize>> {
    let SecretMatch { span, end, is_named, .. } = secret;
    if *end == SecretEnd::Guessed {
        return None;
    }
    if !is_named || content[span.clone()].contains(&b'\n') {
        return Some(span.clone());
    }
    let line = span.end + memchr::memchr(b'\n', &content[span.end..]).unwrap_or(content.len() - span.end);
    let line = span.end + content[span.end..line].trim_ascii_end().len();
    let quote = span.start.checked_sub(1).map(|at| content[at]).filter(|byte| matches!(byte, b'"' | b'\''));
    let element = content[span.end..line].starts_with(b"</");
    match quote {
        // The quotes stay, so that the line is read as before. Behind them only a separator or a comment is expected.
        Some(quote) if content.get(span.end) == Some(&quote) => {
            let rest = content[span.end + 1..line].trim_ascii();
            let is_over = rest.is_empty() || rest[0] == b'#' || rest.iter().all(|byte| b",;)}]".contains(byte));
            is_over.then(|| span.clone())
        }
        _ if element => Some(span.clone()),
        _ if content[..line].ends_with(b"\\") => None,
        _ => Some(span.start..line),
    }
}
