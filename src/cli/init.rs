//! `ocibuild init`: a build file to begin with.

use super::Common;
use super::OutputFormat;
use super::build_file::{BUILD_FILE, schema};
use super::output::print;
use super::values;
use clap::Args;
use ocibuild::common::root::{PathStatus, Root};
use ocibuild::{Error, Result};
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, Args)]
#[command(after_help = "\
To write down a command line that you have, let it print its file:
  ocibuild build -t team/app:v1 --copy ./app:/app --push --dry-run --format toml > ocibuild.toml

Examples:
  ocibuild init
  ocibuild init --schema > ocibuild.schema.json")]
pub(super) struct InitArguments {
    /// File to write
    #[arg(value_name = "FILE", default_value = BUILD_FILE, conflicts_with = "schema")]
    file: PathBuf,
    /// Print the JSON schema of build files, for editors
    #[arg(long)]
    schema: bool,
    #[command(flatten)]
    pub(super) common: Common,
}

/// The start of a file. It can be used unchanged.
const START: &str = include_str!("build_file/start.toml");

/// What is replaced by the name of the directory.
const PLACEHOLDER: &str = "NAME";

/// Writes the file, or prints the schema.
pub(super) fn run(arguments: &InitArguments) -> Result<ExitCode> {
    if arguments.schema {
        print(&schema::text())?;
        return Ok(ExitCode::SUCCESS);
    }
    let file = &arguments.file;
    let shown = file.display().to_string();
    if PathStatus::of(file)?.exists() {
        let error = Error::invalid(shown, "exists, and is not overwritten");
        return Err(error.hint("ocibuild init FILE writes another file"));
    }
    let (directory, name) = Root::of_file(file, Root::open)?;
    // A run that was killed leaves its unfinished file.
    directory.sweep_temporaries();
    let image = values::repository_of(Root::resolve(directory.path())?.file_name(), "app");
    directory.replace_file(&name, START.replace(PLACEHOLDER, &image).as_bytes())?;
    match arguments.common.format {
        OutputFormat::Text => print(&shown)?,
        OutputFormat::Json => print(&json!({"file": shown}).to_string())?,
    }
    Ok(ExitCode::SUCCESS)
}
