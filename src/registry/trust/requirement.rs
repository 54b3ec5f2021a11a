//! One requirement of a policy.

use super::identity::SignedIdentity;
use super::signature::{PublicKey, Signature};
use crate::common::bounded_read;
use crate::common::digest::Digest;
use crate::common::error::{Error, Result};
use crate::common::root::Root;
use crate::spec::reference::Reference;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// The largest key that is read, in bytes.
const LARGEST_KEY: u64 = 64 << 10;

/// A requirement for images.
#[derive(Debug)]
pub(super) enum PolicyRequirement {
    /// Anything.
    Accept,
    /// Rejects every image.
    Reject,
    /// Signed.
    Signed(SigstoreSigned),
    /// A requirement that this program cannot check.
    Unknown(String),
}

/// A sigstore signature by one of some keys.
#[derive(Debug)]
pub struct SigstoreSigned {
    keys: Vec<KeySource>,
    identity: SignedIdentity,
}

/// The source of a public key.
#[derive(Debug)]
enum KeySource {
    File(PathBuf),
    Data(Vec<u8>),
}

impl PolicyRequirement {
    /// Reads a requirement of the policy that messages call `file`.
    pub(super) fn read(members: &Map<String, Value>, file: &str) -> Result<PolicyRequirement> {
        let kind = members.get("type").and_then(Value::as_str);
        let kind = kind.ok_or_else(|| Error::invalid(file, "a requirement without `type`"))?;
        let known: &[&str] = match kind {
            "insecureAcceptAnything" | "reject" => &["type"],
            "sigstoreSigned" => &["type", "keyPath", "keyPaths", "keyData", "keyDatas", "signedIdentity"],
            _ => return Ok(PolicyRequirement::Unknown(kind.to_owned())),
        };
        if let Some(other) = members.keys().find(|key| !known.contains(&key.as_str())) {
            // Certificates and logs of transparency take a network, or clocks, or both.
            if kind == "sigstoreSigned" && (["fulcio", "pki"].contains(&other.as_str()) || other.starts_with("rekor")) {
                return Ok(PolicyRequirement::Unknown(format!("{kind} with {other}")));
            }
            return Err(Error::invalid(file, format!("`{kind}`: unknown member `{other}`")));
        }
        Ok(match kind {
            "insecureAcceptAnything" => PolicyRequirement::Accept,
            "reject" => PolicyRequirement::Reject,
            _ => PolicyRequirement::Signed(SigstoreSigned::read(members, file)?),
        })
    }
}

impl SigstoreSigned {
    fn read(members: &Map<String, Value>, file: &str) -> Result<SigstoreSigned> {
        let wrong = |reason: String| Error::invalid(file, format!("`sigstoreSigned` {reason}"));
        let sources: Vec<&str> = ["keyPath", "keyPaths", "keyData", "keyDatas"]
            .into_iter()
            .filter(|key| members.contains_key(*key))
            .collect();
        let [source] = sources[..] else {
            return Err(wrong(
                if sources.is_empty() { "names no key" } else { "has several of the members for keys" }.to_owned(),
            ));
        };
        let texts: Option<Vec<&str>> = match &members[source] {
            Value::String(text) if !source.ends_with('s') => Some(vec![text]),
            Value::Array(items) if source.ends_with('s') => items.iter().map(Value::as_str).collect(),
            _ => None,
        };
        let texts =
            texts.filter(|texts| !texts.is_empty()).ok_or_else(|| wrong(format!("has a malformed `{source}`")))?;
        let mut keys = Vec::new();
        for text in texts {
            keys.push(if source.starts_with("keyPath") {
                KeySource::File(text.into())
            } else {
                KeySource::Data(STANDARD.decode(text).map_err(|_| wrong(format!("has a malformed `{source}`")))?)
            });
        }
        let identity = match members.get("signedIdentity") {
            Some(identity) => SignedIdentity::read(identity, file)?,
            None => SignedIdentity::RepositoryDigestOrExact,
        };
        Ok(SigstoreSigned { keys, identity })
    }

    /// Why the signature does not make the manifest `digest`, called `image`, acceptable; `None` if it does.
    ///
    /// # Errors
    /// Fails if a key cannot be read.
    pub(super) fn accepts(
        &self,
        signature: &Signature,
        image: Option<&Reference>,
        digest: &Digest,
        file: &str,
    ) -> Result<Option<String>> {
        let mut is_signed = false;
        for source in &self.keys {
            is_signed |= source.key(file)?.agrees(signature);
        }
        if !is_signed {
            return Ok(Some("a signature was made with another key".to_owned()));
        }
        let claim = match signature.claim() {
            Ok(claim) => claim,
            Err(error) => return Ok(Some(error.reason())),
        };
        if claim.digest != *digest {
            return Ok(Some(format!("a signature is for {}, and the image is {digest}", claim.digest)));
        }
        if !self.identity.matches(image, &claim.name) {
            return Ok(Some(format!("a signature is for {}, which does not match `signedIdentity`", claim.name)));
        }
        Ok(None)
    }
}

impl KeySource {
    fn key(&self, file: &str) -> Result<PublicKey> {
        match self {
            KeySource::File(path) => read(path).and_then(|pem| PublicKey::read(&pem, &path.display().to_string())),
            KeySource::Data(pem) => PublicKey::read(pem, "`keyData`"),
        }
        .map_err(|error| error.within(file))
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    bounded_read::read(Root::open_named_file(path)?, LARGEST_KEY, &path.display().to_string())
}
