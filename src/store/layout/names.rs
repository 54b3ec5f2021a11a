//! Names of images that are in a layout: giving and removing them.

use super::Layout;
use crate::common::digest::Digest;
use crate::common::error::{Error, Result};
use crate::spec::name::Selector;
use crate::spec::{CONTAINERD_NAME, Descriptor, Index, REF_NAME, Replaced};
use crate::store::ImageName;
use crate::store::select_image::{referrers, select};
use std::collections::BTreeSet;

impl Layout {
    /// Gives the image that `selector` selects more names. Returns the images that had these names.
    ///
    /// # Errors
    /// Fails if there is no such image, the selector is ambiguous, or the index cannot be locked or written.
    pub fn tag(&self, selector: Option<&str>, names: &[ImageName]) -> Result<Vec<Replaced>> {
        let image = select(self, &self.index()?, selector, &self.display())?;
        let listed: Vec<Descriptor> = names.iter().map(|name| named(&image, name)).collect();
        self.sync_blobs()?;
        let replaced = self.publish(&listed)?;
        self.check_place()?;
        Ok(replaced)
    }

    /// Removes the entries that `selectors` select from the index, and the artifacts that are about no image any more. Returns
    /// the removed entries. Their blobs stay until [`Layout::collect_garbage`].
    ///
    /// A name selects one entry; a digest selects every entry of the image.
    ///
    /// # Errors
    /// Fails if one of the selectors selects nothing or is ambiguous, or if the index cannot be locked or written. Then nothing
    /// is removed.
    pub fn remove(&self, selectors: &[String]) -> Result<Vec<Descriptor>> {
        let _guard = self.lock()?;
        let (_, removed) = self.change_index(|index| self.remove_from(index, selectors))?;
        self.check_place()?;
        Ok(removed)
    }

    fn remove_from(&self, index: &mut Index, selectors: &[String]) -> Result<Vec<Descriptor>> {
        let mut removed: Vec<Descriptor> = Vec::new();
        for text in selectors {
            let selector = Selector::of(text);
            let candidates = index.select(&selector);
            index.only(&candidates, Some(text), &self.display())?;
            if selector.name().is_some() && candidates.len() > 1 {
                let names = candidates.iter().filter_map(|listed| ImageName::of_annotations(&listed.annotations));
                let names: Vec<String> = names.map(|name| name.to_string()).collect();
                return Err(Error::usage(self.display(), format!("`{text}` is ambiguous"))
                    .hint(format!("select one of {}", names.join(", "))));
            }
            removed.extend(candidates.into_iter().cloned());
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
}

/// Returns the entry `image` with another name.
fn named(image: &Descriptor, name: &ImageName) -> Descriptor {
    let mut entry = image.clone();
    entry.annotations.remove(CONTAINERD_NAME);
    let entry = entry.annotated(REF_NAME, name.tag());
    match name.reference() {
        Some(reference) => entry.annotated(CONTAINERD_NAME, reference.to_string()),
        None => entry,
    }
}
