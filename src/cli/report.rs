//! Errors, in one line, and exit statuses.

use super::{OutputFormat, familiar_words};
use crate::cli::output::complain;
use ocibuild::{Error, ErrorKind};
use serde_json::json;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

/// The request cannot be meant. Everything else that fails exits with 1.
const USAGE: u8 = 2;

/// Reports why the program fails, and answers its exit status.
pub(super) fn failure(error: &Error, format: OutputFormat) -> ExitCode {
    match format {
        OutputFormat::Text => complain(&format!("ocibuild: error: {error}")),
        OutputFormat::Json => {
            let body = json!({
                "kind": kind_name(error.kind()),
                "object": error.object(),
                "reason": error.reason(),
                "hint": error.advice(),
            });
            complain(&json!({"error": body}).to_string());
        }
    }
    if error.kind() == ErrorKind::Usage { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
}

/// Reports what clap found wrong with the arguments, or prints the help or version that was asked for.
pub(super) fn arguments(error: &clap::Error, format: OutputFormat) -> ExitCode {
    if !error.use_stderr() {
        // Help and version. A closed pipe is not an error.
        error.print().ok();
        return ExitCode::SUCCESS;
    }
    if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return failure(&Error::usage("command line", "no command").hint("see --help"), format);
    }
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<Error>());
    if let Some(source) = source.filter(|source| source.kind() == ErrorKind::Io) {
        // What was typed may be right: the system did not say what it means.
        return failure(source, format);
    }
    let hint =
        familiar_words::hint(error).map_or_else(|| "see --help".to_owned(), |hint| format!("{hint}; see --help"));
    failure(&Error::usage("command line", mistake(error)).hint(hint), format)
}

/// Returns what clap found wrong, in one line.
pub(super) fn mistake(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let what = text.split("\n\n").next().unwrap_or_default();
    let what: Vec<&str> = what.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let what = what.join(" ");
    what.strip_prefix("error: ").unwrap_or(&what).to_owned()
}

/// Returns the name of a kind in JSON.
fn kind_name(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Usage => "usage",
        ErrorKind::NotFound => "not-found",
        ErrorKind::Invalid => "invalid",
        ErrorKind::Corrupt => "corrupt",
        ErrorKind::Changed => "changed",
        ErrorKind::Locked => "locked",
        ErrorKind::Denied => "denied",
        ErrorKind::Network => "network",
        ErrorKind::Interrupted => "interrupted",
        _ => "io",
    }
}

static LAST_PANIC: Mutex<String> = Mutex::new(String::new());

/// Keeps what a panic says for the one line that reports it, instead of printing it at once.
pub(super) fn keep_panics_short() {
    std::panic::set_hook(Box::new(|info| {
        let mut last = LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_empty() {
            let place = info.location().map(|place| format!(" at {}:{}", place.file(), place.line()));
            let payload = info.payload_as_str().unwrap_or("a worker stopped unexpectedly");
            *last = format!("{payload}{}", place.unwrap_or_default());
        }
    }));
}

/// Returns the message of the first panic.
pub(super) fn last_panic() -> String {
    LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner).clone()
}
