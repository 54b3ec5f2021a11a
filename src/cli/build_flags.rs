//! What the commands that build an image have in common: flags, steps and report.

use super::blob_locations;
use super::build_file::BuildFileArguments;
use super::build_report::{Explains, Made, Reporting};
use super::build_target::BuildTarget;
use super::config::unique;
use super::content_flags::LayerFlag;
use super::destination::{ExportDestination, Writing};
use super::excluded;
use super::into_index::{self, IntoIndexArguments};
use super::layer_cache::LayerCacheArguments;
use super::layout_lock::{LayoutLockArguments, WriteCheckArguments};
use super::namespace::NamespaceArguments;
use super::progress_display::Watch;
use super::request::RequestArguments;
use super::result_files::ResultFiles;
use super::shared_cache::SharedCacheArguments;
use super::source::OpenedImage;
use super::values;
use super::{Common, OutputFormat};
use clap::{Args, ValueEnum};
use ocibuild::build::add_platforms::GrownIndex;
use ocibuild::build::{self, BuildSpec, LayerCaches, SharedLayers};
use ocibuild::cache::FactsLookup;
use ocibuild::codec::compression::{Compression, Encoding};
use ocibuild::common::root::{PathStatus, Root};
use ocibuild::layers::CompressionPolicy;
use ocibuild::robot_image::RobotImage;
use ocibuild::store::{BlobSink as _, LAYERS, Layout, RemoteLayers, StoredIndex};
use ocibuild::{Error, ImageName, Platform, Result};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

#[derive(Debug, Args)]
pub(super) struct BuildFlags {
    /// Name the image: TAG or NAME:TAG. Repeatable [default: latest]
    #[arg(short, long = "tag", value_name = "NAME")]
    pub(super) tags: Vec<ImageName>,
    #[command(flatten)]
    pub(super) file: BuildFileArguments,
    #[command(flatten)]
    pub(super) request: RequestArguments,
    /// Add an annotation to the manifest. Repeatable
    #[arg(long = "annotation", value_name = "KEY=VALUE", value_parser = values::annotation, help_heading = "Config")]
    annotations: Vec<(String, String)>,
    #[command(flatten)]
    cache: LayerCacheArguments,
    #[command(flatten)]
    shared_cache: SharedCacheArguments,

    /// Set the compression of new layers
    #[arg(long, value_name = "KIND", default_value = "gzip", help_heading = "Layers")]
    compression: CompressionKind,
    /// Set the compression level: gzip 1-12 [default: 5], zstd 1-19 [default: 3]
    #[arg(long, value_name = "LEVEL", help_heading = "Layers")]
    compression_level: Option<u8>,

    #[command(flatten)]
    pub(super) into_index: IntoIndexArguments,
    #[command(flatten)]
    namespace: NamespaceArguments,
    #[command(flatten)]
    pub(super) results: ResultFiles,
    /// Print the plan of the build without writing anything
    #[arg(long, conflicts_with = "verify_writes", help_heading = "Output")]
    pub(super) dry_run: bool,
    /// The paths that are written for other images of the build file.
    #[arg(skip)]
    pub(super) written_beside: Vec<PathBuf>,
    /// The build file that equals the flags, if a dry run is to print it.
    #[arg(skip)]
    pub(super) written: Option<String>,
    #[command(flatten)]
    lock: LayoutLockArguments,
    #[command(flatten)]
    write_check: WriteCheckArguments,
    #[command(flatten)]
    pub(super) common: Common,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum CompressionKind {
    /// Supported by all engines and registries
    Gzip,
    /// gzip that passes through files that rcc has already compressed; fastest
    Reuse,
    /// Smaller and faster than gzip; needs Docker 23 or later
    Zstd,
    /// No compression
    None,
}

/// What is done for an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BuildPhase {
    /// It is planned, in silence, to see whether it can be built.
    Check,
    /// It is built, and what is to be said is said.
    Build,
}

