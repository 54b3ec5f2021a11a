//! Opening what an argument names, without choosing a platform.

use super::base::{self, Freshness};
use super::cache_directory::CacheDirectory;
use super::engines;
use super::network::NetworkArguments;
use super::progress_display::Watch;
use ocibuild::registry::Meanings;
use ocibuild::store::archive::{DockerArchive, OciArchive};
use ocibuild::store::{DirectoryImage, Layout, StoredDocument};
use ocibuild::{Location, Platform, Result};
use std::sync::Arc;

/// Opens the index, image or artifact that `text` names. With a platform, an index is replaced by its image for it.
///
/// # Errors
/// Fails if it is missing, damaged, malformed, or has no image for the platform.
pub(super) fn open_document(
    text: &str,
    platform: Option<&Platform>,
    cache: &CacheDirectory,
    network: &NetworkArguments,
    watch: &Arc<Watch>,
) -> Result<StoredDocument> {
    let document = match Location::of_image(text)? {
        Location::Layout { directory, tag } => Arc::new(Layout::open(&directory)?).open_document(tag.as_deref())?,
        Location::OciArchive { file, tag } => Arc::new(OciArchive::open(&file)?).open_document(tag.as_deref())?,
        Location::Directory(directory) => Arc::new(DirectoryImage::open(&directory)?).open_document()?,
        Location::DockerArchive { file, reference } => {
            let image = DockerArchive::open(&file)?.image(reference.as_deref(), platform)?;
            StoredDocument::of_image(image, &file.display().to_string())?
        }
        Location::Engine(engine, name) => {
            let store = engines::store(engine, &name, network)?;
            let image = store.image(&name, platform, &engines::spool(cache)?)?;
            StoredDocument::of_image(image, text)?
        }
        Location::Registry(reference) => {
            if network.is_offline()? {
                let store = base::open_store(cache, Freshness::Tag, watch)?;
                if let Some(stored) = store.find(&reference, platform, Meanings::Any)? {
                    cache.note_use(&stored.image.descriptor.digest);
                    return StoredDocument::of_image(stored.image, &reference.to_string());
                }
            }
            let opened = network.first_that_answers(&reference, watch, |repository| repository.open_document());
            opened.map_err(|error| match error.advice() {
                // A bare word is a path first, so a path with a typing error ends here.
                None if !text.starts_with("docker://") => {
                    error.hint(format!("`{text}` does not exist, so it was used as a reference"))
                }
                _ => error,
            })?
        }
    };
    match platform {
        Some(_) => document.for_platform(platform),
        None => Ok(document),
    }
}
