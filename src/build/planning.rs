//! From a request to a plan: walks the sources, and places their entries on the layers below.

use super::loaders::Loaders;
use super::lower_layers::layers_of_base;
use super::placement::{self, Unchecked};
use super::python::PythonRelocation;
use super::{
    BuildSpec, Built, BuiltLayer, LayerCaches, LayerSpec, MOST_STACKED, Plan, PlannedContent, PlannedLayer, Source,
    SourceContent, accounts, new_directory, runtime_checks,
};
use crate::build::image::{Image, default_directories};
use crate::cache::SeriesKey;
use crate::common::error::Result;
use crate::common::limits::Limit;
use crate::common::progress::{Progress, warn};
use crate::common::root::Root;
use crate::layers::CompressionPolicy;
use crate::layers::rootfs::Rootfs;
use crate::layers::split::{Split, TreePart, split_tree};
use crate::layers::tree::{
    Access, Attributes, Content, Entry, Excluded, Kind, Owner, PythonEnvironments, Tree, TreeBuilder,
};
use crate::spec::ImagePath;
use crate::store::{ImageName, Layout};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

impl BuildSpec {
    /// Makes the image in `layout` and lists it there under `names`, without a cache. The same as [`BuildSpec::plan`] and
    /// [`Plan::build`].
    ///
    /// # Errors
    /// Returns an error if either of them does.
    pub fn build(self, layout: &Arc<Layout>, names: &[ImageName], progress: &dyn Progress) -> Result<Built> {
        self.plan(layout.root(), None, progress)?.build(layout, None, names, progress)
    }

    /// Walks the sources.
    ///
    /// Archives are unpacked into an unnamed file in `spool`.
    ///
    /// # Errors
    /// Fails if a source is missing, malformed or not readable, the sources do not fit together, or there are more layers than
    /// an image can have.
    ///
    /// ```
    /// use ocibuild::{Base, BuildSpec, LayerSpec, Platform, Root, Silent, Source};
    ///
    /// # let scratch = tempfile::tempdir()?;
    /// # let path = scratch.path();
    /// let source = Source::directory(Root::open(path)?, "/srv".parse()?);
    /// let spec = BuildSpec::new(Base::Scratch(Platform::linux_amd64())).layer(LayerSpec::new("site").source(source));
    /// let plan = spec.plan(&Root::open(path)?, None, &Silent)?;
    /// assert_eq!(plan.layers[0].tree().map(|tree| tree.len()), Some(1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn plan(self, spool: &Root, caches: Option<LayerCaches<'_>>, progress: &dyn Progress) -> Result<Plan> {
        let base = self.base;
        base.check()?;
        for oddity in base.warnings() {
            warn(progress, "base image", &oddity);
        }
        check_layer_count(base.layers().len() + self.layers.len())?;
        let compression = self.compression;
        let known =
            caches.map(|caches| caches.look_up_recipes(&self.layers, compression, progress)).unwrap_or_default();
        let known = known.into_iter().chain(std::iter::repeat_with(|| None));
        let mut annotations = if self.layers.is_empty() { base.carried_annotations() } else { base.annotations() };
        annotations.extend(self.annotations);
        let image = Image { edit: self.config, annotations, created: self.created };
        let config = image.config(&base)?;
        runtime_checks::warn_of_shell_syntax(&image.edit, progress);

        let listings = self.listings.as_ref();
        let mut layers: Vec<PlannedLayer> = Vec::new();
        let below = layers_of_base(&base, listings, progress)?;
        let mut unchecked = Unchecked::default();
        let room = room_for_parts(base.layers().len(), &self.layers);
        for (layer, known) in self.layers.into_iter().zip(known) {
            let earlier: Vec<_> = layers.iter().map(|layer| layer.below(caches, listings, progress)).collect();
            let planned = {
                let (base, all) = (Rootfs::new(&below), Rootfs::new(below.iter().chain(&earlier)));
                let ground = LowerLayers { base: &base, all: &all, unchecked: &mut unchecked };
                layer.plan(known, ground, spool, (compression, room), progress)?
            };
            drop(earlier);
            layers.extend(planned);
        }
        let config_of_base = base.config();
        let platform = config_of_base.platform();
        let (loaders, relocation) = {
            let new: Vec<_> = layers.iter().map(|layer| layer.below(caches, listings, progress)).collect();
            let rootfs = Rootfs::new(below.iter().chain(&new));
            let loaders = if layers.is_empty() { Loaders::default() } else { Loaders::find(&rootfs, platform)? };
            (loaders, PythonRelocation::plan(&layers, (&rootfs, loaders), (&config, platform), &mut unchecked)?)
        };
        let python_environments = relocation.apply(&mut layers);
        let new: Vec<_> = layers.iter().map(|layer| layer.below(caches, listings, progress)).collect();
        runtime_checks::warn_of_problems((&config_of_base, &below), (&config, &new), &mut unchecked, progress)?;
        drop(new);
        drop(below);
        unchecked.warn(progress);
        let (secrets, known_secrets) = (self.secrets, self.known_secrets);
        Ok(Plan { base, layers, image, compression, secrets, known_secrets, python_environments, loaders })
    }
}

