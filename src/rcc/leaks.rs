//! What an environment remembers of the machine that made it, and should not tell.
//!
//! RCC keeps whole command lines and variables of the recording in an environment, conda keeps the addresses of channels.
//! Secrets are found by their place (a password in a URL, the value of a variable that is called a token) or by their form.

use std::ops::Range;

/// Files of RCC at the root of an environment that hold variables, commands and requirements.
const RCC_FILES: [&str; 5] =
    ["rcc_activate.json", "rcc_activate.sh", "rcc_plan.log", "identity.yaml", "golden-ee.yaml"];

/// Files of pip and conda that hold addresses.
const OTHER_FILES: [&str; 4] = ["pip.conf", ".condarc", "condarc", "conda-meta/history"];

/// How the words end that name a secret, `_` left out: `DB_PASSWORD`, `accessToken`, `api-key`.
const SECRET_NAMES: [&str; 9] =
    ["token", "password", "passwd", "secret", "apikey", "accesskey", "secretkey", "privatekey", "credentials"];

/// How tokens of well-known services begin.
const TOKEN_PREFIXES: [&str; 9] =
    ["ghp_", "gho_", "ghs_", "github_pat_", "glpat-", "pypi-AgE", "npm_", "xoxb-", "AKIA"];

/// How long what follows such a beginning must be to count.
const TOKEN_LENGTH: usize = 16;

/// Something that should not leave the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leak {
    /// What it is.
    pub kind: LeakKind,
    /// The line it stands in, from one.
    pub line: usize,
    /// Where it stands in the content.
    pub place: Range<usize>,
}

/// What kind of thing leaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LeakKind {
    /// User name or password in a URL.
    Credentials,
    /// A token or password elsewhere.
    Secret,
    /// The path of somebody's home: no secret, but a name.
    HomePath,
}

impl LeakKind {
    /// Whether it must not be shipped.
    pub fn is_secret(self) -> bool {
        self != LeakKind::HomePath
    }

    /// What to call it in a warning.
    pub fn described(self) -> &'static str {
        match self {
            LeakKind::Credentials => "credentials in a URL",
            LeakKind::Secret => "a token or password",
            LeakKind::HomePath => "the path of a home directory",
        }
    }
}

/// Whether a file of an environment is known to remember such things.
pub fn may_leak(path: &str) -> bool {
    let is_conda_record = path.strip_prefix("conda-meta/").is_some_and(|name| name.ends_with(".json"));
    RCC_FILES.contains(&path)
        || OTHER_FILES.contains(&path)
        || is_conda_record
        || path.ends_with(".dist-info/direct_url.json")
}

/// Finds what should not leave the machine, in the order of the content. Paths below `base`, where the environment itself
/// lies, are no leaks.
pub fn find_leaks(content: &[u8], base: &str) -> Vec<Leak> {
    let mut leaks = Vec::new();
    let mut start = 0;
    for (index, line) in content.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let mut found = Vec::new();
        urls(line, &mut found);
        named_values(line, &mut found);
        known_tokens(line, &mut found);
        home_paths(line, base, &mut found);
        found.retain(|(_, place)| !place.is_empty());
        found.sort_by_key(|(kind, place)| (place.start, *kind));
        let mut end = 0;
        for (kind, place) in found {
            if place.start >= end {
                end = place.end;
                leaks.push(Leak { kind, line: index + 1, place: start + place.start..start + place.end });
            }
        }
        start += line.len();
    }
    leaks
}

/// Overwrites the secrets among `leaks` with as many `x`, so that nothing else in the content moves.
pub fn scrub(content: &mut [u8], leaks: &[Leak]) {
    for leak in leaks.iter().filter(|leak| leak.kind.is_secret()) {
        if let Some(place) = content.get_mut(leak.place.clone()) {
            place.fill(b'x');
        }
    }
}

type Found = Vec<(LeakKind, Range<usize>)>;

/// What ends a word in a command line, a JSON string or YAML.
fn ends_word(byte: u8) -> bool {
    byte.is_ascii_whitespace() || matches!(byte, b'"' | b'\'' | b'<' | b'>' | b'`' | b',' | b'\\')
}

