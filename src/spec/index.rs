//! Image indexes, including the `index.json` of a layout.

use super::descriptor::Descriptor;
use super::manifest::check_type;
use super::{CONTAINERD_NAME, Platform, REF_NAME, media_type};
use crate::common::digest::Digest;
use crate::common::error::{Error, ErrorKind, Result};
use crate::common::json;
use crate::common::limits::Limit;
use crate::spec::name::{ImageName, Selector};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// A list of manifests (image-index.md). Unknown members survive every change.
///
/// ```
/// use ocibuild::Descriptor;
/// use ocibuild::spec::{Index, media_type};
///
/// let mut index = Index::empty();
/// index.put(&[Descriptor::of(media_type::MANIFEST, b"{}")]);
/// let read = Index::read(&index.to_bytes(), media_type::INDEX, "index.json")?;
/// assert_eq!(read.manifests().len(), 1);
/// # Ok::<(), ocibuild::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Index {
    document: Value,
    manifests: Vec<Descriptor>,
}

impl Index {
    /// Creates an empty index.
    pub fn empty() -> Self {
        let document = serde_json::json!({"schemaVersion": 2, "mediaType": media_type::INDEX, "manifests": []});
        Index { document, manifests: Vec::new() }
    }

    /// Parses the document `bytes`, which its referrer calls a `media_type`.
    ///
    /// # Errors
    /// Returns an error if it is not exactly one index of that type, or exceeds a limit.
    pub fn read(bytes: &[u8], media_type: &str, object: &str) -> Result<Self> {
        let document = json::parse(bytes, json::DOCUMENT_DEPTH, object)?;
        check_type(&document, media_type, object)?;
        if document.get("layers").is_some() || document.get("config").is_some() {
            return Err(Error::invalid(object, "ambiguous: an index with `layers` or `config`, as in a manifest"));
        }
        let listed = json::array_at(&document, "manifests", object)?
            .ok_or_else(|| Error::invalid(object, "an index without `manifests`"))?;
        Limit::Manifests.check(listed.len(), object, "manifest")?;
        let manifests = listed.iter().map(|manifest| Descriptor::read(manifest, object)).collect::<Result<Vec<_>>>()?;
        Ok(Index { document, manifests })
    }

    /// Returns the canonical bytes of the document.
    pub fn to_bytes(&self) -> Vec<u8> {
        json::canonical(&self.document)
    }

    /// Returns the whole document.
    pub fn document(&self) -> &Value {
        &self.document
    }

    /// Returns the listed manifests, in order.
    pub fn manifests(&self) -> &[Descriptor] {
        &self.manifests
    }

    /// Returns the members of the entry that `descriptor` was read from.
    pub fn entry_of(&self, descriptor: &Descriptor) -> Option<&Value> {
        let place = self.manifests.iter().position(|listed| listed == descriptor)?;
        self.document["manifests"].get(place)
    }

    /// Lists each of `descriptors` under the name in its annotations, replacing an entry of that name. A descriptor
    /// without a name replaces only itself.
    ///
    /// Returns the entries that lost their names to other images.
    pub fn put(&mut self, descriptors: &[Descriptor]) -> Vec<Replaced> {
        let mut newest: BTreeMap<ImageKey, &Descriptor> = BTreeMap::new();
        newest.extend(descriptors.iter().map(|descriptor| (ImageKey::of(descriptor), descriptor)));
        let Some(entries) = self.document.get_mut("manifests").and_then(Value::as_array_mut) else { return Vec::new() };
        let before = std::mem::take(&mut self.manifests).into_iter().zip(std::mem::take(entries));
        let mut replaced = Vec::new();
        let mut placed: BTreeSet<ImageKey> = BTreeSet::new();
        for (listed, entry) in before {
            let key = ImageKey::of(&listed);
            let Some(descriptor) = newest.get(&key) else {
                self.manifests.push(listed);
                entries.push(entry);
                continue;
            };
            if let (ImageKey::Name(name), true) = (&key, listed.digest != descriptor.digest) {
                replaced.push(Replaced { name: name.clone(), image: listed.clone(), unneeded: None });
            }
            // If another program left one name twice in a layout, the duplicate is removed.
            if placed.insert(key) {
                let is_same = listed == **descriptor;
                self.manifests.push((*descriptor).clone());
                entries.push(if is_same { entry } else { descriptor.to_json() });
            }
        }
        for (key, descriptor) in descriptors.iter().map(|descriptor| (ImageKey::of(descriptor), descriptor)) {
            if !placed.contains(&key) {
                self.manifests.push(newest.get(&key).map_or_else(|| descriptor.clone(), |newest| (*newest).clone()));
                entries.push(newest.get(&key).map_or_else(|| descriptor.to_json(), |newest| newest.to_json()));
                placed.insert(key);
            }
        }
        self.spell_tags();
        replaced
    }

