//! One pattern of a `.dockerignore` file, matched as docker matches it.
//!
//! docker's patterns extend Go's `filepath.Match` by `**`, with special cases (moby/patternmatcher): `**/` matches any
//! number of directories, `**` at the end matches everything, and braces are ordinary characters.

use crate::common::error::{Error, Result};

/// A pattern for relative paths with slashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PathPattern {
    tokens: Vec<PatternToken>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum PatternToken {
    Letter(char),
    /// `?`: any character but a slash.
    AnyLetter,
    /// `*`: any characters but slashes.
    AnyLetters,
    /// `**/`: nothing, or anything that ends in a slash.
    AnyDirectories,
    /// `**` at the end, or in front of characters: anything at all.
    Anything,
    /// `[a-z]` or `[^a-z]`.
    Class {
        is_negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl PathPattern {
    /// Parses a pattern. Returns `None` if it can match no path below a directory.
    ///
    /// # Errors
    /// Returns an error if the pattern is malformed.
    pub(super) fn read(text: &str) -> Result<Option<Self>> {
        let Some(clean) = cleaned(text) else { return Ok(None) };
        let malformed = || Error::usage(format!("pattern `{text}`"), "malformed: unterminated bracket or backslash");
        let mut tokens = Vec::new();
        let mut letters = clean.chars().peekable();
        while let Some(letter) = letters.next() {
            tokens.push(match letter {
                '*' if letters.next_if_eq(&'*').is_some() => {
                    let names_directories = letters.next_if_eq(&'/').is_some();
                    // docker compares only the end if plain characters, and nothing else, follow `**` at the start.
                    let is_suffix = tokens.is_empty() && !names_directories && is_plain(letters.clone());
                    if letters.peek().is_none() || is_suffix {
                        PatternToken::Anything
                    } else {
                        PatternToken::AnyDirectories
                    }
                }
                '*' => PatternToken::AnyLetters,
                '?' => PatternToken::AnyLetter,
                '\\' => PatternToken::Letter(letters.next().ok_or_else(malformed)?),
                '[' => class(&mut letters).ok_or_else(malformed)?,
                letter => PatternToken::Letter(letter),
            });
        }
        Ok(Some(PathPattern { tokens }))
    }

    /// Returns whether the whole of `path` matches.
    pub(super) fn matches(&self, path: &str) -> bool {
        if let Some(is_match) = self.matches_plainly(path) {
            return is_match;
        }
        // All positions in the pattern that the path up to a character can have reached, so that no pattern takes long.
        // For each position: whether it was reached, and whether a `**/` there consumes characters.
        let end = self.tokens.len();
        let mut reached = vec![false; end + 1];
        let mut swallowing = vec![false; end + 1];
        reached[0] = true;
        self.skip(&mut reached);
        for letter in path.chars() {
            let mut next = vec![false; end + 1];
            for (place, token) in self.tokens.iter().enumerate() {
                let is_here = reached[place];
                match token {
                    PatternToken::AnyDirectories => {
                        let goes_on = is_here || swallowing[place];
                        swallowing[place] = goes_on;
                        next[place + 1] |= goes_on && letter == '/';
                    }
                    PatternToken::Anything => next[place] |= is_here,
                    PatternToken::AnyLetters => next[place] |= is_here && letter != '/',
                    PatternToken::AnyLetter => next[place + 1] |= is_here && letter != '/',
                    PatternToken::Letter(wanted) => next[place + 1] |= is_here && letter == *wanted,
                    PatternToken::Class { is_negated, ranges } => {
                        let is_in = ranges.iter().any(|&(low, high)| (low..=high).contains(&letter));
                        next[place + 1] |= is_here && is_in != *is_negated;
                    }
                }
            }
            self.skip(&mut next);
            reached = next;
        }
        reached[end]
    }

    /// Advances past tokens that may match nothing.
    fn skip(&self, reached: &mut [bool]) {
        for (place, token) in self.tokens.iter().enumerate() {
            if matches!(token, PatternToken::AnyDirectories | PatternToken::Anything | PatternToken::AnyLetters) {
                reached[place + 1] |= reached[place];
            }
        }
    }

    /// Matches the common patterns: a path, or a name at any depth. Returns `None` for all other patterns.
    fn matches_plainly(&self, path: &str) -> Option<bool> {
        let (is_anywhere, letters) = match self.tokens.split_first() {
            Some((PatternToken::AnyDirectories, rest)) => (true, rest),
            _ => (false, &self.tokens[..]),
        };
        if !letters.iter().all(|token| matches!(token, PatternToken::Letter(_))) {
            return None;
        }
        let mut left = path.chars().rev();
        let wanted = letters.iter().rev();
        let is_end =
            wanted.clone().all(|token| matches!((token, left.next()), (PatternToken::Letter(a), Some(b)) if *a == b));
        let before = left.next();
        Some(is_end && (before.is_none() || is_anywhere && before == Some('/')))
    }
}

/// Cleans a pattern as Go's `filepath.Clean` does, and removes the leading slash.
///
/// Returns `None` for the directory itself and for paths outside of it.
fn cleaned(text: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.pop().is_some() || text.starts_with('/') => {}
            ".." => return None,
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

fn is_plain(mut letters: impl Iterator<Item = char>) -> bool {
    letters.all(|letter| !matches!(letter, '*' | '?' | '[' | '\\'))
}

/// Parses the rest of a character class, after its opening bracket.
fn class(letters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<PatternToken> {
    let is_negated = letters.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    while ranges.is_empty() || letters.next_if_eq(&']').is_none() {
        let low = bound(letters)?;
        let high = if letters.next_if_eq(&'-').is_some() { bound(letters)? } else { low };
        ranges.push((low, high));
    }
    Some(PatternToken::Class { is_negated, ranges })
}

fn bound(letters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<char> {
    match letters.next()? {
        '-' | ']' => None,
        '\\' => letters.next(),
        letter => Some(letter),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_dockers_do() {
        // The table of moby/patternmatcher, as far as it applies to one pattern and one path.
        for (pattern, path, expected) in [
            ("**", "file", true),
            ("**", "dir/file", true),
            ("**/", "file", true),
            ("**/**", "dir/file", true),
            ("dir/**", "file", false),
            ("dir/**", "dir/file", true),
            ("dir/**", "dir/dir2/file/", true),
            ("**/dir", "dir", true),
            ("**/dir", "dir/file", false),
            ("**/dir2/*", "dir/dir2/file", true),
            ("**/dir2/*", "dir/dir2/dir2/file", true),
            ("**/dir2/**", "dir/dir2/dir2/file", true),
            ("**file", "file", true),
            ("**file", "dir/file", true),
            ("**/file", "file", true),
            ("**file", "dir/dir/file", true),
            ("**/file*txt", "dir/dir/file.txt", true),
            ("**/file*.txt*", "dir/dir/file.txt", true),
            ("**/**/*.txt", "dir/dir/file.txt", true),
            ("**/**/*.txt2", "dir/dir/file.txt", false),
            ("**/*.txt", "file.txt", true),
            ("a**/*.txt", "a/file.txt", true),
            ("a**/*.txt", "a/dir/file.txt", true),
            ("a/*.txt", "a/dir/file.txt", false),
            ("a/*.txt", "a/file.txt", true),
            ("a[b-d]e", "ae", false),
            ("a[b-d]e", "ace", true),
            ("a[b-d]e", "aae", false),
            ("a[^b-d]e", "aze", true),
            (".*", ".foo", true),
            (".*", "foo", false),
            ("abc.def", "abcZdef", false),
            ("abc?def", "abcZdef", true),
            ("a\\*b", "a*b", true),
            ("a\\", "a\\", false),
            ("**/foo/bar", "foo/bar", true),
            ("**/foo/bar", "dir/dir2/foo/bar", true),
            ("abc/**", "abc", false),
            ("abc/**", "abc/def/ghi", true),
            ("**/.foo", ".foo", true),
            ("**/.foo", "bar.foo", false),
            ("a(b)c/def", "a(b)c/def", true),
            ("a.|)$(}+{bc", "a.|)$(}+{bc", true),
            ("{a,b}", "a", false),
            ("{a,b}", "{a,b}", true),
            ("[!a]", "b", false),
            ("[!a]", "!", true),
            ("/a/./b//", "a/b", true),
            ("a/../b", "b", true),
            ("größe?", "größen", true),
            ("a**", "abc/def", true),
            ("*a*a*a*a*a*a*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaac", false),
        ] {
            let read = PathPattern::read(pattern).ok().flatten();
            assert_eq!(read.is_some_and(|read| read.matches(path)), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn what_is_outside_is_matched_by_nothing_and_what_is_malformed_is_refused() {
        for outside in ["..", "../a", "a/../../b", "/", ".", ""] {
            assert_eq!(PathPattern::read(outside).unwrap(), None, "{outside}");
        }
        for bad in ["[", "a[", "[]a]", "[a-]", "a\\"] {
            assert!(PathPattern::read(bad).is_err(), "{bad}");
        }
    }
}
