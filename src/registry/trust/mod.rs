//! Signature verification: the policy of containers (containers-policy.json(5)), and the signatures that it requires.
//!
//! ```text
//!   Policy       which requirements hold for an image, by transport and scope
//!   Signature    who says what about which manifest, and whether a key agrees
//!   attached     where signatures are: beside the image, under a tag that is made of its digest
//! ```
//!
//! This module opens no connection, and accepts no signature without its key. A requirement that cannot be checked
//! is an error, never an acceptance.

mod admission;
mod attached;
mod identity;
mod policy;
mod requirement;
mod signature;

pub use admission::ImageAdmission;
pub use attached::{KEPT, attached_in_directory, attached_in_layout, attached_in_repository, keep, kept, kept_in};
pub use policy::{Policy, PolicySubject};
pub use requirement::SigstoreSigned;
pub use signature::Signature;
