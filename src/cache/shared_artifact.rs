//! Shared layers as an artifact in a registry: a manifest that keeps their blobs in the repository, and a config that describes
//! them.
//!
//! ```text
//! manifest  config ─▶ group, and for each layer its diff ID, its keys and facts about it
//!           layers ─▶ the blobs, in the same order
//! ```
//!
//! The config is embedded in the manifest as well, so that reading both takes one request. The same layers produce the same
//! documents.

use super::{LayerFacts, LayerKey};
use crate::common::digest::Digest;
use crate::common::error::{Error, Result};
use crate::common::json;
use crate::common::limits::Limit;
use crate::layers::Layer;
use crate::spec::{Descriptor, media_type};
use serde_json::{Value, json};

/// The artifact type (manifest.md, "Guidelines for Artifact Usage").
const ARTIFACT_TYPE: &str = "application/vnd.ocibuild.cache.v1";
/// The media type of its config.
pub(super) const CONFIG_TYPE: &str = "application/vnd.ocibuild.cache.v1+json";

/// The maximum number of keys of one layer.
const MOST_KEYS: usize = 16;

/// A layer that is found under several keys.
#[derive(Debug, Clone, PartialEq)]
pub struct SharedLayer {
    /// The layer.
    pub layer: Layer,
    /// The keys under which it is found.
    pub keys: Vec<LayerKey>,
    /// The facts about its content.
    pub facts: LayerFacts,
}

/// The documents of an artifact that is ready to be stored.
#[derive(Debug)]
pub(super) struct ArtifactDocuments {
    pub(super) config: Descriptor,
    pub(super) config_bytes: Vec<u8>,
    pub(super) manifest: Descriptor,
    pub(super) manifest_bytes: Vec<u8>,
}

/// The parsed manifest of an artifact.
#[derive(Debug)]
pub(super) struct CacheManifest {
    /// The descriptor of the config, which describes the layers.
    pub(super) config: Descriptor,
    /// The bytes of the config, if they are embedded.
    pub(super) config_bytes: Option<Vec<u8>>,
    /// The descriptors of the blobs.
    pub(super) layers: Vec<Descriptor>,
}

/// Creates the documents that share `layers` as `group`.
pub(super) fn documents(group: &LayerKey, layers: &[SharedLayer]) -> ArtifactDocuments {
    let described: Vec<Value> = layers
        .iter()
        .map(|shared| {
            let SharedLayer { layer: Layer { descriptor, diff_id, tar_size }, keys, facts } = shared;
            let keys: Vec<String> = keys.iter().map(LayerKey::hex).collect();
            let (diff_id, digest) = (diff_id.to_string(), descriptor.digest.to_string());
            json!({"diffId": diff_id, "digest": digest, "keys": keys, "notes": facts.to_json(), "tarSize": tar_size})
        })
        .collect();
    let config = json!({"group": group.hex(), "layers": described});
    ArtifactDocuments::new(CONFIG_TYPE, &config, layers.iter().map(|shared| &shared.layer.descriptor))
}

impl ArtifactDocuments {
    /// Creates the documents of an artifact with this config and these blobs.
    pub(super) fn new<'a>(
        config_type: &str,
        config: &Value,
        blobs: impl Iterator<Item = &'a Descriptor>,
    ) -> ArtifactDocuments {
        let config_bytes = json::canonical(config);
        let config = Descriptor::of(config_type, &config_bytes);
        let blobs: Vec<Value> = blobs.map(Descriptor::to_json).collect();
        let manifest_bytes = json::canonical(&json!({
            "schemaVersion": 2,
            "mediaType": media_type::MANIFEST,
            "artifactType": ARTIFACT_TYPE,
            "config": config.to_json_with_data(&config_bytes),
            "layers": blobs,
        }));
        let manifest = Descriptor::of(media_type::MANIFEST, &manifest_bytes);
        ArtifactDocuments { config, config_bytes, manifest, manifest_bytes }
    }
}

impl CacheManifest {
    /// Parses the manifest that messages call `object`.
    ///
    /// # Errors
    /// Returns an error if it is malformed, or its config is not of `config_type`.
    pub(super) fn read(bytes: &[u8], config_type: &str, object: &str) -> Result<CacheManifest> {
        let wrong = |reason: &str| Error::invalid(object, reason);
        let value = json::parse(bytes, json::DOCUMENT_DEPTH, object)?;
        if value.get("manifests").is_some() || value.get("schemaVersion").and_then(Value::as_u64) != Some(2) {
            return Err(wrong("not a manifest"));
        }
        let config = value.get("config").ok_or_else(|| wrong("a manifest without `config`"))?;
        let (config, config_bytes) = Descriptor::read_with_data(config, object)?;
        if config.media_type != config_type {
            return Err(wrong("not in the format of the cache"));
        }
        let layers = json::array_at(&value, "layers", object)?.map_or(&[][..], Vec::as_slice);
        Limit::Layers.check(layers.len(), object, "layer")?;
        let layers = layers.iter().map(|layer| Descriptor::read(layer, object)).collect::<Result<Vec<_>>>()?;
        let is_layer = |layer: &Descriptor| media_type::layer_encoding(&layer.media_type).is_some();
        if !layers.iter().all(is_layer) {
            return Err(wrong("one of its blobs is not a layer"));
        }
        Ok(CacheManifest { config, config_bytes, layers })
    }

