//! How source files become entries, the same way on every machine.

use super::{Attributes, IgnoreRules};
use crate::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

/// What a copy does with owners, modes, times and oddities.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Who owns everything.
    pub owner: Owner,
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

/// Where permission bits come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Modes {
    /// 0755 for directories and executable files, 0644 for others: what git keeps, and independent of the umask under which
    /// a tree was checked out. Setuid, setgid and sticky bits are dropped.
    Normal,
    /// As `Normal`, and the group may do what the owner may: 0775 and 0664. What a container needs that runs under any user
    /// of one group.
    GroupAsOwner,
    /// All twelve bits of the file.
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

impl Default for Rules {
    fn default() -> Self {
        Rules {
            owner: Owner::default(),
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
    /// The attributes of a regular file whose own mode is `mode`.
    pub fn file(&self, mode: u32) -> Attributes {
        self.attributes(match self.modes {
            Modes::Normal if mode & 0o100 != 0 => 0o755,
            Modes::Normal => 0o644,
            Modes::GroupAsOwner if mode & 0o100 != 0 => 0o775,
            Modes::GroupAsOwner => 0o664,
            Modes::Preserve => (mode & 0o7777) as u16,
            Modes::Set(bits) => bits,
        })
    }

    /// The attributes of a directory whose own mode is `mode`.
    pub fn directory(&self, mode: u32) -> Attributes {
        self.attributes(match self.modes {
            Modes::Normal => 0o755,
            Modes::GroupAsOwner => 0o775,
            Modes::Preserve => (mode & 0o7777) as u16,
            Modes::Set(bits) => bits | (bits & 0o444) >> 2,
        })
    }

    /// The attributes of a symbolic link. Linux gives every link the mode 0777.
    pub fn symlink(&self) -> Attributes {
        self.attributes(0o777)
    }

    fn attributes(&self, mode: u16) -> Attributes {
        Attributes { mode, uid: self.owner.uid, gid: self.owner.gid, mtime: self.mtime.seconds(), xattrs: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_follow_the_policy_and_not_the_umask() {
        let mode = |modes: Modes, own: u32| {
            let rules = Rules { modes, ..Rules::default() };
            (rules.file(own).mode, rules.directory(own).mode)
        };
        assert_eq!(mode(Modes::Normal, 0o100_600), (0o644, 0o755));
        assert_eq!(mode(Modes::Normal, 0o104_700), (0o755, 0o755));
        assert_eq!(mode(Modes::GroupAsOwner, 0o100_700), (0o775, 0o775));
        assert_eq!(mode(Modes::Preserve, 0o104_711), (0o4711, 0o4711));
        assert_eq!(mode(Modes::Set(0o640), 0o777), (0o640, 0o750));
        assert_eq!(mode(Modes::Set(0o444), 0), (0o444, 0o555));
    }
}
