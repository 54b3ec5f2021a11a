//! What a layer will hold: entries with validated paths, sorted and unique.
//!
//! A tree is made from directories, files and archives, and from what other rooms add; it names its content without
//! having read it. Everything that could differ between two machines (owners, modes, times, the order in which a
//! directory lists its files) is decided here, by [`Rules`].

mod archive;
mod base_names;
mod builder;
mod content;
mod directory;
mod entry;
mod ignore;
mod listing;
mod nodes;
mod path;
mod rules;
mod sorted;
mod stamp;

pub use builder::TreeBuilder;
pub use content::{Content, ContentStream, FileContent, SourceDirectory, StoredFile, StoredFiles};
pub use entry::{Attributes, Entry, Kind, Xattrs};
pub use ignore::{IgnoreRules, PathKind};
pub use path::ImagePath;
pub use rules::{ExtendedAttributes, FileChanges, Modes, Owner, Rules, SpecialFiles};
pub use sorted::Tree;
pub use stamp::Stamp;
