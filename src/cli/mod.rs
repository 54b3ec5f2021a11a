//! The command line. This is the only room that prints, reads the clock, the environment and the home directory.

mod admission;
mod base;
mod cache;
mod cache_directory;
mod cache_limit;
mod cache_verify;
mod catalogs;
mod completions;
mod config;
mod container_files;
mod content_flags;
mod destination;
mod dockerfile;
mod engines;
mod environment_switches;
mod excluded;
mod explain;
mod export;
mod familiar_words;
mod gc;
mod inspect;
mod layer_cache;
mod layout;
mod layout_lock;
mod lock_file;
mod login;
mod ls;
mod man;
mod mirrors;
mod network;
mod output;
mod parse_sizes;
mod progress_display;
mod pull;
mod rcc_download;
mod rcc_home;
mod replaced;
mod report;
mod request;
mod rm;
mod robot;
mod robot_environment;
mod secrets;
mod seen;
mod shared_cache;
mod signals;
mod source;
mod tag;
mod unpacked_robot;
mod values;
mod verify;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use ocibuild::{Error, ErrorKind, Result};
use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::process::ExitCode;

/// Builds OCI images without a daemon, root, or a network
#[derive(Debug, Parser)]
#[command(name = "ocibuild", version, max_term_width = 100, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build an image into an OCI image layout
    Layout(Box<layout::LayoutArguments>),
    /// Copy an image out of a layout: into an archive, another layout, or standard output
    Export(export::ExportArguments),
    /// Bring base images into the cache, for builds without a network
    Pull(pull::PullArguments),
    /// Check a name and password with a registry, and keep them where podman and skopeo find them
    Login(login::LoginArguments),
    /// Forget the name and password for a registry
    Logout(login::LogoutArguments),
    /// Recompute everything that a layout says about itself, and report every fault
    Verify(verify::VerifyArguments),
    /// Show an image: its platform, config and layers
    Inspect(inspect::InspectArguments),
    /// List the images of a layout
    #[command(visible_alias = "list")]
    Ls(ls::LsArguments),
    /// Give an image of a layout more names
    Tag(tag::TagArguments),
    /// Remove images from a layout
    #[command(visible_alias = "untag")]
    Rm(rm::RmArguments),
    /// Remove the blobs of a layout that no image needs
    Gc(gc::GcArguments),
    /// Print a Dockerfile that gives the same image, for pipelines that build with something else
    Dockerfile(Box<dockerfile::DockerfileArguments>),
    /// Look after the cache of layers
    Cache(cache::CacheArguments),
    /// List the environments that rcc has recorded here, and which robots they belong to
    Catalogs(catalogs::CatalogsArguments),
    /// Print a shell's completion script
    Completions(completions::CompletionsArguments),
    /// Print a manual page
    Man(man::ManArguments),
}

/// Above the flags that every command has.
const HEADING: &str = "General";

/// What every command that works understands.
#[derive(Debug, Args)]
struct Common {
    /// Say nothing but warnings and errors
    #[arg(short, long, global = true, help_heading = HEADING)]
    quiet: bool,
    /// How to show progress on standard error
    #[arg(long, global = true, value_name = "HOW", default_value = "auto", help_heading = HEADING)]
    progress: ProgressStyle,
    /// How to write results, warnings and errors; json has one object on each line, and no progress
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text", help_heading = HEADING)]
    format: OutputFormat,
    /// How many threads to use [default: one for each core]
    #[arg(short, long, global = true, value_name = "N", help_heading = HEADING, value_parser = threads)]
    jobs: Option<NonZeroUsize>,
}

fn threads(text: &str) -> std::result::Result<NonZeroUsize, &'static str> {
    text.parse().map_err(|_| "not a whole number from 1 on")
}

/// The looks of progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ProgressStyle {
    /// Bars on a terminal, else lines
    Auto,
    /// One line for each step, and one every few seconds while it lasts
    Plain,
    /// Nothing
    None,
}

/// The form of what is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OutputFormat {
    /// For people
    Text,
    /// For programs
    Json,
}