fn word_end(line: &[u8], from: usize) -> usize {
    line[from..].iter().position(|byte| ends_word(*byte)).map_or(line.len(), |length| from + length)
}

/// Every place where `needle` begins.
fn occurrences<'a>(line: &'a [u8], needle: &'a str) -> impl Iterator<Item = usize> + 'a {
    memchr::memmem::find_iter(line, needle.as_bytes())
}

/// Whether something only stands for a secret that comes from elsewhere: `$TOKEN`, `${TOKEN}`, `****`.
fn is_placeholder(value: &[u8]) -> bool {
    value.starts_with(b"$") || value.starts_with(b"%") || value.iter().all(|byte| matches!(byte, b'*' | b'x'))
}

fn push(found: &mut Found, line: &[u8], kind: LeakKind, place: Range<usize>) {
    if !is_placeholder(&line[place.clone()]) {
        found.push((kind, place));
    }
}

/// `scheme://user:password@host`, `/t/<token>/` of conda channels, `?token=…`.
fn urls(line: &[u8], found: &mut Found) {
    for at in occurrences(line, "://") {
        let start = at + 3;
        let end = word_end(line, start);
        let url = &line[start..end];
        let authority_end = url.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(url.len());
        if let Some(length) = url[..authority_end].iter().rposition(|byte| *byte == b'@') {
            push(found, line, LeakKind::Credentials, start..start + length);
        }
        for at in occurrences(url, "/t/") {
            let token = at + 3;
            let length = url[token..].iter().position(|byte| *byte == b'/').unwrap_or(url.len() - token);
            push(found, line, LeakKind::Secret, start + token..start + token + length);
        }
        let Some(query) = url.iter().position(|byte| *byte == b'?') else { continue };
        let mut position = start + query + 1;
        for parameter in url[query + 1..].split(|byte| *byte == b'&') {
            if let Some(equals) = parameter.iter().position(|byte| *byte == b'=')
                && is_secret_name(&parameter[..equals])
            {
                push(found, line, LeakKind::Secret, position + equals + 1..position + parameter.len());
            }
            position += parameter.len() + 1;
        }
    }
}

/// `API_TOKEN=…`, `"API_TOKEN": "…"`, `--password …`, `Authorization: Bearer …`.
fn named_values(line: &[u8], found: &mut Found) {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let mut at = 0;
    while at < line.len() {
        let length = line[at..].iter().position(|byte| !is_name(*byte)).unwrap_or(line.len() - at);
        let (name, end) = (&line[at..at + length], at + length);
        at = end.max(at + 1);
        let is_authorization = name.eq_ignore_ascii_case(b"authorization");
        if !is_authorization && !is_secret_name(name) {
            continue;
        }
        // A name alone says nothing: something must tie the value to it, or it must be a flag.
        let behind = &line[end..];
        let gap =
            behind.iter().position(|byte| !matches!(byte, b' ' | b'"' | b'\'' | b':' | b'=')).unwrap_or(behind.len());
        let is_tied = behind[..gap].iter().any(|byte| matches!(byte, b':' | b'='));
        let is_flag = name.starts_with(b"--") && gap > 0;
        if !is_tied && !is_flag {
            continue;
        }
        let mut value = end + gap;
        if is_authorization {
            let scheme_end = word_end(line, value);
            value = line[scheme_end..].iter().position(|byte| *byte != b' ').map_or(scheme_end, |gap| scheme_end + gap);
        }
        push(found, line, LeakKind::Secret, value..word_end(line, value));
    }
}

fn is_secret_name(name: &[u8]) -> bool {
    let name = String::from_utf8_lossy(name).to_ascii_lowercase().replace(['-', '_'], "");
    SECRET_NAMES.iter().any(|secret| name.ends_with(secret))
}

fn known_tokens(line: &[u8], found: &mut Found) {
    for prefix in TOKEN_PREFIXES {
        for at in occurrences(line, prefix) {
            let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
            let rest = &line[at + prefix.len()..];
            let length = rest.iter().take_while(|byte| is_token(byte)).count();
            let begins_word = at == 0 || !is_token(&line[at - 1]);
            if begins_word && length >= TOKEN_LENGTH {
                found.push((LeakKind::Secret, at..at + prefix.len() + length));
            }
        }
    }
}

