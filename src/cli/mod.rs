//! The command line. This is the only room that prints, reads the clock, the environment and the home directory.

mod address_space;
mod admission;
mod base;
mod blob_locations;
mod build;
mod build_file;
mod build_flags;
mod build_report;
mod build_steps;
mod build_target;
mod cache;
mod cache_directory;
mod cache_limit;
mod cache_verify;
mod cat;
mod catalogs;
mod complete;
mod completions;
mod compression;
mod config;
mod container_files;
mod content_flags;
mod destination;
mod diff;
mod diff_json;
mod diff_output;
mod diff_text;
mod dockerfile;
mod edit;
mod engines;
mod environment_switches;
mod excluded;
mod explain;
mod export;
mod extract;
mod familiar_words;
mod flat_tar;
mod found_difference;
mod gc;
mod healthcheck;
mod image_files;
mod init;
mod inspect;
mod into_index;
mod items;
mod layer_cache;
mod layout;
mod layout_lock;
mod limits;
mod lock_arguments;
mod login;
mod ls;
mod man;
mod namespace;
mod network;
mod open_document;
mod output;
mod parse_sizes;
mod placeholders;
mod product;
mod progress_display;
mod pull;
mod rcc_download;
mod rebase;
mod relocated;
mod repair;
mod replaced;
mod report;
mod request;
mod result_files;
mod rewriting;
mod rm;
mod robot;
mod robot_environment;
mod secrets;
mod serve;
mod shared_cache;
mod signals;
mod source;
mod squash;
mod tag;
mod taken_place;
mod unpacked_robot;
mod values;
mod variables;
mod verify;

use build_file::FilledCommand;
use build_steps::Build;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use content_flags::LayerFlag;
use ocibuild::{Error, ErrorKind, Result};
use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::process::ExitCode;

/// Build OCI images without a daemon, root or network
#[derive(Debug, Parser)]
#[command(name = "ocibuild", version, max_term_width = 100, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build an image for an engine, a registry or an archive
    Build(Box<build::BuildArguments>),
    /// Build an image into an OCI image layout
    Layout(Box<layout::LayoutArguments>),
    /// Write a build file to begin with
    Init(init::InitArguments),
    /// Copy an image to an archive, a layout, an engine or a registry
    Export(export::ExportArguments),
    /// Pull base images into the cache
    Pull(pull::PullArguments),
    /// Log in to a registry
    Login(login::LoginArguments),
    /// Log out from a registry
    Logout(login::LogoutArguments),
    /// Verify all digests and documents of a layout
    Verify(Box<verify::VerifyArguments>),
    /// Show the platform, config and layers of an image
    Inspect(inspect::InspectArguments),
    /// List the images of a layout, or the files of an image
    #[command(visible_alias = "list")]
    Ls(ls::LsArguments),
    /// Print a file of an image
    Cat(cat::CatArguments),
    /// Compare two images
    Diff(diff::DiffArguments),
    /// Write the files of an image into a directory
    Extract(extract::ExtractArguments),
    /// Add names to an image of a layout
    Tag(tag::TagArguments),
    /// Remove images from a layout
    #[command(visible_alias = "untag")]
    Rm(rm::RmArguments),
    /// Remove unreferenced blobs from a layout
    Gc(gc::GcArguments),
    /// Change the config and the annotations of an image
    Edit(Box<edit::EditArguments>),
    /// Replace the base of an image by another one, or by its newer version
    Rebase(rebase::RebaseArguments),
    /// Make one layer of several layers of an image
    Squash(squash::SquashArguments),
    /// Serve layouts as a read-only registry
    Serve(serve::ServeArguments),
    /// Generate a Dockerfile that builds an equivalent image
    Dockerfile(Box<dockerfile::DockerfileArguments>),
    /// Show, prune, verify or clear the cache
    Cache(cache::CacheArguments),
    /// List the environments recorded by rcc, with their robots
    Catalogs(catalogs::CatalogsArguments),
    /// Print a shell completion script
    Completions(completions::CompletionsArguments),
    /// Print what completes the last word of a command line
    #[command(hide = true)]
    Complete(complete::CompleteArguments),
    /// Print a manual page
    Man(man::ManArguments),
}