    /// Lists `after` in the place of every entry that is equal to `before`. Members of the entry that this library does not know
    /// stay.
    pub fn replace(&mut self, before: &Descriptor, after: &Descriptor) {
        let Some(entries) = self.document.get_mut("manifests").and_then(Value::as_array_mut) else { return };
        let changed = self.manifests.iter_mut().zip(entries).filter(|(listed, _)| *listed == before);
        for (listed, entry) in changed {
            after.replace_in(entry);
            *listed = after.clone();
        }
    }

    /// Writes the text by which other tools find each image that has a full name. It is the tag, or the full name if
    /// another image has the same tag.
    fn spell_tags(&mut self) {
        let names: BTreeSet<ImageName> =
            self.manifests.iter().filter_map(|listed| ImageName::of_annotations(&listed.annotations)).collect();
        let mut uses: BTreeMap<&str, usize> = BTreeMap::new();
        for name in &names {
            *uses.entry(name.tag()).or_default() += 1;
        }
        let Some(entries) = self.document.get_mut("manifests").and_then(Value::as_array_mut) else { return };
        for (listed, entry) in self.manifests.iter_mut().zip(entries) {
            // An entry that another tool names only by a full name keeps the text that this tool compares.
            let Some(name) = ImageName::of_annotations(&listed.annotations)
                .filter(|name| name.reference().is_some() && listed.annotations.contains_key(CONTAINERD_NAME))
            else {
                continue;
            };
            let is_shared = uses.get(name.tag()).is_some_and(|uses| *uses > 1);
            let text = if is_shared { name.to_string() } else { name.tag().to_owned() };
            if listed.annotations.get(REF_NAME) != Some(&text) {
                entry["annotations"][REF_NAME] = text.as_str().into();
                listed.annotations.insert(REF_NAME.to_owned(), text);
            }
        }
    }

    /// Removes the entries for which `is_kept` returns false.
    pub fn retain(&mut self, is_kept: impl Fn(&Descriptor) -> bool) {
        let Some(entries) = self.document.get_mut("manifests").and_then(Value::as_array_mut) else { return };
        let kept: Vec<bool> = self.manifests.iter().map(is_kept).collect();
        let (mut of_entries, mut of_manifests) = (kept.iter(), kept.iter());
        entries.retain(|_| of_entries.next().copied().unwrap_or(true));
        self.manifests.retain(|_| of_manifests.next().copied().unwrap_or(true));
        self.spell_tags();
    }

    /// Returns every entry that `selector` matches: by its name (a full name or a tag), its digest, or both.
    pub fn select(&self, selector: &Selector<'_>) -> Vec<&Descriptor> {
        let fits = |listed: &&Descriptor| {
            selector.fits(&listed.annotations) && selector.digest.is_none_or(|digest| listed.digest == digest)
        };
        self.manifests.iter().filter(fits).collect()
    }

    /// Returns every entry that has exactly this name.
    pub fn named(&self, name: &ImageName) -> Vec<&Descriptor> {
        let has = |listed: &&Descriptor| ImageName::of_annotations(&listed.annotations).as_ref() == Some(name);
        self.manifests.iter().filter(has).collect()
    }

