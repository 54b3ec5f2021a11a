//! `ocibuild.toml`: the flags of a build, written down. `docs/build-file.md` describes it for users.
//!
//! A file becomes words of a command line, which are parsed together with those that were typed. So every flag is a key, and its
//! value means the same in both.
//!
//! * `text`: the bytes, with lines and columns.
//! * `keys`: the keys, from the definition of the command line.
//! * `read`: a file, with those that it imports; `variables` of the environment; `tables`, `item_tables` and `paths`: its values.
//! * `given`: how flags of several places combine; `several`: what images of one file must not share.
//! * `write`: the file that equals a command line; `schema`: what a file can have, for editors.

mod given;
mod item_tables;
mod keys;
mod paths;
mod read;
pub(super) mod schema;
mod several;
mod tables;
mod text;
mod variables;
mod write;

use super::build_flags::BuildFlags;
use super::content_flags;
use super::familiar_words::nearest;
use super::layout;
use super::progress_display::Watch;
use super::report::mistake;
use super::{Cli, Command, OutputFormat};
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser as _};
use clap::{Arg, ArgMatches, Args, CommandFactory as _, FromArgMatches as _, ValueEnum};
use given::{Above, GivenFlag, is_typed};
use keys::FileKeys;
use ocibuild::common::progress::warn;
use ocibuild::common::root::PathStatus;
use ocibuild::{Error, ErrorKind, Result};
use read::{BuildFile, FileImage, FileReader};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use write::{FileWriter, WrittenAs};

/// The name of a build file.
pub(super) const BUILD_FILE: &str = "ocibuild.toml";

/// The format of output that is a build file.
const TOML: &str = "toml";

/// The lists at the top of a file, and the name of an image.
const VARIABLES: &str = "variables";
const IMPORT: &str = "import";
const IMAGE: &str = "image";
const NAME: &str = "name";

/// The keys that are no flags, at the top of a file.
const OWN_KEYS: [&str; 4] = [IMAGE, IMPORT, NAME, VARIABLES];

#[derive(Debug, Args)]
pub(super) struct BuildFileArguments {
    /// Read flags from FILE [default: ocibuild.toml, if it exists and no flag says what is in the image]
    #[arg(short = 'f', long, value_name = "FILE")]
    build_file: Option<PathBuf>,
    /// Build only the image NAME of the build file. Repeatable [default: all of them]
    #[arg(long = "image", value_name = "NAME")]
    images: Vec<String>,
}

/// A command line with the flags of a file.
pub(super) struct FilledCommand {
    pub(super) matches: ArgMatches,
    pub(super) cli: Cli,
    /// The name of its image, if the file has several.
    pub(super) image: Option<String>,
}

/// Returns the command line `words`, which was parsed already, with the flags of its build file, if it has one; once for each image.
///
/// # Errors
/// Fails if there is no file or image of the name that is given, or what a file says is wrong by itself or together with the command
/// line.
pub(super) fn filled(words: &[OsString], matches: ArgMatches, cli: Cli) -> Result<Vec<FilledCommand>> {
    let flags = match &cli.command {
        Command::Build(arguments) => &arguments.flags,
        Command::Layout(arguments) => &arguments.flags,
        _ => return Ok(vec![FilledCommand { matches, cli, image: None }]),
    };
    let Some((name, typed)) = matches.subcommand() else { return Ok(Vec::new()) };
    let prints_toml = is_toml(typed);
    if prints_toml && !flags.dry_run {
        return Err(Error::usage("--format toml", "is for --dry-run, which prints the build file"));
    }
    let path = path_of_file(flags, typed)?;
    if path.is_none() && !prints_toml {
        return Ok(vec![FilledCommand { matches, cli, image: None }]);
    }
    let keys = FileKeys::of(name);
    let mut filled = match path {
        None => vec![FilledCommand { matches, cli, image: None }],
        Some(path) => from_file(&path, words, flags, (&keys, typed))?,
    };
    if filled.len() > 1 {
        several::prepare(&mut filled)?;
    }
    if prints_toml {
        for (number, image) in filled.iter_mut().enumerate() {
            let (text, gap) = (image.written(&keys)?, if number == 0 { "" } else { "\n" });
            if let Some(flags) = image.cli.command.build_flags() {
                flags.written = Some(format!("{gap}{}", text.trim_end()));
            }
        }
    }
    Ok(filled)
}

/// Adds `toml` to the formats of a command that can print a build file.
pub(super) fn with_toml(format: Arg) -> Arg {
    let known = OutputFormat::value_variants().iter().filter_map(ValueEnum::to_possible_value);
    let toml = PossibleValue::new(TOML).help("A build file, with --dry-run");
    let parser = PossibleValuesParser::new(known.chain([toml]));
    // What is printed beside a build file is text.
    format.value_parser(parser.map(|name| OutputFormat::from_str(&name, false).unwrap_or(OutputFormat::Text)))
}

fn is_toml(typed: &ArgMatches) -> bool {
    typed.get_raw("format").into_iter().flatten().any(|format| format == TOML)
}

