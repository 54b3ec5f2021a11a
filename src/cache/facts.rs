//! Facts about the content of a layer, which make it unnecessary to read it again.

use crate::common::digest::Digest;
use crate::secrets::{FoundSecret, record};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The facts that a record keeps with its layer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum LayerFacts {
    /// Facts about the environment whose last layer this is.
    Environment(Box<EnvironmentFacts>),
    /// The secrets in the layer.
    Secrets {
        /// The secrets, as far as they are kept.
        #[serde(with = "record")]
        secrets: Vec<FoundSecret>,
    },
    /// No facts.
    #[default]
    None,
}

impl LayerFacts {
    /// Reads the facts of a record. Facts of another version do not count.
    pub(super) fn read(value: &Value) -> Self {
        LayerFacts::deserialize(value).unwrap_or_default()
    }

    pub(super) fn to_json(&self) -> Value {
        json!(self)
    }

    /// Returns the secrets in the layer, if they are known.
    pub fn into_secrets(self) -> Option<Vec<FoundSecret>> {
        match self {
            LayerFacts::Secrets { secrets } => Some(secrets),
            LayerFacts::Environment(_) | LayerFacts::None => None,
        }
    }
}

/// Facts from the catalog of an environment, and the warnings about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentFacts {
    /// The directory that must contain the environment's spaces.
    pub base: String,
    /// The version of RCC that recorded it, if it is known.
    pub recorder: Option<String>,
    /// The SHA-256 of its document, which determines every byte of the environment.
    pub document_digest: Digest,
    /// Whether the digests of its objects are checksums that anyone can forge.
    pub has_forgeable_digests: bool,
    /// The layers that it is split into, without the last one: the name, and a hash of everything that determines the
    /// bytes.
    pub parts: Vec<(String, Digest)>,
    /// The variables of the environment, if the image sets them itself.
    pub activation: Option<BTreeMap<String, String>>,
    /// The warnings about it: the object and the reason.
    pub warnings: Vec<(String, String)>,
    /// The secrets in it that were not overwritten.
    #[serde(with = "record")]
    pub secrets: Vec<FoundSecret>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment() -> EnvironmentFacts {
        EnvironmentFacts {
            base: "/opt".to_owned(),
            recorder: None,
            document_digest: Digest::of(b"document"),
            has_forgeable_digests: false,
            parts: vec![("python".to_owned(), Digest::of(b"part"))],
            activation: Some(BTreeMap::from([("A".to_owned(), "b".to_owned())])),
            warnings: vec![("catalog".to_owned(), "old".to_owned())],
            secrets: Vec::new(),
        }
    }

    #[test]
    fn facts_are_read_as_they_were_written() {
        let secret = FoundSecret { source: "s".into(), path: "p".into(), line: 1, what: "a key".into() };
        let secrets = LayerFacts::Secrets { secrets: vec![secret] };
        for facts in [LayerFacts::Environment(Box::new(environment())), secrets, LayerFacts::None] {
            assert_eq!(LayerFacts::read(&facts.to_json()), facts);
        }
    }

    /// Records of earlier builds have this format.
    #[test]
    fn the_format_of_records_stays_the_same() {
        let written = LayerFacts::Environment(Box::new(environment())).to_json();
        let digest = |text: &[u8]| Digest::of(text).to_string();
        let expected = json!({
            "base": "/opt", "recorder": null, "documentDigest": digest(b"document"), "hasForgeableDigests": false,
            "parts": [["python", digest(b"part")]], "activation": {"A": "b"}, "warnings": [["catalog", "old"]],
            "secrets": {"rules": crate::secrets::RULES, "found": []},
        });
        assert_eq!(written, expected);
        assert_eq!(LayerFacts::None.to_json(), Value::Null);
    }

    #[test]
    fn secrets_that_other_rules_found_do_not_count() {
        let mut written = LayerFacts::Secrets { secrets: Vec::new() }.to_json();
        written["secrets"]["rules"] = (crate::secrets::RULES + 1).into();
        assert_eq!(LayerFacts::read(&written), LayerFacts::None);
        assert_eq!(LayerFacts::read(&json!({"secrets": "none"})), LayerFacts::None);
    }
}
