//! `ocibuild completions`.

use super::Cli;
use super::output::print;
use clap::{Args, CommandFactory};
use clap_complete::Shell;
use ocibuild::Result;
use std::process::ExitCode;

#[derive(Debug, Args)]
#[command(after_help = "\
In bash, zsh and fish, the names of the images in a layout are completed, too: ./out:TAB, and so are the paths in an image of this
machine: `cat`, `ls` and `extract` IMAGE TAB, and the catalogs of rcc: `--catalog` TAB.

Examples:
  ocibuild completions bash > /etc/bash_completion.d/ocibuild
  ocibuild completions zsh > /usr/local/share/zsh/site-functions/_ocibuild
  ocibuild completions fish > ~/.config/fish/completions/ocibuild.fish")]
pub(super) struct CompletionsArguments {
    /// Shell to print the script for
    shell: Shell,
}

/// What completes the names of images in a layout, after `./out:`, paths in images, and catalogs. The shells call `ocibuild ls` and
/// `ocibuild complete`, which need no network.
const NAMES: &str = include_str!("completion_scripts/names.sh");
const BASH: &str = include_str!("completion_scripts/images.bash");
const ZSH: &str = include_str!("completion_scripts/images.zsh");
const FISH: &str = include_str!("completion_scripts/images.fish");

/// Adds names and paths to the script that clap has made of the flags.
fn with_images(shell: Shell, script: &str) -> String {
    // The function that clap calls first asks ours.
    let start = "_ocibuild() {\n";
    let asking = script.replacen(
        &format!("\n{start}"),
        &format!("\n{start}    _ocibuild_images && return 0\n    _ocibuild_candidates && return 0\n"),
        1,
    );
    match shell {
        Shell::Bash => format!("{NAMES}{BASH}{}", asking.trim_start()),
        // The first line of zsh's script says what it completes.
        Shell::Zsh => match asking.trim_start().split_once('\n') {
            Some((mark, rest)) => format!("{mark}\n{NAMES}{ZSH}{rest}"),
            None => asking,
        },
        Shell::Fish => format!("{script}{FISH}"),
        _ => script.to_owned(),
    }
}

/// Prints the script.
pub(super) fn run(arguments: &CompletionsArguments) -> Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "ocibuild", &mut script);
    // A line before the first one, so that every function begins a line.
    let script = format!("\n{}", String::from_utf8_lossy(&script));
    print(with_images(arguments.shell, &script).trim())?;
    Ok(ExitCode::SUCCESS)
}
