//! `ocibuild catalogs`: what is in the hololibs of this machine, and which robot here it belongs to.

use super::output::print;
use super::product::{ProductName, rcc_homes};
use super::progress_display::Watch;
use super::robot::ROBOT_FILE;
use super::{Common, OutputFormat};
use clap::Args;
use ocibuild::common::error::one_line;
use ocibuild::common::human_numbers::size;
use ocibuild::common::progress::Silent;
use ocibuild::common::root::{PathStatus, Root};
use ocibuild::rcc::{BlueprintOptions, Catalog, CatalogLimits, CatalogName, Hololib, RccHome, Robot};
use ocibuild::{Error, ErrorKind, Platform, Result};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use walkdir::{DirEntry, WalkDir};

/// The depth below the current directory to which robots are searched for, and the maximum number of directories.
const DEEPEST: usize = 4;
const MOST_DIRECTORIES: usize = 10_000;

#[derive(Debug, Args)]
#[command(after_help = "\
Searches for robots in the current directory and up to four levels below it.

Example:
  ocibuild catalogs --format json | jq '.hololibs[].catalogs[] | select(.missing > 0)'")]
pub(super) struct CatalogsArguments {
    /// Read a hololib directory or hololib.zip [default: rcc's hololib, and those next to robots]
    #[arg(long, value_name = "DIR|ZIP")]
    hololib: Option<PathBuf>,
    /// Select a product [default: each product that has a hololib]
    #[arg(long, value_name = "NAME")]
    product: Option<ProductName>,
    #[command(flatten)]
    pub(super) common: Common,
}

