//! Lookup of signatures: under a tag derived from the digest of the image, as written by cosign and skopeo; in files of a
//! `dir:` directory; and kept in the cache directory, for bases that are used without a network.

use super::signature::Signature;
use crate::common::bounded_read;
use crate::common::digest::Digest;
use crate::common::error::{Error, ErrorKind, Result};
use crate::common::json;
use crate::common::limits::Limit;
use crate::common::root::Root;
use crate::registry::Repository;
use crate::spec::{Descriptor, Manifest, REF_NAME};
use crate::store::{BlobSource, Layout, read_document};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// The media type of a signed document.
const PAYLOAD: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

/// The annotation of such a document that contains the signature.
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";

/// The start of a sigstore signature in a `dir:` directory. Its document follows.
const SIGSTORE_FILE: &[u8] = b"\0sigstore-json\n";

/// The largest signature in a `dir:` directory, in bytes. Its document is in Base64, and can include certificates.
const LARGEST_SIGNATURE_FILE: u64 = 256 << 10;

/// The maximum number of signatures per image that are checked.
const MOST_SIGNATURES: usize = 100;

/// The largest signed document that is read, in bytes. Most have some hundred.
const LARGEST: u64 = 64 << 10;

/// The largest file of kept signatures, in bytes: the most of the largest, in Base64.
const LARGEST_FILE: u64 = 16 << 20;

/// The directory of stored signatures in the cache. Each file is named after the signed digest.
pub const KEPT: &str = "signatures/v1";

fn tag_of(digest: &Digest) -> String {
    format!("{}-{}.sig", digest.algorithm().name(), digest.hex())
}

/// Returns the signatures of the manifest `digest` in its repository.
///
/// # Errors
/// Fails if the registry request fails, or the tag does not refer to a list of signatures.
pub fn attached_in_repository(repository: &Repository, digest: &Digest) -> Result<Vec<Signature>> {
    let document = match repository.tagged(&tag_of(digest).parse()?) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        document => document?,
    };
    let object = format!("signatures of {digest}");
    listed(repository, &Manifest::read(&document.bytes, &document.descriptor.media_type, &object)?, &object)
}

/// Returns the signatures of the manifest `digest` in its layout.
///
/// # Errors
/// Fails if the layout cannot be read, or the tag does not refer to a list of signatures.
pub fn attached_in_layout(layout: &Layout, digest: &Digest) -> Result<Vec<Signature>> {
    let (index, tag) = (layout.index()?, tag_of(digest));
    let has_tag = |listed: &&Descriptor| {
        let name = listed.annotations.get(REF_NAME);
        name.is_some_and(|name| *name == tag || name.ends_with(&format!(":{tag}")))
    };
    let Some(found) = index.manifests().iter().find(has_tag) else { return Ok(Vec::new()) };
    let bytes = read_document(layout, found, Limit::DocumentSize)?;
    let object = format!("signatures of {digest}");
    listed(layout, &Manifest::read(&bytes, &found.media_type, &object)?, &object)
}

/// Reads the sigstore signatures of the manifest `digest` in a `dir:` directory. Signatures in other formats are ignored.
///
/// # Errors
/// Fails if a file cannot be read, is larger than 256 KiB, or is malformed.
pub fn attached_in_directory(directory: &Root, digest: &Digest) -> Result<Vec<Signature>> {
    let mut signatures = Vec::new();
    // The second prefix is for manifests that an index lists.
    for prefix in [String::new(), format!("{}.", digest.hex())] {
        for number in 1..=MOST_SIGNATURES {
            let name = format!("{prefix}signature-{number}");
            let file = match directory.open_file(&name) {
                Err(error) if error.kind() == ErrorKind::NotFound => break,
                file => file?,
            };
            let object = directory.display(&name);
            signatures.extend(sigstore_in(&bounded_read::read(file, LARGEST_SIGNATURE_FILE, &object)?, &object)?);
        }
    }
    Ok(signatures)
}

fn sigstore_in(bytes: &[u8], object: &str) -> Result<Option<Signature>> {
    let Some(document) = bytes.strip_prefix(SIGSTORE_FILE) else { return Ok(None) };
    let document = json::parse(document, json::DOCUMENT_DEPTH, object)?;
    if json::string_at(&document, "mimeType", object)? != Some(PAYLOAD) {
        return Ok(None);
    }
    let decoded = |text: Option<&str>| text.and_then(|text| STANDARD.decode(text).ok());
    let payload = decoded(json::string_at(&document, "payload", object)?);
    let signature = decoded(document.pointer("/annotations").and_then(|map| map.get(SIGNATURE)?.as_str()));
    match (payload, signature) {
        (Some(payload), Some(signature)) => Ok(Some(Signature { payload, signature })),
        _ => Err(Error::invalid(object, "a signature without its payload or its value")),
    }
}

fn listed(source: &dyn BlobSource, manifest: &Manifest, object: &str) -> Result<Vec<Signature>> {
    let mut signatures = Vec::new();
    for payload in manifest.layers.iter().filter(|layer| layer.media_type == PAYLOAD).take(MOST_SIGNATURES) {
        let signature = payload.annotations.get(SIGNATURE).and_then(|text| STANDARD.decode(text).ok());
        let Some(signature) = signature else { continue };
        let payload = read_document(source, payload, LARGEST).map_err(|error| error.within(object))?;
        signatures.push(Signature { payload, signature });
    }
    Ok(signatures)
}

/// Keeps the signatures of the manifest `digest` in the cache directory. They prove nothing there: they are checked again.
///
/// # Errors
/// Fails if they cannot be written.
pub fn keep(cache_directory: &Root, digest: &Digest, signatures: &[Signature]) -> Result<()> {
    let listed: Vec<Value> = signatures
        .iter()
        .map(|kept| json!({"payload": STANDARD.encode(&kept.payload), "signature": STANDARD.encode(&kept.signature)}))
        .collect();
    let directory = cache_directory.create_directory("signatures")?.create_directory("v1")?;
    directory.replace_file(digest.hex(), &json::canonical(&json!(listed)))
}

/// Returns the signatures of the manifest `digest` that are kept in the cache directory. An unreadable file counts as no
/// signatures.
pub fn kept(cache_directory: &Root, digest: &Digest) -> Vec<Signature> {
    let directory = KEPT.split('/').try_fold(cache_directory.clone(), |directory, name| directory.directory(name));
    directory.ok().and_then(|directory| kept_in(&directory, &digest.hex())).unwrap_or_default()
}

/// Returns the signatures in the file `name` of a directory of stored signatures, or `None` if it cannot be read or is damaged.
pub fn kept_in(directory: &Root, name: &str) -> Option<Vec<Signature>> {
    let bytes = bounded_read::read(directory.open_file(name).ok()?, LARGEST_FILE, KEPT).ok()?;
    let document = json::parse(&bytes, json::DOCUMENT_DEPTH, KEPT).ok()?;
    let decoded = |kept: &Value, key: &str| STANDARD.decode(kept.get(key)?.as_str()?).ok();
    let signature =
        |kept: &Value| Some(Signature { payload: decoded(kept, "payload")?, signature: decoded(kept, "signature")? });
    document.as_array()?.iter().map(signature).collect()
}
