//! Facts about an environment that make it unnecessary to read it again.

use crate::common::digest::Digest;
use crate::common::progress::{Event, Progress, warn};
use crate::rcc::Catalog;
use crate::secrets::FoundSecret;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Facts from a catalog, and the warnings about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvironmentFacts {
    /// The directory that must contain the environment's spaces.
    pub base: String,
    /// The version of RCC that recorded it, if it is known.
    pub recorder: Option<String>,
    /// The SHA-256 of its document, which determines every byte of the environment.
    pub document_digest: Digest,
    /// Whether the digests of its objects are checksums that anyone can forge.
    pub has_forgeable_digests: bool,
    /// The layers that it is split into, without the last one.
    pub(super) parts: Vec<PartFacts>,
    /// The variables of the environment, if the image sets them itself.
    pub(super) activation: Option<BTreeMap<String, String>>,
    warnings: Vec<(String, String)>,
    /// The secrets in it that were not overwritten.
    pub secrets: Vec<FoundSecret>,
}

/// One of several layers of an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PartFacts {
    /// The name of the layer.
    pub(super) name: String,
    /// A hash of everything that determines the layer's bytes.
    pub(super) digest: Digest,
}

impl EnvironmentFacts {
    pub(super) fn of(
        catalog: &Catalog,
        parts: Vec<PartFacts>,
        activation: Option<BTreeMap<String, String>>,
        (warnings, secrets): (Vec<(String, String)>, Vec<FoundSecret>),
    ) -> Self {
        EnvironmentFacts {
            base: catalog.base().to_owned(),
            recorder: catalog.recorder().map(str::to_owned),
            document_digest: catalog.document_digest(),
            has_forgeable_digests: catalog.objects().iter().any(|object| object.digest.is_forgeable()),
            parts,
            activation,
            warnings,
            secrets,
        }
    }

    /// Parses the output of [`EnvironmentFacts::to_json`].
    pub(super) fn read(notes: &Value) -> Option<Self> {
        let text = |key: &str| notes.get(key).and_then(Value::as_str);
        let mut parts = Vec::new();
        for part in notes.get("parts")?.as_array()? {
            let (name, digest) = (part.get(0)?.as_str()?.to_owned(), part.get(1)?.as_str()?.parse().ok()?);
            parts.push(PartFacts { name, digest });
        }
        let mut warnings = Vec::new();
        for warning in notes.get("warnings")?.as_array()? {
            warnings.push((warning.get(0)?.as_str()?.to_owned(), warning.get(1)?.as_str()?.to_owned()));
        }
        Some(EnvironmentFacts {
            base: text("base")?.to_owned(),
            recorder: text("recorder").map(str::to_owned),
            document_digest: text("documentDigest")?.parse().ok()?,
            has_forgeable_digests: notes.get("hasForgeableDigests")?.as_bool()?,
            parts,
            activation: serde_json::from_value(notes.get("activation")?.clone()).ok()?,
            warnings,
            secrets: FoundSecret::read_all(notes.get("secrets")?)?,
        })
    }

    /// Converts the facts to notes for the cache.
    pub fn to_json(&self) -> Value {
        let EnvironmentFacts {
            base,
            recorder,
            document_digest,
            has_forgeable_digests,
            parts,
            activation,
            warnings,
            secrets,
        } = self;
        let parts: Vec<Value> = parts.iter().map(|part| json!([part.name, part.digest.to_string()])).collect();
        json!({
            "base": base,
            "recorder": recorder,
            "documentDigest": document_digest.to_string(),
            "hasForgeableDigests": has_forgeable_digests,
            "parts": parts,
            "activation": activation,
            "warnings": warnings,
            "secrets": FoundSecret::all_to_json(secrets),
        })
    }

    /// Repeats the warnings that were given when the environment was read.
    pub(super) fn warn_again(&self, watcher: &dyn Progress) {
        for (object, reason) in &self.warnings {
            warn(watcher, object, reason);
        }
    }
}

/// Forwards every event, and records the warnings among them.
pub(super) struct WarningRecorder<'a> {
    watcher: &'a dyn Progress,
    warnings: Mutex<Vec<(String, String)>>,
}

impl<'a> WarningRecorder<'a> {
    pub(super) fn new(watcher: &'a dyn Progress) -> Self {
        WarningRecorder { watcher, warnings: Mutex::default() }
    }

    pub(super) fn warnings(&self) -> Vec<(String, String)> {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Progress for WarningRecorder<'_> {
    fn event(&self, event: Event<'_>) {
        if let Event::Warning { object, reason } = event {
            let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
            warnings.push((object.to_owned(), reason.to_owned()));
        }
        self.watcher.event(event);
    }
}
