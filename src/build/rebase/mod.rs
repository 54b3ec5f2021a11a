//! Images whose base is replaced: the layers of one base by those of another.
//!
//! ```text
//!   own layers        own layers         stay, with their history
//!  ───────────  ──▶  ───────────  seam   the layers of the old base are the lowest of the image, by their diff IDs
//!   old base          new base           its layers, its history, and the values of its config that the image did not set
//! ```

mod config;
mod conflicts;
mod history;

use super::rewrite::{ChangedImage, Draft};
use crate::build::image::{BASE_DIGEST, BaseLayers};
use crate::common::error::{Error, Result};
use crate::common::limits::Limit;
use crate::common::progress::{Progress, warn};
use crate::layers::rootfs::Listings;
use crate::registry::BASE_NAME;
use crate::spec::reference::Reference;
use crate::spec::{Descriptor, media_type};
use crate::store::StoredImage;
use serde_json::{Value, json};

/// What happens if the layers of an image do not fit on the new base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConflictPolicy {
    /// It is an error.
    Fail,
    /// It is a warning.
    Warn,
}

/// The replacement of a base.
pub struct Rebase<'a> {
    /// The base of the image.
    pub old: &'a StoredImage,
    /// The base to replace it by.
    pub new: &'a StoredImage,
    /// The name of the new base in a registry, if it has one.
    pub name: Option<&'a Reference>,
    /// Whether the layers of the new base are copied to the place of the image. Layers that are left out are read for no check.
    pub layers: BaseLayers,
    /// What happens if the layers of the image do not fit on the new base.
    pub conflicts: ConflictPolicy,
    /// The cached listings of layers.
    pub listings: Option<&'a Listings>,
    /// Reports the progress of reading layers.
    pub progress: &'a dyn Progress,
}

impl std::fmt::Debug for Rebase<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rebase").field("old", self.old).field("new", self.new).finish_non_exhaustive()
    }
}

impl Rebase<'_> {
    /// Returns `image` on the new base, or `None` if it is already.
    ///
    /// # Errors
    /// Fails if the lowest layers of the image are not those of the old base, the bases are for another platform, the layers of
    /// the image do not fit on the new base, or a layer that has to be read is missing or damaged.
    pub fn apply(&self, image: StoredImage) -> Result<Option<ChangedImage>> {
        let first_own = self.seam(&image)?;
        self.check_platform(&image)?;
        let mut draft = Draft::of(image)?;
        self.replace_layers(&mut draft, first_own)?;
        let (old, new) = (self.old.config.document(), self.new.config.document());
        let (config, kept) = config::merged(&draft.config, old, new);
        draft.config = config;
        self.annotate(&mut draft);
        let image = draft.image().clone();
        let config = draft.config.clone();
        let Some(changed) = draft.finish()? else { return Ok(None) };
        if self.old.descriptor.digest != self.new.descriptor.digest {
            conflicts::check(self, &image, first_own, &config)?;
        }
        for member in kept {
            let reason = "has changed in the base, and keeps the value that the image set";
            warn(self.progress, &member, reason);
        }
        Ok(Some(changed))
    }

    /// Returns the number of layers that belong to the old base.
    fn seam(&self, image: &StoredImage) -> Result<usize> {
        let (own, old) = (image.config.diff_ids(), self.old.config.diff_ids());
        if own.starts_with(old) {
            return Ok(old.len());
        }
        let same = own.iter().zip(old).take_while(|(own, old)| own == old).count();
        let base = self.old.descriptor.digest;
        let reason = match own.get(same) {
            Some(_) => format!("its layer {} is not that of its base {base}", same + 1),
            None => format!("it has fewer layers than its base {base}"),
        };
        Err(Error::invalid("image", reason).hint("--from IMAGE names the base that it was built on"))
    }

    fn check_platform(&self, image: &StoredImage) -> Result<()> {
        let (own, new) = (image.config.platform(), self.new.config.platform());
        if own.os() == new.os() && own.architecture() == new.architecture() {
            return Ok(());
        }
        Err(Error::invalid("new base", format!("is for {new}, and the image for {own}")))
    }

    fn replace_layers(&self, draft: &mut Draft, first_own: usize) -> Result<()> {
        let image = draft.image().clone();
        let own = &image.manifest.layers[first_own..];
        Limit::Layers.check(self.new.manifest.layers.len() + own.len(), "rebased image", "layer")?;
        let manifest = &image.descriptor.media_type;
        let of_base = self.new.manifest.layers.iter().map(|layer| {
            let media_type = media_type::layer_in(manifest, &layer.media_type).to_owned();
            Descriptor { media_type, platform: None, ..layer.clone() }.to_json()
        });
        let layers = draft.manifest["layers"].as_array().map_or(&[][..], |layers| layers);
        let own = layers.iter().skip(first_own).cloned();
        let after: Vec<Value> = of_base.chain(own).collect();
        // Descriptors of the same layers stay as they were written.
        let is_same = self.new.config.diff_ids() == self.old.config.diff_ids()
            && self.new.manifest.layers.iter().zip(&image.manifest.layers).all(|(new, own)| new.digest == own.digest);
        if !is_same {
            draft.manifest["layers"] = after.into();
        }
        let diff_ids = self.new.config.diff_ids().iter().chain(&image.config.diff_ids()[first_own..]);
        draft.config["rootfs"]["diff_ids"] = diff_ids.map(|diff_id| json!(diff_id.to_string())).collect();
        if let Some(history) = history::spliced(&image.config, &self.old.config, &self.new.config) {
            draft.config["history"] = history.into();
        }
        let digests = self.new.manifest.layers.iter().map(|layer| layer.digest);
        draft.blobs = draft.blobs.clone().with_blobs(digests, self.new.source.clone());
        if let (BaseLayers::Remote, Some(name)) = (self.layers, self.name) {
            self.new.manifest.layers.iter().for_each(|layer| draft.left_out.insert(layer.digest, name));
        }
        Ok(())
    }

    /// Records the new base. Docker's manifests have no annotations.
    fn annotate(&self, draft: &mut Draft) {
        if draft.image().descriptor.media_type == media_type::DOCKER_MANIFEST {
            return;
        }
        let mut annotations = draft.image().manifest.annotations.clone();
        annotations.insert(BASE_DIGEST.to_owned(), self.new.descriptor.digest.to_string());
        match self.name {
            Some(name) => drop(annotations.insert(BASE_NAME.to_owned(), name.to_string())),
            // The name of the old base would be wrong.
            None => drop(annotations.remove(BASE_NAME)),
        }
        draft.manifest["annotations"] = json!(annotations);
    }
}
