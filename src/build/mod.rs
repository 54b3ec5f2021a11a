//! The steps from a request to an image: [`BuildSpec`] → [`Plan`] → [`Built`].

mod accounts;
pub mod add_platforms;
mod cache_lookup;
mod checks;
mod differences;
pub mod dockerfile;
pub mod edit;
pub mod image;
mod layer_caches;
mod layers_in_flight;
mod linking;
mod loaders;
mod lock_file;
mod lower_layers;
mod new_accounts;
mod new_directory;
mod placement;
mod plan_to_json;
mod planning;
mod programs;
mod python;
pub mod rebase;
pub mod rewrite;
mod runtime_checks;
mod secrets;
mod spec;
pub mod squash;

pub use checks::{check_names, exclude_outputs};
pub use differences::{DifferenceGroup, Differences};
pub use layer_caches::{LayerCaches, Shareable, SharedLayers};
pub use layers_in_flight::LayersInFlight;
pub use lock_file::{LOCK_FILE, LockFile, LockFileMode, LockedKind};
pub use lower_layers::list_base;
pub use new_accounts::{NewGroup, NewUser};
pub use python::PythonEnvironment;
pub use spec::{BuildSpec, LayerSpec, NewDirectory, SecretPolicy, Source, SourceContent, SourceEntries};

use crate::build::image::{Base, BaseLayers, Image, NewLayer, assemble};
use crate::cache::{LayerFacts, RecipeKey, SeriesKey};
use crate::common::error::{Error, Result};
use crate::common::progress::{Activity, Progress, warn};
use crate::common::threads;
use crate::layers::incremental::BlockStore;
use crate::layers::tree::{Excluded, PythonEnvironments, Tree};
use crate::layers::{
    CompressionPolicy, ContentVisitor, Layer, LayerCompression, LayerRequest, MadeLayer, Work, write_layers,
};
use crate::secrets::FoundSecret;
use crate::spec::reference::Reference;
use crate::spec::{ImagePath, Replaced};
use crate::store::{ImageName, Layout, RemoteLayers, StoredImage, copy_blobs};
use cache_lookup::{CacheLookup, LookupResult};
use layers_in_flight::Claimed;
use loaders::Loaders;
use secrets::Search;
use std::sync::Arc;

/// The most layers that all engines can run. Docker 20.10 and 28 on overlay2 fail with "max depth exceeded" from 126 on.
const MOST_STACKED: usize = 125;

/// An image before it is hashed: every path is known, but no file has been opened for its
/// content.
#[derive(Debug)]
#[non_exhaustive]
pub struct Plan {
    /// The base image.
    pub base: Base,
    /// The layers to add, lowest first.
    pub layers: Vec<PlannedLayer>,
    /// The config, annotations and time of the image.
    pub image: Image,
    /// The compression of the new layers.
    pub compression: CompressionPolicy,
    /// The policy for secrets in the sources.
    pub secrets: SecretPolicy,
    /// The secrets that were found before the plan was made, in an environment.
    pub known_secrets: Vec<FoundSecret>,
    /// The Python virtual environments that were relocated, by their paths.
    pub python_environments: Vec<PythonEnvironment>,
    /// The loaders of programs that the image has.
    loaders: Loaders,
}

/// A layer before it is hashed.
#[derive(Debug)]
#[non_exhaustive]
pub struct PlannedLayer {
    /// The name of the layer in messages.
    pub name: String,
    /// The `created_by` text of its history entry.
    pub created_by: String,
    /// The entries of the layer.
    pub content: PlannedContent,
    /// The paths of its sources that are excluded.
    pub excluded: Vec<Excluded>,
    /// How it is compressed.
    compression: LayerCompression,
    recipe: Option<(RecipeKey, LayerFacts)>,
    group: Option<RecipeKey>,
    /// What contains all of its entries; empty if that is unknown.
    roots: Vec<ImagePath>,
    series: SeriesKey,
    /// The directories that its copies go to, with what becomes of Python environments in them.
    copied: Vec<(ImagePath, PythonEnvironments)>,
    /// Whether its sources are files of this machine, which may hold secrets.
    is_searched: bool,
}

/// The content of a planned layer.
#[derive(Debug)]
#[non_exhaustive]
pub enum PlannedContent {
    /// Entries from sources.
    Tree(Tree),
    /// A layer from the cache of this machine or of another one.
    Known(Box<BuiltLayer>),
}

/// The origin of a layer of a finished image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerOrigin {
    /// Built.
    Made,
    /// Cache hit in a shared cache in a registry.
    Shared,
    /// Cache hit by recipe: the sources were not read.
    SameRecipe,
    /// Cache hit: no file changed.
    SameFiles,
    /// Cache hit: files were touched or replaced, but have the same content.
    SameContent,
}

/// A finished image.
#[derive(Debug)]
#[non_exhaustive]
pub struct Built {
    /// The image, in its layout.
    pub image: StoredImage,
    /// The new layers, lowest first.
    pub layers: Vec<BuiltLayer>,
    /// The layers, including those of the base, that are not in the layout.
    pub remote_layers: RemoteLayers,
    /// The secrets that were found in the sources.
    pub secrets: Vec<FoundSecret>,
    /// The images that had its names before.
    pub replaced: Vec<Replaced>,
}

