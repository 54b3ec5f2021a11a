//! Removing images from the index of a layout, by name or by age.

use super::Layout;
use crate::common::digest::Digest;
use crate::common::error::{Error, ErrorKind, Result};
use crate::spec::index::ambiguous;
use crate::spec::name::{Selector, is_pattern};
use crate::spec::{Descriptor, Index};
use crate::store::ImageName;
use crate::store::select_image::{is_artifact, referrers};
use std::collections::BTreeSet;
use std::time::SystemTime;

/// The images that are removed from a layout.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removal {
    /// Their names, patterns of names, or digests; empty for all images that were stored before a time.
    pub selectors: Vec<String>,
    /// Only images that were stored in the layout before this time.
    pub stored_before: Option<SystemTime>,
}

impl Layout {
    /// Removes the entries that `removal` selects from the index, and the artifacts that are about no image any more. Returns
    /// the removed entries. Their blobs stay until [`Layout::collect_garbage`].
    ///
    /// A name selects one entry; a digest selects every entry of the image; a pattern with `*` selects every entry whose name
    /// it matches. The time at which an image was stored is that of its manifest's file, since the time in its config is often
    /// a fixed one. Artifacts have no age of their own.
    ///
    /// # Errors
    /// Fails if a selector selects nothing or is ambiguous, the manifest of a selected image is missing although its age
    /// matters, or the index cannot be locked or written. Then nothing is removed.
    pub fn remove(&self, removal: &Removal) -> Result<Vec<Descriptor>> {
        let _guard = self.lock()?;
        let (_, removed) = self.change_index(|index| self.remove_from(index, removal))?;
        self.check_place()?;
        Ok(removed)
    }

    /// Returns what [`Layout::remove`] would remove, without removing it.
    ///
    /// # Errors
    /// Fails as [`Layout::remove`] does, except that the index is neither locked nor written.
    pub fn find_removable(&self, removal: &Removal) -> Result<Vec<Descriptor>> {
        self.remove_from(&mut self.index()?, removal)
    }

    fn remove_from(&self, index: &mut Index, removal: &Removal) -> Result<Vec<Descriptor>> {
        let mut selected = Vec::new();
        for selector in &removal.selectors {
            selected.extend(self.candidates(index, selector, removal)?);
        }
        if removal.selectors.is_empty() {
            selected.extend(index.manifests());
        }
        let mut removed: Vec<Descriptor> = Vec::new();
        for listed in selected {
            if !removed.contains(listed) && self.is_old_enough(listed, removal.stored_before)? {
                removed.push(listed.clone());
            }
        }
        let mut rest = index.clone();
        rest.retain(|listed| !removed.contains(listed));
        let digests: BTreeSet<Digest> = removed.iter().map(|listed| listed.digest).collect();
        let is_listed = |digest: &Digest| rest.manifests().iter().any(|listed| listed.digest == *digest);
        for digest in digests.iter().filter(|digest| !is_listed(digest)) {
            let about = referrers(self, index, *digest)?;
            removed.extend(
                about.into_iter().map(|referrer| referrer.listed).filter(|about| rest.manifests().contains(about)),
            );
        }
        index.retain(|listed| !removed.contains(listed));
        Ok(removed)
    }

    /// Returns the entries that one selector selects.
    fn candidates<'i>(&self, index: &'i Index, text: &str, removal: &Removal) -> Result<Vec<&'i Descriptor>> {
        if is_pattern(text) {
            let name = |listed: &Descriptor| ImageName::of_annotations(&listed.annotations);
            let fits = |listed: &&Descriptor| name(listed).is_some_and(|name| name.matches(text));
            let found: Vec<&Descriptor> = index.manifests().iter().filter(fits).collect();
            // Where age selects, nothing to remove is the usual case.
            if found.is_empty() && removal.stored_before.is_none() {
                return Err(Error::new(ErrorKind::NotFound, self.display(), format!("no name matches `{text}`")));
            }
            return Ok(found);
        }
        let selector = Selector::of(text);
        let found = index.select(&selector);
        index.only(&found, Some(text), &self.display())?;
        if selector.name().is_some() && found.len() > 1 {
            return Err(ambiguous(&found, Some(text), &self.display()));
        }
        Ok(found)
    }

    fn is_old_enough(&self, listed: &Descriptor, stored_before: Option<SystemTime>) -> Result<bool> {
        match stored_before {
            None => Ok(true),
            Some(before) => Ok(!is_artifact(self, listed) && self.stored_at(&listed.digest)? < before),
        }
    }
}
