//! What the commands that build an image have in common: flags, steps and report.

use super::blob_locations;
use super::config::unique;
use super::content_flags::LayerFlag;
use super::destination::{ExportDestination, Writing};
use super::excluded;
use super::explain;
use super::layer_cache::LayerCacheArguments;
use super::layout_lock::{LayoutLockArguments, WriteCheckArguments};
use super::output::print;
use super::progress_display::Watch;
use super::replaced::{replaced_json, report_replaced};
use super::request::RequestArguments;
use super::result_files::ResultFiles;
use super::robot::own_directory;
use super::shared_cache::SharedCacheArguments;
use super::source::OpenedImage;
use super::values;
use super::{Common, OutputFormat};
use clap::{Args, ValueEnum};
use ocibuild::build::{self, BuildSpec, Built, LayerCaches, Plan, SharedLayers};
use ocibuild::cache::FactsLookup;
use ocibuild::codec::compression::{Compression, Encoding};
use ocibuild::common::human_numbers::{counted, size};
use ocibuild::common::progress::warn;
use ocibuild::common::root::{PathStatus, Root};
use ocibuild::layers::CompressionPolicy;
use ocibuild::robot_image::RobotImage;
use ocibuild::secrets::FoundSecret;
use ocibuild::store::{LAYERS, Layout};
use ocibuild::{Error, ImageName, Result};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

#[derive(Debug, Args)]
pub(super) struct BuildFlags {
    /// Name the image: TAG or NAME:TAG. Repeatable [default: latest]
    #[arg(short, long = "tag", value_name = "NAME")]
    pub(super) tags: Vec<ImageName>,
    #[command(flatten)]
    request: RequestArguments,
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
    results: ResultFiles,
    /// Print the plan of the build without writing anything
    #[arg(long, conflicts_with = "verify_writes", help_heading = "Output")]
    dry_run: bool,
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

/// Where an image goes.
pub(super) struct BuildTarget {
    /// The layout that lists it. Without one, its blobs are in the cache on the way to the destinations.
    pub(super) layout: Option<PathBuf>,
    /// Where it is copied to.
    pub(super) destinations: Vec<ExportDestination>,
    /// The texts that name the destinations.
    pub(super) texts: Vec<String>,
    /// The flag that names files among the destinations.
    pub(super) flag: &'static str,
}

impl BuildTarget {
    /// Returns `true` if a tar comes out of standard output.
    fn is_on_standard_output(&self) -> bool {
        self.destinations.iter().any(ExportDestination::is_standard_output)
    }

    /// Returns its name in messages.
    fn place(&self) -> String {
        match &self.layout {
            Some(layout) => layout.display().to_string(),
            None => self.texts.join(", "),
        }
    }

