//! The request for an image: the flags of every command that plans one, and the request that they form.

use super::base::BaseArguments;
use super::cache_directory::CacheDirectory;
use super::config::ConfigArguments;
use super::content_flags::{ContentArguments, LayerFlag};
use super::environment_switches;
use super::progress_display::Watch;
use super::rcc_download::Surroundings;
use super::robot::{CopiesSomething, RobotArguments, RobotToPackage, own_directory};
use super::secrets::SecretsArguments;
use super::values;
use clap::Args;
use ocibuild::build::image::{Base, ConfigEdit};
use ocibuild::build::{self, BuildSpec, LayerSpec};
use ocibuild::cache::FactsLookup;
use ocibuild::common::human_numbers::counted;
use ocibuild::common::progress::warn;
use ocibuild::layers::CompressionPolicy;
use ocibuild::layers::rootfs::Listings;
use ocibuild::robot_image::{DEFAULT_BASE, RobotImage};
use ocibuild::{Error, Location, Platform, Result, Timestamp};
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Debug, Args)]
pub(super) struct RequestArguments {
    /// Set the base image: scratch, a registry reference, PATH[:NAME] or TRANSPORT:ADDRESS (see docs/images.md)
    #[arg(long, value_name = "IMAGE", visible_aliases = ["from", "base-image"])]
    base: Option<String>,
    #[command(flatten)]
    pub(super) bases: BaseArguments,
    #[command(flatten)]
    pub(super) cache_directory: CacheDirectory,
    /// Select a platform of the base image, or set the platform of an image without a base. Several make a multi-platform image
    ///
    /// {os}, {arch} and {variant} in the sources of --copy are replaced by the platform's.
    #[arg(long = "platform", value_name = "OS/ARCH[,...]", value_delimiter = ',', help_heading = "Base image")]
    platforms: Vec<Platform>,
    #[command(flatten)]
    content: ContentArguments,
    #[command(flatten)]
    secrets: SecretsArguments,
    #[command(flatten)]
    config: ConfigArguments,
    /// Set the time of the image and its files: RFC 3339 or seconds [default: 1970-01-01T00:00:00Z] [env: SOURCE_DATE_EPOCH]
    #[arg(long, value_name = "TIME", allow_negative_numbers = true, help_heading = "Config")]
    created: Option<Timestamp>,
    #[command(flatten)]
    robot: RobotArguments,
    /// The directory of the build file; empty without one, and in the working directory.
    #[arg(skip)]
    pub(super) directory: PathBuf,
}

/// The flags that make a request for an image.
const LOOKED_FOR: &str =
    "no robot.yaml in this directory, no --robot, no --copy or other content, and no change of a config";

/// The request.
pub(super) struct ImageRequest {
    /// The image.
    pub(super) spec: BuildSpec,
    /// The location of its base; `None` for `scratch`.
    pub(super) location: Option<Location>,
}

impl RequestArguments {
    /// Returns the platforms to build for; `None` is that of the base.
    ///
    /// # Errors
    /// Fails if one is given twice, or what can be read only once is needed for each.
    pub(super) fn platforms(&self) -> Result<Vec<Option<&Platform>>> {
        for (place, platform) in self.platforms.iter().enumerate() {
            if self.platforms[..place].contains(platform) {
                return Err(Error::usage("--platform", format!("{platform} is given twice")));
            }
        }
        if self.platforms.len() > 1 && self.reads_standard_input() {
            return Err(Error::usage("--copy -", "standard input can be read once, and there are several platforms"));
        }
        match &self.platforms[..] {
            [] => Ok(vec![None]),
            several => Ok(several.iter().map(Some).collect()),
        }
    }

    /// Returns whether a tar on standard input is copied.
    pub(super) fn reads_standard_input(&self) -> bool {
        self.content.reads_standard_input()
    }

    /// Returns the directory of the robot; without one, that of the build file.
    ///
    /// # Errors
    /// Fails if it cannot be seen what the robot is.
    pub(super) fn own_directory(&self, robot: Option<&RobotImage>) -> Result<PathBuf> {
        match robot {
            Some(robot) => own_directory(&robot.source),
            None => Ok(Path::new(".").join(&self.directory)),
        }
    }

    /// Returns the platform, if one is given.
    ///
    /// # Errors
    /// Fails if several are given, which `what` cannot be for.
    pub(super) fn only_platform(&self, what: &str) -> Result<Option<&Platform>> {
        match &self.platforms[..] {
            [] => Ok(None),
            [only] => Ok(Some(only)),
            _ => Err(Error::usage("--platform", format!("{what} is for one platform"))),
        }
    }

