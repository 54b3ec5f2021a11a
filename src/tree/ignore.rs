//! What a copy leaves out, in the syntax of `.dockerignore`.
//!
//! Patterns are relative to the root of the copied directory, `**` spans directories, `!` takes back, the last match wins,
//! and what is said of a directory holds for everything in it (docs.docker.com, "dockerignore file").

use crate::error::{Error, Result};
use globset::{GlobBuilder, GlobMatcher};
use std::path::Path;

/// An ordered list of patterns.
#[derive(Debug, Clone, Default)]
pub struct IgnoreRules {
    patterns: Vec<Pattern>,
}

#[derive(Debug, Clone)]
struct Pattern {
    glob: GlobMatcher,
    verdict: Verdict,
    applies_to: AppliesTo,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AppliesTo {
    Everything,
    Directories,
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
        self.push(pattern, text, verdict, AppliesTo::Everything)
    }

    /// Appends a pattern that leaves out directories, wherever they are, and nothing else.
    ///
    /// # Errors
    /// When it is no glob.
    pub fn add_directory(&mut self, pattern: &str) -> Result<()> {
        self.push(pattern, &format!("**/{pattern}"), Verdict::LeaveOut, AppliesTo::Directories)
    }

    fn push(&mut self, pattern: &str, text: &str, verdict: Verdict, applies_to: AppliesTo) -> Result<()> {
        let parts: Vec<&str> = text.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
        if parts.is_empty() || parts.contains(&"..") {
            return Err(Error::usage(format!("pattern `{pattern}`"), "matches nothing in the directory"));
        }
        let glob = GlobBuilder::new(&parts.join("/"))
            .literal_separator(true)
            .backslash_escape(true)
            .build()
            .map_err(|error| Error::usage(format!("pattern `{pattern}`"), error.kind().to_string()))?;
        self.patterns.push(Pattern { glob: glob.compile_matcher(), verdict, applies_to });
        Ok(())
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
        for pattern in self.patterns.iter() {
            // What lies above the path is a directory in any case.
            let skipped = usize::from(pattern.applies_to == AppliesTo::Directories && kind == PathKind::Other);
            let mut parts = path.ancestors().skip(skipped).filter(|part| !part.as_os_str().is_empty());
            if pattern.verdict != verdict && parts.any(|part| pattern.glob.is_match(part)) {
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
    fn patterns_for_directories_spare_files() {
        let mut rules = IgnoreRules::default();
        rules.add_directory("temp").unwrap();
        assert!(rules.leaves_out(Path::new("a/temp"), PathKind::Directory));
        assert!(rules.leaves_out(Path::new("a/temp/file"), PathKind::Other));
        assert!(!rules.leaves_out(Path::new("a/temp"), PathKind::Other));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for bad in ["[", "..", "../x", "/", "!"] {
            assert!(IgnoreRules::default().add(bad).is_err(), "{bad}");
        }
    }
}
