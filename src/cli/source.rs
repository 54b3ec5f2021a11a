//! Opening what a person names as an image.

use super::network::NetworkArguments;
use super::watch::Watch;
use ocibuild::store::archive::{DockerArchive, OciArchive};
use ocibuild::store::{ImageName, Layout, StoredImage};
use ocibuild::{Location, Platform, Result};
use std::path::Path;
use std::sync::Arc;

/// An image and the names that it has where it lies.
pub(super) struct Opened {
    pub(super) image: StoredImage,
    pub(super) names: Vec<ImageName>,
}

/// `LAYOUT[:TAG]`, or any location with its transport.
///
/// # Errors
/// When the transport is not known, or the path is empty.
pub(super) fn location(text: &str) -> Result<Location> {
    let has_transport =
        ["oci:", "oci-archive:", "docker-archive:", "docker://"].iter().any(|transport| text.starts_with(transport));
    if has_transport { text.parse() } else { format!("oci:{text}").parse() }
}

/// Opens the image at `location`.
///
/// # Errors
/// When it is missing, damaged, malformed, or not for `platform`.
pub(super) fn open(
    location: &Location,
    platform: Option<&Platform>,
    network: &NetworkArguments,
    watch: &Arc<Watch>,
) -> Result<Opened> {
    match location {
        Location::Layout { directory, tag } => {
            let layout = layout(directory)?;
            let image = layout.image(tag.as_deref(), platform)?;
            let names = layout.names_of(&image.descriptor.digest)?;
            // With a tag given, that one comes first and the others are not asked for.
            let named: Vec<ImageName> =
                names.iter().filter(|name| Some(name.tag()) == tag.as_deref()).cloned().collect();
            Ok(Opened { image, names: if named.is_empty() { names } else { named } })
        }
        Location::OciArchive { file, tag } => {
            Ok(Opened { image: OciArchive::open(file)?.image(tag.as_deref(), platform)?, names: Vec::new() })
        }
        Location::DockerArchive { file, reference } => {
            Ok(Opened { image: DockerArchive::open(file)?.image(reference.as_deref(), platform)?, names: Vec::new() })
        }
        Location::Registry(reference) => {
            let image = network.first_that_answers(reference, watch, |repository| repository.image(platform))?;
            let names = if reference.digest().is_some() { Vec::new() } else { vec![reference.to_string().parse()?] };
            Ok(Opened { image, names })
        }
    }
}

/// Opens an existing layout.
///
/// # Errors
/// When there is none.
pub(super) fn layout(directory: &Path) -> Result<Arc<Layout>> {
    Layout::open(directory).map(Arc::new)
}
