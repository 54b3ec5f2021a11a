//! Adding platforms to an image where it is: in a registry, under its tag.

use super::{GrownIndex, MOST_ATTEMPTS, grown, keeps_moving, store};
use crate::common::error::{Error, ErrorKind, Result};
use crate::common::progress::Progress;
use crate::registry::Repository;
use crate::spec::Descriptor;
use crate::store::{BlobSource, RemoteLayers, StoredImage};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The longest time to wait before the tag is looked at again.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Adds `images` to what the tag of `repository` is, and moves the tag to the index of all of them, as
/// [`add_platforms_in_layout`](super::add_platforms_in_layout) does with a name of a layout.
///
/// Registries do not move a tag on a condition (distribution-spec, "Pushing manifests"). So the tag is read before it is moved
/// and looked at again afterwards; if another process has moved it in between without these images, they are added again.
///
/// # Errors
/// Fails if the name has a digest, the registry cannot be reached or refuses a blob or a document, the tag is that of an
/// artifact or of an index that lists indexes, or other processes keep moving it. The tag names what it did before then, or
/// what another process has made of it.
pub fn add_platforms_in_repository(
    repository: &Arc<Repository>,
    images: &[StoredImage],
    progress: &dyn Progress,
) -> Result<GrownIndex> {
    let reference = repository.reference();
    if reference.digest().is_some() {
        return Err(Error::usage(reference.to_string(), "names an image by its digest").hint("name a tag"));
    }
    let (object, tag) = (reference.to_string(), reference.tag_or_latest());
    let source: Arc<dyn BlobSource> = repository.clone();
    let moved = store(images, &RemoteLayers::default(), &**repository, progress)?;
    let mut before = tagged(repository)?;
    for _ in 0..MOST_ATTEMPTS {
        let index = grown(&source, before.as_ref(), images, &object)?;
        let listed = index.images();
        let (descriptor, bytes) = index.finish()?;
        if before.as_ref().is_some_and(|before| before.digest == descriptor.digest) {
            return Ok(GrownIndex { descriptor, images: listed, moved });
        }
        let start = Instant::now();
        let now = tagged(repository)?;
        if now.as_ref().map(|now| now.digest) == before.map(|before| before.digest) {
            repository.put_tagged(&tag, &descriptor, &bytes)?;
            // A process that has read the tag before this push, and pushes as slowly, has done so by then.
            std::thread::sleep(start.elapsed().min(LONGEST_WAIT));
            before = tagged(repository)?;
        } else {
            before = now;
        }
    }
    Err(keeps_moving(object))
}

/// Returns what the tag names, if it is there.
fn tagged(repository: &Repository) -> Result<Option<Descriptor>> {
    match repository.resolve() {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        resolved => resolved.map(Some),
    }
}
