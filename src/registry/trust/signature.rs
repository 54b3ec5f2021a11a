//! Signatures as skopeo, podman and cosign make them: a small document that names a manifest, and a public key's word on it.

use crate::common::digest::Digest;
use crate::common::error::{Error, Result};
use crate::common::json;
use ring::signature::{ECDSA_P256_SHA256_ASN1, ED25519, UnparsedPublicKey};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;

/// The `type` of signatures of images.
const KIND: &str = "cosign container image signature";

/// The headers of supported public keys, up to the key itself (RFC 5480, RFC 8410).
const P256: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
const EDWARDS: &[u8] = &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// A signed document, and what a key says of it. Neither is believed before a key of the policy agrees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// The document.
    pub payload: Vec<u8>,
    /// The signature of its bytes.
    pub signature: Vec<u8>,
}

/// The content of a signed document.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) digest: Digest,
    /// The name of the image.
    pub(super) name: String,
}

/// A public key.
#[derive(Debug)]
pub(super) enum PublicKey {
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
}

impl Signature {
    /// Returns the content of the document.
    pub(super) fn claim(&self) -> Result<Claim> {
        let object = "a signature";
        let wrong = || Error::invalid(object, "a signature is for something other than an image");
        let document = json::parse(&self.payload, json::DOCUMENT_DEPTH, object)?;
        // A member that is not known here might take back what the others say.
        let has = |path: &str, members: &[&str]| {
            let found = document.pointer(path).and_then(Value::as_object);
            found.is_some_and(|found| found.keys().eq(members))
        };
        if !(has("", &["critical", "optional"])
            && has("/critical", &["identity", "image", "type"])
            && has("/critical/identity", &["docker-reference"])
            && has("/critical/image", &["docker-manifest-digest"]))
        {
            return Err(wrong());
        }
        let text = |path: &str| document.pointer(path).and_then(Value::as_str).ok_or_else(wrong);
        if text("/critical/type")? != KIND {
            return Err(wrong());
        }
        let digest = text("/critical/image/docker-manifest-digest")?.parse()?;
        Ok(Claim { digest, name: text("/critical/identity/docker-reference")?.to_owned() })
    }
}

impl PublicKey {
    /// Reads a public key in PEM, which messages call `object`.
    pub(super) fn read(pem: &[u8], object: &str) -> Result<PublicKey> {
        let der = SubjectPublicKeyInfoDer::from_pem_slice(pem)
            .map_err(|_| Error::invalid(object, "not a public key in PEM"))?;
        match (der.strip_prefix(P256), der.strip_prefix(EDWARDS)) {
            (Some(point), _) if point.len() == 65 => Ok(PublicKey::P256(point.to_vec())),
            (_, Some(key)) if key.len() == 32 => Ok(PublicKey::Ed25519(key.to_vec())),
            _ => Err(Error::invalid(object, "neither an ECDSA P-256 nor an Ed25519 key")),
        }
    }

    /// Returns `true` if the owner of the key has signed the document.
    pub(super) fn agrees(&self, Signature { payload, signature }: &Signature) -> bool {
        match self {
            PublicKey::P256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point).verify(payload, signature).is_ok()
            }
            PublicKey::Ed25519(key) => UnparsedPublicKey::new(&ED25519, key).verify(payload, signature).is_ok(),
        }
    }
}
