//! `ocibuild man`: manual pages from the same definitions as `--help`.

use super::Cli;
use super::output::print;
use clap::{Args, Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use ocibuild::{Error, Result};
use std::process::ExitCode;

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  ocibuild man layout | man -l -")]
pub(super) struct ManArguments {
    /// Command, such as `layout` or `cache prune` [default: the program]
    command: Vec<String>,
}

const EXIT_STATUS: [(&str, &str); 3] = [
    ("0", "The command succeeded."),
    ("1", "The command failed. Standard error has one line per error: object, reason and hint."),
    ("2", "The command line is invalid."),
];

/// The statuses of `diff`, of which 1 is not a failure.
const EXIT_STATUS_OF_DIFF: [(&str, &str); 3] = [
    ("0", "The images have the same digest, or with --ignore no other difference."),
    ("1", "The images differ."),
    ("2", "The command failed or its command line is invalid. Standard error has a line with object, reason and hint."),
];

/// Environment variables and files, each with the flag that a command must have for the entry to be in its page.
type Entries<'a> = &'a [(&'a str, &'a str, &'a str)];

const ENVIRONMENT: Entries<'static> = &[
    ("cache-dir", "OCIBUILD_CACHE_DIR", "Cache directory, if --cache-dir is not given."),
    ("no-cache", "OCIBUILD_NO_CACHE", "Disables the layer cache if it is 1, true, yes or on."),
    ("cache-max-age", "OCIBUILD_CACHE_MAX_AGE", "Age limit of the cache, if --cache-max-age is not given."),
    ("cache-max-size", "OCIBUILD_CACHE_MAX_SIZE", "Size limit of the cache, if --cache-max-size is not given."),
    ("offline", "OCIBUILD_OFFLINE", "Disables network access if it is 1, true, yes or on."),
    ("created", "SOURCE_DATE_EPOCH", "Time of the image and its files in seconds, if --created is not given."),
    ("authfile", "REGISTRY_AUTH_FILE", "File with credentials, if --authfile is not given."),
    ("mirror", "CONTAINERS_REGISTRIES_CONF", "Configuration of registries, in place of registries.conf."),
    ("offline", "HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY", "Proxies; lower case names take precedence."),
    ("offline", "SSL_CERT_FILE, SSL_CERT_DIR", "Certificate authorities, in place of those of the system."),
    ("product", "ROBOCORP_HOME, SEMA4AI_HOME", "Directories in which rcc keeps its environments."),
    ("progress", "CI, TERM", "Progress is shown in plain lines if CI is set or TERM is dumb."),
];

const FILES: Entries<'static> = &[
    ("cache-dir", "~/.cache/ocibuild", "The cache, or ocibuild in XDG_CACHE_HOME."),
    ("lock-file", "ocibuild.lock", "Digests of base images and downloads, written by --lock."),
    ("ignore-file", ".dockerignore", "Exclude patterns, in the root of a directory that is copied."),
    ("build-file", "ocibuild.toml", "Flags of `build` and `layout`, if none says what is in the image."),
    ("robot", "robot.yaml, package.yaml", "The robot or action package."),
    ("authfile", "~/.docker/config.json", "Credentials, as `docker login` writes them."),
    (
        "authfile",
        "${XDG_RUNTIME_DIR}/containers/auth.json, ~/.config/containers/auth.json",
        "Credentials, as `podman login` writes them.",
    ),
    (
        "mirror",
        "/etc/containers/registries.conf, ~/.config/containers/registries.conf",
        "Mirrors, blocked registries and registries without TLS.",
    ),
    (
        "signature-policy",
        "/etc/containers/policy.json, ~/.config/containers/policy.json",
        "The signature policy, if --signature-policy is not given.",
    ),
    (
        "cert-dir",
        "/etc/containers/certs.d, /etc/docker/certs.d, ~/.config/containers/certs.d",
        "Certificates of registries.",
    ),
];

/// Prints the page, in roff.
pub(super) fn run(arguments: &ManArguments) -> Result<ExitCode> {
    let mut program = Cli::command();
    program.build();
    let mut command = &program;
    for name in &arguments.command {
        let unknown =
            || Error::usage(format!("`{}`", arguments.command.join(" ")), "unknown command").hint("see --help");
        command = command.find_subcommand(name).ok_or_else(unknown)?;
    }
    let page = page(command).map_err(|error| Error::io("manual page", "write", error))?;
    print(String::from_utf8_lossy(&page).trim_end())?;
    Ok(ExitCode::SUCCESS)
}

fn page(command: &Command) -> std::io::Result<Vec<u8>> {
    let man = Man::new(command.clone());
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    let after_help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let (description, examples) = split_examples(&after_help);
    let mut roff = Roff::new();
    preformatted(&mut roff, description);
    roff.to_writer(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    let mut roff = Roff::new();
    let statuses = if command.get_name() == "diff" { EXIT_STATUS_OF_DIFF } else { EXIT_STATUS };
    definitions(&mut roff, "EXIT STATUS", statuses);
    definitions(&mut roff, "ENVIRONMENT", entries_for(command, ENVIRONMENT));
    definitions(&mut roff, "FILES", entries_for(command, FILES));
    if !examples.is_empty() {
        roff.control("SH", ["EXAMPLES"]);
        preformatted(&mut roff, examples);
    }
    roff.control("SH", ["SEE ALSO"]);
    roff.text([roman(see_also(command))]);
    roff.to_writer(&mut page)?;
    Ok(page)
}

/// Splits the text at the end of a command's help into its description and the lines of its examples.
fn split_examples(after_help: &str) -> (&str, &str) {
    let split = after_help.split_once("Examples:\n").or_else(|| after_help.split_once("Example:\n"));
    split.map_or((after_help.trim_end(), ""), |(description, examples)| (description.trim_end(), examples))
}

/// Adds lines that keep their line breaks and columns.
fn preformatted(roff: &mut Roff, text: &str) {
    if text.is_empty() {
        return;
    }
    roff.control("PP", []).control("nf", []);
    for line in text.lines() {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
}

/// Adds a section of terms with their descriptions, or nothing without terms.
fn definitions<'a>(roff: &mut Roff, heading: &str, entries: impl IntoIterator<Item = (&'a str, &'a str)>) {
    let mut entries = entries.into_iter().peekable();
    if entries.peek().is_some() {
        roff.control("SH", [heading]);
    }
    for (term, description) in entries {
        roff.control("TP", []);
        roff.text([bold(term)]);
        roff.text([roman(description)]);
    }
}

/// Returns the entries whose flag the command, or one of its subcommands, has. The page of the program has all.
fn entries_for<'a>(command: &Command, entries: Entries<'a>) -> Vec<(&'a str, &'a str)> {
    entries
        .iter()
        .filter(|(flag, ..)| has_flag(command, flag))
        .map(|(_, term, description)| (*term, *description))
        .collect()
}

fn has_flag(command: &Command, flag: &str) -> bool {
    command.get_arguments().any(|argument| argument.get_long() == Some(flag))
        || command.get_subcommands().any(|command| has_flag(command, flag))
}

/// Returns the pages of ocibuild, and those of the formats that the command shares with podman and skopeo.
fn see_also(command: &Command) -> String {
    let own = if command.get_name() == "ocibuild" {
        command.get_subcommands().map(|command| format!("ocibuild-{}(1)", command.get_name())).collect()
    } else {
        vec!["ocibuild(1)".to_owned()]
    };
    let shared = [
        ("authfile", "containers-auth.json(5)"),
        ("mirror", "containers-registries.conf(5)"),
        ("signature-policy", "containers-policy.json(5)"),
        ("cert-dir", "containers-certs.d(5)"),
    ];
    let shared = shared.into_iter().filter(|(flag, _)| has_flag(command, flag)).map(|(_, page)| page.to_owned());
    own.into_iter().chain(shared).collect::<Vec<_>>().join(", ")
}
