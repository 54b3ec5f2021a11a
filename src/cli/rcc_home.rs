//! The home directories of rcc on this machine.

use super::progress_display::Watch;
use clap::ValueEnum;
use ocibuild::common::root::Root;
use ocibuild::rcc::{BlueprintOptions, Hololib, Holotree, Product, SpaceOwner, local_channel};
use ocibuild::{ErrorKind, Result};
use std::path::{Path, PathBuf};

/// The two brands of rcc, each with a home of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ProductName {
    /// Robocorp: $ROBOCORP_HOME or ~/.robocorp
    Robocorp,
    /// Sema4.ai: $SEMA4AI_HOME or ~/.sema4ai, as `rcc --sema4ai`
    Sema4ai,
}

impl From<ProductName> for Product {
    fn from(name: ProductName) -> Self {
        match name {
            ProductName::Robocorp => Product::Robocorp,
            ProductName::Sema4ai => Product::Sema4ai,
        }
    }
}

/// The home of one product.
pub(super) struct RccHome {
    pub(super) product: Product,
    product_home: PathBuf,
    holotree: Holotree,
}

impl RccHome {
    /// Finds the home of `named`, else those of all products that have a hololib, else the default product's.
    pub(super) fn find(named: Option<ProductName>) -> Vec<RccHome> {
        if let Some(product) = named {
            return vec![Self::of(product.into())];
        }
        let mut homes: Vec<RccHome> = [Product::Robocorp, Product::Sema4ai].map(Self::of).into();
        if homes.iter().any(RccHome::has_hololib) {
            homes.retain(RccHome::has_hololib);
        } else {
            homes.truncate(1);
        }
        homes
    }

    fn of(product: Product) -> RccHome {
        let user_home = std::env::home_dir().unwrap_or_else(|| PathBuf::from("/"));
        let owner = match std::env::var("HOME") {
            Ok(home) => SpaceOwner::Home(home),
            Err(_) => SpaceOwner::Homeless,
        };
        let named = std::env::var_os(product.home_variable()).filter(|home| !home.is_empty()).map(PathBuf::from);
        let product_home = named.unwrap_or_else(|| product.default_home(&user_home));
        let holotree = Holotree::of(&product_home, product.shared_directory(), &owner);
        RccHome { product, product_home, holotree }
    }

    fn has_hololib(&self) -> bool {
        self.holotree.library.join("catalog").is_dir()
    }

    /// Opens its hololib.
    pub(super) fn hololib(&self, watch: &Watch) -> Result<Hololib> {
        let root = Root::open(&self.holotree.library).map_err(|error| match error.kind() {
            ErrorKind::NotFound => {
                error.hint("no environment recorded by rcc; create it with --resolve, or set --hololib")
            }
            _ => error,
        })?;
        Hololib::in_directory(root, watch)
    }

    /// Returns the options that this home adds to every blueprint.
    pub(super) fn blueprint_options(&self) -> Result<BlueprintOptions> {
        Ok(BlueprintOptions { local_channel: local_channel(&self.product_home)? })
    }

    /// Returns the command that lets rcc record the environment of the robot `file` in this home.
    pub(super) fn recording(&self, file: &Path) -> Vec<String> {
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

/// Opens what `--hololib` names.
pub(super) fn open_hololib(path: &Path, watch: &Watch) -> Result<Hololib> {
    if path.is_dir() {
        return Hololib::in_directory(Root::open(path)?, watch);
    }
    Hololib::in_archive(Root::open_named_file(path)?, &path.display().to_string())
}
