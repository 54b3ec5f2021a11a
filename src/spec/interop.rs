//! Conversions to and from the types of the crate [`oci_spec`], which other Rust programs use.
//!
//! A conversion loses nothing silently. Our [`Index`] and [`Config`] are whole documents: a value of `oci_spec` is a view
//! of them, and [`Index::updated`] and [`Config::updated`] apply changes of the view to the document, with every member
//! that the view cannot hold (`Healthcheck`, `OnBuild`, `Shell`, extensions). [`Platform`], [`Descriptor`] and
//! [`Manifest`] hold fewer members than their counterparts, so a conversion of a value with such a member fails with an
//! error that names it.
//!
//! Bytes that are hashed never come from `oci_spec`, which writes maps in random order: they are written by
//! [`crate::common::json::canonical`].

use super::{Config, Descriptor, Index, Manifest, Platform, media_type};
use crate::common::error::{Error, Result};
use crate::common::json;
use crate::common::limits::{Limit, MostBytes};
use oci_spec::image as oci;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

impl TryFrom<&Platform> for oci::Platform {
    type Error = Error;

    fn try_from(platform: &Platform) -> Result<Self> {
        let mut members = Map::new();
        platform.write(&mut members);
        view(&members.into(), "platform")
    }
}

impl TryFrom<&oci::Platform> for Platform {
    type Error = Error;

    fn try_from(platform: &oci::Platform) -> Result<Self> {
        let document = document(platform, "platform")?;
        refuse(&document, &["os.version", "os.features", "features"], "platform")?;
        Platform::read(&document, "platform")
    }
}

impl TryFrom<&Descriptor> for oci::Descriptor {
    type Error = Error;

    fn try_from(descriptor: &Descriptor) -> Result<Self> {
        view(&descriptor.to_json(), "descriptor")
    }
}

impl TryFrom<&oci::Descriptor> for Descriptor {
    type Error = Error;

    fn try_from(descriptor: &oci::Descriptor) -> Result<Self> {
        let document = document(descriptor, "descriptor")?;
        refuse(&document, &["urls", "artifactType", "data"], "descriptor")?;
        if let Some(platform) = descriptor.platform() {
            Platform::try_from(platform)?;
        }
        Descriptor::read(&document, "descriptor")
    }
}

impl TryFrom<&Manifest> for oci::ImageManifest {
    type Error = Error;

    fn try_from(manifest: &Manifest) -> Result<Self> {
        view(&json::parse(&manifest.to_bytes(), json::DOCUMENT_DEPTH, "manifest")?, "manifest")
    }
}

impl TryFrom<&oci::ImageManifest> for Manifest {
    type Error = Error;

    fn try_from(manifest: &oci::ImageManifest) -> Result<Self> {
        let document = document(manifest, "manifest")?;
        refuse(&document, &["artifactType", "subject"], "manifest")?;
        for descriptor in std::iter::once(manifest.config()).chain(manifest.layers()) {
            Descriptor::try_from(descriptor).map_err(|error| error.within("manifest"))?;
        }
        let claimed = document["mediaType"].as_str().unwrap_or(media_type::MANIFEST).to_owned();
        Manifest::read(&json::canonical(&document), &claimed, "manifest")
    }
}

impl TryFrom<&Index> for oci::ImageIndex {
    type Error = Error;

    fn try_from(index: &Index) -> Result<Self> {
        view(index.document(), "index")
    }
}

impl TryFrom<&oci::ImageIndex> for Index {
    type Error = Error;

    fn try_from(index: &oci::ImageIndex) -> Result<Self> {
        read_index(&document(index, "index")?)
    }
}

impl TryFrom<&Config> for oci::ImageConfiguration {
    type Error = Error;

    fn try_from(config: &Config) -> Result<Self> {
        view(config.document(), "config")
    }
}

impl TryFrom<&oci::ImageConfiguration> for Config {
    type Error = Error;

    fn try_from(config: &oci::ImageConfiguration) -> Result<Self> {
        Config::read(&json::canonical(&document(config, "config")?), "config")
    }
}

impl Index {
    /// Returns this index with the changes that were made to its view.
    ///
    /// Members that the view cannot hold are kept.
    ///
    /// # Errors
    /// Returns an error if [`Index::read`] does not accept the result.
    pub fn updated(&self, changed: &oci::ImageIndex) -> Result<Self> {
        let before = document(&oci::ImageIndex::try_from(self)?, "index")?;
        let mut result = self.document().clone();
        carry_over(&mut result, &before, &document(changed, "index")?);
        read_index(&result)
    }
}

