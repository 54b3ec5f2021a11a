//! Placement of a layer's entries on the layers below it.
//!
//! As with `COPY` of docker and podman, links on the way to an entry are followed, and directories that the entry needs stay
//! unchanged: they keep mode and owner. Entries that a source names get the attributes of the source. If that would hide
//! something, such as a directory in the place of a link, the build fails and names the real path, because extractors would
//! replace the link.
//!
//! So the bytes of a layer depend only on its sources, and on the directories and links on the way to them. If a layer below is
//! unknown, entries that a source names can still be placed. A directory on the way whose attributes are unknown is an error.

use crate::build::image::default_directories;
use crate::common::error::{Error, ErrorKind, Result};
use crate::common::human_numbers::counted;
use crate::common::progress::{Progress, warn};
use crate::layers::rootfs::{ListedKind, PathLookup, Resolved, Rootfs, StackedEntry, Unseen};
use crate::layers::tree::{Attributes, Entry, EntryOrigin, Kind, Rules, Tree, TreeBuilder, Xattrs};
use crate::spec::ImagePath;
use std::collections::{BTreeMap, BTreeSet};

/// Checks that were skipped because a layer below is unknown.
#[derive(Debug, Default)]
pub(super) struct Unchecked {
    questions: Vec<String>,
    because: Option<Unseen>,
}

impl Unchecked {
    /// Records that `question` could not be checked.
    pub(super) fn note(&mut self, question: impl Into<String>, because: &Unseen) {
        let question = question.into();
        if !self.questions.contains(&question) {
            self.questions.push(question);
        }
        self.because.get_or_insert_with(|| because.clone());
    }

    /// Prints one warning for all skipped checks, if there are any.
    pub(super) fn warn(&self, progress: &dyn Progress) {
        if let Some(Unseen { reason, hint }) = &self.because {
            let questions = self.questions.join("; ");
            warn(progress, "base image", &format!("{reason}, so this was not checked: {questions} ({hint})"));
        }
    }
}

/// Places a layer on the layers below.
pub(super) struct Placer<'a> {
    /// The layers below.
    pub(super) rootfs: &'a Rootfs<'a>,
    /// The attributes of directories that no layer below has.
    pub(super) rules: &'a Rules,
    pub(super) unchecked: &'a mut Unchecked,
    pub(super) progress: &'a dyn Progress,
}

/// The maximum number of times that a layer is placed again because links led to further links.
const MOST_ROUNDS: usize = 40;

