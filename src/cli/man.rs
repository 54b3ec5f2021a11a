//! `ocibuild man`: manual pages from the same definitions as `--help`.

use super::Cli;
use super::output::print;
use clap::{Args, CommandFactory};
use ocibuild::{Error, Result};
use std::process::ExitCode;

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  ocibuild man layout | man -l -")]
pub(super) struct ManArguments {
    /// Which command, such as `layout` or `cache prune`; without one, the page of the program
    command: Vec<String>,
}

/// Prints the page, in roff.
pub(super) fn run(arguments: &ManArguments) -> Result<ExitCode> {
    let mut program = Cli::command();
    program.build();
    let mut command = &program;
    for name in &arguments.command {
        let unknown = || Error::usage(format!("`{}`", arguments.command.join(" ")), "is no command").hint("see --help");
        command = command.find_subcommand(name).ok_or_else(unknown)?;
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone())
        .render(&mut page)
        .map_err(|error| Error::io("manual page", "write", error))?;
    print(String::from_utf8_lossy(&page).trim_end())?;
    Ok(ExitCode::SUCCESS)
}
