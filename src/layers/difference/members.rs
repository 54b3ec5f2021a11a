//! The members of two documents that differ.

use super::{IgnoredDifference, IgnoredDifferences};
use crate::spec::{CONTAINERD_NAME, REF_NAME};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// A document of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DocumentPart {
    /// The index of a multi-platform image.
    Index,
    /// The entry of the index that lists the image.
    Entry,
    /// The manifest.
    Manifest,
    /// The config.
    Config,
}

impl DocumentPart {
    /// Returns its name.
    pub fn name(self) -> &'static str {
        match self {
            DocumentPart::Index => "index",
            DocumentPart::Entry => "entry",
            DocumentPart::Manifest => "manifest",
            DocumentPart::Config => "config",
        }
    }
}

/// A member of a document that only one of two images has, or with another value.
#[derive(Debug, Clone, PartialEq)]
pub struct MemberDifference {
    /// The document.
    pub part: DocumentPart,
    /// The name of the member: `label a`, `env PATH`, `created`.
    pub name: String,
    /// Its value in the first image.
    pub before: Option<Value>,
    /// Its value in the second image.
    pub after: Option<Value>,
}

impl MemberDifference {
    /// Creates the difference of two documents that differ in nothing that has a name, such as their white space.
    pub fn of_bytes(part: DocumentPart) -> MemberDifference {
        MemberDifference { part, name: "formatting".to_owned(), before: None, after: None }
    }
}

/// The annotations of an index entry that belong to the place of an image, not to the image.
fn is_of_the_place(annotation: &str) -> bool {
    [REF_NAME, CONTAINERD_NAME].contains(&annotation) || annotation.starts_with("dev.ocibuild.")
}

const CREATED_ANNOTATION: &str = "org.opencontainers.image.created";
const BASE_ANNOTATION: &str = "org.opencontainers.image.base.";

/// Collects the differences of one document.
pub(super) struct MemberComparison<'a> {
    part: DocumentPart,
    ignored: &'a IgnoredDifferences,
    found: Vec<MemberDifference>,
}

type MemberValue<'a> = Option<&'a Value>;

impl<'a> MemberComparison<'a> {
    pub(super) fn new(part: DocumentPart, ignored: &'a IgnoredDifferences) -> Self {
        MemberComparison { part, ignored, found: Vec::new() }
    }

    fn ignores(&self, what: IgnoredDifference) -> bool {
        self.ignored.contains(&what)
    }

    fn add(&mut self, name: impl Into<String>, before: MemberValue<'_>, after: MemberValue<'_>) {
        if before != after {
            let (before, after) = (before.cloned(), after.cloned());
            self.found.push(MemberDifference { part: self.part, name: name.into(), before, after });
        }
    }