impl Placer<'_> {
    /// Places `tree` on the layers below.
    ///
    /// # Errors
    /// Fails if a link points outside or in a loop, an entry would replace an entry of another kind, a path to remove is
    /// missing, or the result depends on a layer whose content is unknown.
    pub(super) fn place(&mut self, mut tree: Tree) -> Result<Tree> {
        for _ in 0..MOST_ROUNDS {
            let Placement { attributes, moves } = self.look_below(&tree)?;
            for (number, attributes) in attributes {
                tree.set_attributes(number, attributes);
            }
            if moves.is_empty() {
                return Ok(tree);
            }
            tree = self.moved(&tree, &moves)?;
        }
        Err(Error::invalid("layer", "too many levels of symbolic links below it"))
    }

    fn look_below(&mut self, tree: &Tree) -> Result<Placement> {
        let mut placement = Placement::default();
        // Only entries in directories that exist below can meet something there.
        let mut below = BTreeSet::new();
        let usual = default_directories(self.rules.mtime);
        let mut differing = Differing::default();
        for number in 0..tree.len() {
            let meets_something = tree.parent(number).is_none_or(|parent| below.contains(&parent));
            if !meets_something && !tree.is_removal(number) {
                continue;
            }
            let Some(entry) = tree.entry(number) else { continue };
            if let Some(removed) = Tree::removed_by(&entry) {
                let is_moved = tree.parent(number).is_some_and(|parent| placement.is_moved(tree, parent));
                if !is_moved {
                    self.check_removal(&removed)?;
                }
                continue;
            }
            let is_replaced = tree.removes(&entry.path);
            let found = if is_replaced { PathLookup::Absent } else { self.rootfs.look(&entry.path)? };
            let origin = tree.origin(number);
            if origin != EntryOrigin::Named {
                match self.implied(&entry, found)? {
                    Implied::New => {
                        let attributes = usual.get(&entry.path).filter(|_| origin == EntryOrigin::Implied);
                        placement.attributes.extend(attributes.map(|attributes| (number, attributes.clone())));
                    }
                    Implied::Kept(attributes) => {
                        below.insert(number);
                        placement.attributes.push((number, attributes));
                    }
                    Implied::Moved(real) => drop(placement.moves.insert(entry.path, real)),
                }
            } else if self.named(&entry, found, &mut differing)? == Meets::Directory {
                below.insert(number);
            }
        }
        if placement.moves.is_empty() {
            differing.warn(self.progress);
        }
        Ok(placement)
    }

    /// Decides what becomes of a parent directory that an entry needs and no source names.
    fn implied(&self, entry: &Entry, found: PathLookup) -> Result<Implied> {
        let path = &entry.path;
        let below = match found {
            PathLookup::Absent => return Ok(Implied::New),
            PathLookup::Node(below) => below,
            PathLookup::Unseen(unseen) => return Err(unknown(path, &unseen)),
        };
        if below.node.kind.is_directory() {
            return Ok(Implied::Kept(kept_attributes(&below, entry.attributes.mtime)));
        }
        if !matches!(below.node.kind, ListedKind::Symlink { .. }) {
            let reason = "is a file in a layer below, but a parent directory of a path in this layer";
            return Err(Error::invalid(path.to_string(), reason));
        }
        match self.rootfs.resolve(path)? {
            Resolved::Node(real, below) if below.node.kind.is_directory() => Ok(Implied::Moved(real)),
            // A dangling link: the target is created, as by COPY.
            Resolved::Absent(real) => Ok(Implied::Moved(real)),
            Resolved::Unseen(at, unseen) => Err(unknown(&at, &unseen)),
            Resolved::Node(real, _) | Resolved::NoDirectory(real) => Err(Error::invalid(
                path.to_string(),
                format!("is a link to {real} in a layer below, which is not a directory"),
            )),
            Resolved::Circle => Err(Error::invalid(path.to_string(), "is a symbolic link loop in a layer below")),
        }
    }

    /// Checks an entry that a source names against `found`, what is below.
    fn named(&mut self, entry: &Entry, found: PathLookup, differing: &mut Differing) -> Result<Meets> {
        let path = &entry.path;
        let below = match found {
            PathLookup::Absent => return Ok(Meets::Nothing),
            PathLookup::Node(below) => below,
            PathLookup::Unseen(unseen) => {
                self.unchecked.note("whether a path of this image hides a link or a directory of the base", &unseen);
                // The entries in it may meet something as well, and cannot be checked either.
                return Ok(Meets::Nothing);
            }
        };
        let is_directory = matches!(entry.kind, Kind::Directory);
        let refuse = |reason: String, hint: String| Err(Error::invalid(path.to_string(), reason).hint(hint));
        match (&below.node.kind, &entry.kind) {
            (kind, Kind::Directory) if kind.is_directory() => {
                differing.compare(entry, &below);
                Ok(Meets::Directory)
            }
            (kind, _) if kind.is_directory() => refuse(
                "is a directory in a layer below; a file would hide its content".to_owned(),
                match entry.kind {
                    Kind::Symlink { .. } => format!("to replace it, first --remove {path}"),
                    _ => format!(
                        "to copy into the directory, end DST with a slash: {path}/; to replace it, first --remove {path}"
                    ),
                },
            ),
            (ListedKind::Symlink { .. }, Kind::Symlink { .. }) => Ok(Meets::Nothing),
            (ListedKind::Symlink { .. }, _) => match self.rootfs.resolve(path)? {
                Resolved::Node(real, below) if below.node.kind.is_directory() => refuse(
                    format!("is a link to {real} in a layer below, which would be replaced"),
                    if is_directory {
                        format!("copy to {real}; to replace the link, first --remove {path}")
                    } else {
                        format!("to copy into the directory, end DST with a slash: {path}/")
                    },
                ),
                Resolved::Absent(real) if is_directory => refuse(
                    format!("is a link to {real} in a layer below, which would be replaced"),
                    format!("copy to {real}; to replace the link, first --remove {path}"),
                ),
                // A link to a file is replaced, as by COPY.
                _ if !is_directory => Ok(Meets::Nothing),
                _ => refuse("is a link in a layer below, not a directory".to_owned(), format!("first --remove {path}")),
            },
            (_, Kind::Directory) => refuse(
                "is a file in a layer below, which a directory would replace".to_owned(),
                format!("first --remove {path}, in a separate layer"),
            ),
            _ => Ok(Meets::Nothing),
        }
    }

    fn check_removal(&mut self, removed: &ImagePath) -> Result<()> {
        match self.rootfs.look(removed)? {
            PathLookup::Node(_) => Ok(()),
            PathLookup::Absent => {
                let reason = "not found in the layers below, so there is nothing to remove";
                Err(Error::new(ErrorKind::NotFound, removed.to_string(), reason))
            }
            PathLookup::Unseen(unseen) => {
                self.unchecked.note(format!("whether {removed} is there to be removed"), &unseen);
                Ok(())
            }
        }
    }

    /// Returns the entries with the real paths of those in moved directories.
    fn moved(&self, tree: &Tree, moves: &BTreeMap<ImagePath, ImagePath>) -> Result<Tree> {
        let real = |path: &ImagePath| -> Result<ImagePath> {
            let mut above = path.parent();
            while let Some(directory) = above {
                if let Some(real) = moves.get(&directory) {
                    let below = path.as_bytes().get(directory.as_bytes().len()..).unwrap_or_default();
                    return real.join(&ImagePath::new(below)?);
                }
                above = directory.parent();
            }
            Ok(path.clone())
        };
        let mut builder = TreeBuilder::new(self.rules);
        for (number, entry) in tree.entries().enumerate() {
            match tree.origin(number) {
                EntryOrigin::Implied => continue,
                EntryOrigin::Destination => {
                    if !moves.contains_key(&entry.path) {
                        builder.add_destination(&real(&entry.path)?, entry.attributes)?;
                    }
                    continue;
                }
                EntryOrigin::Named => {}
            }
            if let Some(removed) = Tree::removed_by(&entry) {
                builder.remove(&real(&removed)?)?;
                continue;
            }
            let kind = match entry.kind {
                Kind::HardLink { target } => Kind::HardLink { target: real(&target)? },
                kind => kind,
            };
            builder.add(Entry { path: real(&entry.path)?, kind, attributes: entry.attributes })?;
        }
        builder.finish()
    }
}