fn home_paths(line: &[u8], base: &str, found: &mut Found) {
    for prefix in ["/home/", "/Users/", "/root/"] {
        for at in occurrences(line, prefix) {
            let begins_path = at == 0 || matches!(line[at - 1], b'"' | b'\'' | b'=' | b':' | b' ' | b'[' | b'(');
            let is_own = line[at..].starts_with(base.as_bytes());
            if begins_path && !is_own {
                let end =
                    line[at..].iter().position(|byte| ends_word(*byte) || *byte == b':').unwrap_or(line.len() - at);
                found.push((LeakKind::HomePath, at..at + end));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(content: &str) -> Vec<(LeakKind, usize, &str)> {
        let leaks = find_leaks(content.as_bytes(), "/home/robot/.robocorp/holotree");
        leaks.into_iter().map(|leak| (leak.kind, leak.line, &content[leak.place])).collect()
    }

    fn secrets(content: &str) -> Vec<&str> {
        found(content).into_iter().filter(|(kind, ..)| kind.is_secret()).map(|(_, _, text)| text).collect()
    }

    #[test]
    fn secrets_are_found_wherever_a_recording_leaves_them() {
        for (content, expected) in [
            ("pip install --index-url https://user:pa%40ss@pypi.example.org/simple x", vec!["user:pa%40ss"]),
            ("channel https://conda.example.org/t/ab-12cd/get/main/linux-64", vec!["ab-12cd"]),
            ("GET https://example.org/x?a=1&access_token=abc&b=2 done", vec!["abc"]),
            ("{\"MY_API_TOKEN\": \"s3cr3t\", \"PATH\": \"/bin\"}", vec!["s3cr3t"]),
            ("export DB_PASSWORD='hunter2'", vec!["hunter2"]),
            ("uv publish --token tok-1 --other", vec!["tok-1"]),
            ("Authorization: Bearer abc.def", vec!["abc.def"]),
            ("note ghp_0123456789abcdefABCD end", vec!["ghp_0123456789abcdefABCD"]),
        ] {
            assert_eq!(secrets(content), expected, "{content}");
        }
    }

    #[test]
    fn harmless_text_is_left_alone() {
        for content in [
            "https://conda.anaconda.org/conda-forge/linux-64/python-3.11.7.tar.bz2",
            "git+https://github.com/x/y@v1.0",
            "mail someone@example.org",
            "https://${USER}:${PASS}@example.org/",
            "https://xxxx@example.org/simple",
            "- tokenize-rt=5.2",
            "- token-bucket=1.0",
            "Installing token-bucket",
            "ghp_short",
            "TOKEN=",
        ] {
            assert_eq!(secrets(content), Vec::<&str>::new(), "{content}");
        }
    }

    #[test]
    fn homes_are_named_with_their_line_and_the_environment_is_no_leak() {
        let content =
            "{\n\"PWD\": \"/home/alice/work\",\n\"X\": \"/home/robot/.robocorp/holotree/h_1/bin:/root/bin\"\n}";
        assert_eq!(found(content), [(LeakKind::HomePath, 2, "/home/alice/work"), (LeakKind::HomePath, 3, "/root/bin")]);
    }

    #[test]
    fn scrubbing_moves_nothing_and_leaves_no_secret() {
        let mut content = b"a https://user:pass@h/ /home/alice\nb TOKEN=abc\n".to_vec();
        let leaks = find_leaks(&content, "/base");
        scrub(&mut content, &leaks);
        assert_eq!(content, b"a https://xxxxxxxxx@h/ /home/alice\nb TOKEN=xxx\n");
        assert!(find_leaks(&content, "/base").iter().all(|leak| !leak.kind.is_secret()));
    }

    #[test]
    fn only_files_that_remember_are_searched() {
        for path in ["rcc_activate.json", "rcc_plan.log", "conda-meta/python.json", "lib/x.dist-info/direct_url.json"] {
            assert!(may_leak(path), "{path}");
        }
        for path in ["lib/rcc_plan.log", "bin/python", "conda-meta/x.txt"] {
            assert!(!may_leak(path), "{path}");
        }
    }
}
