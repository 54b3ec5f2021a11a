//! Entries of the index that move to a changed image.

use super::Layout;
use super::commit::under_names;
use crate::common::digest::Digest;
use crate::common::error::{Error, Result};
use crate::spec::name::Selector;
use crate::spec::{Descriptor, Replaced};
use crate::store::select_image::{referrers, select};
use crate::store::stored_image::without_origin;
use crate::store::{ImageName, RemoteLayers};

impl Layout {
    /// Returns the entries of the image that `name` selects: those that match `name`, else all of them. There is at least one.
    ///
    /// # Errors
    /// Fails if there is no such image, the name is ambiguous, or the image is listed only inside of another index.
    pub fn entries_of(&self, name: Option<&str>) -> Result<Vec<Descriptor>> {
        let index = self.index()?;
        let start = select(self, &index, name, &self.display())?;
        let selector = Selector::of(name.unwrap_or_default());
        let is_it = |listed: &&Descriptor| listed.digest == start.digest;
        let (named, others): (Vec<_>, Vec<_>) =
            index.manifests().iter().filter(is_it).cloned().partition(|listed| selector.fits(&listed.annotations));
        match (named.is_empty(), others.is_empty()) {
            (false, _) => Ok(named),
            (true, false) => Ok(others),
            (true, true) => {
                let reason = format!("{} is one platform of another image", start.digest);
                Err(Error::usage(self.display(), reason).hint("name that image, and the platform with --platform"))
            }
        }
    }

    /// Lists the image `after`, all of whose blobs are in the layout or in `left_out`, in the place of `entries`. Returns the
    /// names that moved, with what became unneeded, or `None` if another process has changed one of the entries since. Then nothing is changed.
    ///
    /// # Errors
    /// Fails if the index cannot be locked, read or written.
    pub fn replace_entries(
        &self,
        entries: &[Descriptor],
        after: &Descriptor,
        left_out: &RemoteLayers,
    ) -> Result<Option<Vec<Replaced>>> {
        let moved: Vec<Descriptor> = entries.iter().map(|entry| moved(entry, after, left_out)).collect();
        self.sync_blobs()?;
        let _guard = self.lock()?;
        let (since, is_current) = self.change_index(|index| {
            let is_current = entries.iter().all(|entry| index.manifests().contains(entry));
            if is_current {
                entries.iter().zip(&moved).for_each(|(before, after)| index.replace(before, after));
            }
            Ok(is_current)
        })?;
        if !is_current {
            return Ok(None);
        }
        self.keep_listed(&moved, since, Vec::new())?;
        self.check_place()?;
        let replaced = |entry: &Descriptor| {
            let name = ImageName::of_annotations(&entry.annotations)?;
            Some(Replaced { name, image: entry.clone(), unneeded: None })
        };
        Ok(Some(self.with_unneeded(entries.iter().filter_map(replaced).collect())))
    }

    /// Returns the entry that has exactly this name, if there is one.
    ///
    /// # Errors
    /// Fails if the index cannot be read, or several images have the name.
    pub fn entry_named(&self, name: &ImageName) -> Result<Option<Descriptor>> {
        let index = self.index()?;
        let named = index.named(name);
        match named.is_empty() {
            true => Ok(None),
            false => index.only(&named, Some(&name.to_string()), &self.display()).cloned().map(Some),
        }
    }

    /// Lists `after` under `name`, all of whose blobs are in the layout or in `left_out`, in the place of `before`, or as a new
    /// name. Returns what lost the name, or `None` if another process has given or taken the name since. Then nothing is changed.
    ///
    /// # Errors
    /// Fails if the index cannot be locked, read or written.
    pub fn replace_named(
        &self,
        name: &ImageName,
        before: Option<&Descriptor>,
        after: &Descriptor,
        left_out: &RemoteLayers,
    ) -> Result<Option<Vec<Replaced>>> {
        let listed = under_names(&left_out.note_in(after.clone()), std::slice::from_ref(name));
        self.sync_blobs()?;
        let _guard = self.lock()?;
        let (since, replaced) = self.change_index(|index| {
            let is_current = index.named(name).first().copied() == before;
            Ok(is_current.then(|| index.put(&listed)))
        })?;
        let Some(replaced) = replaced else { return Ok(None) };
        let replaced = self.keep_listed(&listed, since, replaced)?;
        self.check_place()?;
        Ok(Some(self.with_unneeded(replaced)))
    }

    /// Returns whether a file has the name of the blob. Its content is not read.
    ///
    /// # Errors
    /// Fails if a directory cannot be opened.
    pub fn find_blob(&self, digest: &Digest) -> Result<bool> {
        Ok(self.find_blob_directory(digest.algorithm())?.is_some_and(|directory| directory.dir().exists(digest.hex())))
    }

    /// Counts the artifacts in the layout that are about one of the images with these digests.
    ///
    /// # Errors
    /// Fails if the index or a manifest cannot be read.
    pub fn artifacts_about(&self, images: impl IntoIterator<Item = Digest>) -> Result<usize> {
        let index = self.index()?;
        let mut count = 0;
        for image in images {
            count += referrers(self, &index, image)?.len();
        }
        Ok(count)
    }
}

/// The entry `before`, for the image `after`.
fn moved(before: &Descriptor, after: &Descriptor, left_out: &RemoteLayers) -> Descriptor {
    let entry = Descriptor {
        media_type: after.media_type.clone(),
        digest: after.digest,
        size: after.size,
        ..without_origin(before.clone())
    };
    left_out.note_alone_in(entry)
}
