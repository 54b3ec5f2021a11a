//! `--namespace`: which images of containerd are meant.

use super::destination::ExportDestination;
use clap::Args;
use ocibuild::store::ContainerEngine;
use ocibuild::{Error, Result};

/// The flag for the store of containerd.
#[derive(Debug, Args)]
pub(super) struct NamespaceArguments {
    /// Set the namespace of containerd, such as k8s.io [default: $CONTAINERD_NAMESPACE, else default]
    #[arg(long, value_name = "NAME", value_parser = namespace, help_heading = "Output")]
    namespace: Option<String>,
}

impl NamespaceArguments {
    /// Returns the namespace, if one is given.
    pub(super) fn name(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// Checks that one of `destinations` is a store of containerd if a namespace is given.
    ///
    /// # Errors
    /// Fails if none is.
    pub(super) fn check(&self, destinations: &[ExportDestination]) -> Result<()> {
        let is_used =
            |place: &ExportDestination| matches!(place, ExportDestination::Engine(ContainerEngine::Containerd, _));
        match self.namespace {
            Some(_) if !destinations.iter().any(is_used) => {
                let reason = "is that of containerd, and the image does not go there";
                Err(Error::usage("--namespace", reason).hint("containerd:NAME, or `build --load containerd`"))
            }
            _ => Ok(()),
        }
    }
}

/// Reads the name of a namespace (containerd, `pkg/identifiers`).
fn namespace(text: &str) -> Result<String> {
    let is_part = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
    match text.len() <= 76 && text.split(['.', '_', '-']).all(is_part) {
        true => Ok(text.to_owned()),
        false => {
            let reason = "not a namespace: letters and digits, with single `.`, `_` and `-` between them, at most 76";
            Err(Error::usage(format!("`{text}`"), reason))
        }
    }
}
