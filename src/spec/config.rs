//! Image configs.

use super::Platform;
use crate::common::digest::DiffId;
use crate::common::error::{Error, Result};
use crate::common::human_numbers::counted;
use crate::common::json;
use crate::common::time::Timestamp;
use serde_json::Value;
use std::collections::BTreeSet;

/// The `PATH` that engines use if an image does not set one.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// An image config (config.md): the whole document, with checked views of the members that we need.
///
/// ```
/// use ocibuild::Platform;
/// use ocibuild::spec::Config;
///
/// let bytes = br#"{"os": "linux", "architecture": "arm64", "rootfs": {"type": "layers", "diff_ids": []},
///     "config": {"Env": ["PATH=/bin"]}}"#;
/// let config = Config::read(bytes, "a config")?;
/// assert_eq!(config.platform().to_string(), "linux/arm64");
/// assert_eq!(config.variable("PATH"), Some("/bin"));
/// # Ok::<(), ocibuild::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Config {
    document: Value,
    platform: Platform,
    diff_ids: Vec<DiffId>,
}

impl Config {
    /// Returns the config of an image without layers.
    pub fn scratch(platform: &Platform) -> Self {
        let mut document = serde_json::Map::new();
        platform.write(&mut document);
        document.insert("rootfs".to_owned(), serde_json::json!({"type": "layers", "diff_ids": []}));
        Config { document: document.into(), platform: platform.clone(), diff_ids: Vec::new() }
    }

    /// Parses the document `bytes`.
    ///
    /// # Errors
    /// Returns an error if it is not one JSON object, names no platform, its root file system is not a list of diff IDs,
    /// or a member of its `config` has an impossible type.
    pub fn read(bytes: &[u8], object: &str) -> Result<Self> {
        let document = json::parse(bytes, json::DOCUMENT_DEPTH, object)?;
        let platform = Platform::read(&document, object)?;
        let rootfs = document.get("rootfs").ok_or_else(|| Error::invalid(object, "a config without `rootfs`"))?;
        if json::string_at(rootfs, "type", object)? != Some("layers") {
            return Err(Error::invalid(object, "`rootfs.type` is not `layers`"));
        }
        let mut diff_ids = Vec::new();
        for listed in json::array_at(rootfs, "diff_ids", object)?.map_or(&[][..], |listed| listed) {
            let text = listed.as_str().ok_or_else(|| Error::invalid(object, "a diff ID that is not a string"))?;
            diff_ids.push(text.parse::<DiffId>().map_err(|error| error.within(object))?);
        }
        check_members(&document, object)?;
        json::array_at(&document, "history", object)?;
        Ok(Config { document, platform, diff_ids })
    }

    /// Returns the whole document.
    pub fn document(&self) -> &Value {
        &self.document
    }

    /// Returns the value of the environment variable `name` in new containers.
    pub fn variable(&self, name: &str) -> Option<&str> {
        let variables = self.document["config"]["Env"].as_array().into_iter().flatten().filter_map(Value::as_str);
        variables
            .filter_map(|variable| variable.split_once('='))
            .find_map(|(key, value)| (key == name).then_some(value))
    }

    /// Returns the platform of the image.
    pub fn platform(&self) -> &Platform {
        &self.platform
    }

    /// Returns the digests of the uncompressed layers, lowest first.
    pub fn diff_ids(&self) -> &[DiffId] {
        &self.diff_ids
    }

    /// Returns the number of layers in the history, or `None` if there is no history.
    pub fn layers_in_history(&self) -> Option<usize> {
        let history = self.document.get("history").and_then(Value::as_array).filter(|history| !history.is_empty())?;
        Some(history.iter().filter(|entry| entry.get("empty_layer").and_then(Value::as_bool) != Some(true)).count())
    }

    /// Returns the commands that made the layers, as far as the history has them.
    pub fn created_by(&self) -> impl Iterator<Item = &str> {
        self.document["history"].as_array().into_iter().flatten().filter_map(|entry| entry["created_by"].as_str())
    }

    /// Returns whether the history can be continued: every entry is an object, and it has one entry for each layer.
    pub fn has_fitting_history(&self) -> bool {
        let history = self.document["history"].as_array().map_or(&[][..], |history| history);
        history.iter().all(Value::is_object) && self.layers_in_history().unwrap_or(0) == self.diff_ids.len()
    }

