//! Files with the same content that become hard links.

use super::files::attributes;
use crate::common::error::Result;
use crate::layers::tree::{Attributes, Owner};
use crate::spec::ImagePath;
use std::collections::BTreeSet;

/// The maximum number of names of one file. ext4 allows 65,000.
const MOST_NAMES: usize = 60_000;

/// A file of a layer, by its origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Name {
    /// The file of the space with this number in the catalog's entries.
    OfEntry(u32),
    /// The library file with this number in the catalog's objects.
    OfObject(u32),
}

/// A [`Name`] in half the memory. A catalog has fewer than 2^31 entries and objects, so the highest bit is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct PackedName(u32);

const OBJECT: u32 = 1 << 31;

impl From<Name> for PackedName {
    fn from(name: Name) -> PackedName {
        match name {
            Name::OfEntry(number) => PackedName(number),
            Name::OfObject(number) => PackedName(number | OBJECT),
        }
    }
}

impl PackedName {
    fn name(self) -> Name {
        if self.0 < OBJECT { Name::OfEntry(self.0) } else { Name::OfObject(self.0 & !OBJECT) }
    }
}

/// The files that can be hard links to one file: those with the same content, mode and owner.
#[derive(Default)]
pub(super) struct SharedFiles {
    /// The combinations of owner and mode, sorted. There are as many as there are recorded modes.
    kinds: Vec<OwnerAndMode>,
    /// By the number of the object with the content, and the index of owner and mode.
    ///
    /// This is a flat list, since nearly every content has one file and one object: a map for each would take more
    /// memory than its entries.
    names: Vec<(u32, u16, PackedName)>,
}

/// An owner and a mode, sorted with root first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct OwnerAndMode {
    uid: u32,
    gid: u32,
    mode: u16,
}

impl OwnerAndMode {
    pub(super) fn of(attributes: &Attributes) -> OwnerAndMode {
        let Attributes { mode, uid, gid, .. } = *attributes;
        OwnerAndMode { uid, gid, mode }
    }

    pub(super) fn attributes(self) -> Attributes {
        let OwnerAndMode { uid, gid, mode } = self;
        attributes(mode.into(), Owner { uid, gid })
    }
}

impl SharedFiles {
    /// Collects the files of a space.
    ///
    /// `files` yields in any order each file's object number, owner and mode, and entry number.
    pub(super) fn of<Files: Iterator<Item = (u32, OwnerAndMode, u32)>>(files: impl Fn() -> Files) -> Self {
        // Modes have twelve bits, and there are two owners, so every index fits in 16 bits.
        let kinds: Vec<OwnerAndMode> = files().map(|(_, kept, _)| kept).collect::<BTreeSet<_>>().into_iter().collect();
        let mut names = Vec::with_capacity(files().count());
        names.extend(files().filter_map(|(object, kept, entry)| {
            let kind = kinds.binary_search(&kept).ok()?;
            Some((object, kind as u16, Name::OfEntry(entry).into()))
        }));
        names.sort_unstable();
        SharedFiles { kinds, names }
    }

    /// Returns whether the space has a file of this content that the library can share: one that only root can change.
    pub(super) fn has(&self, object: u32) -> bool {
        self.lowest(object).is_some_and(|kept| kept.uid == 0)
    }

    /// Returns owner and mode of an object that shares a file.
    ///
    /// An object has no mode of its own, so it takes the lowest among its files.
    pub(super) fn lowest(&self, object: u32) -> Option<OwnerAndMode> {
        self.lowest_kind(object).map(|kind| self.kinds[usize::from(kind)])
    }

    fn lowest_kind(&self, object: u32) -> Option<u16> {
        let at = self.names.partition_point(|(other, ..)| *other < object);
        self.names.get(at).filter(|(found, ..)| *found == object).map(|(_, kind, _)| *kind)
    }

