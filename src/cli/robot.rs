//! The flags that describe a robot, and finding what they leave out.

use super::rcc_download::{RccDownloadArguments, Surroundings};
use super::values;
use super::watch::Watch;
use clap::{Args, ValueEnum};
use ocibuild::cache::RecipeKey;
use ocibuild::progress::warn;
use ocibuild::rcc::image::{
    Environment, EnvironmentMode, Places, RobotImage, Scrubbing, Shipping, Split, check_launcher,
};
use ocibuild::rcc::{
    BlueprintOptions, CatalogLimits, CatalogName, Hololib, Holotree, Owner, Product, Robot, local_channel,
};
use ocibuild::root::Root;
use ocibuild::tree::ImagePath;
use ocibuild::{Error, ErrorKind, Platform, Result};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// The name of a robot's file.
pub(super) const ROBOT_FILE: &str = "robot.yaml";

#[derive(Debug, Args)]
pub(super) struct RobotArguments {
    /// The robot: its robot.yaml, or the directory that it is in [default: robot.yaml here, if nothing is copied]
    #[arg(short, long, value_name = "PATH", help_heading = "Robot")]
    robot: Option<PathBuf>,
    /// Which of the robot's tasks the image runs
    #[arg(long, value_name = "NAME", help_heading = "Robot")]
    task: Option<String>,
    /// How the environment is shipped
    #[arg(long, value_name = "MODE", default_value = "sealed", help_heading = "Robot")]
    environment: Mode,
    /// Into how many layers: by packages, none, or by packages into N at most [default: packages from 32 MiB on]
    #[arg(long, value_name = "packages|none|N", help_heading = "Robot")]
    split: Option<Split>,
    /// Which catalog to take: a blueprint hash, a name, or a file [default: the one that rcc would take]
    #[arg(long, value_name = "HASH|FILE", help_heading = "Robot")]
    catalog: Option<String>,
    /// Where the catalogs are: a hololib directory, or a hololib.zip [default: where rcc keeps them]
    #[arg(long, value_name = "DIR|ZIP", help_heading = "Robot")]
    pub(super) hololib: Option<PathBuf>,
    /// The Linux rcc to put into the image [default: the one on PATH]
    #[arg(long, value_name = "FILE", help_heading = "Robot")]
    rcc_exec: Option<PathBuf>,
    #[command(flatten)]
    rcc_download: RccDownloadArguments,
    /// Let the rcc of this machine make the environment first, if it is not there
    #[arg(long, help_heading = "Robot")]
    resolve: bool,
    /// The run user's home in the image
    #[arg(long, value_name = "PATH", default_value = "/home/robot", value_parser = values::image_path, help_heading = "Robot")]
    home: ImagePath,
    /// rcc's --controller in the image
    #[arg(long, value_name = "NAME", default_value = "user", help_heading = "Robot")]
    controller: String,
    /// rcc's --space in the image
    #[arg(long, value_name = "NAME", default_value = "user", help_heading = "Robot")]
    space: String,
    /// Overwrite secrets that the environment remembers, instead of warning of them
    #[arg(long, help_heading = "Robot")]
    scrub: bool,
}

/// How an environment is shipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Restored, owned by root: starts fast, under any user
    Sealed,
    /// Restored, checked and repaired by rcc at every start
    Ready,
    /// As catalog and library: the smallest image, restored at every start
    Compact,
    /// Restored, without rcc: the task's own command runs at once
    Direct,
}

impl From<Mode> for EnvironmentMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Sealed => EnvironmentMode::Sealed,
            Mode::Ready => EnvironmentMode::Ready,
            Mode::Compact => EnvironmentMode::Compact,
            Mode::Direct => EnvironmentMode::Direct,
        }
    }
}

impl RobotArguments {
    /// The robot's file, if there is a robot to package: the one named, or the one here if nothing else is asked for.
    pub(super) fn file(&self, copies_something: CopiesSomething) -> Result<Option<PathBuf>> {
        match &self.robot {
            Some(path) if path.is_dir() => Ok(Some(path.join(ROBOT_FILE))),
            Some(path) => Ok(Some(path.clone())),
            None if copies_something == CopiesSomething::No && Path::new(ROBOT_FILE).exists() => {
                Ok(Some(PathBuf::from(ROBOT_FILE)))
            }
            None => Ok(None),
        }
    }