/// Above the flags that every command has.
const HEADING: &str = "General";

/// The options of every command that does work.
#[derive(Debug, Args)]
struct Common {
    /// Print only warnings and errors
    #[arg(short, long, global = true, help_heading = HEADING)]
    quiet: bool,
    /// Set the style of progress on standard error
    #[arg(long, global = true, value_name = "HOW", default_value = "auto", help_heading = HEADING)]
    progress: ProgressStyle,
    /// Set the format of output; json prints one object per line, and no progress
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text", help_heading = HEADING)]
    format: OutputFormat,
    /// Set the number of threads [default: number of cores]
    #[arg(short, long, global = true, value_name = "N", help_heading = HEADING, value_parser = positive)]
    jobs: Option<NonZeroUsize>,
}

fn positive(text: &str) -> std::result::Result<NonZeroUsize, &'static str> {
    text.parse().map_err(|_| "not a positive integer")
}

/// The looks of progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ProgressStyle {
    /// Progress bars on a terminal, otherwise plain lines
    Auto,
    /// One line per step, and one every few seconds during long steps
    Plain,
    /// No progress
    None,
}

/// The form of what is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OutputFormat {
    /// Human-readable text
    Text,
    /// JSON Lines
    Json,
}

/// Runs the program and returns its exit status: 0 for success, 1 for failure, 2 for a usage error. `diff` has
/// statuses of its own.
pub(crate) fn run() -> ExitCode {
    address_space::reserve_little();
    signals::clean_up_on_signals();
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
    let is_comparing = matches!(cli.command, Command::Diff(_));
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        limits::set_from_environment()?;
        let images = build_file::filled(&arguments, matches, cli)?;
        set_threads(images.first().and_then(|image| image.cli.command.common()))?;
        run_all(&images)
    }));
    if !matches!(result, Ok(Ok(_))) {
        signals::wait_if_interrupted();
    }
    let error = match result {
        Ok(Ok(code)) => return code,
        Ok(Err(error)) => error,
        Err(_) => Error::new(ErrorKind::Io, "internal error", report::last_panic())
            .hint("please report it; completed images are not affected"),
    };
    let status = report::failure(&error, format);
    if is_comparing { ExitCode::from(diff::TROUBLE) } else { status }
}

/// Runs a command, or the same one for several images.
fn run_all(images: &[FilledCommand]) -> Result<ExitCode> {
    if let [only] = images {
        return only.run();
    }
    let builds = images.iter().map(FilledCommand::build).collect::<Result<Vec<_>>>()?;
    build_steps::run_all(&builds.into_iter().flatten().collect::<Vec<_>>())
}

