//! What the commands that build an image have in common: flags and their checks.

use super::build_file::BuildFileArguments;
use super::build_target::BuildTarget;
use super::compression::CompressionArguments;
use super::config::unique;
use super::content_flags::LayerFlag;
use super::destination::ExportDestination;
use super::into_index::{self, IntoIndexArguments};
use super::layer_cache::LayerCacheArguments;
use super::layout_lock::{LayoutLockArguments, WriteCheckArguments};
use super::namespace::NamespaceArguments;
use super::progress_display::Watch;
use super::request::RequestArguments;
use super::result_files::ResultFiles;
use super::shared_cache::SharedCacheArguments;
use super::values;
use super::{Common, OutputFormat};
use clap::Args;
use ocibuild::build::{self, BuildSpec};
use ocibuild::common::root::{PathStatus, Root};
use ocibuild::layers::CompressionPolicy;
use ocibuild::robot_image::RobotImage;
use ocibuild::{Error, ImageName, Platform, Result};
use std::path::{Path, PathBuf};
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
    pub(super) cache: LayerCacheArguments,
    #[command(flatten)]
    pub(super) shared_cache: SharedCacheArguments,

    #[command(flatten)]
    pub(super) compression: CompressionArguments,
    #[command(flatten)]
    pub(super) into_index: IntoIndexArguments,
    #[command(flatten)]
    pub(super) namespace: NamespaceArguments,
    #[command(flatten)]
    pub(super) results: ResultFiles,
    /// Print the plan of the build without writing anything
    #[arg(long, help_heading = "Output")]
    pub(super) dry_run: bool,
    /// The paths that are written for other images of the build file.
    #[arg(skip)]
    pub(super) written_beside: Vec<PathBuf>,
    /// The build file that equals the flags, if a dry run is to print it.
    #[arg(skip)]
    pub(super) written: Option<String>,
    #[command(flatten)]
    pub(super) lock: LayoutLockArguments,
    #[command(flatten)]
    pub(super) write_check: WriteCheckArguments,
    #[command(flatten)]
    pub(super) common: Common,
}

impl BuildFlags {
    /// Checks that the flags fit each other and the target.
    ///
    /// # Errors
    /// Fails if one does not, or a file for digests cannot be created.
    pub(super) fn check(&self, target: &BuildTarget) -> Result<()> {
        build::check_names(&self.tags)?;
        let check = self.write_check.check();
        target.destinations.iter().try_for_each(|destination| destination.check(check))?;
        self.check_result_files(target)?;
        self.check_into_index(target)?;
        self.namespace.check(&target.destinations)?;
        self.shared_cache.check_policy(self.request.bases.network())
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
    pub(super) fn check_several(&self, target: &BuildTarget) -> Result<()> {
        self.results.check_has_no_image_id()?;
        if self.request.bases.is_sparse() {
            return Err(Error::usage("--sparse", "is for one platform"));
        }
        target.destinations.iter().try_for_each(|destination| destination.check_holds_several("--platform"))
    }

    /// Returns the names that were given; for a robot, else the name of its directory.
    pub(super) fn names(&self, robot: Option<&RobotImage>) -> Result<Vec<ImageName>> {
        let Some(robot) = robot.filter(|_| self.tags.is_empty()) else { return Ok(self.tags.clone()) };
        let source = Root::resolve(&robot.source)?;
        let name = if PathStatus::of(&source)?.is_directory() { source.file_name() } else { source.file_stem() };
        Ok(vec![format!("{}:latest", values::repository_of(name, "robot")).parse()?])
    }

    pub(super) fn spec(
        &self,
        order: &[LayerFlag],
        robot: Option<&RobotImage>,
        platform: Option<&Platform>,
        compression: CompressionPolicy,
        target: &BuildTarget,
        watch: &Arc<Watch>,
    ) -> Result<BuildSpec> {
        let outputs = self.outputs(target);
        let request = self.request.resolve(order, robot, platform, &outputs, compression, watch)?;
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

    /// Checks before the build that the files for digests can be created.
    fn check_result_files(&self, target: &BuildTarget) -> Result<()> {
        if target.is_on_standard_output() && self.common.format == OutputFormat::Json {
            return Err(Error::usage("--format json", format!("standard output is for the tar of {}", target.flag)));
        }
        self.results.check()
    }
}
