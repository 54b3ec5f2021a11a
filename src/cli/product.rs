//! The products of rcc, and their homes as the environment names them.

use clap::ValueEnum;
use ocibuild::Result;
use ocibuild::rcc::{Product, RccHome, SpaceOwner};
use std::path::PathBuf;

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

/// Finds the home of `named`, else those of all products that have a hololib, else the default product's.
///
/// # Errors
/// Fails if the system does not say whether there is a hololib, or a shared one.
pub(super) fn rcc_homes(named: Option<ProductName>) -> Result<Vec<RccHome>> {
    match named {
        Some(product) => Ok(vec![rcc_home(product.into())?]),
        None => RccHome::with_hololib(vec![rcc_home(Product::Robocorp)?, rcc_home(Product::Sema4ai)?]),
    }
}

fn rcc_home(product: Product) -> Result<RccHome> {
    let owner = match std::env::var("HOME") {
        Ok(home) => SpaceOwner::Home(home),
        Err(_) => SpaceOwner::Homeless,
    };
    let named = std::env::var_os(product.home_variable()).filter(|home| !home.is_empty()).map(PathBuf::from);
    let user_home = || std::env::home_dir().unwrap_or_else(|| PathBuf::from("/"));
    RccHome::new(product, named.unwrap_or_else(|| product.default_home(&user_home())), &owner)
}
