//! The story from a request to an image: [`BuildSpec`] → [`Plan`] → [`Built`].

mod cache_lookup;
mod checks;
mod differences;
pub mod dockerfile;
pub mod image;
mod layer_caches;
mod lower_layers;
mod placement;
mod runtime_checks;
mod secrets;
mod spec;

pub use checks::{check_names, exclude_outputs};
pub use differences::{DifferenceGroup, Differences};
pub use layer_caches::{LayerCaches, Shareable, SharedLayers};
pub use lower_layers::list_base;
pub use spec::{BuildSpec, LayerSpec, SecretPolicy, SharedGroup, Source, SourceContent, SourceEntries};

use crate::build::image::{Base, BaseLayers, Image, NewLayer, assemble, default_directories};
use crate::cache::{RecipeKey, SeriesKey};
use crate::codec::compression::Compression;
use crate::common::error::{Error, Result};
use crate::common::progress::{Activity, Progress, warn};
use crate::common::root::Root;
use crate::common::threads;
use crate::layers::rootfs::Rootfs;
use crate::layers::tree::{Content, Excluded, Tree, TreeBuilder};
use crate::layers::{ContentVisitor, Layer, LayerRequest, MadeLayer, Work, write_layers};
use crate::secrets::FoundSecret;
use crate::spec::reference::Reference;
use crate::spec::{MOST_LAYERS, Replaced, media_type};
use crate::store::{ImageName, Layout, RemoteLayers, StoredImage, copy_blobs};
use cache_lookup::{CacheLookup, LookupResult};
use lower_layers::layers_of_base;
use placement::Unchecked;
use secrets::Search;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

/// An image of which everything is decided and nothing is hashed: every path is known, no file has been opened for its
/// content.
#[derive(Debug)]
pub struct Plan {
    /// What it stands on.
    pub base: Base,
    /// The layers to add, lowest first.
    pub layers: Vec<PlannedLayer>,
    /// What the image is besides its layers.
    pub image: Image,
    /// How the new layers are wrapped.
    pub compression: Compression,
    /// What happens where the sources hold secrets.
    pub secrets: SecretPolicy,
    /// The secrets that were found before the plan was made, in an environment.
    pub known_secrets: Vec<FoundSecret>,
}

/// A layer of which everything is decided and nothing is hashed.
#[derive(Debug)]
pub struct PlannedLayer {
    /// What messages call it.
    pub name: String,
    /// What its history entry says.
    pub created_by: String,
    /// What it will hold.
    pub content: PlannedContent,
    /// What of its sources it will not hold.
    pub excluded: Vec<Excluded>,
    recipe: Option<(RecipeKey, Value)>,
    group: Option<SharedGroup>,
    series: SeriesKey,
    /// Whether its sources are files of this machine, which may hold secrets.
    is_searched: bool,
}

/// What a planned layer will hold.
#[derive(Debug)]
pub enum PlannedContent {
    /// These entries.
    Tree(Tree),
    /// What was made before, by this machine or another one.
    Known(Box<BuiltLayer>),
}

/// Where a layer of a finished image came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerOrigin {
    /// It was made.
    Made,
    /// Another machine made it and shared it in a registry.
    Shared,
    /// What decides its content was known, so its sources were not looked at.
    SameRecipe,
    /// Its files are the same ones as before, untouched.
    SameFiles,
    /// Its files were read and have the content that others had before.
    SameContent,
}

/// A finished image.
#[derive(Debug)]
pub struct Built {
    /// The image, in its layout.
    pub image: StoredImage,
    /// The new layers, lowest first.
    pub layers: Vec<BuiltLayer>,
    /// The layers, among them those of the base, that are not in the layout.
    pub left_out: RemoteLayers,
    /// The secrets that the image holds, as far as they were searched for.
    pub secrets: Vec<FoundSecret>,
    /// The images that had its names before.
    pub replaced: Vec<Replaced>,
}

