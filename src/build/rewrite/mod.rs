//! Existing images that are changed: their documents, their layers, and the place where their name is.
//!
//! ```text
//!                  every image that is selected
//!  IMAGE ─▶ walk ─────▶ Draft ── change ──▶ ChangedImage ─▶ Rewritten ─▶ layout: blobs, then the index entry moves
//!           (through indexes)                                        └─▶ registry: blobs, manifests, then the tag
//! ```
//!
//! Members of documents that this library does not know stay. A document that does not change keeps its bytes, and so its
//! digest, whichever program wrote it.

mod draft;
mod in_layout;
mod in_repository;
mod walk;

pub use draft::{ChangedImage, Draft};
pub use in_layout::{Moved, rewrite_in_layout};
pub use in_repository::rewrite_in_repository;
pub use walk::{Change, Rewritten, RewrittenImage};
