//! Files of one content that become one file with several names.

use super::files::attributes;
use crate::rcc::{FileEntry, ObjectDigest};
use crate::tree::{Attributes, Entry, Kind, Owner};
use std::collections::BTreeMap;

/// How many names one file gets. ext4 allows 65,000.
const MOST_NAMES: usize = 60_000;

/// Which entries can be one file: those with one content, one mode and one owner.
#[derive(Default)]
pub(super) struct SharedFiles {
    entries: BTreeMap<ObjectDigest, BTreeMap<Kept, Vec<usize>>>,
}

/// Owner and mode, root first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Kept {
    uid: u32,
    gid: u32,
    mode: u16,
}

impl SharedFiles {
    pub(super) fn add(&mut self, file: &FileEntry, attributes: &Attributes, entry: usize) {
        let Attributes { uid, gid, mode, .. } = *attributes;
        self.entries.entry(file.digest).or_default().entry(Kept { uid, gid, mode }).or_default().push(entry);
    }

    /// Whether the space has a file of this content that the library can share: one that nobody can change.
    pub(super) fn has(&self, digest: &ObjectDigest) -> bool {
        self.entries.get(digest).and_then(|kept| kept.keys().next()).is_some_and(|first| first.uid == 0)
    }

    /// The object itself has no mode of its own, so it takes the lowest that is there.
    pub(super) fn add_object(&mut self, digest: &ObjectDigest, entry: usize) {
        if let Some(first) = self.entries.get_mut(digest).and_then(|kept| kept.values_mut().next()) {
            first.push(entry);
        }
    }

    /// Makes every name but the first a link to the first, with its attributes: extractors set them through the link.
    pub(super) fn link(self, entries: &mut [Entry]) {
        let groups = self.entries.into_values().flatten();
        for (Kept { uid, gid, mode }, mut names) in groups {
            names.sort_by(|&a, &b| entries[a].path.cmp(&entries[b].path));
            for group in names.chunks(MOST_NAMES) {
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
