//! Images among the files of a source. They are excluded, because a copy of them would make the image grow with each build.

use crate::common::bounded_read;
use std::fs::File;

/// The file in a build context that builders read.
pub const DOCKERFILE: &str = "Dockerfile";

/// The first line of every Dockerfile that this program writes.
pub const DOCKERFILE_MARK: &str = "# The tars are what `ocibuild dockerfile --context DIR` writes beside this file.";

/// The form of an image among the files of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ImageForm {
    /// A directory with `oci-layout`.
    Layout,
    /// A tar that holds a layout, or what `docker save` writes.
    Archive,
    /// A Dockerfile and the tars that it adds, written by this program.
    Context,
}

impl std::fmt::Display for ImageForm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ImageForm::Layout => "an image layout",
            ImageForm::Archive => "an archive of an image",
            ImageForm::Context => "a context with an image",
        })
    }
}

/// Returns whether `file` is a Dockerfile that this program wrote.
pub(super) fn is_own_dockerfile(file: File) -> bool {
    let mut start = Vec::new();
    bounded_read::read_start(file, DOCKERFILE_MARK.len() as u64, &mut start).is_ok()
        && start == DOCKERFILE_MARK.as_bytes()
}
