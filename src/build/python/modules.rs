//! Compiled modules of an environment, whose names say what they run on: `fast.cpython-311-x86_64-linux-gnu.so` (PEP 3149).

use crate::build::loaders::{Libc, Loaders};
use crate::common::error::{Error, Result};
use crate::spec::{ImagePath, Platform};
use std::collections::BTreeMap;

/// What the name of a compiled module says about the platform.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ModuleTag {
    /// Linux, with an architecture as image configs name it, and a C library.
    Linux(&'static str, Libc),
    /// Another system.
    Other(&'static str),
}

/// Architectures as compilers name them, and as image configs do.
const ARCHITECTURES: [(&str, &str); 9] = [
    ("x86_64", "amd64"),
    ("i386", "386"),
    ("i686", "386"),
    ("aarch64", "arm64"),
    ("arm", "arm"),
    ("powerpc64le", "ppc64le"),
    ("s390x", "s390x"),
    ("riscv64", "riscv64"),
    ("loongarch64", "loong64"),
];

impl ModuleTag {
    /// Returns what the name of a file says; `None` if it is no module, or says nothing.
    pub(super) fn of(name: &str) -> Option<ModuleTag> {
        if name.ends_with(".pyd") {
            return Some(ModuleTag::Other("Windows"));
        }
        let tag = name.strip_suffix(".so")?.rsplit('.').next()?;
        if tag.ends_with("-darwin") {
            return Some(ModuleTag::Other("macOS"));
        }
        let (before, libc) = tag.split_once("-linux-")?;
        let libc = match libc {
            _ if libc.starts_with("gnu") => Libc::Glibc,
            _ if libc.starts_with("musl") => Libc::Musl,
            _ => return None,
        };
        let machine = before.rsplit('-').next()?;
        let (_, architecture) = ARCHITECTURES.iter().find(|(name, _)| *name == machine)?;
        Some(ModuleTag::Linux(architecture, libc))
    }
}

/// Requires that modules can run on `platform` and with the C library of the image.
///
/// # Errors
/// Fails with the first module that cannot.
pub(super) fn check(
    environment: &ImagePath,
    modules: &BTreeMap<ModuleTag, ImagePath>,
    platform: &Platform,
    loaders: Loaders,
) -> Result<()> {
    for (tag, path) in modules {
        let (reason, hint) = match tag {
            ModuleTag::Other(system) => (
                format!("is for {system}, and the image is for {platform}"),
                format!("an environment made on {platform}"),
            ),
            ModuleTag::Linux(architecture, _) if *architecture != platform.architecture() => (
                format!("is for {architecture}, and the image is for {platform}"),
                format!("an environment made on {platform}"),
            ),
            ModuleTag::Linux(_, libc) => match loaders.other_than(*libc) {
                Some(other) => (
                    format!("needs {}, and the image has {}", libc.name(), other.name()),
                    format!("a base with {}, or an environment made in a container of the base", libc.name()),
                ),
                None => continue,
            },
        };
        let reason = format!("cannot run in the image: its module {path} {reason}");
        let hint = format!("{hint}; --python-venv keep copies it unchanged");
        return Err(Error::invalid(environment.to_string(), reason).hint(hint));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_module_says_what_it_runs_on() {
        for (name, expected) in [
            ("a.cpython-311-x86_64-linux-gnu.so", Some(ModuleTag::Linux("amd64", Libc::Glibc))),
            ("a.cpython-312-aarch64-linux-musl.so", Some(ModuleTag::Linux("arm64", Libc::Musl))),
            ("a.cpython-39-arm-linux-gnueabihf.so", Some(ModuleTag::Linux("arm", Libc::Glibc))),
            ("a.pypy310-pp73-x86_64-linux-gnu.so", Some(ModuleTag::Linux("amd64", Libc::Glibc))),
            ("a.cpython-311-darwin.so", Some(ModuleTag::Other("macOS"))),
            ("a.cp311-win_amd64.pyd", Some(ModuleTag::Other("Windows"))),
            ("a.abi3.so", None),
            ("liba.so", None),
            ("a.cpython-311-x86_64-linux-gnu.so.txt", None),
            ("a.cpython-311-vax-linux-gnu.so", None),
        ] {
            assert_eq!(ModuleTag::of(name), expected, "{name}");
        }
    }
}
