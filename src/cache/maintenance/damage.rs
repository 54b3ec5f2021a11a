//! Damaged and unreadable files of the cache.

use super::{ItemKind, Upkeep, files, is_hex, stored};
use crate::cache::record::CacheRecord;
use crate::cache::{block_index, block_lists};
use crate::common::digest::{Algorithm, Digest, Hashing};
use crate::common::error::Result;
use crate::common::root::Root;
use crate::registry::trust::{KEPT, kept_in};
use crate::store::{BASES, LAYERS, Layout, VerifiedFiles};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Checks whether the file of this name can be used.
type IsWhole = fn(&Root, &str) -> Result<bool>;

impl Upkeep {
    /// Returns the existing layouts of the cache, for verification.
    pub fn stores(&self) -> Vec<PathBuf> {
        let stores = [LAYERS, BASES].into_iter().filter(|name| self.directory.dir().symlink_metadata(name).is_ok());
        stores.map(|name| self.directory.path().join(name)).collect()
    }

    /// Marks blobs of `layout` as damaged, so that the next build replaces them.
    pub fn forget(&self, layout: Layout, damaged: &BTreeSet<Digest>) {
        if let Some(memory) = VerifiedFiles::existing(&self.directory) {
            layout.with_verification_cache(memory).forget(damaged);
        }
    }

    /// Removes damaged keys, block lists, downloads and signature files, and returns their names. Each costs the next build
    /// time.
    ///
    /// # Errors
    /// Fails if a directory cannot be read, or a file cannot be removed.
    pub fn discard_damaged_files(&self) -> Result<Vec<String>> {
        let mut damaged = Vec::new();
        let kinds: [(&str, ItemKind, IsWhole); 5] = [
            ("layers/v1", ItemKind::Key, |directory, name| Ok(CacheRecord::read_named(directory, name).is_some())),
            ("blocks/v1", ItemKind::BlockList, |directory, name| Ok(block_lists::is_whole(directory, name))),
            ("block-index/v1", ItemKind::BlockList, |directory, name| Ok(block_index::is_whole(directory, name))),
            (files::DOWNLOADS, ItemKind::Download, is_what_its_name_says),
            (KEPT, ItemKind::Signatures, |directory, name| Ok(kept_in(directory, name).is_some())),
        ];
        for (place, kind, is_whole) in kinds {
            for file in stored(&self.directory, place, kind)?.into_iter().filter(|file| is_hex(&file.name, 64)) {
                let is_there = || file.directory.dir().symlink_metadata(&file.name).is_ok();
                // A file that a build has replaced concurrently is gone, not damaged.
                if !is_whole(&file.directory, &file.name)? && is_there() {
                    file.remove()?;
                    damaged.push(file.directory.display(&file.name));
                }
            }
        }
        damaged.sort();
        Ok(damaged)
    }

    /// Removes layouts that are incomplete or malformed as a whole.
    ///
    /// # Errors
    /// Fails if the system cannot read a layout, which says nothing about its content, or cannot remove one.
    pub fn discard_unreadable_stores(&self) -> Result<()> {
        for name in [LAYERS, BASES] {
            let layout = Layout::open(&self.directory.path().join(name)).and_then(|layout| layout.index());
            match layout {
                Ok(_) => {}
                Err(error) if error.is_of_the_content() => self.directory.remove_tree(name)?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn is_what_its_name_says(directory: &Root, name: &str) -> Result<bool> {
    let failed = |error| directory.failed(name, "read", error);
    let file = match directory.open_file(name) {
        Err(error) if error.kind() == crate::ErrorKind::NotFound => return Ok(false),
        file => file?,
    };
    let (found, _) = Hashing::new(file, Algorithm::Sha256).finish().map_err(failed)?;
    Ok(found.hex() == name)
}
