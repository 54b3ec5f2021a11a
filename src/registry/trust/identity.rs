//! Which name a signature has to speak of.

use crate::common::error::{Error, Result};
use crate::spec::reference::Reference;
use serde_json::Value;

/// `signedIdentity` (containers-policy.json(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SignedIdentity {
    /// The image's own name and tag.
    Exact,
    /// The image's own name and tag, or where it is asked for by digest, its repository.
    RepositoryDigestOrExact,
    /// The image's repository.
    Repository,
    /// This name and tag.
    ExactReference(Reference),
    /// This repository.
    ExactRepository(Reference),
    /// Like [`SignedIdentity::RepositoryDigestOrExact`], after a prefix of the image's name was replaced.
    Remapped { prefix: String, signed_prefix: String },
}

impl SignedIdentity {
    /// Reads what the policy that messages call `file` says.
    pub(super) fn read(value: &Value, file: &str) -> Result<SignedIdentity> {
        let wrong = |reason: &str| Error::invalid(file, format!("`signedIdentity` {reason}"));
        let text = |key: &str| value.get(key).and_then(Value::as_str);
        let required = |key: &str| text(key).ok_or_else(|| wrong(&format!("without `{key}`")));
        let reference = |key: &str| -> Result<Reference> {
            required(key)?.parse().map_err(|error: Error| error.within(format!("{file}: `signedIdentity`")))
        };
        let (identity, members) = match text("type") {
            Some("matchExact") => (SignedIdentity::Exact, 1),
            Some("matchRepoDigestOrExact") => (SignedIdentity::RepositoryDigestOrExact, 1),
            Some("matchRepository") => (SignedIdentity::Repository, 1),
            Some("exactReference") => {
                let expected = reference("dockerReference")?;
                if expected.tag().is_none() && expected.digest().is_none() {
                    return Err(wrong("with a `dockerReference` that has neither a tag nor a digest"));
                }
                (SignedIdentity::ExactReference(expected), 2)
            }
            Some("exactRepository") => (SignedIdentity::ExactRepository(reference("dockerRepository")?), 2),
            Some("remapIdentity") => {
                let prefix = required("prefix")?.to_owned();
                (SignedIdentity::Remapped { prefix, signed_prefix: required("signedPrefix")?.to_owned() }, 3)
            }
            _ => return Err(wrong("of an unknown type")),
        };
        if value.as_object().is_none_or(|object| object.len() != members) {
            return Err(wrong("with an unknown member"));
        }
        Ok(identity)
    }

    /// Returns `true` if a signature of `signed` is one for `image`. Where an image has no name, only fixed names can be asked
    /// for.
    pub(super) fn matches(&self, image: Option<&Reference>, signed: &str) -> bool {
        let Ok(signed) = signed.parse::<Reference>() else { return false };
        match (self, image) {
            (SignedIdentity::ExactReference(expected), _) => *expected == signed,
            (SignedIdentity::ExactRepository(expected), _) => expected.same_repository(&signed),
            (_, None) => false,
            (SignedIdentity::Repository, Some(image)) => image.same_repository(&signed),
            (SignedIdentity::Exact, Some(image)) => is_same(image, &signed),
            (SignedIdentity::RepositoryDigestOrExact, Some(image)) => is_same_or_pinned(image, &signed),
            (SignedIdentity::Remapped { prefix, signed_prefix }, Some(image)) => {
                let name = image.clone().without_tag().without_digest().to_string();
                let rest = name.strip_prefix(prefix.as_str()).filter(|rest| rest.is_empty() || rest.starts_with('/'));
                let renamed = match rest {
                    Some(rest) => format!("{signed_prefix}{rest}").parse::<Reference>().ok(),
                    None => Some(image.clone().without_tag().without_digest()),
                };
                renamed.is_some_and(|renamed| {
                    let renamed = image.tag().map_or(renamed.clone(), |tag| renamed.clone().with_tag(tag.clone()));
                    let renamed = image.digest().map_or(renamed.clone(), |digest| renamed.clone().with_digest(digest));
                    is_same_or_pinned(&renamed, &signed)
                })
            }
        }
    }
}

fn is_same(image: &Reference, signed: &Reference) -> bool {
    match image.digest() {
        Some(_) => image == signed,
        None => image.clone().with_tag(image.tag_or_latest()) == *signed,
    }
}

/// Returns the digest was already compared with the signed one. Still, the signature has to be for an image, and not for a
/// whole repository.
fn is_same_or_pinned(image: &Reference, signed: &Reference) -> bool {
    match image.digest() {
        Some(_) => image.same_repository(signed) && (signed.tag().is_some() || signed.digest().is_some()),
        None => is_same(image, signed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(identity: &str, image: &str, signed: &str) -> bool {
        let identity = SignedIdentity::read(&serde_json::from_str(identity).unwrap(), "policy.json").unwrap();
        let image = (!image.is_empty()).then(|| image.parse().unwrap());
        identity.matches(image.as_ref(), signed)
    }

    /// M44: the identities of containers-policy.json(5).
    #[test]
    fn a_signature_is_of_the_name_that_is_asked_for() {
        let (exact, usual) = (r#"{"type": "matchExact"}"#, r#"{"type": "matchRepoDigestOrExact"}"#);
        let pinned = format!("reg.io/a@sha256:{}", "0".repeat(64));
        assert!(matches(exact, "reg.io/a:1", "reg.io/a:1") && matches(usual, "reg.io/a:1", "reg.io/a:1"));
        assert!(!matches(exact, "reg.io/a:1", "reg.io/a:2") && !matches(usual, "reg.io/a:1", "reg.io/a:2"));
        assert!(!matches(exact, &pinned, "reg.io/a:1") && matches(usual, &pinned, "reg.io/a:1"));
        assert!(matches(exact, &pinned, &pinned) && matches(usual, &pinned, &pinned));
        assert!(!matches(usual, &pinned, "reg.io/a") && !matches(usual, &pinned, "reg.io/b:1"));
        assert!(!matches(usual, "reg.io/a:1", "reg.io/a"), "what cosign signs has no tag");
        assert!(matches(r#"{"type": "matchRepository"}"#, "reg.io/a:1", "reg.io/a"));
        assert!(!matches(r#"{"type": "matchRepository"}"#, "", "reg.io/a"));
        let fixed = r#"{"type": "exactReference", "dockerReference": "reg.io/a:1"}"#;
        assert!(matches(fixed, "", "reg.io/a:1") && !matches(fixed, "", "reg.io/a:2"));
        let fixed = r#"{"type": "exactRepository", "dockerRepository": "reg.io/a"}"#;
        assert!(matches(fixed, "mirror.io/x:1", "reg.io/a:2"));
        let remapped = r#"{"type": "remapIdentity", "prefix": "mirror.io/hub", "signedPrefix": "reg.io"}"#;
        assert!(matches(remapped, "mirror.io/hub/a:1", "reg.io/a:1"));
        assert!(!matches(remapped, "mirror.io/hubx/a:1", "reg.io/a:1"));
        assert!(matches(remapped, "other.io/a:1", "other.io/a:1"));
        assert!(SignedIdentity::read(&serde_json::json!({"type": "matchExact", "more": 1}), "x").is_err());
    }
}