    /// Calls `compare` for each key that one of two objects has.
    fn each(
        &mut self,
        before: MemberValue<'_>,
        after: MemberValue<'_>,
        mut compare: impl FnMut(&mut Self, &str, [MemberValue<'_>; 2]),
    ) {
        let [one, other] = [before, after].map(|value| value.and_then(Value::as_object));
        let keys: BTreeSet<&String> = [one, other].into_iter().flatten().flat_map(Map::keys).collect();
        for key in keys {
            let values = [one, other].map(|members| members.and_then(|members| members.get(key)));
            if values[0] != values[1] {
                compare(self, key, values);
            }
        }
    }

    /// Compares two objects key by key, with names that begin with `noun`. Values of other types are compared whole.
    fn keyed(&mut self, noun: &str, whole: &str, before: MemberValue<'_>, after: MemberValue<'_>) {
        let start = self.found.len();
        self.each(before, after, |this, key, [before, after]| this.add(format!("{noun} {key}"), before, after));
        if self.found.len() == start {
            self.add(whole, before, after);
        }
    }

    fn annotations(&mut self, before: MemberValue<'_>, after: MemberValue<'_>) {
        if self.ignores(IgnoredDifference::Annotations) {
            return;
        }
        self.each(before, after, |this, key, [before, after]| {
            let is_time = key == CREATED_ANNOTATION && this.ignores(IgnoredDifference::Times);
            if is_time || this.part == DocumentPart::Entry && is_of_the_place(key) {
                return;
            }
            match key.strip_prefix(BASE_ANNOTATION) {
                Some(of_base) => this.add(format!("base {of_base}"), before, after),
                None => this.add(format!("annotation {key}"), before, after),
            }
        });
    }

    /// Compares two configs. The diff IDs are those of the layers, which are compared themselves.
    pub(super) fn config(mut self, before: &Value, after: &Value) -> Vec<MemberDifference> {
        self.each(Some(before), Some(after), |this, key, [before, after]| match key {
            "config" => this.settings(before, after),
            "history" => this.history(before, after),
            "rootfs" => this.each(before, after, |this, key, [before, after]| {
                if key != "diff_ids" {
                    this.add(format!("rootfs {key}"), before, after);
                }
            }),
            "created" if this.ignores(IgnoredDifference::Times) => {}
            _ => this.add(key, before, after),
        });
        self.found
    }

    /// Compares what containers are started with.
    fn settings(&mut self, before: MemberValue<'_>, after: MemberValue<'_>) {
        let start = self.found.len();
        self.each(before, after, |this, key, [before, after]| match key {
            "Env" => this.variables(before, after),
            "Labels" => this.labels(before, after),
            "ExposedPorts" => this.keyed("port", "ports", before, after),
            "Volumes" => this.keyed("volume", "volumes", before, after),
            "Entrypoint" => this.add("entrypoint", before, after),
            "Cmd" => this.add("cmd", before, after),
            "User" => this.add("user", before, after),
            "WorkingDir" => this.add("workdir", before, after),
            "StopSignal" => this.add("stop signal", before, after),
            "Healthcheck" => this.add("healthcheck", before, after),
            _ => this.add(format!("config.{key}"), before, after),
        });
        // `null` and an object without members have no member that differs.
        let is_object = |value: MemberValue<'_>| value.is_some_and(Value::is_object);
        if self.found.len() == start && !(is_object(before) && is_object(after)) {
            self.add("config", before, after);
        }
    }

    fn labels(&mut self, before: MemberValue<'_>, after: MemberValue<'_>) {
        if !self.ignores(IgnoredDifference::Times) {
            return self.keyed("label", "labels", before, after);
        }
        let without_time = |value: MemberValue<'_>| {
            let mut value = value.cloned();
            value.as_mut().and_then(Value::as_object_mut).map(|labels| labels.remove(CREATED_ANNOTATION));
            value
        };
        let (before, after) = (without_time(before), without_time(after));
        self.keyed("label", "labels", before.as_ref(), after.as_ref());
    }

    fn variables(&mut self, before: MemberValue<'_>, after: MemberValue<'_>) {
        let (Some(one), Some(other)) = (variables_of(before), variables_of(after)) else {
            return self.add("env", before, after);
        };
        let start = self.found.len();
        let [values, other_values] = [&one, &other].map(|all| all.iter().copied().collect::<BTreeMap<_, _>>());
        let names: BTreeSet<&str> = values.keys().chain(other_values.keys()).copied().collect();
        for name in names {
            let [one, other] = [&values, &other_values].map(|all| all.get(name).map(|value| json!(value)));
            self.add(format!("env {name}"), one.as_ref(), other.as_ref());
        }
        let common = one.iter().map(|(name, _)| name).filter(|name| other_values.contains_key(*name));
        if !common.eq(other.iter().map(|(name, _)| name).filter(|name| values.contains_key(*name))) {
            self.add("order of env", before, after);
        }
        if self.found.len() == start {
            self.add("env", before, after);
        }
    }

    fn history(&mut self, before: MemberValue<'_>, after: MemberValue<'_>) {
        if self.ignores(IgnoredDifference::History) {
            return;
        }
        let entries = |value: MemberValue<'_>| {
            let mut entries = value.and_then(Value::as_array).cloned().unwrap_or_default();
            if self.ignores(IgnoredDifference::Times) {
                entries.iter_mut().filter_map(Value::as_object_mut).for_each(|entry| {
                    entry.remove("created");
                });
            }
            entries
        };
        let (one, other) = (entries(before), entries(after));
        let start = self.found.len();
        for place in 0..one.len().max(other.len()) {
            self.add(format!("history {}", place + 1), one.get(place), other.get(place));
        }
        if self.found.len() == start && one.is_empty() && other.is_empty() {
            self.add("history", before, after);
        }
    }

    /// Compares two manifests. The digests of config and layers follow from what these contain.
    pub(super) fn manifest(mut self, before: &Value, after: &Value) -> Vec<MemberDifference> {
        self.each(Some(before), Some(after), |this, key, [before, after]| match key {
            "layers" => {}
            "annotations" => this.annotations(before, after),
            "config" => this.each(before, after, |this, key, [before, after]| match key {
                "digest" | "size" => {}
                // The config itself; where both have it, it differs as the configs do.
                "data" if before.is_some() && after.is_some() => {}
                "mediaType" => this.media_type("media type of the config", before, after),
                _ => this.add(format!("config {key}"), before, after),
            }),
            "mediaType" => this.media_type("media type", before, after),
            _ => this.add(key, before, after),
        });
        self.found
    }

    /// Compares two indexes, without what they list.
    pub(super) fn index(mut self, before: &Value, after: &Value) -> Vec<MemberDifference> {
        self.each(Some(before), Some(after), |this, key, [before, after]| match key {
            "manifests" => {}
            "annotations" => this.annotations(before, after),
            "mediaType" => this.media_type("media type", before, after),
            _ => this.add(key, before, after),
        });
        self.found
    }

