//! `ocibuild tag`.

use super::layout_lock::{LayoutLockArguments, WriteCheckArguments};
use super::output::print;
use super::progress_display::Watch;
use super::replaced::{replaced_json, report_replaced};
use super::{Common, OutputFormat};
use clap::Args;
use ocibuild::store::{ImageName, Layout};
use ocibuild::{Location, Result};
use serde_json::json;
use std::ffi::OsString;
use std::process::ExitCode;

#[derive(Debug, Args)]
#[command(after_help = "\
The image keeps its existing names. A name that another image has is moved to this image.

Examples:
  ocibuild tag ./out:v1 latest
  ocibuild tag ./out@sha256:… team/app:v1 team/app:stable")]
pub(super) struct TagArguments {
    /// Image of a layout: PATH[:NAME][@DIGEST]
    #[arg(value_name = "IMAGE")]
    image: OsString,
    /// Names to add
    #[arg(value_name = "NAME", required = true)]
    names: Vec<ImageName>,
    #[command(flatten)]
    lock: LayoutLockArguments,
    #[command(flatten)]
    write_check: WriteCheckArguments,
    #[command(flatten)]
    pub(super) common: Common,
}

/// Gives an image of a layout more names.
pub(super) fn run(arguments: &TagArguments) -> Result<ExitCode> {
    let watch = Watch::new(&arguments.common);
    let (directory, image) = Location::of_layout(&arguments.image)?;
    let layout = Layout::open_to_change(&directory, arguments.lock.locking())?.checking(arguments.write_check.check());
    let replaced = layout.tag(image.as_deref(), &arguments.names)?;
    match arguments.common.format {
        OutputFormat::Text => report_replaced(&replaced, &watch),
        OutputFormat::Json => {
            let names: Vec<String> = arguments.names.iter().map(ToString::to_string).collect();
            print(&json!({"names": names, "replaced": replaced_json(&replaced)}).to_string())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