/// A new layer of a finished image.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct BuiltLayer {
    /// The layer.
    pub layer: Layer,
    /// The origin of the layer.
    pub origin: LayerOrigin,
    /// The work that building it took.
    pub work: Work,
    /// The differences from the layer of the previous build, if both are known and differ.
    pub differences: Option<Differences>,
    /// The repository that has the layer, if it is not in the layout.
    pub remote_in: Option<Reference>,
    /// The repository that it was pulled from, now or earlier; `None` if it was built here.
    pub from: Option<Reference>,
}

impl Plan {
    /// Builds the image in `layout` and adds it to the index under `names`. Layers in `caches` are not built
    /// again.
    ///
    /// On success, every blob of the image that is not remote is durable, and so is the index that lists it.
    ///
    /// # Errors
    /// Fails if a source cannot be read or has changed, a blob of the base is missing or damaged, or the layout cannot be
    /// written. Existing images of the layout are unchanged then.
    pub fn build(
        &self,
        layout: &Arc<Layout>,
        caches: Option<LayerCaches<'_>>,
        names: &[ImageName],
        progress: &dyn Progress,
    ) -> Result<Built> {
        let built = self.make(layout, caches, progress)?;
        let replaced = layout.commit_sparse(&built.remote_layers, &built.image, names)?;
        layout.warn_of_repairs(progress);
        Ok(Built { replaced, ..built })
    }

    /// Builds the image in `layout` as [`Plan::build`] does, and lists it nowhere: it is there for as long as nothing collects
    /// garbage.
    ///
    /// # Errors
    /// Fails as [`Plan::build`].
    pub fn build_unlisted(
        &self,
        layout: &Arc<Layout>,
        caches: Option<LayerCaches<'_>>,
        progress: &dyn Progress,
    ) -> Result<Built> {
        let built = self.make(layout, caches, progress)?;
        layout.sync_blobs()?;
        layout.warn_of_repairs(progress);
        Ok(built)
    }

    /// Writes the blobs of the image.
    fn make(&self, layout: &Arc<Layout>, caches: Option<LayerCaches<'_>>, progress: &dyn Progress) -> Result<Built> {
        self.warn_of_many_layers(progress);
        let (base, layers) =
            threads::both(|| self.copy_base(layout, progress), || self.make_layers(layout, caches, progress));
        let stopped = || Err(Error::invalid("base image", "the copy stopped unexpectedly"));
        let (layers, secrets) = base.unwrap_or_else(stopped).and(layers)?;
        let new: Vec<NewLayer<'_>> = layers
            .iter()
            .zip(&self.layers)
            .map(|(built, planned)| NewLayer { layer: &built.layer, created_by: &planned.created_by })
            .collect();
        self.warn_of_programs(&layers, progress);
        let image = assemble(&self.image, &self.base, &new, layout)?;
        let remote_layers = self.remote_layers(&layers)?;
        Ok(Built { image, layers, remote_layers, secrets, replaced: Vec::new() })
    }

    /// Adds every new layer to the layout, from a cache if possible. Remote layers are not downloaded.
    /// Also finds their secrets: before the build if the policy denies them, otherwise while the files are in memory.
    fn make_layers(
        &self,
        layout: &Layout,
        caches: Option<LayerCaches<'_>>,
        progress: &dyn Progress,
    ) -> Result<(Vec<BuiltLayer>, Vec<FoundSecret>)> {
        let lookup = caches.map(|caches| CacheLookup { caches, policy: self.compression, progress });
        // Other builds wait for the claimed layers until they are in the cache.
        let (lookups, _claimed) = self.look_up(lookup.as_ref())?;
        let cache = caches.and_then(|caches| caches.cache);
        let store = caches.and_then(|caches| self.block_sources(caches));
        let searches = self.find_secrets(&lookups, cache, progress)?;
        let visitors: Vec<_> = searches.iter().map(Search::visitor).collect();
        let mut requests = Vec::new();
        for ((found, planned), visitor) in lookups.iter().zip(&self.layers).zip(&visitors) {
            match (found, planned.tree()) {
                (LookupResult::Partial(_) | LookupResult::Miss, Some(tree)) => requests.push(LayerRequest {
                    tree,
                    name: &planned.name,
                    compression: planned.compression,
                    reuse: found.reuse(),
                    store: store.as_ref().map(|store| store as &dyn BlockStore),
                    visitor: visitor.as_ref().map(|visit| ContentVisitor(visit)),
                }),
                _ => Activity::start(progress, &planned.name, None).finish("known, from the cache"),
            }
        }
        let made = Search::large_files_beside(&searches, || write_layers(&requests, layout, progress))?;
        let mut made = made.into_iter();
        if let Some(shared) = store.as_ref().and_then(|store| store.shared.as_ref()) {
            shared.finish();
        }
        drop(requests);
        drop(visitors);
        let found: Vec<_> = searches.into_iter().map(Search::finish).collect();
        let all = self.known_secrets.iter().chain(found.iter().flatten().flatten()).cloned().collect::<Vec<_>>();
        if self.secrets == SecretPolicy::Warn {
            self.judge(&all, progress)?;
        }
        let complete = lookups.into_iter().zip(&self.layers).map(|(found, planned)| match (found, &lookup) {
            (LookupResult::Hit(built), _) => Some(*built),
            (LookupResult::Partial(parts), Some(lookup)) => {
                Some(lookup.keep(planned, planned.tree()?, *parts, made.next()?))
            }
            (LookupResult::Partial(_) | LookupResult::Miss, lookup) => {
                let made = made.next()?;
                lookup.iter().for_each(|lookup| lookup.keep_by_recipe(planned, &made));
                let MadeLayer { layer, work, .. } = made;
                Some(BuiltLayer { work, ..BuiltLayer::of(layer, LayerOrigin::Made) })
            }
        });
        let built = complete.collect::<Option<Vec<_>>>().ok_or_else(|| Error::invalid("layers", "one is missing"))?;
        if let Some(cache) = cache {
            self.keep_secrets(cache, &built, &found, layout, progress);
        }
        Ok((built, all))
    }