    /// Returns the robot to package, if there is one, with an image for each platform. `known` has the facts of earlier builds about
    /// environments; a robot that comes in one file is unpacked and kept in `unpack_in`.
    pub(super) fn robot_images(
        &self,
        order: &[LayerFlag],
        known: &FactsLookup<'_>,
        unpack_in: Option<&CacheDirectory>,
        watch: &Arc<Watch>,
    ) -> Result<Option<RobotToPackage>> {
        let copies_something = if order.is_empty() { CopiesSomething::No } else { CopiesSomething::Yes };
        let Some(file) = self.robot.file(&self.directory, copies_something, watch)? else { return Ok(None) };
        let default = [Platform::linux_amd64()];
        let platforms = if self.platforms.is_empty() { &default } else { &self.platforms[..] };
        let surroundings = Surroundings { bases: &self.bases, cache: &self.cache_directory, unpack_in, watch };
        let user_and_split = (self.config.user.as_deref(), self.content.split());
        self.robot.images(&file, platforms, user_and_split, known, surroundings).map(Some)
    }

    /// Returns the request. `outputs` are the paths that the command writes, each with a description; they are excluded from sources.
    pub(super) fn resolve(
        &self,
        order: &[LayerFlag],
        robot: Option<&RobotImage>,
        platform: Option<&Platform>,
        outputs: &[(&Path, &str)],
        compression: CompressionPolicy,
        watch: &Arc<Watch>,
    ) -> Result<ImageRequest> {
        let default = if robot.is_some() { Timestamp::RCC } else { Timestamp::EPOCH };
        let created = values::created(self.created, default)?;
        let mut layers = Vec::new();
        let mut config = ConfigEdit::default();
        let location = self.base_location(robot.is_some())?;
        let directory = self.own_directory(robot)?;
        let mut edit = self.config.edit(watch)?;
        self.content.check_split(order, robot.is_some_and(|robot| robot.environment.is_some()))?;
        self.content.check_exclusions(robot.is_some())?;
        let copied = self.content.layers(order, created, platform)?;
        let is_nothing = robot.is_none() && copied.is_empty() && edit == ConfigEdit::default();
        if is_nothing && self.base.is_none() {
            return Err(Error::usage("image", format!("nothing to build: {LOOKED_FOR}")).hint("--help lists the flags"));
        }
        let base = self.bases.open(location.as_ref(), platform, &directory, &self.cache_directory, watch)?;
        if let Some(robot) = robot {
            layers = robot_layers(robot, &self.content, watch)?;
            // As in rcc, the robot's search path comes before that of the container.
            let searched = edit.env.get("PATH").cloned();
            let searched = searched.or_else(|| base.config().variable("PATH").map(str::to_owned));
            config = robot.config(searched.as_deref())?;
            if config.env.contains_key("PATH") {
                edit.env.remove("PATH");
            }
        }
        if is_nothing {
            warn(watch, "image", &format!("no change to the base: {LOOKED_FOR}"));
        }
        layers.extend(copied);
        let lock_file = self.bases.path_of_lock_file(&directory);
        let cache = self.cache_directory.path().ok();
        let mut outputs = outputs.to_vec();
        outputs.push((&lock_file, "the lock file"));
        outputs.extend(cache.as_deref().map(|cache| (cache, "the cache")));
        build::exclude_outputs(&mut layers, &outputs)?;
        let config = config.overridden_by(edit);
        let environment = robot.and_then(|robot| robot.environment.as_ref());
        if environment.is_some() && location.is_none() {
            warn(watch, "base scratch", "has no C library, which Python in the environment requires");
        }
        if environment.is_some() && base.seems_to_have_musl() {
            warn(watch, "base image", "looks like Alpine, without the glibc that Python in the environment requires");
        }
        let known_secrets = environment.map(|environment| environment.facts().secrets.clone()).unwrap_or_default();
        // Listings that cannot be stored are created again.
        let listings = match environment_switches::is_on(environment_switches::NO_CACHE)? {
            true => None,
            false => self.cache_directory.open().and_then(|cache| Listings::in_cache_directory(&cache)).ok(),
        };
        let spec = BuildSpec::new(base)
            .layers(layers)
            .config(config)
            .created(created)
            .compression(compression)
            .secrets(self.secrets.policy())
            .known_secrets(known_secrets)
            .listings(listings);
        Ok(ImageRequest { spec, location })
    }

    fn base_location(&self, is_robot: bool) -> Result<Option<Location>> {
        let Some(text) = self.base.as_deref() else {
            return if is_robot { DEFAULT_BASE.parse().map(|base| Some(Location::Registry(base))) } else { Ok(None) };
        };
        let location = Base::location(text)?;
        Ok(location)
    }
}

/// Returns the layers of a robot's image, and prints which files become executable in it.
fn robot_layers(robot: &RobotImage, content: &ContentArguments, watch: &Watch) -> Result<Vec<LayerSpec>> {
    let mut rules = robot.robot_rules(watch)?;
    let programs: Vec<_> = robot.made_executable(&rules).collect();
    if let Some(first) = programs.first() {
        let files = counted(programs.len(), "file");
        let first = first.display();
        watch.say_once(&format!("{}: {files} in PATH made executable, as by rcc run: {first}", robot.robot.file));
    }
    content.exclusions.add_to(&mut rules.ignore)?;
    robot.layer_specs(rules)
}
