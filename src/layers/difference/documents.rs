//! The documents of two images: manifest, index entry and config, or the index of a multi-platform image.

use super::members::{DocumentPart, MemberComparison, MemberDifference};
use super::{IgnoredDifference, IgnoredDifferences};
use crate::common::error::Result;
use crate::spec::Descriptor;
use crate::store::{DocumentContent, StoredDocument};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// What two names lead to, document by document.
#[derive(Debug)]
pub struct DocumentComparison {
    /// The members that differ.
    pub members: Vec<MemberDifference>,
    /// The documents that two indexes list for one platform, and that are to be compared as well. Of those that only one of
    /// them lists, a member says so.
    pub platforms: Vec<(String, [StoredDocument; 2])>,
}

impl DocumentComparison {
    /// Compares two documents. The layers of images, and what both indexes list, are not compared yet.
    ///
    /// # Errors
    /// Fails if a document that an index lists is missing, damaged or malformed.
    pub fn new(before: &StoredDocument, after: &StoredDocument, ignored: &IgnoredDifferences) -> Result<Self> {
        let (one, other) = (&before.document, &after.document);
        let mut members = Vec::new();
        if let (Some(one), Some(other)) = (&before.entry, &after.entry) {
            members.extend(MemberComparison::new(DocumentPart::Entry, ignored).entry(one, other));
        }
        if before.descriptor.digest == after.descriptor.digest {
            return Ok(DocumentComparison { members, platforms: Vec::new() });
        }
        let mut platforms = Vec::new();
        let manifest = || MemberComparison::new(DocumentPart::Manifest, ignored);
        let (mut part, start) = (DocumentPart::Manifest, members.len());
        match (&before.content, &after.content) {
            (DocumentContent::Index(_), DocumentContent::Index(_)) => {
                part = DocumentPart::Index;
                members.extend(MemberComparison::new(part, ignored).index(one, other));
                platforms = pair_platforms(before, after, &mut members)?;
            }
            (DocumentContent::Image(image), DocumentContent::Image(other_image)) => {
                members.extend(manifest().manifest(one, other));
                let configs = [image.config.document(), other_image.config.document()];
                let of_config = MemberComparison::new(DocumentPart::Config, ignored).config(configs[0], configs[1]);
                let is_config_formatted = configs[0] == configs[1] && image.config_bytes != other_image.config_bytes;
                members.extend(of_config);
                if is_config_formatted && !ignored.contains(&IgnoredDifference::Storage) {
                    members.push(MemberDifference::of_bytes(DocumentPart::Config));
                }
            }
            (DocumentContent::Artifact, DocumentContent::Artifact) => {
                members.extend(manifest().artifact(one, other));
            }
            (content, other_content) => {
                let [one_kind, other_kind] = [content, other_content].map(|content| Some(json!(kind(content))));
                let name = "kind".to_owned();
                members.push(MemberDifference { part, name, before: one_kind, after: other_kind });
                match of_one_platform(before, after)? {
                    Some(pair) => platforms.push(pair),
                    None => members.extend(manifest().artifact(one, other)),
                }
            }
        }
        let is_formatted = members.len() == start && one == other && !ignored.contains(&IgnoredDifference::Storage);
        members.extend(is_formatted.then(|| MemberDifference::of_bytes(part)));
        Ok(DocumentComparison { members, platforms })
    }
}

/// Returns an image, and the image for its platform that an index lists, if these are what is compared.
fn of_one_platform(before: &StoredDocument, after: &StoredDocument) -> Result<Option<(String, [StoredDocument; 2])>> {
    let platform = match (&before.content, &after.content) {
        (DocumentContent::Index(_), DocumentContent::Image(image))
        | (DocumentContent::Image(image), DocumentContent::Index(_)) => image.config.platform(),
        _ => return Ok(None),
    };
    let pair = [before.clone().for_platform(Some(platform))?, after.clone().for_platform(Some(platform))?];
    Ok(Some((platform.to_string(), pair)))
}

fn kind(content: &DocumentContent) -> &str {
    match content {
        DocumentContent::Index(_) => "index",
        DocumentContent::Image(_) => "image",
        DocumentContent::Artifact => "artifact",
    }
}

/// Returns the documents that two indexes list for one platform, unless they are equal.
fn pair_platforms(
    before: &StoredDocument,
    after: &StoredDocument,
    members: &mut Vec<MemberDifference>,
) -> Result<Vec<(String, [StoredDocument; 2])>> {
    let digests = [before, after].map(|index| index.listed().iter().map(|listed| listed.digest));
    let [ours, theirs] = digests.clone().map(Iterator::collect::<BTreeSet<_>>);
    if ours == theirs && !digests[0].clone().eq(digests[1].clone()) {
        let (name, before, after) = ("order of manifests".to_owned(), None, None);
        members.push(MemberDifference { part: DocumentPart::Index, name, before, after });
    }
    let (mut left, mut pairs) = (by_platform(after), Vec::new());
    let mut one_sided = |platform: String, sides: [Option<&Listed<'_>>; 2]| {
        let [before, after] = sides.map(|listed| listed.map(|(_, descriptor)| json!(descriptor.digest.to_string())));
        let name = format!("platform {platform}");
        members.push(MemberDifference { part: DocumentPart::Index, name, before, after });
    };
    for (platform, listed) in by_platform(before) {
        let Some(other) = left.remove(&platform) else {
            one_sided(platform, [Some(&listed), None]);
            continue;
        };
        let entries = [(before, listed.0), (after, other.0)].map(|(index, place)| &index.document["manifests"][place]);
        if entries[0] != entries[1] {
            pairs.push((platform, [before.listed_at(listed.0, listed.1)?, after.listed_at(other.0, other.1)?]));
        }
    }
    left.into_iter().for_each(|(platform, listed)| one_sided(platform, [None, Some(&listed)]));
    Ok(pairs)
}

/// The place of an entry in an index, and its descriptor.
type Listed<'a> = (usize, &'a Descriptor);

/// Returns what an index lists, by platform. Several documents for one platform have numbers behind it.
fn by_platform(index: &StoredDocument) -> BTreeMap<String, Listed<'_>> {
    let mut found = BTreeMap::new();
    for (place, descriptor) in index.listed().iter().enumerate() {
        let platform = platform_of(&index.document["manifests"][place]);
        let mut name = platform.clone();
        let mut number = 1;
        while found.contains_key(&name) {
            number += 1;
            name = format!("{platform} ({number})");
        }
        found.insert(name, (place, descriptor));
    }
    found
}

fn platform_of(entry: &Value) -> String {
    let platform = &entry["platform"];
    let parts = ["os", "architecture", "variant", "os.version"].map(|member| platform[member].as_str());
    match parts.into_iter().flatten().collect::<Vec<_>>().join("/") {
        unknown if unknown.is_empty() => "unknown".to_owned(),
        platform => platform,
    }
}
