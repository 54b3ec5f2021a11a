//! Owners and modes of the files in a restored space.

use super::files::attributes;
use super::{EnvironmentMode, ImagePaths};
use crate::layers::tree::{Attributes, Owner};

/// The owner of a space's files.
pub(super) enum Ownership {
    /// Root, and everyone can read: nothing can be changed, and files that only the recording user could read become
    /// readable by any user.
    Root,
    /// Root and the run user.
    ///
    /// RCC compares modes, so files that are not readable by everyone must belong to the run user. RCC also sets the
    /// times of directories, which requires their owner.
    User(Owner),
}

impl Ownership {
    pub(super) fn of(mode: EnvironmentMode, places: &ImagePaths) -> Ownership {
        match mode {
            EnvironmentMode::Ready => Ownership::User(places.user),
            EnvironmentMode::Sealed | EnvironmentMode::Direct | EnvironmentMode::Compact => Ownership::Root,
        }
    }

    pub(super) fn directory(&self) -> Attributes {
        match self {
            Ownership::Root => attributes(0o755, Owner::default()),
            Ownership::User(user) => attributes(0o755, *user),
        }
    }

    pub(super) fn file(&self, recorded: u32) -> Attributes {
        // Without setuid: a program that ran as the recording user must not run as root.
        let open = recorded & 0o777 | (recorded & 0o500) >> 3 | (recorded & 0o500) >> 6;
        match self {
            Ownership::User(user) if open != recorded => attributes(recorded, *user),
            Ownership::User(_) | Ownership::Root => attributes(open, Owner::default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_files_of_the_recorder_are_readable_for_the_run_user() {
        let user = Owner { uid: 1000, gid: 0 };
        let kept = |keeper: &Ownership, mode| {
            let Attributes { mode, uid, .. } = keeper.file(mode);
            (u32::from(mode), uid)
        };
        for (recorded, open) in [(0o644, 0o644), (0o600, 0o644), (0o700, 0o755), (0o555, 0o555), (0o4755, 0o755)] {
            assert_eq!(kept(&Ownership::Root, recorded), (open, 0), "{recorded:o}");
            let owner = if recorded == open { 0 } else { 1000 };
            assert_eq!(kept(&Ownership::User(user), recorded), (recorded, owner), "{recorded:o}");
        }
        assert_eq!(Ownership::User(user).directory().uid, 1000);
    }
}
