//! Opening the image that a command reads.

use super::admission::Admission;
use super::base::{self, Freshness};
use super::blob_locations;
use super::cache_directory::CacheDirectory;
use super::engines;
use super::network::NetworkArguments;
use super::open_document::open_document;
use super::progress_display::Watch;
use clap::Args;
use ocibuild::common::root::Root;
use ocibuild::layers::rootfs::{self, LayerListing, Listings};
use ocibuild::registry::{LayerSources, Meanings};
use ocibuild::store::archive::{DockerArchive, OciArchive};
use ocibuild::store::{DirectoryImage, ImageName, Layout, StoredImage, StoredIndex, VerifiedFiles};
use ocibuild::{Error, Location, Platform, Reference, Result};
use std::path::PathBuf;
use std::sync::Arc;

/// The image that a command reads.
#[derive(Debug, Args)]
pub(super) struct SourceArguments {
    /// Image to read: PATH[:NAME][@DIGEST], a registry reference, or TRANSPORT:ADDRESS (see docs/images.md)
    #[arg(value_name = "IMAGE")]
    source: String,
    /// Select a platform of a multi-platform image [default: linux/amd64]
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
    #[command(flatten)]
    cache: CacheDirectory,
}

/// An image with its names at its location.
pub(super) struct OpenedImage {
    pub(super) image: StoredImage,
    pub(super) names: Vec<ImageName>,
}

impl SourceArguments {
    /// Reads the image `source` as if the command line named it alone.
    pub(super) fn of(source: &str, platform: Option<Platform>, cache: CacheDirectory) -> Self {
        SourceArguments { source: source.to_owned(), platform, cache }
    }

    /// Asks the policy about the image.
    ///
    /// # Errors
    /// Fails as [`Admission::ask`], and when it is not known what names the image.
    pub(super) fn admission(&self, network: &NetworkArguments) -> Result<Admission> {
        network.admission(&Location::of_image(&self.source)?)
    }

    /// Returns the cache directory.
    pub(super) fn cache_directory(&self) -> &CacheDirectory {
        &self.cache
    }

    /// Returns the platform that is asked for.
    pub(super) fn platform(&self) -> Option<&Platform> {
        self.platform.as_ref()
    }

    /// Returns a directory for unnamed files: the cache.
    ///
    /// # Errors
    /// Fails if the cache cannot be written.
    pub(super) fn spool(&self) -> Result<Root> {
        engines::spool(&self.cache)
    }

    /// Returns the directory, if what is named is an image layout and not one image of it.
    ///
    /// # Errors
    /// When it is not known what names the image.
    pub(super) fn layout(&self) -> Result<Option<PathBuf>> {
        Ok(match Location::of_image(&self.source)? {
            Location::Layout { directory, tag: None } => Some(directory),
            _ => None,
        })
    }

    /// Whether the image is in the store of an engine, which its program has to be asked for.
    pub(super) fn is_in_an_engine(&self) -> bool {
        matches!(Location::of_image(&self.source), Ok(Location::Engine(..)))
    }

    /// Opens the image, with the repositories that have the layers that a sparse layout does not have.
    ///
    /// # Errors
    /// Fails if it is missing, damaged, malformed, or not for the platform.
    pub(super) fn open_with_layers(&self, network: &NetworkArguments, watch: &Arc<Watch>) -> Result<OpenedImage> {
        let opened = self.open(network, watch)?;
        let locations = blob_locations::open(&self.cache, watch);
        let left_out =
            locations.map(|locations| locations.remote_layers(&opened.image.descriptor.digest)).unwrap_or_default();
        let places = LayerSources { recorded: &left_out, named: &[], registries: &[] };
        Ok(OpenedImage { image: network.with_layer_sources(opened.image, places, watch)?, names: opened.names })
    }

    /// Opens the index of a multi-platform image, and returns it with its names.
    ///
    /// # Errors
    /// Fails if it is missing, damaged, malformed, or an image for one platform.
    pub(super) fn open_index(
        &self,
        network: &NetworkArguments,
        watch: &Arc<Watch>,
    ) -> Result<(StoredIndex, Vec<ImageName>)> {
        let document = open_document(&self.source, None, &self.cache, network, watch)?;
        let location = Location::of_image(&self.source)?;
        let Some(mut index) = StoredIndex::of(&document)? else {
            let flag = "--all-platforms";
            return Err(match location {
                Location::Registry(_) if network.is_offline()? => {
                    Error::usage(flag, format!("the cache holds {} for one platform", self.source))
                        .hint("without --offline, all platforms are fetched")
                }
                _ => Error::usage(flag, format!("{} is for one platform", self.source))
                    .hint("export copies it without this flag"),
            });
        };
        let names = match location {
            Location::Layout { directory, tag } => Layout::open(&directory)?.names(tag.as_deref())?,
            Location::OciArchive { file, tag } => Arc::new(OciArchive::open(&file)?).names(tag.as_deref())?,
            Location::Registry(reference) => {
                index.origin = Some(base::full_name(&reference));
                if reference.digest().is_some() { Vec::new() } else { vec![ImageName::of_reference(&reference)] }
            }
            Location::DockerArchive { .. } | Location::Directory(_) | Location::Engine(..) => Vec::new(),
        };
        Ok((index, names))
    }

