//! Files of one content that become one file with several names.

use super::files::attributes;
use crate::error::Result;
use crate::tree::{Attributes, ImagePath, Owner};

/// How many names one file gets. ext4 allows 65,000.
const MOST_NAMES: usize = 60_000;

/// A file of a layer, by what it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Name {
    /// The file of the space with this number in the catalog's entries.
    OfEntry(u32),
    /// The library file with this number in the catalog's objects.
    OfObject(u32),
}

/// Which files can be one: those with one content, one mode and one owner.
#[derive(Default)]
pub(super) struct SharedFiles {
    /// By the number of the object with the content. Flat, since nearly every content has one file and one object: a map for
    /// each would take more than its entries.
    names: Vec<(u32, Kept, Name)>,
}

/// Owner and mode, root first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Kept {
    uid: u32,
    gid: u32,
    mode: u16,
}

impl Kept {
    pub(super) fn of(attributes: &Attributes) -> Kept {
        let Attributes { mode, uid, gid, .. } = *attributes;
        Kept { uid, gid, mode }
    }

    pub(super) fn attributes(self) -> Attributes {
        let Kept { uid, gid, mode } = self;
        attributes(mode.into(), Owner { uid, gid })
    }
}

impl SharedFiles {
    /// Takes the files of a space, with the numbers of their objects and of themselves, in any order.
    pub(super) fn of(files: impl Iterator<Item = (u32, Kept, u32)>) -> Self {
        let mut names: Vec<_> = files.map(|(object, kept, entry)| (object, kept, Name::OfEntry(entry))).collect();
        names.shrink_to_fit();
        names.sort_unstable();
        SharedFiles { names }
    }

    /// Whether the space has a file of this content that the library can share: one that nobody can change.
    pub(super) fn has(&self, object: u32) -> bool {
        self.lowest(object).is_some_and(|kept| kept.uid == 0)
    }

    /// What an object is kept like that shares a file: it has no mode of its own, so it takes the lowest that is there.
    pub(super) fn lowest(&self, object: u32) -> Option<Kept> {
        let at = self.names.partition_point(|(other, ..)| *other < object);
        self.names.get(at).filter(|(found, ..)| *found == object).map(|(_, kept, _)| *kept)
    }

    /// Adds library files, of which each object has one, and brings the names of each file in order. `path` tells where they
    /// are.
    pub(super) fn add_objects(
        &mut self,
        objects: impl Iterator<Item = u32>,
        path: impl Fn(Name) -> Result<ImagePath>,
    ) -> Result<()> {
        let shared = objects.filter_map(|object| Some((object, self.lowest(object)?, Name::OfObject(object))));
        let shared: Vec<_> = shared.collect();
        self.names.extend(shared);
        self.names.sort_unstable();
        for alike in self.names.chunk_by_mut(|one, other| (one.0, one.1) == (other.0, other.1)) {
            if let [(.., one), (.., other)] = alike {
                if path(*one)? > path(*other)? {
                    alike.swap(0, 1);
                }
            } else if alike.len() > 2 {
                let mut named = alike.iter().map(|alike| Ok((path(alike.2)?, *alike))).collect::<Result<Vec<_>>>()?;
                named.sort_unstable();
                alike.iter_mut().zip(named).for_each(|(place, (_, alike))| *place = alike);
            }
        }
        Ok(())
    }

    /// The first name of the file that `name` is a name of, which holds `object` and is kept like this.
    pub(super) fn first(
        &self,
        object: u32,
        kept: Kept,
        name: Name,
        path: impl Fn(Name) -> Result<ImagePath>,
    ) -> Result<Name> {
        let from = self.names.partition_point(|(other, others, _)| (*other, *others) < (object, kept));
        let alike = &self.names[from..];
        let alike = &alike[..alike.partition_point(|(other, others, _)| (*other, *others) == (object, kept))];
        let mut at = 0;
        if alike.len() > MOST_NAMES {
            let wanted = path(name)?;
            // A path that was good enough to be sorted by is so still.
            at = alike.partition_point(|(.., other)| path(*other).is_ok_and(|other| other < wanted));
        }
        Ok(alike.get(at - at % MOST_NAMES).map_or(name, |(.., first)| *first))
    }
}
