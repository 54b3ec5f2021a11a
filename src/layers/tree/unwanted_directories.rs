//! Directories that are in a source by accident: version control, caches, and installed packages.

use crate::common::human_numbers::{counted, size};
use crate::common::progress::{Progress, warn};
use crate::spec::ImagePath;
use std::collections::BTreeMap;

/// The names of such directories.
const NAMES: [&str; 11] = [
    ".git",
    ".hg",
    ".mypy_cache",
    ".nox",
    ".pytest_cache",
    ".ruff_cache",
    ".svn",
    ".tox",
    ".venv",
    "__pycache__",
    "node_modules",
];

/// The amount of litter in a source, by directory name.
#[derive(Debug, Default)]
pub(super) struct Litter(BTreeMap<&'static str, Amount>);

#[derive(Debug, Default)]
struct Amount {
    files: usize,
    bytes: u64,
}

impl Litter {
    /// Counts `files` files of `bytes` bytes in `directory`, which was copied below `destination`.
    pub(super) fn count(&mut self, directory: &ImagePath, destination: &ImagePath, files: usize, bytes: u64) {
        let below = directory.names().skip(destination.names().count());
        if let Some(name) = below.filter_map(litter).next() {
            let amount = self.0.entry(name).or_default();
            amount.files += files;
            amount.bytes += bytes;
        }
    }

    /// Warns about the litter in one line.
    pub(super) fn warn(&self, object: &str, progress: &dyn Progress) {
        if self.0.is_empty() {
            return;
        }
        let text = |(name, Amount { files, bytes }): (&&str, &Amount)| {
            format!("{name} ({} of {})", counted(*files, "file"), size(*bytes))
        };
        let texts: Vec<String> = self.0.iter().map(text).collect();
        warn(progress, object, &format!("contains {}, which is copied too (--exclude skips it)", texts.join(", ")));
    }
}

fn litter(name: &[u8]) -> Option<&'static str> {
    if !matches!(name.first(), Some(b'.' | b'_' | b'n')) {
        return None;
    }
    NAMES.into_iter().find(|litter| litter.as_bytes() == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::progress::Event;
    use std::sync::Mutex;

    struct Heard(Mutex<Vec<String>>);

    impl Progress for Heard {
        fn event(&self, event: Event<'_>) {
            if let Event::Warning { object, reason } = event {
                self.0.lock().unwrap().push(format!("{object}: {reason}"));
            }
        }
    }

    #[test]
    fn litter_is_counted_below_the_source_only() {
        let path = |text: &str| ImagePath::new(text.as_bytes()).unwrap();
        let (mut litter, heard) = (Litter::default(), Heard(Mutex::default()));
        litter.count(&path("node_modules/app/src"), &path("node_modules/app"), 5, 5);
        litter.warn("x", &heard);
        litter.count(&path("srv/.git/objects"), &path("srv"), 2, 1024);
        litter.count(&path("srv/a/__pycache__"), &path("srv"), 1, 10);
        litter.count(&path("srv/a/.git/__pycache__"), &path("srv"), 1, 0);
        litter.warn("x", &heard);
        let expected = "x: contains .git (3 files of 1 KiB), __pycache__ (1 file of 10 B), which is copied too (--exclude skips it)";
        assert_eq!(*heard.0.lock().unwrap(), [expected]);
    }
}
