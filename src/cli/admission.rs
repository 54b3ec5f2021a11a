//! Checks of images against the signature policy (containers-policy.json(5)).

use super::cache_directory::CacheDirectory;
use super::network::NetworkArguments;
use super::progress_display::Watch;
use ocibuild::common::root::PathStatus;
use ocibuild::registry::Repository;
use ocibuild::registry::trust::{ImageAdmission, Policy, Signature, attached_in_repository};
use ocibuild::store::StoredImage;
use ocibuild::{Digest, Error, ErrorKind, Location, Reference, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The decision about a requested image.
pub(super) struct Admission {
    image: ImageAdmission,
    /// Whether signatures may be fetched from a registry.
    may_ask: bool,
}

impl Admission {
    /// Takes signatures only from the cache.
    pub(super) fn without_requests(self) -> Admission {
        Admission { may_ask: false, ..self }
    }

    /// Checks that `image` is signed as the policy requires.
    ///
    /// # Errors
    /// Fails if it is not accepted, or its signatures cannot be fetched.
    pub(super) fn admit(
        &self,
        image: &StoredImage,
        cache: &CacheDirectory,
        network: &NetworkArguments,
        watch: &Arc<Watch>,
    ) -> Result<()> {
        let digest = &image.descriptor.digest;
        let fetch = |reference: &Reference| match !self.may_ask || network.is_offline()? {
            true => Ok(None),
            false => attached(reference, digest, network, watch).map(Some),
        };
        self.image.check(digest, &|| cache.open(), &fetch)
    }
}

/// Returns the signatures of the manifest `digest` that are beside it at the first place that has some.
fn attached(
    reference: &Reference,
    digest: &Digest,
    network: &NetworkArguments,
    watch: &Arc<Watch>,
) -> Result<Vec<Signature>> {
    let ask = |repository: &Arc<Repository>| {
        let found = attached_in_repository(repository, digest)?;
        if found.is_empty() {
            let object = repository.reference().to_string();
            return Err(Error::new(ErrorKind::NotFound, object, format!("no signature of {digest}")));
        }
        Ok(found)
    };
    match network.first_that_answers(reference, watch, ask) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        found => found,
    }
}

/// Reads the policy, if there is one.
fn policy(named: Option<&Path>) -> Result<Option<Policy>> {
    file(named)?.map(|file| Policy::open(&file)).transpose()
}

/// Returns the policy file: the one that is named, else this user's, else the machine's, if there is one.
///
/// # Errors
/// Fails if the system does not say whether there is one.
fn file(named: Option<&Path>) -> Result<Option<PathBuf>> {
    if let Some(named) = named {
        return Ok(Some(named.to_owned()));
    }
    let own = std::env::home_dir().map(|home| home.join(".config/containers/policy.json"));
    for file in own.into_iter().chain([PathBuf::from("/etc/containers/policy.json")]) {
        if PathStatus::of(&file)?.is_file() {
            return Ok(Some(file));
        }
    }
    Ok(None)
}

impl NetworkArguments {
    /// Checks whether the policy may accept the image at `location`.
    ///
    /// # Errors
    /// Fails if the policy cannot be read, or as [`ImageAdmission::new`].
    pub(super) fn admission(&self, location: &Location) -> Result<Admission> {
        let policy = policy(self.signature_policy.as_deref())?;
        Ok(Admission { image: ImageAdmission::new(policy, location)?, may_ask: true })
    }

    /// Refuses `--signature-policy` for `command`, which shows an image whether or not it is accepted.
    ///
    /// # Errors
    /// Fails if the flag is given.
    pub(super) fn refuse_policy(&self, command: &str) -> Result<()> {
        match &self.signature_policy {
            None => Ok(()),
            Some(_) => Err(Error::usage("--signature-policy", format!("has no effect with {command}"))),
        }
    }

    /// Checks whether the policy accepts layers from the shared cache in a repository.
    ///
    /// # Errors
    /// Fails if the policy cannot be read, or as [`Policy::check_shared_cache`].
    pub(super) fn admit_cache(&self, repository: &Reference) -> Result<()> {
        policy(self.signature_policy.as_deref())?.map_or(Ok(()), |policy| policy.check_shared_cache(repository))
    }
}
