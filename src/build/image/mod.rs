//! The documents of a new image: an edited config of the base, and a manifest.

mod assemble;
mod base;
mod config_edit;
mod default_directories;
mod healthcheck;

pub use assemble::{Image, NewLayer, assemble};
pub use base::{BASE_DIGEST, Base, BaseLayers};
pub use config_edit::ConfigEdit;
pub(crate) use default_directories::default_directories;
pub use healthcheck::HealthcheckEdit;
