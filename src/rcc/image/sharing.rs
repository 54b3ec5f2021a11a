//! Files of one content that become one file with several names.

use super::files::attributes;
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
struct Kept {
    uid: u32,
    gid: u32,
    mode: u16,
}

impl SharedFiles {
    /// Takes the files of a space, with the numbers of their objects and their attributes, in any order.
    pub(super) fn of(files: impl Iterator<Item = (u32, Attributes, u32)>) -> Self {
        let kept = |Attributes { uid, gid, mode, .. }: Attributes| Kept { uid, gid, mode };
        let mut names: Vec<_> =
            files.map(|(object, attributes, entry)| (object, kept(attributes), Name::OfEntry(entry))).collect();
        names.sort_unstable();
        SharedFiles { names }
    }

    /// Whether the space has a file of this content that the library can share: one that nobody can change.
    pub(super) fn has(&self, object: u32) -> bool {
        self.lowest(object).is_some_and(|kept| kept.uid == 0)
    }

    fn lowest(&self, object: u32) -> Option<Kept> {
        let at = self.names.partition_point(|(other, ..)| *other < object);
        self.names.get(at).filter(|(found, ..)| *found == object).map(|(_, kept, _)| *kept)
    }

    /// Joins the files of the space and these library files, of which each object has one. That has no mode of its own, so it
    /// takes the lowest that is there. `path` tells where a file is.
    pub(super) fn join(
        mut self,
        objects: impl Iterator<Item = u32>,
        path: impl Fn(Name) -> crate::Result<ImagePath>,
    ) -> crate::Result<JoinedFiles> {
        let with_objects: Vec<_> =
            objects.filter_map(|object| Some((object, self.lowest(object)?, Name::OfObject(object)))).collect();
        self.names.extend(with_objects);
        self.names.sort_unstable();
        let mut joined = JoinedFiles::default();
        for alike in self.names.chunk_by(|one, other| (one.0, one.1) == (other.0, other.1)) {
            if let [_, _, ..] = alike {
                let mut names =
                    alike.iter().map(|(_, _, name)| Ok((path(*name)?, *name))).collect::<crate::Result<Vec<_>>>()?;
                names.sort_unstable();
                names.chunks(MOST_NAMES).for_each(|names| joined.add(names, alike[0].1));
            }
        }
        joined.names.sort_unstable();
        Ok(joined)
    }
}

/// Files with several names.
#[derive(Debug, Default)]
pub(super) struct JoinedFiles {
    /// Each name, and the number of its file.
    names: Vec<(Name, u32)>,
    /// The attributes and the first name of each file: extractors set them through every link.
    files: Vec<(Kept, Name)>,
}

impl JoinedFiles {
    fn add(&mut self, names: &[(ImagePath, Name)], kept: Kept) {
        let Some((_, first)) = names.first() else { return };
        let number = self.files.len() as u32;
        self.names.extend(names.iter().map(|(_, name)| (*name, number)));
        self.files.push((kept, *first));
    }

    /// The attributes and the first name of the file that `name` is one of several names of.
    pub(super) fn find(&self, name: Name) -> Option<(Attributes, Name)> {
        let found = self.names.binary_search_by_key(&name, |(name, _)| *name).ok()?;
        let (Kept { uid, gid, mode }, first) = self.files[self.names[found].1 as usize];
        Some((attributes(mode.into(), Owner { uid, gid }), first))
    }
}
