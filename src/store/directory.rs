//! One image in a directory, in the format of skopeo's transport `dir:` (containers-transports(5)):
//!
//! ```text
//! d/
//!   version                "Directory Transport Version: 1.1"
//!   manifest.json          the manifest of the image, or the index of a multi-platform image
//!   <hex>                  a config or a layer, under its digest without the algorithm
//!   <hex>.manifest.json    a manifest that the index lists
//!   signature-1, …         signatures in a format of containers/image
//! ```
//!
//! A write stores the blobs first, then replaces `manifest.json` atomically, and then removes files of earlier images. So a
//! process that is killed leaves either the previous or the new image, and the next write removes the remaining files.

use super::{BlobSink, BlobSource, ImageName, Opener, StoredDocument, StoredImage, Verified};
use crate::common::bounded_read;
use crate::common::digest::Digest;
use crate::common::directory_lock::DirectoryLock;
use crate::common::error::{Error, ErrorKind, Result};
use crate::common::json;
use crate::common::limits::Limit;
use crate::common::root::{PathStatus, Root, is_temporary_name};
use crate::spec::{Descriptor, Platform, Replaced, media_type};
use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

const VERSION_FILE: &str = "version";
const VERSION: &[u8] = b"Directory Transport Version: 1.1\n";
/// The start of `version` in all versions with these file names.
const VERSION_START: &[u8] = b"Directory Transport Version: 1.";
const MANIFEST_FILE: &str = "manifest.json";

/// The maximum size of `version`, in bytes.
const LARGEST_VERSION: u64 = 1 << 10;

/// A `dir:` directory for reading.
#[derive(Debug)]
pub struct DirectoryImage {
    root: Root,
    /// The descriptor of `manifest.json`.
    start: Descriptor,
    bytes: Vec<u8>,
}

/// A `dir:` directory for writing.
#[derive(Debug)]
pub struct DirectoryWriter {
    root: Root,
    /// Held until the image is written.
    _lock: DirectoryLock,
}

/// Returns whether the directory at `path` contains an image of this format.
///
/// # Errors
/// Fails if the directory or its version cannot be read.
pub(super) fn is_image(path: &Path) -> Result<bool> {
    Ok(PathStatus::of(&path.join(MANIFEST_FILE))?.is_file()
        && version(&Root::open(path)?)?.is_some_and(|version| is_known(&version)))
}

impl DirectoryImage {
    /// Opens the directory and reads `manifest.json`.
    ///
    /// # Errors
    /// Fails if the file is missing, larger than 8 MiB or not JSON, or `version` names an unknown version.
    pub fn open(path: &Path) -> Result<Self> {
        let root = Root::open(path)?;
        // skopeo also accepts a directory without it.
        if version(&root)?.is_some_and(|version| !is_known(&version)) {
            return Err(Error::invalid(root.display(VERSION_FILE), "unsupported version of `dir:`"));
        }
        let object = root.display(MANIFEST_FILE);
        let file = root.open_file(MANIFEST_FILE).map_err(|error| match error.kind() {
            ErrorKind::NotFound => {
                Error::invalid(root.path().display().to_string(), "not a `dir:` image: `manifest.json` is missing")
            }
            _ => error,
        })?;
        let bytes = bounded_read::read(file, Limit::DocumentSize, &object)?;
        let document = json::parse(&bytes, json::DOCUMENT_DEPTH, &object)?;
        let media_type = match json::string_at(&document, "mediaType", &object)? {
            Some(found) => found,
            None if document.get("manifests").is_some() => media_type::INDEX,
            None => media_type::MANIFEST,
        };
        Ok(DirectoryImage { start: Descriptor::of(media_type, &bytes), root, bytes })
    }

    /// Opens the image; `platform` selects one of a multi-platform image.
    ///
    /// # Errors
    /// Fails if a document is missing, damaged or malformed, or the image is for another platform.
    pub fn image(self: &Arc<Self>, platform: Option<&Platform>) -> Result<StoredImage> {
        let object = self.root.path().display().to_string();
        let image = StoredImage::open(self.clone(), &self.start, platform, &object)?;
        let signatures = names(&self.root)?.iter().filter(|name| is_signature(name)).count();
        let warnings = match signatures {
            0 => Vec::new(),
            _ => vec![format!("{object}: its `signature-N` files are not copied")],
        };
        Ok(StoredImage { warnings, ..image })
    }
}

impl DirectoryImage {
    /// Reads `manifest.json`, without choosing a platform.
    ///
    /// # Errors
    /// Fails if a document is missing, damaged or malformed.
    pub fn open_document(self: &Arc<Self>) -> Result<StoredDocument> {
        StoredDocument::read(self.clone(), self.start.clone(), None, &self.root.path().display().to_string())
    }
}

