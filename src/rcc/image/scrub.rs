//! Secrets that an environment remembers: found, told, and on request overwritten.
//!
//! An overwritten file has another digest, so the catalog is changed with it; everything else stays as it was.

use super::meta;
use crate::bounded;
use crate::error::{Error, Result};
use crate::json;
use crate::progress::{Progress, warn};
use crate::rcc::{Catalog, EntryKind, Hololib, ObjectDigest, find_leaks, may_leak, scrub};
use crate::wording::counted;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What happens to secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scrubbing {
    /// They are told.
    Warn,
    /// They are overwritten.
    Overwrite,
}

/// The largest file that is searched.
const LARGEST: u64 = 64 << 20;

/// Files whose secrets are overwritten.
#[derive(Debug, Default)]
pub(super) struct Scrubbed {
    /// By the digest of the overwritten content.
    contents: BTreeMap<ObjectDigest, Arc<[u8]>>,
    /// The new digest of the file at each path.
    digests: BTreeMap<String, ObjectDigest>,
}

impl Scrubbed {
    /// Searches the files that are known to remember things.
    pub(super) fn find(
        hololib: &Hololib,
        catalog: &Catalog,
        scrubbing: Scrubbing,
        watcher: &dyn Progress,
    ) -> Result<Scrubbed> {
        let mut scrubbed = Scrubbed::default();
        let mut paths_of_homes = Vec::new();
        for entry in catalog.entries().filter(|entry| may_leak(entry.path)) {
            let EntryKind::File(file) = entry.kind else { continue };
            let object = format!("catalog {}: `{}`", catalog.name(), entry.path);
            if file.size > LARGEST {
                warn(watcher, &object, "too large to be searched for secrets");
                continue;
            }
            let stored = hololib.object(&file.named_object())?;
            let mut content = bounded::read(stored.content()?, LARGEST, &object)?;
            let leaks = find_leaks(&content, catalog.base());
            if leaks.iter().any(|leak| !leak.kind.is_secret()) {
                paths_of_homes.push(entry.path);
            }
            let secrets: Vec<_> = leaks.iter().filter(|leak| leak.kind.is_secret()).collect();
            let Some(first) = secrets.first() else { continue };
            let found = format!("line {}: {}", first.line, first.kind.described());
            let more = if secrets.len() > 1 { format!(", and {} more", secrets.len() - 1) } else { String::new() };
            match scrubbing {
                Scrubbing::Warn => warn(watcher, &object, &format!("{found}{more} (--scrub overwrites it)")),
                Scrubbing::Overwrite => {
                    warn(watcher, &object, &format!("{found}{more}, overwritten"));
                    scrub(&mut content, &leaks);
                    scrubbed.insert(entry.path, &file.digest, content);
                }
            }
        }
        if let Some(first) = paths_of_homes.first() {
            let reason = format!(
                "a home directory of this machine is named in {}, the first is `{first}`",
                counted(paths_of_homes.len(), "file")
            );
            warn(watcher, &format!("catalog {}", catalog.name()), &reason);
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

    /// The overwritten content that has this digest.
    pub(super) fn content(&self, digest: &ObjectDigest) -> Option<&Arc<[u8]>> {
        self.contents.get(digest)
    }

    /// The catalog with the new digests, gzip as RCC stores it.
    pub(super) fn rewrite_catalog(&self, stored: &[u8], catalog: &Catalog) -> Result<Vec<u8>> {
        const DEPTH: usize = 2000;
        let object = format!("catalog {}", catalog.name());
        let mut document = json::parse(&meta::document(stored, &object)?, DEPTH, &object)?;
        for (path, digest) in &self.digests {
            let missing = || Error::invalid(&object, format!("`{path}` is not where the catalog has it"));
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
