//! `ocibuild login` and `ocibuild logout`.

use super::Common;
use super::container_files::login_file;
use super::network::ConnectionArguments;
use super::progress_display::Watch;
use clap::Args;
use ocibuild::common::bounded_read;
use ocibuild::common::progress::warn;
use ocibuild::common::root::PathStatus;
use ocibuild::common::update_file::{Readers, update};
use ocibuild::registry::Secret;
use ocibuild::registry::credentials::{AuthFile, Credentials, Keychain, LARGEST_FILE, logged_in, logged_out};
use ocibuild::{Error, Reference, Result};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  pass registry | ocibuild login registry.example --username alice --password-stdin")]
pub(super) struct LoginArguments {
    /// Registry: HOST[:PORT]
    #[arg(value_parser = registry)]
    registry: String,
    /// Set the user name
    #[arg(short, long, value_name = "NAME")]
    username: String,
    /// Read the password from standard input
    #[arg(long, required = true)]
    password_stdin: bool,
    /// Write credentials to FILE [default: the file of podman login] [env: REGISTRY_AUTH_FILE]
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
    #[command(flatten)]
    connection: ConnectionArguments,
    #[command(flatten)]
    pub(super) common: Common,
}

#[derive(Debug, Args)]
pub(super) struct LogoutArguments {
    /// Registry: HOST[:PORT]
    #[arg(value_parser = registry)]
    registry: String,
    /// Remove credentials from FILE [default: the file of podman login] [env: REGISTRY_AUTH_FILE]
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
    #[command(flatten)]
    pub(super) common: Common,
}

/// Returns the name of a registry, as references have it.
fn registry(text: &str) -> Result<String> {
    let reference: Reference = format!("{text}/x").parse()?;
    let is_registry = !text.contains('/') && reference.repository() == "x" || text == "docker.io";
    if !is_registry {
        return Err(Error::usage(format!("`{text}`"), "not a registry").hint("HOST or HOST:PORT"));
    }
    Ok(reference.registry().to_owned())
}

/// Asks the registry with the name and password, and keeps them if they are right.
pub(super) fn log_in(arguments: &LoginArguments) -> Result<ExitCode> {
    let watch = Arc::new(Watch::new(&arguments.common));
    let (registry, user) = (&arguments.registry, &arguments.username);
    let path = login_file(arguments.authfile.as_deref())?;
    let password = password_from_stdin()?;
    // Checks that the credentials can be stored, before the request to the registry.
    logged_in(&AuthFile::read(&path)?, registry, user, &password)?;
    let credentials = Credentials::Password { user: user.clone(), password: password.clone() };
    let keychain = Keychain::anonymous().with(credentials);
    let was_asked = arguments.connection.registry_to_log_in(registry, keychain, watch.clone())?.check_auth()?;
    if !was_asked {
        warn(&watch, registry, "did not require credentials, so they are stored without a check");
    }
    update(&path, LARGEST_FILE, Readers::Owner, |content| logged_in(&file(&path, content), registry, user, &password))?;
    watch.say(&format!("logged in to {registry} as {user}; credentials stored in {}", path.display()));
    Ok(ExitCode::SUCCESS)
}

/// Forgets the name and password.
pub(super) fn log_out(arguments: &LogoutArguments) -> Result<ExitCode> {
    let watch = Watch::new(&arguments.common);
    let path = login_file(arguments.authfile.as_deref())?;
    let forget = |content| logged_out(&file(&path, content), &arguments.registry);
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty())
        && !PathStatus::of(directory)?.is_directory()
    {
        // No directory is made only to find nothing in it.
        forget(None)?;
    }
    update(&path, LARGEST_FILE, Readers::Owner, forget)?;
    watch.say(&format!("logged out of {}", arguments.registry));
    Ok(ExitCode::SUCCESS)
}

fn password_from_stdin() -> Result<Secret> {
    let object = "--password-stdin";
    let bytes = bounded_read::read(std::io::stdin(), 64 << 10, object)?;
    let text = String::from_utf8(bytes).map_err(|_| Error::usage(object, "not UTF-8"))?;
    match text.trim_end_matches(['\n', '\r']) {
        "" => Err(Error::usage(object, "the password is empty")),
        password => Ok(Secret::new(password)),
    }
}

fn file(path: &Path, content: Option<Vec<u8>>) -> AuthFile {
    AuthFile::new(path.display().to_string(), content)
}
