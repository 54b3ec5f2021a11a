//! `ocibuild complete`, which the scripts of `completions` call: paths inside images, and catalogs.
//!
//! It reads files of this machine only, ends after a moment, and is silent about errors.

use super::network::NetworkArguments;
use super::output::print;
use super::product::rcc_homes;
use super::progress_display::Watch;
use super::source::{self, SourceArguments};
use super::{Cli, Command};
use clap::{Args, Parser as _};
use ocibuild::Result;
use ocibuild::common::progress::Silent;
use ocibuild::layers::rootfs::MergedFiles;
use ocibuild::rcc::Hololib;
use ocibuild::spec::ImagePath;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::thread::Builder;
use std::time::Duration;

/// The time after which nothing is completed. A layer without a cached listing is read, which can take longer.
const PATIENCE: Duration = Duration::from_secs(2);

/// The most candidates that are printed. More are too many to read.
const MOST_CANDIDATES: usize = 10_000;

#[derive(Debug, Args)]
pub(super) struct CompleteArguments {
    /// The command line up to the cursor, without the name of the program. The last word is completed
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<OsString>,
}

/// Prints what completes the last word, one candidate a line.
pub(super) fn run(arguments: &CompleteArguments) -> Result<ExitCode> {
    let words: Option<Vec<String>> = arguments.words.iter().map(|word| word.to_str().map(str::to_owned)).collect();
    let (sender, receiver) = mpsc::channel();
    // The end of the program ends the thread.
    let started = Builder::new().spawn(move || sender.send(words.map(|words| candidates(&words))));
    if started.is_ok()
        && let Ok(Some(Ok(found))) = receiver.recv_timeout(PATIENCE)
        && !found.is_empty()
    {
        print(&found.join("\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn candidates(words: &[String]) -> Result<Vec<String>> {
    let Some((last, before)) = words.split_last() else { return Ok(Vec::new()) };
    let found = match (before, last.strip_prefix("--catalog=")) {
        ([.., flag], _) if flag == "--catalog" => catalogs(before, last)?,
        (_, Some(start)) => catalogs(before, start)?.into_iter().map(|name| format!("--catalog={name}")).collect(),
        ([command, rest @ ..], None) if !last.starts_with('-') => paths(command, rest, last)?,
        _ => Vec::new(),
    };
    Ok(found.into_iter().filter(|text| is_plain(text)).take(MOST_CANDIDATES).collect())
}

/// Whether a shell takes the text unchanged. Images choose their paths, so those that need quotes are left out.
fn is_plain(text: &str) -> bool {
    text.chars().all(|letter| letter.is_alphanumeric() || "._:/@+,=~%-".contains(letter))
}

/// Returns the names of catalogs that begin with `start`, in the hololib that the command line names, else in those of rcc.
fn catalogs(before: &[String], start: &str) -> Result<Vec<String>> {
    let hololibs = match value_of("--hololib", before) {
        Some(path) => vec![Hololib::open(Path::new(path), &Silent)?],
        None => rcc_homes(None)?.iter().map(|home| home.hololib(&Silent)).collect::<Result<_>>()?,
    };
    let mut names = Vec::new();
    for hololib in hololibs {
        names.extend(hololib.catalogs()?.iter().map(ToString::to_string).filter(|name| name.starts_with(start)));
    }
    names.sort();
    names.dedup();
    Ok(names)
}

/// Returns the value of a flag among words.
fn value_of<'w>(flag: &str, words: &'w [String]) -> Option<&'w str> {
    let at = words.iter().rposition(|word| word == flag || word.starts_with(&format!("{flag}=")))?;
    match words[at].split_once('=') {
        Some((_, value)) => Some(value),
        None => words.get(at + 1).map(String::as_str),
    }
}

/// Returns the paths inside the image of a command line that begin with `start`.
fn paths(command: &str, rest: &[String], start: &str) -> Result<Vec<String>> {
    let start = if start.is_empty() { "/" } else { start };
    let mut line: Vec<&str> = vec!["ocibuild", command, "--offline"];
    line.extend(rest.iter().filter(|word| *word != "--offline").map(String::as_str));
    line.push(start);
    if command == "extract" {
        // The directory to write, which comes behind the path.
        line.push(".");
    }
    // What is not yet a command is not completed.
    let Ok(Cli { command }) = Cli::try_parse_from(line) else { return Ok(Vec::new()) };
    let image = match &command {
        Command::Ls(arguments) => arguments.image_of_path(),
        Command::Cat(arguments) => Some(arguments.image()),
        Command::Extract(arguments) => arguments.image_of_path(),
        _ => None,
    };
    match image {
        Some((source, network)) if !source.is_in_an_engine() => paths_in(source, network, start),
        _ => Ok(Vec::new()),
    }
}

/// Lists what is in the directory of `start` and begins with the rest of it. A directory ends in a slash.
fn paths_in(source: &SourceArguments, network: &NetworkArguments, start: &str) -> Result<Vec<String>> {
    let typed = start.rfind('/').map_or("", |slash| &start[..=slash]);
    let directory = ImagePath::new(typed.as_bytes())?;
    let mut prefix = directory.as_bytes().to_vec();
    if !prefix.is_empty() {
        prefix.push(b'/');
    }
    let beginning = [&prefix[..], &start.as_bytes()[typed.len()..]].concat();
    let watch = Arc::new(Watch::quiet());
    let image = source.open(network, &watch)?.image;
    let layers = source::list_layers(&image, source.cache_directory(), &watch)?;
    let mut found = Vec::new();
    for entry in MergedFiles::new(&layers) {
        let entry = entry?;
        // The paths are sorted.
        if entry.path > beginning && !entry.path.starts_with(&beginning) {
            break;
        }
        let Some(name) = entry.path.strip_prefix(&prefix[..]).filter(|_| entry.path.starts_with(&beginning)) else {
            continue;
        };
        let slash = if entry.node.kind.is_directory() { "/" } else { "" };
        if let (Ok(name), false) = (std::str::from_utf8(name), name.is_empty() || name.contains(&b'/')) {
            found.push(format!("{typed}{name}{slash}"));
        }
    }
    Ok(found)
}
