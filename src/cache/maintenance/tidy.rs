//! Automatic limits: unused and excess files are removed at the end of a build.

use super::{Item, ItemKind, Pruned, Upkeep};
use crate::common::bounded_read;
use crate::common::directory_lock::DirectoryLock;
use crate::common::error::Result;
use std::time::{Duration, SystemTime};

/// The file whose modification time is when the cache was tidied last. Its content is the limits that were applied.
const STAMP: &str = "tidied";

/// The minimum time between two runs, since listing the cache takes longer than a build with only cache hits.
const BETWEEN: Duration = Duration::from_secs(24 * 60 * 60);

/// The limits of a cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheLimits {
    /// How long an item may be unused.
    pub age: Option<Duration>,
    /// The maximum size of all files, in bytes.
    pub size: Option<u64>,
}

impl CacheLimits {
    /// Removes everything.
    pub const NOTHING: CacheLimits = CacheLimits { age: None, size: Some(0) };

    /// Returns whether `item` must be removed, if it and all items after it have `left` bytes.
    pub(super) fn exclude(&self, item: &Item, left: u64, now: SystemTime) -> bool {
        let is_old = |age| now.duration_since(item.used).is_ok_and(|unused| unused > age);
        // These take hardly any space. Without a note a blob is hashed again, and without its signatures a base needs a
        // network.
        let is_small = matches!(item.kind, ItemKind::Note | ItemKind::Signatures);
        let is_too_much = |size| size == 0 || left > size && !is_small;
        self.age.is_some_and(is_old) || self.size.is_some_and(is_too_much)
    }
}

impl Upkeep {
    /// Prunes to `limits`, unless that was done within a day or another process is pruning. Returns what was removed.
    ///
    /// # Errors
    /// Fails as [`Upkeep::prune`] does.
    pub fn tidy(&self, limits: CacheLimits) -> Result<Option<Pruned>> {
        if limits == CacheLimits::default() || self.is_tidy(limits) {
            return Ok(None);
        }
        let Some(_lock) = DirectoryLock::try_of(&self.directory)? else { return Ok(None) };
        let pruned = self.prune_locked(limits)?;
        self.directory.replace_file(STAMP, stamp(limits).as_bytes())?;
        self.directory.touch(STAMP, self.now);
        Ok(Some(pruned))
    }

    fn is_tidy(&self, limits: CacheLimits) -> bool {
        let Ok((file, metadata)) = self.directory.open_described_file(STAMP) else { return false };
        let is_new = |time: cap_std::time::SystemTime| {
            self.now.duration_since(time.into_std()).is_ok_and(|since| since < BETWEEN)
        };
        metadata.modified().is_ok_and(is_new)
            && bounded_read::read(file, 100, STAMP).is_ok_and(|content| content == stamp(limits).as_bytes())
    }
}

fn stamp(limits: CacheLimits) -> String {
    let age = limits.age.map(|age| age.as_secs());
    let text = |limit: Option<u64>| limit.map_or("-".to_owned(), |limit| limit.to_string());
    format!("{} {}\n", text(age), text(limits.size))
}
