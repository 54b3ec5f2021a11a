//! One small file of the cache: a layer, preceded by a checksum.

use super::{LayerFacts, LayerKey};
use crate::common::bounded_read;
use crate::common::digest::{DiffId, Digest};
use crate::common::error::Result;
use crate::common::json;
use crate::common::root::Root;
use crate::layers::Layer;
use crate::spec::Descriptor;
use crate::spec::reference::Reference;
use serde_json::{Value, json};
use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The maximum size of a record, in bytes.
const LARGEST: u64 = 1 << 20;

/// The content of a cache record.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct CacheRecord {
    pub(super) layer: Layer,
    pub(super) facts: LayerFacts,
    /// The repository that the layer comes from; `None` if it was built on this machine.
    pub(super) from: Option<Reference>,
    pub(super) recorded: SystemTime,
}

impl CacheRecord {
    /// Reads the record of `key`. Returns `None` if it is missing, truncated, altered, of another format or
    /// of another key.
    pub(super) fn read(directory: &Root, key: &LayerKey) -> Option<CacheRecord> {
        CacheRecord::read_named(directory, &key.hex())
    }

    pub(super) fn read_named(directory: &Root, name: &str) -> Option<CacheRecord> {
        let bytes = bounded_read::read(directory.open_file(name).ok()?, LARGEST, name).ok()?;
        let (sum, body) = bytes.split_at_checked(64)?;
        if sum != checksum(name, body).as_bytes() {
            return None;
        }
        let value = json::parse(body, json::DOCUMENT_DEPTH, name).ok()?;
        let text = |key: &str| value.get(key).and_then(Value::as_str);
        let number = |key: &str| value.get(key).and_then(Value::as_u64);
        let digest: Digest = text("digest")?.parse().ok()?;
        let diff_id: DiffId = text("diffId")?.parse().ok()?;
        // A record without the origin of its layer is a cache miss.
        let from = match value.get("from")? {
            Value::Null => None,
            from => Some(from.as_str()?.parse().ok()?),
        };
        Some(CacheRecord {
            layer: Layer {
                descriptor: Descriptor::new(text("mediaType")?, digest, number("size")?),
                diff_id,
                tar_size: number("tarSize")?,
            },
            facts: LayerFacts::read(value.get("notes")?),
            from,
            recorded: UNIX_EPOCH.checked_add(Duration::from_nanos(number("recorded")?))?,
        })
    }

    /// Writes the record of `key`. A crash may lose it, but the checksum detects a partial one.
    pub(super) fn write(&self, directory: &Root, key: &LayerKey) -> Result<()> {
        let CacheRecord { layer: Layer { descriptor, diff_id, tar_size }, facts, from, recorded } = self;
        let since = recorded.duration_since(UNIX_EPOCH).unwrap_or_default();
        let body = json::canonical(&json!({
            "diffId": diff_id.to_string(),
            "digest": descriptor.digest.to_string(),
            "from": from.as_ref().map(Reference::to_string),
            "mediaType": descriptor.media_type,
            "notes": facts.to_json(),
            "recorded": u64::try_from(since.as_nanos()).unwrap_or(u64::MAX),
            "size": descriptor.size,
            "tarSize": tar_size,
        }));
        let name = key.hex();
        let mut temporary = directory.temporary()?;
        let written = temporary.write_all(checksum(&name, &body).as_bytes()).and_then(|()| temporary.write_all(&body));
        written.map_err(|error| directory.failed(&name, "write", error))?;
        temporary.rename_unsynced(&name)
    }
}

/// Returns the checksum of the record `name`. A record that gets the name of another one is damaged.
fn checksum(name: &str, body: &[u8]) -> String {
    Digest::of(&[name.as_bytes(), body].concat()).hex()
}