    /// Opens the image.
    ///
    /// # Errors
    /// Fails if it is missing, damaged, malformed, or not for the platform.
    pub(super) fn open(&self, network: &NetworkArguments, watch: &Arc<Watch>) -> Result<OpenedImage> {
        let platform = self.platform.as_ref();
        match Location::of_image(&self.source)? {
            Location::Layout { directory, tag } => {
                let layout = Layout::open(&directory)?;
                let known = self.cache.open().and_then(|directory| VerifiedFiles::in_cache_directory(&directory));
                let layout = Arc::new(match known {
                    Ok(known) => layout.with_verification_cache(known),
                    // Then every blob is hashed that has to be known whole.
                    Err(_) => layout,
                });
                let image = layout.image(tag.as_deref(), platform)?;
                Ok(OpenedImage { image, names: layout.names(tag.as_deref())? })
            }
            Location::OciArchive { file, tag } => {
                let archive = Arc::new(OciArchive::open(&file)?);
                let image = archive.image(tag.as_deref(), platform)?;
                Ok(OpenedImage { image, names: archive.names(tag.as_deref())? })
            }
            Location::DockerArchive { file, reference } => {
                let archive = DockerArchive::open(&file)?;
                let names = archive.names_of(reference.as_deref());
                Ok(OpenedImage { image: archive.image(reference.as_deref(), platform)?, names })
            }
            Location::Directory(directory) => {
                let image = Arc::new(DirectoryImage::open(&directory)?).image(platform)?;
                Ok(OpenedImage { image, names: Vec::new() })
            }
            Location::Engine(engine, name) => {
                let store = engines::store(engine, &name, network)?;
                let image = store.image(&name, platform, &engines::spool(&self.cache)?)?;
                Ok(OpenedImage { image, names: vec![ImageName::of_reference(&name)] })
            }
            Location::Registry(reference) => self.open_reference(&reference, network, watch),
        }
    }

    /// Opens an image of a registry. What `pull` has brought into the cache is taken from there where it cannot have
    /// changed, or where nothing else can be reached.
    fn open_reference(
        &self,
        reference: &Reference,
        network: &NetworkArguments,
        watch: &Arc<Watch>,
    ) -> Result<OpenedImage> {
        let platform = self.platform.as_ref();
        let names = match reference.digest() {
            Some(_) => Vec::new(),
            None => vec![ImageName::of_reference(reference)],
        };
        if reference.digest().is_some() || network.is_offline()? {
            let store = base::open_store(&self.cache, Freshness::Tag, watch)?;
            if let Some(stored) = store.find(reference, platform, Meanings::Any)? {
                self.cache.note_use(&stored.image.descriptor.digest);
                let origin = Some(base::full_name(reference));
                return Ok(OpenedImage { image: StoredImage { origin, ..stored.image }, names });
            }
        }
        let image = network.first_that_answers(reference, watch, |repository| repository.image(platform));
        match image {
            Ok(image) => {
                Ok(OpenedImage { image: StoredImage { origin: Some(base::full_name(reference)), ..image }, names })
            }
            // A bare word is a path first, so a path with a typing error ends here.
            Err(error) if error.advice().is_none() && !self.source.starts_with("docker://") => {
                Err(error.hint(format!("`{}` does not exist, so it was used as a reference", self.source)))
            }
            Err(error) => Err(error),
        }
    }
}

/// Lists the layers of `image`, lowest first, with the listings in the cache if it can be used.
///
/// # Errors
/// Fails if a layer cannot be read or listed.
pub(super) fn list_layers(
    image: &StoredImage,
    cache: &CacheDirectory,
    watch: &Watch,
) -> Result<Vec<Arc<LayerListing>>> {
    // Without a cache directory, the layers are read.
    let listings = cache.open().and_then(|cache| Listings::in_cache_directory(&cache)).ok();
    rootfs::list_layers(image, listings.as_ref(), watch)
}
