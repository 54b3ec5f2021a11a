//! The unpacked content of an image's layers, without unpacking them.
//!
//! * A [`LayerListing`] holds the entries of one layer. It is made when the layer is read for the first time, which also
//!   checks the layer against its descriptor and its config. [`Listings`] stores it in the cache directory.
//! * A [`Rootfs`] is a stack of layers. It returns the node at a path, with whiteouts applied and links followed as in a
//!   container.

mod accounts;
mod content;
mod entry;
#[cfg(target_os = "linux")]
mod extract;
#[cfg(target_os = "linux")]
mod extract_attributes;
mod flat_files;
mod flat_tar;
mod layer_files;
mod listing;
mod listing_store;
mod listing_writer;
mod mapped;
mod merged;
mod moved;
mod path_map;
mod ranged_file;
mod scan;
mod stack;
mod stored_layers;
mod tar_facts;
mod through_links;

pub use accounts::{Account, accounts, content_of, has_name};
pub use content::open_file;
pub use entry::{ListedEntry, ListedKind, ListedNode, Program};
#[cfg(target_os = "linux")]
pub use extract::extract;
#[cfg(target_os = "linux")]
pub use extract_attributes::{ExtractAs, LeftOut};
pub use flat_files::FlatFiles;
pub use flat_tar::write_flat_tar;
pub use listing::LayerListing;
pub(super) use listing_store::make_with;
pub use listing_store::{ListedLayer, Listings, find_or_make};
pub(super) use merged::MergedPath;
pub use merged::{MergedEntry, MergedFiles, list_layers, list_layers_from};
pub use stack::{LayerBelow, PathLookup, Resolved, Rootfs, StackedEntry};
pub use stored_layers::{LayerPlace, StoredLayer, Unseen};
pub(super) use tar_facts::{HashKeys, HeaderForm, PairedRecords, TarFacts, TarRecord};

#[cfg(test)]
mod tests;
