//! Finds secrets in an environment, and overwrites them on request.
//!
//! An overwritten file has another digest, so the catalog is changed with it; everything else stays the same.

use super::{EnvironmentMode, RobotImage, Shipping, meta};
use crate::common::bounded_read;
use crate::common::error::{Error, ErrorKind, Result};
use crate::common::human_numbers::counted;
use crate::common::json;
use crate::common::progress::{Progress, warn};
use crate::rcc::{BLUEPRINT_FILE, Catalog, CatalogEntryKind, Hololib, ObjectDigest, may_leak, names_a_home};
use crate::secrets::{self, Finding, FoundSecret, overwrite};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

/// The handling of secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scrubbing {
    /// Secrets are reported.
    Warn,
    /// Secrets are overwritten.
    Overwrite,
}

/// The size limit of a file that is searched, in bytes.
const LARGEST: u64 = 64 << 20;

/// The maximum number of secrets listed for one file.
const MOST_OF_A_FILE: usize = 100;

/// The hint if a secret cannot be overwritten.
const KEEP_OUT: &str = "keep it out of the environment: pass credentials to rcc in PIP_INDEX_URL or .netrc";

/// Creates the error for a secret in a blueprint.
///
/// RCC finds an environment by the hash of its blueprint, so no byte of it may change if RCC runs.
pub(super) fn blueprint_is_compared(object: &str, finding: &Finding, mode: EnvironmentMode) -> Error {
    let Finding { line, what, .. } = finding;
    let reason = format!(
        "line {line}: {what} cannot be overwritten: rcc compares the blueprint, and a {} image would not start",
        mode.name()
    );
    Error::invalid(object, reason).hint(format!("--environment direct; or {KEEP_OUT}"))
}

/// The secrets in an environment, and the files that were overwritten.
#[derive(Debug, Default)]
pub(super) struct Scrubbed {
    /// Overwritten contents, by their digest.
    contents: BTreeMap<ObjectDigest, Arc<[u8]>>,
    /// The new digest of the file at each path.
    digests: BTreeMap<String, ObjectDigest>,
    /// The secrets that were not overwritten.
    pub(super) secrets: Vec<FoundSecret>,
}

impl Scrubbed {
    /// Searches the files that are known to record details of the machine.
    ///
    /// # Errors
    /// Returns an error if an object cannot be read, or if a secret is to be overwritten and cannot be.
    pub(super) fn find(
        hololib: &Hololib,
        catalog: &Catalog,
        Shipping { mode, scrubbing, .. }: &Shipping,
        watcher: &dyn Progress,
    ) -> Result<Scrubbed> {
        let mut scrubbed = Scrubbed::default();
        let mut paths_of_homes = Vec::new();
        let source = format!("catalog {}", catalog.name());
        for entry in catalog.entries().filter(|entry| may_leak(entry.path)) {
            let CatalogEntryKind::File(file) = entry.kind else { continue };
            let object = format!("{source}: `{}`", entry.path);
            if file.size > LARGEST {
                warn(watcher, &object, "too large to search for secrets");
                continue;
            }
            let stored = hololib.object(&file.named_object())?;
            let mut content = bounded_read::read(stored.content()?, LARGEST, &object)?;
            if names_a_home(&content, catalog.base()) {
                paths_of_homes.push(entry.path);
            }
            let findings = secrets::find(entry.path.as_bytes(), &content);
            let Some(first) = findings.first() else { continue };
            if *scrubbing == Scrubbing::Warn {
                let found = findings.iter().take(MOST_OF_A_FILE);
                scrubbed.secrets.extend(found.map(|finding| FoundSecret::new(&source, entry.path, finding.into())));
                continue;
            }
            if entry.path == BLUEPRINT_FILE && *mode != EnvironmentMode::Direct {
                return Err(blueprint_is_compared(&object, first, *mode));
            }
            let overwritten = overwrite(entry.path.as_bytes(), &mut content)
                .map_err(|error| Error::invalid(&object, error.to_string()).hint(KEEP_OUT))?;
            let what = counted(overwritten, "secret");
            warn(watcher, &object, &format!("{what} overwritten, the first in line {}", first.line));
            scrubbed.insert(entry.path, &file.digest, content);
        }
        if let Some(first) = paths_of_homes.first() {
            let reason = format!(
                "a home directory of this machine appears in {}, the first is `{first}`",
                counted(paths_of_homes.len(), "file")
            );
            warn(watcher, &source, &reason);
        }
        Ok(scrubbed)
    }

    fn insert(&mut self, path: &str, before: &ObjectDigest, content: Vec<u8>) {
        let digest = before.like(&content);
        self.contents.insert(digest, content.into());
        self.digests.insert(path.to_owned(), digest);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.contents.is_empty()
    }

    /// Returns the overwritten content with this digest.
    pub(super) fn content(&self, digest: &ObjectDigest) -> Option<&Arc<[u8]>> {
        self.contents.get(digest)
    }

    /// Returns the catalog with the new digests, as gzip like RCC stores it.
    pub(super) fn rewrite_catalog(&self, stored: impl Read + Send, catalog: &Catalog) -> Result<Vec<u8>> {
        const DEPTH: usize = 2000;
        let object = format!("catalog {}", catalog.name());
        let mut document = json::parse(&meta::document(stored, &object)?, DEPTH, &object)?;
        for (path, digest) in &self.digests {
            let missing = || Error::invalid(&object, format!("`{path}` is not at the offset that the catalog has"));
            let mut place = &mut document["tree"];
            let mut parts = path.split('/').peekable();
            while let Some(part) = parts.next() {
                let kind = if parts.peek().is_some() { "subdirs" } else { "files" };
                place = place.get_mut(kind).and_then(|members| members.get_mut(part)).ok_or_else(missing)?;
            }
            place["digest"] = Value::String(digest.to_string());
        }
        Ok(meta::gzip(&json::canonical(&document))?.to_vec())
    }
}

impl RobotImage {
    /// Returns the robot's environment files without their secrets, if secrets are overwritten.
    ///
    /// # Errors
    /// Returns an error if a file cannot be read, a secret cannot be overwritten, or rcc compares the file's bytes.
    pub(super) fn overwritten_blueprints(&self, watcher: &dyn Progress) -> Result<Vec<(PathBuf, Arc<[u8]>)>> {
        let scrubbing = self.environment.as_ref().map(|environment| environment.scrubbing());
        if scrubbing != Some(Scrubbing::Overwrite) {
            return Ok(Vec::new());
        }
        let mut overwritten = Vec::new();
        let names = self.robot.environment_configs.iter().chain([&self.robot.conda_config_file]);
        for name in names.filter(|name| !name.is_empty()) {
            let shown = self.directory.display(name);
            let file = match self.directory.open_linked_file(name) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                file => file?,
            };
            let mut content = bounded_read::read(file, LARGEST, &shown)?;
            let Some(first) = secrets::find(name.as_bytes(), &content).into_iter().next() else { continue };
            if self.mode != EnvironmentMode::Direct {
                return Err(blueprint_is_compared(&shown, &first, self.mode));
            }
            let count =
                overwrite(name.as_bytes(), &mut content).map_err(|error| Error::invalid(&shown, error.to_string()))?;
            let reason =
                format!("{} overwritten in the image, the first in line {}", counted(count, "secret"), first.line);
            warn(watcher, &shown, &reason);
            overwritten.push((PathBuf::from(name), content.into()));
        }
        Ok(overwritten)
    }
}