/// Prints every catalog, and what the robots here need.
pub(super) fn run(arguments: &CatalogsArguments) -> Result<ExitCode> {
    let watch = Watch::new(&arguments.common);
    let files = robots_below(Path::new("."))?;
    let homes = rcc_homes(arguments.product)?;
    let hololibs = open_all(arguments.hololib.as_deref(), &homes, &files, &watch)?;
    let listed = hololibs.iter().map(ListedHololib::of).collect::<Result<Vec<_>>>()?;
    let platforms: BTreeMap<String, Platform> = listed
        .iter()
        .flat_map(|hololib| &hololib.catalogs)
        .filter_map(|(name, _)| platform_of(name))
        .chain([Platform::linux_amd64()])
        .map(|platform| (platform.to_string(), platform))
        .collect();
    let options = homes.iter().map(RccHome::blueprint_options).collect::<Result<Vec<_>>>()?;
    let robots: Vec<Needs> = files.iter().map(|file| Needs::of(file, &platforms, &options)).collect();
    match arguments.common.format {
        OutputFormat::Json => print(&to_json(&listed, &robots).to_string())?,
        OutputFormat::Text => print(&to_text(&listed, &robots, &homes))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn open_all(named: Option<&Path>, homes: &[RccHome], robots: &[PathBuf], watch: &Watch) -> Result<Vec<Hololib>> {
    if let Some(path) = named {
        return Ok(vec![Hololib::open(path, watch)?]);
    }
    let mut zips = Vec::new();
    for zip in robots.iter().map(|robot| robot.with_file_name("hololib.zip")) {
        if PathStatus::of(&zip)?.is_file() {
            zips.push(zip);
        }
    }
    let mut hololibs = Vec::new();
    for home in homes {
        match home.hololib(watch) {
            // A machine that only has what was exported elsewhere.
            Err(error) if error.kind() == ErrorKind::NotFound && !zips.is_empty() => {}
            hololib => hololibs.push(hololib?),
        }
    }
    for zip in &zips {
        hololibs.push(Hololib::open(zip, watch)?);
    }
    Ok(hololibs)
}

/// A hololib and what is in it.
struct ListedHololib {
    path: String,
    catalogs: Vec<(CatalogName, Result<Details>)>,
}

/// A catalog that can be read.
struct Details {
    catalog: Catalog,
    missing: usize,
}

impl ListedHololib {
    fn of(hololib: &Hololib) -> Result<ListedHololib> {
        let details = |name: &CatalogName| {
            let catalog = hololib.catalog(name, &CatalogLimits::default(), &Silent)?;
            let missing = hololib.missing(&catalog)?.len();
            Ok(Details { catalog, missing })
        };
        let catalogs = hololib.catalogs()?.into_iter().map(|name| (name.clone(), details(&name))).collect();
        Ok(ListedHololib { path: hololib.shown(), catalogs })
    }
}

/// A robot here and the catalogs that it could run with, by platform.
struct Needs {
    file: String,
    /// `None` for a robot that runs without an environment.
    catalogs: Result<BTreeSet<CatalogName>>,
}

impl Needs {
    fn of(file: &Path, platforms: &BTreeMap<String, Platform>, options: &[BlueprintOptions]) -> Needs {
        Needs { catalogs: needed(file, platforms, options), file: file.display().to_string() }
    }

    fn is_met_by(&self, name: &CatalogName) -> bool {
        self.catalogs.as_ref().is_ok_and(|catalogs| catalogs.contains(name))
    }

    /// Returns the environment that an image of this robot needs on the default platform.
    fn wanted(&self) -> Option<&CatalogName> {
        self.catalogs.as_ref().ok()?.iter().find(|name| name.platform == "linux_amd64")
    }
}

fn needed(
    file: &Path,
    platforms: &BTreeMap<String, Platform>,
    options: &[BlueprintOptions],
) -> Result<BTreeSet<CatalogName>> {
    let (directory, _) = Root::of_file(file, Root::open)?;
    let robot = Robot::open(&directory, ROBOT_FILE, &Silent)?;
    let mut catalogs = BTreeSet::new();
    for (platform, options) in platforms.values().flat_map(|platform| options.iter().map(move |one| (platform, one))) {
        match robot.blueprint(&directory, platform, options, &Silent) {
            Ok(Some(blueprint)) => {
                let marker = format!("{}_{}", platform.os(), platform.architecture());
                catalogs.insert(CatalogName { blueprint: blueprint.hash().clone(), platform: marker });
            }
            Ok(None) => {}
            // A robot need not be for every platform of which there are catalogs.
            Err(error) if error.kind() == ErrorKind::NotFound && *platform != Platform::linux_amd64() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(catalogs)
}

fn platform_of(name: &CatalogName) -> Option<Platform> {
    name.platform.replacen('_', "/", 1).parse().ok()
}

/// Finds the robots in `top` and below it, without entering hidden directories or following links.
fn robots_below(top: &Path) -> Result<Vec<PathBuf>> {
    let is_hidden = |entry: &DirEntry| entry.depth() > 0 && entry.file_name().as_encoded_bytes().starts_with(b".");
    let walk = WalkDir::new(top).max_depth(DEEPEST + 1).sort_by_file_name().into_iter();
    let mut found = Vec::new();
    let mut entered = 0;
    for entry in walk.filter_entry(|entry| !(entry.file_type().is_dir() && is_hidden(entry))) {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) if error.depth() == 0 => return Err(Error::io(top.display(), "list", error.into())),
            // Directories that this user cannot list are skipped.
            Err(_) => continue,
        };
        entered += usize::from(entry.file_type().is_dir());
        if entered > MOST_DIRECTORIES {
            break;
        }
        if entry.file_type().is_file() && entry.file_name() == ROBOT_FILE {
            found.push(entry.path().strip_prefix(top).unwrap_or(entry.path()).to_owned());
        }
    }
    found.sort();
    Ok(found)
}

fn to_json(hololibs: &[ListedHololib], robots: &[Needs]) -> Value {
    let matching = |name: &CatalogName| -> Vec<&str> {
        robots.iter().filter(|robot| robot.is_met_by(name)).map(|robot| robot.file.as_str()).collect()
    };
    let catalog = |(name, details): &(CatalogName, Result<Details>)| {
        let mut described = json!({
            "name": name.to_string(),
            "blueprint": name.blueprint.to_string(),
            "platform": platform_of(name).map_or(name.platform.clone(), |platform| platform.to_string()),
            "robots": matching(name),
        });
        match details {
            Err(error) => described["error"] = failure(error),
            Ok(Details { catalog, missing }) => {
                described["entries"] = catalog.entries().len().into();
                described["size"] = catalog.size().into();
                described["objects"] = catalog.objects().len().into();
                described["missing"] = (*missing).into();
                described["base"] = catalog.base().into();
                described["recorder"] = catalog.recorder().into();
            }
        }
        described
    };
    let hololibs: Vec<Value> = hololibs
        .iter()
        .map(|hololib| {
            json!({
                "path": hololib.path,
                "catalogs": hololib.catalogs.iter().map(catalog).collect::<Vec<_>>(),
            })
        })
        .collect();
    let robots: Vec<Value> = robots
        .iter()
        .map(|robot| match &robot.catalogs {
            Ok(_) => json!({"file": robot.file, "catalog": robot.wanted().map(ToString::to_string)}),
            Err(error) => json!({"file": robot.file, "error": failure(error)}),
        })
        .collect();
    json!({ "hololibs": hololibs, "robots": robots })
}

fn to_text(hololibs: &[ListedHololib], robots: &[Needs], homes: &[RccHome]) -> String {
    let mut lines = Vec::new();
    for hololib in hololibs {
        lines.push(format!("hololib {}", one_line(&hololib.path)));
        for (name, details) in &hololib.catalogs {
            let what = match details {
                Err(error) => format!("cannot be read: {}", error.reason()),
                Ok(Details { catalog, missing }) => {
                    let state = match missing {
                        0 => "complete".to_owned(),
                        missing => format!("{missing} of {} objects missing", catalog.objects().len()),
                    };
                    format!("{:>7} entries  {:>9}  {state}", catalog.entries().len(), size(catalog.size()))
                }
            };
            let robots: Vec<&str> =
                robots.iter().filter(|robot| robot.is_met_by(name)).map(|robot| robot.file.as_str()).collect();
            let robots = if robots.is_empty() { String::new() } else { format!("  {}", robots.join(", ")) };
            lines.push(one_line(&format!("  {}  {:<13}  {what}{robots}", name.blueprint, name.platform)));
        }
        if hololib.catalogs.is_empty() {
            lines.push("  no catalogs".to_owned());
        }
    }
    for robot in robots {
        let is_there =
            |name: &CatalogName| hololibs.iter().flat_map(|one| &one.catalogs).any(|(other, _)| other == name);
        let what = match (&robot.catalogs, robot.wanted()) {
            (Err(error), _) => error.to_string(),
            (Ok(_), None) => "has no environment".to_owned(),
            (Ok(_), Some(name)) if is_there(name) => continue,
            (Ok(_), Some(name)) => {
                let command = homes.first().map(|home| home.recording(Path::new(&robot.file)).join(" "));
                format!("{} is missing (rcc {} creates it)", name.blueprint, command.unwrap_or_default())
            }
        };
        lines.push(one_line(&format!("robot {}: {what}", robot.file)));
    }
    lines.join("\n")
}

fn failure(error: &Error) -> Value {
    json!({ "object": error.object(), "reason": error.reason() })
}