    /// Returns the directory in which a dry run spools an archive.
    fn spool(&self) -> Result<Root> {
        nearest_directory(self.layout.as_deref().unwrap_or(Path::new(".")))
    }
}

impl BuildFlags {
    /// Builds the image, copies it to its destinations, and prints the digest of its manifest.
    ///
    /// # Errors
    /// Fails if a flag does not fit, a source or the base cannot be read, or a place cannot be written.
    pub(super) fn build(&self, order: &[LayerFlag], target: &BuildTarget) -> Result<ExitCode> {
        let watch = Arc::new(Watch::new(&self.common));
        build::check_names(&self.tags)?;
        let check = self.write_check.check();
        target.destinations.iter().try_for_each(|destination| destination.check(check))?;
        self.check_result_files(target)?;
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
        let directory = robot.map_or(Ok(PathBuf::from(".")), |robot| own_directory(&robot.source))?;
        self.shared_cache.check_lock(&mut self.request.bases.lock_file(&directory)?)?;
        let names = self.names(robot)?;
        let spec = self.spec(order, robot, target, &watch)?;
        if self.dry_run {
            let plan = spec.plan(&target.spool()?, None, &watch)?;
            let secrets = plan.check_secrets(&*watch)?;
            show(&plan, &secrets, self.common.format)?;
            return Ok(ExitCode::SUCCESS);
        }
        let mut layout = match &target.layout {
            Some(layout) => Layout::create_locking(layout, self.lock.locking())?.checking(self.write_check.check()),
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
        let plan = spec.plan(layout.root(), Some(memory), &watch)?;
        excluded::say(&plan, &watch);
        let mut built = match &target.layout {
            Some(_) => plan.build(&layout, Some(memory), &names, &watch)?,
            None => plan.build_unlisted(&layout, Some(memory), &watch)?,
        };
        if !built.remote_layers.is_empty()
            && let Some(locations) = blob_locations::open(&self.request.cache_directory, &watch)
        {
            locations.record_remote_layers(&built.image.descriptor.digest, &built.remote_layers)?;
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
            check: self.write_check.check(),
            network,
            locations: locations.as_ref(),
            cache: cache.as_ref(),
            cache_directory: &self.request.cache_directory,
            watch: &watch,
        };
        let opened = OpenedImage { image: built.image.clone(), names: names.clone() };
        for destination in &target.destinations {
            built.replaced.extend(destination.write(&opened, &writing)?.replaced);
        }
        self.report(target, (&plan, &built), &names, &watch)?;
        if let Some(shared) = &shared {
            self.shared_cache.publish(shared, (&plan, &built), network, &watch)?;
        }
        if cache.is_some() {
            bound.keep(&self.request.cache_directory, &watch);
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Returns the names that were given; for a robot, else the name of its directory.
    fn names(&self, robot: Option<&RobotImage>) -> Result<Vec<ImageName>> {
        let Some(robot) = robot.filter(|_| self.tags.is_empty()) else { return Ok(self.tags.clone()) };
        let source = Root::resolve(&robot.source)?;
        let name = if PathStatus::of(&source)?.is_directory() { source.file_name() } else { source.file_stem() };
        let name = name.map(|name| name.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
        let parts: Vec<&str> =
            name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|part| !part.is_empty()).collect();
        let name = if parts.is_empty() { "robot".to_owned() } else { parts.join("-") };
        Ok(vec![format!("{name}:latest").parse()?])
    }

    fn spec(
        &self,
        order: &[LayerFlag],
        robot: Option<&RobotImage>,
        target: &BuildTarget,
        watch: &Arc<Watch>,
    ) -> Result<BuildSpec> {
        let request = self.request.resolve(order, robot, &self.outputs(target), self.compression()?, watch)?;
        let mut spec = request.spec;
        spec.annotations.extend(unique(&self.annotations, "--annotation")?);
        if !self.cache.is_on()? {
            spec.listings = None;
        }
        Ok(spec)
    }

    /// Returns the paths that are written, each with a description.
    fn outputs<'t>(&'t self, target: &'t BuildTarget) -> Vec<(&'t Path, &'t str)> {
        let layout = target.layout.iter().map(|layout| (layout.as_path(), "the layout"));
        let destinations = target.destinations.iter().filter_map(ExportDestination::path);
        layout.chain(destinations.map(|path| (path, target.flag))).chain(self.results.paths()).collect()
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

    fn report(
        &self,
        target: &BuildTarget,
        (plan, built): (&Plan, &Built),
        names: &[ImageName],
        watch: &Watch,
    ) -> Result<()> {
        let image = &built.image;
        let (digest, config) = (image.descriptor.digest.to_string(), image.manifest.config.digest.to_string());
        self.results.write(image, names)?;
        if ocibuild::common::root::sync_was_refused() {
            warn(watch, &target.place(), "this file system does not support fsync; a crash can lose the image");
        }
        report_replaced(&built.replaced, watch);
        match self.common.format {
            OutputFormat::Text => {
                let total: u64 = image.manifest.layers.iter().map(|layer| layer.size).sum();
                for (made, planned) in built.layers.iter().zip(&plan.layers) {
                    let layer = &made.layer;
                    let (size, tar) = (size(layer.descriptor.size), size(layer.tar_size));
                    let (digest, name) = (layer.descriptor.digest, &planned.name);
                    let entries = planned.tree().map(|tree| format!(", {}", counted(tree.len(), "entry")));
                    watch.say(&format!("layer {digest}  {size} of {tar}{}  {name}", entries.unwrap_or_default()));
                    if self.cache.explain {
                        watch.say(&format!("  {}", explain::line(made)));
                    }
                }
                let layers = counted(image.manifest.layers.len(), "layer");
                watch.say(&format!("image of {layers}, {}, in {}", size(total), target.place()));
                match target.is_on_standard_output() {
                    true => watch.say(&digest),
                    false => print(&digest)?,
                }
                Ok(())
            }
            OutputFormat::Json => {
                let layers: Vec<_> = built
                    .layers
                    .iter()
                    .zip(&plan.layers)
                    .map(|(made, planned)| {
                        let layer = &made.layer;
                        let mut described = layer.descriptor.to_json();
                        described["diffId"] = layer.diff_id.to_string().into();
                        described["tarSize"] = layer.tar_size.into();
                        explain::add_to(&mut described, made);
                        if let Some(tree) = planned.tree() {
                            described["entries"] = tree.len().into();
                        }
                        described["createdBy"] = planned.created_by.as_str().into();
                        described
                    })
                    .collect();
                let names: Vec<String> = names.iter().map(ToString::to_string).collect();
                let mut result = json!({
                    "digest": digest,
                    "configDigest": config,
                    "mediaType": image.descriptor.media_type,
                    "size": image.descriptor.size,
                    "names": if names.is_empty() { vec!["latest".to_owned()] } else { names },
                    "replaced": replaced_json(&built.replaced),
                    "baseLayers": plan.base.layers().len(),
                    "layers": layers,
                    "secrets": built.secrets.iter().map(FoundSecret::to_json).collect::<Vec<_>>(),
                    "excluded": plan.excluded_to_json(),
                });
                match &target.layout {
                    Some(layout) => result["layout"] = layout.display().to_string().into(),
                    None => result["destinations"] = json!(target.texts),
                }
                print(&result.to_string())
            }
        }
    }
}

/// Returns the directory in which a dry run spools an archive: `output`, or its nearest existing parent.
fn nearest_directory(output: &Path) -> Result<Root> {
    for path in output.ancestors() {
        if PathStatus::of(path)?.is_directory() {
            return Root::open(path);
        }
    }
    Root::open(Path::new("."))
}

fn show(plan: &Plan, secrets: &[FoundSecret], format: OutputFormat) -> Result<()> {
    let mut document = plan.to_json()?;
    document["secrets"] = secrets.iter().map(FoundSecret::to_json).collect();
    if format == OutputFormat::Json {
        return print(&document.to_string());
    }
    let mut lines = Vec::new();
    for layer in plan.base.layers() {
        lines.push(format!("base layer  {}  {}", layer.digest, size(layer.size)));
    }
    for layer in &plan.layers {
        let content = match layer.tree() {
            Some(tree) => format!("{}, {}", counted(tree.len(), "entry"), size(tree.content_size())),
            None => "from the cache".to_owned(),
        };
        lines.push(format!("new layer   {content}, {}  {}", plan.compression, layer.name));
    }
    lines.extend(excluded::lines(plan));
    let config = serde_json::to_string_pretty(&document["config"]).unwrap_or_default();
    lines.push(format!("config      {config}"));
    print(&lines.join("\n"))
}
