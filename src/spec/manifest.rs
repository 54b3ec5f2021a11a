//! Image manifests.

use super::descriptor::{Descriptor, annotations};
use super::media_type;
use crate::common::error::{Error, Result};
use crate::common::json;
use crate::common::limits::Limit;
use serde_json::Value;
use std::collections::BTreeMap;

/// A manifest: a config and layers (manifest.md).
///
/// ```
/// use ocibuild::Descriptor;
/// use ocibuild::spec::{Manifest, media_type};
///
/// let config = Descriptor::of(media_type::CONFIG, b"{}");
/// let manifest = Manifest { config, layers: Vec::new(), annotations: Default::default() };
/// let read = Manifest::read(&manifest.to_bytes(), media_type::MANIFEST, "a manifest")?;
/// assert_eq!(read.blobs().count(), 1);
/// # Ok::<(), ocibuild::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The image config.
    pub config: Descriptor,
    /// The layers, lowest first.
    pub layers: Vec<Descriptor>,
    /// Annotations of the image.
    pub annotations: BTreeMap<String, String>,
}

impl Manifest {
    /// Parses the document `bytes`, which its referrer calls a `media_type`.
    ///
    /// # Errors
    /// Returns an error if it is not exactly one manifest of that type, exceeds a limit, or describes something other
    /// than an image.
    pub fn read(bytes: &[u8], media_type: &str, object: &str) -> Result<Self> {
        let value = json::parse(bytes, json::DOCUMENT_DEPTH, object)?;
        check_type(&value, media_type, object)?;
        if value.get("manifests").is_some() {
            return Err(Error::invalid(object, "ambiguous: a manifest with `manifests`, as in an index"));
        }
        let config = value.get("config").ok_or_else(|| Error::invalid(object, "a manifest without `config`"))?;
        let config = Descriptor::read(config, object)?;
        if !media_type::is_config(&config.media_type) {
            let reason = format!("not a runnable image: its config is `{}`", config.media_type);
            return Err(Error::invalid(object, reason));
        }
        let listed = json::array_at(&value, "layers", object)?
            .ok_or_else(|| Error::invalid(object, "a manifest without `layers`"))?;
        Limit::Layers.check(listed.len(), object, "layer")?;
        let layers = listed.iter().map(|layer| Descriptor::read(layer, object)).collect::<Result<Vec<_>>>()?;
        if let Some(layer) = layers.iter().find(|layer| claims_to_be_a_document(&layer.media_type)) {
            let reason = format!("layer {} has the media type `{}`", layer.digest, layer.media_type);
            return Err(Error::invalid(object, reason));
        }
        Ok(Manifest { config, layers, annotations: annotations(&value, object)? })
    }

    /// Returns the canonical bytes of the document, with OCI's media type.
    pub fn to_bytes(&self) -> Vec<u8> {
        let layers: Vec<Value> = self.layers.iter().map(Descriptor::to_json).collect();
        let mut document = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": media_type::MANIFEST,
            "config": self.config.to_json(),
            "layers": layers,
        });
        if !self.annotations.is_empty() {
            document["annotations"] = serde_json::json!(self.annotations);
        }
        json::canonical(&document)
    }

    /// Returns the config and the layers, in this order.
    pub fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        std::iter::once(&self.config).chain(&self.layers)
    }
}

fn claims_to_be_a_document(media_type: &str) -> bool {
    media_type::is_config(media_type) || media_type::is_manifest(media_type) || media_type::is_index(media_type)
}

/// Checks that the same bytes are not a manifest to one program and an index to another (CVE-2021-41190).
pub(super) fn check_type(value: &Value, expected: &str, object: &str) -> Result<()> {
    if value.get("signatures").is_some() || value.get("schemaVersion").and_then(Value::as_u64) == Some(1) {
        return Err(Error::invalid(object, "Docker manifest schema 1 is not supported")
            .hint("push the image again with a current tool"));
    }
    if value.get("schemaVersion").and_then(Value::as_u64) != Some(2) {
        return Err(Error::invalid(object, "`schemaVersion` is not 2"));
    }
    match json::string_at(value, "mediaType", object)? {
        None | Some("") => Ok(()),
        Some(found) if found == expected => Ok(()),
        Some(found) => {
            Err(Error::invalid(object, format!("has the media type `{found}`, but its descriptor has `{expected}`")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn valid() -> Value {
        json!({
            "schemaVersion": 2,
            "config": Descriptor::of(media_type::CONFIG, b"{}").to_json(),
            "layers": [Descriptor::of(media_type::LAYER_GZIP, b"x").to_json()],
        })
    }

    fn read(value: &Value) -> Result<Manifest> {
        Manifest::read(value.to_string().as_bytes(), media_type::MANIFEST, "manifest")
    }

    fn refusal(change: impl FnOnce(&mut Value)) -> String {
        let mut value = valid();
        change(&mut value);
        read(&value).unwrap_err().to_string()
    }

    #[test]
    fn a_missing_media_type_is_fine() {
        let manifest = read(&valid()).unwrap();
        let again = Manifest::read(&manifest.to_bytes(), media_type::MANIFEST, "x").unwrap();
        assert_eq!(again.layers, manifest.layers);
    }

    #[test]
    fn documents_of_two_faces_are_refused() {
        assert!(refusal(|value| value["manifests"] = json!([])).contains("ambiguous"));
        assert!(refusal(|value| value["mediaType"] = json!(media_type::INDEX)).contains("has the media type"));
        assert!(refusal(|value| value["schemaVersion"] = json!(1)).contains("schema 1 is not supported"));
        assert!(
            refusal(|value| value["layers"][0]["mediaType"] = json!(media_type::CONFIG)).contains("has the media type")
        );
    }

    #[test]
    fn artifacts_are_not_images() {
        let reason = refusal(|value| value["config"]["mediaType"] = json!("application/vnd.oci.empty.v1+json"));
        assert!(reason.contains("not a runnable image"), "{reason}");
    }

    #[test]
    fn layers_are_counted() {
        let many = |count: usize| vec![valid()["layers"][0].clone(); count];
        let mut value = valid();
        value["layers"] = many(500).into();
        assert!(read(&value).is_ok());
        assert!(refusal(|value| value["layers"] = many(501).into()).contains("501 layers"));
    }
}
