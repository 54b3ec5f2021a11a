//! Descriptors: media type, digest and size of a blob.

use super::Platform;
use crate::common::digest::Digest;
use crate::common::error::{Error, Result};
use crate::common::json;
use base64::Engine as _;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// A reference of a document to a blob (descriptor.md).
///
/// ```
/// use ocibuild::Descriptor;
///
/// let descriptor = Descriptor::of("application/json", b"{}");
/// assert_eq!(descriptor.to_json()["size"], 2);
/// assert_eq!(Descriptor::read(&descriptor.to_json(), "a descriptor")?, descriptor);
/// # Ok::<(), ocibuild::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// The media type of the blob.
    pub media_type: String,
    /// The digest of its bytes.
    pub digest: Digest,
    /// The number of its bytes.
    pub size: u64,
    /// For a manifest in an index: the platform of its image.
    pub platform: Option<Platform>,
    /// For the manifest of an artifact in an index: the kind of artifact.
    pub artifact_type: Option<String>,
    /// Annotations of the blob.
    pub annotations: BTreeMap<String, String>,
}

/// The largest embedded content that is read, in bytes of base64. Larger content is ignored in favour of the blob itself.
const LARGEST_DATA: usize = 64 << 10;

impl Descriptor {
    /// Describes bytes in memory.
    pub fn of(media_type: &str, bytes: &[u8]) -> Self {
        Descriptor::new(media_type, Digest::of(bytes), bytes.len() as u64)
    }

    /// Describes a blob by its digest and size.
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Descriptor {
            media_type: media_type.to_owned(),
            digest,
            size,
            platform: None,
            artifact_type: None,
            annotations: BTreeMap::new(),
        }
    }

    /// Parses a descriptor from a document that messages call `object`.
    ///
    /// # Errors
    /// Returns an error if a required member is missing or malformed, or if embedded `data` contradicts the digest or
    /// size.
    pub fn read(value: &Value, object: &str) -> Result<Self> {
        Descriptor::read_with_data(value, object).map(|(descriptor, _)| descriptor)
    }

    /// Parses a descriptor as [`Descriptor::read`], with its embedded content if that is at most 48 KiB.
    ///
    /// # Errors
    /// The same as [`Descriptor::read`].
    pub fn read_with_data(value: &Value, object: &str) -> Result<(Self, Option<Vec<u8>>)> {
        let missing = |key: &str| Error::invalid(object, format!("a descriptor without `{key}`"));
        let media_type = json::string_at(value, "mediaType", object)?.ok_or_else(|| missing("mediaType"))?;
        let digest = json::string_at(value, "digest", object)?.ok_or_else(|| missing("digest"))?;
        let digest: Digest = digest.parse().map_err(|error: Error| error.within(object))?;
        let size = json::integer_at(value, "size", object)?.ok_or_else(|| missing("size"))?;
        let data = data(value, &digest, size, object)?;
        let platform = match value.get("platform") {
            None | Some(Value::Null) => None,
            // skopeo and others write an empty platform for an unknown one.
            Some(platform) => Platform::read(platform, object).ok(),
        };
        let descriptor = Descriptor {
            media_type: media_type.to_owned(),
            digest,
            size,
            platform,
            artifact_type: json::string_at(value, "artifactType", object)?.map(str::to_owned),
            annotations: annotations(value, object)?,
        };
        Ok((descriptor, data))
    }

    /// Returns the descriptor as a member of a document.
    pub fn to_json(&self) -> Value {
        let mut object = Map::new();
        object.insert("mediaType".to_owned(), self.media_type.as_str().into());
        object.insert("digest".to_owned(), self.digest.to_string().into());
        object.insert("size".to_owned(), self.size.into());
        if let Some(platform) = &self.platform {
            let mut members = Map::new();
            platform.write(&mut members);
            object.insert("platform".to_owned(), members.into());
        }
        if let Some(artifact_type) = &self.artifact_type {
            object.insert("artifactType".to_owned(), artifact_type.as_str().into());
        }
        if !self.annotations.is_empty() {
            let annotations: Map<_, _> =
                self.annotations.iter().map(|(key, value)| (key.clone(), value.as_str().into())).collect();
            object.insert("annotations".to_owned(), annotations.into());
        }
        object.into()
    }

    /// Returns the descriptor as a member of a document, with the `content` that it describes. Content that is too large
    /// to be read again is omitted.
    pub fn to_json_with_data(&self, content: &[u8]) -> Value {
        let mut object = self.to_json();
        let data = base64::engine::general_purpose::STANDARD.encode(content);
        if data.len() <= LARGEST_DATA {
            object["data"] = data.into();
        }
        object
    }

    /// Makes `member`, the descriptor of another blob in a document, that of this one. Members that this library does not know
    /// stay, except for those that are about the bytes of the blob.
    pub fn replace_in(&self, member: &mut Value) {
        let Some(members) = member.as_object_mut() else {
            *member = self.to_json();
            return;
        };
        for key in ["data", "urls", "annotations"] {
            members.remove(key);
        }
        // A platform has members that are not read, such as the version of the system.
        let platform = members.remove("platform");
        if let Value::Object(own) = self.to_json() {
            members.extend(own);
        }
        if let Some(platform) = platform {
            members.insert("platform".to_owned(), platform);
        }
    }

    /// Returns the descriptor with one more annotation.
    #[must_use]
    pub fn annotated(mut self, key: &str, value: impl Into<String>) -> Self {
        self.annotations.insert(key.to_owned(), value.into());
        self
    }
}

