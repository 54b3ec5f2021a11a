//! `ocibuild man`: manual pages from the same definitions as `--help`.

use super::Cli;
use super::output::print;
use clap::{Args, CommandFactory};
use ocibuild::{Error, Result};
use std::process::ExitCode;

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  ocibuild man layout | man -l -")]
pub(super) struct ManArguments {
    /// Which command; without one, the page of the program
    command: Option<String>,
}

/// Prints the page, in roff.
pub(super) fn run(arguments: &ManArguments) -> Result<ExitCode> {
    let mut program = Cli::command();
    program.build();
    let command = match &arguments.command {
        None => program,
        Some(name) => {
            let found = program.find_subcommand(name).cloned();
            found.ok_or_else(|| Error::usage(format!("`{name}`"), "is no command").hint("see --help"))?
        }
    };
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page).map_err(|error| Error::io("manual page", "write", error))?;
    print(String::from_utf8_lossy(&page).trim_end())?;
    Ok(ExitCode::SUCCESS)
}
