//! Where signatures are: under a tag beside the image that is made of its digest, as cosign and skopeo put them; and kept in the
//! cache directory, for bases that are used without a network.

use super::signature::Signature;
use crate::bounded;
use crate::digest::Digest;
use crate::error::{ErrorKind, Result};
use crate::json;
use crate::root::Root;
use crate::spec::{Descriptor, LARGEST_MANIFEST, Manifest, REF_NAME};
use crate::store::registry::Repository;
use crate::store::{BlobSource, Layout, read_document};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// What a signed document is.
const PAYLOAD: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

/// The annotation of such a document that holds the signature.
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";

/// How many signatures of one image are looked at.
const MOST_SIGNATURES: usize = 100;

/// The largest signed document that is read, and the largest file of kept ones, in bytes.
const LARGEST: u64 = 1 << 20;

/// Where kept signatures are, below the cache directory.
const KEPT: &str = "signatures";

fn tag_of(digest: &Digest) -> String {
    format!("{}-{}.sig", digest.algorithm().name(), digest.hex())
}

/// The signatures of the manifest `digest` that are in a repository beside it.
///
/// # Errors
/// When the registry cannot be asked, or what is under the tag is no list of signatures.
pub fn attached_in_repository(repository: &Repository, digest: &Digest) -> Result<Vec<Signature>> {
    let document = match repository.tagged(&tag_of(digest).parse()?) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        document => document?,
    };
    let object = format!("signatures of {digest}");
    listed(repository, &Manifest::read(&document.bytes, &document.descriptor.media_type, &object)?)
}

/// The signatures of the manifest `digest` that are in a layout beside it.
///
/// # Errors
/// When the layout cannot be read, or what has the tag is no list of signatures.
pub fn attached_in_layout(layout: &Layout, digest: &Digest) -> Result<Vec<Signature>> {
    let (index, tag) = (layout.index()?, tag_of(digest));
    let has_tag = |listed: &&Descriptor| {
        let name = listed.annotations.get(REF_NAME);
        name.is_some_and(|name| *name == tag || name.ends_with(&format!(":{tag}")))
    };
    let Some(found) = index.manifests().iter().find(has_tag) else { return Ok(Vec::new()) };
    let bytes = read_document(layout, found, LARGEST_MANIFEST)?;
    listed(layout, &Manifest::read(&bytes, &found.media_type, &format!("signatures of {digest}"))?)
}

fn listed(source: &dyn BlobSource, manifest: &Manifest) -> Result<Vec<Signature>> {
    let mut signatures = Vec::new();
    for payload in manifest.layers.iter().filter(|layer| layer.media_type == PAYLOAD).take(MOST_SIGNATURES) {
        let signature = payload.annotations.get(SIGNATURE).and_then(|text| STANDARD.decode(text).ok());
        let Some(signature) = signature else { continue };
        signatures.push(Signature { payload: read_document(source, payload, LARGEST)?, signature });
    }
    Ok(signatures)
}

/// Keeps the signatures of the manifest `digest` in the cache directory. They prove nothing there: they are checked again.
///
/// # Errors
/// When they cannot be written.
pub fn keep(cache_directory: &Root, digest: &Digest, signatures: &[Signature]) -> Result<()> {
    let listed: Vec<Value> = signatures
        .iter()
        .map(|kept| json!({"payload": STANDARD.encode(&kept.payload), "signature": STANDARD.encode(&kept.signature)}))
        .collect();
    let directory = cache_directory.create_directory(KEPT)?.create_directory("v1")?;
    directory.replace_file(digest.hex(), &json::canonical(&json!(listed)))
}

/// The signatures of the manifest `digest` that are kept in the cache directory. An unreadable file counts as no signatures.
pub fn kept(cache_directory: &Root, digest: &Digest) -> Vec<Signature> {
    let read = || -> Result<Vec<u8>> {
        let file = cache_directory.directory(KEPT)?.directory("v1")?.open_file(digest.hex())?;
        bounded::read(file, LARGEST, KEPT)
    };
    let document = read().and_then(|bytes| json::parse(&bytes, json::DOCUMENT_DEPTH, KEPT)).unwrap_or_default();
    let text =
        |kept: &Value, key: &str| kept.get(key).and_then(Value::as_str).and_then(|text| STANDARD.decode(text).ok());
    let signature =
        |kept: &Value| Some(Signature { payload: text(kept, "payload")?, signature: text(kept, "signature")? });
    document.as_array().into_iter().flatten().filter_map(signature).collect()
}
