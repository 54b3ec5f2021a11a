//! RCC's formats: robots, blueprints, Holotree catalogs and libraries. (Draft)

mod blueprint;
mod names;
mod siphash;
mod yaml;

pub use blueprint::{Blueprint, BlueprintHash, BlueprintOptions};
pub use names::{NAME_LENGTH, Owner, Space, stage_directory};
