//! Patterns of files in a robot's directory that do not belong to the robot.

use super::Robot;
use crate::common::bounded_read;
use crate::common::error::{Error, ErrorKind, Result};
use crate::common::human_numbers::counted;
use crate::common::progress;
use crate::common::progress::Progress;
use crate::common::root::Root;

/// The patterns that `rcc robot wrap` always excludes.
const ALWAYS: [&str; 8] = [".git", ".rpa", "rcc", "output/", "temp/", "tmp/", "__pycache__", "__MACOSX"];

/// The size limit of a list of patterns, in bytes.
const SIZE_LIMIT: u64 = 1 << 20;

impl Robot {
    /// Returns the patterns of files that `rcc robot wrap` excludes: its own, then those of the robot's ignore files.
    ///
    /// They are for [`IgnoreRules::add_name`](crate::layers::tree::IgnoreRules::add_name). Warns about a missing ignore file,
    /// and about patterns that match nothing in RCC although other programs support them.
    ///
    /// # Errors
    /// Returns an error if an ignore file is larger than 1 MiB, not UTF-8, or cannot be read.
    pub fn ignore_patterns(&self, directory: &Root, watcher: &dyn Progress) -> Result<Vec<String>> {
        let mut patterns: Vec<String> = ALWAYS.map(str::to_owned).to_vec();
        for name in &self.ignore_files {
            let shown = directory.display(name);
            let file = match directory.open_linked_file(name) {
                Ok(file) => file,
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    let reason = format!("`ignoreFiles`: {name} not found, so it excludes nothing");
                    progress::warn(watcher, &self.file, &reason);
                    continue;
                }
                Err(error) => return Err(error.hint(format!("`ignoreFiles` of {}", self.file))),
            };
            let bytes = bounded_read::read(file, SIZE_LIMIT, &shown)?;
            let text = String::from_utf8(bytes).map_err(|_| Error::invalid(&shown, "not UTF-8"))?;
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
            let lines: Vec<String> = lines.map(str::to_owned).collect();
            warn_of_idle_patterns(&lines, &shown, watcher);
            patterns.extend(lines);
        }
        Ok(patterns)
    }
}

/// Warns about patterns that match nothing.
///
/// RCC compares patterns with base names and has no negation, unlike the `.gitignore` that is often named here.
fn warn_of_idle_patterns(patterns: &[String], object: &str, watcher: &dyn Progress) {
    let idle: Vec<&String> = patterns.iter().filter(|pattern| is_idle(pattern)).collect();
    if let Some(first) = idle.first() {
        let reason = format!(
            "rcc matches base names only and does not support `!`, so {} exclude nothing, the first is `{first}`",
            counted(idle.len(), "pattern")
        );
        progress::warn(watcher, object, &reason);
    }
}

/// Returns whether a pattern matches no ordinary name, since it is for a path or a negation.
fn is_idle(pattern: &str) -> bool {
    let below = pattern.split_once('/').map_or("", |(_, below)| below);
    pattern.starts_with('!') || !below.chars().all(|c| c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rcc::test_support::Recorder;

    fn robot(ignore_files: &str) -> Robot {
        let text = format!("tasks: {{a: {{shell: b}}}}\nartifactsDir: out\nignoreFiles: [{ignore_files}]\n");
        Robot::parse(text.as_bytes(), "robot.yaml", &Recorder::default()).unwrap()
    }

    #[test]
    fn the_robots_lists_are_added_to_what_is_always_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::open(directory.path()).unwrap();
        root.dir().write(".gitignore", "# comment\n\n *.log \nbuild/\n/dist\n!keep\nx/*\n").unwrap();
        let recorder = Recorder::default();
        let patterns = robot(".gitignore").ignore_patterns(&root, &recorder).unwrap();
        assert_eq!(patterns[ALWAYS.len()..], ["*.log", "build/", "/dist", "!keep", "x/*"]);
        let [warning] = &recorder.warnings()[..] else { panic!("{:?}", recorder.warnings()) };
        assert!(warning.contains("so 2 patterns exclude nothing, the first is `/dist`"), "{warning}");
    }

    #[test]
    fn a_missing_list_is_a_warning() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::open(directory.path()).unwrap();
        let recorder = Recorder::default();
        assert_eq!(robot("missing").ignore_patterns(&root, &recorder).unwrap(), ALWAYS);
        assert_eq!(recorder.warnings(), ["robot.yaml: `ignoreFiles`: missing not found, so it excludes nothing"]);
    }
}
