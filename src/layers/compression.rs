//! The compression of layers: what is requested for an image, and what each of its layers gets.

use super::tree::{Content, Tree};
use crate::codec::compression::{Compression, Encoding};
use std::fmt;

/// The compression of an image's new layers, as requested.
///
/// A recipe and a series of builds are known before the files of a layer, so that their keys depend on the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompressionPolicy {
    /// Compresses everything.
    Compress(Compression),
    /// Copies gzip data from a store of files unchanged, and compresses the rest as gzip of this level.
    GzipPassthrough(u8),
}

/// The compression of one layer: a policy, resolved for the files of the layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerCompression(CompressionPolicy);

impl CompressionPolicy {
    /// Returns the policy that copies gzip data unchanged; for gzip only.
    pub fn with_gzip_passthrough(self) -> Self {
        match self {
            CompressionPolicy::Compress(Compression::Gzip(level)) => CompressionPolicy::GzipPassthrough(level),
            other => other,
        }
    }

    /// Returns the compression of everything that is not copied.
    pub fn compression(self) -> Compression {
        match self {
            CompressionPolicy::Compress(compression) => compression,
            CompressionPolicy::GzipPassthrough(level) => Compression::Gzip(level),
        }
    }

    /// Returns the encoding of the layers.
    pub fn encoding(self) -> Encoding {
        self.compression().encoding()
    }

    /// Returns whether the bytes of a blob depend on the store that its files come from.
    pub fn passes_gzip_through(self) -> bool {
        matches!(self, CompressionPolicy::GzipPassthrough(_))
    }

    /// Returns the compression of a layer of `tree`.
    ///
    /// Without files from a store, there is nothing to copy. Such a layer has the same keys as one that was built without
    /// passthrough.
    pub fn for_tree(self, tree: &Tree) -> LayerCompression {
        let has_stored = tree.contents().any(|content| matches!(content, Content::Stored(_)));
        LayerCompression(if has_stored { self } else { CompressionPolicy::Compress(self.compression()) })
    }

    /// Returns the compression of a layer whose files are unknown, because a recipe has found it.
    pub fn for_unknown_files(self) -> LayerCompression {
        LayerCompression(self)
    }
}

impl From<Compression> for CompressionPolicy {
    fn from(compression: Compression) -> Self {
        CompressionPolicy::Compress(compression)
    }
}

impl fmt::Display for CompressionPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CompressionPolicy::Compress(compression) => compression.fmt(f),
            CompressionPolicy::GzipPassthrough(level) => write!(f, "reused gzip, else gzip {level}"),
        }
    }
}

impl LayerCompression {
    /// Returns the compression of everything that is not copied.
    pub fn compression(self) -> Compression {
        self.0.compression()
    }

    /// Returns whether gzip data is copied unchanged.
    pub fn passes_gzip_through(self) -> bool {
        self.0.passes_gzip_through()
    }

    /// Returns the policy that has this result for every layer with the same kind of files.
    pub fn policy(self) -> CompressionPolicy {
        self.0
    }
}

impl From<Compression> for LayerCompression {
    fn from(compression: Compression) -> Self {
        LayerCompression(compression.into())
    }
}
