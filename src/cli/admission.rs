//! Checks of images against the signature policy (containers-policy.json(5)).

use super::cache_directory::CacheDirectory;
use super::network::NetworkArguments;
use super::progress_display::Watch;
use ocibuild::common::root::{PathStatus, Root};
use ocibuild::registry::Repository;
use ocibuild::registry::trust::{
    Policy, PolicySubject, Signature, attached_in_directory, attached_in_layout, attached_in_repository, keep, kept,
};
use ocibuild::store::{Layout, StoredImage};
use ocibuild::{Digest, Error, ErrorKind, Location, Reference, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An image that was asked for, and the policy that decides about it, if there is one.
pub(super) struct Admission {
    policy: Option<Policy>,
    location: Location,
    subject: PolicySubject,
    /// Whether signatures may be fetched from a registry.
    may_ask: bool,
}

impl Admission {
    /// Asks whether the image at `location` may be accepted at all.
    ///
    /// # Errors
    /// Fails if the policy cannot be read, rejects the image whatever it is, or requires what cannot be checked.
    pub(super) fn ask(named: Option<&Path>, location: &Location) -> Result<Admission> {
        let subject = PolicySubject::of(location);
        let policy = file(named)?.map(|file| Policy::open(&file)).transpose()?;
        if let Some(policy) = &policy {
            policy.required(&subject)?;
        }
        Ok(Admission { policy, location: location.clone(), subject, may_ask: true })
    }

    /// Takes signatures only from the cache.
    pub(super) fn without_requests(self) -> Admission {
        Admission { may_ask: false, ..self }
    }

    /// Requires that `image`, which turned out to be there, is signed as the policy has it.
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
        let Some(policy) = &self.policy else { return Ok(()) };
        if policy.required(&self.subject)?.is_empty() {
            return Ok(());
        }
        let digest = &image.descriptor.digest;
        let check = |signatures: &[Signature]| policy.check(&self.subject, digest, signatures);
        match &self.location {
            Location::Layout { directory, .. } => check(&attached_in_layout(&Layout::open(directory)?, digest)?),
            Location::Directory(directory) => check(&attached_in_directory(&Root::open(directory)?, digest)?),
            Location::Engine(..) => policy.accept_unsigned(&self.subject, "an engine's image store has no signatures"),
            Location::OciArchive { .. } | Location::DockerArchive { .. } => {
                policy.accept_unsigned(&self.subject, "archives have no signatures")
            }
            Location::Registry(reference) => {
                let directory = cache.open()?;
                let known = kept(&directory, digest);
                let by_known = check(&known);
                if by_known.is_ok() {
                    return Ok(());
                }
                if !self.may_ask || network.is_offline()? {
                    return by_known.map_err(|error| match known[..] {
                        [] => error.hint(format!("run with network access: ocibuild pull {reference}")),
                        _ => error,
                    });
                }
                let found = attached(reference, digest, network, watch)?;
                check(&found)?;
                keep(&directory, digest, &found)
            }
        }
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

/// Asks whether layers may be taken from the repository of a shared cache.
///
/// # Errors
/// Fails if the policy cannot be read, rejects the repository, or requires signatures.
pub(super) fn ask_about_cache(named: Option<&Path>, repository: &Reference) -> Result<()> {
    let Some(policy) = file(named)?.map(|file| Policy::open(&file)).transpose()? else { return Ok(()) };
    let subject = PolicySubject::Repository(repository.clone().without_tag());
    policy.accept_unsigned(&subject, "layers from a shared cache are not signed")
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
    /// Asks the policy about the image at `location`.
    ///
    /// # Errors
    /// Fails as [`Admission::ask`].
    pub(super) fn admission(&self, location: &Location) -> Result<Admission> {
        Admission::ask(self.signature_policy.as_deref(), location)
    }

    /// Asks the policy whether layers may be taken from the shared cache in a repository.
    ///
    /// # Errors
    /// Fails as [`ask_about_cache`].
    pub(super) fn admit_cache(&self, repository: &Reference) -> Result<()> {
        ask_about_cache(self.signature_policy.as_deref(), repository)
    }
}
