//! The documents of the OCI image specification, parsed strictly.
//!
//! A foreign document keeps the bytes that were digested. The types of this module are views of it, checked for anything
//! that two programs could interpret differently (CVE-2021-41190). Our own documents are written by
//! [`crate::common::json::canonical`].

mod artifact;
mod config;
mod descriptor;
pub(crate) mod index;
mod interop;
mod manifest;
pub mod media_type;
pub mod name;
mod path;
mod platform;
pub mod reference;

pub use artifact::Artifact;
pub use config::{Config, DEFAULT_PATH};
pub use descriptor::Descriptor;
pub use index::{Index, Replaced};
pub use manifest::Manifest;
pub use path::ImagePath;
pub use platform::Platform;

pub use crate::spec::name::{CONTAINERD_NAME, REF_NAME};
