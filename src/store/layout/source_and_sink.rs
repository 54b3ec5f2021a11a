//! A layout as source and sink of the copy loop.

use super::{Layout, commit};
use crate::common::error::{Error, ErrorKind, Result};
use crate::common::root::WriteCheck;
use crate::spec::{Descriptor, Replaced};
use crate::store::stored_image::note_origin;
use crate::store::{BlobSink, BlobSource, ImageName, Opener, RemoteLayers, StoredImage, StoredIndex};
use std::io::Read;

impl BlobSource for Layout {
    fn layout(&self, _: &Descriptor) -> Option<&Layout> {
        Some(self)
    }

    fn open(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send + '_>> {
        let object = || format!("{}: blob {}", self.display(), descriptor.digest);
        let missing = |error: Error| match error.kind() {
            ErrorKind::NotFound => Error::new(ErrorKind::NotFound, object(), "missing").about_blob(&descriptor.digest),
            _ => error,
        };
        let directory = self.existing_blob_directory(descriptor.digest.algorithm()).map_err(missing)?;
        Ok(Box::new(directory.open_file(descriptor.digest.hex()).map_err(missing)?))
    }

    fn holds(&self, descriptor: &Descriptor) -> Result<bool> {
        BlobSink::contains(self, descriptor)
    }
}

impl BlobSink for Layout {
    fn takes_referrer(&self, _: &Descriptor) -> bool {
        true
    }

    fn transfers(&self) -> usize {
        // More concurrent transfers only cause more disk seeks.
        4
    }

    fn contains(&self, descriptor: &Descriptor) -> Result<bool> {
        self.open_verified(descriptor).map(|blob| blob.is_some())
    }

    fn shares(&self) -> bool {
        // What is shared is not written, so it would not be read back.
        self.check == WriteCheck::Synced
    }

    fn try_share(&self, descriptor: &Descriptor, layout: &Layout) -> Result<bool> {
        if !self.shares() {
            return Ok(false);
        }
        // If the blob is damaged, the copy that follows reports it.
        let Some(blob) = layout.open_verified(descriptor)? else { return Ok(false) };
        let algorithm = descriptor.digest.algorithm();
        let (name, directory) = (descriptor.digest.hex(), self.blob_directory(algorithm)?);
        #[cfg(target_os = "linux")]
        if let Ok(file) = directory.reflink(blob.file(), &name) {
            return blob.check_untouched().and_then(|()| self.settle(descriptor, &file)).map(|()| true);
        }
        if directory.link_from(&layout.existing_blob_directory(algorithm)?, blob.file(), &name).is_err() {
            return Ok(false);
        }
        self.mark_whole(descriptor.digest, blob.file());
        blob.check_untouched().map(|()| true)
    }

    fn put(&self, descriptor: &Descriptor, open: &Opener<'_>) -> Result<()> {
        self.store(descriptor, &mut *open()?)
    }

    fn commit(&self, image: &StoredImage, names: &[ImageName]) -> Result<Vec<Replaced>> {
        self.commit_sparse(&RemoteLayers::default(), image, names)
    }

    fn commit_index(&self, index: &StoredIndex, names: &[ImageName]) -> Result<Vec<Replaced>> {
        self.put_manifest(&index.descriptor, &index.bytes)?;
        let entry = note_origin(index.descriptor.clone(), index.origin.as_ref());
        self.list_durably(&commit::under_names(&entry, names))
    }
}
