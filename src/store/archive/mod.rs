//! Images in tar files: `oci-archive`, an image layout in a tar, and `docker-archive`, what `docker save` writes.

mod detect;
mod docker;
mod members;
mod oci;
mod writer;

pub use detect::{archive_to_replace, detect_form, is_archive_of_image, may_be_archive, read_saved};
pub use docker::DockerArchive;
pub use oci::OciArchive;
pub use writer::{ArchiveForm, ArchiveWriter};
