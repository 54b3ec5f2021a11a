//! `--into-index`: images that are added to the image that a name has already.

use super::blob_locations;
use super::destination::{ExportDestination, Writing, names_in_layout};
use clap::Args;
use ocibuild::build::add_platforms::{GrownIndex, add_platforms_in_layout, add_platforms_in_repository};
use ocibuild::store::{Layout, RemoteLayers, StoredImage};
use ocibuild::{Digest, Error, ImageName, Platform, Result};
use serde_json::{Value, json};
use std::sync::Arc;

#[derive(Debug, Args)]
pub(super) struct IntoIndexArguments {
    /// Add the platform to the image that has the name already, in one layout or registry, or replace the one for it there
    #[arg(long, help_heading = "Output")]
    into_index: bool,
}

impl IntoIndexArguments {
    pub(super) fn is_wanted(&self) -> bool {
        self.into_index
    }

    /// Checks that there is one index to add to: `count` is the number of places that are written.
    ///
    /// # Errors
    /// Fails if there are several, or one of `destinations` holds no index that can be added to.
    pub(super) fn check(&self, count: usize, destinations: &[ExportDestination]) -> Result<()> {
        if !self.into_index {
            return Ok(());
        }
        let has_index = |place: &&ExportDestination| {
            matches!(place, ExportDestination::Layout(..) | ExportDestination::Repository(..))
        };
        if let Some(other) = destinations.iter().find(|place| !has_index(place)) {
            let reason = format!("adds to images in layouts and registries, not to {other}");
            return Err(Error::usage("--into-index", reason));
        }
        if count > 1 {
            let reason = "adds to one image, and several places are given, which may have different ones";
            return Err(Error::usage("--into-index", reason).hint("run `ocibuild export --into-index` for each"));
        }
        destinations.iter().try_for_each(|destination| match destination {
            ExportDestination::Repository(_, names) => check_one_name(names),
            _ => Ok(()),
        })
    }
}

/// Checks that there is no more than one name: each may have other platforms.
///
/// # Errors
/// Fails if there are several.
pub(super) fn check_one_name(names: &[ImageName]) -> Result<()> {
    match names.len() {
        0 | 1 => Ok(()),
        several => Err(Error::usage("--into-index", format!("adds to the image of one name, and there are {several}"))
            .hint("`ocibuild tag` names the result")),
    }
}

/// Adds `images` to the image of that name in `layout`, which has their blobs except for those in `left_out`.
///
/// # Errors
/// Fails if there are several names, or as [`add_platforms_in_layout`].
pub(super) fn add_in_layout(
    layout: &Arc<Layout>,
    names: &[ImageName],
    images: &[StoredImage],
    left_out: &RemoteLayers,
    writing: &Writing<'_>,
) -> Result<GrownIndex> {
    check_one_name(names)?;
    let latest = names_in_layout(None, names)?;
    let name = latest.first().ok_or_else(|| Error::usage("--into-index", "no name is given"))?;
    add_platforms_in_layout(layout, name, images, left_out, &**writing.watch)
}

/// Adds `images` to the image at `destination`.
///
/// # Errors
/// Fails if that is neither in a layout nor in a registry, or it cannot be read or written.
pub(super) fn add(
    destination: &ExportDestination,
    own_names: &[ImageName],
    images: &[StoredImage],
    writing: &Writing<'_>,
) -> Result<GrownIndex> {
    match destination {
        ExportDestination::Layout(directory, tag) => {
            let layout = Layout::create_locking(directory, writing.locking)?.checking(writing.check);
            let names = names_in_layout(tag.as_deref(), own_names)?;
            add_in_layout(&Arc::new(layout), &names, images, &RemoteLayers::default(), writing)
        }
        ExportDestination::Repository(reference, _) => {
            let (locations, watch) = (writing.locations.cloned(), writing.watch.clone());
            let repository = writing.network.repository_with_blob_locations(reference, locations, watch)?;
            let grown = add_platforms_in_repository(&repository, images, &**writing.watch)?;
            if let Some(locations) = writing.locations {
                images
                    .iter()
                    .for_each(|image| blob_locations::record(locations, reference, &image.manifest, writing.watch));
            }
            Ok(grown)
        }
        _ => Err(Error::invalid("destination", "holds no index that can be added to")),
    }
}

/// Returns every image of the index for programs.
pub(super) fn listed_json(grown: &GrownIndex) -> Value {
    let image = |(platform, digest): &(Platform, Digest)| json!({"platform": platform.to_string(), "digest": digest.to_string()});
    grown.images.iter().map(image).collect()
}

/// Returns the platforms of the index in one line.
pub(super) fn platforms(grown: &GrownIndex) -> String {
    let platforms: Vec<String> = grown.images.iter().map(|(platform, _)| platform.to_string()).collect();
    format!("the index has {}", platforms.join(", "))
}
