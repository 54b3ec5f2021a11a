//! The platforms of images.

use crate::common::error::{Error, Result};
use crate::common::json;
use serde_json::{Map, Value};
use std::fmt;
use std::str::FromStr;

/// An operating system, architecture and variant, with Go's names (image-index.md, `platform`).
///
/// ```
/// use ocibuild::Platform;
///
/// let platform: Platform = "Linux/x86_64".parse()?;
/// assert_eq!(platform.to_string(), "linux/amd64");
/// # Ok::<(), ocibuild::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

impl Platform {
    /// Returns the platform linux/amd64.
    pub fn linux_amd64() -> Self {
        Platform { os: "linux".to_owned(), architecture: "amd64".to_owned(), variant: None }
    }

    /// Returns the operating system.
    pub fn os(&self) -> &str {
        &self.os
    }

    /// Returns the architecture.
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// Returns the variant of the architecture, such as `v7`.
    pub fn variant(&self) -> Option<&str> {
        self.variant.as_deref()
    }

    /// Reads the three members, which a platform object and an image config have in common.
    ///
    /// # Errors
    /// Returns an error if `os` or `architecture` is missing, or if one of the three is not a string.
    pub(crate) fn read(value: &Value, object: &str) -> Result<Self> {
        let required = |key| match json::string_at(value, key, object)? {
            Some(text) if !text.is_empty() => Ok(text.to_owned()),
            _ => Err(Error::invalid(object, format!("has no `{key}`"))),
        };
        let variant = json::string_at(value, "variant", object)?.filter(|variant| !variant.is_empty());
        Ok(Platform {
            os: required("os")?,
            architecture: required("architecture")?,
            variant: variant.map(str::to_owned),
        })
    }

    /// Writes the members into the object of an index or a config.
    pub(crate) fn write(&self, object: &mut Map<String, Value>) {
        object.insert("os".to_owned(), self.os.as_str().into());
        object.insert("architecture".to_owned(), self.architecture.as_str().into());
        match &self.variant {
            Some(variant) => object.insert("variant".to_owned(), variant.as_str().into()),
            None => object.remove("variant"),
        };
    }

    /// Returns whether an image for `self` can be used if `wanted` is requested.
    ///
    /// A wanted variant must match, except that `arm64` is `arm64/v8`.
    pub fn satisfies(&self, wanted: &Platform) -> bool {
        let variant = |platform: &Platform| match (platform.architecture.as_str(), platform.variant.as_deref()) {
            ("arm64", Some("v8")) => None,
            (_, variant) => variant.map(str::to_owned),
        };
        self.os == wanted.os
            && self.architecture == wanted.architecture
            && (variant(wanted).is_none() || variant(self) == variant(wanted))
    }

    /// Returns how well this platform, which satisfies `wanted`, matches it. The lowest rank is the best.
    ///
    /// A requested variant is the best one. Without a requested variant, `arm` is `arm/v7`, as in containerd, then v6, v5
    /// and v8. For other architectures, the lowest variant runs on most machines.
    pub fn rank(&self, wanted: &Platform) -> usize {
        let order: &[&str] = if self.architecture == "arm" { &["", "v7", "v6", "v5", "v8"] } else { &[""] };
        let variant = self.variant.as_deref().unwrap_or_default();
        if wanted.variant.as_deref() == self.variant.as_deref() {
            return 0;
        }
        let version = variant.trim_start_matches('v').parse().unwrap_or(usize::MAX - order.len());
        order.iter().position(|known| *known == variant).unwrap_or(order.len().saturating_add(version))
    }

    /// Returns whether this marks an attestation, which BuildKit stores beside the images of an index.
    pub fn is_unknown(&self) -> bool {
        self.os == "unknown"
    }
}

impl FromStr for Platform {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |reason: &str| {
            Error::usage(format!("platform `{text}`"), reason).hint("for example linux/amd64 or linux/arm/v7")
        };
        let lower = text.to_ascii_lowercase();
        let mut parts = lower.split('/');
        let (Some(os), Some(architecture), variant, None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(wrong("not of the form OS/ARCHITECTURE[/VARIANT]"));
        };
        if !matches!(os, "linux" | "windows" | "darwin" | "freebsd") {
            return Err(wrong("unknown operating system"));
        }
        let architecture = match architecture {
            "x86_64" | "x86-64" => "amd64",
            "aarch64" => "arm64",
            "i386" | "i686" => "386",
            known @ ("amd64" | "arm64" | "arm" | "386" | "ppc64le" | "s390x" | "riscv64" | "loong64" | "mips64le") => {
                known
            }
            _ => return Err(wrong("unknown architecture")),
        };
        let variant_fits = matches!(
            (architecture, variant),
            (_, None)
                | ("arm", Some("v5" | "v6" | "v7" | "v8"))
                | ("arm64", Some("v8" | "v9"))
                | ("amd64", Some("v1" | "v2" | "v3" | "v4"))
        );
        if !variant_fits {
            return Err(wrong("unknown variant"));
        }
        Ok(Platform { os: os.to_owned(), architecture: architecture.to_owned(), variant: variant.map(str::to_owned) })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_normalised_or_refused() {
        let normal = |text: &str| text.parse::<Platform>().map(|platform| platform.to_string()).ok();
        assert_eq!(normal("Linux/AMD64").as_deref(), Some("linux/amd64"));
        assert_eq!(normal("linux/arm/v7").as_deref(), Some("linux/arm/v7"));
        for bad in ["linux", "linux/foo", "linux/arm/v9", "all", "", "linux/amd64/v1/x", "beos/amd64"] {
            assert_eq!(normal(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_wanted_variant_must_be_there() {
        let satisfies = |have: &str, want: &str| have.parse::<Platform>().unwrap().satisfies(&want.parse().unwrap());
        assert!(satisfies("linux/arm/v7", "linux/arm"));
        assert!(!satisfies("linux/arm/v6", "linux/arm/v7"));
        assert!(satisfies("linux/arm64", "linux/arm64/v8"));
        assert!(satisfies("linux/arm64/v8", "linux/arm64"));
        assert!(!satisfies("linux/amd64", "linux/arm64"));
    }
}
