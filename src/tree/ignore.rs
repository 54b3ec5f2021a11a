//! What a copy leaves out, in the syntax of `.dockerignore`.
//!
//! Patterns are relative to the root of the copied directory, `**` spans directories, `!` takes back, the last match wins,
//! and what is said of a directory holds for everything in it (docs.docker.com, "dockerignore file").

use super::base_names::matches_name;
use crate::error::{Error, Result};
use globset::{GlobBuilder, GlobMatcher};
use std::path::{Path, PathBuf};

/// An ordered list of patterns.
#[derive(Debug, Clone, Default)]
pub struct IgnoreRules {
    patterns: Vec<Pattern>,
}

#[derive(Debug, Clone)]
struct Pattern {
    matcher: Matcher,
    verdict: Verdict,
}

#[derive(Debug, Clone)]
enum Matcher {
    /// A pattern of `.dockerignore`, for whole paths.
    Glob(GlobMatcher),
    /// A pattern of RCC, for the base name of an entry at any depth.
    Name(String),
    /// One path, literally.
    Path(PathBuf),
}

impl Matcher {
    /// Whether it matches `path` itself; what is above it does not count.
    fn is_match(&self, path: &Path, kind: PathKind) -> bool {
        match self {
            Matcher::Glob(glob) => glob.is_match(path),
            Matcher::Path(literal) => literal == path,
            Matcher::Name(pattern) => {
                let name = path.file_name().unwrap_or_default();
                matches_name(pattern.as_bytes(), name.as_encoded_bytes(), kind)
            }
        }
    }
}

/// What a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathKind {
    /// A directory, and not a link to one.
    Directory,
    /// Anything else.
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    LeaveOut,
    TakeBack,
}

impl IgnoreRules {
    /// Appends one pattern.
    ///
    /// # Errors
    /// When it is no glob.
    pub fn add(&mut self, pattern: &str) -> Result<()> {
        let (verdict, text) = match pattern.strip_prefix('!') {
            Some(rest) => (Verdict::TakeBack, rest.trim()),
            None => (Verdict::LeaveOut, pattern),
        };
        let parts: Vec<&str> = text.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
        if parts.is_empty() || parts.contains(&"..") {
            return Err(Error::usage(format!("pattern `{pattern}`"), "matches nothing in the directory"));
        }
        let glob = GlobBuilder::new(&parts.join("/"))
            .literal_separator(true)
            .backslash_escape(true)
            .build()
            .map_err(|error| Error::usage(format!("pattern `{pattern}`"), error.kind().to_string()))?;
        self.patterns.push(Pattern { matcher: Matcher::Glob(glob.compile_matcher()), verdict });
        Ok(())
    }

    /// Appends a pattern for base names, as RCC matches them: at every depth, and with a slash at its end directories only.
    pub fn add_name(&mut self, pattern: &str) {
        self.patterns.push(Pattern { matcher: Matcher::Name(pattern.to_owned()), verdict: Verdict::LeaveOut });
    }

    /// Appends one path, relative to the copied directory, in which no character is special.
    pub fn add_path(&mut self, path: &Path) {
        self.patterns.push(Pattern { matcher: Matcher::Path(path.to_owned()), verdict: Verdict::LeaveOut });
    }

    /// Appends the lines of an ignore file.
    ///
    /// # Errors
    /// When a line is no glob.
    pub fn add_file(&mut self, text: &str) -> Result<()> {
        let lines = text.strip_prefix('\u{feff}').unwrap_or(text).lines();
        for line in lines.map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            self.add(line)?;
        }
        Ok(())
    }

    /// Whether anything is left out at all.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether `path`, relative and with slashes, is left out.
    pub fn leaves_out(&self, path: &Path, kind: PathKind) -> bool {
        let mut verdict = Verdict::TakeBack;
        for pattern in &self.patterns {
            let mut parts = path.ancestors().filter(|part| !part.as_os_str().is_empty());
            let is_match = |part: &Path| {
                // What is above the path is a directory in any case.
                let kind = if part == path { kind } else { PathKind::Directory };
                pattern.matcher.is_match(part, kind)
            };
            if pattern.verdict != verdict && parts.any(is_match) {
                verdict = pattern.verdict;
            }
        }
        verdict == Verdict::LeaveOut
    }

    /// Whether a directory that is left out must be walked all the same, because something in it may be taken back.
    pub fn may_take_back(&self) -> bool {
        self.patterns.iter().any(|pattern| pattern.verdict == Verdict::TakeBack)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves_out(file: &str, path: &str) -> bool {
        let mut rules = IgnoreRules::default();
        rules.add_file(file).unwrap();
        rules.leaves_out(Path::new(path), PathKind::Other)
    }

    #[test]
    fn patterns_mean_what_docker_means() {
        for (file, path, expected) in [
            ("*.md", "a.md", true),
            ("*.md", "docs/a.md", false),
            ("**/*.md", "a.md", true),
            ("**/*.md", "docs/deep/a.md", true),
            ("docs", "docs/deep/a.md", true),
            ("/docs/", "docs/a.md", true),
            ("./docs", "docs", true),
            ("docs", "other/docs", false),
            ("*.md\n!README.md", "README.md", false),
            ("*.md\n!README.md\nREADME.md", "README.md", true),
            ("docs\n!docs/keep", "docs/keep", false),
            ("docs\n!docs/keep", "docs/other", true),
            ("# a comment\n\n  b  ", "b", true),
            ("a?c", "abc", true),
            ("a?c", "a/c", false),
            ("[ab]c", "bc", true),
            ("\\#x", "#x", true),
            ("a/**", "a/b/c", true),
            ("a/**/z", "a/z", true),
            ("**", "anything/at/all", true),
        ] {
            assert_eq!(leaves_out(file, path), expected, "{file:?} {path}");
        }
    }

    #[test]
    fn patterns_for_names_hold_at_every_depth() {
        let mut rules = IgnoreRules::default();
        rules.add_name("temp/");
        assert!(rules.leaves_out(Path::new("a/temp"), PathKind::Directory));
        assert!(rules.leaves_out(Path::new("a/temp/file"), PathKind::Other));
        assert!(!rules.leaves_out(Path::new("a/temp"), PathKind::Other));
    }

    #[test]
    fn a_path_is_no_pattern() {
        let mut rules = IgnoreRules::default();
        rules.add_path(Path::new("out[1]"));
        assert!(rules.leaves_out(Path::new("out[1]/result"), PathKind::Other));
        assert!(!rules.leaves_out(Path::new("out1"), PathKind::Directory));
        assert!(!rules.leaves_out(Path::new("a/out[1]"), PathKind::Directory));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for bad in ["[", "..", "../x", "/", "!"] {
            assert!(IgnoreRules::default().add(bad).is_err(), "{bad}");
        }
    }
}
