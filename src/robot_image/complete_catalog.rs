//! A catalog that was read and found complete.

use super::Shipping;
use super::catalog_file::CatalogFile;
use super::scrub::Scrubbed;
use super::split_environment::SplitEnvironment;
use crate::common::bounded_read;
use crate::common::error::Result;
use crate::common::progress::{Progress, Silent, warn};
use crate::rcc::matching::warn_of_layer;
use crate::rcc::{Catalog, CatalogEntryKind, CatalogLimits, CatalogName, FileEntry, Hololib, Restorer};
use std::io::{Cursor, Read};
use std::sync::{Arc, OnceLock};

/// A catalog that was read and found complete.
#[derive(Debug)]
pub(super) struct CompleteCatalog {
    pub(super) catalog: Arc<Catalog>,
    /// The catalog's file in the image.
    pub(super) stored: CatalogFile,
    pub(super) scrubbed: Scrubbed,
    pub(super) parts: SplitEnvironment,
    pub(super) restorer: OnceLock<Restorer>,
}

impl CompleteCatalog {
    pub(super) fn new(
        hololib: &Hololib,
        name: &CatalogName,
        stored: &CatalogFile,
        shipping: &Shipping,
        watcher: &dyn Progress,
    ) -> Result<CompleteCatalog> {
        let limits = CatalogLimits::default();
        let mut catalog = Catalog::read(stored.open()?, name, &limits, watcher)?;
        hololib.check_complete(&catalog)?;
        warn_of_layer(&catalog, watcher);
        let scrubbed = Scrubbed::find(hololib, &catalog, shipping, watcher)?;
        let mut stored = stored.clone();
        if !scrubbed.is_empty() {
            stored = CatalogFile::of_bytes(name, scrubbed.rewrite_catalog(stored.open()?, &catalog)?);
            // Only digests differ, so the warnings are those of the first reading.
            catalog = Catalog::read(stored.open()?, name, &limits, &Silent)?;
        }
        let recorded = |_: &str, file: &FileEntry<'_>| -> Result<Box<dyn Read + Send>> {
            match scrubbed.content(&file.digest) {
                Some(content) => Ok(Box::new(Cursor::new(content.clone()))),
                None => hololib.object(&file.named_object())?.content(),
            }
        };
        let parts = SplitEnvironment::of(&catalog, shipping.split, recorded)?;
        if parts.names().is_empty() && shipping.split.is_asked_for() {
            warn(watcher, &format!("catalog {name}"), "has no package lists, so it is not split");
        }
        Ok(CompleteCatalog { catalog: Arc::new(catalog), stored, scrubbed, parts, restorer: OnceLock::new() })
    }

    /// Reads a file of the environment as it will be in `space`.
    ///
    /// # Errors
    /// Returns an error if it is larger than `limit` bytes, or its object is damaged.
    pub(super) fn read(&self, hololib: &Hololib, path: &str, space: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        let CompleteCatalog { catalog, scrubbed, .. } = self;
        let Some(CatalogEntryKind::File(found)) = catalog.entry(path).map(|entry| entry.kind) else { return Ok(None) };
        if let Some(content) = scrubbed.content(&found.digest) {
            return Ok(Some(rewritten(content, found.rewrites, space).to_vec()));
        }
        let restorer = Restorer::new(hololib, catalog, space)?;
        bounded_read::read(restorer.open(path, &found)?, limit, path).map(Some)
    }
}

/// Returns an overwritten file as it will be in `space`.
///
/// The catalog's offsets were checked against its size.
pub(super) fn rewritten(content: &Arc<[u8]>, rewrites: &[u64], space: &str) -> Arc<[u8]> {
    let mut content = content.to_vec();
    for offset in rewrites {
        let at = *offset as usize;
        if let Some(place) = content.get_mut(at..at + space.len()) {
            place.copy_from_slice(space.as_bytes());
        }
    }
    content.into()
}
