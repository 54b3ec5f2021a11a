//! Opening the base of an image: from a file, from the base store, or from its registry.

use super::admission::Admission;
use super::blob_locations;
use super::cache_directory::CacheDirectory;
use super::engines;
use super::lock_arguments::LockArguments;
use super::network::NetworkArguments;
use super::progress_display::Watch;
use clap::{Args, ValueEnum};
use ocibuild::build::image::{Base, BaseLayers};
use ocibuild::build::{LockFile, LockFileMode, LockedKind};
use ocibuild::common::progress::warn;
use ocibuild::common::root::WriteCheck;
use ocibuild::registry::{BaseStore, Meanings, Pulled, StoredBase};
use ocibuild::store::{StoredImage, VerifiedFiles};
use ocibuild::{Digest, Error, ErrorKind, Location, Platform, Reference, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Debug, Args)]
pub(super) struct BaseArguments {
    /// Set when to check the registry for the base image [default: missing; with --lock: always]
    #[arg(long, value_name = "WHEN", help_heading = "Base image")]
    pull: Option<PullPolicy>,
    /// Do not download base layers or layers found by --cache-from; `export` mounts or fetches them
    #[arg(long, help_heading = "Base image")]
    sparse: bool,
    #[command(flatten)]
    lock: LockArguments,
    #[command(flatten)]
    network: NetworkArguments,
}

/// The policy for checking the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PullPolicy {
    /// Check the registry in every build
    Always,
    /// Check the registry if the base image is not in the cache
    Missing,
    /// Use only the cache; fail if the base image is not in it
    Never,
}

impl BaseArguments {
    /// Returns `true` if layers stay in their registry.
    pub(super) fn is_sparse(&self) -> bool {
        self.sparse
    }

    /// Returns the options of connections to registries and other servers.
    pub(super) fn network(&self) -> &NetworkArguments {
        &self.network
    }

    /// Returns the lock file, in `directory` unless it is named.
    pub(super) fn lock_file(&self, directory: &Path) -> Result<LockFile> {
        self.lock.open(directory)
    }

    /// Returns the path of the lock file, which need not exist.
    pub(super) fn path_of_lock_file(&self, directory: &Path) -> PathBuf {
        self.lock.path(directory)
    }

    /// Opens the base at `location`; `None` is `scratch`. The lock file is in `directory` unless it is named.
    ///
    /// # Errors
    /// Fails if there is no such base, it may not be fetched, or it is not what the lock file says.
    pub(super) fn open(
        &self,
        location: Option<&Location>,
        platform: Option<&Platform>,
        directory: &Path,
        cache: &CacheDirectory,
        watch: &Arc<Watch>,
    ) -> Result<Base> {
        let mut lock = self.lock.open(directory)?;
        let admission = location.map(|location| self.network.admission(location)).transpose()?;
        let admission = match self.pull {
            Some(PullPolicy::Never) => admission.map(Admission::without_requests),
            _ => admission,
        };
        let admit = |image: &StoredImage| match &admission {
            Some(admission) => admission.admit(image, cache, &self.network, watch),
            None => Ok(()),
        };
        match location {
            None => Ok(Base::Scratch(platform.cloned().unwrap_or_else(Platform::linux_amd64))),
            Some(Location::Registry(reference)) => {
                let key = name_of(reference);
                let (wanted, before) = (lock.wanted_base(reference, &key)?, lock.before(LockedKind::Base, &key));
                let store = open_store(cache, Freshness::Tag, watch)?;
                let base =
                    self.stored_or_pulled((&store, cache), &wanted, platform, lock.locking(), (&admit, watch))?;
                admit(&base.image)?;
                cache.note_use(&base.image.descriptor.digest);
                if lock.locking() == LockFileMode::Renew && reference.digest().is_none() {
                    if let Some(before) = before.filter(|before| *before != base.named) {
                        report_move(&key, before, base.named, watch);
                    }
                    lock.record(LockedKind::Base, &key, base.named)?;
                }
                let layers = if self.sparse { BaseLayers::Remote } else { BaseLayers::Copied };
                Ok(Base::Image { image: Box::new(base.image), name: Some(key), layers })
            }
            Some(location) if self.sparse => {
                Err(Error::usage(location.to_string(), "not in a registry, which --sparse requires"))
            }
            Some(location) => {
                let base = match location {
                    Location::Engine(engine, name) => {
                        let store = engines::store(*engine, name, &self.network)?;
                        Base::of(store.image(name, platform, &engines::spool(cache)?)?)
                    }
                    location => Base::open(location, platform)?,
                };
                if let Base::Image { image, .. } = &base {
                    admit(image)?;
                    let (key, found) = (location.to_string(), image.descriptor.digest);
                    lock.check(LockedKind::Base, &key, found)?;
                    if lock.locking() == LockFileMode::Renew {
                        lock.record(LockedKind::Base, &key, found)?;
                    }
                }
                Ok(base)
            }
        }
    }

