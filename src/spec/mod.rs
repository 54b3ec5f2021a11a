//! The documents of the OCI image specification, read strictly.
//!
//! A foreign document stays the bytes that were digested. What is parsed here is a view of it, checked where two programs
//! could understand it differently (CVE-2021-41190); what is written goes through [`crate::json::canonical`].

mod artifact;
mod config;
mod descriptor;
mod index;
mod interop;
mod manifest;
pub mod media_type;
mod platform;

pub use artifact::Artifact;
pub use config::Config;
pub use descriptor::Descriptor;
pub use index::{Index, Replaced};
pub use manifest::Manifest;
pub use platform::Platform;

pub use crate::name::{CONTAINERD_NAME, REF_NAME};

/// The largest manifest or index that is read, in bytes. Registries refuse more than half of it.
pub const LARGEST_MANIFEST: u64 = 8 << 20;

/// The largest image config that is read, in bytes.
pub const LARGEST_CONFIG: u64 = 8 << 20;

/// More layers than this no engine can stack.
pub const MOST_LAYERS: usize = 500;

/// How many manifests an index may list.
pub const MOST_MANIFESTS: usize = 10_000;
