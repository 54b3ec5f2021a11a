//! The flags that describe a robot.

use super::cache_directory::CacheDirectory;
use super::placeholders::filled_path;
use super::progress_display::Watch;
use super::rcc_download::{RccDownloadArguments, Surroundings};
use super::robot_environment::{EnvironmentArguments, EnvironmentSearch, FoundEnvironment};
use super::unpacked_robot::UnpackedRobot;
use super::values;
use clap::{Args, ValueEnum};
use ocibuild::cache::FactsLookup;
use ocibuild::common::progress::warn;
use ocibuild::common::root::{PathStatus, Root};
use ocibuild::layers::split::Split;
use ocibuild::rcc::Robot;
use ocibuild::robot_image::{
    Environment, EnvironmentMode, EnvironmentRequirement, ImagePaths, RobotImage, Scrubbing, Shipping, check_launcher,
};
use ocibuild::spec::ImagePath;
use ocibuild::{Error, ErrorKind, Platform, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The name of a robot's file.
pub(super) const ROBOT_FILE: &str = "robot.yaml";

#[derive(Debug, Args)]
pub(super) struct RobotArguments {
    /// Package a robot: a robot.yaml, package.yaml, directory, zip or rcc bundle [default: ./robot.yaml, without --copy]
    #[arg(short, long, value_name = "PATH", help_heading = "Robot")]
    robot: Option<PathBuf>,
    /// Package DIR, a parent directory of the robot
    #[arg(long, value_name = "DIR", help_heading = "Robot")]
    root: Option<PathBuf>,
    /// Select the task that the image runs [default: the only task, or chosen when the image runs]
    #[arg(long, value_name = "NAME", help_heading = "Robot")]
    task: Option<String>,
    /// Set how the image ships the environment [default: sealed]
    #[arg(long, value_name = "MODE", help_heading = "Robot")]
    environment: Option<Mode>,
    #[command(flatten)]
    search: EnvironmentArguments,
    /// Set the Linux rcc binary to include in the image; {os} and {arch} are replaced by the platform's [default: rcc on PATH]
    #[arg(long, visible_alias = "rcc-binary", value_name = "FILE", help_heading = "Robot")]
    rcc_exec: Option<PathBuf>,
    #[command(flatten)]
    rcc_download: RccDownloadArguments,
    /// Set the home directory of the user in the image [default: /home/robot]
    #[arg(long, value_name = "PATH", value_parser = values::image_path, help_heading = "Robot")]
    home: Option<ImagePath>,
    /// Set rcc's --controller in the image [default: user]
    #[arg(long, value_name = "NAME", help_heading = "Robot")]
    controller: Option<String>,
    /// Set rcc's --space in the image [default: user]
    #[arg(long, value_name = "NAME", help_heading = "Robot")]
    space: Option<String>,
    /// Overwrite secrets recorded in the environment instead of warning about them
    #[arg(long, help_heading = "Robot")]
    scrub: bool,
}

/// The form of an environment in the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Restored and owned by root; starts fast, as any user
    Sealed,
    /// Restored; rcc checks and repairs it at every start
    Ready,
    /// Catalog and library only; smallest once unpacked, restored by rcc at every start
    Compact,
    /// Restored, without rcc; the image runs the task's command directly
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
    /// Returns the robot's file, if there is a robot to package: the one named, or the one in `directory` if nothing else is asked for.
    ///
    /// # Errors
    /// Fails if a flag requires a robot, and there is not a robot.
    pub(super) fn file(
        &self,
        directory: &Path,
        copies_something: CopiesSomething,
        watch: &Watch,
    ) -> Result<Option<PathBuf>> {
        let here = directory.join(ROBOT_FILE);
        let is_here = PathStatus::of(&here)?.exists();
        match (&self.robot, copies_something) {
            (Some(path), _) if PathStatus::of(path)?.is_directory() => return robot_file_in(path).map(Some),
            (Some(path), _) => return Ok(Some(path.clone())),
            (None, CopiesSomething::No) if is_here => return Ok(Some(here)),
            (None, _) => {}
        }
        let given = self.given();
        match (given.first(), is_here) {
            (Some(flag), true) => {
                let reason = "requires a robot, and ./robot.yaml is not packaged because of --copy or other content";
                Err(Error::usage(*flag, reason).hint("--robot . packages both"))
            }
            (Some(flag), false) => {
                let reason = "requires a robot, and this directory has no robot.yaml";
                Err(Error::usage(*flag, reason).hint("set one with --robot PATH"))
            }
            (None, true) => {
                warn(watch, ROBOT_FILE, "not packaged because of --copy or other content; --robot . packages both");
                Ok(None)
            }
            (None, false) => Ok(None),
        }
    }

    /// Returns the flags that were given, without `--robot`.
    fn given(&self) -> Vec<&'static str> {
        // Destructured without `..`, so that a new flag cannot be forgotten here.
        let RobotArguments {
            robot: _,
            root,
            task,
            environment,
            search,
            rcc_exec,
            rcc_download,
            home,
            controller,
            space,
            scrub,
        } = self;
        let own = [
            ("--root", root.is_some()),
            ("--task", task.is_some()),
            ("--environment", environment.is_some()),
            ("--rcc-exec", rcc_exec.is_some()),
            ("--rcc-download", rcc_download.is_given()),
            ("--home", home.is_some()),
            ("--controller", controller.is_some()),
            ("--space", space.is_some()),
            ("--scrub", *scrub),
        ];
        own.into_iter().filter_map(|(flag, is_given)| is_given.then_some(flag)).chain(search.given()).collect()
    }

    /// Reads the robot and finds everything that its images need, one for each of `platforms`. `split` says how their environments
    /// are split.
    ///
    /// # Errors
    /// Fails if something is missing or does not fit. With several platforms, the error names the one that it is about.
    pub(super) fn images(
        &self,
        file: &Path,
        platforms: &[Platform],
        (user, split): (Option<&str>, Split),
        known: &FactsLookup<'_>,
        surroundings: Surroundings<'_>,
    ) -> Result<RobotToPackage> {
        let watch: &Watch = surroundings.watch;
        self.rcc_download.check_platforms(platforms)?;
        self.search.check_platforms(platforms)?;
        let Packaged { directory, name, source, unpacked } = self.packaged(file, surroundings.unpack_in)?;
        let mut robot = Robot::open(&directory, &name, watch)?;
        if unpacked.is_some() {
            // The path of the unpacked copy is not useful in messages.
            robot.file = format!("{}: {name}", file.display());
        }
        let mode = self.mode(&robot)?;
        let task = self.choose_task(&robot, mode, watch)?;
        let places = self.places(user)?;
        let (environment, launcher) = (None, None);
        let image = RobotImage { robot, directory, file: name, source, task, environment, mode, places, launcher };
        let inner = unpacked.as_ref().map(|_| image.directory.path().join(&image.file));
        let packed = inner.as_ref().map(|_| file);
        let request = PlatformRequest {
            file: inner.as_deref().unwrap_or(file),
            packed,
            image: &image,
            split,
            known,
            surroundings,
        };
        let images = match platforms {
            [only] => vec![self.for_platform(only, &request)?],
            several => several
                .iter()
                .map(|platform| self.for_platform(platform, &request).map_err(|error| error.within(platform)))
                .collect::<Result<Vec<_>>>()?,
        };
        if images.iter().any(|image| image.environment.is_none()) {
            warn(watch, &image.robot.file, "has no environment, so the image has none");
        }
        Ok(RobotToPackage { images, _unpacked: unpacked })
    }

    /// Returns the image with the environment and the rcc for `platform`.
    fn for_platform(&self, platform: &Platform, request: &PlatformRequest<'_>) -> Result<RobotImage> {
        let PlatformRequest { file, packed, image, split, known, surroundings } = *request;
        let (mode, watch): (_, &Watch) = (image.mode, surroundings.watch);
        let rcc = self.rcc_exec(platform).or_else(|| on_path("rcc"));
        let (robot, directory) = (&image.robot, &image.directory);
        let search = EnvironmentSearch { robot, directory, file, packed, platform, mode, rcc, watch };
        let open = |FoundEnvironment { hololib, name, blueprint }| {
            let required = EnvironmentRequirement { platform, blueprint: blueprint.as_ref() };
            let scrubbing = if self.scrub { Scrubbing::Overwrite } else { Scrubbing::Warn };
            let shipping = Shipping { mode, places: image.places.clone(), scrubbing, split };
            Environment::open(hololib, &name, &required, shipping, known, watch).map(Arc::new)
        };
        let environment = self.search.find(&search)?.map(open).transpose()?;
        let launcher = match mode {
            EnvironmentMode::Direct => None,
            _ => Some(match self.rcc_download.launcher(platform, &own_directory(&image.source)?, surroundings)? {
                Some(fetched) => fetched,
                None => self.launcher(platform)?,
            }),
        };
        Ok(RobotImage { environment, launcher, ..image.clone() })
    }

    /// Returns the mode of the image. An action package has no task that rcc could run, so it is always `direct`.
    fn mode(&self, robot: &Robot) -> Result<EnvironmentMode> {
        match (self.environment.map(EnvironmentMode::from), robot.tasks.is_empty()) {
            (None | Some(EnvironmentMode::Direct), true) => Ok(EnvironmentMode::Direct),
            (Some(mode), true) => {
                let reason = "is an action package, which has no tasks for rcc to run";
                Err(Error::usage(format!("--environment {}", mode.name()), format!("{} {reason}", robot.file))
                    .hint("--environment direct, with --cmd"))
            }
            (mode, false) => Ok(mode.unwrap_or(EnvironmentMode::Sealed)),
        }
    }

    /// Returns the directory that is packaged, and the path of the robot's file in it.
    fn packaged(&self, file: &Path, unpack_in: Option<&CacheDirectory>) -> Result<Packaged> {
        if is_packed(file) {
            if self.root.is_some() {
                return Err(Error::usage("--root", format!("{} has no parent directory", file.display())));
            }
            let unpacked = UnpackedRobot::new(file, unpack_in)?;
            let (directory, source) = (unpacked.open()?, file.to_owned());
            return Ok(Packaged { directory, name: ROBOT_FILE.to_owned(), source, unpacked: Some(unpacked) });
        }
        let (directory, name) = self.packaged_directory(file)?;
        let folder = Path::new(&name).parent().unwrap_or(Path::new(""));
        let source = directory.path().join(folder);
        Ok(Packaged { directory, name, source, unpacked: None })
    }

    fn packaged_directory(&self, file: &Path) -> Result<(Root, String)> {
        let unfit = |name: &Path| Error::invalid(name.display().to_string(), "the name is not Unicode");
        let Some(root) = &self.root else {
            let (directory, name) = Root::of_file(file, Root::open)?;
            return Ok((directory, name.to_str().ok_or_else(|| unfit(Path::new(&name)))?.to_owned()));
        };
        let outside = || {
            Error::usage(format!("--root {}", root.display()), format!("the robot {} is outside it", file.display()))
        };
        let inside = Root::path_inside(root, file).filter(|path| path.file_name().is_some()).ok_or_else(outside)?;
        Ok((Root::open(root)?, inside.to_str().ok_or_else(|| unfit(&inside))?.to_owned()))
    }

    fn places(&self, user: Option<&str>) -> Result<ImagePaths> {
        let home = self.home.clone().map_or_else(|| ImagePath::new(b"/home/robot"), Ok)?;
        let mut places = ImagePaths::below(home)?;
        if let Some(controller) = &self.controller {
            places.controller.clone_from(controller);
        }
        if let Some(space) = &self.space {
            places.space.clone_from(space);
        }
        if let Some(user) = user {
            places.user = values::owner(user)
                .map_err(|error| error.hint("use numbers, since the user owns the robot's files"))?;
        }
        Ok(places)
    }

    /// Returns the task that the image always runs. Without `--task`, rcc takes the only one, or the one that the run names.
    fn choose_task(&self, robot: &Robot, mode: EnvironmentMode, watch: &Watch) -> Result<Option<String>> {
        if let Some(name) = &self.task {
            return robot.task(Some(name)).map(|task| Some(task.name.clone()));
        }
        if robot.tasks.is_empty() {
            watch.say_once(&format!("{}: no tasks; --cmd or --entrypoint sets what the image runs", robot.file));
            return Ok(None);
        }
        let Err(error) = robot.task(None) else { return Ok(None) };
        let tasks = error.advice().unwrap_or_default();
        if mode == EnvironmentMode::Direct {
            let reason = "has several tasks, but a direct image runs one";
            return Err(Error::usage(error.object(), reason).hint(format!("--task NAME; {tasks}")));
        }
        watch.say_once(&format!("{}: choose a task with --task NAME when running the image; {tasks}", robot.file));
        Ok(None)
    }

    /// Returns the rcc that was named for `platform`.
    fn rcc_exec(&self, platform: &Platform) -> Option<PathBuf> {
        self.rcc_exec.as_deref().map(|path| filled_path(path, platform).into_owned())
    }

    fn launcher(&self, platform: &Platform) -> Result<PathBuf> {
        let found = match self.rcc_exec(platform) {
            Some(path) => path,
            None => on_path("rcc").ok_or_else(|| {
                Error::new(ErrorKind::NotFound, "rcc", "not on PATH")
                    .hint(format!("set the static rcc for {platform} with --rcc-exec FILE; see rcc's release page"))
            })?,
        };
        check_launcher(&found, platform)?;
        Ok(found)
    }
}

