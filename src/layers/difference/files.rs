//! The files of two images, side by side.

use super::place::ComparedPlace;
use super::{IgnoredDifference, IgnoredDifferences};
use crate::common::error::Result;
use crate::layers::rootfs::{ListedKind, MergedEntry, MergedFiles};
use std::cmp::Ordering;
use std::iter::Peekable;

/// A path that only one of two images has, or with something else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileDifference {
    /// The path, without a leading slash. The root is empty.
    pub path: Vec<u8>,
    /// What is at the path in the first image.
    pub before: Option<ComparedFile>,
    /// What is at the path in the second image.
    pub after: Option<ComparedFile>,
    /// What differs, if both images have the path.
    pub what: Vec<FileAspect>,
}

/// A file, directory, link or device of one of two images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComparedFile {
    /// The node, and its layer; the lowest is 0.
    pub entry: MergedEntry,
    /// The SHA-256 of the content, if it is a regular file whose layer was read.
    pub content: Option<[u8; 32]>,
}

/// What may differ between two files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileAspect {
    /// The kind: file, directory, link, device. A hard link is of another kind than a file of its own.
    Kind,
    /// The content.
    Content,
    /// The target of a link.
    Target,
    /// The permissions.
    Mode,
    /// The owner or the group.
    Owner,
    /// The modification time.
    Time,
    /// The extended attributes.
    Xattrs,
    /// The numbers of a device.
    Device,
    /// Whether a directory has an entry of its own, or the layers only have entries in it.
    Entry,
}

impl FileAspect {
    /// Returns the name, for programs and people.
    pub fn name(self) -> &'static str {
        match self {
            FileAspect::Kind => "kind",
            FileAspect::Content => "content",
            FileAspect::Target => "target",
            FileAspect::Mode => "mode",
            FileAspect::Owner => "owner",
            FileAspect::Time => "time",
            FileAspect::Xattrs => "xattrs",
            FileAspect::Device => "device",
            FileAspect::Entry => "entry",
        }
    }
}

/// Iterates over the paths that differ, in the order of their bytes.
///
/// An item is an error if a listing is damaged, or a layer that must be read for it cannot be read.
pub struct FileDifferences<'a> {
    sides: [&'a ComparedPlace<'a>; 2],
    files: [Peekable<MergedFiles<'a>>; 2],
    ignored: &'a IgnoredDifferences,
}

impl std::fmt::Debug for FileDifferences<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileDifferences").field("ignored", &self.ignored).finish_non_exhaustive()
    }
}

impl<'a> FileDifferences<'a> {
    pub(super) fn new(sides: [&'a ComparedPlace<'a>; 2], ignored: &'a IgnoredDifferences) -> Self {
        let files = sides.map(|side| MergedFiles::new(side.listings()).peekable());
        FileDifferences { sides, files, ignored }
    }

