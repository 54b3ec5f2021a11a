//! Finding the environment of a robot, in the homes of rcc or where the flags say.

use super::placeholders::{filled, filled_path};
use super::product::{ProductName, rcc_homes};
use super::progress_display::Watch;
use clap::Args;
use ocibuild::common::root::{PathStatus, Root};
use ocibuild::rcc::{Blueprint, CatalogLimits, CatalogName, Hololib, RccHome, Robot};
use ocibuild::robot_image::EnvironmentMode;
use ocibuild::{Error, ErrorKind, Platform, Result};
use std::env::consts;
use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(Debug, Args)]
pub(super) struct EnvironmentArguments {
    /// Select a catalog by blueprint hash, name or file; {os} and {arch} as in --rcc-exec [default: the one that rcc would use]
    #[arg(long, value_name = "HASH|FILE", help_heading = "Robot")]
    catalog: Option<String>,
    /// Read catalogs from a hololib directory or hololib.zip; {os} and {arch} as in --rcc-exec [default: rcc's hololib]
    #[arg(long, value_name = "DIR|ZIP", help_heading = "Robot")]
    hololib: Option<PathBuf>,
    /// Select the product whose rcc recorded the environment [default: any with a hololib]
    #[arg(long, value_name = "NAME", help_heading = "Robot")]
    product: Option<ProductName>,
    /// Run the local rcc to create the environment if it is missing or incomplete; for the platform of this machine only
    #[arg(long, conflicts_with_all = ["catalog", "hololib"], help_heading = "Robot")]
    resolve: bool,
}

/// A robot whose environment is looked for.
pub(super) struct EnvironmentSearch<'s> {
    pub(super) robot: &'s Robot,
    /// The directory that is packaged.
    pub(super) directory: &'s Root,
    /// The robot file, for commands.
    pub(super) file: &'s Path,
    /// The file that the robot was packed in, if it was.
    pub(super) packed: Option<&'s Path>,
    pub(super) platform: &'s Platform,
    pub(super) mode: EnvironmentMode,
    /// The rcc of this machine, for `--resolve`.
    pub(super) rcc: Option<PathBuf>,
    pub(super) watch: &'s Watch,
}

/// An environment, and what the robot requires.
pub(super) struct FoundEnvironment {
    pub(super) hololib: Hololib,
    pub(super) name: CatalogName,
    /// `None` if it does not matter.
    pub(super) blueprint: Option<Blueprint>,
}

/// A hololib to look into, and the blueprint of the robot there.
struct Candidate {
    hololib: Hololib,
    blueprint: Blueprint,
}

