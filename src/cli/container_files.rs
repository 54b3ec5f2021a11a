//! Where podman, skopeo and docker keep what they know about registries.

use ocibuild::common::root::{PathStatus, Root};
use ocibuild::{Error, ErrorKind, Result};
use std::env;
use std::path::{Path, PathBuf};

/// Returns the files in which podman, skopeo and docker keep credentials, in the order of podman and skopeo.
pub(super) fn default_auth_files() -> Vec<PathBuf> {
    let home = env::home_dir();
    let in_home = |below: &str| home.as_ref().map(|home| home.join(below));
    let configuration = path_from("XDG_CONFIG_HOME").or_else(|| in_home(".config"));
    let docker = path_from("DOCKER_CONFIG").or_else(|| in_home(".docker"));
    [
        runtime_auth_file(),
        configuration.map(|directory| directory.join("containers/auth.json")),
        docker.map(|directory| directory.join("config.json")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Returns the file that a login is written to: the one that is named, else the one that podman login writes.
pub(super) fn login_file(named: Option<&Path>) -> Result<PathBuf> {
    let named = named.map(Path::to_owned).or_else(|| path_from("REGISTRY_AUTH_FILE"));
    // The file below /run is used only if its directory exists for this user.
    // A directory that cannot be inspected is not this user's.
    let exists = |directory: &Path| PathStatus::of(directory).is_ok_and(PathStatus::is_directory);
    let is_there = |file: &PathBuf| path_from("XDG_RUNTIME_DIR").is_some() || file.parent().is_some_and(exists);
    let default = || {
        let later = default_auth_files().into_iter().nth(usize::from(runtime_auth_file().is_some()));
        runtime_auth_file().filter(is_there).or(later)
    };
    named
        .or_else(default)
        .ok_or_else(|| Error::new(ErrorKind::NotFound, "credentials", "this user has no home directory"))
}

/// Returns the file that podman login writes (containers-auth.json(5)).
#[cfg(target_os = "linux")]
fn runtime_auth_file() -> Option<PathBuf> {
    Some(match path_from("XDG_RUNTIME_DIR") {
        Some(directory) => directory.join("containers/auth.json"),
        None => PathBuf::from(format!("/run/containers/{}/auth.json", rustix::process::getuid().as_raw())),
    })
}

#[cfg(not(target_os = "linux"))]
fn runtime_auth_file() -> Option<PathBuf> {
    None
}

/// Returns the configuration files of podman and skopeo for registries, in ascending order of precedence
/// (containers-registries.conf(5), containers-registries.conf.d(5)).
///
/// # Errors
/// Fails if a directory with such files cannot be listed.
pub(super) fn registry_files() -> Result<Vec<PathBuf>> {
    let own = env::home_dir().map(|home| home.join(".config/containers"));
    let shared = PathBuf::from("/etc/containers");
    let main = match (path_from("CONTAINERS_REGISTRIES_CONF"), own.as_ref().map(|own| own.join("registries.conf"))) {
        (Some(named), _) => named,
        (None, Some(own)) if PathStatus::of(&own)?.is_file() => own,
        (None, _) => shared.join("registries.conf"),
    };
    let mut files = vec![main];
    for directory in [Some(shared), own].into_iter().flatten() {
        let directory = directory.join("registries.conf.d");
        let unlisted = |error| Error::io(directory.display(), "list", error);
        let entries = match Root::open(&directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            opened => opened?.dir().entries().map_err(unlisted)?,
        };
        let names = entries.map(|entry| entry.map(|entry| entry.file_name()));
        let mut names: Vec<_> = names.collect::<std::io::Result<_>>().map_err(unlisted)?;
        names.retain(|name| Path::new(name).extension().is_some_and(|extension| extension == "conf"));
        names.sort();
        files.extend(names.into_iter().map(|name| directory.join(name)));
    }
    Ok(files)
}

/// Opens the first directory with a registry's certificates that this user may read.
///
/// # Errors
/// Fails if one of them cannot be opened for another reason.
pub(super) fn default_certificates(registry: &str) -> Result<Option<Root>> {
    for path in default_certificate_directories(registry) {
        match Root::open(&path) {
            Ok(directory) => return Ok(Some(directory)),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            // As in podman and skopeo: files of the administrator may be unreadable for this user.
            Err(error) if error.is_refused_by_permissions() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Returns the directories in which podman, skopeo and docker look for a registry's certificates (containers-certs.d(5)).
fn default_certificate_directories(registry: &str) -> Vec<PathBuf> {
    let own = env::home_dir().map(|home| home.join(".config/containers/certs.d"));
    let shared = ["/etc/containers/certs.d", "/etc/docker/certs.d"].map(PathBuf::from);
    own.into_iter().chain(shared).map(|directory| directory.join(registry)).collect()
}

/// Returns the path in an environment variable; none if it is empty or unset.
pub(super) fn path_from(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from)
}
