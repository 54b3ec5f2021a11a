//! `ocibuild rebase`.

use super::Common;
use super::base::{self, Freshness};
use super::progress_display::Watch;
use super::rewriting::{RewritingArguments, Target};
use super::source::SourceArguments;
use clap::Args;
use ocibuild::build::image::{BASE_DIGEST, BaseLayers};
use ocibuild::build::rebase::{ConflictPolicy, Rebase};
use ocibuild::build::rewrite::ChangedImage;
use ocibuild::common::human_numbers::counted;
use ocibuild::layers::rootfs::Listings;
use ocibuild::registry::{BASE_NAME, Meanings};
use ocibuild::{Digest, Error, Location, Platform, Reference, Result, StoredImage};
use std::process::ExitCode;
use std::sync::Arc;

#[derive(Debug, Args)]
#[command(after_help = "\
The layers of the base are found by the annotations org.opencontainers.image.base.name and .digest, and by their diff IDs; both must
agree. Values of the config that the image did not set come from the new base. The layers of the image are compared with the files of
the new base, and conflicts are errors: a directory that has become a link, a user or a program that is missing.

Examples:
  ocibuild rebase ./out:v1
  ocibuild rebase ./out:v1 --onto debian:trixie-slim --to oci:./out:v1-trixie
  ocibuild rebase docker://registry.example/team/app:v1 --from debian:bookworm --onto debian:trixie")]
pub(super) struct RebaseArguments {
    #[command(flatten)]
    rewriting: RewritingArguments,
    /// Set the new base [default: what the recorded name of the base is now]
    #[arg(long, value_name = "IMAGE", help_heading = "Base image")]
    onto: Option<String>,
    /// Name the base that the image was built on [default: the recorded one]
    #[arg(long, value_name = "IMAGE", help_heading = "Base image")]
    from: Option<String>,
    /// Do not download layers: a layout leaves those of the base in the registry, and only those with cached listings are compared
    #[arg(long, help_heading = "Base image")]
    sparse: bool,
    /// Report conflicts with the new base as warnings
    #[arg(long, help_heading = "Base image")]
    allow_conflicts: bool,
    #[command(flatten)]
    pub(super) common: Common,
}

/// The new base, with its name in a registry.
struct NewBase {
    image: StoredImage,
    name: Option<Reference>,
}

/// Replaces the base and prints the digest of the result.
pub(super) fn run(arguments: &RebaseArguments) -> Result<ExitCode> {
    let watch = Arc::new(Watch::new(&arguments.common));
    let target = arguments.rewriting.target()?;
    let change = |image: StoredImage| arguments.rebase(image, &target, &watch);
    arguments.rewriting.run(&target, &change, &arguments.common, &watch)?;
    Ok(ExitCode::SUCCESS)
}

impl RebaseArguments {
    fn rebase(&self, image: StoredImage, target: &Target, watch: &Arc<Watch>) -> Result<Option<ChangedImage>> {
        let platform = image.config.platform().clone();
        let old = self.old_base(&image, &platform, target, watch)?;
        let new = self.new_base(&image, &platform, target, watch)?;
        let listings = self.rewriting.cache.open().and_then(|cache| Listings::in_cache_directory(&cache)).ok();
        let rebase = Rebase {
            old: &old,
            new: &new.image,
            name: new.name.as_ref(),
            layers: if self.sparse { BaseLayers::Remote } else { BaseLayers::Copied },
            conflicts: if self.allow_conflicts { ConflictPolicy::Warn } else { ConflictPolicy::Fail },
            listings: listings.as_ref(),
            progress: &**watch,
        };
        let changed = rebase.apply(image)?;
        if changed.is_some() {
            let layers = |base: &StoredImage| counted(base.manifest.layers.len(), "layer");
            let (from, to) = (old.descriptor.digest, new.image.descriptor.digest);
            watch.say(&format!("{platform}: {} of {from} replaced by {} of {to}", layers(&old), layers(&new.image)));
        }
        Ok(changed)
    }

