//! Secrets that are known by their form: private keys, web tokens, and tokens with the prefix of their vendor.

use super::value::is_placeholder;
use super::{SecretEnd, SecretMatch};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// The characters of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Letters {
    /// Letters and digits.
    Alphanumeric,
    /// Capital letters and digits.
    Capitals,
    /// Letters, digits, `_` and `-`.
    Words,
    /// Letters, digits, `_`, `-` and `.`.
    Dotted,
}

impl Letters {
    fn contain(self, byte: u8) -> bool {
        match self {
            Letters::Alphanumeric => byte.is_ascii_alphanumeric(),
            Letters::Capitals => byte.is_ascii_uppercase() || byte.is_ascii_digit(),
            Letters::Words => byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'),
            Letters::Dotted => byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'),
        }
    }
}

/// A token as its vendor publishes it: the prefix, what follows, and how long that is at least.
struct Form {
    prefix: &'static str,
    what: &'static str,
    letters: Letters,
    shortest: usize,
}

const fn form(prefix: &'static str, what: &'static str, letters: Letters, shortest: usize) -> Form {
    Form { prefix, what, letters, shortest }
}

/// The prefixes that vendors have published.
const FORMS: [Form; 45] = [
    form("ghp_", "a GitHub token", Letters::Alphanumeric, 16),
    form("gho_", "a GitHub token", Letters::Alphanumeric, 16),
    form("ghu_", "a GitHub token", Letters::Alphanumeric, 16),
    form("ghs_", "a GitHub token", Letters::Alphanumeric, 16),
    form("ghr_", "a GitHub token", Letters::Alphanumeric, 16),
    form("github_pat_", "a GitHub token", Letters::Words, 16),
    form("glpat-", "a GitLab token", Letters::Words, 16),
    form("gldt-", "a GitLab token", Letters::Words, 16),
    form("glrt-", "a GitLab token", Letters::Words, 16),
    form("xoxb-", "a Slack token", Letters::Words, 16),
    form("xoxp-", "a Slack token", Letters::Words, 16),
    form("xoxa-", "a Slack token", Letters::Words, 16),
    form("xoxr-", "a Slack token", Letters::Words, 16),
    form("xoxs-", "a Slack token", Letters::Words, 16),
    form("xapp-", "a Slack token", Letters::Words, 16),
    form("AKIA", "an AWS access key", Letters::Capitals, 16),
    form("ASIA", "an AWS access key", Letters::Capitals, 16),
    form("AIza", "a Google API key", Letters::Words, 35),
    form("ya29.", "a Google token", Letters::Words, 30),
    form("GOCSPX-", "a Google client secret", Letters::Words, 20),
    form("npm_", "an npm token", Letters::Alphanumeric, 30),
    form("pypi-AgE", "a PyPI token", Letters::Words, 16),
    form("pypi-", "a PyPI token", Letters::Words, 40),
    form("hf_", "a Hugging Face token", Letters::Alphanumeric, 20),
    form("sk-", "an API key", Letters::Words, 20),
    form("sk_live_", "a Stripe key", Letters::Alphanumeric, 16),
    form("rk_live_", "a Stripe key", Letters::Alphanumeric, 16),
    form("sk_test_", "a Stripe test key", Letters::Alphanumeric, 16),
    form("whsec_", "a Stripe signing secret", Letters::Alphanumeric, 24),
    form("SG.", "a SendGrid key", Letters::Dotted, 40),
    form("dop_v1_", "a DigitalOcean token", Letters::Alphanumeric, 40),
    form("dckr_pat_", "a Docker Hub token", Letters::Words, 20),
    form("shpat_", "a Shopify token", Letters::Alphanumeric, 32),
    form("hvs.", "a Vault token", Letters::Words, 24),
    form("dapi", "a Databricks token", Letters::Alphanumeric, 32),
    form("lin_api_", "a Linear key", Letters::Alphanumeric, 32),
    form("figd_", "a Figma token", Letters::Words, 30),
    form("pul-", "a Pulumi token", Letters::Alphanumeric, 40),
    form("PMAK-", "a Postman key", Letters::Words, 40),
    form("NRAK-", "a New Relic key", Letters::Capitals, 24),
    form("sq0csp-", "a Square secret", Letters::Words, 40),
    form("EAACEdEose0cBA", "a Facebook token", Letters::Alphanumeric, 20),
    form("AGE-SECRET-KEY-1", "an age key", Letters::Capitals, 40),
    form("tfp_", "a Typeform token", Letters::Words, 40),
    form("gsk_", "a Groq key", Letters::Alphanumeric, 40),
];

/// Returns the prefixes, in the order of their numbers.
pub(super) fn prefixes() -> impl Iterator<Item = &'static str> {
    FORMS.iter().map(|form| form.prefix)
}

/// Returns the token with the prefix of this number, which is at `at`.
pub(super) fn token(content: &[u8], at: usize, number: usize) -> Option<SecretMatch> {
    let Form { prefix, what, letters, shortest } = &FORMS[number];
    let begins = at == 0 || !Letters::Words.contain(content[at - 1]);
    if !begins || !content[at..].starts_with(prefix.as_bytes()) {
        return None;
    }
    let start = at + prefix.len();
    let length = content[start..].iter().take_while(|byte| letters.contain(**byte)).count();
    let length = content[start..start + length].iter().rposition(|byte| *byte != b'.').map_or(0, |last| last + 1);
    let body = &content[start..start + length];
    // AWS keys have one length, and a longer word is another one.
    let is_of_length = match *prefix {
        "AKIA" | "ASIA" => length == *shortest,
        _ => length >= *shortest,
    };
    (is_of_length && is_mixed(body, prefix)).then(|| exact(what, at..start + length))
}

