//! Patterns for base names, as `rcc robot wrap` matches them at every depth.

use super::PathKind;

/// Returns whether `pattern` excludes an entry called `name`, by equality or as Go's `filepath.Match`.
///
/// A directory is also compared as `name/`, so a pattern that ends in a slash excludes only directories.
pub(super) fn matches_name(pattern: &[u8], name: &[u8], kind: PathKind) -> bool {
    pattern == name
        || matches(pattern, name)
        || (kind == PathKind::Directory && matches(pattern, &[name, b"/"].concat()))
}

/// Matches as Go's `filepath.Match`.
///
/// `*` and `?` do not match a slash, `[a-z]` and `[^a-z]` match one character, `\` takes the next character literally. A
/// malformed pattern matches nothing.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut pattern_at, mut name_at) = (0, 0);
    // The position of the last `*`, and how much it has matched so far.
    let mut star = None;
    loop {
        let step = match pattern.get(pattern_at) {
            None if name_at == name.len() => return true,
            None => None,
            Some(b'*') => {
                star = Some((pattern_at, name_at));
                pattern_at += 1;
                continue;
            }
            Some(_) => one(&pattern[pattern_at..], name.get(name_at..).unwrap_or_default()),
        };
        match (step, star) {
            (Some((pattern_length, name_length)), _) => {
                pattern_at += pattern_length;
                name_at += name_length;
            }
            (None, Some((at, matched))) if name.get(matched).is_some_and(|byte| *byte != b'/') => {
                star = Some((at, matched + 1));
                pattern_at = at + 1;
                name_at = matched + 1;
            }
            _ => return false,
        }
    }
}

/// Matches the first element of `pattern`, which is not a star. Returns how many bytes of both it consumed.
fn one(pattern: &[u8], name: &[u8]) -> Option<(usize, usize)> {
    let (candidate, candidate_length) = character(name)?;
    match pattern.first()? {
        b'?' => (candidate != '/').then_some((1, candidate_length)),
        b'[' => class(pattern, candidate).map(|length| (length, candidate_length)),
        b'\\' => (pattern.get(1)? == name.first()?).then_some((2, 1)),
        byte => (byte == name.first()?).then_some((1, 1)),
    }
}

/// Matches `[…]` and returns its length.
fn class(pattern: &[u8], candidate: char) -> Option<usize> {
    let mut at = 1;
    let is_negated = pattern.get(at) == Some(&b'^');
    at += usize::from(is_negated);
    let (mut is_in, mut ranges) = (false, 0);
    while pattern.get(at) != Some(&b']') || ranges == 0 {
        let low = bound(pattern, &mut at)?;
        let mut high = low;
        if pattern.get(at) == Some(&b'-') {
            at += 1;
            high = bound(pattern, &mut at)?;
        }
        is_in |= (low..=high).contains(&candidate);
        ranges += 1;
    }
    (is_in != is_negated).then_some(at + 1)
}

/// Reads one end of a range. Returns `None` if the pattern is malformed.
fn bound(pattern: &[u8], at: &mut usize) -> Option<char> {
    match pattern.get(*at)? {
        b'-' | b']' => return None,
        b'\\' => *at += 1,
        _ => {}
    }
    let (bound, length) = character(pattern.get(*at..)?)?;
    *at += length;
    Some(bound)
}

/// Returns the first character and its length, or the first byte if it is not valid UTF-8.
fn character(bytes: &[u8]) -> Option<(char, usize)> {
    let first = *bytes.first()?;
    let chunk = bytes.utf8_chunks().next()?;
    match chunk.valid().chars().next() {
        Some(c) => Some((c, c.len_utf8())),
        None => Some((char::from(first), 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_go() {
        // From the documentation and tests of Go's path/filepath.
        for (pattern, name, expected) in [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*", "ab/c", false),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[e-g]", "abc", false),
            ("ab[^c]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "aéb", true),
            ("[a-ζ]*", "α", true),
            ("*[a-ζ]", "A", false),
            ("a?b", "a/b", false),
            ("[\\]a]", "]", true),
            ("[x\\-]", "-", true),
            ("[]a]", "]", false),
            ("[-]", "-", false),
            ("[", "a", false),
            ("a[", "a", false),
            ("*x", "xxx", true),
            ("", "", true),
            ("", "a", false),
            ("*.pyc", "a.b.pyc", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_slash_at_the_end_spares_files() {
        let matches = |pattern: &str, kind| matches_name(pattern.as_bytes(), b"build", kind);
        assert!(matches("build/", PathKind::Directory) && !matches("build/", PathKind::Other));
        assert!(matches("build", PathKind::Directory) && matches("build", PathKind::Other));
        assert!(matches("build/*", PathKind::Directory) && !matches("build/*", PathKind::Other));
        assert!(matches_name(b"[", b"[", PathKind::Other), "a malformed pattern still equals a name");
    }
}