    /// Returns the layers of `group` that `bytes`, the config of this manifest, describes.
    ///
    /// # Errors
    /// Returns an error if the config is malformed, belongs to another group, or does not describe exactly the layers of the
    /// manifest.
    pub(super) fn layers(&self, bytes: &[u8], group: &LayerKey, object: &str) -> Result<Vec<SharedLayer>> {
        let wrong = |reason: &str| Error::invalid(object, reason);
        let value = json::parse(bytes, json::DOCUMENT_DEPTH, object)?;
        if json::string_at(&value, "group", object)? != Some(&group.hex()) {
            return Err(wrong("its content does not match its tag"));
        }
        let described = json::array_at(&value, "layers", object)?.map_or(&[][..], Vec::as_slice);
        if described.len() != self.layers.len() {
            return Err(wrong("its description does not match its layers"));
        }
        described.iter().zip(&self.layers).map(|(described, blob)| shared_layer(described, blob, object)).collect()
    }
}

fn shared_layer(described: &Value, blob: &Descriptor, object: &str) -> Result<SharedLayer> {
    let wrong = |reason: &str| Error::invalid(object, reason);
    let text = |key: &str| json::string_at(described, key, object).transpose();
    let digest: Digest = text("digest").ok_or_else(|| wrong("a layer without digest"))??.parse()?;
    if digest != blob.digest {
        return Err(wrong("its description does not match its layers"));
    }
    let keys = json::array_at(described, "keys", object)?.map_or(&[][..], Vec::as_slice);
    if keys.len() > MOST_KEYS {
        return Err(wrong("too many keys"));
    }
    let keys: Option<Vec<LayerKey>> = keys.iter().map(|key| LayerKey::from_hex(key.as_str()?)).collect();
    Ok(SharedLayer {
        layer: Layer {
            descriptor: Descriptor::new(&blob.media_type, blob.digest, blob.size),
            diff_id: text("diffId").ok_or_else(|| wrong("a layer without diff ID"))??.parse()?,
            tar_size: json::integer_at(described, "tarSize", object)?.unwrap_or_default(),
        },
        keys: keys.ok_or_else(|| wrong("malformed key"))?,
        facts: described.get("notes").map(LayerFacts::read).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::RecipeKey;
    use crate::codec::compression::Compression;
    use crate::common::digest::DiffId;
    use crate::secrets::FoundSecret;

    fn key(name: &str) -> LayerKey {
        LayerKey::of_recipe(&RecipeKey::new(&[name.as_bytes()], ""), Compression::DEFAULT_GZIP.into())
    }

    fn secrets(what: &str) -> LayerFacts {
        let secret = FoundSecret { source: "s".to_owned(), path: "p".to_owned(), line: 1, what: what.to_owned() };
        LayerFacts::Secrets { secrets: vec![secret] }
    }

    fn layer(content: &[u8]) -> SharedLayer {
        let descriptor = Descriptor::of(media_type::LAYER_GZIP, content);
        let diff_id = DiffId::of_tar(Digest::of(&[content, b"tar"].concat()));
        SharedLayer {
            layer: Layer { descriptor, diff_id, tar_size: 512 },
            keys: vec![key("a"), key("b")],
            facts: secrets("a key"),
        }
    }

    fn read(manifest: &[u8], config: Option<&[u8]>, group: &LayerKey) -> Result<Vec<SharedLayer>> {
        let manifest = CacheManifest::read(manifest, CONFIG_TYPE, "artifact")?;
        let embedded = manifest.config_bytes.clone().unwrap_or_default();
        manifest.layers(config.unwrap_or(&embedded), group, "artifact")
    }

    #[test]
    fn what_is_shared_is_read_again() {
        let layers = [layer(b"one"), layer(b"two")];
        let made = documents(&key("g"), &layers);
        assert_eq!(read(&made.manifest_bytes, None, &key("g")).unwrap(), layers);
        assert_eq!(documents(&key("g"), &layers).manifest, made.manifest);
        assert!(made.manifest_bytes.len() < 3000, "{}", made.manifest_bytes.len());
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let made = documents(&key("g"), &[layer(b"one")]);
        let refused = |manifest: &[u8], config: Option<&[u8]>, group: &str| {
            read(manifest, config, &key(group)).unwrap_err().reason()
        };
        assert!(refused(&made.manifest_bytes, None, "other").contains("does not match its tag"));
        let other = documents(&key("g"), &[layer(b"two")]);
        assert!(refused(&made.manifest_bytes, Some(&other.config_bytes), "g").contains("does not match its layers"));
        let none = documents(&key("g"), &[]);
        assert!(refused(&made.manifest_bytes, Some(&none.config_bytes), "g").contains("does not match its layers"));
        for length in 0..made.manifest_bytes.len() {
            assert!(read(&made.manifest_bytes[..length], None, &key("g")).is_err());
        }
        let text = String::from_utf8(made.manifest_bytes).unwrap();
        for (from, to) in [
            (CONFIG_TYPE, media_type::CONFIG),
            (media_type::LAYER_GZIP, "text/html"),
            ("\"schemaVersion\":2", "\"schemaVersion\":1"),
            ("\"data\":\"", "\"data\":\"AAAA"),
        ] {
            assert!(text.contains(from));
            assert!(read(text.replace(from, to).as_bytes(), None, &key("g")).is_err(), "{to}");
        }
    }

    #[test]
    fn a_large_config_is_not_embedded() {
        let facts = secrets(&"x".repeat(60_000));
        let made = documents(&key("g"), &[SharedLayer { facts, ..layer(b"one") }]);
        let manifest = CacheManifest::read(&made.manifest_bytes, CONFIG_TYPE, "artifact").unwrap();
        assert_eq!(manifest.config_bytes, None);
        assert_eq!(manifest.layers(&made.config_bytes, &key("g"), "artifact").unwrap().len(), 1);
    }
}
