//! The step that makes images known: the index is read, merged and replaced under the lock.

use super::{INDEX_FILE, Layout};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::spec::{CONTAINERD_NAME, Descriptor, LARGEST_MANIFEST, MOST_MANIFESTS, REF_NAME, Replaced};
use crate::store::{ImageName, LeftOut, StoredImage};
use crate::wording;
use std::collections::BTreeSet;
use std::io::Write;
use std::time::{Duration, Instant};

/// How often another program may change the index under our hands before we give up. Such programs do not take the lock.
const RETRIES: usize = 20;

/// The descriptor of `image`, of which `left_out` is elsewhere, as the index lists it under `name`.
pub(super) fn listed(image: &StoredImage, name: &ImageName, left_out: &LeftOut) -> Descriptor {
    let mut descriptor = Descriptor::new(&image.descriptor.media_type, image.descriptor.digest, image.descriptor.size);
    descriptor.platform = Some(image.config.platform().clone());
    let descriptor = left_out.note_in(image.note_origin(descriptor.annotated(REF_NAME, name.tag())));
    match name.reference() {
        Some(reference) => descriptor.annotated(CONTAINERD_NAME, reference.to_string()),
        None => descriptor,
    }
}

/// For so long after a change of the index we look whether another program undoes it.
const MOMENT: Duration = Duration::from_millis(20);

/// The same where one did.
const LONG_MOMENT: Duration = Duration::from_millis(500);

/// How often it is looked at in that time.
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);

/// Since when an index lists what it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Listed {
    /// It did when we looked at it.
    Before,
    /// We have just replaced it.
    Now,
}

impl Layout {
    /// Lists `descriptors`, whose blobs are durable, each in the place of what had its name. Returns what lost its name.
    ///
    /// A program that does not know the lock, and has read the index before, writes it back without them. So the index is
    /// looked at again for a moment, and what was dropped is listed again.
    pub(super) fn publish(&self, descriptors: &[Descriptor]) -> Result<Vec<Replaced>> {
        let _guard = self.lock()?;
        let (listed, mut replaced) = self.list(descriptors)?;
        if listed == Listed::Before {
            self.sync_index()?;
            return Ok(replaced);
        }
        let mut until = Instant::now() + MOMENT;
        for _ in 0..RETRIES {
            if self.stays_until(until, descriptors)? {
                return Ok(replaced);
            }
            replaced.extend(self.list(descriptors)?.1);
            self.known().dropped = true;
            until = Instant::now() + LONG_MOMENT;
        }
        Err(self.keeps_changing())
    }

    /// Replaces the index by one that lists `descriptors`, where it does not do so already. Returns what lost its name.
    fn list(&self, descriptors: &[Descriptor]) -> Result<(Listed, Vec<Replaced>)> {
        for _ in 0..RETRIES {
            let before = self.index_bytes()?;
            let read = self.parse_index(&before)?;
            let mut index = read.clone();
            let replaced = index.put(descriptors);
            if index == read {
                return Ok((Listed::Before, replaced));
            }
            let after = index.to_bytes();
            self.check_readable(index.manifests().len(), after.len())?;
            let mut temporary = self.root.temporary()?;
            temporary.write_all(&after).map_err(|error| Error::io(self.root.display(INDEX_FILE), "write", error))?;
            temporary.sync()?;
            // A program that does not know our lock may have been faster; what it wrote must not be lost.
            if self.index_bytes()? == before {
                temporary.persist(INDEX_FILE)?;
                self.root.sync()?;
                return Ok((Listed::Now, replaced));
            }
        }
        Err(self.keeps_changing())
    }

    /// Whether the index lists `descriptors` from now on until `until`. One that cannot be read is waited for.
    fn stays_until(&self, until: Instant, descriptors: &[Descriptor]) -> Result<bool> {
        let readable_until = Instant::now() + LONG_MOMENT;
        loop {
            let now = Instant::now();
            match self.index() {
                Ok(index) => {
                    let mut with = index.clone();
                    with.put(descriptors);
                    if with != index || now >= until {
                        return Ok(with == index);
                    }
                }
                // Other programs write it in place.
                Err(error) if error.kind() == ErrorKind::Invalid && now < readable_until => {}
                Err(error) => return Err(error),
            }
            std::thread::sleep(BETWEEN_LOOKS);
        }
    }

    fn keeps_changing(&self) -> Error {
        Error::new(ErrorKind::Changed, self.root.display(INDEX_FILE), "another program keeps changing it")
    }

    /// Lists the images with these digests no more.
    ///
    /// # Errors
    /// When the index cannot be locked, read or written.
    pub fn unlist(&self, digests: &BTreeSet<Digest>) -> Result<()> {
        let _guard = self.lock()?;
        let read = self.index()?;
        let mut index = read.clone();
        index.retain(|listed| !digests.contains(&listed.digest));
        if index == read {
            return Ok(());
        }
        self.root.replace_file(INDEX_FILE, &index.to_bytes())
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