impl EnvironmentArguments {
    /// Returns the flags that were given.
    pub(super) fn given(&self) -> impl Iterator<Item = &'static str> {
        let EnvironmentArguments { catalog, hololib, product, resolve } = self;
        let given = [
            ("--catalog", catalog.is_some()),
            ("--hololib", hololib.is_some()),
            ("--product", product.is_some()),
            ("--resolve", *resolve),
        ];
        given.into_iter().filter_map(|(flag, is_given)| is_given.then_some(flag))
    }

    /// Checks that `--resolve` can have an effect for one of `platforms`.
    ///
    /// # Errors
    /// Fails if none of them is that of this machine.
    pub(super) fn check_platforms(&self, platforms: &[Platform]) -> Result<()> {
        if !self.resolve || platforms.iter().any(is_recorded_here) {
            return Ok(());
        }
        let wanted: Vec<String> = platforms.iter().map(ToString::to_string).collect();
        let reason = format!("rcc on this machine records no environment for {}", wanted.join(", "));
        let hint = "record it on such a machine, and name its hololib with --hololib";
        Err(Error::usage("--resolve", reason).hint(hint))
    }

    /// Finds the environment; nothing for a robot that runs without one.
    pub(super) fn find(&self, search: &EnvironmentSearch<'_>) -> Result<Option<FoundEnvironment>> {
        let homes = rcc_homes(self.product)?;
        if let Some(selector) = &self.catalog {
            return self.named_catalog(&filled(selector, search.platform), &homes, search).map(Some);
        }
        let Some(blueprints) = blueprints(&homes, search)? else { return Ok(None) };
        // With several homes, the default product's is the one that rcc uses without a flag.
        let Some(recorder) = homes.first() else { return Ok(None) };
        let words = recorder.recording(search.file);
        let command = match search.packed {
            Some(zip) => {
                let variables = recorder.recording(Path::new("DIR/robot.yaml")).join(" ");
                format!("rcc robot unwrap -z {} -d DIR && rcc {variables}", zip.display())
            }
            None => format!("rcc {}", words.join(" ")),
        };
        let find = |completeness| -> Result<FoundEnvironment> {
            let candidates = self.candidates(&homes, &blueprints, search)?;
            best(candidates, completeness, &command, search)
        };
        let resolves = self.resolve && is_recorded_here(search.platform);
        let completeness = if resolves { Completeness::Required } else { Completeness::Preferred };
        match find(completeness) {
            Err(error) if error.kind() == ErrorKind::NotFound && resolves => {
                let running = words.join(" ");
                search.watch.say(&format!("{}: {}; running rcc {running}", error.object(), error.reason()));
                run_rcc(search.rcc.as_deref(), &words)?;
                find(Completeness::Required)
                    .map_err(|error| error.hint(format!("rcc {running} succeeded without recording it")))
            }
            Err(error) if error.kind() == ErrorKind::NotFound && self.resolve => {
                let hint = "record it on a machine of that platform; `rcc holotree export` and `import` bring it here";
                Err(error.hint(hint))
            }
            found => found,
        }
        .map(Some)
    }

    /// Returns the hololib that was named, else the zip beside the robot, which rcc itself prefers, else those of the homes.
    fn hololibs(&self, homes: &[RccHome], search: &EnvironmentSearch<'_>) -> Result<Vec<Hololib>> {
        if let Some(path) = &self.hololib {
            return Ok(vec![Hololib::open(&filled_path(path, search.platform), search.watch)?]);
        }
        let zip = Path::new(&search.robot.folder).join("hololib.zip");
        match search.directory.open_file(&zip) {
            Ok(file) => Ok(vec![Hololib::in_archive(file, &search.directory.display(&zip))?]),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                homes.iter().map(|home| home.hololib(search.watch)).collect()
            }
            Err(error) => Err(error),
        }
    }

    fn candidates(
        &self,
        homes: &[RccHome],
        blueprints: &[Blueprint],
        search: &EnvironmentSearch<'_>,
    ) -> Result<Vec<Candidate>> {
        let hololibs = self.hololibs(homes, search)?;
        // A hololib outside of all homes belongs to the first home.
        let blueprints = blueprints.iter().chain(blueprints.first().into_iter().cycle());
        let candidate =
            |(hololib, blueprint): (Hololib, &Blueprint)| Candidate { hololib, blueprint: blueprint.clone() };
        Ok(hololibs.into_iter().zip(blueprints).map(candidate).collect())
    }

    /// Returns the catalog that `--catalog` names, with the blueprint that it must have.
    fn named_catalog(
        &self,
        selector: &str,
        homes: &[RccHome],
        search: &EnvironmentSearch<'_>,
    ) -> Result<FoundEnvironment> {
        let blueprint = match search.mode {
            EnvironmentMode::Direct => None,
            _ => blueprints(homes, search)?.and_then(|all| all.into_iter().next()),
        };
        let path = Path::new(selector);
        if path.components().count() > 1 || PathStatus::of(path)?.is_file() {
            let (hololib, name) = Hololib::of_catalog_file(path, search.watch)?;
            return Ok(FoundEnvironment { hololib, name, blueprint });
        }
        let mut failure = None;
        for hololib in self.hololibs(homes, search)? {
            match hololib.choose(Some(selector), search.platform) {
                Ok(name) => return Ok(FoundEnvironment { hololib, name, blueprint }),
                Err(error) => failure = joined(failure, error),
            }
        }
        Err(failure.unwrap_or_else(|| Error::new(ErrorKind::NotFound, format!("catalog {selector}"), "not found")))
    }
}

