//! Rules that exclude files from a copy, in the syntax of `.dockerignore`.
//!
//! Patterns are relative to the root of the copied directory, `**` spans directories, `!` takes back, the last match
//! wins, and a match of a directory applies to everything in it (docs.docker.com, "dockerignore file").

use super::PathKind;
use super::base_names::matches_name;
use super::excluded::Cause;
use super::pattern::PathPattern;
use crate::common::error::{Error, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The file in the root of the copied directory from which docker reads patterns.
pub const DOCKERIGNORE: &str = ".dockerignore";

/// Ordered lists of patterns.
///
/// ```
/// use ocibuild::layers::tree::{IgnoreRules, PathKind};
/// use std::path::Path;
///
/// let mut rules = IgnoreRules::default();
/// rules.add("**/*.pyc")?;
/// assert!(rules.excludes(Path::new("lib/a.pyc"), PathKind::Other).is_some());
/// assert!(rules.excludes(Path::new("lib/a.py"), PathKind::Other).is_none());
/// # Ok::<(), ocibuild::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct IgnoreRules {
    patterns: Vec<Pattern>,
    /// Patterns of entries that are always kept.
    kept: Vec<PathPattern>,
    /// Single paths that are always excluded, with a description.
    outputs: BTreeMap<PathBuf, Arc<str>>,
    /// The name of the list that is being read, for messages.
    list: Option<Arc<str>>,
}

#[derive(Debug, Clone)]
struct Pattern {
    matcher: Matcher,
    verdict: Verdict,
    cause: Cause,
}

#[derive(Debug, Clone)]
enum Matcher {
    /// A pattern of `.dockerignore`, for whole paths.
    Glob(PathPattern),
    /// A pattern of RCC, for the base name of an entry at any depth.
    Name(String),
    /// One path, literally.
    Path(PathBuf),
}