/// Fails if an image cannot have `count` layers. Called before sources are walked or files are written.
fn check_layer_count(count: usize) -> Result<()> {
    Limit::Layers.check(count, "image", "layer")
}

/// Returns the number of layers that each layer to be split can become. It does not depend on files, so that a layer keeps its
/// parts when another one gets more.
fn room_for_parts(base: usize, layers: &[LayerSpec]) -> usize {
    let split = layers.iter().filter(|layer| layer.split != Split::Undivided).count();
    let others = base + layers.len() - split;
    MOST_STACKED.saturating_sub(others) / split.max(1)
}

/// The layers below a layer.
struct LowerLayers<'a> {
    /// The base image.
    base: &'a Rootfs<'a>,
    /// The base image and the layers that are already planned.
    all: &'a Rootfs<'a>,
    unchecked: &'a mut Unchecked,
}

impl LayerSpec {
    /// Plans the layer, in at most `room` parts. Returns nothing if it would only add users and groups that are there already.
    fn plan(
        self,
        known: Option<BuiltLayer>,
        below: LowerLayers<'_>,
        spool: &Root,
        (policy, room): (CompressionPolicy, usize),
        progress: &dyn Progress,
    ) -> Result<Vec<PlannedLayer>> {
        let places: Vec<Vec<u8>> = self.sources.iter().map(Source::place).collect();
        let is_searched = self.sources.iter().any(Source::is_searched);
        let copied: Vec<_> = self.sources.iter().filter_map(Source::copied_to).collect();
        let LayerSpec { name, created_by, sources, known_directories, recipe, group, roots, split } = self;
        // Such a layer has the same bytes on every base, so that images share it. It depends on no layer below.
        if !known_directories.is_empty() {
            placement::check_described(known_directories.keys(), below.base, below.unchecked)?;
        }
        let layer = |part: Option<String>, content, excluded, compression| {
            let part = part.map(|part| format!(", {part}")).unwrap_or_default();
            let created_by = format!("{created_by}{part}");
            PlannedLayer {
                name: format!("{name}{part}"),
                content,
                excluded,
                compression,
                recipe: recipe.clone(),
                group: group.clone(),
                roots: roots.clone(),
                // A later build has the same part in a layer with the same text.
                series: SeriesKey::new(&created_by, &places, policy),
                created_by,
                copied: copied.clone(),
                is_searched,
            }
        };
        if let Some(known) = known {
            let content = PlannedContent::Known(Box::new(known));
            return Ok(vec![layer(None, content, Vec::new(), policy.for_unknown_files())]);
        }
        let adds_only_accounts = accounts::are_all(&sources);
        let (tree, excluded) = tree_of(sources, known_directories, below, spool, progress)?;
        if adds_only_accounts && tree.is_empty() {
            return Ok(Vec::new());
        }
        let limits = if recipe.is_none() { split } else { Split::Undivided }.limits(room);
        let mut excluded = Some(excluded);
        let parts = split_tree(tree, limits).into_iter().map(|TreePart { name, tree }| {
            let compression = policy.for_tree(&tree);
            layer(name, PlannedContent::Tree(tree), excluded.take().unwrap_or_default(), compression)
        });
        Ok(parts.collect())
    }
}

