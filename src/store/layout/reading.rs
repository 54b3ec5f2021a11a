//! Reading a layout for a long time, while other processes change it.

use super::{INDEX_FILE, Layout};
use crate::common::digest::Digest;
use crate::common::directory_lock::DirectoryLock;
use crate::common::error::{Error, ErrorKind, Result};
use crate::common::json;
use crate::common::limits::Limit;
use crate::spec::{Artifact, Descriptor, Index, media_type};
use crate::store::read_document;
use crate::store::select_image::{artifact, is_plainly_image};
use cap_fs_ext::MetadataExt as _;
use serde_json::Value;
use std::fs::File;
use std::time::{Duration, SystemTime};

/// For so long after a change, the clock of a file system may give the next change the same time.
const CLOCK_STEP: Duration = Duration::from_millis(100);

/// The longest time to wait for a garbage collection.
const COLLECTION: Duration = Duration::from_secs(10);

/// The state of a layout's index at one moment. A changed index has another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IndexStamp {
    inode: u64,
    size: u64,
    modified: Option<SystemTime>,
}

impl IndexStamp {
    /// Returns whether the index may change again without getting another stamp.
    fn is_recent(&self, now: SystemTime) -> bool {
        let age = self.modified.and_then(|modified| now.duration_since(modified).ok());
        age.is_none_or(|age| age < CLOCK_STEP)
    }
}

/// A manifest or index by its digest.
#[derive(Debug, Clone)]
pub(crate) struct StoredManifest {
    /// Its type, digest and size.
    pub(crate) descriptor: Descriptor,
    /// Its verified bytes.
    pub(crate) bytes: Vec<u8>,
}

impl Layout {
    /// Returns the index and its stamp, or `None` if the index still has the stamp `seen`.
    ///
    /// `now` is the time of the file system: an index that has just changed has no stamp.
    ///
    /// # Errors
    /// Fails as [`Layout::index`] does.
    pub(crate) fn index_since(
        &self,
        seen: Option<&IndexStamp>,
        now: SystemTime,
    ) -> Result<Option<(Index, Option<IndexStamp>)>> {
        let (_, metadata) = self.root.open_described_file(INDEX_FILE)?;
        let stamp = IndexStamp {
            inode: metadata.ino(),
            size: metadata.len(),
            modified: metadata.modified().ok().map(cap_std::time::SystemTime::into_std),
        };
        if seen == Some(&stamp) {
            return Ok(None);
        }
        let index = self.index()?;
        Ok(Some((index, Some(stamp).filter(|stamp| !stamp.is_recent(now)))))
    }

