//! Classification of values as secrets or placeholders.

/// Words that are placeholders for a secret, or that cannot be one.
const GENERIC: [&str; 81] = [
    "abc",
    "any",
    "api_key",
    "apikey",
    "array",
    "auto",
    "basic",
    "bearer",
    "bool",
    "boolean",
    "bytes",
    "changeit",
    "changeme",
    "credential",
    "credentials",
    "default",
    "dict",
    "disabled",
    "dummy",
    "empty",
    "enabled",
    "env",
    "example",
    "external",
    "fake",
    "false",
    "file",
    "foo",
    "hidden",
    "ignore",
    "include",
    "inherit",
    "int",
    "integer",
    "invalid",
    "key",
    "keyring",
    "map",
    "masked",
    "missing",
    "mixed",
    "name",
    "never",
    "nil",
    "no",
    "none",
    "null",
    "object",
    "off",
    "ok",
    "omit",
    "on",
    "optional",
    "pass",
    "passphrase",
    "passwd",
    "password",
    "placeholder",
    "private",
    "prompt",
    "pwd",
    "read",
    "read-write",
    "redacted",
    "removed",
    "required",
    "same-origin",
    "secret",
    "secrets",
    "signature",
    "str",
    "string",
    "test",
    "text",
    "todo",
    "token",
    "true",
    "undefined",
    "unset",
    "write",
    "yes",
];

/// The strictness with which a value is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Demand {
    /// Anything that is not a placeholder.
    Any,
    /// Letters and digits, in one word.
    Mixed,
    /// Long and without a pattern.
    Random,
}

/// Returns `true` if `value`, which `name` introduces, is a secret.
pub(super) fn is_secret(name: &[u8], value: &[u8], demand: Demand) -> bool {
    let Ok(text) = std::str::from_utf8(value) else { return demand == Demand::Any };
    if is_placeholder(text) || is_path_or_url(text) || is_label(name, text) {
        return false;
    }
    match demand {
        Demand::Any => true,
        Demand::Mixed => is_mixed(text),
        Demand::Random => is_random(text),
    }
}

/// Returns `true` if a text is a reference to a secret or a placeholder: `$TOKEN`, `<token>`, `****`.
pub(super) fn is_placeholder(text: &str) -> bool {
    let text = text.trim();
    let lower = text.to_ascii_lowercase();
    let brackets = [("<", ">"), ("[", "]"), ("{", "}"), ("(", ")"), ("%", "%"), ("__", "__")];
    text.is_empty()
        || GENERIC.contains(&lower.as_str())
        || text.starts_with(['$', '%', '!', '&', '`', ',', ')', ']', '}', '|', '\\'])
        || text
            .chars()
            .filter(|c| !c.is_whitespace())
            .all(|c| matches!(c, '*' | 'x' | 'X' | '.' | '-' | '_' | '#' | '?' | '=' | '0' | '/' | '•' | '…'))
        || brackets.iter().any(|(open, close)| text.starts_with(open) && text.ends_with(close))
        || ["${", "{{", "%(", "$(", "<%", "{}", "...", "…"].iter().any(|part| text.contains(part))
        || (text.contains('{') && text.contains('}'))
        || (text.contains('<') && text.contains('>'))
        || lower.starts_with("your")
        || lower.starts_with("my-")
        || lower.starts_with("my_")
        || (text.len() > 3 && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_') && text.contains('_'))
}

/// Returns `true` if a value names a place where a secret is.
fn is_path_or_url(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let is_absolute = text.starts_with('/') && !text.contains(['+', '=']);
    let is_elsewhere =
        ["./", "../", "~/", "http://", "https://", "file:", "env:", "vault:", "arn:", "op://", "ssm:", "c:\\"];
    let is_file = [".key", ".pem", ".crt", ".json", ".yaml", ".txt"].iter().any(|ending| lower.ends_with(ending));
    is_absolute || is_file || is_elsewhere.iter().any(|start| lower.starts_with(start))
}

/// Returns `true` if a value is a text about a secret: "Enter your password".
fn is_label(name: &[u8], text: &str) -> bool {
    let plain = |text: &str| text.to_ascii_lowercase().replace(['-', '_', ' ', '.', ':'], "");
    let (name, value) = (plain(&String::from_utf8_lossy(name)), plain(text));
    if value.is_empty() || name == value || name.ends_with(&value) && value.len() > 3 {
        return true;
    }
    let words: Vec<&str> = text.split_whitespace().collect();
    let is_sentence = words.len() > 6 || words.len() > 1 && text.trim_end().ends_with(['?', '.', ':', '!', '…']);
    let about = ["password", "passphrase", "token", "secret", "passwort", "credential", "signature", "key"];
    let speaks_of_secrets = words.len() > 1 && about.iter().any(|word| text.to_ascii_lowercase().contains(word));
    is_sentence || speaks_of_secrets
}

/// Letters and digits in one word, which is not a word of a language with a number.
fn is_mixed(text: &str) -> bool {
    let letters = text.bytes().filter(u8::is_ascii_alphabetic).count();
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let stem = text.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '_' | '-' | '.' | '/'));
    let is_numbered = GENERIC.contains(&stem.to_ascii_lowercase().as_str()) || stem.len() < 2;
    let is_expression = text.contains(['(', ')', '[', ']', '{', '}', '<', '>', ';', '"', '\'', '`', ' ', '\t', '\\']);
    let is_dotted = text.split('.').count() > 1 && text.split('.').all(is_identifier);
    let is_versioned = text.starts_with(|c: char| c.is_ascii_digit()) && letters < 2;
    let is_constant = text.contains('_') && text.bytes().all(|byte| byte == b'_' || !byte.is_ascii_lowercase());
    let is_color = text.starts_with('#');
    text.len() >= 7
        && !is_constant
        && !is_color
        && letters >= 2
        && digits >= 1
        && !is_numbered
        && !is_expression
        && !is_dotted
        && !is_versioned
        && !is_algorithm(text)
}

fn is_identifier(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Names such as `aes-256-gcm`, `ssh-ed25519` and `utf-8`.
fn is_algorithm(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    [
        "aes", "sha", "rsa", "utf", "iso", "hmac", "ssh-", "ecdsa", "ed25519", "md5", "base64", "oauth", "hs256",
        "rs256", "es256",
    ]
    .iter()
    .any(|start| lower.starts_with(start))
        && lower.len() < 24
}

/// At least 16 characters of one word, with letters, digits and little repetition.
pub(super) fn is_random(text: &str) -> bool {
    let mut seen = [false; 256];
    text.bytes().for_each(|byte| seen[usize::from(byte)] = true);
    let different = seen.iter().filter(|seen| **seen).count();
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=_-.~%".contains(&byte);
    let has = |test: fn(&u8) -> bool| text.bytes().any(|byte| test(&byte));
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    text.len() >= 16
        && text.bytes().all(is_word)
        && different >= 9
        && digits >= 2
        && (has(u8::is_ascii_lowercase) || has(u8::is_ascii_uppercase))
        && !is_algorithm(text)
}
