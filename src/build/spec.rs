//! The request for an image.

use crate::build::image::{Base, ConfigEdit};
use crate::cache::{LayerFacts, RecipeKey};
use crate::common::error::Result;
use crate::common::root::Root;
use crate::common::time::Timestamp;
use crate::layers::CompressionPolicy;
use crate::layers::rootfs::Listings;
use crate::layers::tree::{Attributes, Rules, TreeBuilder};
use crate::secrets::FoundSecret;
use crate::spec::ImagePath;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read;
use std::sync::Mutex;

/// A request for an image: everything that decides its bytes.
#[derive(Debug)]
pub struct BuildSpec {
    /// The base image.
    pub base: Base,
    /// The layers to add, lowest first.
    pub layers: Vec<LayerSpec>,
    /// Changes to the base's config.
    pub config: ConfigEdit,
    /// Annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
    /// The creation time of the image, and the modification time of its files.
    pub created: Timestamp,
    /// The compression of the new layers.
    pub compression: CompressionPolicy,
    /// The policy for secrets in the sources.
    pub secrets: SecretPolicy,
    /// The secrets that are already known from an environment, and are handled like those of the sources.
    pub known_secrets: Vec<FoundSecret>,
    /// The store for listings of base layers. It does not affect the image: without it, the layers are read.
    pub listings: Option<Listings>,
}

/// A layer to build.
#[derive(Debug)]
pub struct LayerSpec {
    /// The name of the layer in messages. Unlike its history entry, it may name paths of this machine.
    pub name: String,
    /// The `created_by` text of its history entry.
    pub created_by: String,
    /// The sources of the layer, in any order.
    pub sources: Vec<Source>,
    /// The attributes of parent directories that no source names.
    pub known_directories: BTreeMap<ImagePath, Attributes>,
    /// The key of its content, if it is known without reading the sources, and the facts to store with it in the cache.
    pub recipe: Option<(RecipeKey, LayerFacts)>,
    /// The group of the layer. The layers of one group are shared together with other machines; a layer without a group is
    /// not shared.
    pub group: Option<SharedGroup>,
}

/// A group of layers that are shared between machines.
#[derive(Debug, Clone)]
pub struct SharedGroup {
    /// The key of its content.
    pub recipe: RecipeKey,
    /// The directories that contain all its entries in an image. A shared layer with an entry outside them is rejected.
    pub roots: Vec<ImagePath>,
}

/// Something that goes into a layer.
#[derive(Debug)]
pub struct Source {
    /// The name of the source in messages.
    pub name: String,
    /// The content of the source.
    pub content: SourceContent,
    /// The destination in the image.
    pub destination: ImagePath,
    /// The rules for owners, modes and times.
    pub rules: Rules,
}

/// The kinds of sources.
pub enum SourceContent {
    /// A directory and everything in it.
    Directory(Root),
    /// The content of a directory. The destination keeps its attributes from the layers below, if it exists there.
    DirectoryContent(Root),
    /// One file of a directory.
    File(Root, OsString),
    /// The entries of a tar, plain or compressed.
    Archive(Mutex<Box<dyn Read + Send>>),
    /// Entries from a callback, which is called when they are needed. Their paths are relative to the root of the image,
    /// whatever the destination.
    Entries(Mutex<Box<SourceEntries>>),
    /// The removal of the destination from the layers below.
    Removal,
}

/// Adds the entries of a source.
pub type SourceEntries = dyn FnOnce(&mut TreeBuilder) -> Result<()> + Send;

impl std::fmt::Debug for SourceContent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            SourceContent::Directory(_) => "Directory",
            SourceContent::DirectoryContent(_) => "DirectoryContent",
            SourceContent::File(..) => "File",
            SourceContent::Archive(_) => "Archive",
            SourceContent::Entries(_) => "Entries",
            SourceContent::Removal => "Removal",
        })
    }
}

/// The handling of secrets in the sources.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SecretPolicy {
    /// Prints a warning for each secret.
    #[default]
    Warn,
    /// Fails the build.
    Deny,
    /// Does not search for secrets.
    Allow,
}
