//! Requirements of a robot and an image for an environment.

use super::EnvironmentMode;
use crate::common::error::{Error, Result};
use crate::rcc::{Blueprint, CatalogLimits, CatalogName, Hololib};
use crate::spec::Platform;

/// Requirements for an environment.
#[derive(Debug, Clone, Copy)]
pub struct EnvironmentRequirement<'a> {
    /// The platform of the image.
    pub platform: &'a Platform,
    /// The blueprint that rcc computes for the robot at run time; `None` for a robot that names no environment.
    pub blueprint: Option<&'a Blueprint>,
}

impl EnvironmentRequirement<'_> {
    /// Checks that the catalog called `name` is for the platform and the blueprint.
    ///
    /// If `mode` is direct, any blueprint is suitable, since an image without rcc computes none.
    ///
    /// # Errors
    /// Returns an error if the platform differs, or, unless `mode` is direct, if the blueprint differs or the robot
    /// names no environment.
    pub(super) fn check(&self, hololib: &Hololib, name: &CatalogName, mode: EnvironmentMode) -> Result<()> {
        name.check_platform(self.platform)?;
        let required = self.blueprint.map(Blueprint::hash);
        if mode == EnvironmentMode::Direct || required == Some(&name.blueprint) {
            return Ok(());
        }
        let reason = match self.blueprint {
            None => format!("is for blueprint {}, but the robot has no environment", name.blueprint),
            Some(required) => {
                let differences = hololib.differences(required, name, &CatalogLimits::default());
                let reason = format!("is for blueprint {}, but the robot needs {}", name.blueprint, required.hash());
                differences.map_or(reason.clone(), |near| format!("{reason}: {near}"))
            }
        };
        let hint = "rcc would not run it; --environment direct accepts any catalog";
        Err(Error::invalid(format!("catalog {name}"), reason).hint(hint))
    }
}
