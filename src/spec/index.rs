//! Image indexes, among them the `index.json` of a layout.

use super::descriptor::Descriptor;
use super::manifest::check_type;
use super::{MOST_MANIFESTS, Platform, REF_NAME, media_type};
use crate::error::{Error, ErrorKind, Result};
use crate::json;
use crate::reference::Reference;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// A list of manifests (image-index.md). Members that we do not know survive every change.
#[derive(Debug, Clone, PartialEq)]
pub struct Index {
    document: Value,
    manifests: Vec<Descriptor>,
}

impl Index {
    /// An index of nothing.
    pub fn empty() -> Self {
        let document = serde_json::json!({"schemaVersion": 2, "mediaType": media_type::INDEX, "manifests": []});
        Index { document, manifests: Vec::new() }
    }

    /// Reads the document `bytes`, which its referrer calls a `media_type`.
    ///
    /// # Errors
    /// When it is not exactly one index of that type, or exceeds a limit.
    pub fn read(bytes: &[u8], media_type: &str, object: &str) -> Result<Self> {
        let document = json::parse(bytes, json::DOCUMENT_DEPTH, object)?;
        check_type(&document, media_type, object)?;
        if document.get("layers").is_some() || document.get("config").is_some() {
            return Err(Error::invalid(
                object,
                "ambiguous: it has `layers` or `config` like a manifest and claims to be an index",
            ));
        }
        let listed = json::array_at(&document, "manifests", object)?
            .ok_or_else(|| Error::invalid(object, "an index without `manifests`"))?;
        if listed.len() > MOST_MANIFESTS {
            return Err(Error::invalid(object, format!("{} manifests, more than {MOST_MANIFESTS}", listed.len())));
        }
        let manifests = listed.iter().map(|manifest| Descriptor::read(manifest, object)).collect::<Result<Vec<_>>>()?;
        Ok(Index { document, manifests })
    }

    /// The document: canonical.
    pub fn to_bytes(&self) -> Vec<u8> {
        json::canonical(&self.document)
    }

    /// The whole document.
    pub fn document(&self) -> &Value {
        &self.document
    }

    /// What is listed, in order.
    pub fn manifests(&self) -> &[Descriptor] {
        &self.manifests
    }

    /// Lists each of `descriptors` under the tag in its annotations, in the place of what had that tag.
    pub fn put(&mut self, descriptors: &[Descriptor]) {
        let tag = |listed: &Descriptor| listed.annotations.get(REF_NAME).cloned();
        let mut newest: BTreeMap<Option<String>, &Descriptor> = BTreeMap::new();
        newest.extend(descriptors.iter().map(|descriptor| (tag(descriptor), descriptor)));
        let Some(entries) = self.document.get_mut("manifests").and_then(Value::as_array_mut) else { return };
        let before = std::mem::take(&mut self.manifests).into_iter().zip(std::mem::take(entries));
        let mut placed: BTreeSet<Option<String>> = BTreeSet::new();
        for (listed, entry) in before {
            let (listed, entry) = match newest.get(&tag(&listed)) {
                // A layout in which another program left one tag twice is mended on the way.
                Some(_) if placed.contains(&tag(&listed)) => continue,
                Some(descriptor) if listed != **descriptor => ((*descriptor).clone(), descriptor.to_json()),
                _ => (listed, entry),
            };
            if newest.contains_key(&tag(&listed)) {
                placed.insert(tag(&listed));
            }
            self.manifests.push(listed);
            entries.push(entry);
        }
        for descriptor in descriptors {
            if placed.insert(tag(descriptor)) {
                self.manifests.push(newest[&tag(descriptor)].clone());
                entries.push(newest[&tag(descriptor)].to_json());
            }
        }
    }