/// A new layer of a finished image.
#[derive(Debug, Clone)]
pub struct BuiltLayer {
    /// The layer.
    pub layer: Layer,
    /// Where it came from.
    pub origin: LayerOrigin,
    /// What it took to make it.
    pub work: Work,
    /// How it differs from the one that the build before made, where both are known and differ.
    pub differences: Option<Differences>,
    /// The repository that it stays in, where it is not in the layout.
    pub remote_in: Option<Reference>,
    /// The repository that it was taken from, now or earlier; `None` if it was made here.
    pub from: Option<Reference>,
}

impl BuildSpec {
    /// Walks the sources.
    ///
    /// Archives are unpacked into an unnamed file in `spool`.
    ///
    /// # Errors
    /// When a source is missing, malformed or not readable, the sources do not fit together, or there are more layers than
    /// an image can have.
    pub fn plan(self, spool: &Root, memory: Option<LayerCaches<'_>>, progress: &dyn Progress) -> Result<Plan> {
        let base = self.base;
        base.check()?;
        for oddity in base.warnings() {
            warn(progress, "base image", &oddity);
        }
        check_layer_count(base.layers().len() + self.layers.len())?;
        let compression = self.compression;
        let known = memory.map(|memory| memory.recall(&self.layers, compression, progress)).unwrap_or_default();
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
        for (layer, known) in self.layers.into_iter().zip(known) {
            let earlier: Vec<_> = layers.iter().map(|layer| layer.below(memory, listings, progress)).collect();
            let planned = {
                let (base, all) = (Rootfs::new(&below), Rootfs::new(below.iter().chain(&earlier)));
                let ground = LowerLayers { base: &base, all: &all, unchecked: &mut unchecked };
                layer.plan(known, ground, spool, compression, progress)?
            };
            drop(earlier);
            layers.push(planned);
        }
        // A layer that a recipe names was made for this program; it is not read to ask whether it holds it.
        if layers.iter().all(|layer| layer.tree().is_some()) {
            let new: Vec<_> = layers.iter().map(|layer| layer.below(memory, listings, progress)).collect();
            let rootfs = Rootfs::new(below.iter().chain(&new));
            let (before, platform) = (base.config(), base.config().platform().clone());
            // What the base cannot run, or what this build did not set, is not reported.
            let known = runtime_checks::problems(
                before.document(),
                &platform,
                &Rootfs::new(&below),
                &mut Unchecked::default(),
            )?;
            let found = runtime_checks::problems(&config, &platform, &rootfs, &mut unchecked)?;
            for (object, reason) in found.iter().filter(|problem| !known.contains(problem)) {
                warn(progress, object, reason);
            }
        }
        drop(below);
        unchecked.say(progress);
        let (secrets, known_secrets) = (self.secrets, self.known_secrets);
        Ok(Plan { base, layers, image, compression, secrets, known_secrets })
    }
}

/// Known before anything is walked or written.
fn check_layer_count(count: usize) -> Result<()> {
    if count > MOST_LAYERS {
        return Err(Error::invalid("image", format!("{count} layers, more than {MOST_LAYERS}")));
    }
    Ok(())
}

/// What lies below a layer.
struct LowerLayers<'a> {
    /// The base.
    base: &'a Rootfs<'a>,
    /// The base, and the layers that were planned before.
    all: &'a Rootfs<'a>,
    unchecked: &'a mut Unchecked,
}

