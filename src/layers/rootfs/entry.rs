//! One entry of a layer's listing.

use crate::layers::tree::Xattrs;

/// The entry of a layer for one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedEntry {
    /// The path, without a leading slash.
    pub path: Vec<u8>,
    /// The node that the layer adds; `None` if it only deletes the path from the layers below.
    pub node: Option<ListedNode>,
    /// Where the content of a file begins in the tar of the layer, in bytes; 0 for anything else.
    pub start: u64,
    /// Whether a whiteout deletes the path from the layers below.
    pub is_whiteout: bool,
    /// Whether the layer hides the entries of the layers below in this directory (an opaque whiteout).
    pub is_opaque: bool,
}

/// A file, directory, link or device of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedNode {
    /// Its kind, with the data that depends on it.
    pub kind: ListedKind,
    /// Permission bits, at most 0o7777.
    pub mode: u16,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Modification time, in seconds since the epoch.
    pub mtime: i64,
    /// Extended attributes, sorted by name.
    pub xattrs: Box<Xattrs>,
}

/// The kind of a layer's entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListedKind {
    /// A directory that has an entry of its own.
    Directory,
    /// A directory without an entry of its own: the layer only has entries in it.
    ImpliedDirectory,
    /// A regular file.
    File {
        /// Its length in bytes.
        size: u64,
        /// The kind of program that it is.
        program: Program,
        /// The content of the few small files that are inspected: `/etc/passwd` and `/etc/group`.
        content: Option<Vec<u8>>,
    },
    /// A symbolic link.
    Symlink {
        /// Its target, as written in the link.
        target: Vec<u8>,
    },
    /// Another name of a file in the same layer.
    HardLink {
        /// The path of that file.
        target: Vec<u8>,
    },
    /// A character device.
    CharacterDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
}

impl ListedKind {
    /// Returns whether this is a directory, with or without an entry of its own.
    pub fn is_directory(&self) -> bool {
        matches!(self, ListedKind::Directory | ListedKind::ImpliedDirectory)
    }
}

/// The kind of program that the first bytes of a file indicate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// Neither an ELF file nor a script.
    Unknown,
    /// A script: the file begins with `#!`.
    Script,
    /// An ELF file for this machine (gABI, `e_machine`).
    Elf(u16),
}

impl Program {
    /// The number of bytes at the start of a file that are inspected.
    pub const HEAD: usize = 20;

    /// Returns the kind of program that the first bytes of a file indicate.
    pub fn of_head(head: &[u8]) -> Program {
        if head.starts_with(b"#!") {
            return Program::Script;
        }
        let machine = head.get(18..20).and_then(|bytes| <[u8; 2]>::try_from(bytes).ok());
        match (head.starts_with(b"\x7fELF"), head.get(5), machine) {
            (true, Some(1), Some(bytes)) => Program::Elf(u16::from_le_bytes(bytes)),
            (true, Some(2), Some(bytes)) => Program::Elf(u16::from_be_bytes(bytes)),
            _ => Program::Unknown,
        }
    }

    /// Returns the architecture of the program if it cannot run on `architecture`.
    ///
    /// Architectures are named as in Go and in image configs. Programs of 32 bits run on the 64-bit processors of their
    /// family.
    pub fn foreign_to(self, architecture: &str) -> Option<&'static str> {
        let Program::Elf(machine) = self else { return None };
        let (own, also): (&str, &[&str]) = match machine {
            3 => ("386", &["amd64"]),
            8 => ("mips", &["mipsle", "mips64", "mips64le"]),
            20 => ("ppc", &["ppc64"]),
            21 => ("ppc64", &["ppc64le"]),
            22 => ("s390x", &[]),
            40 => ("arm", &["arm64"]),
            62 => ("amd64", &[]),
            183 => ("arm64", &[]),
            243 => ("riscv64", &[]),
            258 => ("loong64", &[]),
            _ => return None,
        };
        (own != architecture && !also.contains(&architecture)).then_some(own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_identified_by_its_header() {
        let mut elf = [0; Program::HEAD];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        elf[18] = 183;
        assert_eq!(Program::of_head(&elf), Program::Elf(183));
        assert_eq!(Program::of_head(&elf).foreign_to("amd64"), Some("arm64"));
        assert_eq!(Program::of_head(&elf).foreign_to("arm64"), None);
        assert_eq!(Program::Elf(3).foreign_to("amd64"), None, "32 bits run on 64");
        assert_eq!(Program::of_head(&elf[..19]), Program::Unknown);
        assert_eq!(Program::of_head(b"#!/bin/sh"), Program::Script);
        assert_eq!(Program::of_head(b""), Program::Unknown);
    }
}