/// Runs the program and answers its exit status: 0 for success, 1 for failure, 2 for a request that cannot be meant.
pub(crate) fn run() -> ExitCode {
    signals::clean_up_when_told_to_stop();
    report::keep_panics_short();
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let parsed = Cli::command()
        .try_get_matches_from(with_flags_for_words(&arguments))
        .and_then(|matches| Cli::from_arg_matches(&matches).map(|cli| (matches, cli)));
    let (matches, cli) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return report::arguments(&error, asked_for_format(&arguments)),
    };
    let format = cli.command.common().map_or(OutputFormat::Text, |common| common.format);
    let work = || match &cli.command {
        Command::Layout(arguments) => {
            let order = matches.subcommand_matches("layout").map(content_flags::order_of_layers).unwrap_or_default();
            layout::run(arguments, &order)
        }
        Command::Dockerfile(arguments) => {
            let order =
                matches.subcommand_matches("dockerfile").map(content_flags::order_of_layers).unwrap_or_default();
            dockerfile::run(arguments, &order)
        }
        Command::Export(arguments) => export::run(arguments),
        Command::Pull(arguments) => pull::run(arguments),
        Command::Login(arguments) => login::log_in(arguments),
        Command::Logout(arguments) => login::log_out(arguments),
        Command::Verify(arguments) => verify::run(arguments),
        Command::Inspect(arguments) => inspect::run(arguments),
        Command::Ls(arguments) => ls::run(arguments),
        Command::Tag(arguments) => tag::run(arguments),
        Command::Rm(arguments) => rm::run(arguments),
        Command::Gc(arguments) => gc::run(arguments),
        Command::Cache(arguments) => cache::run(arguments),
        Command::Catalogs(arguments) => catalogs::run(arguments),
        Command::Completions(arguments) => completions::run(arguments),
        Command::Man(arguments) => man::run(arguments),
    };
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        set_threads(cli.command.common()).and_then(|()| work())
    }));
    if !matches!(result, Ok(Ok(_))) {
        signals::wait_if_told_to_stop();
    }
    match result {
        Ok(Ok(code)) => code,
        Ok(Err(error)) => report::failure(&error, format),
        Err(_) => {
            let error = Error::new(ErrorKind::Io, "internal error", report::last_panic());
            report::failure(&error.hint("please report it; nothing that was finished before is damaged"), format)
        }
    }
}

/// `help COMMAND` is `COMMAND --help`, and `version` is `--version`.
fn with_flags_for_words(arguments: &[OsString]) -> Vec<OsString> {
    let (program, words) = arguments.split_at(arguments.len().min(1));
    match words.first().and_then(|word| word.to_str()) {
        Some("help") => [program, &words[1..], &["--help".into()]].concat(),
        Some("version") if words.len() == 1 => [program, &["--version".into()]].concat(),
        _ => arguments.to_vec(),
    }
}

/// The format that arguments ask for which cannot be meant otherwise.
fn asked_for_format(arguments: &[OsString]) -> OutputFormat {
    let mut asked = OutputFormat::Text;
    for (place, argument) in arguments.iter().enumerate() {
        let value = match argument.to_str() {
            Some("--format") => arguments.get(place + 1).and_then(|value| value.to_str()),
            Some(argument) => argument.strip_prefix("--format="),
            None => None,
        };
        asked = value.and_then(|value| OutputFormat::from_str(value, false).ok()).unwrap_or(asked);
    }
    asked
}

impl Command {
    fn common(&self) -> Option<&Common> {
        match self {
            Command::Layout(arguments) => Some(&arguments.common),
            Command::Export(arguments) => Some(&arguments.common),
            Command::Pull(arguments) => Some(&arguments.common),
            Command::Login(arguments) => Some(&arguments.common),
            Command::Logout(arguments) => Some(&arguments.common),
            Command::Verify(arguments) => Some(&arguments.common),
            Command::Inspect(arguments) => Some(&arguments.common),
            Command::Dockerfile(arguments) => Some(&arguments.common),
            Command::Ls(arguments) => Some(&arguments.common),
            Command::Tag(arguments) => Some(&arguments.common),
            Command::Rm(arguments) => Some(&arguments.common),
            Command::Gc(arguments) => Some(&arguments.common),
            Command::Cache(arguments) => Some(&arguments.common),
            Command::Catalogs(arguments) => Some(&arguments.common),
            Command::Completions(_) | Command::Man(_) => None,
        }
    }
}

/// Makes the library's parallel parts use as many threads as were asked for.
fn set_threads(common: Option<&Common>) -> Result<()> {
    // What only prints about the program itself needs none.
    let Some(common) = common else { return Ok(()) };
    let threads = common.jobs.map_or(0, NonZeroUsize::get);
    let built = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    built.map_err(|error| {
        Error::new(ErrorKind::Io, "threads", format!("the system starts too few: {error}"))
            .hint("raise the limit on processes: ulimit -u, or pids.max of the container; or --jobs 1")
    })
}