/// Returns `true` if the body of a token is not a word of a language.
fn is_mixed(body: &[u8], prefix: &str) -> bool {
    let has = |test: fn(&u8) -> bool| body.iter().any(test);
    let first = body.first();
    let is_one_letter = body.iter().all(|byte| Some(byte) == first || matches!(byte, b'x' | b'X' | b'-' | b'_' | b'.'));
    let is_capital = prefix.bytes().all(|byte| byte.is_ascii_uppercase());
    let has_cases = has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase);
    !is_one_letter && (is_capital || has(u8::is_ascii_digit) || has_cases)
        // Names of style sheets and packages have neither digits nor capital letters in most of their words.
        && (prefix != "sk-" || (has(u8::is_ascii_digit) && has_cases) || body.iter().filter(|byte| byte.is_ascii_digit()).count() > 6)
}

fn exact(what: &'static str, span: std::ops::Range<usize>) -> SecretMatch {
    SecretMatch { what, span, end: SecretEnd::Exact, is_named: false }
}

/// Returns the private key whose `-----BEGIN` is at `at`. Line breaks may be written as `\n`.
pub(super) fn private_key(content: &[u8], at: usize) -> Option<SecretMatch> {
    const LONGEST_LABEL: usize = 64;
    let label = &content[at + 10..content.len().min(at + 10 + LONGEST_LABEL)];
    let label = &label[..memchr::memmem::find(label, b"-----")?];
    let is_private = label.ends_with(b"PRIVATE KEY") || label.ends_with(b"PRIVATE KEY BLOCK");
    if !is_private || !label.iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b' ') {
        return None;
    }
    let body = at + 10 + label.len() + 5;
    let ending = [b"-----END", label, b"-----"].concat();
    let end = memchr::memmem::find(&content[body..], &ending).map(|length| body + length);
    let key = &content[body..end.unwrap_or(content.len())];
    // A program that searches for keys contains their first line without a key after it.
    const SHORTEST: usize = 24;
    const LONGEST_HEADERS: usize = 256;
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
    let headers = &key[..key.len().min(LONGEST_HEADERS)];
    let has_key = headers.split(|byte| !is_base64(byte)).any(|run| run.len() >= SHORTEST);
    if !has_key || memchr::memmem::find(key, b"-----BEGIN").is_some() {
        return None;
    }
    Some(match end {
        Some(end) => exact("a private key", at..end + ending.len()),
        None => {
            SecretMatch { what: "a private key", span: at..content.len(), end: SecretEnd::Guessed, is_named: false }
        }
    })
}

/// Returns the JSON web token whose `eyJ` is at `at`: three parts, of which the first is a header.
pub(super) fn web_token(content: &[u8], at: usize) -> Option<SecretMatch> {
    if !content[at..].starts_with(b"eyJ") || at > 0 && Letters::Words.contain(content[at - 1]) {
        return None;
    }
    let length = content[at..].iter().take_while(|byte| Letters::Dotted.contain(**byte)).count();
    let text = content[at..at + length].strip_suffix(b".").unwrap_or(&content[at..at + length]);
    let mut parts = text.split(|byte| *byte == b'.');
    let (header, payload, signature) = (parts.next()?, parts.next()?, parts.next()?);
    let header = URL_SAFE_NO_PAD.decode(header).ok()?;
    let is_header = [&b"\"alg\""[..], b"\"typ\"", b"\"kid\"", b"\"enc\""]
        .iter()
        .any(|member| memchr::memmem::find(&header, member).is_some());
    let is_token = is_header && payload.len() >= 8 && signature.len() >= 16;
    is_token.then(|| exact("a web token", at..at + text.len()))
}

/// Returns the credentials after a `Basic ` or `Bearer ` that ends at `at`.
pub(super) fn authorization(content: &[u8], at: usize, scheme: &[u8]) -> Option<SecretMatch> {
    let before = at - scheme.len();
    if before > 0 && Letters::Words.contain(content[before - 1]) {
        return None;
    }
    let is_token = |byte: &&u8| byte.is_ascii_alphanumeric() || b"+/=._~-".contains(*byte);
    let length = content[at..].iter().take_while(is_token).count();
    let value = &content[at..at + length];
    let is_credential = match scheme[1].to_ascii_lowercase() {
        b'a' => is_basic(value),
        _ => {
            let digits = value.iter().filter(|byte| byte.is_ascii_digit()).count();
            length >= 16 && digits > 0 && !is_placeholder(&String::from_utf8_lossy(value))
        }
    };
    is_credential.then(|| exact("an authorization header", at..at + length))
}

/// Returns `true` if a text is a user and a password in base64.
pub(super) fn is_basic(text: &[u8]) -> bool {
    let decoded = match STANDARD.decode(text) {
        Ok(decoded) => decoded,
        Err(_) => match STANDARD_NO_PAD.decode(text) {
            Ok(decoded) => decoded,
            Err(_) => return false,
        },
    };
    let is_text = decoded.iter().all(|byte| (0x20..0x7f).contains(byte) || *byte >= 0x80);
    let colon = memchr::memchr(b':', &decoded);
    text.len() >= 8
        && is_text
        && std::str::from_utf8(&decoded).is_ok()
        && colon.is_some_and(|at| at + 1 < decoded.len())
}