    /// Compares the manifests of two artifacts, with all that they refer to.
    pub(super) fn artifact(mut self, before: &Value, after: &Value) -> Vec<MemberDifference> {
        self.each(Some(before), Some(after), |this, key, [before, after]| match key {
            "annotations" => this.annotations(before, after),
            "layers" | "blobs" => {
                let blobs = [before, after].map(|value| value.and_then(Value::as_array).map_or(&[][..], |all| all));
                for place in 0..blobs[0].len().max(blobs[1].len()) {
                    this.add(format!("blob {}", place + 1), blobs[0].get(place), blobs[1].get(place));
                }
            }
            "mediaType" => this.media_type("media type", before, after),
            _ => this.add(key, before, after),
        });
        self.found
    }

    /// Compares the entries of two indexes. What only one of them has beside annotations depends on the program that wrote the
    /// index.
    pub(super) fn entry(mut self, before: &Value, after: &Value) -> Vec<MemberDifference> {
        self.each(Some(before), Some(after), |this, key, [before, after]| match key {
            "digest" | "size" | "mediaType" | "data" => {}
            "annotations" => this.annotations(before, after),
            _ if before.is_some() && after.is_some() => this.add(key, before, after),
            _ => {}
        });
        self.found
    }

    fn media_type(&mut self, name: &str, before: MemberValue<'_>, after: MemberValue<'_>) {
        if !self.ignores(IgnoredDifference::Storage) {
            self.add(name, before, after);
        }
    }
}

/// Returns the variables and their values. Returns `None` if a variable is set twice, or the list is not one of variables.
fn variables_of(value: MemberValue<'_>) -> Option<Vec<(&str, &str)>> {
    let Some(value) = value.filter(|value| !value.is_null()) else { return Some(Vec::new()) };
    let variables: Option<Vec<_>> = value.as_array()?.iter().map(|each| each.as_str()?.split_once('=')).collect();
    let variables = variables?;
    let names: BTreeSet<&str> = variables.iter().map(|(name, _)| *name).collect();
    (names.len() == variables.len()).then_some(variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(before: Value, after: Value, ignored: &[IgnoredDifference]) -> Vec<String> {
        let ignored = ignored.iter().copied().collect();
        let found = MemberComparison::new(DocumentPart::Config, &ignored).config(&before, &after);
        found.into_iter().map(|difference| difference.name).collect()
    }

    fn settings(before: Value, after: Value) -> Vec<String> {
        config(json!({"config": before}), json!({"config": after}), &[])
    }

    #[test]
    fn members_are_named_one_by_one() {
        let names = settings(
            json!({"Env": ["A=1", "B=2", "C=3"], "Labels": {"a": "1"}, "User": "root", "ExposedPorts": {"80/tcp": {}}}),
            json!({"Env": ["B=2", "A=2", "D=4"], "Labels": {"a": "2"}, "OnBuild": ["x"], "ExposedPorts": {"81/tcp": {}}}),
        );
        assert_eq!(
            names,
            [
                "env A",
                "env C",
                "env D",
                "order of env",
                "port 80/tcp",
                "port 81/tcp",
                "label a",
                "config.OnBuild",
                "user"
            ]
        );
    }

    #[test]
    fn no_difference_of_values_is_passed_over() {
        assert_eq!(settings(json!({"Env": ["A=1", "A=2"]}), json!({"Env": ["A=2", "A=1"]})), ["env"]);
        assert_eq!(settings(json!({"Env": null}), json!({"Env": []})), ["env"]);
        assert_eq!(settings(json!({"Labels": null}), json!({})), ["labels"]);
        assert_eq!(settings(json!(null), json!({})), ["config"]);
        assert_eq!(config(json!({"history": null}), json!({"history": []}), &[]), ["history"]);
        assert_eq!(config(json!({"rootfs": {"x": 1}}), json!({"rootfs": {"x": 2}}), &[]), ["rootfs x"]);
    }

    #[test]
    fn what_is_ignored_is_left_out() {
        let at = |time: &str| json!({"created": time, "history": [{"created": time, "created_by": "x"}]});
        assert_eq!(config(at("1"), at("2"), &[]), ["created", "history 1"]);
        assert_eq!(config(at("1"), at("2"), &[IgnoredDifference::Times]), [""; 0]);
        assert_eq!(config(at("1"), at("2"), &[IgnoredDifference::History]), ["created"]);
    }

    #[test]
    fn names_of_an_image_in_a_layout_are_not_compared() {
        let entry = |name: &str, other: &str| json!({"annotations": {REF_NAME: name, "x": other}, "digest": other});
        let ignored = IgnoredDifferences::new();
        let found = MemberComparison::new(DocumentPart::Entry, &ignored).entry(&entry("a", "1"), &entry("b", "2"));
        assert_eq!(found.into_iter().map(|difference| difference.name).collect::<Vec<_>>(), ["annotation x"]);
    }
}