    /// Reads the robot and finds everything that its image needs, for `platform`.
    pub(super) fn image(
        &self,
        file: &Path,
        platform: &Platform,
        user: Option<&str>,
        noted: impl FnOnce(&RecipeKey) -> Option<Value>,
        surroundings: Surroundings<'_>,
    ) -> Result<RobotImage> {
        let watch: &Watch = surroundings.watch;
        let (directory, name) = Root::of_file(file, Root::open)?;
        let name =
            name.into_string().map_err(|name| Error::invalid(name.to_string_lossy(), "the name is not Unicode"))?;
        let robot = Robot::open(&directory, &name, watch)?;
        let task = self.choose_task(&robot)?;
        let mut places = Places::below(self.home.clone())?;
        places.controller.clone_from(&self.controller);
        places.space.clone_from(&self.space);
        if let Some(user) = user {
            places.user = values::owner(user)
                .map_err(|error| error.hint("a robot's files belong to its user, so numbers are needed"))?;
        }
        let mode = EnvironmentMode::from(self.environment);
        let scrubbing = if self.scrub { Scrubbing::Overwrite } else { Scrubbing::Warn };
        let environment = match self.find_environment(&robot, &directory, file, platform, watch)? {
            Some((hololib, name)) => {
                let split = self.split.unwrap_or_default();
                let shipping = Shipping { mode, places: places.clone(), scrubbing, split };
                Some(Arc::new(Environment::open(hololib, &name, shipping, noted, watch)?))
            }
            None => {
                warn(watch, &robot.file, "names no environment, so the image gets none");
                None
            }
        };
        let launcher = match mode {
            EnvironmentMode::Direct => None,
            _ => Some(match self.rcc_download.launcher(platform, directory.path(), surroundings)? {
                Some(fetched) => fetched,
                None => self.launcher(platform)?,
            }),
        };
        Ok(RobotImage { robot, directory, file: name, task, environment, mode, places, launcher })
    }

    /// With several tasks and none chosen, rcc could not run the image.
    fn choose_task(&self, robot: &Robot) -> Result<Option<String>> {
        match (&self.task, &robot.tasks[..]) {
            (Some(name), _) => robot.task(Some(name)).map(|task| Some(task.name.clone())),
            (None, [_]) => Ok(None),
            (None, _) => robot.task(None).map(|task| Some(task.name.clone())).map_err(|error| {
                let hint = error.advice().unwrap_or_default();
                Error::usage(error.object(), "has several tasks").hint(format!("--task NAME; {hint}"))
            }),
        }
    }

    fn find_environment(
        &self,
        robot: &Robot,
        directory: &Root,
        file: &Path,
        platform: &Platform,
        watch: &Watch,
    ) -> Result<Option<(Hololib, CatalogName)>> {
        if let Some(named) = self.named_catalog(platform, directory, watch)? {
            return Ok(Some(named));
        }
        let limits = CatalogLimits::default();
        let home = RccHome::find();
        let options = BlueprintOptions { local_channel: local_channel(&home.product_home)? };
        let Some(blueprint) = robot.blueprint(directory, platform, &options, watch)? else { return Ok(None) };
        let command = format!("rcc holotree variables --robot {}", file.display());
        let find = |watch: &Watch| -> Result<(Hololib, CatalogName)> {
            let hololib = self.hololib(directory, watch)?;
            let name = hololib.locate(&blueprint, platform, &command, &limits)?;
            Ok((hololib, name))
        };
        match find(watch) {
            Err(error) if error.kind() == ErrorKind::NotFound && self.resolve => {
                watch.say(&format!("environment {}: not recorded yet, running {command}", blueprint.hash()));
                self.run_rcc(file)?;
                find(watch)
            }
            found => found,
        }
        .map(Some)
    }

    /// The catalog that `--catalog` names.
    fn named_catalog(
        &self,
        platform: &Platform,
        directory: &Root,
        watch: &Watch,
    ) -> Result<Option<(Hololib, CatalogName)>> {
        let Some(selector) = &self.catalog else { return Ok(None) };
        let path = Path::new(selector);
        if path.components().count() > 1 || path.is_file() {
            let object = path.display().to_string();
            let outside = || Error::invalid(&object, "not in the `catalog` folder of a hololib");
            let real = Root::resolve(path)?;
            let hololib = real
                .parent()
                .filter(|parent| parent.ends_with("catalog"))
                .and_then(Path::parent)
                .ok_or_else(outside)?;
            let name = real.file_name().and_then(|name| name.to_str()).ok_or_else(outside)?;
            let name = CatalogName::parse(name)?;
            return Ok(Some((Hololib::in_directory(Root::open(hololib)?, watch)?, name)));
        }
        let hololib = self.hololib(directory, watch)?;
        let name = hololib.choose(Some(selector), platform)?;
        Ok(Some((hololib, name)))
    }

