//! Directories of the new layer, and what hides files of the layers below it.

use super::output::{TarOutput, ambiguous, header};
use crate::codec::tar::EntryType;
use crate::common::error::{Error, Result};
use crate::layers::rootfs::{ListedKind, ListedNode, MergedPath, PathLookup, Rootfs};
use crate::spec::ImagePath;

/// Writes directories, whiteouts and opaque markers, for paths in the order of their bytes.
pub(super) struct Markers<'m, 'o> {
    below: &'m Rootfs<'m>,
    output: &'m mut TarOutput<'o>,
    /// The directories in which nothing of the layers below is visible any more.
    hidden: Vec<Vec<u8>>,
    /// The directories without an entry, whose files may still come. Each is in the one before it, or beside it.
    implied: Vec<ImpliedPath>,
}

/// A directory that exists only because layers have files in it.
struct ImpliedPath {
    path: Vec<u8>,
    node: ListedNode,
    /// Whether the layers below have nothing left there.
    replaces_below: bool,
    /// The lowest layer whose entries in it are younger than every deletion of it.
    exists_from: usize,
    /// Whether a layer has made it, by an entry in it. Deletions alone make no directory.
    is_real: bool,
    /// Whether something in it is visible in the end, so that engines make it without an entry.
    is_needed: bool,
}

/// What the layers below have at a path.
#[derive(PartialEq, Eq)]
enum Below {
    Nothing,
    Directory,
    /// A directory without an entry, which some engines do not make for deletions alone.
    ImpliedDirectory,
    Other,
}

impl<'m, 'o> Markers<'m, 'o> {
    pub(super) fn new(below: &'m Rootfs<'m>, output: &'m mut TarOutput<'o>) -> Self {
        Markers { below, output, hidden: Vec::new(), implied: Vec::new() }
    }

    /// Goes on to the path `merged`, which comes after all before it.
    ///
    /// # Errors
    /// Fails if engines unpack the layers to different files there, a layer below cannot be read, or the output fails.
    pub(super) fn advance(&mut self, merged: &MergedPath) -> Result<()> {
        while self.implied.last().is_some_and(|last| !may_contain(&last.path, &merged.path)) {
            self.finish_last()?;
        }
        let is_plain = matches!(&merged.found, Some((_, node)) if node.kind == ListedKind::ImpliedDirectory);
        let follows_a_link = merged.begins_implied
            && (!is_plain || merged.hides_below)
            && self.look_below(&merged.path)? == Below::Other;
        if merged.is_ambiguous || follows_a_link {
            return Err(ambiguous(&merged.path));
        }
        let Some(last_node) = merged.last_node else { return Ok(()) };
        let is_visible = merged.found.as_ref().is_some_and(|(_, node)| node.kind != ListedKind::ImpliedDirectory);
        for number in 0..self.implied.len() {
            let above = &mut self.implied[number];
            if !is_above(&above.path, &merged.path) || last_node < above.exists_from {
                continue;
            }
            above.is_needed |= is_visible;
            let is_first = !std::mem::replace(&mut above.is_real, true);
            if is_first && above.replaces_below {
                let (path, node) = (above.path.clone(), above.node.clone());
                self.write_directory(&path, &node)?;
                self.write_opaque(&path)?;
            }
        }
        Ok(())
    }

    /// Ends the paths.
    pub(super) fn finish(mut self) -> Result<()> {
        while !self.implied.is_empty() {
            self.finish_last()?;
        }
        Ok(())
    }

    /// Writes a whiteout for a path that is deleted, or a marker for a directory that is emptied, if the layers below have it.
    pub(super) fn deleted(&mut self, merged: &MergedPath) -> Result<()> {
        if merged.replaces_below {
            return self.write_whiteout(&merged.path);
        }
        if merged.hides_below {
            self.write_opaque(&merged.path)?;
            self.hidden.push(merged.path.clone());
        }
        Ok(())
    }

