//! Manifests of artifacts, such as SBOMs, signatures and attestations, most of them about an image.

use super::descriptor::Descriptor;
use super::manifest::check_type;
use super::media_type;
use crate::common::error::{Error, Result};
use crate::common::json;
use crate::common::limits::Limit;
use serde_json::Value;

/// The manifest of an artifact (manifest.md, "Guidelines for Artifact Usage").
#[derive(Debug, Clone)]
pub struct Artifact {
    /// The kind of artifact: `artifactType`, or else the type of the config.
    pub artifact_type: String,
    /// The manifest that the artifact is about, if any. Such an artifact is a referrer of its subject.
    pub subject: Option<Descriptor>,
    /// All other blobs that the manifest refers to.
    pub blobs: Vec<Descriptor>,
}

impl Artifact {
    /// Parses the document `bytes`, which its referrer calls a `media_type`. Returns `None` for the manifest of an image.
    ///
    /// # Errors
    /// Returns an error if it is not exactly one manifest of that type, or exceeds a limit.
    pub fn read(bytes: &[u8], media_type: &str, object: &str) -> Result<Option<Self>> {
        let value = json::parse(bytes, json::DOCUMENT_DEPTH, object)?;
        let is_withdrawn_type = media_type == media_type::ARTIFACT;
        if !is_withdrawn_type {
            check_type(&value, media_type, object)?;
        }
        if value.get("manifests").is_some() {
            return Err(Error::invalid(object, "ambiguous: it has `manifests`, as in an index"));
        }
        let descriptor = |key: &str| value.get(key).map(|value| Descriptor::read(value, object)).transpose();
        let (config, subject) = (descriptor("config")?, descriptor("subject")?);
        let has_image_config = config.as_ref().is_some_and(|config| media_type::is_config(&config.media_type));
        if has_image_config && subject.is_none() && value.get("artifactType").is_none() {
            return Ok(None);
        }
        let mut blobs: Vec<Descriptor> = config.iter().cloned().collect();
        for key in ["layers", "blobs"] {
            let listed = json::array_at(&value, key, object)?.map_or(&[][..], |listed| listed);
            Limit::Layers.check(listed.len(), object, key.trim_end_matches('s'))?;
            let read = |blob: &Value| Descriptor::read(blob, object);
            blobs.extend(listed.iter().map(read).collect::<Result<Vec<_>>>()?);
        }
        let artifact_type = json::string_at(&value, "artifactType", object)?.map(str::to_owned);
        let of_config = || config.map(|config| config.media_type).unwrap_or_default();
        Ok(Some(Artifact { artifact_type: artifact_type.unwrap_or_else(of_config), subject, blobs }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: &Value) -> Result<Option<Artifact>> {
        Artifact::read(value.to_string().as_bytes(), media_type::MANIFEST, "manifest")
    }

    #[test]
    fn an_image_is_no_artifact_and_a_referrer_is() {
        let image = json!({
            "schemaVersion": 2,
            "config": Descriptor::of(media_type::CONFIG, b"{}").to_json(),
            "layers": [Descriptor::of(media_type::LAYER_GZIP, b"x").to_json()],
        });
        assert!(read(&image).unwrap().is_none());
        let mut sbom = image.clone();
        sbom["config"] = Descriptor::of("application/vnd.oci.empty.v1+json", b"{}").to_json();
        sbom["subject"] = Descriptor::of(media_type::MANIFEST, b"image").to_json();
        let found = read(&sbom).unwrap().unwrap();
        assert_eq!(found.artifact_type, "application/vnd.oci.empty.v1+json");
        assert_eq!((found.blobs.len(), found.subject.unwrap().digest), (2, crate::Digest::of(b"image")));
        let mut signature = image.clone();
        signature["subject"] = Descriptor::of(media_type::MANIFEST, b"image").to_json();
        assert!(read(&signature).unwrap().is_some());
        sbom["layers"] = vec![image["layers"][0].clone(); 501].into();
        assert!(read(&sbom).unwrap_err().to_string().contains("more than 500"));
    }
}
