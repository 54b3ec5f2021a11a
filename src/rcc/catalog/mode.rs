//! Go's file modes, as a catalog records them.

/// `io/fs`: the bits that are not permissions.
const DIRECTORY: u32 = 1 << 31;
const SETUID: u32 = 1 << 23;
const SETGID: u32 = 1 << 22;
const STICKY: u32 = 1 << 20;
const PERMISSIONS: u32 = 0o777;

/// The kind of entry that a mode belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ModeOwner {
    File,
    Directory,
}

/// Converts `mode` to a Unix mode (permissions, setuid, setgid, sticky).
///
/// Returns `None` if it belongs to another kind of entry than `owner`.
pub(super) fn unix(mode: u32, owner: ModeOwner) -> Option<u32> {
    let type_bit = match owner {
        ModeOwner::File => 0,
        ModeOwner::Directory => DIRECTORY,
    };
    if mode & !(SETUID | SETGID | STICKY | PERMISSIONS) != type_bit {
        return None;
    }
    let special = [(SETUID, 0o4000), (SETGID, 0o2000), (STICKY, 0o1000)];
    let special = special.into_iter().filter(|(bit, _)| mode & bit != 0).map(|(_, unix)| unix).sum::<u32>();
    Some(mode & PERMISSIONS | special)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gos_modes_become_unix_modes() {
        assert_eq!(unix(2_147_484_141, ModeOwner::Directory), Some(0o755));
        assert_eq!(unix(420, ModeOwner::File), Some(0o644));
        assert_eq!(unix(493 | 1 << 23, ModeOwner::File), Some(0o4755));
        assert_eq!(unix(0o777 | 1 << 22, ModeOwner::File), Some(0o2777));
        assert_eq!(unix(1 << 31 | 1 << 20 | 0o777, ModeOwner::Directory), Some(0o1777));
    }

    #[test]
    fn a_mode_of_something_else_is_none() {
        assert_eq!(unix(1 << 31 | 0o755, ModeOwner::File), None);
        assert_eq!(unix(0o755, ModeOwner::Directory), None);
        for bit in (9..32).filter(|bit| ![20, 22, 23, 31].contains(bit)) {
            assert_eq!(unix(1 << bit | 0o644, ModeOwner::File), None, "bit {bit}");
        }
    }
}
