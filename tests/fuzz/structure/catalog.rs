//! Hololibs with one catalog, which is changed in some places, and whose compression and file names are right.

use super::{document, zip};
use crate::support::hololib::{Recording, Storage, gzip};
use std::fs;
use std::sync::LazyLock;

static RECORDING: LazyLock<Recording> = LazyLock::new(|| {
    let scratch = crate::support::Scratch::new();
    for (name, content) in [("bin/python", "#!"), ("lib/a.py", "a"), ("lib/deep/b.py", "b")] {
        scratch.write(name, content);
    }
    std::os::unix::fs::symlink("python", scratch.join("bin/python3")).unwrap();
    fs::create_dir(scratch.join("empty")).unwrap();
    Recording::of(
        scratch.path(),
        "/home/robot/.robocorp/holotree/x_y",
        "dependencies: []\n",
        "0123456789abcdef",
        Storage::Gzip,
    )
});

const KEYS: &[&str] = &[
    "name",
    "mode",
    "subdirs",
    "dirs",
    "files",
    "digest",
    "size",
    "symlink",
    "rewrite",
    "path",
    "platform",
    "blueprint",
    "tree",
    "x",
    "..",
];

/// Returns the files of the hololib.
pub(in crate::fuzz) fn files() -> Vec<(String, Vec<u8>)> {
    RECORDING.files()
}

/// Returns a zip.
pub(in crate::fuzz) fn catalog(bytes: &[u8]) -> Vec<u8> {
    let mut members = RECORDING.files();
    let changed = document(bytes, RECORDING.document.clone(), KEYS).to_string();
    members.last_mut().unwrap().1 = gzip(changed.as_bytes());
    zip(&[], &members)
}
