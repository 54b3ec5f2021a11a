//! Adding platforms to an image where it is: in a layout, under its name.

use super::{GrownIndex, MOST_ATTEMPTS, grown, keeps_moving, store};
use crate::common::error::Result;
use crate::common::progress::Progress;
use crate::store::{BlobSource, ImageName, Layout, RemoteLayers, StoredImage};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Adds `images` to what `name` is in `layout`, and moves the name to the index of all of them. An image for a platform that is
/// there already replaces that one; a name of one image becomes that of an index; a new name that of an index of `images` alone.
/// The layers in `left_out` stay in a registry.
///
/// Several processes may add to one name at the same time: each starts again if another one was faster.
///
/// # Errors
/// Fails if a blob cannot be read or written, the name is that of an artifact or of an index that lists indexes, or other
/// processes keep moving the name. The name is then what it was before.
pub fn add_platforms_in_layout(
    layout: &Arc<Layout>,
    name: &ImageName,
    images: &[StoredImage],
    left_out: &RemoteLayers,
    progress: &dyn Progress,
) -> Result<GrownIndex> {
    let object = format!("{}:{name}", layout.display());
    let source: Arc<dyn BlobSource> = layout.clone();
    let mut moved = store(images, left_out, &**layout, progress)?;
    for _ in 0..MOST_ATTEMPTS {
        let before = layout.entry_named(name)?;
        let index = grown(&source, before.as_ref(), images, &object)?;
        let images = index.images();
        let (descriptor, bytes) = index.finish()?;
        layout.put_manifest(&descriptor, &bytes)?;
        let mut remote = before.as_ref().map(RemoteLayers::of).unwrap_or_default();
        remote.extend(left_out.clone());
        let remote = without_present(remote, layout)?;
        let Some(replaced) = layout.replace_named(name, before.as_ref(), &descriptor, &remote)? else { continue };
        layout.warn_of_repairs(progress);
        moved.replaced = replaced;
        return Ok(GrownIndex { descriptor, images, moved });
    }
    Err(keeps_moving(object))
}

/// Returns the layers that the layout really lacks.
fn without_present(remote: RemoteLayers, layout: &Layout) -> Result<RemoteLayers> {
    let mut present = BTreeSet::new();
    for (layer, _) in remote.iter() {
        if layout.find_blob(layer)? {
            present.insert(*layer);
        }
    }
    Ok(remote.without(&present))
}