    fn stored_or_pulled(
        &self,
        (store, cache): (&BaseStore, &CacheDirectory),
        reference: &Reference,
        platform: Option<&Platform>,
        locking: LockFileMode,
        (admit, watch): (Admit<'_>, &Arc<Watch>),
    ) -> Result<StoredBase> {
        let offline = self.network.is_offline()?;
        let policy = match (self.pull, offline) {
            (Some(PullPolicy::Always), true) => {
                return Err(Error::usage("--pull always", "network access is disabled (--offline)"));
            }
            (Some(policy), _) => policy,
            (None, true) => PullPolicy::Never,
            (None, false) if locking == LockFileMode::Renew => PullPolicy::Always,
            (None, false) => PullPolicy::Missing,
        };
        // The content of a digest cannot change.
        if policy != PullPolicy::Always || reference.digest().is_some() {
            let places = self.network.places(reference)?;
            if let Some(base) = store.find(reference, platform, Meanings::Of(&places))? {
                return Ok(base);
            }
            if offline || policy == PullPolicy::Never {
                if let Some(base) = store.find(reference, platform, Meanings::Any)? {
                    if let Some(mirror) = &base.mirror {
                        let reason = format!("cached from the mirror {mirror}, which this command does not use");
                        warn(watch, &name_of(reference), &reason);
                    }
                    return Ok(base);
                }
                return Err(missing(reference, platform, if offline { "--offline" } else { "--pull never" }));
            }
        }
        if self.sparse {
            return self.network.first_that_answers(reference, watch, |repository| {
                let start = repository.resolve()?;
                let image = BaseStore::choose(repository, &start, platform, &reference.to_string())?;
                remember(cache, repository.reference(), &image, watch);
                Ok(StoredBase { image, named: start.digest, mirror: None })
            });
        }
        let pulled = pull((store, cache), &self.network, reference, platform, Freshness::Tag, (admit, watch))?;
        Ok(pulled.base)
    }
}

/// The degree to which a stored base is checked when it is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Freshness {
    /// Records only the digest of the tag.
    Tag,
    /// Every byte: a disk may have lost some without anybody writing to it.
    Content,
}

/// Opens the store of bases, after making it.
pub(super) fn open_store(cache: &CacheDirectory, freshness: Freshness, watch: &Watch) -> Result<BaseStore> {
    open_store_checking(cache, freshness, WriteCheck::Synced, watch)
}

/// As [`open_store`]; `check` is what is known of a base before it is there.
pub(super) fn open_store_checking(
    cache: &CacheDirectory,
    freshness: Freshness,
    check: WriteCheck,
    watch: &Watch,
) -> Result<BaseStore> {
    let directory = cache.open()?;
    let memory = match freshness {
        Freshness::Tag => Some(VerifiedFiles::in_cache_directory(&directory)?),
        Freshness::Content => None,
    };
    BaseStore::create(&directory, memory, check, watch)
}

/// Refuses an image that the policy does not accept.
type Admit<'a> = &'a dyn Fn(&StoredImage) -> Result<()>;

/// Brings what `reference` names into `store`, from a mirror if there is one that has it. Nothing is fetched of an image that
/// `admit` refuses.
pub(super) fn pull(
    (store, cache): (&BaseStore, &CacheDirectory),
    network: &NetworkArguments,
    reference: &Reference,
    platform: Option<&Platform>,
    freshness: Freshness,
    (admit, watch): (Admit<'_>, &Arc<Watch>),
) -> Result<Pulled> {
    let pulled = network.first_that_answers(reference, watch, |repository| {
        if freshness == Freshness::Tag
            && let Some(base) = store.current(repository, reference, platform)?
        {
            return Ok(Pulled { base, before: None, moved: Default::default() });
        }
        let pulled = store.pull(repository, reference, platform, admit, watch)?;
        remember(cache, repository.reference(), &pulled.base.image, watch);
        Ok(pulled)
    })?;
    if let Some(before) = pulled.before {
        report_move(&name_of(reference), before, pulled.base.named, watch);
    }
    Ok(pulled)
}

/// Remembers that `place` holds the image, so that a push beside it need not send its layers.
fn remember(cache: &CacheDirectory, place: &Reference, image: &StoredImage, watch: &Watch) {
    if let Some(locations) = blob_locations::open(cache, watch) {
        blob_locations::record(&locations, place, &image.manifest, watch);
    }
}

/// Returns the full name of a base, its tag written out.
fn name_of(reference: &Reference) -> String {
    full_name(reference).to_string()
}

/// Returns the reference with its tag written out, where it has no digest.
pub(super) fn full_name(reference: &Reference) -> Reference {
    match reference.digest() {
        Some(_) => reference.clone(),
        None => reference.clone().with_tag(reference.tag_or_latest()),
    }
}

fn report_move(name: &str, from: Digest, to: Digest, watch: &Watch) {
    warn(watch, name, &format!("base moved from {from} to {to}"));
}

fn missing(reference: &Reference, platform: Option<&Platform>, because: &str) -> Error {
    let name = name_of(reference);
    let platform = platform.map(|platform| format!(" --platform {platform}")).unwrap_or_default();
    Error::new(ErrorKind::NotFound, format!("base {name}"), format!("not in the cache ({because})"))
        .hint(format!("run with network access: ocibuild pull{platform} {name}; or use --base oci:DIR"))
}
