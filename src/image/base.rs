//! What an image is built on.

use crate::error::{Error, Result};
use crate::spec::{Config, Descriptor, Platform};
use crate::store::archive::{DockerArchive, OciArchive};
use crate::store::{BASE_NAME, DirectoryImage, Layout, Location, StoredImage};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The annotation that holds the digest of a base.
const BASE_DIGEST: &str = "org.opencontainers.image.base.digest";

/// The image below the new layers.
#[derive(Debug, Clone)]
pub enum Base {
    /// Nothing.
    Scratch(Platform),
    /// An image in some place.
    Image {
        /// The image.
        image: Box<StoredImage>,
        /// Its name in the registry that it came from, wherever it is now. A name that it has on this machine alone is none.
        name: Option<String>,
        /// What becomes of its layers.
        layers: BaseLayers,
    },
}

/// What becomes of the layers of a base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BaseLayers {
    /// They are copied to where the new image is made.
    Copied,
    /// They stay in the registry that the base is from, and whoever wants the image whole takes them from there.
    LeftOut,
}

impl Base {
    /// Opens the image in the file or directory at `location`.
    ///
    /// # Errors
    /// When there is none, it is damaged or malformed, or it is not for `platform`; and when it is in a registry, from which
    /// a [`BaseStore`](crate::store::BaseStore) takes it.
    pub fn open(location: &Location, platform: Option<&Platform>) -> Result<Base> {
        let image = match location {
            Location::Layout { directory, tag } => {
                Arc::new(Layout::open(directory)?).image(tag.as_deref(), platform)?
            }
            Location::OciArchive { file, tag } => Arc::new(OciArchive::open(file)?).image(tag.as_deref(), platform)?,
            Location::DockerArchive { file, reference } => {
                DockerArchive::open(file)?.image(reference.as_deref(), platform)?
            }
            Location::Directory(directory) => Arc::new(DirectoryImage::open(directory)?).image(platform)?,
            Location::Registry(reference) => {
                return Err(Error::usage(reference.to_string(), "is in a registry, not in a file"));
            }
        };
        let name = image.origin.as_ref().map(ToString::to_string);
        Ok(Base::Image { image: Box::new(image), name, layers: BaseLayers::Copied })
    }

    /// The config to start from.
    pub fn config(&self) -> Config {
        match self {
            Base::Scratch(platform) => Config::scratch(platform),
            Base::Image { image, .. } => image.config.clone(),
        }
    }

    /// What is odd about it, for people.
    pub fn oddities(&self) -> Vec<String> {
        match self {
            Base::Scratch(_) => Vec::new(),
            Base::Image { image, .. } => [image.oddities.clone(), image.config.oddities()].concat(),
        }
    }

    /// Requires that Linux layers can be put on it.
    ///
    /// # Errors
    /// When it is for Windows, whose layers have another form.
    pub fn check(&self) -> Result<()> {
        match self.config().platform().os() {
            "windows" => Err(Error::invalid(
                "base image",
                "is for Windows, whose layers have another form; only Linux is supported",
            )),
            _ => Ok(()),
        }
    }

    /// The annotations of an image that adds layers to this base: which one it is (annotations.md).
    pub fn annotations(&self) -> BTreeMap<String, String> {
        let Base::Image { image, name, .. } = self else { return BTreeMap::new() };
        let digest = (BASE_DIGEST.to_owned(), image.descriptor.digest.to_string());
        let name = name.iter().map(|name| (BASE_NAME.to_owned(), name.clone()));
        name.chain([digest]).collect()
    }

    /// The annotations of an image that is this one with another config: those that it has. So its base stays its base, and
    /// the same edit gives the same image again. An image from a registry that names no base becomes the base.
    pub fn carried_annotations(&self) -> BTreeMap<String, String> {
        let Base::Image { image, name, .. } = self else { return BTreeMap::new() };
        let own = image.manifest.annotations.clone();
        let names_base = own.contains_key(BASE_DIGEST) || own.contains_key(BASE_NAME);
        if names_base || name.is_none() {
            return own;
        }
        own.into_iter().chain(self.annotations()).collect()
    }

    /// Whether programs made for glibc will most likely not start on it.
    ///
    /// Layers are not read for this, and left-out ones cannot be. Alpine, which is nearly every base with musl, shows in
    /// its name, or in the history of what was made from it: its root is unpacked from a tar of that name, and programs are
    /// installed with `apk add`. (On Wolfi they are, too, and that has glibc; few of its images have a history.)
    pub fn seems_to_have_musl(&self) -> bool {
        let Base::Image { image, name, .. } = self else { return false };
        let is_telling = |step: &str| step.contains("alpine-minirootfs") || step.contains("apk add");
        let named = image.descriptor.annotations.get(crate::spec::CONTAINERD_NAME).or(name.as_ref());
        named.is_some_and(|name| name.contains("alpine")) || image.config.created_by().any(is_telling)
    }

    /// The layers to start from, lowest first.
    pub fn layers(&self) -> &[Descriptor] {
        match self {
            Base::Scratch(_) => &[],
            Base::Image { image, .. } => &image.manifest.layers,
        }
    }
}
