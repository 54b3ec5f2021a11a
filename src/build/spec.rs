//! The request for an image.

use crate::build::image::{Base, ConfigEdit};
use crate::build::new_accounts::{NewGroup, NewUser};
use crate::cache::{LayerFacts, RecipeKey};
use crate::codec::compression::Compression;
use crate::common::error::Result;
use crate::common::root::Root;
use crate::common::time::Timestamp;
use crate::layers::CompressionPolicy;
use crate::layers::rootfs::Listings;
use crate::layers::split::Split;
use crate::layers::tree::{Attributes, Owner, Rules, TreeBuilder};
use crate::secrets::FoundSecret;
use crate::spec::ImagePath;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// A request for an image: everything that determines its bytes.
///
/// ```
/// use ocibuild::{Base, BuildSpec, ConfigEdit, LayerSpec, Platform, Source};
///
/// let spec = BuildSpec::new(Base::Scratch(Platform::linux_amd64()))
///     .layer(LayerSpec::new("clean-up").source(Source::removal("/var/cache/apt".parse()?)))
///     .config(ConfigEdit::default().env("LANG", "C.UTF-8").user("1000"))
///     .annotation("org.opencontainers.image.title", "a small image")
///     .created("2024-05-01T12:00:00Z".parse()?);
/// assert_eq!(spec.layers.len(), 1);
/// # Ok::<(), ocibuild::Error>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
#[must_use]
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

impl BuildSpec {
    /// Creates a request for `base` without changes: no new layers, created at the Unix epoch, compressed with gzip.
    pub fn new(base: Base) -> Self {
        BuildSpec {
            base,
            layers: Vec::new(),
            config: ConfigEdit::default(),
            annotations: BTreeMap::new(),
            created: Timestamp::EPOCH,
            compression: Compression::DEFAULT_GZIP.into(),
            secrets: SecretPolicy::default(),
            known_secrets: Vec::new(),
            listings: None,
        }
    }

    /// Adds a layer on top of the others.
    pub fn layer(mut self, layer: LayerSpec) -> Self {
        self.layers.push(layer);
        self
    }

    /// Adds layers on top of the others, lowest first.
    pub fn layers(mut self, layers: impl IntoIterator<Item = LayerSpec>) -> Self {
        self.layers.extend(layers);
        self
    }

    /// Sets the changes to the config of the base.
    pub fn config(self, config: ConfigEdit) -> Self {
        BuildSpec { config, ..self }
    }

    /// Sets an annotation of the manifest.
    pub fn annotation(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.annotations.insert(key.into(), value.into());
        self
    }

    /// Sets the creation time of the image.
    pub fn created(self, created: Timestamp) -> Self {
        BuildSpec { created, ..self }
    }

    /// Sets the compression of the new layers.
    pub fn compression(self, compression: impl Into<CompressionPolicy>) -> Self {
        BuildSpec { compression: compression.into(), ..self }
    }

    /// Sets the handling of secrets in the sources.
    pub fn secrets(self, secrets: SecretPolicy) -> Self {
        BuildSpec { secrets, ..self }
    }

    /// Adds secrets that were already found, such as those of an environment. They count as secrets of the sources.
    pub fn known_secrets(mut self, secrets: impl IntoIterator<Item = FoundSecret>) -> Self {
        self.known_secrets.extend(secrets);
        self
    }

    /// Sets the store of listings of base layers. They do not affect the image: without them, the layers are read.
    pub fn listings(self, listings: Option<Listings>) -> Self {
        BuildSpec { listings, ..self }
    }
}

/// A layer to be made.
///
/// ```
/// use ocibuild::{LayerSpec, Source};
///
/// let tar: &[u8] = &[0; 1024];
/// let layer = LayerSpec::new("plugins")
///     .created_by("the plugins of 2024")
///     .source(Source::archive("plugins.tar", tar, "/opt/plugins".parse()?))
///     .source(Source::removal("/opt/plugins/old".parse()?));
/// assert_eq!((layer.name.as_str(), layer.sources.len()), ("plugins", 2));
/// # Ok::<(), ocibuild::Error>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
#[must_use]
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
    pub group: Option<RecipeKey>,
    /// Directories and files that contain all of its entries, if they are known without reading the sources; otherwise empty.
    pub roots: Vec<ImagePath>,
    /// Whether it becomes several layers. Without effect on a layer with a recipe.
    pub split: Split,
}

