//! Changes of the config and the annotations of an existing image.

use super::rewrite::{ChangedImage, Draft};
use crate::build::image::ConfigEdit;
use crate::common::error::{Error, Result};
use crate::common::time::Timestamp;
use crate::spec::media_type;
use crate::store::StoredImage;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// A member of a config that has one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConfigMember {
    /// The command that is always run, with the command or arguments that belong to it.
    Entrypoint,
    /// The command, or the arguments of the entrypoint.
    Cmd,
    /// The working directory.
    WorkingDir,
    /// The user.
    User,
    /// The signal that stops the container.
    StopSignal,
    /// The health check.
    Healthcheck,
    /// The author.
    Author,
    /// The time when the image was made.
    Created,
}

/// Changes to the config and the annotations of an image. Members that are not named stay unchanged, the annotations about the
/// base among them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImageEdit {
    /// Members to set, and environment variables to remove.
    pub config: ConfigEdit,
    /// Members to remove.
    pub unset: BTreeSet<ConfigMember>,
    /// Labels to remove.
    pub unset_labels: BTreeSet<String>,
    /// Ports to remove, such as `80/tcp`.
    pub unset_ports: BTreeSet<String>,
    /// Volumes to remove.
    pub unset_volumes: BTreeSet<String>,
    /// The time that the image reports.
    pub created: Option<Timestamp>,
    /// Annotations of the manifest to set or replace.
    pub annotations: BTreeMap<String, String>,
    /// Annotations of the manifest to remove.
    pub unset_annotations: BTreeSet<String>,
}

/// The names of messages about the config.
const OBJECT: &str = "config of the image";

impl ImageEdit {
    /// Returns `image` with the changes, or `None` if it is already as they ask.
    ///
    /// # Errors
    /// Fails if a member to be changed has an impossible type, annotations are set on a manifest of Docker's type, which has
    /// none, or a document becomes larger than readers accept.
    pub fn apply(&self, image: StoredImage) -> Result<Option<ChangedImage>> {
        let mut draft = Draft::of(image)?;
        let mut config = draft.config.clone();
        self.edit_config(&mut config)?;
        // What another program writes as an empty member is the same as none.
        if significant(&config) != significant(&draft.config) {
            draft.config = config;
        }
        self.edit_annotations(&mut draft)?;
        draft.finish()
    }

    fn edit_config(&self, document: &mut Value) -> Result<()> {
        let mut edit = self.config.clone();
        let current = &document["config"]["Entrypoint"];
        // The same entrypoint keeps the arguments that belong to it.
        if edit.entrypoint.as_ref().is_some_and(|entrypoint| json!(entrypoint) == *current) {
            edit.entrypoint = None;
        }
        if self.unset.contains(&ConfigMember::Entrypoint) && !current.is_null() {
            edit.entrypoint = Some(Vec::new());
        }
        edit.apply(document, OBJECT)?;
        let top = document.as_object_mut().ok_or_else(|| Error::invalid(OBJECT, "expected a JSON object"))?;
        self.remove_from(top);
        remove_emptied(top);
        if let Some(created) = self.created.filter(|created| !is_moment(top.get("created"), *created)) {
            top.insert("created".to_owned(), created.to_string().into());
        }
        Ok(())
    }

    fn remove_from(&self, top: &mut Map<String, Value>) {
        for member in &self.unset {
            let (is_at_the_top, key) = member.place();
            match is_at_the_top {
                true => top.remove(key),
                false => top.get_mut("config").and_then(Value::as_object_mut).and_then(|config| config.remove(key)),
            };
        }
        let Some(config) = top.get_mut("config").and_then(Value::as_object_mut) else { return };
        // The protocol is optional in a config, and is tcp then.
        let ports: Vec<&str> = self
            .unset_ports
            .iter()
            .flat_map(|port| [Some(port.as_str()), port.strip_suffix("/tcp")])
            .flatten()
            .collect();
        let labels = self.unset_labels.iter().map(String::as_str).collect();
        let volumes = self.unset_volumes.iter().map(String::as_str).collect();
        for (key, names) in [("Labels", labels), ("ExposedPorts", ports), ("Volumes", volumes)] {
            let Some(members) = config.get_mut(key).and_then(Value::as_object_mut) else { continue };
            let before = members.len();
            names.iter().for_each(|name| drop(members.remove(*name)));
            if members.is_empty() && before > 0 {
                config.remove(key);
            }
        }
    }

    fn edit_annotations(&self, draft: &mut Draft) -> Result<()> {
        let present = &draft.image().manifest.annotations;
        let mut after = present.clone();
        after.retain(|key, _| !self.unset_annotations.contains(key));
        after.extend(self.annotations.clone());
        if after == *present {
            return Ok(());
        }
        if draft.image().descriptor.media_type == media_type::DOCKER_MANIFEST && !self.annotations.is_empty() {
            let reason = "its manifest is of Docker's type, which has no annotations";
            return Err(Error::invalid("image", reason).hint("--label sets a label, which every image can have"));
        }
        match (after.is_empty(), draft.manifest.as_object_mut()) {
            (true, Some(manifest)) => drop(manifest.remove("annotations")),
            _ => draft.manifest["annotations"] = json!(after),
        }
        Ok(())
    }
}

impl ConfigMember {
    /// Returns whether the member is at the top of the document, and its key there or in `config`.
    fn place(self) -> (bool, &'static str) {
        match self {
            ConfigMember::Entrypoint => (false, "Entrypoint"),
            ConfigMember::Cmd => (false, "Cmd"),
            ConfigMember::WorkingDir => (false, "WorkingDir"),
            ConfigMember::User => (false, "User"),
            ConfigMember::StopSignal => (false, "StopSignal"),
            ConfigMember::Healthcheck => (false, "Healthcheck"),
            ConfigMember::Author => (true, "author"),
            ConfigMember::Created => (true, "created"),
        }
    }
}

/// Removes the environment and the config if nothing is left in them, so that setting and unsetting leads back.
fn remove_emptied(top: &mut Map<String, Value>) {
    let Some(config) = top.get_mut("config").and_then(Value::as_object_mut) else { return };
    if config.get("Env").and_then(Value::as_array).is_some_and(Vec::is_empty) {
        config.remove("Env");
    }
    if config.is_empty() {
        top.remove("config");
    }
}

/// Returns whether the text `value` is the time `created`, however it is written.
fn is_moment(value: Option<&Value>, created: Timestamp) -> bool {
    let moment = value.and_then(Value::as_str).and_then(|text| text.parse::<jiff::Timestamp>().ok());
    moment.is_some_and(|moment| moment.as_second() == created.seconds() && moment.subsec_nanosecond() == 0)
}

/// Returns a config without members that are empty.
fn significant(document: &Value) -> Value {
    let is_empty = |value: &Value| match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    };
    let mut document = document.clone();
    if let Some(config) = document.get_mut("config").and_then(Value::as_object_mut) {
        config.retain(|_, value| !is_empty(value));
    }
    if let Some(top) = document.as_object_mut() {
        top.retain(|_, value| !is_empty(value));
    }
    document
}