    /// Finds what `name` means in a layout: a tag, a full name, or the digest of a manifest; without a name, the only entry.
    ///
    /// # Errors
    /// When there is no such entry, or more than one.
    pub fn find(&self, name: Option<&str>, object: &str) -> Result<&Descriptor> {
        let matches: Vec<&Descriptor> = match name {
            None => self.manifests.iter().collect(),
            Some(name) => {
                let full_name = full_name(name);
                let has_name = |listed: &&Descriptor| {
                    listed.annotations.get(REF_NAME).is_some_and(|tag| tag == name)
                        || listed
                            .annotations
                            .get(super::CONTAINERD_NAME)
                            .is_some_and(|full| full == name || Some(full) == full_name.as_ref())
                        || listed.digest.to_string() == name
                };
                self.manifests.iter().filter(has_name).collect()
            }
        };
        let first_digest = matches.first().map(|first| first.digest);
        match (&matches[..], name) {
            ([only], _) => Ok(only),
            // The same image twice is no question.
            ([first, rest @ ..], _) if rest.iter().all(|other| Some(other.digest) == first_digest) => Ok(first),
            ([], None) => Err(Error::new(ErrorKind::NotFound, object, "holds no image")),
            ([], Some(name)) => {
                Err(Error::new(ErrorKind::NotFound, object, format!("no image `{name}`")).hint(self.known_tags()))
            }
            (_, None) => Err(Error::usage(object, "holds several images, name one").hint(self.known_tags())),
            (_, Some(name)) => {
                Err(Error::invalid(object, format!("`{name}` is ambiguous: {} entries have this tag", matches.len())))
            }
        }
    }

    /// Chooses the manifest for `wanted`, or the only one there is. Attestations are passed over; the first match wins.
    ///
    /// # Errors
    /// When nothing matches, or no platform is wanted and several are there.
    pub fn choose(&self, wanted: Option<&Platform>, object: &str) -> Result<&Descriptor> {
        let runs = |listed: &&Descriptor| listed.platform.as_ref().is_none_or(|platform| !platform.is_unknown());
        let candidates: Vec<&Descriptor> = self.manifests.iter().filter(runs).collect();
        let found = match wanted {
            Some(wanted) => candidates.iter().find(|listed| match &listed.platform {
                Some(platform) => platform.satisfies(wanted),
                // A nested index, or a single image whose config will tell.
                None => candidates.len() == 1 || media_type::is_index(&listed.media_type),
            }),
            None if candidates.len() == 1 => candidates.first(),
            None => {
                return Err(Error::usage(object, "is for several platforms, name one").hint(platforms(&candidates)));
            }
        };
        found.copied().ok_or_else(|| {
            let wanted = wanted.map(ToString::to_string).unwrap_or_default();
            Error::new(ErrorKind::NotFound, object, format!("no image for {wanted}")).hint(platforms(&candidates))
        })
    }

    fn known_tags(&self) -> String {
        let tags: Vec<String> = self
            .manifests
            .iter()
            .take(20)
            .map(|listed| listed.annotations.get(REF_NAME).cloned().unwrap_or_else(|| listed.digest.to_string()))
            .collect();
        if tags.is_empty() { "it holds none".to_owned() } else { format!("it holds {}", tags.join(", ")) }
    }
}

/// What `name` means as an image's full name: `team/app` is `docker.io/team/app:latest`. A single word is a tag.
fn full_name(name: &str) -> Option<String> {
    let reference: Reference = name.contains('/').then(|| name.parse().ok())??;
    let tag = reference.tag_or_latest();
    Some(reference.with_tag(tag).to_string())
}

