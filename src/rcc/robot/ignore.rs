//! What lies in a robot's directory and does not belong to the robot.

use super::Robot;
use crate::bounded;
use crate::error::{Error, Result};
use crate::root::Root;

/// What `rcc robot wrap` leaves out without being told.
const ALWAYS: [&str; 8] = [".git", ".rpa", "rcc", "output/", "temp/", "tmp/", "__pycache__", "__MACOSX"];

/// The largest list of patterns that is read.
const SIZE_LIMIT: u64 = 1 << 20;

/// Patterns for base names, as `rcc robot wrap` applies them at every depth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IgnoreRules {
    patterns: Vec<String>,
}

impl IgnoreRules {
    /// Reads the robot's ignore files, and adds the patterns that always apply.
    ///
    /// # Errors
    /// When an ignore file is missing (what it would have left out might be secret), larger than 1 MiB, or not UTF-8.
    pub fn of(robot: &Robot, directory: &Root) -> Result<IgnoreRules> {
        let mut patterns: Vec<String> = ALWAYS.map(str::to_owned).to_vec();
        for name in &robot.ignore_files {
            let shown = directory.display(name);
            let missing = |error: Error| error.hint(format!("`ignoreFiles` of {}", robot.file));
            let bytes = bounded::read(directory.open_linked_file(name).map_err(missing)?, SIZE_LIMIT, &shown)?;
            let text = String::from_utf8(bytes).map_err(|_| Error::invalid(shown, "not UTF-8"))?;
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
            patterns.extend(lines.map(str::to_owned));
        }
        Ok(IgnoreRules { patterns })
    }

    /// The patterns, matched against names: those that end in a slash against directories only.
    pub fn patterns(&self) -> &[String] {
        &self.patterns
    }

    /// Whether a directory of this base name is left out, with all that is in it.
    pub fn ignores_directory(&self, name: &[u8]) -> bool {
        let with_slash = [name, b"/"].concat();
        self.ignores_file(name) || self.patterns.iter().any(|pattern| matches(pattern.as_bytes(), &with_slash))
    }

    /// Whether anything else of this base name is left out.
    pub fn ignores_file(&self, name: &[u8]) -> bool {
        self.patterns.iter().any(|pattern| pattern.as_bytes() == name || matches(pattern.as_bytes(), name))
    }
}

/// Go's `filepath.Match`: `*` and `?` do not match a slash, `[a-z]` and `[^a-z]` match one character, `\` takes the next
/// character as it is. A malformed pattern matches nothing.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut pattern_at, mut name_at) = (0, 0);
    // Where the last `*` stands, and how much it has swallowed so far.
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
            (None, Some((at, swallowed))) if name.get(swallowed).is_some_and(|byte| *byte != b'/') => {
                star = Some((at, swallowed + 1));
                pattern_at = at + 1;
                name_at = swallowed + 1;
            }
            _ => return false,
        }
    }
}

/// Matches the first element of `pattern`, which is no star, and tells how many bytes of both that took.
fn one(pattern: &[u8], name: &[u8]) -> Option<(usize, usize)> {
    let (candidate, candidate_length) = character(name)?;
    match pattern.first()? {
        b'?' => (candidate != '/').then_some((1, candidate_length)),
        b'[' => class(pattern, candidate).map(|length| (length, candidate_length)),
        b'\\' => (pattern.get(1)? == name.first()?).then_some((2, 1)),
        byte => (byte == name.first()?).then_some((1, 1)),
    }
}

/// Matches `[…]` and tells how long it is.
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

/// One end of a range; nothing where the pattern is malformed.
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

/// The first character, or a byte that is none, and its length.
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
    use crate::progress::Silent;

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
    fn the_robots_lists_are_added_to_what_is_always_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::open(directory.path()).unwrap();
        root.dir().write(".gitignore", "# comment\n\n *.log \nbuild/\n").unwrap();
        let text = b"tasks: {a: {shell: b}}\nartifactsDir: out\nignoreFiles: [.gitignore]\n";
        let mut robot = Robot::parse(text, "robot.yaml", &Silent).unwrap();
        let rules = IgnoreRules::of(&robot, &root).unwrap();
        for name in ["output", "tmp", ".git", "__pycache__", "build", "x.log"] {
            assert!(rules.ignores_directory(name.as_bytes()), "{name}");
        }
        for (name, expected) in [("x.log", true), (".git", true), ("rcc", true), ("output", false), ("build", false)] {
            assert_eq!(rules.ignores_file(name.as_bytes()), expected, "{name}");
        }
        robot.ignore_files = vec!["missing".to_owned()];
        assert!(IgnoreRules::of(&robot, &root).unwrap_err().to_string().contains("missing: not found"));
    }
}
