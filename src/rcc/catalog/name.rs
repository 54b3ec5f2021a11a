//! The file names of catalogs: `<blueprint>v12.<os>_<architecture>`.

use crate::common::error::{Error, Result};
use crate::rcc::BlueprintHash;
use crate::spec::Platform;
use std::fmt;

/// The version of the format that RCC has written since 11.11.1.
const VERSION: &str = "12";

/// The parsed name of a catalog.
///
/// ```
/// use ocibuild::rcc::CatalogName;
///
/// let name = CatalogName::parse("5f74d1b6dace1dfcv12.linux_amd64")?;
/// assert_eq!(name.platform, "linux_amd64");
/// # Ok::<(), ocibuild::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CatalogName {
    /// The blueprint of the recorded environment.
    pub blueprint: BlueprintHash,
    /// The platform of the recording, in Go's names and RCC's spelling: `linux_amd64`.
    pub platform: String,
}

impl CatalogName {
    /// Parses a file name.
    ///
    /// # Errors
    /// Returns an error if it is that of an `.info` file, of a catalog of another version, or not of a catalog.
    pub fn parse(name: &str) -> Result<CatalogName> {
        let wrong = |reason: &str| Error::invalid(name, reason);
        if let Some(catalog) = name.strip_suffix(".info") {
            return Err(wrong("this is the .info file").hint(format!("the catalog is {catalog}")));
        }
        let no_catalog = || wrong("not the name of a catalog").hint("for example 5f74d1b6dace1dfcv12.linux_amd64");
        let (hash, rest) = name.split_at_checked(16).ok_or_else(no_catalog)?;
        let blueprint = BlueprintHash::parse(hash).ok_or_else(no_catalog)?;
        let (version, platform) =
            rest.strip_prefix('v').and_then(|rest| rest.split_once('.')).ok_or_else(no_catalog)?;
        if version != VERSION {
            return Err(wrong("unsupported catalog version").hint("this program reads version 12"));
        }
        if !is_platform(platform) {
            return Err(wrong("unknown platform"));
        }
        Ok(CatalogName { blueprint, platform: platform.to_owned() })
    }

    /// Checks that the environment was recorded on the platform `wanted`.
    ///
    /// # Errors
    /// Returns an error if it was recorded on another platform.
    pub fn check_platform(&self, wanted: &Platform) -> Result<()> {
        let (os, architecture) = self.platform.split_once('_').unwrap_or_default();
        if os == wanted.os() && architecture == wanted.architecture() {
            return Ok(());
        }
        let reason = format!("is for {os}/{architecture}, and the image for {wanted}");
        Err(Error::invalid(format!("catalog {self}"), reason))
    }
}

impl fmt::Display for CatalogName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}v{VERSION}.{}", self.blueprint, self.platform)
    }
}

/// Returns whether RCC was ever released for this platform.
pub(super) fn is_platform(text: &str) -> bool {
    text.split_once('_').is_some_and(|(os, architecture)| {
        matches!(os, "linux" | "darwin" | "windows") && matches!(architecture, "amd64" | "arm64")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_version_12_are_catalogs() {
        let name = "5f74d1b6dace1dfcv12.linux_amd64";
        assert_eq!(CatalogName::parse(name).unwrap().to_string(), name);
        for (bad, expected) in [
            ("5f74d1b6dace1dfcv12.linux_amd64.info", "this is the .info file"),
            ("5f74d1b6dace1dfcv13.linux_amd64", "unsupported catalog version"),
            ("5f74d1b6dace1dfcv11.linux64", "unsupported catalog version"),
            ("5f74d1b6dace1dfcv12.plan9_mips", "unknown platform"),
            ("5F74D1B6DACE1DFCv12.linux_amd64", "not the name of a catalog"),
            ("5f74d1b6dace1dfc", "not the name of a catalog"),
            ("compress.no", "not the name of a catalog"),
            ("ééééééééé", "not the name of a catalog"),
            ("", "not the name of a catalog"),
        ] {
            assert!(CatalogName::parse(bad).unwrap_err().to_string().contains(expected), "{bad}");
        }
    }
}