/// The result of resolving entries in the layers below.
#[derive(Default)]
struct Placement {
    /// Replacements of entries, by their numbers.
    attributes: Vec<(usize, Attributes)>,
    /// Directories that are links below, with the targets of the links.
    moves: BTreeMap<ImagePath, ImagePath>,
}

impl Placement {
    /// Returns `true` if the directory `number`, or one above it, was moved.
    fn is_moved(&self, tree: &Tree, number: usize) -> bool {
        let mut path = tree.entry(number).map(|entry| entry.path);
        while let Some(here) = path {
            if self.moves.contains_key(&here) {
                return true;
            }
            path = here.parent();
        }
        false
    }
}

enum Implied {
    /// It does not exist below and is created.
    New,
    /// It exists below, with these attributes.
    Kept(Attributes),
    /// It is a link to this path.
    Moved(ImagePath),
}

/// The kinds of entries that an entry can meet below.
#[derive(PartialEq, Eq)]
enum Meets {
    /// No entry, or an entry that it replaces.
    Nothing,
    /// A directory, if the entry is a directory too.
    Directory,
}

/// Directories that a source names and whose attributes differ below.
#[derive(Default)]
struct Differing {
    count: usize,
    first: Option<(ImagePath, String)>,
}

impl Differing {
    fn compare(&mut self, entry: &Entry, below: &StackedEntry) {
        let (own, below) = (&entry.attributes, &below.node);
        // Programs may rely on these attributes; more permissions, or another owner than root, are usually intended.
        let loses_bits = below.mode & !own.mode & 0o7022 != 0;
        let loses_owner = (below.uid, below.gid) != (0, 0) && (below.uid, below.gid) != (own.uid, own.gid);
        if loses_bits || loses_owner {
            self.count += 1;
            self.first.get_or_insert_with(|| {
                let was = format!("{:04o} {}:{}", below.mode, below.uid, below.gid);
                (entry.path.clone(), format!("{was} below, and becomes {:04o} {}:{}", own.mode, own.uid, own.gid))
            });
        }
    }

