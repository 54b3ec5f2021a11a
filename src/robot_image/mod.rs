//! A robot, its environment and rcc as the content and config of an image.
//!
//! ```text
//! rcc          /usr/local/bin/rcc, and the home in which it keeps its own things
//! environment  the space where the catalog says that it must be, and a hololib that rcc accepts; in one layer or in several
//! robot        /home/robot/app
//! ```
//!
//! The most stable layers come first: a new version of the robot changes the last layer only.

mod catalog_file;
mod complete_catalog;
mod contents;
mod direct;
mod environment;
mod environment_facts;
mod files;
mod hard_links;
mod image_paths;
mod launcher_check;
mod layer_specs;
mod meta;
mod ownership;
mod rcc_release;
mod recipe;
mod requirement;
mod scrub;
mod split;
mod split_environment;
mod stored_gzip;

pub use environment::Environment;
pub use image_paths::ImagePaths;
pub use launcher_check::check_launcher;
pub use rcc_release::rcc_release_url;
pub use requirement::EnvironmentRequirement;
pub use scrub::Scrubbing;

use crate::build::image::ConfigEdit;
use crate::cache::{LayerFacts, RecipeKey};
use crate::common::error::{Error, Result};
use crate::common::progress::{Progress, Silent};
use crate::common::root::Root;
use crate::common::time::Timestamp;
use crate::layers::split::Split;
use crate::layers::tree::{Attributes, Content, Entry, Kind, Modes, Owners, Rules, TreeBuilder};
use crate::rcc::Robot;
use crate::spec::ImagePath;
use files::{directory, file};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The form in which an environment is shipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EnvironmentMode {
    /// A restored space that root owns and rcc uses without checks: starts fast under any user.
    Sealed,
    /// A restored space that rcc checks at every start, and repairs.
    Ready,
    /// Only the catalog and its library; rcc restores the space at every start. The smallest image when unpacked, but
    /// not to transfer.
    Compact,
    /// Only the restored tree, and the task's own command, without rcc.
    Direct,
}

impl EnvironmentMode {
    /// Returns the name of the mode on the command line and in labels.
    pub fn name(self) -> &'static str {
        match self {
            EnvironmentMode::Sealed => "sealed",
            EnvironmentMode::Ready => "ready",
            EnvironmentMode::Compact => "compact",
            EnvironmentMode::Direct => "direct",
        }
    }
}

/// Options for shipping an environment: everything besides the environment that determines its layers.
#[derive(Debug, Clone)]
pub struct Shipping {
    /// The form.
    pub mode: EnvironmentMode,
    /// The paths in the image.
    pub places: ImagePaths,
    /// The handling of secrets.
    pub scrubbing: Scrubbing,
    /// The number of layers.
    pub split: Split,
}

/// Everything that determines the content of a robot's image, besides its base.
#[derive(Debug, Clone)]
pub struct RobotImage {
    /// The robot.
    pub robot: Robot,
    /// The packaged directory: that of the robot's file, or one above it.
    pub directory: Root,
    /// The path of the robot's file in that directory.
    pub file: String,
    /// The path that the user gave: the robot's own directory, or the file that it was packed in.
    pub source: PathBuf,
    /// The task to run; with `None` it is chosen at run time.
    pub task: Option<String>,
    /// The environment; `None` for a robot that runs without one.
    pub environment: Option<Arc<Environment>>,
    /// The form in which the environment is shipped.
    pub mode: EnvironmentMode,
    /// The paths in the image.
    pub places: ImagePaths,
    /// The rcc that runs the robot; not needed in direct mode.
    pub launcher: Option<PathBuf>,
}

/// A layer of the image other than the robot's own.
struct RobotLayer {
    /// The name in messages and in the history.
    name: String,
    /// The key of everything that determines the content, and the facts to store with it.
    ///
    /// `None` if the key is unknown without reading the content.
    recipe: Option<(RecipeKey, LayerFacts)>,
    /// The directories and files that contain all of its entries.
    roots: Vec<ImagePath>,
    /// A function that adds the layer's entries.
    entries: Box<LayerEntries>,
}

/// Adds the entries of a layer when they are needed.
type LayerEntries = dyn FnOnce(&mut TreeBuilder) -> Result<()> + Send;

