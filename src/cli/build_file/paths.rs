//! Paths in a build file, which are relative to its directory.

use super::item_tables::{PartForm, table_of};
use ocibuild::{Location, Reference, Result};

/// Where the path in a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PathIn {
    /// All of it.
    Whole,
    /// All of it, if it has a slash or a file is there.
    WholeIfPath,
    /// All of it, or behind a host and `=`.
    BehindHost,
    /// The place of an image that is read.
    Image,
    /// The place of an image that is written.
    Destination,
}

/// The flags whose values hold a path, without those that are items.
pub(super) const PATHS: [(&str, PathIn); 18] = [
    ("authfile", PathIn::Whole),
    ("base", PathIn::Image),
    ("cache-dir", PathIn::Whole),
    ("catalog", PathIn::WholeIfPath),
    ("cert-dir", PathIn::BehindHost),
    ("digest-file", PathIn::Whole),
    ("env-file", PathIn::Whole),
    ("hololib", PathIn::Whole),
    ("ignore-file", PathIn::Whole),
    ("iidfile", PathIn::Whole),
    ("lock-file", PathIn::Whole),
    ("metadata-file", PathIn::Whole),
    ("output", PathIn::Destination),
    ("rcc-exec", PathIn::Whole),
    ("robot", PathIn::Whole),
    ("root", PathIn::Whole),
    ("save", PathIn::Destination),
    ("signature-policy", PathIn::Whole),
];

/// The transports whose address is a path.
const LOCAL: [&str; 5] = ["oci:", "oci-archive:", "docker-archive:", "dir:", "rootfs:"];

/// The transports whose address is not a path, and some that are not supported.
const REMOTE: [&str; 7] =
    ["docker://", "docker-daemon:", "containers-storage:", "containerd:", "ostree:", "sif:", "tarball:"];

/// Returns the value of `flag` for the working directory, which in the file is for `directory`.
///
/// # Errors
/// Fails if it is an item of another form than that of its flag, or it cannot be seen whether a file is there.
pub(super) fn from_here(flag: &str, value: &str, directory: &str) -> Result<String> {
    if directory.is_empty() {
        return Ok(value.to_owned());
    }
    let Some((_, place)) = PATHS.iter().find(|(name, _)| *name == flag) else { return item(flag, value, directory) };
    Ok(match place {
        PathIn::Whole => joined(directory, value),
        PathIn::WholeIfPath => {
            let path = joined(directory, value);
            let is_path = value.contains('/') || ocibuild::common::root::PathStatus::of(path.as_ref())?.exists();
            if is_path { path } else { value.to_owned() }
        }
        PathIn::BehindHost => match value.split_once('=') {
            Some((host, path)) if !host.contains('/') => format!("{host}={}", joined(directory, path)),
            _ => joined(directory, value),
        },
        PathIn::Image => image(value, directory),
        PathIn::Destination => {
            let is_remote = REMOTE.iter().any(|transport| value.starts_with(transport));
            if is_remote { value.to_owned() } else { local(value, directory) }
        }
    })
}

/// Returns `path`, which is relative to `directory`.
pub(super) fn joined(directory: &str, path: &str) -> String {
    let is_absolute = std::path::Path::new(path).has_root() || std::path::Path::new(path).is_absolute();
    if directory.is_empty() || path.is_empty() || path == "-" || is_absolute {
        return path.to_owned();
    }
    let mut inner = path;
    while let Some(rest) = inner.strip_prefix("./") {
        inner = rest;
    }
    format!("{}/{inner}", directory.trim_end_matches('/'))
}

fn item(flag: &str, value: &str, directory: &str) -> Result<String> {
    let Some(table) = table_of(flag) else { return Ok(value.to_owned()) };
    let mut parts = table.split(value)?;
    for (name, value) in &mut parts.0 {
        if table.parts().any(|part| part == (*name, PartForm::Path)) {
            *value = joined(directory, value);
        }
    }
    table.compose(&parts).map_err(|reason| ocibuild::Error::usage(format!("--{flag}"), reason))
}

/// Returns a place with a path.
fn local(value: &str, directory: &str) -> String {
    match LOCAL.iter().find_map(|transport| Some((transport, value.strip_prefix(transport)?))) {
        Some((transport, path)) => format!("{transport}{}", joined(directory, path)),
        None => joined(directory, value),
    }
}

/// Returns the place of an image that is read: a bare word is a path where something is there, else a reference.
fn image(value: &str, directory: &str) -> String {
    if value == "scratch" || REMOTE.iter().any(|transport| value.starts_with(transport)) {
        return value.to_owned();
    }
    let path = local(value, directory);
    let is_bare = path == joined(directory, value) && ![".", "/"].iter().any(|start| value.starts_with(start));
    let is_there = Location::of_image(&path).is_ok_and(|found| !matches!(found, Location::Registry(_)));
    match is_bare && !is_there && value.parse::<Reference>().is_ok() {
        // With the transport, nothing in the working directory is taken for it.
        true => format!("docker://{value}"),
        false => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_relative_to_the_file() {
        for (flag, value, expected) in [
            ("env-file", "a.env", "sub/a.env"),
            ("env-file", "./a.env", "sub/a.env"),
            ("env-file", "/a.env", "/a.env"),
            ("cert-dir", "reg.io:5000=certs", "reg.io:5000=sub/certs"),
            ("cert-dir", "certs/a=b", "sub/certs/a=b"),
            ("base", "scratch", "scratch"),
            ("base", "debian:12", "docker://debian:12"),
            ("base", "./debian:12", "sub/debian:12"),
            ("base", "oci:debian:12", "oci:sub/debian:12"),
            ("base", "docker-daemon:debian", "docker-daemon:debian"),
            ("output", "oci-archive:out.tar", "oci-archive:sub/out.tar"),
            ("output", "rootfs:-", "rootfs:-"),
            ("output", "docker://a/b", "docker://a/b"),
            ("output", "containerd:a/b:v1", "containerd:a/b:v1"),
            ("copy", "a,,b:/c,ignore-file=x", "sub/a,,b:/c,ignore-file=sub/x"),
            ("copy", "-:/", "-:/"),
            ("ca-certificates", "a.pem", "sub/a.pem"),
            ("timezones", "zones", "sub/zones"),
            ("workdir", "/srv", "/srv"),
            ("label", "a=b", "a=b"),
        ] {
            assert_eq!(from_here(flag, value, "sub").unwrap(), expected, "{flag}");
            assert_eq!(from_here(flag, value, "").unwrap(), value, "{flag}");
        }
    }
}
