//! `ocibuild rm`.

use super::layout_lock::LayoutLockArguments;
use super::output::print;
use super::{Common, OutputFormat, parse_sizes};
use clap::Args;
use ocibuild::common::human_numbers::size;
use ocibuild::spec::Descriptor;
use ocibuild::store::layout::Removal;
use ocibuild::store::{ImageName, Layout};
use ocibuild::{Error, Location, Result};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

#[derive(Debug, Args)]
#[command(after_help = "\
A name removes that name; a digest removes every name of the image; * in a name matches any text.
Artifacts about an image are removed with its last name. Blobs are kept until `ocibuild gc` removes
them. If one of the images does not exist, none is removed.

An image is as old as its last build, change or copy into this layout, whatever its config says.

Examples:
  ocibuild rm ./out:v1 ./out:team/app:v2
  ocibuild rm ./out@sha256:…
  ocibuild rm './out:nightly-*'
  ocibuild rm ./out --older-than 30d --dry-run")]
pub(super) struct RmArguments {
    /// Images of a layout: PATH:NAME, PATH:PATTERN or PATH@DIGEST; with --older-than also PATH for all of them
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<OsString>,
    /// Remove only images that were not built, changed or copied into the layout for AGE, such as 30d or 12h
    #[arg(long, value_name = "AGE", value_parser = parse_sizes::age)]
    older_than: Option<Duration>,
    /// List the images without removing them
    #[arg(short = 'n', long)]
    dry_run: bool,
    #[command(flatten)]
    lock: LayoutLockArguments,
    #[command(flatten)]
    pub(super) common: Common,
}

/// Removes images from the index of a layout.
pub(super) fn run(arguments: &RmArguments) -> Result<ExitCode> {
    let (directory, removal) = arguments.removal()?;
    let layout = match arguments.dry_run {
        true => Layout::open(&directory)?,
        false => Layout::open_to_change(&directory, arguments.lock.locking())?,
    };
    let removed = match arguments.dry_run {
        true => layout.find_removable(&removal)?,
        false => layout.remove(&removal)?,
    };
    match arguments.common.format {
        OutputFormat::Json => print(&Value::from_iter(removed.iter().map(to_json)).to_string())?,
        // A dry run is for its list.
        OutputFormat::Text if arguments.common.quiet && !arguments.dry_run => {}
        OutputFormat::Text => report(&layout, &removed, arguments)?,
    }
    Ok(ExitCode::SUCCESS)
}

impl RmArguments {
    /// Returns the layout, and what is removed from it.
    fn removal(&self) -> Result<(PathBuf, Removal)> {
        let mut layouts: BTreeMap<PathBuf, Vec<Option<String>>> = BTreeMap::new();
        for image in &self.images {
            let (directory, name) = Location::of_layout(image)?;
            if name.is_none() && self.older_than.is_none() {
                let path = directory.display();
                return Err(Error::usage(path.to_string(), "is a layout, and rm removes images from one")
                    .hint(format!("{path}:NAME or {path}@DIGEST; `ocibuild ls {path}` lists them")));
            }
            layouts.entry(directory).or_default().push(name);
        }
        let stored_before =
            self.older_than.map(|age| SystemTime::now().checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH));
        let (Some((directory, names)), true) = (layouts.pop_first(), layouts.is_empty()) else {
            return Err(Error::usage("rm", "the images are in several layouts").hint("one layout at a time"));
        };
        // The layout itself means all of its images.
        let selectors = names.into_iter().collect::<Option<Vec<String>>>().unwrap_or_default();
        Ok((directory, Removal { selectors, stored_before }))
    }
}

fn report(layout: &Layout, removed: &[Descriptor], arguments: &RmArguments) -> Result<()> {
    let verb = if arguments.dry_run { "would remove" } else { "removed" };
    removed.iter().try_for_each(|entry| print(&format!("{verb} {}", described(entry))))?;
    if removed.is_empty() {
        return print(&format!("{verb} 0 images"));
    }
    // Where a document cannot be read, `gc` says which one, and frees nothing.
    match layout.unneeded_without(removed) {
        Ok(bytes) if bytes > 0 && !arguments.dry_run => print(&format!("gc can free {}", size(bytes))),
        _ => Ok(()),
    }
}

fn to_json(entry: &Descriptor) -> Value {
    let name = ImageName::of_annotations(&entry.annotations).map(|name| name.to_string());
    json!({"name": name, "digest": entry.digest.to_string()})
}

fn described(entry: &Descriptor) -> String {
    match ImageName::of_annotations(&entry.annotations) {
        Some(name) => format!("{name} {}", entry.digest),
        None => entry.digest.to_string(),
    }
}