    /// Opens the base that the image was built on.
    fn old_base(
        &self,
        image: &StoredImage,
        platform: &Platform,
        target: &Target,
        watch: &Arc<Watch>,
    ) -> Result<StoredImage> {
        const HINT: &str = "--from IMAGE names the base that it was built on";
        if let Some(from) = &self.from {
            return Ok(self.open(from, platform, watch)?.image);
        }
        let unknown = |reason: String| Error::invalid("image", reason).hint(HINT);
        let recorded = image.manifest.annotations.get(BASE_DIGEST);
        let recorded =
            recorded.ok_or_else(|| unknown(format!("does not record its base: no annotation {BASE_DIGEST}")))?;
        let digest: Digest = recorded.parse().map_err(|error: Error| unknown(error.to_string()))?;
        // What is missing or damaged in the layout is looked for in the cache and the registry.
        if let Target::Layout(layout, _) = target
            && let Ok(here) = layout.image(Some(&format!("@{digest}")), Some(platform))
        {
            return Ok(here);
        }
        let name = recorded_name(image).map_err(|error| error.hint(HINT))?.without_tag().with_digest(digest);
        self.pinned(&name, platform, watch).map_err(|error| {
            let reason = format!("its base {name} cannot be read: {}", error.reason());
            Error::new(error.kind(), "image", reason).hint(HINT)
        })
    }

    /// Opens the image with a digest, from the cache or a registry. Its layers are not read.
    fn pinned(&self, name: &Reference, platform: &Platform, watch: &Arc<Watch>) -> Result<StoredImage> {
        let store = base::open_store(&self.rewriting.cache, Freshness::Tag, watch)?;
        if let Some(stored) = store.find(name, Some(platform), Meanings::Any)? {
            return Ok(stored.image);
        }
        self.rewriting.network.first_that_answers(name, watch, |repository| repository.image(Some(platform)))
    }

    fn new_base(
        &self,
        image: &StoredImage,
        platform: &Platform,
        target: &Target,
        watch: &Arc<Watch>,
    ) -> Result<NewBase> {
        let location = match &self.onto {
            Some(onto) => Location::of_base(onto)?,
            None => {
                let name = recorded_name(image).map_err(|error| error.hint("--onto IMAGE names the new base"))?;
                if name.digest().is_some() {
                    let reason = format!("its base {name} is pinned, so there is no newer version");
                    return Err(Error::usage("image", reason).hint("--onto IMAGE names the new base"));
                }
                Location::Registry(name)
            }
        };
        let Location::Registry(reference) = &location else {
            if self.sparse {
                return Err(Error::usage(location.to_string(), "not in a registry, which --sparse requires"));
            }
            return self.open(&location.to_string(), platform, watch);
        };
        let network = &self.rewriting.network;
        let is_pulled = !self.sparse && !matches!(target, Target::Registry(_)) && !network.is_offline()?;
        if !is_pulled {
            return self.open(&format!("docker://{reference}"), platform, watch);
        }
        let cache = &self.rewriting.cache;
        let admission = network.admission(&location)?;
        let admit = |image: &StoredImage| admission.admit(image, cache, network, watch);
        let store = base::open_store(cache, Freshness::Tag, watch)?;
        let pulled = base::pull((&store, cache), network, reference, Some(platform), Freshness::Tag, (&admit, watch))?;
        admit(&pulled.base.image)?;
        cache.note_use(&pulled.base.image.descriptor.digest);
        Ok(NewBase { image: pulled.base.image, name: Some(base::full_name(reference)) })
    }

    /// Opens an image wherever it is.
    fn open(&self, text: &str, platform: &Platform, watch: &Arc<Watch>) -> Result<NewBase> {
        let RewritingArguments { cache, network, .. } = &self.rewriting;
        let source = SourceArguments::of(text, Some(platform.clone()), cache.clone());
        let admission = source.admission(network)?;
        let image = source.open(network, watch)?.image;
        admission.admit(&image, cache, network, watch)?;
        Ok(NewBase { name: image.origin.clone(), image })
    }
}

/// Returns the name of the base that the image records.
fn recorded_name(image: &StoredImage) -> Result<Reference> {
    let unknown = |reason: String| Error::invalid("image", reason);
    let name = image.manifest.annotations.get(BASE_NAME);
    let name =
        name.ok_or_else(|| unknown(format!("does not record the name of its base: no annotation {BASE_NAME}")))?;
    name.parse().map_err(|error: Error| unknown(format!("records an invalid name of its base: {error}")))
}
