//! `ocibuild layout`: a build into an image layout.

use super::build_file::with_toml;
use super::build_flags::BuildFlags;
use super::build_target::BuildTarget;
use super::content_flags;
use super::destination::ExportDestination;
use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser as _};
use ocibuild::{Location, Result};
use std::path::PathBuf;

#[derive(Debug, Args)]
#[command(mut_arg("format", with_toml), after_help = content_flags::HELP.to_owned() + "

Examples:
  ocibuild layout ./out --base oci:./debian --copy ./app:/app --entrypoint 'python3 /app/main.py'
  ocibuild layout ./out -t team/app:v1 --copy ./site:/srv --user 1000 --expose 8080")]
pub(super) struct LayoutArguments {
    /// Image layout to write to; created if it does not exist
    #[arg(value_parser = OsStringValueParser::new().try_map(|text| Location::of_new_layout(&text)))]
    output: PathBuf,
    #[command(flatten)]
    pub(super) flags: BuildFlags,
    /// Also write the image to a docker-archive file, or to a destination of `export`
    #[arg(
        long,
        value_name = "FILE|DEST",
        conflicts_with = "sparse",
        help_heading = "Output",
        value_parser = OsStringValueParser::new().try_map(|text| Location::of_saved(&text))
    )]
    save: Option<Location>,
}

/// Returns where the image goes.
///
/// # Errors
/// Fails if the name that the image gets in an archive is malformed.
pub(super) fn target(arguments: &LayoutArguments) -> Result<BuildTarget> {
    let saved = arguments.save.iter().cloned();
    Ok(BuildTarget {
        layout: Some(arguments.output.clone()),
        texts: saved.clone().map(|location| location.to_string()).collect(),
        destinations: saved.map(ExportDestination::of).collect::<Result<_>>()?,
        flag: "--save",
    })
}