impl BlobSource for DirectoryImage {
    fn open(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send + '_>> {
        if descriptor.digest == self.start.digest {
            return Ok(Box::new(&self.bytes[..]));
        }
        let hex = descriptor.digest.hex();
        let name = if is_document(descriptor) { format!("{hex}.{MANIFEST_FILE}") } else { hex };
        let missing = |error: Error| match error.kind() {
            ErrorKind::NotFound => {
                let object = format!("{}: blob {}", self.root.path().display(), descriptor.digest);
                Error::new(ErrorKind::NotFound, object, "missing").about_blob(&descriptor.digest)
            }
            _ => error,
        };
        Ok(Box::new(self.root.open_file(name).map_err(missing)?))
    }
}

impl DirectoryWriter {
    /// Opens a directory that is missing, empty, or contains an image of this format.
    ///
    /// # Errors
    /// Fails if it contains anything else, another process is writing to it, or it cannot be written.
    pub fn create(path: &Path) -> Result<Self> {
        let root = Root::create(path)?;
        // Two concurrent writers would remove each other's blobs.
        let lock = DirectoryLock::of(&root)?;
        match version(&root)? {
            Some(version) if is_known(&version) => {}
            None if names(&root)?.iter().all(|name| is_temporary_name(name.as_ref())) => {
                root.replace_file(VERSION_FILE, VERSION)?;
            }
            _ => {
                return Err(Error::invalid(path.display().to_string(), "neither a `dir:` image nor empty")
                    .hint("choose another directory"));
            }
        }
        root.sweep_temporaries();
        Ok(DirectoryWriter { root, _lock: lock })
    }

    /// Removes the files of all images but `image`. Other files stay.
    fn remove_others(&self, image: &StoredImage) -> Result<()> {
        let kept: BTreeSet<String> = image.manifest.blobs().map(|blob| blob.digest.hex()).collect();
        for name in names(&self.root)? {
            let instance = name.strip_suffix(&format!(".{MANIFEST_FILE}")).is_some_and(is_hex);
            if !kept.contains(&name) && (is_hex(&name) || instance || is_signature(&name)) {
                self.root.remove_tree(&name)?;
            }
        }
        Ok(())
    }
}

impl BlobSink for DirectoryWriter {
    fn transfers(&self) -> usize {
        4
    }

    fn contains(&self, descriptor: &Descriptor) -> Result<bool> {
        match self.root.open_file(descriptor.digest.hex()) {
            Ok(file) => Ok(io::copy(&mut Verified::new(file, descriptor), &mut io::sink()).is_ok()),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Invalid) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn put(&self, descriptor: &Descriptor, open: &Opener<'_>) -> Result<()> {
        let name = descriptor.digest.hex();
        let mut temporary = self.root.temporary()?;
        bounded_read::for_each_piece(Verified::new(open()?, descriptor), "blob", |piece| {
            temporary.write_all(piece).map_err(|error| self.root.failed(&name, "write", error))
        })?;
        temporary.persist(name).map(|_| ())
    }

    /// Commits the image without its names, which the format cannot store.
    fn commit(&self, image: &StoredImage, _: &[ImageName]) -> Result<Vec<Replaced>> {
        self.root.sync()?;
        self.root.replace_file(MANIFEST_FILE, &image.manifest_bytes)?;
        self.remove_others(image)?;
        Ok(Vec::new())
    }
}

fn is_document(descriptor: &Descriptor) -> bool {
    media_type::is_manifest(&descriptor.media_type) || media_type::is_index(&descriptor.media_type)
}

/// Reads `version`, if the file exists.
fn version(root: &Root) -> Result<Option<Vec<u8>>> {
    match root.open_file(VERSION_FILE) {
        Ok(file) => bounded_read::read(file, LARGEST_VERSION, &root.display(VERSION_FILE)).map(Some),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_known(version: &[u8]) -> bool {
    version.starts_with(VERSION_START)
}

fn names(root: &Root) -> Result<Vec<String>> {
    let failed = |error| Error::file(root.path(), "read", error);
    let entries = root.dir().entries().map_err(failed)?;
    entries.map(|entry| Ok(entry.map_err(failed)?.file_name().to_string_lossy().into_owned())).collect()
}

/// Returns whether the name is a digest without its algorithm.
fn is_hex(name: &str) -> bool {
    let is_digest = |algorithm: &str| format!("{algorithm}:{name}").parse::<Digest>().is_ok();
    is_digest("sha256") || is_digest("sha512")
}

/// Returns whether the name is `signature-N` or `<hex>.signature-N`.
fn is_signature(name: &str) -> bool {
    let name = match name.split_once('.') {
        Some((hex, rest)) if is_hex(hex) => rest,
        _ => name,
    };
    name.strip_prefix("signature-")
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_the_format_are_removed() {
        let hex = "a".repeat(64);
        assert!(is_hex(&hex) && is_hex(&"0".repeat(128)));
        assert!(is_signature("signature-1") && is_signature(&format!("{hex}.signature-12")));
        for other in ["signature-", "signature-x", "notes.signature-1", "README", &hex[1..], &hex.to_uppercase()] {
            assert!(!is_hex(other) && !is_signature(other), "{other}");
        }
    }
}
