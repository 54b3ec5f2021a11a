//! Files of one content that become one file with several names.

use super::files::attributes;
use crate::rcc::{FileEntry, ObjectDigest};
use crate::tree::{Attributes, Entry, Kind, Owner};
use std::collections::BTreeSet;

/// How many names one file gets. ext4 allows 65,000.
const MOST_NAMES: usize = 60_000;

/// Which entries can be one file: those with one content, one mode and one owner.
#[derive(Default)]
pub(super) struct SharedFiles {
    /// Flat, since nearly every content has one file and one object: a map for each would take more than its entries.
    names: BTreeSet<(ObjectDigest, Kept, usize)>,
}

/// Owner and mode, root first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
struct Kept {
    uid: u32,
    gid: u32,
    mode: u16,
}

impl SharedFiles {
    pub(super) fn add(&mut self, file: &FileEntry, attributes: &Attributes, entry: usize) {
        let Attributes { uid, gid, mode, .. } = *attributes;
        self.names.insert((file.digest, Kept { uid, gid, mode }, entry));
    }

    /// Whether the space has a file of this content that the library can share: one that nobody can change.
    pub(super) fn has(&self, digest: &ObjectDigest) -> bool {
        self.lowest(digest).is_some_and(|kept| kept.uid == 0)
    }

    /// The object itself has no mode of its own, so it takes the lowest that is there.
    pub(super) fn add_object(&mut self, digest: &ObjectDigest, entry: usize) {
        if let Some(kept) = self.lowest(digest) {
            self.names.insert((*digest, kept, entry));
        }
    }

    fn lowest(&self, digest: &ObjectDigest) -> Option<Kept> {
        let (found, kept, _) = self.names.range((*digest, Kept::default(), 0)..).next()?;
        (found == digest).then_some(*kept)
    }

    /// Makes every name but the first a link to the first, with its attributes: extractors set them through the link.
    pub(super) fn link(self, entries: &mut [Entry]) {
        let names: Vec<_> = self.names.into_iter().collect();
        for alike in names.chunk_by(|one, other| (one.0, one.1) == (other.0, other.1)) {
            let Kept { uid, gid, mode } = alike[0].1;
            let mut alike: Vec<usize> = alike.iter().map(|(_, _, entry)| *entry).collect();
            alike.sort_by(|&a, &b| entries[a].path.cmp(&entries[b].path));
            for group in alike.chunks(MOST_NAMES) {
                let target = entries[group[0]].path.clone();
                for (place, &name) in group.iter().enumerate() {
                    entries[name].attributes = attributes(mode.into(), Owner { uid, gid });
                    if place > 0 {
                        entries[name].kind = Kind::HardLink { target: target.clone() };
                    }
                }
            }
        }
    }
}
