//! The homes of RCC's products on this machine.

use super::{BlueprintOptions, CatalogName, Hololib, Holotree, Product, SpaceOwner, local_channel};
use crate::common::error::{Error, ErrorKind, Result};
use crate::common::progress::Progress;
use crate::common::root::{PathStatus, Root};
use std::path::{Path, PathBuf};

/// The home of one product.
#[derive(Debug)]
pub struct RccHome {
    /// The product.
    pub product: Product,
    product_home: PathBuf,
    holotree: Holotree,
}

impl RccHome {
    /// Returns the home of `product` at `directory`, for `owner`.
    ///
    /// # Errors
    /// Fails as [`Holotree::of`] does.
    pub fn new(product: Product, directory: PathBuf, owner: &SpaceOwner) -> Result<RccHome> {
        let holotree = Holotree::of(&directory, product.shared_directory(), owner)?;
        Ok(RccHome { product, product_home: directory, holotree })
    }

    /// Returns the homes that have a hololib; if none has, the first one.
    ///
    /// # Errors
    /// Fails if the system does not say whether there is a hololib.
    pub fn with_hololib(homes: Vec<RccHome>) -> Result<Vec<RccHome>> {
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for home in homes {
            let catalogs = home.holotree.library.join("catalog");
            let group = if PathStatus::of(&catalogs)?.is_directory() { &mut with } else { &mut without };
            group.push(home);
        }
        without.truncate(1);
        Ok(if with.is_empty() { without } else { with })
    }

    /// Opens its hololib.
    ///
    /// # Errors
    /// Returns an error if it is missing or cannot be read.
    pub fn hololib(&self, progress: &dyn Progress) -> Result<Hololib> {
        let root = Root::open(&self.holotree.library).map_err(|error| match error.kind() {
            ErrorKind::NotFound => {
                error.hint("no environment recorded by rcc; create it with --resolve, or set --hololib")
            }
            _ => error,
        })?;
        Hololib::in_directory(root, progress)
    }

    /// Returns what this home adds to every blueprint.
    ///
    /// # Errors
    /// Fails as [`local_channel`] does.
    pub fn blueprint_options(&self) -> Result<BlueprintOptions> {
        Ok(BlueprintOptions { local_channel: local_channel(&self.product_home)? })
    }

    /// Returns the arguments with which rcc records the environment of the robot `file` in this home.
    pub fn recording(&self, file: &Path) -> Vec<String> {
        let mut words: Vec<String> = ["holotree", "variables"].map(str::to_owned).into();
        if self.product == Product::Sema4ai {
            words.push("--sema4ai".to_owned());
        }
        // rcc takes the file of an action package as it takes a conda.yaml.
        if !file.ends_with("package.yaml") {
            words.push("--robot".to_owned());
        }
        words.push(file.display().to_string());
        words
    }
}

impl Hololib {
    /// Opens the hololib at `path`: a directory, or a `hololib.zip`.
    ///
    /// # Errors
    /// Fails as [`Hololib::in_directory`] and [`Hololib::in_archive`] do.
    pub fn open(path: &Path, progress: &dyn Progress) -> Result<Hololib> {
        if PathStatus::of(path)?.is_directory() {
            return Hololib::in_directory(Root::open(path)?, progress);
        }
        Hololib::in_archive(Root::open_named_file(path)?, &path.display().to_string())
    }

    /// Opens the hololib of the catalog file at `path`, and returns it with the catalog's name.
    ///
    /// # Errors
    /// Returns an error if the file is missing or not in the `catalog` folder of a hololib.
    pub fn of_catalog_file(path: &Path, progress: &dyn Progress) -> Result<(Hololib, CatalogName)> {
        let object = path.display().to_string();
        let outside = || Error::invalid(&object, "not in the `catalog` folder of a hololib");
        let real = Root::resolve(path)?;
        let hololib =
            real.parent().filter(|parent| parent.ends_with("catalog")).and_then(Path::parent).ok_or_else(outside)?;
        let name = real.file_name().and_then(|name| name.to_str()).ok_or_else(outside)?;
        Ok((Hololib::in_directory(Root::open(hololib)?, progress)?, CatalogName::parse(name)?))
    }
}
