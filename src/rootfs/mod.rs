//! What the layers of an image unpack to, without unpacking them.
//!
//! * A [`Listing`] says what is in one layer. It is made when the layer is read for the first time, which also checks that the
//!   layer is what its descriptor and its config say, and kept in the cache directory by [`Listings`].
//! * A [`Rootfs`] is a stack of layers. It answers what is at a path: whiteouts applied, links followed as in a container.

mod accounts;
mod entry;
mod listing;
mod listings;
mod mapped;
mod scan;
mod stack;
mod stored;
mod writer;

pub use accounts::has_name;
pub use entry::{ListedEntry, ListedKind, ListedNode, Program};
pub use listing::Listing;
pub use listings::{Listed, Listings, find_or_make};
pub use stack::{Below, Found, LayerBelow, Resolved, Rootfs, Unseen};
pub use stored::{LayerPlace, StoredLayer};

#[cfg(test)]
mod tests;
