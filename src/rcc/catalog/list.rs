//! The entries of a catalog, stored compactly: 24 bytes each plus their paths, for catalogs of 100,000 entries.

use super::{CatalogEntry, CatalogEntryKind, FileEntry, NamedObject};

/// Entries of a catalog, sorted by the bytes of their paths.
#[derive(Debug, Default)]
pub(crate) struct CatalogEntries {
    list: Vec<EntryRecord>,
    /// All paths, concatenated.
    paths: String,
    /// All offsets of rewrites, concatenated.
    rewrites: Vec<u64>,
    targets: Vec<Box<str>>,
}

/// One entry.
#[derive(Debug, Clone, Copy)]
struct EntryRecord {
    /// All paths together have less than 4 GiB.
    path: u32,
    /// A path has at most 4096 bytes.
    path_length: u16,
    mode: u16,
    what: EntryRecordKind,
}

#[derive(Debug, Clone, Copy)]
enum EntryRecordKind {
    Directory,
    /// With the index of its object, and the range of its rewrites.
    File {
        object: u32,
        rewrites: (u32, u32),
    },
    /// With the index of its target.
    Link(u32),
}

impl CatalogEntries {
    /// Allocates room for `entries` entries whose paths take `paths` bytes in total.
    ///
    /// Lists that grow would leave their earlier allocations behind.
    pub(crate) fn with_room(entries: usize, paths: usize) -> CatalogEntries {
        CatalogEntries {
            list: Vec::with_capacity(entries),
            paths: String::with_capacity(paths),
            ..CatalogEntries::default()
        }
    }

    pub(crate) fn push_directory(&mut self, path: &str, mode: u32) {
        self.push(path, mode, EntryRecordKind::Directory);
    }

    pub(crate) fn push_file(&mut self, path: &str, mode: u32, object: u32, rewrites: &[u64]) {
        // Cannot overflow: a document that lists this many offsets exceeds the size limit.
        let start = self.rewrites.len() as u32;
        self.rewrites.extend_from_slice(rewrites);
        self.push(path, mode, EntryRecordKind::File { object, rewrites: (start, self.rewrites.len() as u32) });
    }

    pub(crate) fn push_link(&mut self, path: &str, target: &str) {
        self.targets.push(target.into());
        self.push(path, 0, EntryRecordKind::Link(self.targets.len() as u32 - 1));
    }

    fn push(&mut self, path: &str, mode: u32, what: EntryRecordKind) {
        let record =
            EntryRecord { path: self.paths.len() as u32, path_length: path.len() as u16, mode: mode as u16, what };
        self.list.push(record);
        self.paths.push_str(path);
    }

    /// Sorts the entries, once all have been added.
    pub(crate) fn sort(&mut self) {
        let CatalogEntries { list, paths, rewrites, targets } = self;
        list.sort_unstable_by(|one, other| path(paths, one).cmp(path(paths, other)));
        list.shrink_to_fit();
        paths.shrink_to_fit();
        rewrites.shrink_to_fit();
        targets.shrink_to_fit();
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// Returns the index of the entry at `wanted`.
    ///
    /// The error is the index where such an entry would be inserted.
    pub(crate) fn find(&self, wanted: &str) -> Result<usize, usize> {
        self.list.binary_search_by(|record| path(&self.paths, record).cmp(wanted))
    }

    /// Returns entry `number`, whose object is among `objects`.
    pub(crate) fn entry(&self, number: usize, objects: &[NamedObject]) -> CatalogEntry<'_> {
        let record = &self.list[number];
        let mode = record.mode.into();
        let kind = match record.what {
            EntryRecordKind::Directory => CatalogEntryKind::Directory { mode },
            EntryRecordKind::File { object, rewrites: (start, end) } => {
                let NamedObject { digest, size } = objects[object as usize];
                let rewrites = &self.rewrites[start as usize..end as usize];
                CatalogEntryKind::File(FileEntry { mode, size, digest, object: object as usize, rewrites })
            }
            EntryRecordKind::Link(target) => CatalogEntryKind::Link { target: &self.targets[target as usize] },
        };
        CatalogEntry { path: path(&self.paths, record), kind }
    }
}

fn path<'a>(paths: &'a str, record: &EntryRecord) -> &'a str {
    &paths[record.path as usize..][..usize::from(record.path_length)]
}