    /// Opens the file of a blob, if the layout has it. Its content is not verified.
    ///
    /// # Errors
    /// Fails if the file system cannot be read.
    pub(crate) fn blob_file(&self, digest: &Digest) -> Result<Option<File>> {
        let Some(directory) = self.find_blob_directory(digest.algorithm())? else { return Ok(None) };
        match directory.open_file(digest.hex()) {
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Invalid) => Ok(None),
            opened => opened.map(Some),
        }
    }

    /// Reads the manifest or index with `digest`, if the layout has it. A document that is not listed in `index` needs to say
    /// itself that it is a manifest or an index.
    ///
    /// # Errors
    /// Fails if the blob is larger than 8 MiB, does not match its digest, or cannot be read.
    pub(crate) fn manifest_document(&self, index: &Index, digest: &Digest) -> Result<Option<StoredManifest>> {
        let listed = index.manifests().iter().find(|listed| listed.digest == *digest);
        let Some(file) = self.blob_file(digest)? else { return Ok(None) };
        let size = file.metadata().map_err(|error| Error::io(self.display(), "read", error))?.len();
        let mut descriptor = Descriptor::new("", *digest, size);
        let bytes = read_document(self, &descriptor, Limit::DocumentSize)?;
        let own_type = type_of(&bytes);
        let Some(media_type) = own_type.or_else(|| listed.map(|listed| listed.media_type.clone())) else {
            return Ok(None);
        };
        descriptor.media_type = media_type;
        Ok(Some(StoredManifest { descriptor, bytes }))
    }

    /// Returns the entries of `index` that are about the manifest `subject`, sorted by digest.
    ///
    /// # Errors
    /// Fails if the system fails to read a manifest. Malformed ones are passed over.
    pub(crate) fn referrers_of(&self, index: &Index, subject: &Digest) -> Result<Vec<Descriptor>> {
        let mut found: Vec<Descriptor> = Vec::new();
        for listed in index.manifests().iter().filter(|listed| !is_plainly_image(listed)) {
            let Some(Artifact { subject: Some(about), .. }) = artifact(self, listed)? else { continue };
            if about.digest == *subject {
                found.push(listed.clone());
            }
        }
        found.sort_by_key(|listed| listed.digest);
        found.dedup_by_key(|listed| listed.digest);
        Ok(found)
    }

    /// Returns an entry as the referrers API describes it: with the artifact type and the annotations of its manifest
    /// (distribution-spec, "Listing Referrers").
    ///
    /// # Errors
    /// Fails if the manifest is missing, damaged or malformed.
    pub(crate) fn describe_referrer(&self, listed: &Descriptor) -> Result<Descriptor> {
        let object = self.display();
        let bytes = read_document(self, listed, Limit::DocumentSize)?;
        let artifact_type = Artifact::read(&bytes, &listed.media_type, &object)?.map(|artifact| artifact.artifact_type);
        let document = json::parse(&bytes, json::DOCUMENT_DEPTH, &object)?;
        let mut described = Descriptor::new(&listed.media_type, listed.digest, listed.size);
        described.artifact_type = artifact_type.filter(|artifact_type| !artifact_type.is_empty());
        let annotations = json::object_at(&document, "annotations", &object)?;
        for (key, value) in annotations.into_iter().flatten() {
            if let Some(value) = value.as_str() {
                described = described.annotated(key, value);
            }
        }
        Ok(described)
    }

    /// Keeps garbage collections out until the lock is dropped, so that an image that is being read keeps its blobs.
    ///
    /// # Errors
    /// Fails if a garbage collection is running and does not end in time.
    pub(crate) fn hold_blobs(&self) -> Result<DirectoryLock> {
        let lock = DirectoryLock::shared_within(COLLECTION, &self.root.directory("blobs")?)?;
        lock.ok_or_else(|| Error::new(ErrorKind::Locked, self.display(), "`ocibuild gc` is removing blobs from it"))
    }
}

/// Returns the type that a manifest or index gives itself, by its `mediaType` or by its members.
fn type_of(bytes: &[u8]) -> Option<String> {
    let document = json::parse(bytes, json::DOCUMENT_DEPTH, "manifest").ok()?;
    let own = document.get("mediaType").and_then(Value::as_str);
    let inferred = || match document.get("schemaVersion").and_then(Value::as_u64)? {
        2 if document.get("manifests").is_some() => Some(media_type::INDEX),
        2 if document.get("config").is_some() => Some(media_type::MANIFEST),
        _ => None,
    };
    let own = own.filter(|own| media_type::refers_to_blobs(own));
    own.or_else(inferred).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_manifests_and_indexes_have_a_type() {
        let found = |text: &str| type_of(text.as_bytes());
        assert_eq!(found(r#"{"schemaVersion":2,"manifests":[]}"#).as_deref(), Some(media_type::INDEX));
        assert_eq!(found(r#"{"schemaVersion":2,"config":{},"layers":[]}"#).as_deref(), Some(media_type::MANIFEST));
        let docker = format!(r#"{{"mediaType":"{}"}}"#, media_type::DOCKER_MANIFEST);
        assert_eq!(found(&docker).as_deref(), Some(media_type::DOCKER_MANIFEST));
        for other in [r#"{"architecture":"amd64","rootfs":{}}"#, r#"{"mediaType":"text/html"}"#, "x", ""] {
            assert_eq!(found(other), None, "{other}");
        }
    }

    #[test]
    fn an_index_that_has_just_changed_has_no_stamp() {
        let scratch = tempfile::tempdir().unwrap();
        let layout = Layout::create(scratch.path()).unwrap();
        let now = SystemTime::now();
        let (_, stamp) = layout.index_since(None, now).unwrap().unwrap();
        assert_eq!(stamp, None);
        let (_, stamp) = layout.index_since(None, now + Duration::from_secs(60)).unwrap().unwrap();
        assert!(stamp.is_some());
        assert!(layout.index_since(stamp.as_ref(), now).unwrap().is_none());
    }
}
