//! The search for the programs that the tests use to check results.

use super::programs::install_ocibuild;
use super::selection::{is_left_out, is_required, not_proven};
use super::{Scratch, command, run};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Finds a consumer, or prints once what is not tested without it. If `CI` or `OCIBUILD_REQUIRE_CONSUMERS` is set, a missing
/// consumer fails the test.
pub(crate) fn consumer(program: &str) -> Option<PathBuf> {
    if is_left_out() {
        return None;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")]);
    let found = directories.map(|directory| directory.join(program)).find(|path| path.is_file());
    if found.is_none() {
        miss(&format!("{program} is not installed"), program);
    }
    found
}

/// Finds a consumer as [`consumer`] does, if the tests run as root, which it requires.
pub(crate) fn consumer_as_root(program: &str) -> Option<PathBuf> {
    let found = consumer(program)?;
    if !is_root() {
        miss(&format!("{program} has to be run by root"), program);
        return None;
    }
    Some(found)
}

/// Finds a Python that has `module`. The system's own is tried first: only that one has Debian's packages.
pub(crate) fn python_with(module: &str) -> Option<PathBuf> {
    if is_left_out() {
        return None;
    }
    let own = PathBuf::from("/usr/bin/python3");
    let python = if own.is_file() { own } else { consumer("python3")? };
    let imported = run(command(&python).args(["-c", &format!("import {module}")]));
    if imported.status != 0 {
        miss(&format!("{} has no module {module}", python.display()), "python3");
        return None;
    }
    Some(python)
}

fn miss(reason: &str, program: &str) {
    let message = format!("{reason}, so not proven here: {}", proves(program));
    assert!(!is_required(), "{message}");
    not_proven(&message);
}

/// Returns what is tested with a consumer.
fn proves(program: &str) -> &'static str {
    match program {
        "bash" | "fish" | "zsh" => "that the names of images are completed in it",
        "skopeo" => "that skopeo copies our layouts and archives and keeps the digest, and all that it carries further",
        "umoci" => "that umoci unpacks our layouts, and bases made by umoci",
        "runc" => "that runc runs what umoci unpacked",
        "podman" => "that podman loads, pulls and runs our images",
        "dockerd" | "docker" => "that docker loads, pulls and runs our images",
        "containerd" | "ctr" => "that containerd imports and runs our images",
        "buildah" => "that buildah builds on our layouts, and bases made by buildah",
        "docker-registry" => "that a registry takes our images and gives them back unchanged",
        "htpasswd" => "that a registry with a password takes our images",
        "openssl" => "that a registry with its own certificate authority takes our images",
        "oci-image-tool" => "that oci-image-tool finds our layouts valid",
        "python3" => "that our documents satisfy the official schemas, and that tarfile and libarchive read our layers",
        "go" | "java" | "javac" | "jar" | "node" => "that programs of this language run in our images",
        "tar" => "that GNU tar reads our layers",
        "busybox" => "everything that needs a small base image",
        "debootstrap" => "everything that needs a real Debian base image",
        "strace" => "what happens when the system refuses a call, or kills the program at it",
        "unshare" => "full, read-only and nested file systems",
        "script" => "that an archive is not written to a terminal",
        "taskset" => "that one processor is enough",
        "setpriv" => "what somebody without rights is told",
        "mkfs.ext4" | "mkfs.xfs" | "xfs_io" => "that images survive a power cut, and that files share blocks on XFS",
        "mount" => "that mounts below a scratch directory are undone",
        _ => "what this program reads",
    }
}

fn is_root() -> bool {
    std::os::linux::fs::MetadataExt::st_uid(&Path::new("/proc/self").metadata().unwrap()) == 0
}

/// The program, run by the user `nobody`, in `scratch`; `None` if that is not possible.
pub(crate) fn as_nobody(scratch: &Scratch, arguments: &[&str]) -> Option<Command> {
    let setpriv = consumer_as_root("setpriv")?;
    let mut program = command(setpriv);
    program.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    // The build directory may not be open to everybody.
    program.arg(install_ocibuild(scratch.path())).args(arguments).current_dir(scratch.path());
    Some(program)
}
