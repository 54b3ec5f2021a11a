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

mod blob;
mod commit;
mod durable;
mod flush;
mod garbage;
mod images;
mod known_blobs;
mod lock;
mod names;
mod open_blob;
mod source_and_sink;

pub use blob::{BlobWriter, Gap};
pub use garbage::{Collection, Garbage};
pub use images::{ImageContent, ListedImage};
pub use lock::LayoutLocking;
pub use open_blob::OpenBlob;

use super::VerifiedFiles;
use super::{BlobSink, BlobSource, ImageName, RemoteLayers, StoredImage, Verified};
use crate::common::bounded_read;
use crate::common::digest::{Algorithm, Digest};
use crate::common::directory_lock::DirectoryLock;
use crate::common::error::{Error, ErrorKind, Result};
use crate::common::json;
use crate::common::root::{Root, is_temporary_name};
use crate::spec::reference::Tag;
use crate::spec::{Descriptor, Index, LARGEST_MANIFEST, Platform, Replaced, media_type};
use crate::store::select_image;
use crate::store::select_image::select;
use known_blobs::KnownBlobs;
use std::collections::BTreeSet;
use std::io::{self, Read};
use std::path::Path;
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
const VERSION_DOCUMENT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// An image layout on disk.
#[derive(Debug)]
pub struct Layout {
    root: Root,
    locking: LayoutLocking,
    known: Mutex<KnownBlobs>,
    /// The record of blobs that an earlier process has verified and synced.
    memory: Option<VerifiedFiles>,
    /// Held by everything that adds blobs, so that none of them is taken for garbage before the index names it.
    writing: Option<DirectoryLock>,
}

impl Layout {
    /// Opens an existing layout. Write access is not needed.
    ///
    /// # Errors
    /// Fails if the directory is not an image layout of version 1.0.0.
    pub fn open(path: &Path) -> Result<Layout> {
        let layout = Layout::at(Root::open(path)?, LayoutLocking::default());
        layout.check_version()?;
        Ok(layout)
    }

    /// Opens a layout, and creates it if it does not exist.
    ///
    /// # Errors
    /// Fails if the directory contains anything but an image layout, its index cannot be read, or it cannot be written.
    pub fn create(path: &Path) -> Result<Layout> {
        Layout::create_locking(path, LayoutLocking::default())
    }

    /// Opens or creates a layout as [`Layout::create`] does, with the given locking.
    ///
    /// # Errors
    /// Fails as [`Layout::create`] does.
    pub fn create_locking(path: &Path, locking: LayoutLocking) -> Result<Layout> {
        let layout = Layout::at(Root::create(path)?, locking);
        if !layout.has_mark()? {
            // Checked before the lock file is created, so that a directory of other content stays unchanged.
            layout.check_empty()?;
            let _guard = layout.lock()?;
            if !layout.has_mark()? {
                layout.check_empty()?;
                layout.initialise()?;
            }
        }
        layout.check_version()?;
        layout.index()?;
        layout.root.sweep_temporaries();
        layout.blob_directory(Algorithm::Sha256)?.sweep_temporaries();
        layout.lock_for_writing()
    }

    /// Opens an existing layout in order to change it.
    ///
    /// # Errors
    /// Fails as [`Layout::open`] does, and if the layout is locked or cannot be written.
    pub fn open_to_change(path: &Path, locking: LayoutLocking) -> Result<Layout> {
        let layout = Layout::at(Root::open(path)?, locking);
        layout.check_version()?;
        layout.lock_for_writing()
    }

    /// Opens an existing layout in order to collect its garbage.
    ///
    /// # Errors
    /// Fails as [`Layout::open`] does.
    pub fn open_to_collect(path: &Path, locking: LayoutLocking) -> Result<Layout> {
        let layout = Layout::at(Root::open(path)?, locking);
        layout.check_version()?;
        Ok(layout)
    }

    /// Keeps garbage collections out as long as the layout is open.
    fn lock_for_writing(mut self) -> Result<Layout> {
        if self.locking != LayoutLocking::Off {
            self.writing = Some(DirectoryLock::shared(&self.root.create_directory("blobs")?)?);
        }
        Ok(self)
    }

    /// Sets the record of verified blobs, which outlives this process.
    #[must_use]
    pub fn with_verification_cache(mut self, memory: VerifiedFiles) -> Self {
        self.memory = Some(memory);
        self
    }