    /// The hololib that was named, else the zip beside the robot, which rcc itself prefers, else rcc's own.
    fn hololib(&self, directory: &Root, watch: &Watch) -> Result<Hololib> {
        match &self.hololib {
            Some(path) => open_hololib(path, watch),
            None => match directory.open_file("hololib.zip") {
                Ok(file) => Hololib::in_archive(file, &directory.display("hololib.zip")),
                Err(error) if error.kind() == ErrorKind::NotFound => RccHome::find().hololib(watch),
                Err(error) => Err(error),
            },
        }
    }

    fn launcher(&self, platform: &Platform) -> Result<PathBuf> {
        let found = match &self.rcc_exec {
            Some(path) => path.clone(),
            None => on_path("rcc").ok_or_else(|| {
                Error::new(ErrorKind::NotFound, "rcc", "not on PATH")
                    .hint(format!("--rcc-exec FILE names the static rcc for {platform}; rcc's release page has it"))
            })?,
        };
        check_launcher(&found, platform)?;
        Ok(found)
    }

    fn run_rcc(&self, file: &Path) -> Result<()> {
        let program = self.rcc_exec.clone().or_else(|| on_path("rcc"));
        let program = program.ok_or_else(|| Error::new(ErrorKind::NotFound, "rcc", "not on PATH"))?;
        // Its standard output must not mix with the digest.
        let status = Command::new(&program)
            .args(["holotree", "variables", "--robot"])
            .arg(file)
            .stdout(std::io::stderr())
            .status()
            .map_err(|error| Error::io(program.display(), "run", error))?;
        if status.success() {
            Ok(())
        } else {
            Err(Error::invalid(program.display().to_string(), format!("failed: {status}")))
        }
    }
}

/// Whether something other than a robot is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CopiesSomething {
    Yes,
    No,
}

/// Opens what `--hololib` names.
pub(super) fn open_hololib(path: &Path, watch: &Watch) -> Result<Hololib> {
    if path.is_dir() {
        return Hololib::in_directory(Root::open(path)?, watch);
    }
    Hololib::in_archive(Root::open_named_file(path)?, &path.display().to_string())
}

/// Where rcc keeps things on this machine.
pub(super) struct RccHome {
    /// RCC's home.
    pub(super) product_home: PathBuf,
    holotree: Holotree,
}

impl RccHome {
    /// Finds the home of whichever product has a hololib; the default product where none has.
    pub(super) fn find() -> RccHome {
        Self::all().into_iter().next().unwrap_or_else(|| Self::of(Product::default()))
    }

    /// The homes of all products that have a hololib.
    pub(super) fn all() -> Vec<RccHome> {
        let homes = [Product::Robocorp, Product::Sema4ai].map(Self::of);
        homes.into_iter().filter(|home| home.holotree.library.join("catalog").is_dir()).collect()
    }

    fn of(product: Product) -> RccHome {
        let user_home = std::env::home_dir().unwrap_or_else(|| PathBuf::from("/"));
        let owner = match std::env::var("HOME") {
            Ok(home) => Owner::Home(home),
            Err(_) => Owner::Homeless,
        };
        let named = std::env::var_os(product.home_variable()).filter(|home| !home.is_empty()).map(PathBuf::from);
        let product_home = named.unwrap_or_else(|| product.default_home(&user_home));
        let holotree = Holotree::of(&product_home, product.shared_directory(), &owner);
        RccHome { product_home, holotree }
    }

    /// Opens its hololib.
    pub(super) fn hololib(&self, watch: &Watch) -> Result<Hololib> {
        let root = Root::open(&self.holotree.library).map_err(|error| match error.kind() {
            ErrorKind::NotFound => error.hint("rcc has recorded no environment here; --hololib names another place"),
            _ => error,
        })?;
        Hololib::in_directory(root, watch)
    }
}

/// The first program of this name in the directories of `PATH`.
fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(name))
        .find(|file| file.is_file())
}
