//! The decision about one image: by the policy, and by the signatures that are stored beside the image.

use super::{Policy, PolicySubject, Signature, attached_in_directory, attached_in_layout, keep, kept};
use crate::common::digest::Digest;
use crate::common::error::Result;
use crate::common::root::Root;
use crate::spec::reference::Reference;
use crate::store::{Layout, Location};

/// A requested image, and the policy that decides about it, if there is one.
#[derive(Debug)]
pub struct ImageAdmission {
    policy: Option<Policy>,
    location: Location,
    subject: PolicySubject,
}

impl ImageAdmission {
    /// Checks whether `policy` may accept the image at `location`, before anything is read.
    ///
    /// # Errors
    /// Fails if the policy rejects every image there, or requires what cannot be checked.
    pub fn new(policy: Option<Policy>, location: &Location) -> Result<ImageAdmission> {
        let subject = PolicySubject::of(location);
        if let Some(policy) = &policy {
            policy.required(&subject)?;
        }
        Ok(ImageAdmission { policy, location: location.clone(), subject })
    }

    /// Checks that the image with the manifest `digest` has the signatures that the policy requires.
    ///
    /// Signatures of images in registries are kept in the cache directory `cache`. `fetch` returns those in a registry, or
    /// `None` if they must not be fetched.
    ///
    /// # Errors
    /// Fails if the image is not accepted, or signatures cannot be read, fetched or kept.
    pub fn check(
        &self,
        digest: &Digest,
        cache: &dyn Fn() -> Result<Root>,
        fetch: &dyn Fn(&Reference) -> Result<Option<Vec<Signature>>>,
    ) -> Result<()> {
        let Some(policy) = &self.policy else { return Ok(()) };
        if policy.required(&self.subject)?.is_empty() {
            return Ok(());
        }
        let check = |signatures: &[Signature]| policy.check(&self.subject, digest, signatures);
        match &self.location {
            Location::Layout { directory, .. } => check(&attached_in_layout(&Layout::open(directory)?, digest)?),
            Location::Directory(directory) => check(&attached_in_directory(&Root::open(directory)?, digest)?),
            Location::Engine(..) => policy.accept_unsigned(&self.subject, "an engine's image store has no signatures"),
            Location::OciArchive { .. } | Location::DockerArchive { .. } => {
                policy.accept_unsigned(&self.subject, "archives have no signatures")
            }
            Location::Registry(reference) => {
                let directory = cache()?;
                let known = kept(&directory, digest);
                let Err(error) = check(&known) else { return Ok(()) };
                let Some(found) = fetch(reference)? else {
                    let hint = format!("run with network access: ocibuild pull {reference}");
                    return Err(if known.is_empty() { error.hint(hint) } else { error });
                };
                check(&found)?;
                keep(&directory, digest, &found)
            }
        }
    }
}

impl Policy {
    /// Checks whether layers may be taken from the shared cache in `repository`.
    ///
    /// # Errors
    /// Fails if the policy rejects the repository, or requires signatures.
    pub fn check_shared_cache(&self, repository: &Reference) -> Result<()> {
        let subject = PolicySubject::Repository(repository.clone().without_tag());
        self.accept_unsigned(&subject, "layers from a shared cache are not signed")
    }
}
