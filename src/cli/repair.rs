//! The places from which `verify --repair` takes blobs.

use super::cache_directory::CacheDirectory;
use super::layout_lock::{LayoutLockArguments, WriteCheckArguments};
use super::network::NetworkArguments;
use super::progress_display::Watch;
use clap::Args;
use ocibuild::spec::Descriptor;
use ocibuild::store::archive::{DockerArchive, OciArchive};
use ocibuild::store::repair::{RepairSource, RepairedBlob, repair};
use ocibuild::store::verify::Report;
use ocibuild::store::{BASES, BlobLocations, DirectoryImage, LAYERS, Layout, VerifiedFiles};
use ocibuild::{Error, Location, Reference, Result};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

#[derive(Debug, Args)]
#[command(
    mut_group("LayoutLockArguments", |group| group.requires("repair")),
    mut_group("WriteCheckArguments", |group| group.requires("repair")),
    mut_arg("authfile", |flag| flag.requires("repair")),
    mut_arg("creds_stdin", |flag| flag.requires("repair")),
    mut_arg("mirrors", |flag| flag.requires("repair")),
    mut_arg("signature_policy", |flag| flag.requires("repair")),
    mut_group("ConnectionArguments", |group| group.requires("repair"))
)]
pub(super) struct RepairArguments {
    /// Replace missing and damaged blobs by those of the cache or of the registries that they are known to be in
    #[arg(long)]
    repair: bool,
    /// Take blobs from this layout, archive or registry first. Repeatable
    #[arg(long, value_name = "IMAGE", requires = "repair")]
    from: Vec<String>,
    #[command(flatten)]
    lock: LayoutLockArguments,
    #[command(flatten)]
    write_check: WriteCheckArguments,
    #[command(flatten)]
    network: NetworkArguments,
}

/// The registries that this machine has recorded, each opened when it is first needed.
struct RecordedPlaces<'a> {
    locations: Option<BlobLocations>,
    network: &'a NetworkArguments,
    watch: &'a Arc<Watch>,
    opened: Mutex<BTreeMap<Reference, RepairSource>>,
}

impl RepairArguments {
    /// Returns whether the layout is to be repaired.
    pub(super) fn is_asked_for(&self) -> bool {
        self.repair
    }

    /// Repairs the layout at `directory`, or its image `name`.
    ///
    /// # Errors
    /// Fails if a place of `--from` cannot be opened, or the layout cannot be read or written.
    pub(super) fn run(
        &self,
        directory: &Path,
        name: Option<&str>,
        cache: &CacheDirectory,
        watch: &Arc<Watch>,
    ) -> Result<(Report, Vec<RepairedBlob>)> {
        self.network
            .refuse_policy("verify --repair: a blob is the one that the layout names, wherever it comes from")?;
        let named: Vec<RepairSource> = self.from.iter().map(|text| self.place(text, watch)).collect::<Result<_>>()?;
        let cache = cache.existing()?;
        let layout = Layout::open_to_change(directory, self.lock.locking())?.checking(self.write_check.check());
        let layout = match cache.as_ref().and_then(VerifiedFiles::existing) {
            Some(memory) => layout.with_verification_cache(memory),
            None => layout,
        };
        let kept = cache.iter().flat_map(|cache| [BASES, LAYERS].map(|store| cache.path().join(store)));
        // A store that cannot be read is made again by the next build; here it only has no blobs.
        let kept = kept.filter_map(|path| Some(source(path.display().to_string(), Layout::open(&path).ok()?)));
        let local: Vec<RepairSource> = named.into_iter().chain(kept).collect();
        let locations = match cache.filter(|_| !self.network.is_offline().unwrap_or_default()) {
            Some(cache) => Some(BlobLocations::open(&cache, SystemTime::now())?),
            None => None,
        };
        let recorded = RecordedPlaces { locations, network: &self.network, watch, opened: Mutex::default() };
        let sources = |blob: &Descriptor| {
            let mut sources = local.clone();
            sources.extend(recorded.of(blob)?);
            Ok(sources)
        };
        repair(&layout, name, &sources, &**watch)
    }

    /// Opens a place of `--from`. A digest names the same bytes everywhere, so all blobs of the place count, whichever image is
    /// named.
    fn place(&self, text: &str, watch: &Arc<Watch>) -> Result<RepairSource> {
        let location = Location::of_image(text)?;
        let name = location.to_string();
        Ok(match location {
            Location::Layout { directory, tag } => {
                let layout = Layout::open(&directory)?;
                if let Some(tag) = tag {
                    layout.names(Some(&tag))?;
                }
                source(name, layout)
            }
            Location::OciArchive { file, .. } => source(name, OciArchive::open(&file)?),
            Location::DockerArchive { file, .. } => source(name, DockerArchive::open(&file)?),
            Location::Directory(directory) => source(name, DirectoryImage::open(&directory)?),
            Location::Registry(reference) => {
                RepairSource { name, blobs: self.network.repository(&reference, watch.clone())? }
            }
            Location::Engine(..) => {
                return Err(Error::usage(format!("--from {name}"), "the store of an engine gives no single blobs")
                    .hint(format!("ocibuild export {name} oci-archive:FILE, then --from FILE")));
            }
        })
    }
}

fn source(name: String, blobs: impl ocibuild::store::BlobSource + 'static) -> RepairSource {
    RepairSource { name, blobs: Arc::new(blobs) }
}

impl RecordedPlaces<'_> {
    /// Returns the repositories in which `blob` was seen.
    ///
    /// What only the layout says about registries is not used: its author could choose where credentials are sent.
    fn of(&self, blob: &Descriptor) -> Result<Vec<RepairSource>> {
        let repositories =
            self.locations.as_ref().map(|locations| locations.repositories(&blob.digest)).unwrap_or_default();
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        repositories
            .into_iter()
            .map(|repository| {
                if let Some(source) = opened.get(&repository) {
                    return Ok(source.clone());
                }
                let blobs = self.network.mirrored_repository(&repository, self.watch)?;
                let source = RepairSource { name: Location::Registry(repository.clone()).to_string(), blobs };
                opened.insert(repository, source.clone());
                Ok(source)
            })
            .collect()
    }
}
