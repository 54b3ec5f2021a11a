//! One image into one tar, byte for byte the same every time.
//!
//! The Docker form is a dual one: an image layout together with a `manifest.json` that lists the same blobs. It is the
//! one file that podman, Docker old and new, containerd and skopeo all read.

use super::OciArchive;
use super::members::LIST_FILE;
use crate::codec::tar;
use crate::common::error::{Error, Result};
use crate::common::json;
use crate::common::progress::Progress;
use crate::spec::{CONTAINERD_NAME, Descriptor, Index, REF_NAME, Replaced};
use crate::store::layout::{INDEX_FILE, LAYOUT_FILE};
use crate::store::select_image::{MissingPlatform, reachable};
use crate::store::stored_image::note_origin;
use crate::store::{BlobSink, ImageName, Opener, StoredImage, StoredIndex, Verified, copy_blobs};
use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Which readers the archive is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveForm {
    /// `oci-archive`: an image layout.
    Oci,
    /// `docker-archive`: an image layout that Docker's own format names, too.
    Docker,
}

/// Writes an archive, blob after blob.
#[derive(Debug)]
pub struct ArchiveWriter<W> {
    form: ArchiveForm,
    state: Mutex<ArchiveState<W>>,
}

#[derive(Debug)]
struct ArchiveState<W> {
    output: W,
    object: String,
    written: BTreeSet<String>,
    /// The other images that the archive lists.
    kept: Index,
}

impl<W: Write + Send> ArchiveWriter<W> {
    /// Starts an archive in `output`, which messages call `object`.
    pub fn new(output: W, form: ArchiveForm, object: impl Into<String>) -> Self {
        let state = ArchiveState { output, object: object.into(), written: BTreeSet::new(), kept: Index::empty() };
        ArchiveWriter { form, state: Mutex::new(state) }
    }

    /// Copies the content of `archive`, except for the images that have one of `names`. Returns these.
    ///
    /// # Errors
    /// Fails if a document of `archive` is missing, damaged or malformed, or a blob is not what its descriptor says.
    pub fn keep(&self, archive: &OciArchive, names: &[ImageName], progress: &dyn Progress) -> Result<Vec<Replaced>> {
        let name_of = |listed: &Descriptor| ImageName::of_annotations(&listed.annotations);
        let is_replaced = |listed: &Descriptor| match name_of(listed) {
            Some(name) => names.contains(&name),
            None => names.is_empty() && listed.artifact_type.is_none(),
        };
        let mut index = archive.index().clone();
        let named = index.manifests().iter().filter(|listed| is_replaced(listed));
        let lost =
            |listed: &Descriptor| Some(Replaced { name: name_of(listed)?, image: listed.clone(), unneeded: None });
        let replaced = named.filter_map(lost).collect();
        index.retain(|listed| !is_replaced(listed));
        for listed in index.manifests() {
            copy_blobs(
                archive,
                &reachable(archive, listed, MissingPlatform::Fails, archive.object())?,
                self,
                progress,
            )?;
        }
        self.state().kept = index;
        Ok(replaced)
    }

    /// Returns the output. The archive is complete if the image was committed before.
    pub fn finish(self) -> W {
        self.state.into_inner().unwrap_or_else(PoisonError::into_inner).output
    }

    fn state(&self) -> MutexGuard<'_, ArchiveState<W>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W: Write> ArchiveState<W> {
    fn file(&mut self, path: &str, size: u64, content: &mut dyn Read) -> Result<()> {
        for (slash, _) in path.match_indices('/') {
            self.directory(&path[..slash])?;
        }
        self.header(path, tar::EntryType::File, 0o644, size)?;
        let copied = io::copy(&mut content.take(size), &mut self.output)
            .map_err(|error| Error::io(&self.object, "write", error))?;
        if copied != size {
            return Err(Error::corrupt(path, format!("expected {size} bytes, found {copied}")));
        }
        let padding = [0; tar::BLOCK as usize];
        self.write(&padding[..tar::padding(size) as usize])?;
        self.written.insert(path.to_owned());
        Ok(())
    }

    /// Writes a manifest or an index as a blob. The same one may be kept under another name.
    fn document(&mut self, descriptor: &Descriptor, bytes: &[u8]) -> Result<()> {
        let path = blob_path(descriptor);
        if self.written.contains(&path) {
            return Ok(());
        }
        self.file(&path, bytes.len() as u64, &mut &bytes[..])
    }

    /// Writes what comes after the blobs.
    fn complete(&mut self, index: &Index, docker_list: Option<&[u8]>) -> Result<Vec<Replaced>> {
        let index = index.to_bytes();
        self.file(INDEX_FILE, index.len() as u64, &mut &index[..])?;
        if let Some(list) = docker_list {
            self.file(LIST_FILE, list.len() as u64, &mut &list[..])?;
        }
        let version = br#"{"imageLayoutVersion":"1.0.0"}"#;
        self.file(LAYOUT_FILE, version.len() as u64, &mut &version[..])?;
        self.write(&tar::END)?;
        self.output.flush().map_err(|error| Error::io(&self.object, "write", error))?;
        Ok(Vec::new())
    }

