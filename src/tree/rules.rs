//! How source files become entries, the same way on every machine.

use super::{Attributes, IgnoreRules};
use crate::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

/// What a copy does with owners, modes, times and oddities.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Who owns what.
    pub owners: Owners,
    /// Who may do what.
    pub modes: Modes,
    /// The one modification time.
    pub mtime: Timestamp,
    /// What is left out.
    pub ignore: IgnoreRules,
    /// Whether extended attributes are kept.
    pub xattrs: ExtendedAttributes,
    /// What happens to devices, sockets and pipes.
    pub special_files: SpecialFiles,
    /// Files that are copied differently from what they are on this machine.
    pub changes: FileChanges,
}

/// Files of a copied directory that are copied differently, by their paths in it.
#[derive(Debug, Clone, Default)]
pub struct FileChanges {
    /// Files that count as executable, whatever their own mode is.
    pub programs: BTreeSet<PathBuf>,
    /// Files that get another content.
    pub contents: BTreeMap<PathBuf, Arc<[u8]>>,
}

impl FileChanges {
    /// Returns the mode that the file at `path` counts with; its own one is `mode`.
    pub(super) fn mode(&self, path: impl FnOnce() -> PathBuf, mode: u32) -> u32 {
        if !self.programs.is_empty() && self.programs.contains(&path()) { mode | 0o111 } else { mode }
    }

    /// Returns the content that replaces that of the file at `path`.
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

/// Where owners come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owners {
    /// Everything belongs to this one.
    Set(Owner),
    /// Everything belongs to whom it belongs in the source.
    Keep,
}

/// What a source says of who may do what with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// The permission bits; what is above them does not count.
    pub mode: u32,
    /// Who owns the file.
    pub owner: Owner,
}

impl Access {
    /// That of a file of root.
    #[cfg(test)]
    pub(crate) fn of_root(mode: u32) -> Self {
        Access { mode, owner: Owner::default() }
    }
}

/// Where permission bits come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Modes {
    /// 0755 for directories and executable files, 0644 for others: what git keeps, and independent of the umask under which
    /// a tree was checked out. Setuid, setgid and sticky bits are dropped. A file that only its owner can read stays so, with
    /// 0700 or 0600, unless that holds for all of its directory, which is what a umask of 077 makes.
    Normal,
    /// As `Normal`, and the group may do what the owner may: 0775 and 0664. What a container needs that runs under any user
    /// of one group. A file that only its owner can read stays so here, too.
    GroupAsOwner,
    /// All twelve bits of the file, less setuid, setgid and sticky where the owner that gives them a meaning changes.
    Preserve,
    /// These bits for files; directories get execute wherever they get read.
    Set(u16),
}

/// Whether extended attributes, file capabilities among them, are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtendedAttributes {
    /// They are dropped.
    Drop,
    /// They are kept, except for SELinux labels, which belong to the host.
    Keep,
}

/// What happens to files that are neither regular, nor directories, nor links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpecialFiles {
    /// They are an error.
    Refuse,
    /// They are left out.
    Skip,
}

/// What to do about special files. Engines make /dev themselves, and most of them refuse layers with devices in them.
pub(super) const SPECIAL_HINT: &str = "--skip-special excludes such files; engines make devices themselves";

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
        }
    }
}

impl Rules {
    /// The attributes of a regular file that is in the source as `own` says.
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

    /// Opens what was kept closed: under a umask of 077 every file is closed, so that modes say nothing of a single one.
    pub(super) fn open(&self, attributes: &mut Attributes) {
        let executable = attributes.mode & 0o100;
        match self.modes {
            Modes::Normal => attributes.mode = 0o644 | executable | executable >> 3 | executable >> 6,
            Modes::GroupAsOwner => attributes.mode = 0o664 | executable | executable >> 3 | executable >> 6,
            Modes::Preserve | Modes::Set(_) => {}
        }
    }

    /// Which of the special bits that a file has would mean something else under the owner that it gets. They go.
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

    /// The attributes of a directory that is in the source as `own` says.
    pub fn directory(&self, own: Access) -> Attributes {
        let mode = match self.modes {
            Modes::Normal => 0o755,
            Modes::GroupAsOwner => 0o775,
            Modes::Preserve => (own.mode & 0o7777) as u16,
            Modes::Set(bits) => bits | (bits & 0o444) >> 2,
        };
        self.attributes(mode, own.owner)
    }

    /// The attributes of a symbolic link of `owner`. Linux gives every link the mode 0777.
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
        // M18: what only its owner could read.
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
