//! Whether images are accepted that come from elsewhere, as the policy of containers says (containers-policy.json(5)).

use super::cache_directory::CacheDirectory;
use super::network::NetworkArguments;
use super::watch::Watch;
use ocibuild::root::Root;
use ocibuild::store::{Layout, StoredImage};
use ocibuild::trust::{Policy, Signature, Subject, attached_in_layout, attached_in_repository, keep, kept};
use ocibuild::{Location, Result, bounded};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The largest policy that is read, in bytes.
const LARGEST: u64 = 1 << 20;

/// An image that was asked for, and the policy that decides about it, if there is one.
pub(super) struct Admission {
    policy: Option<Policy>,
    location: Location,
    subject: Subject,
}

impl Admission {
    /// Asks whether the image at `location` may be accepted at all.
    ///
    /// # Errors
    /// When the policy cannot be read, rejects the image whatever it is, or requires what cannot be checked.
    pub(super) fn ask(named: Option<&Path>, location: &Location) -> Result<Admission> {
        let subject = subject(location);
        let policy = file(named).map(|file| read(&file)).transpose()?;
        if let Some(policy) = &policy {
            policy.required(&subject)?;
        }
        Ok(Admission { policy, location: location.clone(), subject })
    }

    /// Requires that `image`, which turned out to be there, is signed as the policy has it.
    ///
    /// # Errors
    /// When it is not, or signatures cannot be had.
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
        policy.check(&self.subject, digest, &self.signatures(image, cache, network, watch)?)
    }

    fn signatures(
        &self,
        image: &StoredImage,
        cache: &CacheDirectory,
        network: &NetworkArguments,
        watch: &Arc<Watch>,
    ) -> Result<Vec<Signature>> {
        let digest = &image.descriptor.digest;
        match &self.location {
            Location::Layout { directory, .. } => attached_in_layout(&Layout::open(directory)?, digest),
            Location::OciArchive { .. } | Location::DockerArchive { .. } | Location::Directory(_) => Ok(Vec::new()),
            Location::Registry(reference) => {
                let directory = cache.open()?;
                let known = kept(&directory, digest);
                if !known.is_empty() || network.is_offline()? {
                    return Ok(known);
                }
                let ask = |repository: &Arc<_>| attached_in_repository(repository, digest);
                let found = network.first_that_answers(reference, watch, ask)?;
                if !found.is_empty() {
                    keep(&directory, digest, &found)?;
                }
                Ok(found)
            }
        }
    }
}

fn subject(location: &Location) -> Subject {
    let real = |path: &Path| Root::resolve(path).unwrap_or_else(|_| path.to_owned());
    match location {
        Location::Registry(reference) => Subject::Registry(reference.clone()),
        Location::Layout { directory, tag } => Subject::Path("oci", real(directory), tag.clone()),
        Location::OciArchive { file, tag } => Subject::Path("oci-archive", real(file), tag.clone()),
        Location::DockerArchive { file, .. } => Subject::Path("docker-archive", real(file), None),
        Location::Directory(directory) => Subject::Path("dir", real(directory), None),
    }
}

/// The policy file: the one that is named, else this user's, else the machine's, if there is one.
fn file(named: Option<&Path>) -> Option<PathBuf> {
    let own = std::env::home_dir().map(|home| home.join(".config/containers/policy.json"));
    let usual = own.into_iter().chain([PathBuf::from("/etc/containers/policy.json")]);
    named.map(Path::to_owned).or_else(|| usual.into_iter().find(|file| file.is_file()))
}

fn read(file: &Path) -> Result<Policy> {
    let object = file.display().to_string();
    Policy::read(&bounded::read(Root::open_named_file(file)?, LARGEST, &object)?, &object)
}
