//! RCC's formats: robots, blueprints, Holotree catalogs and libraries. (Draft)

mod blueprint;
mod catalog;
mod hololib;
mod leaks;
mod matching;
mod names;
mod object;
mod robot;
mod siphash;
#[cfg(test)]
mod test_support;
mod yaml;

pub use blueprint::{Blueprint, BlueprintHash, BlueprintOptions};
pub use catalog::{Catalog, CatalogLimits, CatalogName, Entry, EntryKind, FileEntry, NamedObject};
pub use hololib::{Hololib, Holotree, Product, Restorer, Sharing, StoredObject, local_channel};
pub use leaks::{Leak, LeakKind, find_leaks, may_leak, scrub};
pub use matching::NearCatalog;
pub use names::{NAME_LENGTH, Owner, Space, stage_directory};
pub use object::ObjectDigest;
pub use robot::{IgnoreRules, Robot, Task, is_for_platform};
