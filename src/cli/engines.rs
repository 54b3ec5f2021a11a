//! The image stores of docker, podman and containerd, at the addresses in the environment.

use super::cache_directory::CacheDirectory;
use super::network::NetworkArguments;
use ocibuild::common::root::Root;
use ocibuild::store::{ContainerEngine, EngineProgram, EngineStore};
use ocibuild::{Error, Result};
use std::env;
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
    let variable = match engine {
        ContainerEngine::Docker => "DOCKER_HOST",
        ContainerEngine::Podman => "CONTAINER_HOST",
        // It is the path of a socket.
        ContainerEngine::Containerd => "CONTAINERD_ADDRESS",
    };
    let host = env::var_os(variable).filter(|host| !host.is_empty());
    let is_remote = host.as_ref().and_then(|host| host.to_str()).is_some_and(|host| {
        let host = host.to_ascii_lowercase();
        REMOTE.iter().any(|scheme| host.starts_with(scheme))
    });
    if is_remote && network.is_offline()? {
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
        ContainerEngine::Docker if host.is_some() => vec![EngineProgram::Docker],
        ContainerEngine::Docker => vec![EngineProgram::Docker, EngineProgram::Ctr],
    };
    let path: Vec<PathBuf> = env::var_os("PATH").map(|path| env::split_paths(&path).collect()).unwrap_or_default();
    Ok(EngineStore::new(engine, programs, path))
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