fn platforms(candidates: &[&Descriptor]) -> String {
    let known: Vec<String> =
        candidates.iter().take(20).filter_map(|listed| listed.platform.as_ref()).map(ToString::to_string).collect();
    if known.is_empty() { "it names no platform".to_owned() } else { format!("there is {}", known.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(content: &[u8], tag: Option<&str>, platform: Option<&str>) -> Descriptor {
        let mut descriptor = Descriptor::of(media_type::MANIFEST, content);
        descriptor.platform = platform.map(|platform| platform.parse().unwrap());
        match tag {
            Some(tag) => descriptor.annotated(REF_NAME, tag),
            None => descriptor,
        }
    }

    fn index(images: &[Descriptor]) -> Index {
        let mut document = Index::empty().document;
        document["manifests"] = images.iter().map(Descriptor::to_json).collect();
        Index::read(&json::canonical(&document), media_type::INDEX, "index.json").unwrap()
    }

    #[test]
    fn a_tag_put_again_replaces_its_entry_and_nothing_else() {
        let mut index =
            index(&[image(b"1", Some("a"), None), image(b"2", Some("b"), None), image(b"3", Some("a"), None)]);
        index.put(&[image(b"4", Some("a"), None)]);
        let tags: Vec<_> =
            index.manifests().iter().map(|listed| (listed.annotations[REF_NAME].clone(), listed.digest)).collect();
        assert_eq!(tags, [("a".to_owned(), crate::Digest::of(b"4")), ("b".to_owned(), crate::Digest::of(b"2"))]);
        assert_eq!(Index::read(&index.to_bytes(), media_type::INDEX, "x").unwrap(), index);
    }

    #[test]
    fn unknown_members_survive() {
        let mut document = index(&[image(b"1", Some("a"), None)]).document;
        document["com.example"] = 1.into();
        document["manifests"][0]["artifactType"] = "x".into();
        let mut index = Index::read(&json::canonical(&document), media_type::INDEX, "x").unwrap();
        index.put(&[image(b"2", Some("b"), None)]);
        let text = String::from_utf8(index.to_bytes()).unwrap();
        assert!(text.contains("\"com.example\":1") && text.contains("\"artifactType\":\"x\""));
    }

    #[test]
    fn names_find_one_image_or_say_why_not() {
        let two = index(&[image(b"1", Some("a"), None), image(b"2", Some("b"), None)]);
        assert_eq!(two.find(Some("b"), "out").unwrap().digest, crate::Digest::of(b"2"));
        assert_eq!(
            two.find(Some(&crate::Digest::of(b"1").to_string()), "out").unwrap().digest,
            crate::Digest::of(b"1")
        );
        assert_eq!(
            two.find(None, "out").unwrap_err().to_string(),
            "out: holds several images, name one (it holds a, b)"
        );
        assert_eq!(two.find(Some("c"), "out").unwrap_err().to_string(), "out: no image `c` (it holds a, b)");
        let twice = index(&[image(b"1", Some("a"), None), image(b"2", Some("a"), None)]);
        assert!(twice.find(Some("a"), "out").unwrap_err().to_string().contains("ambiguous"));
        assert!(index(&[]).find(None, "out").unwrap_err().to_string().contains("holds no image"));
    }

    #[test]
    fn platforms_are_chosen_and_attestations_passed_over() {
        let mut attestation = image(b"0", None, None);
        attestation.platform =
            Some(Platform::read(&serde_json::json!({"os": "unknown", "architecture": "unknown"}), "x").unwrap());
        let listed =
            index(&[attestation, image(b"1", None, Some("linux/arm64")), image(b"2", None, Some("linux/amd64"))]);
        let wanted: Platform = "linux/amd64".parse().unwrap();
        assert_eq!(listed.choose(Some(&wanted), "x").unwrap().digest, crate::Digest::of(b"2"));
        let absent = listed.choose(Some(&"linux/s390x".parse().unwrap()), "x").unwrap_err().to_string();
        assert_eq!(absent, "x: no image for linux/s390x (there is linux/arm64, linux/amd64)");
        assert!(listed.choose(None, "x").unwrap_err().to_string().contains("several platforms"));
    }

    #[test]
    fn an_index_with_layers_is_refused() {
        let text = r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#;
        assert!(Index::read(text.as_bytes(), media_type::INDEX, "x").unwrap_err().to_string().contains("ambiguous"));
    }
}
