//! The documents of a new image: an edited config of the base, and a manifest.

mod assemble;
mod base;
mod edit;
mod usual;

pub use assemble::{Image, NewLayer, assemble};
pub use base::{Base, BaseLayers};
pub use edit::ConfigEdit;
pub(crate) use usual::usual_directories;
