//! The step that makes images known: the index is read, merged and replaced under the lock.

use super::{INDEX_FILE, Layout};
use crate::error::{Error, ErrorKind, Result};
use crate::spec::{CONTAINERD_NAME, Descriptor, LARGEST_MANIFEST, MOST_MANIFESTS, REF_NAME};
use crate::store::{ImageName, LeftOut, StoredImage};
use crate::wording;
use std::io::Write;

/// How often another program may change the index under our hands before we give up. Such programs do not take the lock.
const RETRIES: usize = 20;

/// The descriptor of `image`, of which `left_out` is elsewhere, as the index lists it under `name`.
pub(super) fn listed(image: &StoredImage, name: &ImageName, left_out: &LeftOut) -> Descriptor {
    let mut descriptor = Descriptor::new(&image.descriptor.media_type, image.descriptor.digest, image.descriptor.size);
    descriptor.platform = Some(image.config.platform().clone());
    let descriptor = left_out.note_in(descriptor.annotated(REF_NAME, name.tag()));
    match name.reference() {
        Some(reference) => descriptor.annotated(CONTAINERD_NAME, reference.to_string()),
        None => descriptor,
    }
}

impl Layout {
    /// Lists `descriptors`, whose blobs are durable, each in the place of what had its tag.
    pub(super) fn publish(&self, descriptors: &[Descriptor]) -> Result<()> {
        let _guard = self.lock()?;
        for _ in 0..RETRIES {
            let before = self.index_bytes()?;
            let read = self.parse_index(&before)?;
            let mut index = read.clone();
            index.put(descriptors);
            if index == read {
                return Ok(());
            }
            let after = index.to_bytes();
            self.check_readable(index.manifests().len(), after.len())?;
            let mut temporary = self.root.temporary()?;
            temporary.write_all(&after).map_err(|error| Error::io(self.root.display(INDEX_FILE), "write", error))?;
            temporary.sync()?;
            // A program that does not know our lock may have been faster; what it wrote must not be lost.
            if self.index_bytes()? == before {
                temporary.persist(INDEX_FILE)?;
                return self.root.sync();
            }
        }
        Err(Error::new(ErrorKind::Changed, self.root.display(INDEX_FILE), "another program keeps changing it"))
    }

    /// An index beyond the limits of reading would lock everybody out of every image in it.
    fn check_readable(&self, manifests: usize, bytes: usize) -> Result<()> {
        let too_much = |reason: String| {
            let object = self.root.display(INDEX_FILE);
            Err(Error::invalid(object, format!("would hold {reason}")).hint("build into another layout"))
        };
        if manifests > MOST_MANIFESTS {
            return too_much(format!("{manifests} images, more than {MOST_MANIFESTS}"));
        }
        if bytes as u64 > LARGEST_MANIFEST {
            return too_much(format!("more than {}", wording::size(LARGEST_MANIFEST)));
        }
        Ok(())
    }
}
