//! The unpacked content of an image's layers, without unpacking them.
//!
//! * A [`LayerListing`] holds the entries of one layer. It is made when the layer is read for the first time, which also
//!   checks the layer against its descriptor and its config. [`Listings`] stores it in the cache directory.
//! * A [`Rootfs`] is a stack of layers. It returns the node at a path, with whiteouts applied and links followed as in a
//!   container.

mod accounts;
mod content;
mod entry;
mod layer_files;
mod listing;
mod listing_store;
mod listing_writer;
mod mapped;
mod merged;
mod scan;
mod stack;
mod stored_layers;
mod tar_facts;

pub use accounts::has_name;
pub use content::open_file;
pub use entry::{ListedEntry, ListedKind, ListedNode, Program};
pub use listing::LayerListing;
pub(super) use listing_store::make_with;
pub use listing_store::{ListedLayer, Listings, find_or_make};
pub use merged::{MergedEntry, MergedFiles, list_layers};
pub use stack::{LayerBelow, PathLookup, Resolved, Rootfs, StackedEntry};
pub use stored_layers::{LayerPlace, StoredLayer, Unseen};
pub(super) use tar_facts::{HashKeys, HeaderForm, PairedRecords, TarFacts, TarRecord};

#[cfg(test)]
mod tests;