    fn at(root: Root, locking: LayoutLocking) -> Layout {
        Layout { root, locking, known: Mutex::default(), memory: None, writing: None }
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
            for entry in
                directory.dir().entries().map_err(|error| Error::io(directory.path().display(), "read", error))?
            {
                let name = entry.map_err(|error| Error::io(directory.path().display(), "read", error))?.file_name();
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
        if self.memory.as_ref().and_then(|memory| memory.recall(blob.file())) == Some(descriptor.digest) {
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
        BlobWriter::start(self.blob_directory(Algorithm::Sha256)?, Algorithm::Sha256)
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

    /// Stores `content` as the blob of `descriptor`, if it matches.
    fn store(&self, descriptor: &Descriptor, content: &mut dyn Read) -> Result<()> {
        let algorithm = descriptor.digest.algorithm();
        let mut writer = BlobWriter::start(self.blob_directory(algorithm)?, algorithm)?;
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
    pub fn commit_without(
        &self,
        left_out: &RemoteLayers,
        image: &StoredImage,
        names: &[ImageName],
    ) -> Result<Vec<Replaced>> {
        if !self.contains(&image.descriptor)? {
            self.store(&image.descriptor, &mut &*image.manifest_bytes)?;
        }
        let mut listed: Vec<Descriptor> = match names {
            [] => vec![commit::listed(image, &ImageName::of_tag(&Tag::latest()), left_out)],
            names => names.iter().map(|name| commit::listed(image, name, left_out)).collect(),
        };
        listed.extend(image.referrers.iter().map(|referrer| referrer.listed.clone()));
        self.sync_blobs()?;
        let replaced = self.publish(&listed)?;
        self.check_place()?;
        Ok(replaced)
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

    /// Returns whether `oci-layout` exists.
    fn has_mark(&self) -> Result<bool> {
        match self.root.dir().symlink_metadata(LAYOUT_FILE) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::io(self.root.display(LAYOUT_FILE), "read", error)),
        }
    }

    /// Checks that the directory is empty, except for files of a `create` that was killed.
    fn check_empty(&self) -> Result<()> {
        let not_a_layout =
            || Error::invalid(self.display(), "not an OCI layout, and not empty").hint("choose another directory");
        let entries = self.root.dir().entries().map_err(|error| Error::io(self.display(), "read", error))?;
        for entry in entries {
            let name = entry.map_err(|error| Error::io(self.display(), "read", error))?.file_name();
            let is_ours = match name.to_str() {
                // Another process has created it in the meantime.
                Some(LOCK_FILE | LAYOUT_FILE) => true,
                Some(INDEX_FILE) => self.index_bytes()? == Index::empty().to_bytes(),
                Some("blobs") => self.holds_no_blob()?,
                Some(name) => is_temporary_name(name.as_ref()),
                None => false,
            };
            if !is_ours {
                let lost_its_mark = matches!(name.to_str(), Some(INDEX_FILE | "blobs"));
                return Err(if lost_its_mark {
                    Error::invalid(self.display(), format!("not an OCI layout: `{LAYOUT_FILE}` is missing"))
                } else {
                    not_a_layout()
                });
            }
        }
        Ok(())
    }

    fn holds_no_blob(&self) -> Result<bool> {
        let blobs = self.root.directory("blobs")?;
        let only = |root: &Root, allowed: &dyn Fn(&str) -> bool| -> Result<bool> {
            let entries = root.dir().entries().map_err(|error| Error::io(root.path().display(), "read", error))?;
            for entry in entries {
                let name = entry.map_err(|error| Error::io(root.path().display(), "read", error))?.file_name();
                if !name.to_str().is_some_and(allowed) {
                    return Ok(false);
                }
            }
            Ok(true)
        };
        if !only(&blobs, &|name| name == "sha256")? {
            return Ok(false);
        }
        match blobs.directory("sha256") {
            Ok(directory) => only(&directory, &|name| is_temporary_name(name.as_ref())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
            Err(error) => Err(error),
        }
    }

    fn initialise(&self) -> Result<()> {
        self.blob_directory(Algorithm::Sha256)?.sync()?;
        self.root.replace_file(INDEX_FILE, &Index::empty().to_bytes())?;
        self.root.replace_file(LAYOUT_FILE, VERSION_DOCUMENT)
    }

    fn check_version(&self) -> Result<()> {
        let object = self.root.display(LAYOUT_FILE);
        let not_a_layout = |reason: &str| Error::invalid(self.display(), format!("not an OCI layout: {reason}"));
        let document = match self.document(LAYOUT_FILE, 64 << 10) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(not_a_layout("`oci-layout` is missing")),
            read => read?,
        };
        check_version_document(&document, &object).map_err(|error| not_a_layout(&error.to_string()))
    }

    fn index_bytes(&self) -> Result<Vec<u8>> {
        self.document(INDEX_FILE, LARGEST_MANIFEST)
    }

    /// Reads a document of the layout. Other tools write it in place, so an empty one is read again for a moment.
    fn document(&self, name: &str, limit: u64) -> Result<Vec<u8>> {
        let until = Instant::now() + BEING_WRITTEN;
        loop {
            let bytes = bounded_read::read(self.root.open_file(name)?, limit, &self.root.display(name))?;
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

/// Checks that the layout has version 1.0.0.
pub(super) fn check_version_document(bytes: &[u8], object: &str) -> Result<()> {
    let document = json::parse(bytes, json::DOCUMENT_DEPTH, object)?;
    match json::string_at(&document, "imageLayoutVersion", object)? {
        Some("1.0.0") => Ok(()),
        Some(other) => Err(Error::invalid(object, format!("unsupported layout version {other}, expected 1.0.0"))),
        None => Err(Error::invalid(object, "has no layout version")),
    }
}

#[cfg(test)]
mod tests;
