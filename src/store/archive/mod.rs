//! Images in tar files: `oci-archive`, an image layout in a tar, and `docker-archive`, what `docker save` writes.

mod docker;
mod kind;
mod members;
mod oci;
mod writer;

pub use docker::DockerArchive;
pub use kind::{check_replaceable, kind, read_saved};
pub use oci::OciArchive;
pub use writer::{ArchiveForm, ArchiveWriter};
