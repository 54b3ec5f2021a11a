//! The differences between two images: of their documents, of their layers, and of the files that these unpack to.
//!
//! ```text
//! documents (members)      manifest, index entry and config, member by member
//! layers (alignment)       which layers both images have; why the bytes of the others differ (tar_form, stored_form)
//! files (files)            both file systems side by side, in the order of their paths
//! ```
//!
//! A layer that both images have is not read to compare them. Each other layer is read once, which lists it and hashes the
//! contents of its files. What the layers of both images have in common matters for the files only where the others leave it
//! open, such as a path that only one of them has. Then its listing is used, from the cache or by reading it on this machine; a
//! registry is not asked for it, and the layer is reported as unread.

mod alignment;
mod documents;
mod files;
mod images;
mod members;
mod place;
mod stored_form;
mod tar_form;

pub use documents::DocumentComparison;
pub use files::{ComparedFile, FileAspect, FileDifference, FileDifferences};
pub use images::ImageComparison;
pub use members::{DocumentPart, MemberDifference};

use crate::spec::Descriptor;
use std::collections::BTreeSet;

/// A kind of difference that is not looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum IgnoredDifference {
    /// Modification times of files, and the times in documents.
    Times,
    /// How the files are stored: their division into layers, their order, the form of the tar, compression, media types.
    Storage,
    /// Annotations.
    Annotations,
    /// The history.
    History,
}

/// The kinds of differences that are not looked at.
pub type IgnoredDifferences = BTreeSet<IgnoredDifference>;

/// A layer of one or both images.
#[derive(Debug, Clone)]
pub struct LayerDifference {
    /// What became of the layer.
    pub change: LayerChange,
    /// The layer in the first image, and its place from below; the lowest is 0.
    pub before: Option<(usize, Descriptor)>,
    /// The layer in the second image.
    pub after: Option<(usize, Descriptor)>,
    /// Why the bytes differ.
    pub reasons: Vec<LayerReason>,
}

/// What became of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerChange {
    /// Both images have it.
    Same,
    /// Another one is in its place, or it is stored in another way.
    Changed,
    /// Both images have it, in different places.
    Moved,
    /// Only the second image has it.
    Added,
    /// Only the first image has it.
    Removed,
}

/// Why the bytes of two layers differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerReason {
    /// What differs.
    pub what: LayerAspect,
    /// The difference in words, such as `gzip -> zstd`. It may be empty.
    pub detail: String,
}

/// What may differ between two layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LayerAspect {
    /// Its files, which are reported themselves.
    Files,
    /// What it deletes from the layers below, and how it says so.
    Whiteouts,
    /// The order of the entries in the tar.
    Order,
    /// Paths with more than one entry.
    Duplicates,
    /// The format of the tar's headers.
    TarFormat,
    /// The names of owners, which are stored beside their numbers.
    OwnerNames,
    /// Other bytes of the tar's headers.
    Headers,
    /// The number of zeros at the end of the tar.
    Padding,
    /// The media type.
    MediaType,
    /// The compression.
    Compression,
    /// The division of the compressed data.
    Blocks,
    /// The program that compressed it, or its settings.
    Compressor,
    /// Other members of the descriptor, such as annotations.
    Descriptor,
    /// Its entries are unknown.
    Unread,
    /// None of the above.
    Unknown,
}

impl LayerAspect {
    /// Returns the name for programs.
    pub fn name(self) -> &'static str {
        match self {
            LayerAspect::Files => "files",
            LayerAspect::Whiteouts => "whiteouts",
            LayerAspect::Order => "order",
            LayerAspect::Duplicates => "duplicates",
            LayerAspect::TarFormat => "tar-format",
            LayerAspect::OwnerNames => "owner-names",
            LayerAspect::Headers => "headers",
            LayerAspect::Padding => "padding",
            LayerAspect::MediaType => "media-type",
            LayerAspect::Compression => "compression",
            LayerAspect::Blocks => "blocks",
            LayerAspect::Compressor => "compressor",
            LayerAspect::Descriptor => "descriptor",
            LayerAspect::Unread => "unread",
            LayerAspect::Unknown => "unknown",
        }
    }

    /// Returns the name for people.
    pub fn description(self) -> &'static str {
        match self {
            LayerAspect::Files => "other files",
            LayerAspect::Whiteouts => "whiteouts",
            LayerAspect::Order => "order of the entries",
            LayerAspect::Duplicates => "paths with several entries",
            LayerAspect::TarFormat => "format of the tar headers",
            LayerAspect::OwnerNames => "names of owners",
            LayerAspect::Headers => "bytes of the tar headers",
            LayerAspect::Padding => "zeros at the end of the tar",
            LayerAspect::MediaType => "media type",
            LayerAspect::Compression => "compression",
            LayerAspect::Blocks => "blocks of the compressed data",
            LayerAspect::Compressor => "level of compression, or compressor",
            LayerAspect::Descriptor => "descriptor",
            LayerAspect::Unread => "not read",
            LayerAspect::Unknown => "bytes of the tar",
        }
    }
}

impl LayerReason {
    fn new(what: LayerAspect, detail: impl Into<String>) -> LayerReason {
        LayerReason { what, detail: detail.into() }
    }
}