    /// Writes a directory, and a marker if it hides one of the layers below.
    pub(super) fn directory(&mut self, merged: &MergedPath, node: &ListedNode) -> Result<()> {
        let MergedPath { path, hides_below, replaces_below, exists_from, .. } = merged;
        let is_implied = node.kind == ListedKind::ImpliedDirectory && !path.is_empty();
        if node.kind == ListedKind::Directory {
            self.write_directory(path, node)?;
        }
        // One without an entry that is deleted before is written with the first file in it.
        if *hides_below && !(is_implied && *replaces_below) {
            self.write_opaque(path)?;
        }
        if is_implied {
            self.implied.push(ImpliedPath {
                path: path.clone(),
                node: node.clone(),
                replaces_below: *replaces_below,
                exists_from: *exists_from,
                is_real: false,
                is_needed: false,
            });
        }
        if *hides_below {
            self.hidden.push(path.clone());
        }
        Ok(())
    }

    /// Decides about the last directory without an entry, all of whose files have come.
    fn finish_last(&mut self) -> Result<()> {
        let Some(last) = self.implied.pop() else { return Ok(()) };
        if last.replaces_below {
            return if last.is_real { Ok(()) } else { self.write_whiteout(&last.path) };
        }
        // An engine has made it for files that were deleted later.
        let may_be_missing = |below| matches!(below, Below::Nothing | Below::ImpliedDirectory);
        if last.is_real && !last.is_needed && may_be_missing(self.look_below(&last.path)?) {
            self.write_directory(&last.path, &last.node)?;
        }
        Ok(())
    }

    fn write_directory(&mut self, path: &[u8], node: &ListedNode) -> Result<()> {
        let path = if path.is_empty() { b"." } else { path };
        self.output.header(&header(path, EntryType::Directory, node))
    }

    fn write_whiteout(&mut self, path: &[u8]) -> Result<()> {
        if path.is_empty() || self.look_below(path)? == Below::Nothing {
            return Ok(());
        }
        let name = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        self.write_marker(&[&path[..name], b".wh.", &path[name..]].concat())
    }

    fn write_opaque(&mut self, path: &[u8]) -> Result<()> {
        if !matches!(self.look_below(path)?, Below::Directory | Below::ImpliedDirectory) {
            return Ok(());
        }
        let slash: &[u8] = if path.is_empty() { b"" } else { b"/" };
        self.write_marker(&[path, slash, b".wh..wh..opq"].concat())
    }

    fn write_marker(&mut self, path: &[u8]) -> Result<()> {
        let (kind, xattrs) = (ListedKind::ImpliedDirectory, Box::default());
        let node = ListedNode { kind, mode: 0o644, uid: 0, gid: 0, mtime: 0, xattrs };
        self.output.header(&header(path, EntryType::File, &node))
    }

    /// Returns what is at `path` in the layers below, as far as visible through the directories of the new layer.
    fn look_below(&mut self, path: &[u8]) -> Result<Below> {
        self.hidden.retain(|above| may_contain(above, path));
        if self.below.is_empty() || self.hidden.iter().any(|above| is_above(above, path)) {
            return Ok(Below::Nothing);
        }
        match self.below.look(&ImagePath::new(path)?)? {
            PathLookup::Absent => Ok(Below::Nothing),
            PathLookup::Node(found) => Ok(match found.node.kind {
                ListedKind::Directory => Below::Directory,
                ListedKind::ImpliedDirectory => Below::ImpliedDirectory,
                _ => Below::Other,
            }),
            PathLookup::Unseen(unseen) => Err(Error::invalid("layers below", unseen.reason).hint(unseen.hint)),
        }
    }
}

/// Returns whether `path` is in the directory `above`.
fn is_above(above: &[u8], path: &[u8]) -> bool {
    match above {
        b"" => !path.is_empty(),
        above => path.strip_prefix(above).is_some_and(|rest| rest.starts_with(b"/")),
    }
}

/// Returns whether paths in the directory `above` may come at or after `path`, in the order of their bytes. Names that begin with
/// that of the directory and go on with a smaller byte than a slash come before its files.
fn may_contain(above: &[u8], path: &[u8]) -> bool {
    above.is_empty() || path.strip_prefix(above).is_some_and(|rest| rest.first().is_none_or(|byte| *byte <= b'/'))
}