    /// Returns the only image among `candidates`, the entries of this index that `text` selects. An image that is listed
    /// twice counts once.
    ///
    /// # Errors
    /// Returns an error if there is no candidate, or if there are several images.
    pub fn only<'a>(&self, candidates: &[&'a Descriptor], text: Option<&str>, object: &str) -> Result<&'a Descriptor> {
        let Some((first, others)) = candidates.split_first() else {
            return Err(match text {
                None if self.manifests.is_empty() => Error::new(ErrorKind::NotFound, object, "has no image"),
                None => Error::new(ErrorKind::NotFound, object, "has artifacts, but no image"),
                Some(text) => {
                    let held = names(&self.manifests.iter().collect::<Vec<_>>(), None);
                    let held = if held.is_empty() { "it has no names".to_owned() } else { format!("it has {held}") };
                    Error::new(ErrorKind::NotFound, object, format!("no image `{text}`")).hint(held)
                }
            });
        };
        if others.iter().all(|other| other.digest == first.digest) {
            return Ok(first);
        }
        Err(ambiguous(candidates, text, object))
    }

    /// Chooses the manifest for the platform `wanted`. The default is the only manifest, or else that for linux/amd64.
    ///
    /// Attestations are skipped. If there are several variants, the preferred one is chosen ([`Platform::rank`]).
    ///
    /// # Errors
    /// Returns an error if no manifest matches.
    pub fn choose(&self, wanted: Option<&Platform>, object: &str) -> Result<&Descriptor> {
        let runs = |listed: &&Descriptor| listed.platform.as_ref().is_none_or(|platform| !platform.is_unknown());
        let candidates: Vec<&Descriptor> = self.manifests.iter().filter(runs).collect();
        let default = Platform::linux_amd64();
        let found = match (wanted, &candidates[..]) {
            (None, [only]) => Some(*only),
            _ => {
                let wanted = wanted.unwrap_or(&default);
                let fits = |listed: &&Descriptor| match &listed.platform {
                    Some(platform) => platform.satisfies(wanted),
                    // A nested index, or a single image whose platform is in its config.
                    None => candidates.len() == 1 || media_type::is_index(&listed.media_type),
                };
                let rank = |listed: &&Descriptor| listed.platform.as_ref().map_or(0, |found| found.rank(wanted));
                candidates.iter().copied().filter(fits).min_by_key(rank)
            }
        };
        found.ok_or_else(|| {
            match wanted {
                Some(wanted) => Error::new(ErrorKind::NotFound, object, format!("no image for {wanted}")),
                None => Error::usage(object, format!("is a multi-platform image without {default}, select a platform")),
            }
            .hint(platforms(&candidates))
        })
    }
}

/// An image that lost its name to another image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replaced {
    /// The name that both images had.
    pub name: ImageName,
    /// The entry of the image that lost it.
    pub image: Descriptor,
    /// The size in bytes of the blobs that no image of the layout needs any more, because of this one. `None` if that was
    /// not determined: outside of layouts, and if a document cannot be read that says what is needed.
    pub unneeded: Option<u64>,
}

/// The identity of an entry in an index.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum ImageKey {
    Name(ImageName),
    Unnamed(Digest),
}

impl ImageKey {
    fn of(listed: &Descriptor) -> ImageKey {
        match ImageName::of_annotations(&listed.annotations) {
            Some(name) => ImageKey::Name(name),
            None => ImageKey::Unnamed(listed.digest),
        }
    }
}

/// Returns the selector of each candidate: its name, or its digest if the name is `taken` or missing.
fn names(candidates: &[&Descriptor], taken: Option<&str>) -> String {
    let spelling = |listed: &&Descriptor| match ImageName::of_annotations(&listed.annotations) {
        Some(name) if Some(name.to_string().as_str()) != taken => name.to_string(),
        _ => format!("@{}", listed.digest),
    };
    let mut spellings: Vec<String> = candidates.iter().take(20).map(spelling).collect();
    if candidates.len() > spellings.len() {
        spellings.push("…".to_owned());
    }
    spellings.join(", ")
}

/// Returns the error for a `text` that selects several entries.
pub(crate) fn ambiguous(candidates: &[&Descriptor], text: Option<&str>, object: &str) -> Error {
    let reason = text.map_or("has several images".to_owned(), |text| format!("`{text}` is ambiguous"));
    Error::usage(object, reason).hint(format!("select one of {}", names(candidates, text)))
}

