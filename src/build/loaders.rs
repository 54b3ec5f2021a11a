//! The C library of an image, as its loader shows it.
//!
//! A program that is not static names its loader, at a path that the platform fixes. Where it is missing, the kernel says "no such
//! file or directory" about the program.

use crate::common::error::Result;
use crate::layers::rootfs::{Resolved, Rootfs};
use crate::spec::{ImagePath, Platform};

/// A C library.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Libc {
    Glibc,
    Musl,
}

impl Libc {
    pub(super) fn name(self) -> &'static str {
        match self {
            Libc::Glibc => "glibc",
            Libc::Musl => "musl",
        }
    }
}

/// An architecture with the loader of glibc and that of musl.
type LoadersOfArchitecture = (&'static str, &'static str, &'static str);

/// The loaders of each architecture (`ldd` of glibc; `ldso` of musl).
const LOADERS: [LoadersOfArchitecture; 8] = [
    ("amd64", "/lib64/ld-linux-x86-64.so.2", "/lib/ld-musl-x86_64.so.1"),
    ("386", "/lib/ld-linux.so.2", "/lib/ld-musl-i386.so.1"),
    ("arm64", "/lib/ld-linux-aarch64.so.1", "/lib/ld-musl-aarch64.so.1"),
    ("arm", "/lib/ld-linux-armhf.so.3", "/lib/ld-musl-armhf.so.1"),
    ("ppc64le", "/lib64/ld64.so.2", "/lib/ld-musl-powerpc64le.so.1"),
    ("s390x", "/lib/ld64.so.1", "/lib/ld-musl-s390x.so.1"),
    ("riscv64", "/lib/ld-linux-riscv64-lp64d.so.1", "/lib/ld-musl-riscv64.so.1"),
    ("loong64", "/lib64/ld-linux-loongarch-lp64d.so.1", "/lib/ld-musl-loongarch64.so.1"),
];

/// The loaders that an image has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Loaders {
    known: Option<LoadersOfArchitecture>,
    glibc: Option<IsThere>,
    musl: Option<IsThere>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IsThere {
    Yes,
    No,
}

impl Loaders {
    /// Looks for the loaders of `platform`. Those of other architectures stay unknown, and so do all of them if a layer is unknown.
    ///
    /// # Errors
    /// Fails if a layer has to be read and cannot be.
    pub(super) fn find(rootfs: &Rootfs<'_>, platform: &Platform) -> Result<Loaders> {
        let known = LOADERS.into_iter().find(|(architecture, ..)| *architecture == platform.architecture());
        let Some((_, glibc, musl)) = known else { return Ok(Loaders::default()) };
        let look = |loader: &str| -> Result<Option<IsThere>> {
            Ok(match rootfs.resolve(&ImagePath::new(loader.as_bytes())?)? {
                Resolved::Unseen(..) => None,
                Resolved::Node(..) => Some(IsThere::Yes),
                Resolved::Absent(_) | Resolved::NoDirectory(_) | Resolved::Circle => Some(IsThere::No),
            })
        };
        Ok(Loaders { known, glibc: look(glibc)?, musl: look(musl)? })
    }

    /// Returns the C library whose loader is `path`, if the image does not have it.
    pub(super) fn missing(self, path: &str) -> Option<Libc> {
        let (_, glibc, musl) = self.known?;
        let (libc, is_there) = match path {
            _ if path == glibc => (Libc::Glibc, self.glibc),
            _ if path == musl => (Libc::Musl, self.musl),
            _ => return None,
        };
        (is_there == Some(IsThere::No)).then_some(libc)
    }

    /// Returns the C library of the image if it is known to have only one, which is not `wanted`.
    pub(super) fn other_than(self, wanted: Libc) -> Option<Libc> {
        match (wanted, self.glibc, self.musl) {
            (Libc::Glibc, Some(IsThere::No), Some(IsThere::Yes)) => Some(Libc::Musl),
            (Libc::Musl, Some(IsThere::Yes), Some(IsThere::No)) => Some(Libc::Glibc),
            _ => None,
        }
    }
}
