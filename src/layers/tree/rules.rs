//! The rules by which source files become entries, the same on every machine.

use super::{Attributes, IgnoreRules, PythonEnvironments};
use crate::common::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

/// The handling of owners, modes, times and special files in a copy.
///
/// By default everything belongs to root, modes are [`Modes::Normal`], and times are the Unix epoch.
///
/// ```
/// use ocibuild::Rules;
/// use ocibuild::layers::tree::{Modes, Owner, Owners};
///
/// let rules = Rules::default().owners(Owners::Set(Owner { uid: 1000, gid: 1000 })).modes(Modes::Preserve);
/// assert_eq!(rules.modes, Modes::Preserve);
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Rules {
    /// Owners of the entries.
    pub owners: Owners,
    /// Permission bits of the entries.
    pub modes: Modes,
    /// Modification time of all entries.
    pub mtime: Timestamp,
    /// Patterns of excluded files.
    pub ignore: IgnoreRules,
    /// Whether extended attributes are kept.
    pub xattrs: ExtendedAttributes,
    /// The handling of devices, sockets and pipes.
    pub special_files: SpecialFiles,
    /// Files that are changed when they are copied.
    pub changes: FileChanges,
    /// The handling of Python virtual environments.
    pub python: PythonEnvironments,
}

/// Files of a copied directory that are changed when they are copied, by their paths in it.
#[derive(Debug, Clone, Default)]
pub struct FileChanges {
    /// Files that count as executable, independent of their own modes.
    pub programs: BTreeSet<PathBuf>,
    /// Files whose content is replaced.
    pub contents: BTreeMap<PathBuf, Arc<[u8]>>,
}

impl FileChanges {
    /// Returns the mode to use for the file at `path`, whose own mode is `mode`.
    pub(super) fn mode(&self, path: impl FnOnce() -> PathBuf, mode: u32) -> u32 {
        if !self.programs.is_empty() && self.programs.contains(&path()) { mode | 0o111 } else { mode }
    }

    /// Returns the content that replaces that of the file at `path`, if any.
    pub(super) fn content(&self, path: impl FnOnce() -> PathBuf) -> Option<&Arc<[u8]>> {
        if self.contents.is_empty() { None } else { self.contents.get(&path()) }
    }
}

/// A numeric owner and group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

/// The origin of owners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owners {
    /// Everything belongs to this owner.
    Set(Owner),
    /// Everything keeps its owner from the source.
    Keep,
}

/// The mode and owner of a file in its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// The permission bits; higher bits are ignored.
    pub mode: u32,
    /// The owner of the file.
    pub owner: Owner,
}

impl Access {
    /// Returns the access of a file that root owns.
    #[cfg(test)]
    pub(crate) fn of_root(mode: u32) -> Self {
        Access { mode, owner: Owner::default() }
    }
}

/// The origin of permission bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Modes {
    /// 0755 for directories and executable files, 0644 for others: the bits that git keeps, and independent of the umask
    /// under which a tree was checked out. Setuid, setgid and sticky bits are dropped. A file that only its owner can
    /// read stays private, with 0700 or 0600, unless that holds for all files of the source, which is the effect of a
    /// umask of 077.
    Normal,
    /// Like `Normal`, with the permissions of the owner for the group: 0775 and 0664. A container that runs under any user
    /// of one group needs this. A file that only its owner can read stays private here, too.
    GroupAsOwner,
    /// All twelve bits of the file. Setuid, setgid and sticky are dropped if the owner that gives them a meaning changes.
    Preserve,
    /// These bits for files. Directories also get an execute bit for each read bit.
    Set(u16),
}

/// The handling of extended attributes, including file capabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtendedAttributes {
    /// They are dropped.
    Drop,
    /// They are kept, except for SELinux labels, which belong to the host.
    Keep,
}

/// The handling of files that are neither regular files, nor directories, nor links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpecialFiles {
    /// They are an error.
    Refuse,
    /// They are excluded.
    Skip,
}

/// The hint for special files. Container engines create /dev themselves, and most refuse layers with devices.
pub(super) const SPECIAL_HINT: &str = "--skip-special excludes it; container engines create devices themselves";

impl Default for Rules {
    fn default() -> Self {
        Rules {
            owners: Owners::Set(Owner::default()),
            modes: Modes::Normal,
            mtime: Timestamp::EPOCH,
            ignore: IgnoreRules::default(),
            xattrs: ExtendedAttributes::Drop,
            special_files: SpecialFiles::Refuse,
            changes: FileChanges::default(),
            python: PythonEnvironments::Keep,
        }
    }
}

impl Rules {
    /// Sets the owners of the entries.
    #[must_use]
    pub fn owners(self, owners: Owners) -> Self {
        Rules { owners, ..self }
    }

    /// Sets the permission bits of the entries.
    #[must_use]
    pub fn modes(self, modes: Modes) -> Self {
        Rules { modes, ..self }
    }

    /// Sets the modification time of all entries.
    #[must_use]
    pub fn mtime(self, mtime: Timestamp) -> Self {
        Rules { mtime, ..self }
    }

    /// Sets the patterns of excluded files.
    #[must_use]
    pub fn ignore(self, ignore: IgnoreRules) -> Self {
        Rules { ignore, ..self }
    }

    /// Sets whether extended attributes are kept.
    #[must_use]
    pub fn xattrs(self, xattrs: ExtendedAttributes) -> Self {
        Rules { xattrs, ..self }
    }

