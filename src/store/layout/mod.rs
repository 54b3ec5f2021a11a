//! The image layout, a directory (image-layout.md):
//!
//! ```text
//! out/
//!   oci-layout                {"imageLayoutVersion":"1.0.0"}, written last: without it this is not a layout
//!   index.json                the tags, each with the descriptor of a manifest; replaced atomically
//!   blobs/sha256/<hex>        manifests, configs and layers, each under its digest, each complete
//!   blobs/sha256/.ocibuild-*  unfinished blobs, locked by their writer
//!   .ocibuild.lock            locked while index.json is read, merged and replaced
//! ```
//!
//! A blob is written to a temporary file, synced and renamed. Then the directory is synced, and everything that another program
//! wrote. Only then does the index name it. So every image in the index is complete, whenever a crash occurs.
//!
//! Layers and configs are read-only files, since one file may be in several layouts and in the cache. Manifests are never
//! linked and stay writable, since skopeo writes them in place.

mod age;
mod blob;
mod commit;
mod durable;
mod flush;
mod garbage;
mod images;
mod known_blobs;
mod lock;
mod names;
pub(super) mod open;
mod open_blob;
mod reading;
mod removal;
mod replace;
mod source_and_sink;
mod unneeded;

pub use blob::{BlobWriter, Gap};
pub use garbage::{Collection, Garbage};
pub use images::{ImageContent, ListedImage};
pub use lock::LayoutLocking;
pub use open_blob::OpenBlob;
pub(crate) use reading::{IndexStamp, StoredManifest};
pub use removal::Removal;

use super::VerifiedFiles;
use super::{BlobSink, BlobSource, ImageName, RemoteLayers, StoredDocument, StoredImage, Verified};
use crate::common::bounded_read;
use crate::common::digest::{Algorithm, Digest};
use crate::common::directory_lock::DirectoryLock;
use crate::common::error::{Error, ErrorKind, Result};
use crate::common::limits::{Limit, MostBytes};
use crate::common::root::{Root, WriteCheck, is_temporary_name};
use crate::spec::{Descriptor, Index, Platform, Replaced, media_type};
use crate::store::select_image;
use crate::store::select_image::select;
use known_blobs::KnownBlobs;
use std::collections::BTreeSet;
use std::io::{self, Read};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The file that makes a directory an image layout. It holds the version of the format.
pub const LAYOUT_FILE: &str = "oci-layout";
/// The file of a layout that lists its images.
pub(super) const INDEX_FILE: &str = "index.json";
const LOCK_FILE: &str = ".ocibuild.lock";
/// For so long an empty document may be one that another program is writing.
const BEING_WRITTEN: Duration = Duration::from_millis(500);
/// The time between two checks of a document that another program may be changing.
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);

/// An image layout on disk.
///
/// ```
/// use ocibuild::{Base, BuildSpec, Layout, Platform, Silent};
/// use std::sync::Arc;
///
/// # let scratch = tempfile::tempdir()?;
/// # let path = scratch.path();
/// let layout = Arc::new(Layout::create(path)?);
/// BuildSpec::new(Base::Scratch(Platform::linux_amd64())).build(&layout, &["v1".parse()?], &Silent)?;
/// assert_eq!(layout.names(None)?[0].tag(), "v1");
/// let image = layout.image(Some("v1"), None)?;
/// assert_eq!(image.config.platform(), &Platform::linux_amd64());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Layout {
    root: Root,
    locking: LayoutLocking,
    known: Mutex<KnownBlobs>,
    /// The record of blobs that an earlier process has verified and synced.
    verification_cache: Option<VerifiedFiles>,
    /// Held by everything that adds blobs, so that none of them is taken for garbage before the index names it.
    writing: Option<DirectoryLock>,
    check: WriteCheck,
}

impl Layout {
    /// Sets the record of verified blobs, which outlives this process.
    #[must_use]
    pub fn with_verification_cache(mut self, cache: VerifiedFiles) -> Self {
        self.verification_cache = Some(cache);
        self
    }

    /// Sets what is known of blobs and of the index before they get their names.
    #[must_use]
    pub fn checking(mut self, check: WriteCheck) -> Self {
        self.check = check;
        self
    }

    /// Returns the directory.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// Returns the path of the directory, for messages.
    pub fn display(&self) -> String {
        self.root.path().display().to_string()
    }

    /// Reads the index of the layout.
    ///
    /// # Errors
    /// Fails if `index.json` is missing, larger than 8 MiB, or not an index.
    pub fn index(&self) -> Result<Index> {
        self.parse_index(&self.index_bytes()?)
    }