impl LayerSpec {
    fn plan(
        self,
        known: Option<BuiltLayer>,
        below: LowerLayers<'_>,
        spool: &Root,
        compression: Compression,
        progress: &dyn Progress,
    ) -> Result<PlannedLayer> {
        let series = self.series(compression);
        let is_searched = self.sources.iter().any(Source::is_of_this_machine);
        let LayerSpec { name, created_by, sources, known_directories, recipe, group } = self;
        // Such a layer is the same on every base, so that bases can share it: it takes nothing from what is below.
        let describes_directories = !known_directories.is_empty();
        if describes_directories {
            placement::check_described(known_directories.keys(), below.base, below.unchecked)?;
        }
        if let Some(known) = known {
            let content = PlannedContent::Known(Box::new(known));
            let excluded = Vec::new();
            return Ok(PlannedLayer { name, created_by, content, excluded, recipe, group, series, is_searched });
        }
        let rules = sources.first().map(|source| source.rules.clone()).unwrap_or_default();
        let mut known = BTreeMap::new();
        if describes_directories {
            known = default_directories(rules.mtime);
            known.extend(known_directories);
        }
        let mut builder = TreeBuilder::new(&rules).with_known_directories(known);
        for source in sources {
            builder.begin_source(&source.name);
            source.add_to(&mut builder, spool, progress)?;
        }
        let excluded = builder.take_excluded();
        let mut tree = builder.finish()?;
        if !describes_directories {
            let LowerLayers { base: _, all: rootfs, unchecked } = below;
            tree = placement::Ground { rootfs, rules: &rules, unchecked, progress }.settle(tree)?;
        }
        let content = PlannedContent::Tree(tree);
        Ok(PlannedLayer { name, created_by, content, excluded, recipe, group, series, is_searched })
    }

    /// What this layer has in common with its later builds: the place in the image, and the places on this machine.
    fn series(&self, compression: Compression) -> SeriesKey {
        let sources: Vec<Vec<u8>> = self.sources.iter().map(Source::place).collect();
        SeriesKey::new(&self.created_by, &sources, compression)
    }
}

impl Source {
    /// Where it is on this machine, and where it goes.
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

    fn is_of_this_machine(&self) -> bool {
        match self.content {
            SourceContent::Directory(_)
            | SourceContent::DirectoryContent(_)
            | SourceContent::File(..)
            | SourceContent::Archive(_) => true,
            SourceContent::Entries(_) | SourceContent::Removal => false,
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
            SourceContent::Entries(entries) => {
                let entries = entries.into_inner().unwrap_or_else(PoisonError::into_inner);
                entries(builder)
            }
            SourceContent::Removal => builder.remove(&destination),
        }
    }
}

impl Plan {
    /// Makes the image in `layout` and lists it there under `names`. Layers that `memory` knows are not made again.
    ///
    /// When this answers, every blob of the image that is not left out is durable, and so is the index that names it.
    ///
    /// # Errors
    /// When a source cannot be read or has changed, a blob of the base is missing or damaged, or the layout cannot be
    /// written. The images that were in the layout before are then as they were.
    pub fn build(
        &self,
        layout: &Arc<Layout>,
        memory: Option<LayerCaches<'_>>,
        names: &[ImageName],
        progress: &dyn Progress,
    ) -> Result<Built> {
        self.warn_of_many_layers(progress);
        let (base, layers) =
            threads::both(|| self.copy_base(layout, progress), || self.make_layers(layout, memory, progress));
        let stopped = || Err(Error::invalid("base image", "the copy stopped unexpectedly"));
        let (layers, secrets) = base.unwrap_or_else(stopped).and(layers)?;
        let new: Vec<NewLayer<'_>> = layers
            .iter()
            .zip(&self.layers)
            .map(|(built, planned)| NewLayer { layer: &built.layer, created_by: &planned.created_by })
            .collect();
        self.warn_of_foreign_programs(&layers, progress);
        let image = assemble(&self.image, &self.base, &new, layout)?;
        let left_out = self.left_out(&layers);
        let replaced = layout.commit_without(&left_out, &image, names)?;
        layout.warn_of_repairs(progress);
        Ok(Built { image, layers, left_out, secrets, replaced })
    }