    /// Sets the handling of Python virtual environments. They are kept unchanged by default.
    #[must_use]
    pub fn python(self, python: PythonEnvironments) -> Self {
        Rules { python, ..self }
    }

    /// Sets the handling of devices, sockets and pipes.
    #[must_use]
    pub fn special_files(self, special_files: SpecialFiles) -> Self {
        Rules { special_files, ..self }
    }

    /// Returns the attributes of a regular file whose mode and owner in the source are `own`.
    pub fn file(&self, own: Access) -> Attributes {
        let is_program = own.mode & 0o100 != 0;
        let is_private = own.mode & 0o044 == 0;
        let mode = match self.modes {
            Modes::Normal | Modes::GroupAsOwner if is_private => 0o600 | (own.mode & 0o100) as u16,
            Modes::Normal if is_program => 0o755,
            Modes::Normal => 0o644,
            Modes::GroupAsOwner if is_program => 0o775,
            Modes::GroupAsOwner => 0o664,
            Modes::Preserve => (own.mode & 0o7777) as u16 & !self.lost_bits(own),
            Modes::Set(bits) => bits,
        };
        self.attributes(mode, own.owner)
    }

    /// Opens a private file. Under a umask of 077 every file is private, so the modes say nothing about a single file.
    pub(super) fn open(&self, attributes: &mut Attributes) {
        let executable = attributes.mode & 0o100;
        match self.modes {
            Modes::Normal => attributes.mode = 0o644 | executable | executable >> 3 | executable >> 6,
            Modes::GroupAsOwner => attributes.mode = 0o664 | executable | executable >> 3 | executable >> 6,
            Modes::Preserve | Modes::Set(_) => {}
        }
    }

    /// Returns the special bits of a file that would have another meaning under its new owner. They are dropped.
    pub(super) fn lost_bits(&self, own: Access) -> u16 {
        let Owner { uid, gid } = self.owner(own.owner);
        let mut lost = 0;
        if self.modes == Modes::Preserve && uid != own.owner.uid {
            lost |= 0o5000;
        }
        if self.modes == Modes::Preserve && gid != own.owner.gid {
            lost |= 0o2000;
        }
        lost & (own.mode & 0o7777) as u16
    }

    /// Returns the attributes of a directory whose mode and owner in the source are `own`.
    pub fn directory(&self, own: Access) -> Attributes {
        let mode = match self.modes {
            Modes::Normal => 0o755,
            Modes::GroupAsOwner => 0o775,
            Modes::Preserve => (own.mode & 0o7777) as u16,
            Modes::Set(bits) => bits | (bits & 0o444) >> 2,
        };
        self.attributes(mode, own.owner)
    }

    /// Returns the attributes of a symbolic link of `owner`. Linux gives every link the mode 0777.
    pub fn symlink(&self, owner: Owner) -> Attributes {
        self.attributes(0o777, owner)
    }

    fn attributes(&self, mode: u16, own: Owner) -> Attributes {
        let Owner { uid, gid } = self.owner(own);
        Attributes { mode, uid, gid, mtime: self.mtime.seconds(), xattrs: None }
    }

    fn owner(&self, own: Owner) -> Owner {
        match self.owners {
            Owners::Set(owner) => owner,
            Owners::Keep => own,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_follow_the_policy_and_not_the_umask() {
        let mode = |modes: Modes, own: u32| {
            let rules = Rules { modes, ..Rules::default() };
            (rules.file(Access::of_root(own)).mode, rules.directory(Access::of_root(own)).mode)
        };
        assert_eq!(mode(Modes::Normal, 0o100_640), (0o644, 0o755));
        assert_eq!(mode(Modes::Normal, 0o104_755), (0o755, 0o755));
        assert_eq!(mode(Modes::GroupAsOwner, 0o100_744), (0o775, 0o775));
        // M18: files that only their owner could read.
        assert_eq!(mode(Modes::Normal, 0o100_600), (0o600, 0o755));
        assert_eq!(mode(Modes::Normal, 0o104_700), (0o700, 0o755));
        assert_eq!(mode(Modes::GroupAsOwner, 0o100_400), (0o600, 0o775));
        assert_eq!(mode(Modes::GroupAsOwner, 0o100_711), (0o700, 0o775));
        assert_eq!(mode(Modes::Preserve, 0o104_711), (0o4711, 0o4711));
        assert_eq!(mode(Modes::Set(0o640), 0o777), (0o640, 0o750));
        assert_eq!(mode(Modes::Set(0o444), 0), (0o444, 0o555));
    }

    #[test]
    fn special_bits_go_with_the_owner_that_gives_them_a_meaning() {
        let mode = |owners: Owners, mode: u32, (uid, gid): (u32, u32)| {
            let rules = Rules { modes: Modes::Preserve, owners, ..Rules::default() };
            rules.file(Access { mode, owner: Owner { uid, gid } }).mode
        };
        let root = Owners::Set(Owner::default());
        assert_eq!(mode(root, 0o6755, (0, 0)), 0o6755);
        assert_eq!(mode(root, 0o6755, (0, 42)), 0o4755);
        assert_eq!(mode(root, 0o7755, (1000, 1000)), 0o755);
        assert_eq!(mode(Owners::Keep, 0o7755, (1000, 42)), 0o7755);
    }
}
