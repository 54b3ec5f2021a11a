//! What a robot and an image require of an environment.

use super::EnvironmentMode;
use crate::error::{Error, Result};
use crate::rcc::{Blueprint, CatalogLimits, CatalogName, Hololib};
use crate::spec::Platform;

/// What an environment must fit.
#[derive(Debug, Clone, Copy)]
pub struct Requirement<'a> {
    /// The platform of the image.
    pub platform: &'a Platform,
    /// The blueprint that rcc computes of the robot at run time; nothing for a robot that names no environment.
    pub blueprint: Option<&'a Blueprint>,
}

impl Requirement<'_> {
    /// Requires that the catalog called `name` is for the platform and, unless `mode` is direct, for the blueprint.
    ///
    /// Without rcc in the image nothing computes a blueprint, so then any environment will do.
    ///
    /// # Errors
    /// When it is not.
    pub(super) fn check(&self, hololib: &Hololib, name: &CatalogName, mode: EnvironmentMode) -> Result<()> {
        name.check_platform(self.platform)?;
        let required = self.blueprint.map(Blueprint::hash);
        if mode == EnvironmentMode::Direct || required == Some(&name.blueprint) {
            return Ok(());
        }
        let reason = match self.blueprint {
            None => format!("is for blueprint {}, and the robot names no environment", name.blueprint),
            Some(required) => {
                let differences = hololib.differences(required, name, &CatalogLimits::default());
                let reason = format!("is for blueprint {}, and the robot needs {}", name.blueprint, required.hash());
                differences.map_or(reason.clone(), |near| format!("{reason}: {near}"))
            }
        };
        let hint = "rcc would not run it; --environment direct takes any catalog";
        Err(Error::invalid(format!("catalog {name}"), reason).hint(hint))
    }
}