    fn directory(&mut self, path: &str) -> Result<()> {
        if !self.written.insert(path.to_owned()) {
            return Ok(());
        }
        self.header(path, tar::EntryType::Directory, 0o755, 0)
    }

    fn header(&mut self, path: &str, kind: tar::EntryType, mode: u32, size: u64) -> Result<()> {
        let mut bytes = Vec::new();
        let path = path.as_bytes();
        tar::append(
            &tar::Header { path, kind, mode, uid: 0, gid: 0, size, mtime: 0, link: b"", xattrs: &[], device: (0, 0) },
            &mut bytes,
        );
        self.write(&bytes)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.output.write_all(bytes).map_err(|error| Error::io(&self.object, "write", error))
    }
}

fn blob_path(descriptor: &Descriptor) -> String {
    format!("blobs/{}/{}", descriptor.digest.algorithm().name(), descriptor.digest.hex())
}

impl<W: Write + Send> BlobSink for ArchiveWriter<W> {
    fn takes_referrer(&self, _: &Descriptor) -> bool {
        true
    }

    fn transfers(&self) -> usize {
        1
    }

    fn contains(&self, descriptor: &Descriptor) -> Result<bool> {
        Ok(self.state().written.contains(&blob_path(descriptor)))
    }

    fn put(&self, descriptor: &Descriptor, open: &Opener<'_>) -> Result<()> {
        let mut verified = Verified::new(open()?, descriptor);
        self.state().file(&blob_path(descriptor), descriptor.size, &mut verified)?;
        // The digest is compared when the end is read, and not before.
        io::copy(&mut verified, &mut io::sink()).map(|_| ()).map_err(|error| Error::io("archive", "read", error))
    }

    fn commit(&self, image: &StoredImage, names: &[ImageName]) -> Result<Vec<Replaced>> {
        let mut state = self.state();
        let described = &image.descriptor;
        let mut descriptor = Descriptor::new(&described.media_type, described.digest, described.size);
        descriptor.platform = Some(image.config.platform().clone());
        let descriptor = image.note_origin(descriptor);
        let mut index = index_of(state.kept.clone(), &descriptor, names, self.form);
        index.put(&image.referrers.iter().map(|referrer| referrer.listed.clone()).collect::<Vec<_>>());
        state.document(described, &image.manifest_bytes)?;
        let list = (self.form == ArchiveForm::Docker).then(|| docker_list(image, names));
        state.complete(&index, list.as_deref())
    }

    fn commit_index(&self, index: &StoredIndex, names: &[ImageName]) -> Result<Vec<Replaced>> {
        if self.form == ArchiveForm::Docker {
            return Err(Error::usage("docker-archive", "holds one platform")
                .hint("--platform selects one; oci-archive:FILE holds several"));
        }
        let mut state = self.state();
        let descriptor = note_origin(index.descriptor.clone(), index.origin.as_ref());
        let list = index_of(state.kept.clone(), &descriptor, names, self.form);
        state.document(&index.descriptor, &index.bytes)?;
        state.complete(&list, None)
    }
}

/// Returns `index` with an image. In the Docker form a tag alone comes with the name that `manifest.json` makes of it, so that
/// both kinds of readers show the same.
fn index_of(mut index: Index, descriptor: &Descriptor, names: &[ImageName], form: ArchiveForm) -> Index {
    let tagged = |name: &ImageName| {
        let tagged = descriptor.clone().annotated(REF_NAME, name.tag());
        let full = match form {
            ArchiveForm::Oci => name.reference().cloned(),
            ArchiveForm::Docker => name.for_engines(),
        };
        match full {
            Some(reference) => tagged.annotated(CONTAINERD_NAME, reference.to_string()),
            None => tagged,
        }
    };
    match names {
        [] => index.put(std::slice::from_ref(descriptor)),
        names => index.put(&names.iter().map(tagged).collect::<Vec<_>>()),
    };
    index
}

/// Returns Docker's `manifest.json`. Names there have a repository, which a tag alone gets as `docker build --tag` gives it.
fn docker_list(image: &StoredImage, names: &[ImageName]) -> Vec<u8> {
    let references: Vec<String> =
        names.iter().filter_map(ImageName::for_engines).map(|name| name.to_string()).collect();
    let layers: Vec<String> = image.manifest.layers.iter().map(blob_path).collect();
    let mut listed = serde_json::json!({"Config": blob_path(&image.manifest.config), "Layers": layers});
    listed["RepoTags"] = if references.is_empty() { serde_json::Value::Null } else { references.into() };
    json::canonical(&serde_json::json!([listed]))
}
