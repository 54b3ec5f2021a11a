//! Changing an existing image: where it is, or on the way to another place.

use super::blob_locations;
use super::cache_directory::CacheDirectory;
use super::destination::{ExportDestination, Writing, check_is_read_back};
use super::layout_lock::{LayoutLockArguments, WriteCheckArguments};
use super::network::NetworkArguments;
use super::output::print;
use super::progress_display::Watch;
use super::replaced::{replaced_json, report_replaced};
use super::source::{OpenedImage, SourceArguments};
use super::{Common, OutputFormat};
use clap::Args;
use ocibuild::build::rewrite::{Change, ChangedImage, rewrite_in_layout, rewrite_in_repository};
use ocibuild::common::human_numbers::counted;
use ocibuild::registry::LayerSources;
use ocibuild::spec::Replaced;
use ocibuild::store::{BlobLocations, Layout, RemoteLayers, StoredImage, VerifiedFiles};
use ocibuild::{Digest, Error, Location, Platform, Reference, Result};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;

/// The image to change, and the place of the result.
#[derive(Debug, Args)]
pub(super) struct RewritingArguments {
    /// Image to change: PATH[:NAME][@DIGEST], a registry reference, or TRANSPORT:ADDRESS (see docs/images.md)
    #[arg(value_name = "IMAGE")]
    source: String,
    /// Change one platform of a multi-platform image [default: all of them; with --to: linux/amd64]
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
    #[command(flatten)]
    pub(super) cache: CacheDirectory,
    /// Leave IMAGE unchanged, and write the result to DEST, a destination of `export`
    #[arg(long, value_name = "DEST", help_heading = "Output", value_parser = Location::of_destination)]
    to: Option<Location>,
    #[command(flatten)]
    lock: LayoutLockArguments,
    #[command(flatten)]
    write_check: WriteCheckArguments,
    #[command(flatten)]
    pub(super) network: NetworkArguments,
}

/// Where the image is, and where the result goes.
pub(super) enum Target {
    /// A layout that is open to be changed, and the name of the image in it.
    Layout(Arc<Layout>, Option<String>),
    /// A registry.
    Registry(Reference),
    /// Another place than that of the image.
    Elsewhere(ExportDestination),
}

/// What has become of an image.
struct Outcome {
    before: Digest,
    after: Digest,
    images: Vec<(Digest, StoredImage)>,
    replaced: Vec<Replaced>,
    /// The number of entries of indexes that are no images.
    others: usize,
    /// Whether there are artifacts about the image before, or may be.
    has_artifacts: bool,
}

impl RewritingArguments {
    /// Returns where the image is, and where the result goes.
    ///
    /// # Errors
    /// Fails if nothing is found at the path, the layout cannot be opened, or the image cannot be changed where it is.
    pub(super) fn target(&self) -> Result<Target> {
        if let Some(to) = &self.to {
            let destination = ExportDestination::of(to.clone())?;
            if destination.is_standard_output() {
                return Err(Error::usage("--to", "standard output is for the digest; name a file"));
            }
            destination.check(self.write_check.check())?;
            return Ok(Target::Elsewhere(destination));
        }
        match Location::of_image(&self.source)? {
            Location::Layout { directory, tag } => Ok(Target::Layout(self.open_layout(&directory)?, tag)),
            Location::Registry(reference) => {
                check_is_read_back(self.write_check.check(), format_args!("docker://{reference}"))?;
                Ok(Target::Registry(reference))
            }
            location => Err(Error::usage(location.to_string(), "can be changed in layouts and registries only")
                .hint(format!("--to {location} writes it again, --to oci:DIR into a layout"))),
        }
    }

    fn open_layout(&self, directory: &Path) -> Result<Arc<Layout>> {
        let layout = Layout::open_to_change(directory, self.lock.locking())?.checking(self.write_check.check());
        let known = self.cache.open().and_then(|directory| VerifiedFiles::in_cache_directory(&directory));
        Ok(Arc::new(match known {
            Ok(known) => layout.with_verification_cache(known),
            // Then every blob is hashed that has to be known whole.
            Err(_) => layout,
        }))
    }

    /// Changes the image, and reports what has become of it.
    ///
    /// # Errors
    /// Fails if the image cannot be read, `change` fails, or the result cannot be written.
    pub(super) fn run(&self, target: &Target, change: Change<'_>, common: &Common, watch: &Arc<Watch>) -> Result<()> {
        let locations = blob_locations::open(&self.cache, watch);
        let outcome = match target {
            Target::Layout(layout, name) => self.in_layout(layout, name.as_deref(), change, locations.as_ref(), watch),
            Target::Registry(reference) => self.in_registry(reference, change, locations.as_ref(), watch),
            Target::Elsewhere(destination) => self.elsewhere(destination, change, locations.as_ref(), watch),
        };
        report(&outcome?, common.format, watch)
    }

    fn in_layout(
        &self,
        layout: &Arc<Layout>,
        name: Option<&str>,
        change: Change<'_>,
        locations: Option<&Arc<BlobLocations>>,
        watch: &Arc<Watch>,
    ) -> Result<Outcome> {
        let completed = |image: StoredImage| change(self.with_remote_layers(image, &[], locations, watch)?);
        let moved = rewrite_in_layout(layout, name, self.platform.as_ref(), &completed, &**watch)?;
        for changed in &moved.rewritten.images {
            note_left_out(locations, &changed.before, &changed.image, changed.left_out.clone())?;
        }
        let rewritten = moved.rewritten;
        Ok(Outcome {
            before: rewritten.before.digest,
            after: rewritten.after.digest,
            images: rewritten.images.into_iter().map(|image| (image.before, image.image)).collect(),
            replaced: moved.replaced,
            others: rewritten.others,
            has_artifacts: moved.artifacts > 0,
        })
    }

