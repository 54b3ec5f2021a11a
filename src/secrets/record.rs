//! The form in which the cache keeps secrets that were found: with the version of the rules that found them, and without
//! their values.

use super::{FoundLine, FoundSecret, RULES};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};

impl FoundSecret {
    /// Names a secret in the file `path` of `source`.
    pub fn new(source: &str, path: &str, FoundLine { line, what }: FoundLine) -> Self {
        FoundSecret { source: source.to_owned(), path: path.to_owned(), line, what: what.to_owned() }
    }

    /// Returns the secret as a member of a result.
    pub fn to_json(&self) -> Value {
        json!(self)
    }
}

#[derive(Serialize, Deserialize)]
struct SecretsRecord {
    rules: u64,
    found: Vec<FoundSecret>,
}

/// Serializes a record of `secrets`.
///
/// # Errors
/// Returns an error if `serializer` does.
pub fn serialize<S: Serializer>(secrets: &[FoundSecret], serializer: S) -> Result<S::Ok, S::Error> {
    SecretsRecord { rules: RULES, found: secrets.to_vec() }.serialize(serializer)
}

/// Deserializes the output of [`serialize`].
///
/// # Errors
/// Returns an error if it is malformed, or if other rules found the secrets.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<FoundSecret>, D::Error> {
    match SecretsRecord::deserialize(deserializer)? {
        SecretsRecord { rules: RULES, found } => Ok(found),
        SecretsRecord { rules, .. } => Err(D::Error::custom(format!("found by rules {rules}"))),
    }
}
