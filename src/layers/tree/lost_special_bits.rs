//! Special mode bits that files lose because their owner changes.
//!
//! The bits have their meaning only together with the owner that the file had in the source.

use super::{Access, Rules};
use crate::common::human_numbers::counted;
use crate::common::progress::{Progress, warn};
use std::path::PathBuf;

/// The number of files that the warning names.
const NAMED: usize = 3;

/// The files of one source that lose setuid, setgid or sticky.
#[derive(Debug, Default)]
pub(super) struct Losses {
    count: usize,
    /// The first files in the order of names, independent of the order of the walk.
    first: Vec<String>,
}

impl Losses {
    /// Records the file `path` if `rules` remove a bit from it. Its mode and owner in the source are `own`.
    pub(super) fn note(&mut self, is_file: bool, own: Access, path: impl FnOnce() -> PathBuf, rules: &Rules) {
        let lost = rules.lost_bits(own);
        if !is_file || lost == 0 {
            return;
        }
        let first = vec![format!("{} {:o}", path().display(), own.mode & 0o7777)];
        self.add(Losses { count: 1, first });
    }

    /// Adds the losses of another directory of the source.
    pub(super) fn add(&mut self, other: Losses) {
        self.count += other.count;
        self.first.extend(other.first);
        self.first.sort();
        self.first.truncate(NAMED);
    }

    /// Warns about the losses in one line.
    pub(super) fn warn_about_all(&self, source: &str, progress: &dyn Progress) {
        if self.count == 0 {
            return;
        }
        let more = if self.count > NAMED { ", …" } else { "" };
        let files = counted(self.count, "file");
        let reason = format!(
            "setuid, setgid or sticky removed from {files} whose owner changes: {}{more} (--keep-owners preserves both)",
            self.first.join(", ")
        );
        warn(progress, source, &reason);
    }
}
