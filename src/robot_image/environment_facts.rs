//! Facts about an environment that make it unnecessary to read it again.

use crate::cache::EnvironmentFacts;
use crate::common::digest::Digest;
use crate::common::progress::{Event, Progress, warn};
use crate::rcc::Catalog;
use crate::secrets::FoundSecret;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

impl EnvironmentFacts {
    pub(super) fn of(
        catalog: &Catalog,
        parts: Vec<(String, Digest)>,
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