impl BuildFlags {
    /// Builds the image, copies it to its destinations, and prints the digest of its manifest.
    ///
    /// # Errors
    /// Fails if a flag does not fit, a source or the base cannot be read, or a place cannot be written.
    pub(super) fn build(&self, order: &[LayerFlag], target: &BuildTarget, phase: BuildPhase) -> Result<ExitCode> {
        let watch = Arc::new(match phase {
            BuildPhase::Check => Watch::Nothing,
            BuildPhase::Build => Watch::new(&self.common),
        });
        build::check_names(&self.tags)?;
        let check = self.write_check.check();
        target.destinations.iter().try_for_each(|destination| destination.check(check))?;
        self.check_result_files(target)?;
        self.check_into_index(target)?;
        self.namespace.check(&target.destinations)?;
        self.shared_cache.check_policy(self.request.bases.network())?;
        let bound = self.cache.tidy.bound()?;
        let cache = self.cache.open(&self.request.cache_directory, &watch)?;
        let cache = cache.map(|cache| cache.trusting(self.shared_cache.trusted()));
        let policy = self.compression()?;
        let network = self.request.bases.network();
        let shared = self.shared_cache.open(network, &watch)?;
        let known = FactsLookup { cache: cache.as_ref(), shared: shared.as_ref(), policy };
        let unpack_in = cache.as_ref().map(|_| &self.request.cache_directory);
        let packaged = self.request.robot_image(order, &known, unpack_in, &watch)?;
        let robot = packaged.as_ref().map(|packaged| &packaged.image);
        let directory = self.request.own_directory(robot)?;
        self.shared_cache.check_lock(&mut self.request.bases.lock_file(&directory)?)?;
        let names = self.names(robot)?;
        let platforms = self.request.platforms()?;
        if platforms.len() > 1 {
            self.check_several(target)?;
        }
        let spec = |platform: &Option<&Platform>| self.spec(order, robot, *platform, target, &watch);
        let specs = platforms.iter().map(spec).collect::<Result<Vec<_>>>()?;
        let reporting = Reporting { target, names: &names, format: self.common.format, watch: &watch };
        if self.dry_run || phase == BuildPhase::Check {
            let spool = target.spool()?;
            let plans = specs.into_iter().map(|spec| spec.plan(&spool, None, &watch)).collect::<Result<Vec<_>>>()?;
            match (phase, &self.written) {
                (BuildPhase::Check, _) => {}
                (BuildPhase::Build, Some(file)) => reporting.build_file(&plans, file)?,
                (BuildPhase::Build, None) => reporting.plans(&plans)?,
            }
            return Ok(ExitCode::SUCCESS);
        }
        let mut layout = match &target.layout {
            Some(layout) => Layout::create_locking(layout, self.lock.locking())?.checking(check),
            None => Layout::kept(&self.request.cache_directory.open()?, LAYERS, &*watch)?,
        };
        if let Some(cache) = &cache {
            layout = layout.with_verification_cache(cache.verified_files().clone());
        }
        let layout = Arc::new(layout);
        let is_sparse = self.request.bases.is_sparse();
        let memory = LayerCaches {
            cache: cache.as_ref(),
            shared: shared.as_ref(),
            shared_layers: if is_sparse { SharedLayers::Remote } else { SharedLayers::Fetched },
            layout: &layout,
        };
        let is_listed = target.layout.is_some() && platforms.len() == 1 && !self.into_index.is_wanted();
        let make = |spec: BuildSpec| {
            let plan = spec.plan(layout.root(), Some(memory), &watch)?;
            excluded::say(&plan, &watch);
            let built = match is_listed {
                true => plan.build(&layout, Some(memory), &names, &watch)?,
                false => plan.build_unlisted(&layout, Some(memory), &watch)?,
            };
            Ok(Made { plan, built })
        };
        let mut made = specs.into_iter().map(make).collect::<Result<Vec<_>>>()?;
        for Made { built, .. } in made.iter().filter(|made| !made.built.remote_layers.is_empty()) {
            if let Some(locations) = blob_locations::open(&self.request.cache_directory, &watch) {
                locations.record_remote_layers(&built.image.descriptor.digest, &built.remote_layers)?;
            }
        }
        if let Some(robot) = robot {
            robot.warn_of_unrewritten_paths(&watch);
        }
        let locations = match target.destinations.is_empty() {
            true => None,
            false => blob_locations::open(&self.request.cache_directory, &watch),
        };
        let writing = Writing {
            locking: self.lock.locking(),
            check,
            network,
            namespace: self.namespace.name(),
            locations: locations.as_ref(),
            cache: cache.as_ref(),
            cache_directory: &self.request.cache_directory,
            watch: &watch,
        };
        let explains = if self.cache.explain { Explains::Yes } else { Explains::No };
        match &mut made[..] {
            all if self.into_index.is_wanted() => {
                let grown = add_to_index(all, target, &layout, &names, &writing)?;
                self.results.write(&grown.descriptor, None, &names)?;
                reporting.grown_index(&grown, all, explains)?;
            }
            [only] => {
                let opened = OpenedImage { image: only.built.image.clone(), names: names.clone() };
                for destination in &target.destinations {
                    only.built.replaced.extend(destination.write(&opened, &writing)?.replaced);
                }
                let image = &only.built.image;
                self.results.write(&image.descriptor, Some(image.manifest.config.digest), &names)?;
                reporting.image(only, explains)?;
            }
            several => {
                let images: Vec<_> = several.iter().map(|made| made.built.image.clone()).collect();
                let index = StoredIndex::of_images(&images, &layout)?;
                let mut replaced = match &target.layout {
                    Some(_) => layout.commit_index(&index, &names)?,
                    None => Vec::new(),
                };
                for destination in &target.destinations {
                    replaced.extend(destination.write_index(&index, &names, &writing)?.replaced);
                }
                self.results.write(&index.descriptor, None, &names)?;
                reporting.index(&index.descriptor, several, &replaced, explains)?;
            }
        }
        if let Some(shared) = &shared {
            for Made { plan, built } in &made {
                self.shared_cache.publish(shared, (plan, built), network, &watch)?;
            }
        }
        if cache.is_some() {
            bound.keep(&self.request.cache_directory, &watch);
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Checks that there is one index to add to, if there is any.
    fn check_into_index(&self, target: &BuildTarget) -> Result<()> {
        if !self.into_index.is_wanted() {
            return Ok(());
        }
        self.results.check_has_no_image_id()?;
        into_index::check_one_name(&self.tags)?;
        let count = usize::from(target.layout.is_some()) + target.destinations.len();
        self.into_index.check(count, &target.destinations)
    }

    /// Checks that the other flags fit an image for several platforms.
    fn check_several(&self, target: &BuildTarget) -> Result<()> {
        self.results.check_has_no_image_id()?;
        if self.request.bases.is_sparse() {
            return Err(Error::usage("--sparse", "is for one platform"));
        }
        target.destinations.iter().try_for_each(|destination| destination.check_holds_several("--platform"))
    }

    /// Returns the names that were given; for a robot, else the name of its directory.
    fn names(&self, robot: Option<&RobotImage>) -> Result<Vec<ImageName>> {
        let Some(robot) = robot.filter(|_| self.tags.is_empty()) else { return Ok(self.tags.clone()) };
        let source = Root::resolve(&robot.source)?;
        let name = if PathStatus::of(&source)?.is_directory() { source.file_name() } else { source.file_stem() };
        Ok(vec![format!("{}:latest", values::repository_of(name, "robot")).parse()?])
    }

    fn spec(
        &self,
        order: &[LayerFlag],
        robot: Option<&RobotImage>,
        platform: Option<&Platform>,
        target: &BuildTarget,
        watch: &Arc<Watch>,
    ) -> Result<BuildSpec> {
        let outputs = self.outputs(target);
        let request = self.request.resolve(order, robot, platform, &outputs, self.compression()?, watch)?;
        let mut spec = request.spec;
        spec.annotations.extend(unique(&self.annotations, "--annotation")?);
        if !self.cache.is_on()? {
            spec.listings = None;
        }
        Ok(spec)
    }

    /// Returns the paths that are written, each with a description.
    pub(super) fn outputs<'t>(&'t self, target: &'t BuildTarget) -> Vec<(&'t Path, &'t str)> {
        let layout = target.layout.iter().map(|layout| (layout.as_path(), "the layout"));
        let destinations = target.destinations.iter().filter_map(ExportDestination::path);
        let beside = self.written_beside.iter().map(|path| (path.as_path(), "another image"));
        layout.chain(destinations.map(|path| (path, target.flag))).chain(self.results.paths()).chain(beside).collect()
    }

    fn compression(&self) -> Result<CompressionPolicy> {
        let encoding = match self.compression {
            CompressionKind::Gzip | CompressionKind::Reuse => Encoding::Gzip,
            CompressionKind::Zstd => Encoding::Zstd,
            CompressionKind::None => Encoding::Plain,
        };
        let policy = CompressionPolicy::from(Compression::new(encoding, self.compression_level)?);
        Ok(if self.compression == CompressionKind::Reuse { policy.with_gzip_passthrough() } else { policy })
    }

    /// Checks before the build that the files for digests can be created.
    fn check_result_files(&self, target: &BuildTarget) -> Result<()> {
        if target.is_on_standard_output() && self.common.format == OutputFormat::Json {
            return Err(Error::usage("--format json", format!("standard output is for the tar of {}", target.flag)));
        }
        self.results.check()
    }
}

/// Adds the images to the index that the name has where they go: in `layout`, which has them, or at the only destination.
fn add_to_index(
    made: &[Made],
    target: &BuildTarget,
    layout: &Arc<Layout>,
    names: &[ImageName],
    writing: &Writing<'_>,
) -> Result<GrownIndex> {
    let images: Vec<_> = made.iter().map(|made| made.built.image.clone()).collect();
    match &target.destinations[..] {
        [only] => into_index::add(only, names, &images, writing),
        _ => {
            let mut left_out = RemoteLayers::default();
            made.iter().for_each(|made| left_out.extend(made.built.remote_layers.clone()));
            into_index::add_in_layout(layout, names, &images, &left_out, writing)
        }
    }
}