    /// Takes the entries for the next path of both images.
    fn next_pair(&mut self) -> Option<Result<[Option<MergedEntry>; 2]>> {
        let [ours, theirs] = &mut self.files;
        let order = match (ours.peek(), theirs.peek()) {
            (None, None) => return None,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(Ok(one)), Some(Ok(other))) => one.path.cmp(&other.path),
            // The error is returned below.
            (Some(_), Some(_)) => Ordering::Equal,
        };
        let one = ours.next_if(|_| order.is_le()).transpose();
        let other = theirs.next_if(|_| order.is_ge()).transpose();
        Some(one.and_then(|one| Ok([one, other?])))
    }

    fn compare(&self, pair: [Option<MergedEntry>; 2]) -> Result<Option<FileDifference>> {
        let [Some(before), Some(after)] = &pair else { return self.one_sided(pair).map(Some) };
        if self.sides[0].diff_id(before) == self.sides[1].diff_id(after) && before.node == after.node {
            return Ok(None);
        }
        let mut what = Vec::new();
        let (one, other) = (&before.node, &after.node);
        let mut add = |aspect, differs: bool| what.extend(differs.then_some(aspect));
        let is_implied = |kind: &ListedKind| *kind == ListedKind::ImpliedDirectory;
        let is_entry_only = one.kind.is_directory() && other.kind.is_directory() && one.kind != other.kind;
        add(FileAspect::Entry, is_entry_only);
        let is_same_kind = std::mem::discriminant(&one.kind) == std::mem::discriminant(&other.kind);
        add(FileAspect::Kind, !is_same_kind && !is_entry_only);
        add(FileAspect::Content, is_same_kind && self.has_other_content(before, after)?);
        add(FileAspect::Target, is_same_kind && has_other_target(&one.kind, &other.kind));
        // A directory without an entry has no attributes.
        let has_attributes = !is_implied(&one.kind) && !is_implied(&other.kind);
        add(FileAspect::Mode, has_attributes && one.mode != other.mode);
        add(FileAspect::Owner, has_attributes && (one.uid, one.gid) != (other.uid, other.gid));
        let counts_times = !self.ignored.contains(&IgnoredDifference::Times);
        let records = (self.sides[0].known_record(before), self.sides[1].known_record(after));
        let has_other_fraction = || matches!(records, (Some(one), Some(other)) if one.time != other.time);
        let has_other_time = || one.mtime != other.mtime || has_other_fraction();
        add(FileAspect::Time, has_attributes && counts_times && has_other_time());
        add(FileAspect::Xattrs, has_attributes && one.xattrs != other.xattrs);
        let is_device = matches!(one.kind, ListedKind::CharacterDevice | ListedKind::BlockDevice) && is_same_kind;
        if what.is_empty() && is_device {
            // The numbers are only in the hash of the whole node.
            let differs = matches!(records, (Some(one), Some(other)) if one.node != other.node);
            what.extend(differs.then_some(FileAspect::Device));
        }
        if what.is_empty() {
            return Ok(None);
        }
        let path = before.path.clone();
        let [before, after] = self.states(pair)?;
        Ok(Some(FileDifference { path, before, after, what }))
    }

    fn one_sided(&self, pair: [Option<MergedEntry>; 2]) -> Result<FileDifference> {
        let path = pair.iter().flatten().map(|entry| entry.path.clone()).next().unwrap_or_default();
        let [before, after] = self.states(pair)?;
        Ok(FileDifference { path, before, after, what: Vec::new() })
    }

    fn states(&self, pair: [Option<MergedEntry>; 2]) -> Result<[Option<ComparedFile>; 2]> {
        let [before, after] = pair;
        let state = |side: &ComparedPlace<'_>, entry: Option<MergedEntry>| {
            entry.map(|entry| {
                let is_file = matches!(entry.node.kind, ListedKind::File { .. });
                let content = side.known_record(&entry).filter(|_| is_file).map(|record| record.content);
                ComparedFile { entry: side.with_place_in_image(entry), content }
            })
        };
        Ok([state(self.sides[0], before), state(self.sides[1], after)])
    }

    fn has_other_content(&self, before: &MergedEntry, after: &MergedEntry) -> Result<bool> {
        let (ListedKind::File { size, .. }, ListedKind::File { size: other, .. }) =
            (&before.node.kind, &after.node.kind)
        else {
            return Ok(false);
        };
        if size != other {
            return Ok(true);
        }
        if self.sides[0].diff_id(before) == self.sides[1].diff_id(after) || *size == 0 {
            return Ok(false);
        }
        Ok(self.sides[0].content(before)? != self.sides[1].content(after)?)
    }
}

fn has_other_target(one: &ListedKind, other: &ListedKind) -> bool {
    match (one, other) {
        (ListedKind::Symlink { target }, ListedKind::Symlink { target: other })
        | (ListedKind::HardLink { target }, ListedKind::HardLink { target: other }) => target != other,
        _ => false,
    }
}

impl Iterator for FileDifferences<'_> {
    type Item = Result<FileDifference>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let pair = match self.next_pair()? {
                Ok(pair) => pair,
                Err(error) => return Some(Err(error)),
            };
            match self.compare(pair) {
                Ok(None) => {}
                Ok(Some(found)) => return Some(Ok(found)),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
