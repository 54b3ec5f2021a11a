//! RCC's formats: robots, blueprints, Holotree catalogs and libraries. (Draft)

mod blueprint;
mod names;
mod robot;
mod siphash;
#[cfg(test)]
mod test_support;
mod yaml;

pub use blueprint::{Blueprint, BlueprintHash, BlueprintOptions};
pub use names::{NAME_LENGTH, Owner, Space, stage_directory};
pub use robot::{IgnoreRules, Robot, Task, is_for_platform};
