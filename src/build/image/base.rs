//! The base of an image.

use crate::common::error::{Error, Result};
use crate::registry::BASE_NAME;
use crate::spec::{Config, Descriptor, Platform};
use crate::store::archive::{DockerArchive, OciArchive};
use crate::store::{DirectoryImage, Layout, Location, StoredImage};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The annotation that holds the digest of a base.
pub const BASE_DIGEST: &str = "org.opencontainers.image.base.digest";

/// The image below the new layers.
#[derive(Debug, Clone)]
pub enum Base {
    /// An empty base.
    Scratch(Platform),
    /// An existing image.
    Image {
        /// The image.
        image: Box<StoredImage>,
        /// The name in the registry that it came from, even if it is read from elsewhere. `None` if it has a name only on
        /// this machine.
        name: Option<String>,
        /// The handling of its layers.
        layers: BaseLayers,
    },
}

/// The handling of the layers of a base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BaseLayers {
    /// The layers are copied to the place of the new image.
    Copied,
    /// The layers stay in the registry of the base. Readers that need the complete image fetch them from there.
    Remote,
}

impl Base {
    /// Returns the location of the base that `text` names; `None` for `scratch`.
    ///
    /// # Errors
    /// Fails as [`Location::of_base`], and for names of `scratch` that exist in no registry.
    pub fn location(text: &str) -> Result<Option<Location>> {
        match text {
            "scratch" => Ok(None),
            _ if text.starts_with("scratch:") || text.starts_with("scratch@") => {
                Err(Error::usage(format!("base `{text}`"), "scratch is the empty base, and has no tags"))
            }
            "docker.io/library/scratch" | "docker.io/scratch" | "library/scratch" => {
                Err(Error::invalid("base image", "scratch is not in a registry").hint("--base scratch"))
            }
            _ => Location::of_base(text).map(Some),
        }
    }

    /// Opens the image in the file or directory at `location`.
    ///
    /// # Errors
    /// Fails if there is not an image, it is damaged or malformed, it is not for `platform`, or it is in a
    /// registry or in the store of an engine. A [`BaseStore`](crate::registry::BaseStore) opens images from registries, and an
    /// [`EngineStore`](crate::store::EngineStore) those of engines.
    ///
    /// ```
    /// use ocibuild::{Base, ErrorKind};
    ///
    /// let error = Base::open(&"oci:no-such-layout".parse()?, None).unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::NotFound);
    /// # Ok::<(), ocibuild::Error>(())
    /// ```
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
            Location::Registry(_) | Location::Engine(..) => {
                return Err(Error::usage(location.to_string(), "is not in a file"));
            }
        };
        Ok(Base::of(image))
    }

    /// Makes a base of an image that is all on this machine.
    pub fn of(image: StoredImage) -> Base {
        let name = image.origin.as_ref().map(ToString::to_string);
        Base::Image { image: Box::new(image), name, layers: BaseLayers::Copied }
    }

    /// Returns the config to start from.
    pub fn config(&self) -> Config {
        match self {
            Base::Scratch(platform) => Config::scratch(platform),
            Base::Image { image, .. } => image.config.clone(),
        }
    }

    /// Returns warnings about the base, for people.
    pub fn warnings(&self) -> Vec<String> {
        match self {
            Base::Scratch(_) => Vec::new(),
            Base::Image { image, .. } => [image.warnings.clone(), image.config.warnings()].concat(),
        }
    }

    /// Checks that Linux layers can be added to the base.
    ///
    /// # Errors
    /// Fails if the base is for Windows, whose layers have another format.
    pub fn check(&self) -> Result<()> {
        match self.config().platform().os() {
            "windows" => Err(Error::invalid("base image", "is for Windows; only Linux is supported")),
            _ => Ok(()),
        }
    }

    /// Returns the annotations that identify this base in an image that adds layers to it (annotations.md).
    pub fn annotations(&self) -> BTreeMap<String, String> {
        let Base::Image { image, name, .. } = self else { return BTreeMap::new() };
        let digest = (BASE_DIGEST.to_owned(), image.descriptor.digest.to_string());
        let name = name.iter().map(|name| (BASE_NAME.to_owned(), name.clone()));
        name.chain([digest]).collect()
    }

    /// Returns the annotations of an image that is this one with another config.
    ///
    /// These are the annotations of this image, so its base stays its base, and the same edit gives the same image again.
    /// If an image from a registry names no base, it becomes the base itself.
    pub fn carried_annotations(&self) -> BTreeMap<String, String> {
        let Base::Image { image, name, .. } = self else { return BTreeMap::new() };
        let own = image.manifest.annotations.clone();
        let names_base = own.contains_key(BASE_DIGEST) || own.contains_key(BASE_NAME);
        if names_base || name.is_none() {
            return own;
        }
        own.into_iter().chain(self.annotations()).collect()
    }

    /// Returns whether programs linked with glibc will most likely fail to start on this base.
    ///
    /// This does not read layers, and remote layers cannot be read. Nearly every base with musl is Alpine, which shows in
    /// its name, or in the history of images based on it: the root is unpacked from a tar of that name, and programs are
    /// installed with `apk add`. (Wolfi uses `apk add` too and has glibc, but few of its images have a history.)
    pub fn seems_to_have_musl(&self) -> bool {
        let Base::Image { image, name, .. } = self else { return false };
        let names_alpine = |step: &str| step.contains("alpine-minirootfs") || step.contains("apk add");
        let named = image.descriptor.annotations.get(crate::spec::CONTAINERD_NAME).or(name.as_ref());
        named.is_some_and(|name| name.contains("alpine")) || image.config.created_by().any(names_alpine)
    }

    /// Returns the layers to start from, lowest first.
    pub fn layers(&self) -> &[Descriptor] {
        match self {
            Base::Scratch(_) => &[],
            Base::Image { image, .. } => &image.manifest.layers,
        }
    }
}