    /// Returns warnings about the document. Engines treat such members differently, but none of them changes the image.
    pub fn warnings(&self) -> Vec<String> {
        let mut odd = self.history_oddities();
        let config = &self.document["config"];
        if config["OnBuild"].as_array().is_some_and(|triggers| !triggers.is_empty()) {
            odd.push("it has ONBUILD triggers, which are preserved but not run".to_owned());
        }
        odd.extend(variable_oddities(config["Env"].as_array().map_or(&[][..], |variables| variables)));
        if let Some(user) = config["User"].as_str().filter(|user| user.split(':').count() > 2) {
            odd.push(format!("its user {user:?} is not of the form USER[:GROUP]"));
        }
        odd
    }

    fn history_oddities(&self) -> Vec<String> {
        let mut odd = Vec::new();
        if let Some(in_history) = self.layers_in_history().filter(|in_history| *in_history != self.diff_ids.len()) {
            odd.push(format!(
                "its history has {}, the image has {}",
                counted(in_history, "layer"),
                self.diff_ids.len()
            ));
        }
        for entry in self.document["history"].as_array().into_iter().flatten() {
            if !entry.is_object() {
                odd.push("its history has an entry that is not an object".to_owned());
            }
            let Some(created) = entry.get("created").filter(|created| !created.is_null()) else { continue };
            if !created.as_str().is_some_and(is_rfc_3339) {
                odd.push(format!("its history has the time {created}"));
            }
        }
        odd
    }
}

fn is_rfc_3339(text: &str) -> bool {
    text.parse::<jiff::Timestamp>().is_ok_and(|moment| Timestamp::from_seconds(moment.as_second()).is_ok())
}

fn variable_oddities(variables: &[Value]) -> Vec<String> {
    let mut odd = Vec::new();
    let mut seen = BTreeSet::new();
    for variable in variables.iter().filter_map(Value::as_str) {
        let (key, value) = match variable.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (variable, None),
        };
        if value.is_none() {
            odd.push(format!("its variable {key:?} has no value"));
        }
        if !seen.insert(key) {
            odd.push(format!("its variable {key:?} is set twice"));
        }
        if variable.contains(['\0', '\n', '\r']) {
            odd.push(format!("its variable {key:?} contains a control character"));
        }
    }
    odd
}

/// Checks the members that engines read with the types of config.md. Engines refuse an image with other types.
fn check_members(document: &Value, object: &str) -> Result<()> {
    let Some(members) = json::object_at(document, "config", object)? else { return Ok(()) };
    let config = &Value::Object(members.clone());
    let wrong = |key: &str, expected: &str| Error::invalid(object, format!("`{key}`: expected {expected}"));
    for key in ["User", "WorkingDir", "StopSignal"] {
        json::string_at(config, key, object)?;
    }
    for key in ["Env", "Entrypoint", "Cmd"] {
        let listed = json::array_at(config, key, object)?.map_or(&[][..], |listed| listed);
        if !listed.iter().all(Value::is_string) {
            return Err(wrong(key, "an array of strings"));
        }
    }
    for key in ["ExposedPorts", "Volumes", "Labels"] {
        let members = json::object_at(config, key, object)?;
        if key == "Labels" && !members.into_iter().flatten().all(|(_, value)| value.is_string()) {
            return Err(wrong(key, "an object of strings"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        Config::read(text.as_bytes(), "config").unwrap_err().to_string()
    }

    #[test]
    fn a_platform_and_layers_are_required() {
        assert!(refusal(r#"{"os":"linux"}"#).contains("no `architecture`"));
        assert!(refusal(r#"{"os":"linux","architecture":"amd64"}"#).contains("without `rootfs`"));
        assert!(refusal(r#"{"os":"linux","architecture":"amd64","rootfs":{"type":"x"}}"#).contains("`rootfs.type`"));
        let bad = r#"{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":["sha256:1"]}}"#;
        assert!(refusal(bad).contains("invalid digest"));
        let text = r#"{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":null},"config":null}"#;
        assert!(Config::read(text.as_bytes(), "config").unwrap().diff_ids().is_empty());
    }

    #[test]
    fn an_odd_history_is_a_warning() {
        let text = r#"{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]},
            "history":[{"created":"yesterday"},{"empty_layer":true}]}"#;
        let odd = Config::read(text.as_bytes(), "config").unwrap().warnings();
        assert_eq!(odd, ["its history has 1 layer, the image has 0", "its history has the time \"yesterday\""]);
    }
}
