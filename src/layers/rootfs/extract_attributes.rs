//! Owners, modes, times and extended attributes of extracted files.

use super::entry::ListedNode;
use crate::codec::tar::{EntryType, TarEntry};
use crate::common::human_numbers::counted;
use crate::common::root::Root;
use cap_std::fs::Dir;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags, chmodat, chownat, fchmod, fchown,
    fsetxattr, futimens, lsetxattr, makedev, mknodat, symlinkat, utimensat,
};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Who extracts, which decides what extracted files can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtractAs {
    /// The superuser: files get their owners, and devices are made.
    Superuser,
    /// A user with these numbers, who owns all files. Programs of the image must not run with the rights of this user, so no file is
    /// setuid or setgid.
    User {
        /// The user.
        uid: u32,
        /// The group.
        gid: u32,
    },
}

impl ExtractAs {
    /// Returns who runs this process.
    pub fn this_user() -> ExtractAs {
        match rustix::process::geteuid() {
            Uid::ROOT => ExtractAs::Superuser,
            _ => ExtractAs::Superuser.without_rights(),
        }
    }

    /// Returns the user who runs this process, without the rights of the superuser.
    pub fn without_rights(self) -> ExtractAs {
        match self {
            ExtractAs::Superuser => {
                ExtractAs::User { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() }
            }
            user @ ExtractAs::User { .. } => user,
        }
    }
}

impl LeftOut {
    /// Returns what is left out, in words, or `None` if nothing is.
    pub fn describe(&self) -> Option<String> {
        let LeftOut { owners, special_bits, devices, xattrs } = *self;
        let parts = [
            (owners, "the owner of", "file"),
            (special_bits, "setuid or setgid of", "file"),
            (devices, "", "device"),
            (xattrs, "", "extended attribute"),
        ];
        let described = parts.iter().filter(|(number, ..)| *number > 0).map(|(number, what, unit)| {
            let counted = counted(usize::try_from(*number).unwrap_or(usize::MAX), unit);
            if what.is_empty() { counted } else { format!("{what} {counted}") }
        });
        Some(described.collect::<Vec<_>>().join(", ")).filter(|text| !text.is_empty())
    }
}

/// What extracted files do not have, as numbers of files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Files that belong to another user in the image.
    pub owners: u64,
    /// Files that are setuid or setgid in the image.
    pub special_bits: u64,
    /// Devices that were not made.
    pub devices: u64,
    /// Extended attributes that were not set.
    pub xattrs: u64,
}

/// Sets attributes, and counts what is left out.
#[derive(Debug)]
pub(super) struct AttributeWriter {
    identity: ExtractAs,
    owners: AtomicU64,
    special_bits: AtomicU64,
    devices: AtomicU64,
    xattrs: AtomicU64,
}

impl AttributeWriter {
    pub(super) fn new(identity: ExtractAs) -> Self {
        let none = || AtomicU64::new(0);
        AttributeWriter { identity, owners: none(), special_bits: none(), devices: none(), xattrs: none() }
    }

    pub(super) fn left_out(&self) -> LeftOut {
        let [owners, special_bits, devices, xattrs] =
            [&self.owners, &self.special_bits, &self.devices, &self.xattrs].map(|count| count.load(Ordering::Relaxed));
        LeftOut { owners, special_bits, devices, xattrs }
    }

    /// Returns whether devices are left out, and counts one if so.
    pub(super) fn are_devices_left_out(&self) -> bool {
        let is_left_out = self.identity != ExtractAs::Superuser;
        if is_left_out {
            count(&self.devices);
        }
        is_left_out
    }

    /// Sets all attributes of an open file or directory.
    pub(super) fn set_of_file(&self, file: &File, node: &ListedNode) -> io::Result<()> {
        if let Some((uid, gid)) = self.owner(node) {
            // This clears special bits and capabilities, so it comes first.
            fchown(file, Some(uid), Some(gid))?;
        }
        self.set_xattrs(node, |name, value| fsetxattr(file, name, value, XattrFlags::empty()));
        fchmod(file, self.mode(node))?;
        Ok(futimens(file, &times(node))?)
    }

    /// Sets the extended attributes that the user may set, and counts the others.
    fn set_xattrs(&self, node: &ListedNode, set: impl Fn(&[u8], &[u8]) -> rustix::io::Result<()>) {
        for (name, value) in node.xattrs.iter() {
            let is_allowed = self.identity == ExtractAs::Superuser || name.starts_with(b"user.");
            if !is_allowed || set(name, value).is_err() {
                count(&self.xattrs);
            }
        }
    }

    /// Sets the extended attributes of what cannot be opened: a link, pipe or device.
    fn set_xattrs_by_name(&self, parent: &Dir, name: &OsStr, node: &ListedNode) {
        // There is no call that takes a handle of the directory and a name.
        let path = Path::new("/proc/self/fd").join(parent.as_fd().as_raw_fd().to_string()).join(name);
        self.set_xattrs(node, |name, value| lsetxattr(&path, name, value, XattrFlags::empty()));
    }

    pub(super) fn make_symlink(&self, root: &Root, path: &Path, target: &[u8], node: &ListedNode) -> io::Result<()> {
        let (parent, name) = open_parent(root, path)?;
        symlinkat(target, &parent, name)?;
        if let Some((uid, gid)) = self.owner(node) {
            chownat(&parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        self.set_xattrs_by_name(&parent, name, node);
        Ok(utimensat(&parent, name, &times(node), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    pub(super) fn make_fifo(&self, root: &Root, path: &Path, node: &ListedNode) -> io::Result<()> {
        self.make_node(root, path, FileType::Fifo, 0, node)
    }

    pub(super) fn make_device(&self, root: &Root, path: &Path, entry: &TarEntry, node: &ListedNode) -> io::Result<()> {
        let kind = match entry.kind {
            EntryType::BlockDevice => FileType::BlockDevice,
            _ => FileType::CharacterDevice,
        };
        self.make_node(root, path, kind, makedev(entry.device.0, entry.device.1), node)
    }

    fn make_node(&self, root: &Root, path: &Path, kind: FileType, device: u64, node: &ListedNode) -> io::Result<()> {
        let (parent, name) = open_parent(root, path)?;
        mknodat(&parent, name, kind, Mode::empty(), device)?;
        if let Some((uid, gid)) = self.owner(node) {
            chownat(&parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        self.set_xattrs_by_name(&parent, name, node);
        chmodat(&parent, name, self.mode(node), AtFlags::empty())?;
        Ok(utimensat(&parent, name, &times(node), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Returns the owner that is set, and counts the file if it is not set and another.
    fn owner(&self, node: &ListedNode) -> Option<(Uid, Gid)> {
        match self.identity {
            ExtractAs::Superuser => Some((Uid::from_raw(node.uid), Gid::from_raw(node.gid))),
            ExtractAs::User { uid, gid } => {
                if (uid, gid) != (node.uid, node.gid) {
                    count(&self.owners);
                }
                None
            }
        }
    }

    fn mode(&self, node: &ListedNode) -> Mode {
        const SET_ID: u16 = 0o6000;
        let is_user = self.identity != ExtractAs::Superuser;
        if is_user && node.mode & SET_ID != 0 {
            count(&self.special_bits);
        }
        Mode::from_bits_truncate(u32::from(if is_user { node.mode & !SET_ID } else { node.mode }))
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn times(node: &ListedNode) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: node.mtime, tv_nsec: 0 },
    }
}

/// Opens the directory that a path is in.
fn open_parent<'p>(root: &Root, path: &'p Path) -> io::Result<(Dir, &'p OsStr)> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok((root.dir().open_dir(parent)?, name))
}