    fn warn(&self, progress: &dyn Progress) {
        if let Some((path, change)) = &self.first {
            let more = match self.count {
                1 => String::new(),
                count => format!("; so do {} more", counted(count - 1, "directory")),
            };
            let reason = format!("is {change}{more} (to keep its attributes, end DST with a slash)");
            warn(progress, &path.to_string(), &reason);
        }
    }
}

/// Returns the attributes that a directory has below, with the time `mtime`, since its content changes.
pub(super) fn kept_attributes(below: &StackedEntry, mtime: i64) -> Attributes {
    // Security labels and other attributes of the machine that built the base are not copied.
    let is_kept = |name: &[u8]| name.starts_with(b"user.") || name.starts_with(b"system.posix_acl_");
    let xattrs = below.node.xattrs.iter().filter(|(name, _)| is_kept(name)).cloned();
    let xattrs: Box<Xattrs> = xattrs.collect::<Vec<_>>().into();
    Attributes {
        mode: below.node.mode,
        uid: below.node.uid,
        gid: below.node.gid,
        mtime,
        xattrs: (!xattrs.is_empty()).then_some(xattrs),
    }
}

/// Returns the error for a directory at `path`, which depends on a layer whose content is unknown.
pub(super) fn unknown(path: &ImagePath, Unseen { reason, hint }: &Unseen) -> Error {
    let reason = format!("its mode, owner and type are unknown: {reason}");
    Error::new(ErrorKind::NotFound, path.to_string(), reason).hint(hint)
}

/// Checks that no directory that a layer describes is a link or a file below. They are described so that
/// the layer is the same on every base.
///
/// # Errors
/// Fails if one of them is a link or a file below.
pub(super) fn check_described<'p>(
    described: impl Iterator<Item = &'p ImagePath>,
    rootfs: &Rootfs<'_>,
    unchecked: &mut Unchecked,
) -> Result<()> {
    for path in described {
        match rootfs.resolve(path)? {
            Resolved::Unseen(_, unseen) => unchecked.note("whether the base has links where the robot goes", &unseen),
            Resolved::Node(real, below) if real == *path && below.node.kind.is_directory() => {}
            Resolved::Absent(real) if real == *path => {}
            Resolved::Node(real, _) | Resolved::Absent(real) | Resolved::NoDirectory(real) => {
                let reason = format!("is {real} in a layer below, or not a directory, and would be replaced");
                return Err(Error::invalid(path.to_string(), reason).hint("use another --home or another base"));
            }
            Resolved::Circle => {
                return Err(Error::invalid(path.to_string(), "is a symbolic link loop in a layer below"));
            }
        }
    }
    Ok(())
}