    /// Looks up all layers, and claims those that have to be made, so that no build beside this one makes them, too.
    fn look_up<'l>(&self, lookup: Option<&CacheLookup<'l>>) -> Result<(Vec<LookupResult>, Option<Claimed<'l>>)> {
        let find = |planned: &PlannedLayer| match (&planned.content, lookup) {
            (PlannedContent::Known(known), _) => Ok(LookupResult::Hit(known.clone())),
            (PlannedContent::Tree(tree), Some(lookup)) => lookup.find(planned, tree),
            (PlannedContent::Tree(_), None) => Ok(LookupResult::Miss),
        };
        loop {
            let lookups = self.layers.iter().map(find).collect::<Result<Vec<_>>>()?;
            let in_flight = lookup.filter(|lookup| lookup.caches.cache.is_some());
            let Some(in_flight) = in_flight.and_then(|lookup| lookup.caches.in_flight) else {
                return Ok((lookups, None));
            };
            let keys = lookups.iter().zip(&self.layers);
            let keys = keys.filter_map(|(found, planned)| found.key_to_make(planned, self.compression)).collect();
            if let Some(claimed) = in_flight.claim(keys) {
                return Ok((lookups, Some(claimed)));
            }
        }
    }

    /// Checks the programs of new layers; layers from caches were checked when they were built.
    fn warn_of_programs(&self, layers: &[BuiltLayer], progress: &dyn Progress) {
        let made = layers.iter().zip(&self.layers).filter(|(built, _)| built.origin == LayerOrigin::Made);
        let trees: Vec<&Tree> = made.filter_map(|(_, planned)| planned.tree()).collect();
        let config = self.base.config();
        programs::warn_of_programs(&trees, config.platform(), self.loaders, progress);
    }

    /// Returns the layers that are not in the layout.
    ///
    /// # Errors
    /// Fails if the layers of the base stay in a registry, and its name there is unknown.
    fn remote_layers(&self, layers: &[BuiltLayer]) -> Result<RemoteLayers> {
        let mut remote = RemoteLayers::default();
        if let Base::Image { image, name, layers: BaseLayers::Remote } = &self.base {
            let name =
                name.as_deref().ok_or_else(|| Error::usage("base image", "its name in a registry is unknown"))?;
            let base = name.parse()?;
            image.manifest.layers.iter().for_each(|layer| remote.insert(layer.digest, &base));
        }
        for built in layers {
            if let Some(repository) = &built.remote_in {
                remote.insert(built.layer.descriptor.digest, repository);
            }
        }
        Ok(remote)
    }

    fn copy_base(&self, layout: &Layout, progress: &dyn Progress) -> Result<()> {
        match &self.base {
            Base::Scratch(_) | Base::Image { layers: BaseLayers::Remote, .. } => Ok(()),
            Base::Image { image, .. } => copy_blobs(&*image.source, &image.manifest.layers, layout, progress)
                .map(|_| ())
                .map_err(|error| error.within("base image")),
        }
    }

    fn warn_of_many_layers(&self, progress: &dyn Progress) {
        let count = self.base.layers().len() + self.layers.len();
        if count > MOST_STACKED {
            warn(progress, "image", &format!("{count} layers; Docker cannot run images with more than {MOST_STACKED}"));
        }
    }
}

impl BuiltLayer {
    /// Returns a cached layer that is in the layout.
    pub(super) fn of(layer: Layer, origin: LayerOrigin) -> Self {
        BuiltLayer { layer, origin, work: Work::default(), differences: None, remote_in: None, from: None }
    }
}

impl PlannedLayer {
    /// Returns the entries, if they are known.
    pub fn tree(&self) -> Option<&Tree> {
        match &self.content {
            PlannedContent::Tree(tree) => Some(tree),
            PlannedContent::Known(_) => None,
        }
    }

    fn tree_mut(&mut self) -> Option<&mut Tree> {
        match &mut self.content {
            PlannedContent::Tree(tree) => Some(tree),
            PlannedContent::Known(_) => None,
        }
    }
}