impl RobotImage {
    /// Returns whether the file at `path` in the packaged directory can be executed on this machine.
    fn is_executable(&self, path: &Path) -> bool {
        #[cfg(unix)]
        {
            use cap_std::fs::PermissionsExt;
            self.directory.dir().metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o100 != 0)
        }
        #[cfg(not(unix))]
        {
            let _ = path;
            true
        }
    }

    /// Returns the layers below the robot, most stable first.
    ///
    /// # Errors
    /// Returns an error if rcc or the environment cannot be read, or a name in them cannot occur in an image.
    fn layers(&self) -> Result<Vec<RobotLayer>> {
        let mut layers = Vec::new();
        if self.mode != EnvironmentMode::Direct {
            let entries = self.rcc_layer()?;
            let each: Box<LayerEntries> =
                Box::new(move |tree| entries.into_iter().try_for_each(|entry| tree.add(entry)));
            let roots = self.roots(ImagePath::new(RCC.as_bytes())?);
            layers.push(RobotLayer { name: "rcc".to_owned(), recipe: None, roots, entries: each });
        }
        if let Some(environment) = &self.environment {
            let roots = self.roots(ImagePath::new(environment.facts().base.as_bytes())?);
            layers.extend(environment.layers(&roots));
        }
        Ok(layers)
    }

    /// Returns the key under which the layers below the robot are shared with other machines.
    ///
    /// Returns `None` if sharing would not help: without an environment, or if the environment depends on more than its
    /// catalog.
    fn group(&self) -> Option<RecipeKey> {
        let environment = self.environment.as_ref().filter(|_| self.mode != EnvironmentMode::Compact)?;
        environment.recipe().cloned()
    }

    /// Returns what contains all entries of a layer whose own files are below `own`.
    fn roots(&self, own: ImagePath) -> Vec<ImagePath> {
        let ImagePaths { home, product_home, app: _, controller: _, space: _, user: _ } = &self.places;
        vec![home.clone(), product_home.clone(), own]
    }

    /// Returns the rules for copying the robot's own files.
    ///
    /// They exclude version control, results, and files that the robot excludes, and change programs as `rcc run` does.
    ///
    /// # Errors
    /// Returns an error if an ignore file or a program cannot be read.
    pub fn robot_rules(&self, watcher: &dyn Progress) -> Result<Rules> {
        let mut rules =
            Rules::default().owners(Owners::Set(self.places.user)).modes(Modes::GroupAsOwner).mtime(Timestamp::RCC);
        rules.ignore.begin_list("robot");
        for pattern in self.robot.ignore_patterns(&self.directory, watcher)? {
            rules.ignore.add_name(&pattern);
        }
        for pattern in &self.robot.excluded {
            rules.ignore.add(pattern).map_err(|error| error.within(&self.robot.file))?;
        }
        if let Some(artifacts) = self.robot.inner_artifacts() {
            rules.ignore.add_path(Path::new(artifacts));
        }
        // The environment is shipped in a form that starts faster; rcc would prefer a `hololib.zip` next to the robot.
        rules.ignore.add_path(&Path::new(&self.robot.folder).join("hololib.zip"));
        // `ocibuild.lock` names bases and downloads for the next build, and has no meaning in the image.
        rules.ignore.add_path(&Path::new(&self.robot.folder).join("ocibuild.lock"));
        rules.changes = self.robot.program_changes(&self.directory, &rules.ignore, watcher)?;
        rules.changes.contents.extend(self.overwritten_blueprints(watcher)?);
        Ok(rules)
    }

    /// Returns the entries of the robot's layer besides its files: the directory for results.
    ///
    /// # Errors
    /// Returns an error if its name cannot occur in an image, or leads out of the run user's home.
    fn robot_entries(&self) -> Result<Vec<Entry>> {
        let path = self.artifacts()?;
        if path == self.places.app {
            return Ok(Vec::new());
        }
        Ok(vec![directory(path, self.places.writable())])
    }

    /// Returns the directory for results in the image.
    fn artifacts(&self) -> Result<ImagePath> {
        let ImagePaths { home, product_home, app, .. } = &self.places;
        let mut parts: Vec<&[u8]> = app.names().collect();
        for part in self.robot.artifacts_directory.split('/').filter(|part| *part != ".") {
            match part {
                ".." => drop(parts.pop()),
                part => parts.push(part.as_bytes()),
            }
        }
        let path = ImagePath::new(&parts.join(&b'/'))?;
        if path.is_in(home) && path != *home && !path.is_in(product_home) {
            return Ok(path);
        }
        let reason = format!("`artifactsDir` would be {path}, which is outside of {home}");
        Err(Error::invalid(&self.robot.file, reason).hint("--root DIR packages a directory above the robot"))
    }

    /// Returns the attributes of directories that several layers need.
    ///
    /// # Errors
    /// Returns an error if a path cannot occur in an image.
    fn known_directories(&self) -> Result<BTreeMap<ImagePath, Attributes>> {
        let base = self.environment.as_ref().map(|environment| environment.facts().base.as_str());
        self.places.known_directories(base)
    }

    /// Returns the config of the image on a base with the search path `inherited`.
    ///
    /// # Errors
    /// Returns an error if the task is unknown, or cannot be run in this mode.
    pub fn config(&self, inherited: Option<&str>) -> Result<ConfigEdit> {
        let task = self.task.as_deref().map(|name| self.robot.task(Some(name))).transpose()?;
        let places = &self.places;
        let mut edit = ConfigEdit::default()
            .working_dir(places.app.join(&ImagePath::new(self.robot.folder.as_bytes())?)?.to_string())
            .user(format!("{}:{}", places.user.uid, places.user.gid))
            .env("HOME", places.home.to_string())
            .env("USER", "robot")
            .label("dev.ocibuild.environment.mode", self.mode.name());
        if let Some(environment) = &self.environment {
            let (name, facts) = (environment.name(), environment.facts());
            edit = edit
                .label("dev.ocibuild.environment.catalog", name.to_string())
                .label("dev.ocibuild.environment.blueprint", name.blueprint.to_string())
                .label("dev.ocibuild.environment.digest", facts.document_digest.to_string());
            if let Some(recorder) = &facts.recorder {
                edit = edit.label("dev.ocibuild.environment.recorder", recorder);
            }
        }
        if self.mode == EnvironmentMode::Direct {
            return self.direct_config(edit, inherited);
        }
        Ok(edit
            .env("ROBOCORP_HOME", places.product_home.to_string())
            .env("RCC_NO_BUILD", "1")
            .entrypoint(self.rcc_command(task.map(|task| task.name.as_str()))?))
    }

    /// Warns about build paths in files that differ from the path in the image.
    ///
    /// They are found only when the files are read.
    pub fn warn_of_unrewritten_paths(&self, watcher: &dyn Progress) {
        if let Some(environment) = &self.environment {
            environment.warn_of_unrewritten_paths(watcher);
        }
    }

    fn rcc_command(&self, task: Option<&str>) -> Result<Vec<String>> {
        let places = &self.places;
        let robot = places.app.join(&ImagePath::new(self.file.as_bytes())?)?;
        let mut command: Vec<String> =
            ["/usr/local/bin/rcc", "run", "--robot", &robot.to_string(), "--bundled", "--no-build"]
                .map(str::to_owned)
                .to_vec();
        if self.mode == EnvironmentMode::Sealed && self.environment.is_some() {
            command.push("--unmanaged".to_owned());
        }
        for (flag, value) in [("--controller", &places.controller), ("--space", &places.space)] {
            if value != "user" {
                command.extend([flag.to_owned(), value.clone()]);
            }
        }
        if let Some(task) = task {
            command.extend(["--task".to_owned(), task.to_owned()]);
        }
        Ok(command)
    }

    fn rcc_layer(&self) -> Result<Vec<Entry>> {
        let launcher = self.launcher.as_deref().ok_or_else(|| {
            Error::usage("rcc", "no rcc to include in the image").hint("set the Linux binary with --rcc-exec PATH")
        })?;
        let rules = Rules::default().mtime(Timestamp::RCC);
        let real = Root::resolve(launcher)?;
        let (root, name) = Root::of_file(&real, Root::open)?;
        let mut binary = TreeBuilder::new(&rules);
        binary.add_file(&root, &name, &ImagePath::new(RCC.as_bytes())?, &rules, &Silent)?;
        let mut entries: Vec<Entry> = binary.finish()?.entries().collect();
        for entry in entries.iter_mut().filter(|entry| matches!(entry.kind, Kind::File { .. })) {
            entry.attributes.mode = 0o755;
        }
        entries.extend(self.places.home_skeleton()?);
        Ok(entries)
    }
}

/// The base of a robot's image, unless the user names another one. It has glibc, which conda's Python needs.
pub const DEFAULT_BASE: &str = "docker.io/library/debian:stable-slim";

/// The path of rcc in an image.
const RCC: &str = "usr/local/bin/rcc";

/// Returns an entry for a small file with the given content.
fn text(path: ImagePath, content: &str, attributes: Attributes) -> Entry {
    file(path, content.len() as u64, Content::Bytes(content.as_bytes().into()), attributes)
}
