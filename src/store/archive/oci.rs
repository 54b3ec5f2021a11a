//! An image layout in a tar.

use super::members::{ArchiveMembers, LIST_FILE};
use crate::common::error::{Error, Result};
use crate::common::limits::Limit;
use crate::spec::{Descriptor, Index, Platform, media_type};
use crate::store::layout::open::check_version_document;
use crate::store::layout::{INDEX_FILE, LAYOUT_FILE};
use crate::store::select_image;
use crate::store::select_image::select;
use crate::store::{BlobSource, ImageName, StoredDocument, StoredImage};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// An `oci-archive`, read in place.
#[derive(Debug)]
pub struct OciArchive {
    members: ArchiveMembers,
    index: Index,
}

impl OciArchive {
    /// Opens the archive and reads its index.
    ///
    /// # Errors
    /// Fails if it is not a tar, or has no image layout.
    pub fn open(path: &Path) -> Result<Self> {
        OciArchive::of(ArchiveMembers::open(path)?)
    }

    pub(super) fn of(members: ArchiveMembers) -> Result<Self> {
        let object = members.object().to_owned();
        for name in [LAYOUT_FILE, INDEX_FILE] {
            if !members.contains(name) {
                let hint = if members.contains(LIST_FILE) { "it may be a docker-archive" } else { "see `tar -tf`" };
                return Err(Error::invalid(object, format!("not an oci-archive: `{name}` is missing")).hint(hint));
            }
        }
        check_version_document(&members.document(LAYOUT_FILE, 64 << 10)?, &object)?;
        let index = members.document(INDEX_FILE, Limit::DocumentSize)?;
        let index = Index::read(&index, media_type::INDEX, &format!("{object}: index.json"))?;
        Ok(OciArchive { members, index })
    }

    /// Returns the image that `tag` selects, as [`Layout::image`](crate::store::Layout::image) has it.
    ///
    /// # Errors
    /// Fails if there is no such image, or a document of it is missing or damaged.
    pub fn image(self: &Arc<Self>, tag: Option<&str>, platform: Option<&Platform>) -> Result<StoredImage> {
        let object = self.members.object();
        let start = select(&**self, &self.index, tag, object)?;
        let image = StoredImage::open(self.clone(), &start, platform, object)?;
        let referrers = select_image::referrers(&**self, &self.index, image.descriptor.digest)?;
        Ok(StoredImage { warnings: self.members.warnings(), referrers, ..image })
    }

    /// Reads what `tag` selects, as [`Layout::open_document`](crate::store::Layout::open_document) does.
    ///
    /// # Errors
    /// Fails if there is no such image, or a document of it is missing, damaged or malformed.
    pub fn open_document(self: &Arc<Self>, tag: Option<&str>) -> Result<StoredDocument> {
        let object = self.members.object();
        let start = select(&**self, &self.index, tag, object)?;
        let entry = self.index.entry_of(&start).cloned();
        StoredDocument::read(self.clone(), start, entry, object)
    }

    /// Returns the index of the archive.
    pub(super) fn index(&self) -> &Index {
        &self.index
    }

    /// Returns the name of the archive in messages.
    pub(super) fn object(&self) -> &str {
        self.members.object()
    }

    /// Returns the names of the image that `tag` selects, as [`Layout::names`](crate::store::Layout::names) has them.
    ///
    /// # Errors
    /// Fails if there is no such image, or the name is ambiguous.
    pub fn names(&self, tag: Option<&str>) -> Result<Vec<ImageName>> {
        select_image::names(self, &self.index, tag, self.members.object())
    }
}

impl BlobSource for OciArchive {
    fn open(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send + '_>> {
        let name = format!("blobs/{}/{}", descriptor.digest.algorithm().name(), descriptor.digest.hex());
        let (section, _) = self.members.member(&name)?;
        Ok(Box::new(section))
    }
}
