//! `ocibuild rm`.

use super::layout_lock::LayoutLockArguments;
use super::output::print;
use super::{Common, OutputFormat};
use clap::Args;
use ocibuild::spec::Descriptor;
use ocibuild::store::{ImageName, Layout};
use ocibuild::{Error, Location, Result};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, Args)]
#[command(after_help = "\
A name removes that name; a digest removes every name of the image. Artifacts about an image are removed with its last name.
Blobs are kept until `ocibuild gc` removes them. If one of the images does not exist, none is removed.

Examples:
  ocibuild rm ./out:v1 ./out:team/app:v2
  ocibuild rm ./out@sha256:…")]
pub(super) struct RmArguments {
    /// Images of layouts: PATH:NAME, or PATH@DIGEST
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<OsString>,
    #[command(flatten)]
    lock: LayoutLockArguments,
    #[command(flatten)]
    pub(super) common: Common,
}

/// Removes images from the indexes of their layouts.
pub(super) fn run(arguments: &RmArguments) -> Result<ExitCode> {
    let mut layouts: BTreeMap<PathBuf, Vec<String>> = BTreeMap::new();
    for image in &arguments.images {
        let (directory, name) = Location::of_layout(image)?;
        let Some(name) = name else {
            let path = directory.display();
            return Err(Error::usage(path.to_string(), "is a layout, and rm removes images from one")
                .hint(format!("{path}:NAME or {path}@DIGEST; `ocibuild ls {path}` lists them")));
        };
        layouts.entry(directory).or_default().push(name);
    }
    if layouts.len() > 1 {
        return Err(Error::usage("rm", "the images are in several layouts").hint("one layout at a time"));
    }
    let mut removed = Vec::new();
    for (directory, names) in layouts {
        removed = Layout::open_to_change(&directory, arguments.lock.locking())?.remove(&names)?;
    }
    match arguments.common.format {
        OutputFormat::Json => print(&Value::from_iter(removed.iter().map(to_json)).to_string())?,
        OutputFormat::Text if arguments.common.quiet => {}
        OutputFormat::Text => removed.iter().try_for_each(|entry| print(&format!("removed {}", described(entry))))?,
    }
    Ok(ExitCode::SUCCESS)
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
