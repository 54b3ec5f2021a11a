//! One entry of a tree.

use super::{Content, ImagePath};
use crate::tar;

/// A file, directory or link of a future layer.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Where it will be.
    pub path: ImagePath,
    /// What it is.
    pub kind: Kind,
    /// Who owns it and who may do what.
    pub attributes: Attributes,
}

/// What an entry is.
#[derive(Debug, Clone)]
pub enum Kind {
    /// A regular file.
    File {
        /// Its length in bytes.
        size: u64,
        /// Where its bytes come from.
        content: Content,
    },
    /// A directory.
    Directory,
    /// A symbolic link, kept as it is.
    Symlink {
        /// Where it leads, as written in the link.
        target: Box<[u8]>,
    },
    /// Another name of a file of the same tree.
    HardLink {
        /// That file, which sorts before this entry.
        target: ImagePath,
    },
}

/// Names and values of extended attributes.
pub type Xattrs = [(Vec<u8>, Vec<u8>)];

/// Owner, mode, time and extended attributes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attributes {
    /// Permission bits with setuid, setgid and sticky: at most 0o7777.
    pub mode: u16,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Modification time, in seconds since the epoch.
    pub mtime: i64,
    /// Extended attributes, sorted by name. Nearly always empty, so it costs one word.
    pub xattrs: Option<Box<Xattrs>>,
}

impl Entry {
    /// The tar header of this entry.
    pub fn header(&self) -> tar::Header<'_> {
        let (kind, size, link) = match &self.kind {
            Kind::File { size, .. } => (tar::Kind::File, *size, &b""[..]),
            Kind::Directory => (tar::Kind::Directory, 0, &b""[..]),
            Kind::Symlink { target } => (tar::Kind::Symlink, 0, &target[..]),
            Kind::HardLink { target } => (tar::Kind::HardLink, 0, target.as_bytes()),
        };
        tar::Header {
            path: self.path.as_bytes(),
            kind,
            mode: u32::from(self.attributes.mode),
            uid: u64::from(self.attributes.uid),
            gid: u64::from(self.attributes.gid),
            size,
            mtime: self.attributes.mtime,
            link,
            xattrs: self.attributes.xattrs.as_deref().unwrap_or_default(),
        }
    }

    /// The length of the content in bytes; zero for everything but a file.
    pub fn size(&self) -> u64 {
        match self.kind {
            Kind::File { size, .. } => size,
            _ => 0,
        }
    }
}
