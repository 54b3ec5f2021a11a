//! Giving names to images that are in a layout.

use super::Layout;
use crate::common::error::Result;
use crate::spec::{CONTAINERD_NAME, Descriptor, REF_NAME, Replaced};
use crate::store::ImageName;
use crate::store::select_image::select;

impl Layout {
    /// Gives the image that `selector` selects more names. Returns the images that had these names.
    ///
    /// # Errors
    /// Fails if there is no such image, the selector is ambiguous, or the index cannot be locked or written.
    pub fn tag(&self, selector: Option<&str>, names: &[ImageName]) -> Result<Vec<Replaced>> {
        let image = select(self, &self.index()?, selector, &self.display())?;
        let listed: Vec<Descriptor> = names.iter().map(|name| named(&image, name)).collect();
        self.list_durably(&listed)
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