/// A robot's images, one for each platform, and the directory that the robot was unpacked into, which has to stay while they are
/// built.
pub(super) struct RobotToPackage {
    pub(super) images: Vec<RobotImage>,
    _unpacked: Option<UnpackedRobot>,
}

/// What an image for one platform is made of.
#[derive(Clone, Copy)]
struct PlatformRequest<'r> {
    /// The robot's file, for commands.
    file: &'r Path,
    /// The file that the robot was packed in, if it was.
    packed: Option<&'r Path>,
    /// The image, still without an environment and rcc.
    image: &'r RobotImage,
    split: Split,
    known: &'r FactsLookup<'r>,
    surroundings: Surroundings<'r>,
}

/// The source of a robot.
struct Packaged {
    directory: Root,
    name: String,
    source: PathBuf,
    unpacked: Option<UnpackedRobot>,
}

/// Returns the directory that a robot, or the file that holds it, is in: its lock file is there.
pub(super) fn own_directory(source: &Path) -> Result<PathBuf> {
    if PathStatus::of(source)?.is_directory() {
        return Ok(source.to_owned());
    }
    let parent = source.parent().filter(|parent| !parent.as_os_str().is_empty());
    Ok(parent.unwrap_or(Path::new(".")).to_owned())
}

fn is_packed(file: &Path) -> bool {
    Root::open_named_file(file).is_ok_and(|file| ocibuild::rcc::is_packed(&file))
}

/// Returns the robot's file in a directory; that of an action package if it is the only one.
fn robot_file_in(directory: &Path) -> Result<PathBuf> {
    let package = directory.join("package.yaml");
    let robot = directory.join(ROBOT_FILE);
    let is_package = !PathStatus::of(&robot)?.exists() && PathStatus::of(&package)?.exists();
    Ok(if is_package { package } else { robot })
}

/// Whether the request has content besides a robot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CopiesSomething {
    Yes,
    No,
}

/// Returns the first program of this name in the directories of `PATH`.
fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(name))
        // As a shell does, a directory of PATH that cannot be read is passed over.
        .find(|file| PathStatus::of(file).is_ok_and(PathStatus::is_file))
}