    /// Opens the image that `name` selects: a full name, a tag, a digest, or `NAME@DIGEST`; without a name, the only image.
    ///
    /// # Errors
    /// Fails if there is no such image, the name is ambiguous, or a document of the image is missing or damaged.
    pub fn image(self: &Arc<Self>, name: Option<&str>, platform: Option<&Platform>) -> Result<StoredImage> {
        let object = match name {
            Some(name) if name.starts_with('@') => format!("{}{name}", self.display()),
            Some(name) => format!("{}:{name}", self.display()),
            None => self.display(),
        };
        let index = self.index()?;
        let start = select(&**self, &index, name, &self.display())?;
        let image = StoredImage::open(self.clone(), &start, platform, &object)?;
        Ok(StoredImage { referrers: select_image::referrers(&**self, &index, image.descriptor.digest)?, ..image })
    }

    /// Reads the index, manifest or artifact that `name` selects, as [`Layout::image`] does, without choosing a platform.
    ///
    /// # Errors
    /// Fails if there is no such image, the name is ambiguous, or a document of it is missing, damaged or malformed.
    pub fn open_document(self: &Arc<Self>, name: Option<&str>) -> Result<StoredDocument> {
        let index = self.index()?;
        let start = select(&**self, &index, name, &self.display())?;
        let entry = index.entry_of(&start).cloned();
        StoredDocument::read(self.clone(), start, entry, &self.display())
    }

    /// Returns the names of the image that `name` selects: those that match `name`, else all of them.
    ///
    /// # Errors
    /// Fails if there is no such image, or the name is ambiguous.
    pub fn names(&self, name: Option<&str>) -> Result<Vec<ImageName>> {
        select_image::names(self, &self.index()?, name, &self.display())
    }

    /// Reduces `index`, which is that of this layout, to the selected image and its referrers.
    ///
    /// # Errors
    /// Fails if there is no such image, or the name is ambiguous.
    pub fn keep_only(&self, index: &mut Index, name: &str) -> Result<()> {
        let wanted = select(self, index, Some(name), &self.display())?;
        let mut kept = BTreeSet::from([wanted.digest]);
        kept.extend(select_image::referrers(self, index, wanted.digest)?.iter().map(|referrer| referrer.listed.digest));
        if !index.manifests().iter().any(|listed| listed.digest == wanted.digest) {
            index.put(std::slice::from_ref(&wanted));
        }
        index.retain(|listed| kept.contains(&listed.digest));
        Ok(())
    }

