//! The stores of docker and podman, as the environment says where they are.

use super::cache_directory::CacheDirectory;
use super::network::NetworkArguments;
use ocibuild::common::root::Root;
use ocibuild::store::{ContainerEngine, EngineProgram, EngineStore};
use ocibuild::{Error, Reference, Result};
use std::env;
use std::path::PathBuf;

/// How an address of another machine begins.
const REMOTE: [&str; 4] = ["tcp://", "http://", "https://", "ssh://"];

/// The store that `name` is in, or goes to.
///
/// # Errors
/// Fails if it is on another machine, and no connection may be opened.
pub(super) fn store(engine: ContainerEngine, name: &Reference, network: &NetworkArguments) -> Result<EngineStore> {
    let variable = match engine {
        ContainerEngine::Docker => "DOCKER_HOST",
        ContainerEngine::Podman => "CONTAINER_HOST",
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
            format!("{variable} names another machine, and --offline forbids asking one"),
        ));
    }
    let programs = match engine {
        ContainerEngine::Podman => vec![EngineProgram::Podman],
        // An address of docker's is not one of containerd's.
        ContainerEngine::Docker if host.is_some() => vec![EngineProgram::Docker],
        ContainerEngine::Docker => vec![EngineProgram::Docker, EngineProgram::Ctr],
    };
    let path: Vec<PathBuf> = env::var_os("PATH").map(|path| env::split_paths(&path).collect()).unwrap_or_default();
    Ok(EngineStore::new(engine, programs, path))
}

/// Where an archive lies while it is read, without what killed processes left there.
///
/// # Errors
/// As [`CacheDirectory::open`].
pub(super) fn spool(cache: &CacheDirectory) -> Result<Root> {
    let directory = cache.open()?;
    directory.sweep_temporaries();
    Ok(directory)
}
