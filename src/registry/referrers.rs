//! Artifacts about an image in a registry (distribution-spec, "Pushing Manifests with Subject").
//!
//! A registry that lists referrers says so by `OCI-Subject`. In another one the client keeps the list: an image index under the
//! tag `sha256-<hex>` of the subject.

use super::Repository;
use crate::common::bounded_read;
use crate::common::digest::Digest;
use crate::common::error::{Error, ErrorKind, Result};
use crate::common::json;
use crate::common::limits::Limit;
use crate::spec::reference::Tag;
use crate::spec::{Artifact, Descriptor, Index, media_type};
use crate::store::{Opener, Verified};
use serde_json::Value;

/// How much of the hexadecimal digits of a digest the tag holds.
const LONGEST_ENCODED: usize = 64;

impl Repository {
    /// Stores the manifest of an artifact under its digest, and lists it as a referrer of its subject.
    ///
    /// # Errors
    /// Fails if the manifest is not what `descriptor` says, the registry refuses it, or the list cannot be read or written.
    pub(super) fn put_artifact(&self, descriptor: &Descriptor, open: &Opener<'_>) -> Result<()> {
        let object = format!("{}@{}", self.reference().clone().without_tag().without_digest(), descriptor.digest);
        let bytes = bounded_read::read(Verified::new(open()?, descriptor), Limit::DocumentSize, &object)?;
        let artifact = Artifact::read(&bytes, &descriptor.media_type, &object)?;
        let repository = self.reference().repository();
        let is_listed = self.registry().put_manifest(repository, descriptor, &bytes, &descriptor.digest.to_string())?;
        let Some(Artifact { artifact_type, subject: Some(subject), .. }) = artifact else { return Ok(()) };
        if is_listed {
            return Ok(());
        }
        let mut listed = Descriptor::new(&descriptor.media_type, descriptor.digest, descriptor.size);
        listed.artifact_type = Some(artifact_type);
        let document = json::parse(&bytes, json::DOCUMENT_DEPTH, &object)?;
        for (key, value) in json::object_at(&document, "annotations", &object)?.into_iter().flatten() {
            if let Some(text) = value.as_str() {
                listed = listed.annotated(key, text);
            }
        }
        self.list(&listed, &subject.digest)
    }

    /// Adds `listed` to the list under the tag of `subject`.
    fn list(&self, listed: &Descriptor, subject: &Digest) -> Result<()> {
        let tag = tag_of(subject)?;
        let before = match self.tagged(&tag) {
            Err(error) if error.kind() == ErrorKind::NotFound => Index::empty().to_bytes(),
            document => document?.bytes,
        };
        let object = format!("{}:{tag}", self.reference().clone().without_tag().without_digest());
        let index = Index::read(&before, media_type::INDEX, &object)
            .map_err(|error| error.hint("the tag is for the list of referrers"))?;
        if index.manifests().iter().any(|known| known.digest == listed.digest) {
            return Ok(());
        }
        let mut document = json::parse(&before, json::DOCUMENT_DEPTH, &object)?;
        match document.get_mut("manifests").and_then(Value::as_array_mut) {
            Some(manifests) => manifests.push(listed.to_json()),
            None => return Err(Error::invalid(object, "an index without `manifests`")),
        }
        let after = json::canonical(&document);
        self.put_tagged(&tag, &Descriptor::of(media_type::INDEX, &after), &after)
    }
}

/// The tag of the list of referrers (distribution-spec, "Referrers Tag Schema").
fn tag_of(subject: &Digest) -> Result<Tag> {
    let encoded: String = subject.hex().chars().take(LONGEST_ENCODED).collect();
    format!("{}-{encoded}", subject.algorithm().name()).parse()
}