    /// Lists every blob by its digest, and every other name below `blobs`, to which no specification gives a meaning.
    ///
    /// # Errors
    /// Fails if a directory cannot be read.
    pub fn blobs(&self) -> Result<(Vec<Digest>, Vec<String>)> {
        let (mut blobs, mut unknown_files) = (Vec::new(), Vec::new());
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let Some(directory) = self.find_blob_directory(algorithm)? else { continue };
            for entry in directory.dir().entries().map_err(|error| Error::file(directory.path(), "read", error))? {
                let name = entry.map_err(|error| Error::file(directory.path(), "read", error))?.file_name();
                let is_temporary = is_temporary_name(&name);
                let name = name.to_string_lossy();
                match format!("{}:{name}", algorithm.name()).parse() {
                    Ok(digest) => blobs.push(digest),
                    Err(_) if is_temporary => {}
                    Err(_) => unknown_files.push(format!("blobs/{}/{name}", algorithm.name())),
                }
            }
        }
        blobs.sort();
        unknown_files.sort();
        Ok((blobs, unknown_files))
    }

    /// Opens the blob if the layout has it and its content matches its digest, and returns `None` otherwise.
    ///
    /// # Errors
    /// Fails if the file system cannot be read.
    pub fn open_verified(&self, descriptor: &Descriptor) -> Result<Option<OpenBlob>> {
        let Some(directory) = self.find_blob_directory(descriptor.digest.algorithm())? else { return Ok(None) };
        let name = descriptor.digest.hex();
        let file = match directory.open_file(&name) {
            // Anything but a regular file will be replaced by one.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Invalid) => return Ok(None),
            opened => opened?,
        };
        let blob = OpenBlob::before_check(file, directory.display(&name))?;
        if blob.size() != descriptor.size {
            self.mark_damaged(descriptor.digest);
            return Ok(None);
        }
        if self.known().whole.contains(&descriptor.digest) {
            return Ok(Some(blob));
        }
        if self.verification_cache.as_ref().and_then(|cache| cache.digest_of(blob.file())) == Some(descriptor.digest) {
            return Ok(Some(blob));
        }
        // The name proves nothing: the blob of a crashed or faulty writer is found here, and is written again.
        let is_whole = io::copy(&mut Verified::new(blob.file(), descriptor), &mut io::sink()).is_ok();
        match is_whole {
            true => self.mark_whole(descriptor.digest, blob.file()),
            false => self.mark_damaged(descriptor.digest),
        }
        Ok(is_whole.then_some(blob))
    }

    /// Starts a blob whose digest is not known yet.
    ///
    /// # Errors
    /// Fails if no file can be created in the layout.
    pub fn blob_writer(&self) -> Result<BlobWriter> {
        BlobWriter::start(self.blob_directory(Algorithm::Sha256)?, Algorithm::Sha256, self.check)
    }

    /// Stores a document and returns its descriptor.
    ///
    /// # Errors
    /// Fails if it cannot be written.
    pub fn put_document(&self, bytes: &[u8], media_type: &str) -> Result<Descriptor> {
        let descriptor = Descriptor::of(media_type, bytes);
        if !self.contains(&descriptor)? {
            self.store(&descriptor, &mut &*bytes)?;
        }
        Ok(descriptor)
    }

    /// Stores a manifest or index that an entry is about to name. One that is there becomes as young as a new one.
    ///
    /// # Errors
    /// Fails if it cannot be written, or `bytes` are not what `descriptor` describes.
    pub fn put_manifest(&self, descriptor: &Descriptor, bytes: &[u8]) -> Result<()> {
        match self.contains(descriptor)? && self.note_commit(&descriptor.digest)? {
            true => Ok(()),
            false => self.store(descriptor, &mut &*bytes),
        }
    }

    /// Stores `content` as the blob of `descriptor`, if it matches.
    fn store(&self, descriptor: &Descriptor, content: &mut dyn Read) -> Result<()> {
        let algorithm = descriptor.digest.algorithm();
        let mut writer = BlobWriter::start(self.blob_directory(algorithm)?, algorithm, self.check)?;
        writer.write_all_of(content, descriptor.size)?;
        let file = writer.finish_as(descriptor)?;
        self.settle(descriptor, &file)
    }

    /// Finishes a blob whose digest was not known in advance.
    ///
    /// # Errors
    /// Fails if it cannot be made durable.
    pub fn finish_blob(&self, writer: BlobWriter) -> Result<(Digest, u64)> {
        // An existing blob is replaced in any case; the check records whether it was damaged, for a warning.
        let descriptor = writer.describe();
        self.contains(&descriptor)?;
        let file = writer.finish()?;
        self.settle(&descriptor, &file)?;
        Ok((descriptor.digest, descriptor.size))
    }

    /// Links or copies the blob from `other`.
    ///
    /// A reflink is tried first, then a hard link, then a copy.
    ///
    /// # Errors
    /// Fails if `other` does not have the blob intact, or it cannot be written here.
    pub fn link_or_copy(&self, other: &Layout, descriptor: &Descriptor) -> Result<()> {
        if self.try_share(descriptor, other)? {
            return Ok(());
        }
        self.store(descriptor, &mut *other.open(descriptor)?)
    }

    /// Commits an image as [`BlobSink::commit`] does, but without the layers in `left_out`, which are elsewhere.
    ///
    /// # Errors
    /// Fails as [`BlobSink::commit`] does.
    pub fn commit_sparse(
        &self,
        left_out: &RemoteLayers,
        image: &StoredImage,
        names: &[ImageName],
    ) -> Result<Vec<Replaced>> {
        self.put_manifest(&image.descriptor, &image.manifest_bytes)?;
        let mut listed = commit::under_names(&commit::entry_of_image(image, left_out), names);
        listed.extend(image.referrers.iter().map(|referrer| referrer.listed.clone()));
        self.list_durably(&listed)
    }

    fn blob_directory(&self, algorithm: Algorithm) -> Result<Root> {
        self.root.create_directory("blobs")?.create_directory(algorithm.name())
    }

    fn existing_blob_directory(&self, algorithm: Algorithm) -> Result<Root> {
        self.root.directory("blobs")?.directory(algorithm.name())
    }

    /// Opens the directory of blobs with digests of `algorithm`, if it exists. It is optional.
    fn find_blob_directory(&self, algorithm: Algorithm) -> Result<Option<Root>> {
        match self.existing_blob_directory(algorithm) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            directory => directory.map(Some),
        }
    }

    fn index_bytes(&self) -> Result<Vec<u8>> {
        self.document(INDEX_FILE, Limit::DocumentSize)
    }

    /// Reads a document of the layout. Other tools write it in place, so an empty one is read again for a moment.
    fn document(&self, name: &str, most: impl Into<MostBytes>) -> Result<Vec<u8>> {
        let (until, bound) = (Instant::now() + BEING_WRITTEN, most.into());
        loop {
            let bytes = bounded_read::read(self.root.open_file(name)?, bound, &self.root.display(name))?;
            if !bytes.is_empty() || Instant::now() >= until {
                return Ok(bytes);
            }
            std::thread::sleep(BETWEEN_LOOKS);
        }
    }

    fn parse_index(&self, bytes: &[u8]) -> Result<Index> {
        Index::read(bytes, media_type::INDEX, &self.root.display(INDEX_FILE))
    }
}

#[cfg(test)]
mod tests;