/// Reads the annotations of a descriptor, manifest or index.
pub(super) fn annotations(value: &Value, object: &str) -> Result<BTreeMap<String, String>> {
    let Some(members) = json::object_at(value, "annotations", object)? else { return Ok(BTreeMap::new()) };
    let mut annotations = BTreeMap::new();
    for (key, value) in members {
        let Some(text) = value.as_str() else {
            return Err(Error::invalid(object, format!("annotation `{key}` is not a string")));
        };
        annotations.insert(key.clone(), text.to_owned());
    }
    Ok(annotations)
}

/// Reads the embedded content (descriptor.md, "Embedded Content").
fn data(value: &Value, digest: &Digest, size: u64, object: &str) -> Result<Option<Vec<u8>>> {
    let Some(data) = json::string_at(value, "data", object)?.filter(|data| data.len() <= LARGEST_DATA) else {
        return Ok(None);
    };
    let wrong = |reason: &str| Error::invalid(object, format!("the embedded data of {digest} {reason}"));
    let bytes = base64::engine::general_purpose::STANDARD.decode(data).map_err(|_| wrong("is not base64"))?;
    if bytes.len() as u64 != size || digest.like(&bytes) != *digest {
        return Err(wrong("does not have its digest and size"));
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn valid() -> Value {
        json!({"mediaType": "m", "digest": Digest::of(b"hi").to_string(), "size": 2})
    }

    fn with(key: &str, value: Value) -> Result<Descriptor> {
        let mut changed = valid();
        changed[key] = value;
        Descriptor::read(&changed, "manifest")
    }

    #[test]
    fn what_is_written_is_read_back() {
        let descriptor =
            Descriptor { platform: Some(Platform::linux_amd64()), ..Descriptor::of("m", b"hi") }.annotated("k", "v");
        assert_eq!(Descriptor::read(&descriptor.to_json(), "x").unwrap(), descriptor);
    }

    #[test]
    fn sizes_are_whole_interoperable_numbers() {
        for bad in [json!(-1), json!(2.0), json!("2"), json!(1_u64 << 53), json!(null)] {
            assert!(with("size", bad.clone()).is_err(), "{bad}");
        }
    }

    #[test]
    fn embedded_data_must_be_the_blob() {
        assert!(with("data", json!("aGk=")).is_ok());
        assert!(with("data", json!("aG8=")).unwrap_err().to_string().contains("embedded data"));
        assert!(with("data", json!("?")).is_err());
        assert!(with("data", json!("A".repeat(70_000))).is_ok());
    }

    #[test]
    fn malformed_members_are_named() {
        assert!(with("digest", json!("sha256:x")).unwrap_err().to_string().contains("invalid digest"));
        assert!(with("annotations", json!({"a": 1})).unwrap_err().to_string().contains("annotation `a`"));
        assert!(with("mediaType", json!(null)).unwrap_err().to_string().contains("without `mediaType`"));
    }
}
