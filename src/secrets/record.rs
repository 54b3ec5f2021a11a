//! Records of secrets that were found. No record contains a value.

use super::{FoundLine, FoundSecret, RULES};
use serde_json::{Value, json};

impl FoundSecret {
    /// Names a secret in the file `path` of `source`.
    pub fn new(source: &str, path: &str, FoundLine { line, what }: FoundLine) -> Self {
        FoundSecret { source: source.to_owned(), path: path.to_owned(), line, what: what.to_owned() }
    }

    /// Returns the secret as a member of a result.
    pub fn to_json(&self) -> Value {
        let FoundSecret { source, path, line, what } = self;
        json!({"source": source, "path": path, "line": line, "looksLike": what})
    }

    /// Returns a record of `secrets` for the cache.
    pub fn all_to_json(secrets: &[FoundSecret]) -> Value {
        let all: Vec<Value> = secrets.iter().map(FoundSecret::to_json).collect();
        json!({"rules": RULES, "found": all})
    }

    /// Reads what [`FoundSecret::all_to_json`] wrote. A record that other rules made does not count.
    pub fn read_all(record: &Value) -> Option<Vec<FoundSecret>> {
        if record.get("rules")?.as_u64() != Some(RULES) {
            return None;
        }
        let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        let read = |value: &Value| {
            Some(FoundSecret {
                source: text(value, "source")?,
                path: text(value, "path")?,
                line: usize::try_from(value.get("line")?.as_u64()?).ok()?,
                what: text(value, "looksLike")?,
            })
        };
        record.get("found")?.as_array()?.iter().map(read).collect()
    }
}