impl LayerSpec {
    /// Creates an empty layer, which messages and its history entry call `name`. It is not split.
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        LayerSpec {
            created_by: name.clone(),
            name,
            sources: Vec::new(),
            known_directories: BTreeMap::new(),
            recipe: None,
            group: None,
            roots: Vec::new(),
            split: Split::Undivided,
        }
    }

    /// Sets the text of the history entry.
    pub fn created_by(self, text: impl Into<String>) -> Self {
        LayerSpec { created_by: text.into(), ..self }
    }

    /// Adds a source.
    pub fn source(mut self, source: Source) -> Self {
        self.sources.push(source);
        self
    }

    /// Sets the attributes of directories that the entries need and no source has. The layer is then the same on every base.
    pub fn known_directories(self, known_directories: BTreeMap<ImagePath, Attributes>) -> Self {
        LayerSpec { known_directories, ..self }
    }

    /// Sets what determines the content, if that is known without reading the sources, and the facts to keep in the cache.
    pub fn recipe(self, recipe: Option<(RecipeKey, LayerFacts)>) -> Self {
        LayerSpec { recipe, ..self }
    }

    /// Sets the group of layers with which this one is shared between machines: the key of the content of all of them.
    pub fn group(self, group: Option<RecipeKey>) -> Self {
        LayerSpec { group, ..self }
    }

    /// Sets the directories and files that contain all entries of the layer. Paths outside them are checked without reading a
    /// layer from a cache, and a layer from another machine with an entry outside them is rejected.
    pub fn roots(self, roots: impl IntoIterator<Item = ImagePath>) -> Self {
        LayerSpec { roots: roots.into_iter().collect(), ..self }
    }

    /// Sets whether it becomes several layers: by packages where their directories show them, otherwise by directories. The image
    /// has the same files, with the same attributes.
    pub fn split(self, split: Split) -> Self {
        LayerSpec { split, ..self }
    }
}

/// Something that goes into a layer.
///
/// ```
/// use ocibuild::{Root, Rules, Source};
///
/// # let scratch = tempfile::tempdir()?;
/// # let path = scratch.path();
/// let source = Source::directory(Root::open(path)?, "/srv".parse()?)
///     .rules(Rules::default().mtime("2024-05-01T12:00:00Z".parse()?));
/// assert_eq!(source.name, format!("{} to /srv", path.display()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
#[must_use]
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

impl Source {
    /// Creates a source that messages call `name`, with the default [`Rules`].
    fn new(name: impl Into<String>, content: SourceContent, destination: ImagePath) -> Self {
        Source { name: name.into(), content, destination, rules: Rules::default() }
    }

    /// Creates a source that messages call by where it comes from and where it goes.
    fn copied(from: impl fmt::Display, content: SourceContent, destination: ImagePath) -> Self {
        Source::new(format!("{from} to {destination}"), content, destination)
    }

    /// Copies a directory, with everything in it, to `destination`.
    pub fn directory(directory: Root, destination: ImagePath) -> Self {
        Source::copied(directory.path().display(), SourceContent::Directory(directory.clone()), destination)
    }

    /// Copies everything in a directory into `destination`, whose own attributes stay those of the layers below.
    pub fn directory_content(directory: Root, destination: ImagePath) -> Self {
        Source::copied(directory.path().display(), SourceContent::DirectoryContent(directory.clone()), destination)
    }

    /// Copies the file at `path` to `destination`. If `path` is a link, its target is copied.
    ///
    /// # Errors
    /// Returns an error if there is nothing at `path`, or its directory cannot be opened.
    ///
    /// ```
    /// use ocibuild::{ErrorKind, Source};
    ///
    /// let error = Source::file("missing.txt", "/etc/motd".parse()?).unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::NotFound);
    /// # Ok::<(), ocibuild::Error>(())
    /// ```
    pub fn file(path: impl AsRef<Path>, destination: ImagePath) -> Result<Self> {
        let path = path.as_ref();
        let (directory, name) = Root::of_file(&Root::resolve(path)?, Root::open)?;
        Ok(Source::copied(path.display(), SourceContent::File(directory, name), destination))
    }

    /// Unpacks a tar, plain or compressed, into `destination`. Messages call it `name`.
    pub fn archive(name: impl fmt::Display, tar: impl Read + Send + 'static, destination: ImagePath) -> Self {
        Source::copied(name, SourceContent::Archive(Mutex::new(Box::new(tar))), destination)
    }

    /// Unpacks the time zones of an archive, a zip or a tar, into `destination`: those of the first directory with a zone called UTC.
    /// Messages call the archive `name`.
    pub fn time_zones(name: impl fmt::Display, archive: File, destination: ImagePath) -> Self {
        let shown = name.to_string();
        Source::copied(name, SourceContent::TimeZones { archive, shown }, destination)
    }

    /// Adds the entries that `entries` gives to a [`TreeBuilder`]. Their paths are relative to the root of the image.
    pub fn entries(name: impl Into<String>, entries: Box<SourceEntries>) -> Self {
        Source::new(name, SourceContent::Entries(Mutex::new(entries)), ImagePath::root())
    }