    /// Brings every new layer into the layout: from where it is known, else made. Those that are left out stay where they are.
    /// Also finds the secrets in them: before anything is made where they are refused, else while the files are in memory.
    fn make_layers(
        &self,
        layout: &Layout,
        memory: Option<LayerCaches<'_>>,
        progress: &dyn Progress,
    ) -> Result<(Vec<BuiltLayer>, Vec<FoundSecret>)> {
        let recall = memory.map(|memory| CacheLookup { memory, compression: self.compression, progress });
        let find = |planned: &PlannedLayer| match (&planned.content, &recall) {
            (PlannedContent::Known(known), _) => Ok(LookupResult::Whole(known.clone())),
            (PlannedContent::Tree(tree), Some(recall)) => recall.find(planned, tree),
            (PlannedContent::Tree(_), None) => Ok(LookupResult::Nothing),
        };
        let recalled = self.layers.iter().map(find).collect::<Result<Vec<_>>>()?;
        let cache = memory.and_then(|memory| memory.cache);
        let searches = self.find_secrets(&recalled, cache, progress)?;
        let visitors: Vec<_> = searches.iter().map(Search::visitor).collect();
        let mut requests = Vec::new();
        for ((recalled, planned), visitor) in recalled.iter().zip(&self.layers).zip(&visitors) {
            match (recalled, planned.tree()) {
                (LookupResult::Parts(_) | LookupResult::Nothing, Some(tree)) => requests.push(LayerRequest {
                    tree,
                    name: &planned.name,
                    compression: planned.compression(self.compression),
                    reuse: recalled.reuse(),
                    visitor: visitor.as_ref().map(|visit| ContentVisitor(visit)),
                }),
                _ => Activity::start(progress, &planned.name, None).finish("known, from the cache"),
            }
        }
        let mut made = write_layers(&requests, layout, progress)?.into_iter();
        drop(requests);
        drop(visitors);
        let found: Vec<_> = searches.into_iter().map(Search::finish).collect();
        let all = self.known_secrets.iter().chain(found.iter().flatten().flatten()).cloned().collect::<Vec<_>>();
        if self.secrets == SecretPolicy::Warn {
            self.judge(&all, progress)?;
        }
        let complete = recalled.into_iter().zip(&self.layers).map(|(recalled, planned)| match (recalled, &recall) {
            (LookupResult::Whole(built), _) => Some(*built),
            (LookupResult::Parts(parts), Some(recall)) => {
                Some(recall.keep(planned, planned.tree()?, *parts, made.next()?))
            }
            (LookupResult::Parts(_) | LookupResult::Nothing, recall) => {
                let MadeLayer { layer, work, .. } = made.next()?;
                recall.iter().for_each(|recall| recall.keep_by_recipe(planned, &layer));
                Some(BuiltLayer { work, ..BuiltLayer::of(layer, LayerOrigin::Made) })
            }
        });
        let built = complete.collect::<Option<Vec<_>>>().ok_or_else(|| Error::invalid("layers", "one is missing"))?;
        if let Some(cache) = cache {
            self.keep_secrets(cache, &built, &found, layout, progress);
        }
        Ok((built, all))
    }

    /// Looks at the programs of layers that were made now; those of others were looked at when they were.
    fn warn_of_foreign_programs(&self, layers: &[BuiltLayer], progress: &dyn Progress) {
        let made = layers.iter().zip(&self.layers).filter(|(built, _)| built.origin == LayerOrigin::Made);
        for tree in made.filter_map(|(_, planned)| planned.tree()) {
            runtime_checks::warn_of_foreign_programs(tree, self.base.config().platform(), progress);
        }
    }

    /// What of the image stays in registries.
    fn left_out(&self, layers: &[BuiltLayer]) -> RemoteLayers {
        let mut left_out = RemoteLayers::default();
        if let Base::Image { image, name: Some(name), layers: BaseLayers::LeftOut } = &self.base
            && let Ok(base) = name.parse()
        {
            image.manifest.layers.iter().for_each(|layer| left_out.insert(layer.digest, &base));
        }
        for built in layers {
            if let Some(repository) = &built.remote_in {
                left_out.insert(built.layer.descriptor.digest, repository);
            }
        }
        left_out
    }

