//! Changing an image where it is: in a registry, under its tag.

use super::walk::{Change, Rewritten, rewrite};
use crate::common::error::{Error, ErrorKind, Result};
use crate::common::progress::Progress;
use crate::registry::Repository;
use crate::spec::{Descriptor, Platform, media_type};
use crate::store::{BlobSink as _, BlobSource, TransferStats, copy_blobs};
use std::io::Cursor;
use std::sync::Arc;

/// Changes the image that `repository` names by a tag, and moves the tag to the changed image. Layers that the repository has
/// are not transferred.
///
/// If the tag is that of an image for several platforms, the one for `platform` is changed, or all of them.
///
/// # Errors
/// Fails if the name has a digest, there is no such image, it is an artifact, `change` fails, another program has moved the tag
/// since, or the registry cannot be reached or refuses a blob or a document. The tag names what it did before then.
pub fn rewrite_in_repository(
    repository: &Arc<Repository>,
    platform: Option<&Platform>,
    change: Change<'_>,
    progress: &dyn Progress,
) -> Result<(Rewritten, TransferStats)> {
    let reference = repository.reference();
    if reference.digest().is_some() {
        let reason = "names an image by its digest, which a changed image does not have";
        return Err(Error::usage(reference.to_string(), reason).hint("name a tag, or another place with --to"));
    }
    let start = repository.resolve()?;
    let source: Arc<dyn BlobSource> = repository.clone();
    let rewritten = rewrite(&source, &start, platform, &reference.to_string(), change)?;
    let mut moved = TransferStats::default();
    if !rewritten.is_changed() {
        return Ok((rewritten, moved));
    }
    let is_single = rewritten.indexes.is_empty();
    for changed in &rewritten.images {
        let image = &changed.image;
        moved.add(copy_blobs(&*image.source, &changed.new_blobs, &**repository, progress)?);
        if !is_single && changed.before != image.descriptor.digest {
            let open = || Ok(Box::new(Cursor::new(image.manifest_bytes.clone())) as _);
            repository.put(&image.descriptor, &open)?;
        }
    }
    let tag = reference.tag_or_latest();
    match (rewritten.indexes.split_last(), &rewritten.images[..]) {
        (Some(((outermost, bytes), inner)), _) => {
            for (descriptor, bytes) in inner {
                repository.put_index(descriptor, bytes)?;
            }
            check_tag(repository, &start)?;
            repository.put_tagged(&tag, outermost, bytes)?;
        }
        (None, [only]) if media_type::is_manifest(&only.image.descriptor.media_type) => {
            check_tag(repository, &start)?;
            repository.put_tagged(&tag, &only.image.descriptor, &only.image.manifest_bytes)?;
        }
        (None, _) => return Err(Error::invalid(reference.to_string(), "neither an image nor an index")),
    }
    Ok((rewritten, moved))
}

/// Checks that the tag still names `start`, so that what another program has pushed since is not lost. Registries
/// do not move a tag on a condition (distribution-spec, "Pushing manifests"), so a push in the next moment is not seen.
fn check_tag(repository: &Repository, start: &Descriptor) -> Result<()> {
    let now = repository.resolve()?.digest;
    if now == start.digest {
        return Ok(());
    }
    let reason = format!("another program has moved the tag to {now} since it was read");
    Err(Error::new(ErrorKind::Changed, repository.reference().to_string(), reason).hint("run the command again"))
}
