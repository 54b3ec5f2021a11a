//! `ocibuild completions`.

use super::Cli;
use super::output::print;
use clap::{Args, CommandFactory};
use clap_complete::Shell;
use ocibuild::Result;
use std::process::ExitCode;

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  ocibuild completions bash > /etc/bash_completion.d/ocibuild")]
pub(super) struct CompletionsArguments {
    /// Shell to print the script for
    shell: Shell,
}

/// Prints the script.
pub(super) fn run(arguments: &CompletionsArguments) -> Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "ocibuild", &mut script);
    print(String::from_utf8_lossy(&script).trim_end())?;
    Ok(ExitCode::SUCCESS)
}