    /// The plan as JSON: what `--dry-run` shows.
    ///
    /// # Errors
    /// When the base's config has members of impossible types.
    pub fn to_json(&self) -> Result<Value> {
        let base_layers: Vec<Value> = self.base.layers().iter().map(crate::spec::Descriptor::to_json).collect();
        let layers: Vec<Value> = self
            .layers
            .iter()
            .map(|layer| {
                let mut described = json!({
                    "createdBy": layer.created_by,
                    "mediaType": media_type::of_layer(self.compression.encoding()),
                });
                if let Some(tree) = layer.tree() {
                    described["entries"] = tree.len().into();
                    described["bytes"] = tree.content_size().into();
                }
                described
            })
            .collect();
        Ok(json!({
            "baseLayers": base_layers,
            "layers": layers,
            "config": self.image.config(&self.base)?,
            "annotations": self.image.annotations,
            "excluded": self.excluded_to_json(),
        }))
    }

    /// What of the sources is in no layer, by source, cause and path.
    pub fn excluded(&self) -> impl Iterator<Item = &Excluded> {
        self.layers.iter().flat_map(|layer| &layer.excluded)
    }

    /// What of the sources is in no layer, as JSON: a list with one member for each source and cause.
    pub fn excluded_to_json(&self) -> Value {
        let all: Vec<&Excluded> = self.excluded().collect();
        let groups = all.chunk_by(|one, other| (&one.source, &one.cause) == (&other.source, &other.cause));
        let described = groups.map(|group| {
            let Excluded { source, cause, path: _ } = group[0];
            let paths: Vec<&str> = group.iter().map(|excluded| excluded.path.as_str()).collect();
            let mut described =
                json!({"source": &**source, "rule": cause.rule(), "count": paths.len(), "paths": paths});
            if let Some(pattern) = cause.pattern() {
                described["pattern"] = pattern.into();
            }
            described
        });
        Value::Array(described.collect())
    }

    fn copy_base(&self, layout: &Layout, progress: &dyn Progress) -> Result<()> {
        match &self.base {
            Base::Scratch(_) | Base::Image { layers: BaseLayers::LeftOut, .. } => Ok(()),
            Base::Image { image, .. } => copy_blobs(&*image.source, &image.manifest.layers, layout, progress)
                .map(|_| ())
                .map_err(|error| error.within("base image")),
        }
    }

    fn warn_of_many_layers(&self, progress: &dyn Progress) {
        let count = self.base.layers().len() + self.layers.len();
        // Docker 20.10 and 28 on overlay2 fail with "max depth exceeded" from 126 on.
        const MOST_STACKED: usize = 125;
        if count > MOST_STACKED {
            warn(progress, "image", &format!("{count} layers, and Docker runs no image of more than {MOST_STACKED}"));
        }
    }
}

impl BuiltLayer {
    /// A layer that took no work, in the layout.
    pub(super) fn of(layer: Layer, origin: LayerOrigin) -> Self {
        BuiltLayer { layer, origin, work: Work::default(), differences: None, remote_in: None, from: None }
    }
}

impl PlannedLayer {
    /// How it is compressed where `wanted` is asked for: where nothing of it is gzip already, there is nothing to take over,
    /// and the layer is known to builds that did not ask for that.
    fn compression(&self, wanted: Compression) -> Compression {
        let is_stored = |content: &Content| matches!(content, Content::Stored(_));
        let has_stored = || self.tree().is_none_or(|tree| tree.contents().any(is_stored));
        match wanted {
            Compression::Reuse(level) if !has_stored() => Compression::Gzip(level),
            wanted => wanted,
        }
    }

    /// The entries, where they are known.
    pub fn tree(&self) -> Option<&Tree> {
        match &self.content {
            PlannedContent::Tree(tree) => Some(tree),
            PlannedContent::Known(_) => None,
        }
    }
}