impl FilledCommand {
    /// Returns the build that the command is, if it is one.
    fn build(&self) -> Result<Option<Build<'_>>> {
        let (flags, target) = match &self.cli.command {
            Command::Build(arguments) => (&arguments.flags, build::target(arguments)),
            Command::Layout(arguments) => (&arguments.flags, layout::target(arguments)),
            _ => return Ok(None),
        };
        Ok(Some(Build { name: self.image.as_deref(), flags, order: self.order(), target: target? }))
    }

    /// Returns the flags that make layers, in their order.
    fn order(&self) -> Vec<LayerFlag> {
        self.matches.subcommand().map(|(_, typed)| content_flags::order_of_layers(typed)).unwrap_or_default()
    }

    /// Runs the command.
    fn run(&self) -> Result<ExitCode> {
        if let Some(build) = self.build()? {
            return build.run();
        }
        match &self.cli.command {
            // They were run above.
            Command::Build(_) | Command::Layout(_) => Ok(ExitCode::SUCCESS),
            Command::Dockerfile(arguments) => dockerfile::run(arguments, &self.order()),
            Command::Init(arguments) => init::run(arguments),
            Command::Export(arguments) => export::run(arguments),
            Command::Pull(arguments) => pull::run(arguments),
            Command::Login(arguments) => login::log_in(arguments),
            Command::Logout(arguments) => login::log_out(arguments),
            Command::Verify(arguments) => verify::run(arguments),
            Command::Inspect(arguments) => inspect::run(arguments),
            Command::Ls(arguments) => ls::run(arguments),
            Command::Cat(arguments) => cat::run(arguments),
            Command::Diff(arguments) => diff::run(arguments),
            Command::Extract(arguments) => extract::run(arguments),
            Command::Tag(arguments) => tag::run(arguments),
            Command::Rm(arguments) => rm::run(arguments),
            Command::Gc(arguments) => gc::run(arguments),
            Command::Edit(arguments) => edit::run(arguments),
            Command::Rebase(arguments) => rebase::run(arguments),
            Command::Squash(arguments) => squash::run(arguments),
            Command::Serve(arguments) => serve::run(arguments),
            Command::Cache(arguments) => cache::run(arguments),
            Command::Catalogs(arguments) => catalogs::run(arguments),
            Command::Completions(arguments) => completions::run(arguments),
            Command::Complete(arguments) => complete::run(arguments),
            Command::Man(arguments) => man::run(arguments),
        }
    }
}

/// Replaces `help COMMAND` by `COMMAND --help`, and `version` by `--version`.
fn with_flags_for_words(arguments: &[OsString]) -> Vec<OsString> {
    let (program, words) = arguments.split_at(arguments.len().min(1));
    match words.first().and_then(|word| word.to_str()) {
        Some("help") => [program, &words[1..], &["--help".into()]].concat(),
        Some("version") if words.len() == 1 => [program, &["--version".into()]].concat(),
        _ => arguments.to_vec(),
    }
}

/// Returns the format that arguments ask for which clap has refused.
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
            Command::Build(arguments) => Some(&arguments.flags.common),
            Command::Layout(arguments) => Some(&arguments.flags.common),
            Command::Init(arguments) => Some(&arguments.common),
            Command::Export(arguments) => Some(&arguments.common),
            Command::Pull(arguments) => Some(&arguments.common),
            Command::Login(arguments) => Some(&arguments.common),
            Command::Logout(arguments) => Some(&arguments.common),
            Command::Verify(arguments) => Some(&arguments.common),
            Command::Inspect(arguments) => Some(&arguments.common),
            Command::Dockerfile(arguments) => Some(&arguments.common),
            Command::Ls(arguments) => Some(&arguments.common),
            Command::Cat(arguments) => Some(&arguments.common),
            Command::Diff(arguments) => Some(&arguments.common),
            Command::Extract(arguments) => Some(&arguments.common),
            Command::Tag(arguments) => Some(&arguments.common),
            Command::Rm(arguments) => Some(&arguments.common),
            Command::Gc(arguments) => Some(&arguments.common),
            Command::Edit(arguments) => Some(&arguments.common),
            Command::Rebase(arguments) => Some(&arguments.common),
            Command::Squash(arguments) => Some(&arguments.common),
            Command::Serve(arguments) => Some(&arguments.common),
            Command::Cache(arguments) => Some(&arguments.common),
            Command::Catalogs(arguments) => Some(&arguments.common),
            Command::Completions(_) | Command::Complete(_) | Command::Man(_) => None,
        }
    }
}

/// Makes the library's parallel parts use as many threads as were asked for.
fn set_threads(common: Option<&Common>) -> Result<()> {
    // Commands that only print about the program need no threads.
    let Some(common) = common else { return Ok(()) };
    let threads = common.jobs.map_or(0, NonZeroUsize::get);
    let built = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    built.map_err(|error| {
        Error::new(ErrorKind::Io, "threads", format!("cannot start threads: {error}"))
            .hint("raise the limit on processes: ulimit -u, or pids.max of the container; or --jobs 1")
    })
}
