//! A request, as whoever asks for an image makes it.

use crate::build::image::{Base, ConfigEdit};
use crate::cache::RecipeKey;
use crate::common::error::Result;
use crate::common::root::Root;
use crate::common::time::Timestamp;
use crate::layers::CompressionPolicy;
use crate::layers::rootfs::Listings;
use crate::layers::tree::{Attributes, Rules, TreeBuilder};
use crate::secrets::FoundSecret;
use crate::spec::ImagePath;
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read;
use std::sync::Mutex;

/// A request for an image: everything that decides its bytes.
#[derive(Debug)]
pub struct BuildSpec {
    /// What to build on.
    pub base: Base,
    /// The layers to add, lowest first.
    pub layers: Vec<LayerSpec>,
    /// Changes to the base's config.
    pub config: ConfigEdit,
    /// Notes in the manifest.
    pub annotations: BTreeMap<String, String>,
    /// When the image says that it was made, and when its files say that they were changed.
    pub created: Timestamp,
    /// How the new layers are wrapped.
    pub compression: CompressionPolicy,
    /// What happens where the sources hold secrets.
    pub secrets: SecretPolicy,
    /// The secrets that are already known, of an environment, and count as those of the sources.
    pub known_secrets: Vec<FoundSecret>,
    /// Where the listings of base layers are kept. They decide no byte: without them, the layers are read.
    pub listings: Option<Listings>,
}

/// A layer to be made.
#[derive(Debug)]
pub struct LayerSpec {
    /// What messages call it. Unlike its history entry it may say where things are on this machine.
    pub name: String,
    /// What its history entry says.
    pub created_by: String,
    /// What goes into it, in any order.
    pub sources: Vec<Source>,
    /// What directories are like that its entries need and no source names.
    pub known_directories: BTreeMap<ImagePath, Attributes>,
    /// What decides its content, where that is known without looking at the sources, and what to keep with it in the cache.
    pub recipe: Option<(RecipeKey, Value)>,
    /// The whole that the layer is a part of. The layers of one whole are shared together with other machines; a layer of none is
    /// not shared.
    pub group: Option<SharedGroup>,
}

/// A whole whose layers machines share.
#[derive(Debug, Clone)]
pub struct SharedGroup {
    /// What decides its content.
    pub recipe: RecipeKey,
    /// Where everything in its layers lies in an image. A layer of another machine that holds anything else is not taken.
    pub roots: Vec<ImagePath>,
}

/// Something that goes into a layer.
#[derive(Debug)]
pub struct Source {
    /// What messages call it.
    pub name: String,
    /// What it is.
    pub content: SourceContent,
    /// Where it goes.
    pub destination: ImagePath,
    /// What happens to owners, modes and times on the way.
    pub rules: Rules,
}

/// What a source is.
pub enum SourceContent {
    /// A directory and everything in it.
    Directory(Root),
    /// Everything in a directory. The destination keeps what it is in the layers below, if it is there.
    DirectoryContent(Root),
    /// One file of a directory.
    File(Root, OsString),
    /// The entries of a tar, plain or compressed.
    Archive(Mutex<Box<dyn Read + Send>>),
    /// Entries that somebody else knows, and is asked for when they are needed. Their paths are from the root of the image,
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

/// What happens to an image whose sources hold secrets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SecretPolicy {
    /// Each one is a warning.
    #[default]
    Warn,
    /// The image is not built.
    Deny,
    /// They are not searched for.
    Allow,
}