impl Config {
    /// Returns this config with the changes that were made to its view.
    ///
    /// Members that the view cannot hold are kept.
    ///
    /// ```
    /// use oci_spec::image::ImageConfiguration;
    /// use ocibuild::spec::Config;
    ///
    /// let text = br#"{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]},
    ///     "config":{"Healthcheck":{"Test":["NONE"]}}}"#;
    /// let config = Config::read(text, "config")?;
    /// let mut view = ImageConfiguration::try_from(&config)?;
    /// view.set_author(Some("a team".to_owned()));
    /// let config = config.updated(&view)?;
    /// assert_eq!(config.document()["author"], "a team");
    /// assert_eq!(config.document()["config"]["Healthcheck"]["Test"][0], "NONE");
    /// # Ok::<(), ocibuild::Error>(())
    /// ```
    ///
    /// # Errors
    /// Returns an error if [`Config::read`] does not accept the result.
    pub fn updated(&self, changed: &oci::ImageConfiguration) -> Result<Self> {
        let before = document(&oci::ImageConfiguration::try_from(self)?, "config")?;
        let mut result = self.document().clone();
        carry_over(&mut result, &before, &document(changed, "config")?);
        Config::read(&json::canonical(&result), "config")
    }
}

fn read_index(document: &Value) -> Result<Index> {
    let bytes = json::canonical(document);
    MostBytes::from(Limit::DocumentSize).check(bytes.len() as u64, "index")?;
    let claimed = document["mediaType"].as_str().unwrap_or(media_type::INDEX).to_owned();
    Index::read(&bytes, &claimed, "index")
}

/// Reads a document as a type of `oci_spec`.
fn view<T: DeserializeOwned>(document: &Value, object: &str) -> Result<T> {
    let mut document = document.clone();
    rename_in_platforms(&mut document, |[specified, theirs]| (specified, theirs));
    T::deserialize(document).map_err(|error| Error::invalid(object, error.to_string()))
}

/// Writes a value of `oci_spec` as a document.
fn document(value: &impl Serialize, object: &str) -> Result<Value> {
    let mut document = serde_json::to_value(value).map_err(|error| Error::invalid(object, error.to_string()))?;
    rename_in_platforms(&mut document, |[specified, theirs]| (theirs, specified));
    Ok(document)
}

/// Names of two members of a platform: in image-index.md, and as `oci_spec` 0.10 reads and writes them.
const PLATFORM_MEMBERS: [[&str; 2]; 2] = [["os.version", "os_version"], ["os.features", "os_features"]];