impl Matcher {
    /// Returns whether this matches `path` itself; its parents are not considered.
    fn is_match(&self, path: &str, kind: PathKind) -> bool {
        match self {
            Matcher::Glob(pattern) => pattern.matches(path),
            Matcher::Name(pattern) => matches_name(pattern.as_bytes(), last_name(path).as_bytes(), kind),
            Matcher::Path(literal) => literal == Path::new(path),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Exclude,
    TakeBack,
}

impl IgnoreRules {
    /// Sets the name of the list of all following patterns, for messages.
    pub fn begin_list(&mut self, name: &str) {
        self.list = Some(Arc::from(name));
    }

    /// Appends one pattern.
    ///
    /// # Errors
    /// Returns an error if the pattern is malformed or can match nothing.
    pub fn add(&mut self, pattern: &str) -> Result<()> {
        let (verdict, text) = split(pattern);
        let glob = PathPattern::read(text)?.ok_or_else(|| matches_nothing(pattern))?;
        self.push(pattern, Matcher::Glob(glob), verdict);
        Ok(())
    }

    /// Appends a pattern for base names, as RCC matches them: at every depth, and directories only if it ends in a slash.
    pub fn add_name(&mut self, pattern: &str) {
        self.push(pattern, Matcher::Name(pattern.to_owned()), Verdict::Exclude);
    }

    /// Appends one path, relative to the copied directory, in which no character is special.
    pub fn add_path(&mut self, path: &Path) {
        self.push(&path.to_string_lossy(), Matcher::Path(path.to_owned()), Verdict::Exclude);
    }

    /// Keeps everything that matches `pattern`, even if another pattern excludes it.
    ///
    /// # Errors
    /// The same as [`IgnoreRules::add`].
    pub fn keep(&mut self, pattern: &str) -> Result<()> {
        self.kept.push(PathPattern::read(pattern)?.ok_or_else(|| matches_nothing(pattern))?);
        Ok(())
    }

    /// Excludes one path, which `why` describes. No pattern can take it back.
    pub fn exclude_output(&mut self, path: PathBuf, why: &str) {
        self.outputs.insert(path, Arc::from(why));
    }

    fn push(&mut self, shown: &str, matcher: Matcher, verdict: Verdict) {
        let list = self.list.clone().unwrap_or_else(|| Arc::from("--exclude"));
        let cause = Cause::Pattern { list, pattern: Arc::from(shown) };
        self.patterns.push(Pattern { matcher, verdict, cause });
    }

    /// Appends the lines of an ignore file.
    ///
    /// A pattern that leads out of the directory matches nothing, as with docker.
    ///
    /// # Errors
    /// Returns an error if a line is malformed.
    pub fn add_file(&mut self, text: &str) -> Result<()> {
        let lines = text.strip_prefix('\u{feff}').unwrap_or(text).lines().filter(|line| !line.starts_with('#'));
        for line in lines.map(str::trim).filter(|line| !line.is_empty()) {
            let (verdict, text) = split(line);
            if text.is_empty() {
                return Err(matches_nothing(line));
            }
            if let Some(glob) = PathPattern::read(text)? {
                self.push(line, Matcher::Glob(glob), verdict);
            }
        }
        Ok(())
    }

    /// Returns whether nothing is excluded.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty() && self.outputs.is_empty()
    }

    /// Returns why `path`, which is relative and has slashes, is excluded. Returns `None` if it is not excluded.
    pub fn excludes(&self, path: &Path, kind: PathKind) -> Option<Cause> {
        if let Some(why) = path.ancestors().find_map(|path| self.outputs.get(path)) {
            return Some(Cause::Output(why.clone()));
        }
        let text = path.to_string_lossy();
        let mut last: Option<&Pattern> = None;
        for pattern in &self.patterns {
            let verdict = last.map_or(Verdict::TakeBack, |last| last.verdict);
            if pattern.verdict == verdict {
                continue;
            }
            // The parents of the path are always directories.
            let kind_of = |part: &str| if part.len() == text.len() { kind } else { PathKind::Directory };
            if with_parents(&text).any(|part| pattern.matcher.is_match(part, kind_of(part))) {
                last = Some(pattern);
            }
        }
        let last = last.filter(|last| last.verdict == Verdict::Exclude)?;
        (!self.keeps(path)).then(|| last.cause.clone())
    }

    /// Returns whether `path` is kept even if a pattern excludes it.
    pub fn keeps(&self, path: &Path) -> bool {
        let text = path.to_string_lossy();
        self.kept.iter().any(|kept| with_parents(&text).any(|part| kept.matches(part)))
    }

    /// Returns whether excluded directories must be walked, because something in them may be taken back.
    pub fn may_take_back(&self) -> bool {
        !self.kept.is_empty() || self.patterns.iter().any(|pattern| pattern.verdict == Verdict::TakeBack)
    }
}

fn split(pattern: &str) -> (Verdict, &str) {
    match pattern.strip_prefix('!') {
        Some(rest) => (Verdict::TakeBack, rest.trim()),
        None => (Verdict::Exclude, pattern),
    }
}

fn matches_nothing(pattern: &str) -> Error {
    Error::usage(format!("pattern `{pattern}`"), "does not match any file")
}

fn last_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Returns a path, followed by the directories above it.
fn with_parents(path: &str) -> impl Iterator<Item = &str> {
    let above = path.rmatch_indices('/').map(|(slash, _)| &path[..slash]);
    std::iter::once(path).chain(above).filter(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excludes(file: &str, path: &str) -> bool {
        let mut rules = IgnoreRules::default();
        rules.add_file(file).unwrap();
        rules.excludes(Path::new(path), PathKind::Other).is_some()
    }

    #[test]
    fn lists_mean_what_docker_means() {
        for (file, path, expected) in [
            ("*.md", "a.md", true),
            ("*.md", "docs/a.md", false),
            ("**/*.md", "docs/deep/a.md", true),
            ("docs", "docs/deep/a.md", true),
            ("/docs/", "docs/a.md", true),
            ("./docs", "docs", true),
            ("docs", "other/docs", false),
            ("*.md\n!README.md", "README.md", false),
            ("*.md\n!README.md\nREADME.md", "README.md", true),
            ("docs\n!docs/keep", "docs/keep", false),
            ("docs\n!docs/keep", "docs/other", true),
            ("docs\n! /docs/keep", "docs/keep", false),
            ("# a comment\n\n  b  ", "b", true),
            (" # no comment", "# no comment", true),
            ("\\#x", "#x", true),
            ("../a\na", "a", true),
            ("**", "anything/at/all", true),
        ] {
            assert_eq!(excludes(file, path), expected, "{file:?} {path}");
        }
    }

    #[test]
    fn patterns_for_names_hold_at_every_depth() {
        let mut rules = IgnoreRules::default();
        rules.add_name("temp/");
        assert!(rules.excludes(Path::new("a/temp"), PathKind::Directory).is_some());
        assert!(rules.excludes(Path::new("a/temp/file"), PathKind::Other).is_some());
        assert!(rules.excludes(Path::new("a/temp"), PathKind::Other).is_none());
    }

    #[test]
    fn a_path_is_no_pattern() {
        let mut rules = IgnoreRules::default();
        rules.add_path(Path::new("out[1]"));
        assert!(rules.excludes(Path::new("out[1]/result"), PathKind::Other).is_some());
        assert!(rules.excludes(Path::new("out1"), PathKind::Directory).is_none());
        assert!(rules.excludes(Path::new("a/out[1]"), PathKind::Directory).is_none());
    }

    #[test]
    fn what_is_kept_is_kept_whatever_follows_unless_it_is_an_output() {
        let mut rules = IgnoreRules::default();
        rules.keep("libs/temp").unwrap();
        rules.add_name("temp/");
        rules.exclude_output("libs/temp/[out]".into(), "");
        let excludes = |path: &str| rules.excludes(Path::new(path), PathKind::Directory).is_some();
        assert!(excludes("temp") && excludes("libs/temp/[out]/blobs") && !excludes("libs/temp/x") && !excludes("o"));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for bad in ["[", "..", "../x", "/", "!"] {
            assert!(IgnoreRules::default().add(bad).is_err(), "{bad}");
        }
        assert!(IgnoreRules::default().add_file("!").is_err());
    }
}
