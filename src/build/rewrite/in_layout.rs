//! Changing an image where it is: in a layout, under its names.

use super::walk::{Change, Rewritten, rewrite};
use crate::common::digest::Digest;
use crate::common::error::{Error, ErrorKind, Result};
use crate::common::progress::Progress;
use crate::spec::{Descriptor, Platform, Replaced};
use crate::store::{BlobSource, Layout, RemoteLayers, copy_blobs};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The number of times that the work is repeated because another process has moved the name.
const MOST_ATTEMPTS: usize = 10;

/// A changed image of a layout.
#[derive(Debug)]
pub struct Moved {
    /// The images.
    pub rewritten: Rewritten,
    /// The names that moved to the changed image, with the image before, and how much only that needed.
    pub replaced: Vec<Replaced>,
    /// The number of artifacts in the layout that are about the image before the change.
    pub artifacts: usize,
}

/// Changes the image that `name` selects in `layout`, and moves its names to the changed image. The blobs of the image before
/// stay until garbage is collected.
///
/// If the name is that of an image for several platforms, the one for `platform` is changed, or all of them.
///
/// # Errors
/// Fails if there is no such image, it is an artifact, `change` fails, the layout cannot be written, or other processes keep
/// moving the name. Existing images of the layout are unchanged then.
pub fn rewrite_in_layout(
    layout: &Arc<Layout>,
    name: Option<&str>,
    platform: Option<&Platform>,
    change: Change<'_>,
    progress: &dyn Progress,
) -> Result<Moved> {
    let object = match name {
        Some(name) if name.starts_with('@') => format!("{}{name}", layout.display()),
        Some(name) => format!("{}:{name}", layout.display()),
        None => layout.display(),
    };
    let source: Arc<dyn BlobSource> = layout.clone();
    for _ in 0..MOST_ATTEMPTS {
        let entries = layout.entries_of(name)?;
        let Some(start) = entries.first() else { break };
        let rewritten = rewrite(&source, start, platform, &object, change)?;
        if !rewritten.is_changed() {
            return Ok(Moved { rewritten, replaced: Vec::new(), artifacts: 0 });
        }
        store(&rewritten, layout, progress)?;
        let left_out = left_out(&entries, &rewritten, layout)?;
        let Some(replaced) = layout.replace_entries(&entries, &rewritten.after, &left_out)? else { continue };
        layout.warn_of_repairs(progress);
        let artifacts = layout.artifacts_about(rewritten.images.iter().map(|image| image.before))?;
        return Ok(Moved { rewritten, replaced, artifacts });
    }
    Err(Error::new(ErrorKind::Changed, object, "repeatedly moved by other processes").hint("run the command again"))
}

/// Stores the blobs and documents that the layout lacks.
fn store(rewritten: &Rewritten, layout: &Layout, progress: &dyn Progress) -> Result<()> {
    for changed in &rewritten.images {
        let image = &changed.image;
        copy_blobs(&*image.source, &changed.new_blobs, layout, progress)?;
        if changed.before != image.descriptor.digest {
            layout.put_manifest(&image.descriptor, &image.manifest_bytes)?;
        }
    }
    for (descriptor, bytes) in &rewritten.indexes {
        layout.put_manifest(descriptor, bytes)?;
    }
    Ok(())
}

/// Returns the layers of the changed image that are in a registry: those that `entries` list and those of the change, without
/// those that the layout has.
fn left_out(entries: &[Descriptor], rewritten: &Rewritten, layout: &Layout) -> Result<RemoteLayers> {
    let mut left_out = RemoteLayers::default();
    entries.iter().for_each(|entry| left_out.extend(RemoteLayers::of(entry)));
    rewritten.images.iter().for_each(|image| left_out.extend(image.left_out.clone()));
    let layers = || rewritten.images.iter().flat_map(|image| &image.image.manifest.layers);
    let of_other_images = |digest: &Digest| !layers().any(|layer| layer.digest == *digest);
    let mut needless = BTreeSet::new();
    // In an index, images that were not selected may need layers that these do not.
    if rewritten.indexes.is_empty() {
        needless.extend(left_out.iter().map(|(layer, _)| *layer).filter(of_other_images));
    }
    for layer in layers().filter(|layer| left_out.repository(&layer.digest).is_some()) {
        if layout.find_blob(&layer.digest)? {
            needless.insert(layer.digest);
        }
    }
    Ok(left_out.without(&needless))
}