/// Returns the file to read, if there is one.
fn path_of_file(flags: &BuildFlags, typed: &ArgMatches) -> Result<Option<PathBuf>> {
    if let Some(path) = &flags.file.build_file {
        return Ok(Some(path.clone()));
    }
    let is_here = PathStatus::of(Path::new(BUILD_FILE))?.exists();
    let image = flags.file.images.first();
    match (is_here, source_flag(typed), image) {
        (true, None, _) => Ok(Some(PathBuf::from(BUILD_FILE))),
        // The shell may have made the file that this command is to write.
        (true, Some(_), None) if is_toml(typed) => Ok(None),
        (true, Some(flag), None) => {
            let reason = format!("not read, because --{flag} says what is in the image; -f {BUILD_FILE} reads it");
            warn(&Watch::new(&flags.common), BUILD_FILE, &reason);
            Ok(None)
        }
        (false, _, None) => Ok(None),
        (_, _, Some(_)) => {
            let error = Error::usage("--image", "there is no build file with images");
            Err(error.hint(format!("-f FILE, or {BUILD_FILE} in this directory")))
        }
    }
}

/// Returns the command line with the flags of the file at `path`, for each image of the file that is asked for.
fn from_file(
    path: &Path,
    words: &[OsString],
    flags: &BuildFlags,
    (keys, typed): (&FileKeys, &ArgMatches),
) -> Result<Vec<FilledCommand>> {
    let read = FileReader::read_for(path, keys).map_err(|error| match error.kind() {
        ErrorKind::NotFound => error.hint("-f FILE reads a build file; without it, ocibuild.toml is read if it exists"),
        _ => error,
    })?;
    let images = chosen(&read, &flags.file.images, path)?;
    let above = Above::of_command_line(keys, typed);
    let directory = path.parent().unwrap_or(Path::new(""));
    let fill = |image: Option<&FileImage>| {
        let mut given = read.shared.clone();
        if let Some(image) = image {
            given = Above::of_file(&image.flags).over(given, keys);
            given.extend(image.flags.iter().cloned());
        }
        let mut filled = parse(words, &above.over(given, keys))?;
        filled.image = image.map(|image| image.name.clone());
        if let Some(flags) = filled.cli.command.build_flags() {
            flags.request.directory = directory.to_owned();
        }
        Ok(filled)
    };
    match &images[..] {
        [] => Ok(vec![fill(None)?]),
        images => images.iter().map(|image| fill(Some(image))).collect(),
    }
}

/// Returns the images of a file that are asked for: all of them if none is named. A file can also be about one image without a name.
fn chosen<'f>(file: &'f BuildFile, named: &[String], path: &Path) -> Result<Vec<&'f FileImage>> {
    if let Some(name) = named.iter().enumerate().find_map(|(at, name)| named[..at].contains(name).then_some(name)) {
        return Err(Error::usage(format!("--image {name}"), "given twice"));
    }
    if let Some(name) = named.iter().find(|name| file.images.iter().all(|image| image.name != **name)) {
        let error = Error::usage(format!("--image {name}"), format!("is not in {}", path.display()));
        let known = file.images.iter().map(|image| image.name.as_str());
        return Err(match nearest(name, known.clone()) {
            Some(nearest) => error.hint(format!("did you mean {nearest}?")),
            None if file.images.is_empty() => error.hint("it is about one image, without `[[image]]`"),
            None => error.hint(format!("its images are {}", known.collect::<Vec<_>>().join(", "))),
        });
    }
    Ok(file.images.iter().filter(|image| named.is_empty() || named.contains(&image.name)).collect())
}

impl FilledCommand {
    /// Returns the build file that equals it.
    fn written(&self, keys: &FileKeys) -> Result<String> {
        let Some((_, matches)) = self.matches.subcommand() else { return Ok(String::new()) };
        let destinations = match &self.cli.command {
            // A sparse image has no destination but the layout.
            Command::Layout(arguments) if !is_typed(matches, "sparse") => layout::target(arguments)?.all_texts(),
            _ => Vec::new(),
        };
        let written_as = self.image.as_deref().map_or(WrittenAs::File, WrittenAs::Image);
        FileWriter::written(keys, matches, written_as, &destinations)
    }
}

impl Command {
    /// Returns the flags of a command that builds.
    fn build_flags(&mut self) -> Option<&mut BuildFlags> {
        match self {
            Command::Build(arguments) => Some(&mut arguments.flags),
            Command::Layout(arguments) => Some(&mut arguments.flags),
            _ => None,
        }
    }
}

/// Returns the flag of a command line that says what is in the image, so that no file is looked for.
fn source_flag(typed: &ArgMatches) -> Option<&'static str> {
    let flags = [("base", "base"), ("robot", "robot")].into_iter().chain(content_flags::LAYER_FLAGS);
    flags.into_iter().find(|(id, _)| is_typed(typed, id)).map(|(_, flag)| flag)
}

/// Parses the command line with the flags of a file in front of its own.
fn parse(words: &[OsString], given: &[GivenFlag]) -> Result<FilledCommand> {
    let (command, typed) = words.split_at(words.len().min(2));
    let parse = |given: &[GivenFlag]| {
        let given = given.iter().filter_map(GivenFlag::word).map(OsString::from);
        let words = command.iter().cloned().chain(given).chain(typed.iter().cloned());
        let matches = Cli::command().try_get_matches_from(words)?;
        Cli::from_arg_matches(&matches).map(|cli| FilledCommand { matches, cli, image: None })
    };
    parse(given).map_err(|error| {
        // The flag that makes it fail is the last of the fewest that fail.
        let fewest: Vec<usize> = (1..=given.len()).collect();
        let at = fewest.partition_point(|count| parse(&given[..*count]).is_ok());
        let Some(flag) = given.get(at) else { return Error::usage("command line", mistake(&error)) };
        let error = parse(&given[..=at]).err().unwrap_or(error);
        let source = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<Error>());
        let reason = source.map_or_else(|| mistake(&error), |source| format!("{}: {source}", flag.name));
        flag.place.error(reason)
    })
}