/// Renames members of a platform and of the platforms of all descriptors. `names` picks the old and the new name.
fn rename_in_platforms(document: &mut Value, names: fn([&'static str; 2]) -> (&'static str, &'static str)) {
    let Value::Object(members) = document else { return };
    for (from, to) in PLATFORM_MEMBERS.map(names) {
        // An image config also has members of these names, which `oci_spec` reads and writes as specified.
        if !members.contains_key("rootfs")
            && let Some(value) = members.remove(from)
        {
            members.insert(to.to_owned(), value);
        }
    }
    for key in ["platform", "subject", "config"] {
        members.get_mut(key).into_iter().for_each(|value| rename_in_platforms(value, names));
    }
    for key in ["manifests", "layers"] {
        let listed = members.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten();
        listed.for_each(|value| rename_in_platforms(value, names));
    }
}

fn refuse(document: &Value, members: &[&str], object: &str) -> Result<()> {
    match members.iter().find(|member| document.get(**member).is_some()) {
        Some(member) => Err(Error::invalid(object, format!("`{member}` is not supported there and would be lost"))),
        None => Ok(()),
    }
}

/// Applies the differences between two views, `before` and `after`, to `document`.
fn carry_over(document: &mut Value, before: &Value, after: &Value) {
    if before == after {
        return;
    }
    match (document, before, after) {
        (Value::Object(document), Value::Object(before), Value::Object(after)) => {
            document.retain(|key, _| after.contains_key(key) || !before.contains_key(key));
            for (key, value) in after {
                let slot = document.entry(key.clone()).or_insert(Value::Null);
                carry_over(slot, before.get(key).unwrap_or(&Value::Null), value);
            }
        }
        (Value::Array(document), Value::Array(before), Value::Array(after)) if document.len() == before.len() => {
            document.resize(after.len(), Value::Null);
            for (number, value) in after.iter().enumerate() {
                carry_over(&mut document[number], before.get(number).unwrap_or(&Value::Null), value);
            }
        }
        (document, _, after) => *document = after.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::digest::Digest;
    use proptest::prelude::*;
    use serde_json::json;

    fn config() -> Value {
        json!({
            "os": "linux", "architecture": "arm", "variant": "v7", "author": "a",
            "rootfs": {"type": "layers", "diff_ids": [Digest::of(b"tar").to_string()]},
            "history": [{"created_by": "RUN", "com.example": 1}, {"empty_layer": true}],
            "config": {
                "Env": ["A=1"], "ExposedPorts": {"80/tcp": {}}, "Volumes": {"/data": {}}, "Labels": {"k": "v"},
                "Healthcheck": {"Test": ["CMD", "true"]}, "OnBuild": ["RUN x"], "Shell": ["/bin/sh"],
            },
            "com.example": {"kept": true},
        })
    }

    fn read(document: &Value) -> Config {
        Config::read(&json::canonical(document), "config").unwrap()
    }

    #[test]
    fn a_config_keeps_what_a_view_cannot_hold() {
        let ours = read(&config());
        let mut view = oci::ImageConfiguration::try_from(&ours).unwrap();
        assert_eq!(ours.updated(&view).unwrap().document(), &config());
        view.set_author(None);
        let mut inner = view.config().clone().unwrap();
        inner.set_labels(None);
        inner.set_env(Some(vec!["B=2".to_owned()]));
        view.set_config(Some(inner));
        let mut expected = config();
        expected.as_object_mut().unwrap().remove("author");
        expected["config"].as_object_mut().unwrap().remove("Labels");
        expected["config"]["Env"] = json!(["B=2"]);
        assert_eq!(ours.updated(&view).unwrap().document(), &expected);
    }

    #[test]
    fn an_index_keeps_what_a_view_cannot_hold() {
        let mut listed = Descriptor::of(media_type::MANIFEST, b"1").annotated("k", "v").to_json();
        listed["com.example"] = 1.into();
        let text = json!({"schemaVersion": 2, "manifests": [listed.clone()], "com.example": 1});
        let ours = Index::read(&json::canonical(&text), media_type::INDEX, "index").unwrap();
        let mut view = oci::ImageIndex::try_from(&ours).unwrap();
        let mut manifests = view.manifests().clone();
        manifests.push((&Descriptor::of(media_type::MANIFEST, b"2")).try_into().unwrap());
        view.set_manifests(manifests);
        let updated = ours.updated(&view).unwrap();
        assert_eq!(updated.manifests().len(), 2);
        assert_eq!((&updated.document()["manifests"][0], &updated.document()["com.example"]), (&listed, &json!(1)));
    }

    #[test]
    fn a_platform_keeps_its_version() {
        let mut listed = Descriptor::of(media_type::MANIFEST, b"1").to_json();
        listed["platform"] =
            json!({"os": "windows", "architecture": "amd64", "os.version": "10", "os.features": ["x"]});
        let text = json!({"schemaVersion": 2, "manifests": [listed]});
        let ours = Index::read(&json::canonical(&text), media_type::INDEX, "index").unwrap();
        let view = oci::ImageIndex::try_from(&ours).unwrap();
        assert_eq!(view.manifests()[0].platform().as_ref().unwrap().os_version().as_deref(), Some("10"));
        assert_eq!(Index::try_from(&view).unwrap().document(), &text);
    }

    #[test]
    fn what_would_be_lost_is_refused() {
        let whole = Descriptor::of("m", b"hi").to_json();
        for (member, value) in
            [("urls", json!(["https://h/x"])), ("artifactType", json!("t/x")), ("data", json!("aGk="))]
        {
            let mut foreign = whole.clone();
            foreign[member] = value;
            let foreign: oci::Descriptor = view(&foreign, "x").unwrap();
            let reason = Descriptor::try_from(&foreign).unwrap_err().to_string();
            assert_eq!(reason, format!("descriptor: `{member}` is not supported there and would be lost"));
        }
        let platform: oci::Platform =
            view(&json!({"os": "windows", "architecture": "amd64", "os.version": "10"}), "x").unwrap();
        assert!(Platform::try_from(&platform).unwrap_err().to_string().contains("`os.version`"));
    }

    proptest! {
        #[test]
        fn there_and_back_is_the_same(
            media_types in proptest::collection::vec("application/[a-z.+-]{1,20}", 1..4),
            size in 0_u64..1 << 53,
            key in "[a-z]{1,9}", value in any::<String>(),
            platform in prop_oneof!["linux/amd64", "linux/arm/v7", "windows/amd64", "linux/riscv64"],
        ) {
            let platform: Platform = platform.parse().unwrap();
            prop_assert_eq!(Platform::try_from(&oci::Platform::try_from(&platform).unwrap()).unwrap(), platform.clone());
            let layer = |media_type: &String| {
                let described = Descriptor::new(media_type, Digest::of(media_type.as_bytes()), size);
                Descriptor { platform: Some(platform.clone()), ..described }.annotated(&key, value.clone())
            };
            let layers: Vec<Descriptor> = media_types.iter().map(layer).collect();
            for layer in &layers {
                prop_assert_eq!(&Descriptor::try_from(&oci::Descriptor::try_from(layer).unwrap()).unwrap(), layer);
            }
            let config = Descriptor::of(media_type::CONFIG, b"{}");
            let manifest = Manifest { config, layers, annotations: [(key, value)].into() };
            let back = Manifest::try_from(&oci::ImageManifest::try_from(&manifest).unwrap()).unwrap();
            prop_assert_eq!(back.to_bytes(), manifest.to_bytes());
        }
    }
}
