//! What an image is built on.

use crate::error::{Error, Result};
use crate::spec::{Config, Descriptor, Platform};
use crate::store::archive::{DockerArchive, OciArchive};
use crate::store::{Layout, Location, StoredImage};
use std::sync::Arc;

/// The image below the new layers.
#[derive(Debug, Clone)]
pub enum Base {
    /// Nothing.
    Scratch(Platform),
    /// An image in some place, and the name under which it was asked for.
    Image {
        /// The image.
        image: Box<StoredImage>,
        /// Its full name, where it has one.
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
            Location::Registry(reference) => {
                return Err(Error::usage(reference.to_string(), "is in a registry, not in a file"));
            }
        };
        let name = image.descriptor.annotations.get(crate::spec::CONTAINERD_NAME).cloned();
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

    /// Whether programs made for glibc will most likely not start on it.
    ///
    /// Layers are not read for this, and left-out ones cannot be. Alpine, which is nearly every base with musl, shows in
    /// its name, or in the history of what was made from it: its root is unpacked from a tar of that name, and programs are
    /// installed with `apk add`. (On Wolfi they are, too, and that has glibc; few of its images have a history.)
    pub fn seems_to_have_musl(&self) -> bool {
        let Base::Image { image, name, .. } = self else { return false };
        let is_telling = |step: &str| step.contains("alpine-minirootfs") || step.contains("apk add");
        name.as_deref().is_some_and(|name| name.contains("alpine")) || image.config.created_by().any(is_telling)
    }

    /// The layers to start from, lowest first.
    pub fn layers(&self) -> &[Descriptor] {
        match self {
            Base::Scratch(_) => &[],
            Base::Image { image, .. } => &image.manifest.layers,
        }
    }
}
