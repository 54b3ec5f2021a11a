//! Keys that sign images as cosign and skopeo do.

use super::bases::BASE;
use super::server::Shelf;
use super::*;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

/// How public keys begin in DER, up to the key itself (RFC 5480, RFC 8410).
const P256: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE";
const ED25519: &[u8] = &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// A private key.
pub(super) enum Signer {
    P256(EcdsaKeyPair, SystemRandom),
    Ed25519(Ed25519KeyPair),
}

/// A signed document and its signature.
#[derive(Clone)]
pub(super) struct Signed {
    pub(super) payload: Vec<u8>,
    pub(super) signature: Vec<u8>,
}

impl Signer {
    pub(super) fn p256() -> Signer {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, key.as_ref(), &random).unwrap();
        Signer::P256(pair, random)
    }

    pub(super) fn ed25519() -> Signer {
        let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Signer::Ed25519(Ed25519KeyPair::from_pkcs8(key.as_ref()).unwrap())
    }

    /// The public key in PEM.
    pub(super) fn public_key(&self) -> String {
        let der = match self {
            // The prefix ends with the byte that the point begins with.
            Signer::P256(pair, _) => [&STANDARD.decode(P256).unwrap()[..], &pair.public_key().as_ref()[1..]].concat(),
            Signer::Ed25519(pair) => [ED25519, pair.public_key().as_ref()].concat(),
        };
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der))
    }

    pub(super) fn sign(&self, payload: Vec<u8>) -> Signed {
        let signature = match self {
            Signer::P256(pair, random) => pair.sign(random, &payload).unwrap().as_ref().to_vec(),
            Signer::Ed25519(pair) => pair.sign(&payload).as_ref().to_vec(),
        };
        Signed { payload, signature }
    }

    /// Signs that `digest` is the image `name`.
    pub(super) fn sign_image(&self, digest: Digest, name: &str) -> Signed {
        self.sign(payload(digest, name))
    }
}

/// The document that `skopeo copy --sign-by-sigstore-private-key` and `podman push` sign; `cosign sign` leaves out the tag and
/// has `null` for the optional part.
pub(super) fn payload(digest: Digest, name: &str) -> Vec<u8> {
    let critical = json!({
        "identity": {"docker-reference": name},
        "image": {"docker-manifest-digest": digest.to_string()},
        "type": "cosign container image signature",
    });
    let optional = json!({"creator": "containers/image 5.36.2", "timestamp": 1_756_483_740});
    json!({"critical": critical, "optional": optional}).to_string().into_bytes()
}

/// Puts the signatures of the manifest `digest` beside it in the repository of bases, as cosign and skopeo do.
pub(super) fn attach(shelf: &Shelf, digest: Digest, signatures: &[Signed]) {
    let layers: Vec<Value> = signatures
        .iter()
        .map(|signed| {
            shelf.clone().with_blob(BASE, &signed.payload);
            let mut layer =
                Descriptor::of("application/vnd.dev.cosign.simplesigning.v1+json", &signed.payload).to_json();
            layer["annotations"] = json!({"dev.cosignproject.cosign/signature": STANDARD.encode(&signed.signature)});
            layer
        })
        .collect();
    let diff_ids: Vec<&Value> = layers.iter().map(|layer| &layer["digest"]).collect();
    let config =
        json!({"architecture": "", "os": "", "config": {}, "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    let config = config.to_string();
    let manifest = json!({"schemaVersion": 2, "mediaType": media_type::MANIFEST,
        "config": Descriptor::of(media_type::CONFIG, config.as_bytes()).to_json(), "layers": layers});
    let tag = format!("sha256-{}.sig", digest.hex());
    let shelf = shelf.clone().with_blob(BASE, config.as_bytes());
    shelf.with_manifest(BASE, &tag, media_type::MANIFEST, manifest.to_string().as_bytes());
}