    /// Adds library files, one for each object, and sorts the names of each file.
    ///
    /// `path` returns the path of a name.
    pub(super) fn add_objects(
        &mut self,
        objects: impl Iterator<Item = u32>,
        path: impl Fn(Name) -> Result<ImagePath>,
    ) -> Result<()> {
        let shared =
            objects.filter_map(|object| Some((object, self.lowest_kind(object)?, Name::OfObject(object).into())));
        let shared: Vec<_> = shared.collect();
        self.names.reserve_exact(shared.len());
        self.names.extend(shared);
        self.names.sort_unstable();
        let path = |name: PackedName| path(name.name());
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

    /// Returns the first name of the file with the name `name`.
    ///
    /// The file holds `object` and has the owner and mode `kept`.
    pub(super) fn first(
        &self,
        object: u32,
        kept: OwnerAndMode,
        name: Name,
        path: impl Fn(Name) -> Result<ImagePath>,
    ) -> Result<Name> {
        let Ok(kind) = self.kinds.binary_search(&kept) else { return Ok(name) };
        let key = (object, kind as u16);
        let from = self.names.partition_point(|(other, others, _)| (*other, *others) < key);
        let alike = &self.names[from..];
        let alike = &alike[..alike.partition_point(|(other, others, _)| (*other, *others) == key)];
        let mut at = 0;
        if alike.len() > MOST_NAMES {
            let wanted = path(name)?;
            // The path was valid when the names were sorted, and still is.
            at = alike.partition_point(|(.., other)| path(other.name()).is_ok_and(|other| other < wanted));
        }
        Ok(alike.get(at - at % MOST_NAMES).map_or(name, |(.., first)| first.name()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: OwnerAndMode = OwnerAndMode { uid: 0, gid: 0, mode: 0o644 };
    const CLOSED: OwnerAndMode = OwnerAndMode { uid: 1000, gid: 0, mode: 0o600 };

    /// Returns paths in which library files come last.
    fn path(name: Name) -> Result<ImagePath> {
        let text = match name {
            Name::OfEntry(number) => format!("entry{number:07}"),
            Name::OfObject(number) => format!("object{number:07}"),
        };
        ImagePath::new(text.as_bytes())
    }

    #[test]
    fn files_of_one_content_and_one_way_have_one_first_name() {
        let files = [(7, CLOSED, 0), (7, OPEN, 2), (7, OPEN, 1), (8, CLOSED, 3)];
        let mut shared = SharedFiles::of(|| files.into_iter());
        assert!(shared.has(7) && !shared.has(8) && !shared.has(9));
        shared.add_objects([7, 9].into_iter(), path).unwrap();
        let first = |object, kept, name| shared.first(object, kept, name, path).unwrap();
        for name in [Name::OfEntry(1), Name::OfEntry(2), Name::OfObject(7)] {
            assert_eq!(first(7, OPEN, name), Name::OfEntry(1));
        }
        assert_eq!(first(7, CLOSED, Name::OfEntry(0)), Name::OfEntry(0));
        assert_eq!(first(9, OPEN, Name::OfObject(9)), Name::OfObject(9));
        assert_eq!((shared.lowest(7), shared.lowest(9)), (Some(OPEN), None));
    }

    #[test]
    fn no_file_has_more_names_than_file_systems_allow() {
        let shared = {
            let mut shared = SharedFiles::of(|| (0..130_000).map(|number| (1, OPEN, number)));
            shared.add_objects(std::iter::once(1), path).unwrap();
            shared
        };
        for (name, first) in [(0, 0), (59_999, 0), (60_000, 60_000), (119_999, 60_000), (129_999, 120_000)] {
            let found = shared.first(1, OPEN, Name::OfEntry(name), path).unwrap();
            assert_eq!(found, Name::OfEntry(first), "{name}");
        }
        assert_eq!(shared.first(1, OPEN, Name::OfObject(1), path).unwrap(), Name::OfEntry(120_000));
    }
}
