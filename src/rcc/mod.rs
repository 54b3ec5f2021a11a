//! RCC's formats: from a robot to the files of its environment.
//!
//! ```text
//! robot.yaml ──▶ Robot ──▶ environment file ──▶ Blueprint ──▶ its hash
//!                                                               │
//! hololib, hololib.zip ──▶ Hololib ── find ─────────────────────┴──▶ Catalog ──▶ entries, objects
//!                             │                                        │
//!                             └── object ──▶ StoredObject              └── Restorer ──▶ content of each file
//! ```
//!
//! This module only reads. All input is untrusted: a robot may come from anyone, RCC does not check catalogs, and a
//! hololib may change while it is read. A warning reports what RCC would do silently and wrongly; an error reports what
//! RCC could not do or must not do.

mod blueprint;
mod catalog;
mod hololib;
mod home;
mod leaks;
pub(crate) mod matching;
mod names;
mod object;
pub(crate) mod packages;
mod robot;
mod siphash;
#[cfg(test)]
mod test_support;
mod yaml;

pub use blueprint::{Blueprint, BlueprintHash, BlueprintOptions};
pub use catalog::{Catalog, CatalogEntry, CatalogEntryKind, CatalogLimits, CatalogName, FileEntry, NamedObject};
pub use hololib::{Hololib, Holotree, Product, Restorer, Sharing, StoredObject, local_channel};
pub use home::RccHome;
pub(crate) use leaks::BLUEPRINT_FILE;
pub use leaks::{may_leak, names_a_home};
pub use matching::NearCatalog;
pub use names::{NAME_LENGTH, Space, SpaceOwner, stage_directory};
pub use object::ObjectDigest;
pub use robot::{Robot, Task, is_for_platform, is_packed, is_unpacked, unpack_robot};