fn platforms(candidates: &[&Descriptor]) -> String {
    let known: Vec<String> =
        candidates.iter().take(20).filter_map(|listed| listed.platform.as_ref()).map(ToString::to_string).collect();
    if known.is_empty() { "its entries have no platform".to_owned() } else { format!("there is {}", known.join(", ")) }
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

    fn find<'a>(index: &'a Index, text: Option<&str>) -> Result<&'a Descriptor> {
        let candidates = index.select(&Selector::of(text.unwrap_or_default()));
        index.only(&candidates, text, "out")
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
        assert_eq!(find(&two, Some("b")).unwrap().digest, crate::Digest::of(b"2"));
        assert_eq!(find(&two, Some(&crate::Digest::of(b"1").to_string())).unwrap().digest, crate::Digest::of(b"1"));
        assert_eq!(find(&two, None).unwrap_err().to_string(), "out: has several images (select one of a, b)");
        assert_eq!(find(&two, Some("c")).unwrap_err().to_string(), "out: no image `c` (it has a, b)");
        let twice = index(&[image(b"1", Some("a"), None), image(b"2", Some("a"), None)]);
        assert!(find(&twice, Some("a")).unwrap_err().to_string().contains("ambiguous"));
        assert!(find(&index(&[]), None).unwrap_err().to_string().contains("has no image"));
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
        assert_eq!(listed.choose(None, "x").unwrap().digest, crate::Digest::of(b"2"), "M55, M61: the default platform");
        let foreign = index(&[image(b"1", None, Some("linux/arm64")), image(b"2", None, Some("linux/s390x"))]);
        assert_eq!(
            foreign.choose(None, "x").unwrap_err().to_string(),
            "x: is a multi-platform image without linux/amd64, select a platform (there is linux/arm64, linux/s390x)"
        );
    }

    /// M66: the variant of most machines is chosen, independent of the order of the list.
    #[test]
    fn arm_without_a_variant_is_v7() {
        let variants = ["linux/arm/v5", "linux/arm/v6", "linux/arm/v7", "linux/arm/v8"];
        let images: Vec<Descriptor> =
            variants.iter().map(|platform| image(platform.as_bytes(), None, Some(platform))).collect();
        let wanted: Platform = "linux/arm".parse().unwrap();
        assert_eq!(index(&images).choose(Some(&wanted), "x").unwrap().digest, crate::Digest::of(b"linux/arm/v7"));
        let old: Platform = "linux/arm/v5".parse().unwrap();
        assert_eq!(index(&images).choose(Some(&old), "x").unwrap().digest, crate::Digest::of(b"linux/arm/v5"));
    }

    /// M2: names are complete, and each of them finds its image in every tool.
    #[test]
    fn images_of_one_tag_live_beside_each_other() {
        let named = |content: &[u8], name: &str| {
            let tag = name.rsplit(':').next().unwrap();
            image(content, Some(tag), None).annotated(CONTAINERD_NAME, name)
        };
        let mut index = index(&[]);
        assert!(index.put(&[named(b"1", "docker.io/team/a:v1")]).is_empty());
        assert_eq!(index.manifests()[0].annotations[REF_NAME], "v1");
        assert!(index.put(&[named(b"2", "docker.io/team/b:v1")]).is_empty());
        let texts: Vec<&str> = index.manifests().iter().map(|listed| &*listed.annotations[REF_NAME]).collect();
        assert_eq!(texts, ["docker.io/team/a:v1", "docker.io/team/b:v1"]);
        assert_eq!(find(&index, Some("team/b:v1")).unwrap().digest, crate::Digest::of(b"2"));
        assert_eq!(
            find(&index, Some("v1")).unwrap_err().to_string(),
            "out: `v1` is ambiguous (select one of docker.io/team/a:v1, docker.io/team/b:v1)"
        );
        let replaced = index.put(&[named(b"3", "docker.io/team/a:v1")]);
        let name: ImageName = "team/a:v1".parse().unwrap();
        assert_eq!((&replaced[0].name, replaced[0].image.digest, replaced.len()), (&name, crate::Digest::of(b"1"), 1));
        assert_eq!(Index::read(&index.to_bytes(), media_type::INDEX, "x").unwrap(), index);
    }

    #[test]
    fn an_index_with_layers_is_refused() {
        let text = r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#;
        assert!(Index::read(text.as_bytes(), media_type::INDEX, "x").unwrap_err().to_string().contains("ambiguous"));
    }
}
