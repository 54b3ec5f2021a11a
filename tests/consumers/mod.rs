//! The programs that read images in real life, one a file.
//!
//! Each offers `find`, which returns `None` if the program is missing (and has then reported that), and plain functions
//! that run it. Each instance keeps its state in a scratch directory of its own, so that tests can run side by side; the
//! one exception is docker, whose daemon is started once a session and distinguishes images by their ID.
//!
//! Options that look odd are there because of something that was met; each says what.

mod buildah;
mod containerd;
mod daemon;
mod docker;
mod layout;
mod oci_image_tool;
mod podman;
mod registry;
mod runc;
mod schemas;
mod skopeo;
mod umoci;

pub(crate) use buildah::Buildah;
pub(crate) use containerd::Containerd;
pub(crate) use daemon::Daemon;
pub(crate) use docker::Docker;
pub(crate) use layout::Layout;
pub(crate) use oci_image_tool::OciImageTool;
pub(crate) use podman::Podman;
pub(crate) use registry::{PASSWORD, Registry, USER, crane};
pub(crate) use runc::Runc;
pub(crate) use schemas::Schemas;
pub(crate) use skopeo::Skopeo;
pub(crate) use umoci::{Settings, Umoci};
