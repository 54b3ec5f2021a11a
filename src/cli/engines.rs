//! The image stores of docker, podman and containerd, at the addresses in the environment.

use super::cache_directory::CacheDirectory;
use super::network::NetworkArguments;
use super::progress_display::Watch;
use ocibuild::common::root::Root;
use ocibuild::registry::pull_into_engine;
use ocibuild::store::{ContainerEngine, EngineProgram, EngineStore, StoredImage, TransferStats, VerifiedFiles};
use ocibuild::{Error, Reference, Result};
use std::env;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

/// The prefixes of remote addresses.
const REMOTE: [&str; 4] = ["tcp://", "http://", "https://", "ssh://"];

/// Returns the store that `name` is in, or goes to.
///
/// # Errors
/// Fails if it is on another machine, and no connection may be opened.
pub(super) fn store(
    engine: ContainerEngine,
    name: impl fmt::Display,
    network: &NetworkArguments,
) -> Result<EngineStore> {
    if let Some(variable) = remote_address(engine)
        && network.is_offline()?
    {
        let object = format!("{}:{name}", engine.transport());
        return Err(Error::usage(
            object,
            format!("{variable} is a remote address, and network access is disabled (--offline)"),
        ));
    }
    let programs = match engine {
        ContainerEngine::Podman => vec![EngineProgram::Podman],
        ContainerEngine::Containerd => vec![EngineProgram::Ctr],
        // An address of docker's is not one of containerd's.
        ContainerEngine::Docker if host(engine).is_some() => vec![EngineProgram::Docker],
        ContainerEngine::Docker => vec![EngineProgram::Docker, EngineProgram::Ctr],
    };
    let path: Vec<PathBuf> = env::var_os("PATH").map(|path| env::split_paths(&path).collect()).unwrap_or_default();
    Ok(EngineStore::new(engine, programs, path))
}

/// Lets an engine of this machine pull the image from here, so that it gets only the layers that it lacks. Returns `None` if it has to
/// get an archive instead, and says why where the engine is the reason. `verified` is the record of verified blobs.
///
/// # Errors
/// Fails if no program of the engine is found.
pub(super) fn pulled(
    (engine, store): (ContainerEngine, &EngineStore),
    image: &StoredImage,
    names: &[Reference],
    verified: Option<VerifiedFiles>,
    watch: &Watch,
) -> Result<Option<TransferStats>> {
    let reason = if let Some(variable) = remote_address(engine) {
        format!("{variable} is another machine")
    } else {
        match pull_into_engine(store, image, names, verified) {
            Ok(moved) => return Ok(moved),
            // There is nothing to read an archive either.
            Err(error) if error.object() == engine.transport() => return Err(error),
            Err(error) => error.to_string(),
        }
    };
    watch.say(&format!("{}: loads an archive with all layers instead of pulling: {reason}", engine.transport()));
    Ok(None)
}

/// Returns the variable of the environment that has the address of an engine, if that is on another machine.
pub(super) fn remote_address(engine: ContainerEngine) -> Option<&'static str> {
    let host = host(engine)?.into_string().ok()?.to_ascii_lowercase();
    REMOTE.iter().any(|scheme| host.starts_with(scheme)).then(|| variable_of_host(engine))
}

fn host(engine: ContainerEngine) -> Option<OsString> {
    env::var_os(variable_of_host(engine)).filter(|host| !host.is_empty())
}

fn variable_of_host(engine: ContainerEngine) -> &'static str {
    match engine {
        ContainerEngine::Docker => "DOCKER_HOST",
        ContainerEngine::Podman => "CONTAINER_HOST",
        // It is the path of a socket.
        ContainerEngine::Containerd => "CONTAINERD_ADDRESS",
    }
}

/// Returns the directory for an archive while it is read, without leftovers of killed processes.
///
/// # Errors
/// Fails as [`CacheDirectory::open`].
pub(super) fn spool(cache: &CacheDirectory) -> Result<Root> {
    let directory = cache.open()?;
    directory.sweep_temporaries();
    Ok(directory)
}