    /// Makes the directory `path`. If the layers below have it, what is `None` stays unchanged; otherwise the mode is 0755,
    /// changed by the rules as that of a copied directory, and the owner is that of the rules.
    ///
    /// ```
    /// use ocibuild::Source;
    ///
    /// let source = Source::new_directory("/tmp".parse()?, Some(0o1777), None);
    /// assert_eq!(source.name, "directory /tmp");
    /// # Ok::<(), ocibuild::Error>(())
    /// ```
    pub fn new_directory(path: ImagePath, mode: Option<u16>, owner: Option<Owner>) -> Self {
        let directory = NewDirectory { mode, owner };
        Source::new(format!("directory {path}"), SourceContent::NewDirectory(directory), path)
    }

    /// Adds a symbolic link to `target` at `path`. The target is neither checked nor changed.
    pub fn symlink(target: impl AsRef<[u8]>, path: ImagePath) -> Self {
        Source::new(format!("link {path}"), SourceContent::Symlink(target.as_ref().into()), path)
    }

    /// Adds a file with the content `text` at `path`. Its mode is 0644, changed by the rules as that of a copied file.
    pub fn text(text: impl AsRef<[u8]>, path: ImagePath) -> Self {
        Source::new(format!("file {path}"), SourceContent::Text(text.as_ref().into()), path)
    }

    /// Adds a user to `/etc/passwd`, with a group of its own if the image has none with its number, and makes the home of the user if
    /// it is missing. If the layers below have the same user, nothing changes.
    ///
    /// The home has the mode 0755 and belongs to the user. The user has no password, and the shell `/bin/sh`.
    pub fn user(user: NewUser) -> Self {
        Source::new(format!("user {}", user.name()), SourceContent::User(user), ImagePath::root())
    }

    /// Adds a group to `/etc/group`. If the layers below have the same group, nothing changes.
    pub fn group(group: NewGroup) -> Self {
        Source::new(format!("group {}", group.name()), SourceContent::Group(group), ImagePath::root())
    }

    /// Removes `path` from the layers below (a whiteout).
    pub fn removal(path: ImagePath) -> Self {
        Source::new(format!("remove {path}"), SourceContent::Removal, path)
    }

    /// Sets the name in messages.
    pub fn named(self, name: impl Into<String>) -> Self {
        Source { name: name.into(), ..self }
    }

    /// Sets the rules for owners, modes, times and ignored files.
    pub fn rules(self, rules: Rules) -> Self {
        Source { rules, ..self }
    }
}

/// What a source is.
#[non_exhaustive]
pub enum SourceContent {
    /// A directory and everything in it.
    Directory(Root),
    /// The content of a directory. The destination keeps its attributes from the layers below, if it exists there.
    DirectoryContent(Root),
    /// One file of a directory.
    File(Root, OsString),
    /// The entries of a tar, plain or compressed.
    Archive(Mutex<Box<dyn Read + Send>>),
    /// The time zones in a zip or a tar.
    TimeZones {
        /// The archive.
        archive: File,
        /// Its name in messages.
        shown: String,
    },
    /// Entries from a callback, which is called when they are needed. Their paths are relative to the root of the image,
    /// whatever the destination.
    Entries(Mutex<Box<SourceEntries>>),
    /// A directory, at the destination.
    NewDirectory(NewDirectory),
    /// A symbolic link to this target, at the destination.
    Symlink(Box<[u8]>),
    /// A file with this content, at the destination.
    Text(Arc<[u8]>),
    /// A user, whatever the destination.
    User(NewUser),
    /// A group, whatever the destination.
    Group(NewGroup),
    /// The removal of the destination from the layers below.
    Removal,
}

/// The attributes of a directory to be made. What is `None` stays as the layers below have it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NewDirectory {
    /// The permission bits.
    pub mode: Option<u16>,
    /// The owner.
    pub owner: Option<Owner>,
}

/// Adds the entries of a source.
pub type SourceEntries = dyn FnOnce(&mut TreeBuilder) -> Result<()> + Send;

impl fmt::Debug for SourceContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SourceContent::Directory(_) => "Directory",
            SourceContent::DirectoryContent(_) => "DirectoryContent",
            SourceContent::File(..) => "File",
            SourceContent::Archive(_) => "Archive",
            SourceContent::TimeZones { .. } => "TimeZones",
            SourceContent::Entries(_) => "Entries",
            SourceContent::NewDirectory(_) => "NewDirectory",
            SourceContent::Symlink(_) => "Symlink",
            SourceContent::Text(_) => "Text",
            SourceContent::User(_) => "User",
            SourceContent::Group(_) => "Group",
            SourceContent::Removal => "Removal",
        })
    }
}

/// The handling of secrets in the sources.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SecretPolicy {
    /// Prints a warning for each secret.
    #[default]
    Warn,
    /// Fails the build.
    Deny,
    /// Does not search for secrets.
    Allow,
}