/// Returns the entries of `sources`, and what was excluded. A layer that describes directories itself does not depend on what is
/// below.
fn tree_of(
    sources: Vec<Source>,
    described: BTreeMap<ImagePath, Attributes>,
    below: LowerLayers<'_>,
    spool: &Root,
    progress: &dyn Progress,
) -> Result<(Tree, Vec<Excluded>)> {
    let rules = sources.first().map(|source| source.rules.clone()).unwrap_or_default();
    let describes_directories = !described.is_empty();
    let mut known = BTreeMap::new();
    if describes_directories {
        known = default_directories(rules.mtime);
        known.extend(described);
    }
    let mut builder = TreeBuilder::new(&rules).with_known_directories(known);
    let sources = accounts::add_to(sources, &mut builder, below.all, progress)?;
    let sources = new_directory::add_those_with_attributes(sources, &mut builder, below.all)?;
    for source in sources {
        builder.begin_source(&source.name);
        source.add_to(&mut builder, spool, progress)?;
    }
    let excluded = builder.take_excluded();
    let tree = builder.finish()?;
    if describes_directories {
        return Ok((tree, excluded));
    }
    let LowerLayers { base: _, all: rootfs, unchecked } = below;
    let tree = placement::Placer { rootfs, rules: &rules, unchecked, progress }.place(tree)?;
    Ok((tree, excluded))
}

impl Source {
    /// Returns the path of a source on this machine, and its destination.
    fn place(&self) -> Vec<u8> {
        let mut place = self.name.clone().into_bytes();
        if let SourceContent::Directory(root) | SourceContent::DirectoryContent(root) | SourceContent::File(root, _) =
            &self.content
        {
            let real = Root::resolve(root.path()).unwrap_or_else(|_| root.path().to_owned());
            place.push(0);
            place.extend_from_slice(real.as_os_str().as_encoded_bytes());
        }
        place
    }

    /// Returns the directory that a copy goes to, with what becomes of Python environments in it.
    fn copied_to(&self) -> Option<(ImagePath, PythonEnvironments)> {
        match self.content {
            SourceContent::Directory(_) | SourceContent::DirectoryContent(_) | SourceContent::Archive(_) => {
                Some((self.destination.clone(), self.rules.python))
            }
            _ => None,
        }
    }

    /// Returns whether it has files of this machine, or a text, which may hold secrets.
    fn is_searched(&self) -> bool {
        match self.content {
            SourceContent::Directory(_)
            | SourceContent::DirectoryContent(_)
            | SourceContent::File(..)
            | SourceContent::Archive(_)
            | SourceContent::TimeZones { .. }
            | SourceContent::Text(_) => true,
            SourceContent::Entries(_)
            | SourceContent::NewDirectory(_)
            | SourceContent::Symlink(_)
            | SourceContent::User(_)
            | SourceContent::Group(_)
            | SourceContent::Removal => false,
        }
    }

    fn add_to(self, builder: &mut TreeBuilder, spool: &Root, progress: &dyn Progress) -> Result<()> {
        let Source { name, content, destination, rules } = self;
        match content {
            SourceContent::Directory(root) => builder.add_directory(&root, &destination, &rules, progress),
            SourceContent::DirectoryContent(root) => {
                builder.add_directory_content(&root, &destination, &rules, progress)
            }
            SourceContent::File(root, file) => builder.add_file(&root, &file, &destination, &rules, progress),
            SourceContent::Archive(reader) => {
                let reader = reader.into_inner().unwrap_or_else(PoisonError::into_inner);
                builder.add_archive(reader, &name, spool, &destination, &rules, progress)
            }
            SourceContent::TimeZones { archive, shown } => {
                builder.add_time_zones(archive, &shown, spool, &destination, &rules, progress)
            }
            SourceContent::Entries(entries) => {
                let entries = entries.into_inner().unwrap_or_else(PoisonError::into_inner);
                entries(builder)
            }
            SourceContent::Symlink(target) => {
                let attributes = rules.symlink(Owner::default());
                builder.add(Entry { path: destination, kind: Kind::Symlink { target }, attributes })
            }
            SourceContent::Text(text) => {
                let attributes = rules.file(Access { mode: 0o644, owner: Owner::default() });
                let kind = Kind::File { size: text.len() as u64, content: Content::Bytes(text) };
                builder.add(Entry { path: destination, kind, attributes })
            }
            // Those with attributes were added before all other sources of the layer.
            SourceContent::NewDirectory(_) => {
                builder.add_destination(&destination, new_directory::usual_attributes(&rules))
            }
            // They were added before all other sources of the layer, together.
            SourceContent::User(_) | SourceContent::Group(_) => Ok(()),
            SourceContent::Removal => builder.remove(&destination),
        }
    }
}
