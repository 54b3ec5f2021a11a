//! The content of a future layer: entries with validated paths, sorted and unique.
//!
//! A tree is made from directories, files and archives, and from entries that other modules add. It refers to file
//! contents without having read them. Everything that could differ between two machines (owners, modes, times, the order
//! in which a directory lists its files) is decided here, by [`Rules`].

mod archive;
mod base_names;
mod builder;
mod content;
mod directory;
mod divided;
mod entry;
mod excluded;
mod extended_attributes;
mod file_contents;
mod ignore;
mod images;
mod listing;
mod lost_special_bits;
mod nodes;
mod pattern;
mod python_environments;
mod rules;
mod sorted;
mod source_directory;
mod stamp;
mod time_zones;
mod unwanted_directories;
mod walk;

pub use builder::TreeBuilder;
pub use content::{Content, ContentStream, StoredFile, StoredFiles};
pub use entry::{Attributes, Entry, Kind, PathKind, Xattrs};
pub use excluded::{Cause, Excluded};
pub use ignore::{DOCKERIGNORE, IgnoreRules};
pub use images::{DOCKERFILE, DOCKERFILE_MARK, ImageForm};
pub use python_environments::PythonEnvironments;
pub use rules::{Access, ExtendedAttributes, FileChanges, Modes, Owner, Owners, Rules, SpecialFiles};
pub use sorted::{EntryOrigin, Tree};
pub(in crate::layers) use source_directory::OpenSourceFile;
pub use source_directory::{SourceDirectory, SourceFile};
pub use stamp::Stamp;
pub use time_zones::is_time_zone;