/// Returns whether the rcc of this machine records environments for `platform`: it does so only for the one that it runs on.
fn is_recorded_here(platform: &Platform) -> bool {
    let machine: Result<Platform> = format!("{}/{}", consts::OS, consts::ARCH).parse();
    let named = |platform: &Platform| (platform.os().to_owned(), platform.architecture().to_owned());
    machine.is_ok_and(|machine| named(&machine) == named(platform))
}

/// Whether library files may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Completeness {
    /// A complete catalog is taken before an incomplete one.
    Preferred,
    /// An incomplete catalog counts as missing.
    Required,
}

/// Takes the first complete catalog, else the first one.
fn best(
    candidates: Vec<Candidate>,
    completeness: Completeness,
    command: &str,
    search: &EnvironmentSearch<'_>,
) -> Result<FoundEnvironment> {
    let limits = CatalogLimits::default();
    let is_choice = candidates.len() > 1 || completeness == Completeness::Required;
    let (mut incomplete, mut failure) = (None, None);
    for Candidate { hololib, blueprint } in candidates {
        let name = match hololib.locate(&blueprint, search.platform, command, &limits) {
            Ok(name) => name,
            Err(error) => {
                failure = joined(failure, error);
                continue;
            }
        };
        let complete = match is_choice {
            true => hololib.catalog(&name, &limits, search.watch).and_then(|catalog| hololib.check_complete(&catalog)),
            false => Ok(()),
        };
        let found = FoundEnvironment { hololib, name, blueprint: Some(blueprint) };
        match complete {
            Ok(()) => return Ok(found),
            Err(error) if completeness == Completeness::Required => failure = joined(failure, error),
            // Errors are reported when it is opened.
            Err(_) => incomplete = incomplete.or(Some(found)),
        }
    }
    let missing = || Error::new(ErrorKind::NotFound, &search.robot.file, "no hololib");
    incomplete.ok_or_else(|| failure.unwrap_or_else(missing))
}

/// Joins what was said of one hololib to what was said of another.
fn joined(earlier: Option<Error>, error: Error) -> Option<Error> {
    let Some(earlier) = earlier else { return Some(error) };
    let reason = format!("{}; {}", earlier.reason(), error.reason());
    let both = Error::new(earlier.kind(), earlier.object(), reason);
    Some(match earlier.advice() {
        Some(advice) => both.hint(advice),
        None => both,
    })
}

/// Returns the robot's blueprint in each home; nothing for a robot that runs without an environment.
fn blueprints(homes: &[RccHome], search: &EnvironmentSearch<'_>) -> Result<Option<Vec<Blueprint>>> {
    let EnvironmentSearch { robot, directory, platform, watch, .. } = search;
    let mut blueprints: Vec<(Option<String>, Blueprint)> = Vec::new();
    for home in homes {
        let options = home.blueprint_options()?;
        let known = blueprints.iter().find(|(channel, _)| *channel == options.local_channel);
        let blueprint = match known.map(|(_, blueprint)| blueprint.clone()) {
            Some(blueprint) => blueprint,
            None => match robot.blueprint(directory, platform, &options, *watch)? {
                Some(blueprint) => blueprint,
                None => return Ok(None),
            },
        };
        blueprints.push((options.local_channel, blueprint));
    }
    Ok(Some(blueprints.into_iter().map(|(_, blueprint)| blueprint).collect()))
}

fn run_rcc(program: Option<&Path>, words: &[String]) -> Result<()> {
    let program = program.ok_or_else(|| Error::new(ErrorKind::NotFound, "rcc", "not on PATH"))?;
    // Its standard output must not mix with the digest.
    let status = Command::new(program)
        .args(words)
        .stdout(std::io::stderr())
        .status()
        .map_err(|error| Error::io(program.display(), "run", error))?;
    if status.success() {
        Ok(())
    } else {
        Err(Error::invalid(program.display().to_string(), format!("failed: {status}")))
    }
}
