//! One entry of a tree.

use super::{Content, SourceFile};
use crate::codec::tar;
use crate::spec::ImagePath;

/// A file, directory or link of a future layer.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its path in the image.
    pub path: ImagePath,
    /// Its kind, with the content of a file or the target of a link.
    pub kind: Kind,
    /// Its owner, mode, time and extended attributes.
    pub attributes: Attributes,
}

/// The kind of an entry.
#[derive(Debug, Clone)]
pub enum Kind {
    /// A regular file.
    File {
        /// Its length in bytes.
        size: u64,
        /// The source of its bytes.
        content: Content,
    },
    /// A directory.
    Directory,
    /// A symbolic link, kept unchanged.
    Symlink {
        /// Its target, as written in the link.
        target: Box<[u8]>,
    },
    /// Another name of a file in the same tree.
    HardLink {
        /// The file it names, which sorts before this entry.
        target: ImagePath,
    },
}

impl Kind {
    /// Returns the kind of a file with the content that it has in its source.
    pub(super) fn of_file(file: SourceFile) -> Kind {
        Kind::File { size: file.stamp().size, content: Content::File(file) }
    }
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
    /// Extended attributes, sorted by name. Nearly always empty, so an absent list takes only one word.
    pub xattrs: Option<Box<Xattrs>>,
}

impl Entry {
    /// Returns the tar header of this entry.
    pub fn header(&self) -> tar::Header<'_> {
        let (kind, size, link) = match &self.kind {
            Kind::File { size, .. } => (tar::EntryType::File, *size, &b""[..]),
            Kind::Directory => (tar::EntryType::Directory, 0, &b""[..]),
            Kind::Symlink { target } => (tar::EntryType::Symlink, 0, &target[..]),
            Kind::HardLink { target } => (tar::EntryType::HardLink, 0, target.as_bytes()),
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
            device: (0, 0),
        }
    }

    /// Returns the length of the content in bytes; zero for everything but a file.
    pub fn size(&self) -> u64 {
        match self.kind {
            Kind::File { size, .. } => size,
            _ => 0,
        }
    }
}

/// The kind of file at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathKind {
    /// A directory, but not a link to one.
    Directory,
    /// Anything else.
    Other,
}