    fn in_registry(
        &self,
        reference: &Reference,
        change: Change<'_>,
        locations: Option<&Arc<BlobLocations>>,
        watch: &Arc<Watch>,
    ) -> Result<Outcome> {
        let repository = self.network.repository_with_blob_locations(reference, locations.cloned(), watch.clone())?;
        let (rewritten, _) = rewrite_in_repository(&repository, self.platform.as_ref(), change, &**watch)?;
        for changed in &rewritten.images {
            if let Some(locations) = locations {
                blob_locations::record(locations, reference, &changed.image.manifest, watch);
            }
        }
        Ok(Outcome {
            before: rewritten.before.digest,
            after: rewritten.after.digest,
            has_artifacts: rewritten.is_changed(),
            images: rewritten.images.into_iter().map(|image| (image.before, image.image)).collect(),
            replaced: Vec::new(),
            others: rewritten.others,
        })
    }

    fn elsewhere(
        &self,
        destination: &ExportDestination,
        change: Change<'_>,
        locations: Option<&Arc<BlobLocations>>,
        watch: &Arc<Watch>,
    ) -> Result<Outcome> {
        let source = SourceArguments::of(&self.source, self.platform.clone(), self.cache.clone());
        let admission = source.admission(&self.network)?;
        let OpenedImage { image, names } = source.open(&self.network, watch)?;
        admission.admit(&image, &self.cache, &self.network, watch)?;
        let registries: Vec<&str> = destination.registry().into_iter().collect();
        let image = self.with_remote_layers(image, &registries, locations, watch)?;
        let before = image.clone();
        let has_artifacts = !before.referrers.is_empty();
        let changed = change(image)?.map_or(before.clone(), |ChangedImage { image, .. }| image);
        let writing = Writing {
            locking: self.lock.locking(),
            check: self.write_check.check(),
            network: &self.network,
            namespace: None,
            locations,
            cache: None,
            cache_directory: &self.cache,
            watch,
        };
        let moved = destination.write(&OpenedImage { image: changed.clone(), names }, &writing)?;
        let (before, after) = (before.descriptor.digest, changed.descriptor.digest);
        Ok(Outcome {
            before,
            after,
            images: vec![(before, changed)],
            replaced: moved.replaced,
            others: 0,
            has_artifacts,
        })
    }

    /// Returns the image with the repositories that have the layers which its layout lacks.
    fn with_remote_layers(
        &self,
        image: StoredImage,
        registries: &[&str],
        locations: Option<&Arc<BlobLocations>>,
        watch: &Arc<Watch>,
    ) -> Result<StoredImage> {
        let recorded = locations.map(|locations| locations.remote_layers(&image.descriptor.digest)).unwrap_or_default();
        let sources = LayerSources { recorded: &recorded, named: &[], registries };
        self.network.with_layer_sources(image, sources, watch)
    }
}

/// Records where the layers of a changed image are that its layout lacks.
fn note_left_out(
    locations: Option<&Arc<BlobLocations>>,
    before: &Digest,
    image: &StoredImage,
    mut left_out: RemoteLayers,
) -> Result<()> {
    let Some(locations) = locations.filter(|_| *before != image.descriptor.digest) else { return Ok(()) };
    for (layer, repository) in locations.remote_layers(before).iter() {
        if image.manifest.layers.iter().any(|own| own.digest == *layer) {
            left_out.insert(*layer, repository);
        }
    }
    if left_out.is_empty() { Ok(()) } else { locations.record_remote_layers(&image.descriptor.digest, &left_out) }
}

fn report(outcome: &Outcome, format: OutputFormat, watch: &Watch) -> Result<()> {
    let is_changed = outcome.before != outcome.after;
    report_replaced(&outcome.replaced, watch);
    if !is_changed {
        watch.say("no change: the image is already as it should be");
    }
    if is_changed && outcome.others > 0 {
        let others = counted(outcome.others, "entry");
        watch.say(&format!(
            "{others} of the index for attestations and the like still name the images before the change"
        ));
    }
    if is_changed && outcome.has_artifacts {
        watch.say(&format!("signatures and other artifacts about {} do not apply to the new image", outcome.before));
    }
    match format {
        OutputFormat::Text => print(&outcome.after.to_string()),
        OutputFormat::Json => print(&to_json(outcome).to_string()),
    }
}

fn to_json(outcome: &Outcome) -> Value {
    let images = outcome.images.iter().map(|(before, image)| {
        json!({
            "platform": image.config.platform().to_string(),
            "digest": image.descriptor.digest.to_string(),
            "before": before.to_string(),
            "configDigest": image.manifest.config.digest.to_string(),
        })
    });
    json!({
        "digest": outcome.after.to_string(),
        "before": outcome.before.to_string(),
        "changed": outcome.before != outcome.after,
        "images": images.collect::<Vec<_>>(),
        "replaced": replaced_json(&outcome.replaced),
    })
}
