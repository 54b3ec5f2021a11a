//! The update of the index: it is read, merged and replaced under the lock.

use super::{BETWEEN_LOOKS, INDEX_FILE, Layout};
use crate::common::digest::Digest;
use crate::common::error::{Error, ErrorKind, Result};
use crate::common::human_numbers;
use crate::common::limits::Limit;
use crate::spec::reference::Tag;
use crate::spec::{CONTAINERD_NAME, Descriptor, Index, REF_NAME, Replaced};
use crate::store::{ImageName, RemoteLayers, StoredImage};
use std::collections::BTreeSet;
use std::io::Write;
use std::time::{Duration, Instant};

/// The maximum number of changes of the index by programs that do not take the lock, during one update.
const RETRIES: usize = 20;

/// Returns the descriptor of `image` for the index, without a name, and with `left_out` as its missing layers.
pub(super) fn entry_of_image(image: &StoredImage, left_out: &RemoteLayers) -> Descriptor {
    let mut descriptor = Descriptor::new(&image.descriptor.media_type, image.descriptor.digest, image.descriptor.size);
    descriptor.platform = Some(image.config.platform().clone());
    left_out.note_in(image.note_origin(descriptor))
}

/// Returns `entry` under each of `names`; without any, as `latest`.
pub(super) fn under_names(entry: &Descriptor, names: &[ImageName]) -> Vec<Descriptor> {
    match names {
        [] => vec![listed(entry, &ImageName::of_tag(&Tag::latest()))],
        names => names.iter().map(|name| listed(entry, name)).collect(),
    }
}

fn listed(entry: &Descriptor, name: &ImageName) -> Descriptor {
    let descriptor = entry.clone().annotated(REF_NAME, name.tag());
    match name.reference() {
        Some(reference) => descriptor.annotated(CONTAINERD_NAME, reference.to_string()),
        None => descriptor,
    }
}

/// How long the index is watched after a change, in case another program reverts it.
const MOMENT: Duration = Duration::from_millis(20);

/// The same after another program has reverted it.
const LONG_MOMENT: Duration = Duration::from_millis(500);

/// Whether the index listed the descriptors before an update, or because of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ListedSince {
    /// Before this update.
    Before,
    /// By this update.
    Now,
}

impl Layout {
    /// Makes the blobs of the layout durable, and lists `descriptors` under their names. Returns the images that had these names,
    /// with what became unneeded.
    pub(super) fn list_durably(&self, descriptors: &[Descriptor]) -> Result<Vec<Replaced>> {
        self.sync_blobs()?;
        let replaced = self.with_unneeded(self.publish(descriptors)?);
        self.check_place()?;
        Ok(replaced)
    }

    /// Lists `descriptors`, whose blobs are durable, and replaces entries of the same names. Returns the replaced entries.
    ///
    /// A program that does not take the lock may have read the index before, and write it back without them. So the index is
    /// checked again for a short time, and dropped entries are listed again.
    fn publish(&self, descriptors: &[Descriptor]) -> Result<Vec<Replaced>> {
        let _guard = self.lock()?;
        let (listed, replaced) = self.list(descriptors)?;
        self.keep_listed(descriptors, listed, replaced)
    }

    /// Watches the index, which lists `descriptors`, for a short time, and lists dropped entries again. Returns the replaced
    /// entries, which are `replaced` and those of the repetitions. The caller holds the lock.
    pub(super) fn keep_listed(
        &self,
        descriptors: &[Descriptor],
        listed: ListedSince,
        mut replaced: Vec<Replaced>,
    ) -> Result<Vec<Replaced>> {
        if listed == ListedSince::Before {
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

    /// Replaces the index by one that lists `descriptors`, unless it already does. Returns the replaced entries.
    fn list(&self, descriptors: &[Descriptor]) -> Result<(ListedSince, Vec<Replaced>)> {
        self.change_index(|index| Ok(index.put(descriptors)))
    }

    /// Replaces the index by what `change` makes of it, unless that is the same. Returns the result of `change`, which may be
    /// called several times. The caller holds the lock.
    pub(super) fn change_index<T>(&self, change: impl Fn(&mut Index) -> Result<T>) -> Result<(ListedSince, T)> {
        for _ in 0..RETRIES {
            let before = self.index_bytes()?;
            let read = self.parse_index(&before)?;
            let mut index = read.clone();
            let result = change(&mut index)?;
            if index == read {
                return Ok((ListedSince::Before, result));
            }
            let after = index.to_bytes();
            self.check_readable(index.manifests().len(), after.len())?;
            let mut temporary = self.root.temporary()?.checking(self.check);
            temporary.write_all(&after).map_err(|error| self.root.failed(INDEX_FILE, "write", error))?;
            temporary.sync()?;
            // A program that does not take the lock may have written the index; its changes must not be lost.
            if self.index_bytes()? == before {
                temporary.persist(INDEX_FILE)?;
                self.root.sync()?;
                return Ok((ListedSince::Now, result));
            }
        }
        Err(self.keeps_changing())
    }

    /// Returns whether the index lists `descriptors` from now until `until`. Waits for an index that cannot be parsed.
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
        Error::new(ErrorKind::Changed, self.root.display(INDEX_FILE), "repeatedly changed by another program")
    }

    /// Removes the images with these digests from the index.
    ///
    /// # Errors
    /// Fails if the index cannot be locked, read or written.
    pub fn unlist(&self, digests: &BTreeSet<Digest>) -> Result<()> {
        let _guard = self.lock()?;
        self.change_index(|index| {
            index.retain(|listed| !digests.contains(&listed.digest));
            Ok(())
        })?;
        Ok(())
    }

    /// Refuses an index beyond the limits of reading, since no image in it could be read any more.
    fn check_readable(&self, manifests: usize, bytes: usize) -> Result<()> {
        let too_much = |reason: String, limit: Limit| {
            let object = self.root.display(INDEX_FILE);
            let hint = format!("build into another layout; {}", limit.advice());
            Err(Error::invalid(object, format!("would contain {reason}")).hint(hint))
        };
        let (most, largest) = (Limit::Manifests.value(), Limit::DocumentSize.value());
        if manifests as u64 > most {
            return too_much(format!("{manifests} images, more than {most}"), Limit::Manifests);
        }
        if bytes as u64 > largest {
            return too_much(format!("more than {}", human_numbers::size(largest)), Limit::DocumentSize);
        }
        Ok(())
    }
}
