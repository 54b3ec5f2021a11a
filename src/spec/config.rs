//! Image configs.

use super::Platform;
use crate::digest::DiffId;
use crate::error::{Error, Result};
use crate::json;
use serde_json::Value;

/// An image config (config.md): the whole document, and checked views of what we need of it.
#[derive(Debug, Clone)]
pub struct Config {
    document: Value,
    platform: Platform,
    diff_ids: Vec<DiffId>,
}

impl Config {
    /// The config of an image without layers.
    pub fn scratch(platform: &Platform) -> Self {
        let mut document = serde_json::Map::new();
        platform.write(&mut document);
        document.insert("rootfs".to_owned(), serde_json::json!({"type": "layers", "diff_ids": []}));
        Config { document: document.into(), platform: platform.clone(), diff_ids: Vec::new() }
    }

    /// Reads the document `bytes`.
    ///
    /// # Errors
    /// When it is not one JSON object, names no platform, or its root file system is not a list of diff IDs.
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
        json::object_at(&document, "config", object)?;
        json::array_at(&document, "history", object)?;
        Ok(Config { document, platform, diff_ids })
    }

    /// The whole document.
    pub fn document(&self) -> &Value {
        &self.document
    }

    /// Where the image runs.
    pub fn platform(&self) -> &Platform {
        &self.platform
    }

    /// The digests of the uncompressed layers, lowest first.
    pub fn diff_ids(&self) -> &[DiffId] {
        &self.diff_ids
    }

    /// How many layers the history tells of, where there is a history.
    pub fn layers_in_history(&self) -> Option<usize> {
        let history = self.document.get("history").and_then(Value::as_array).filter(|history| !history.is_empty())?;
        Some(history.iter().filter(|entry| entry.get("empty_layer").and_then(Value::as_bool) != Some(true)).count())
    }

    /// What is odd about the history; it is for people, so nothing of it is an error.
    pub fn history_oddities(&self) -> Vec<String> {
        let mut odd = Vec::new();
        if let Some(told) = self.layers_in_history().filter(|told| *told != self.diff_ids.len()) {
            odd.push(format!("its history tells of {told} layers, it has {}", self.diff_ids.len()));
        }
        for entry in self.document.get("history").and_then(Value::as_array).into_iter().flatten() {
            let Some(created) = entry.get("created") else { continue };
            let is_valid = created.as_str().is_some_and(|text| text.parse::<jiff::Timestamp>().is_ok());
            if !is_valid {
                odd.push(format!("its history holds the time {created}"));
            }
        }
        odd
    }
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
    fn odd_history_is_told_and_not_fatal() {
        let text = r#"{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]},
            "history":[{"created":"yesterday"},{"empty_layer":true}]}"#;
        let odd = Config::read(text.as_bytes(), "config").unwrap().history_oddities();
        assert_eq!(odd, ["its history tells of 1 layers, it has 0", "its history holds the time \"yesterday\""]);
    }
}
