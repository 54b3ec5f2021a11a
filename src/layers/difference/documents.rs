//! The documents of two images: manifest, index entry and config, or the index of a multi-platform image.

use super::members::{DocumentPart, MemberComparison, MemberDifference};
use super::{IgnoredDifference, IgnoredDifferences};
use crate::common::error::Result;
use crate::store::{DocumentContent, StoredDocument};
use serde_json::{Value, json};
use std::collections::BTreeMap;

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
                members.extend(is_config_formatted.then(|| formatting(DocumentPart::Config)));
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
        members.extend(is_formatted.then(|| formatting(part)));
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

/// Two documents with the same members, and other bytes.
fn formatting(part: DocumentPart) -> MemberDifference {
    MemberDifference { part, name: "formatting".to_owned(), before: None, after: None }
}

fn kind(content: &DocumentContent) -> &str {
    match content {
        DocumentContent::Index(_) => "index",
        DocumentContent::Image(_) => "image",
        DocumentContent::Artifact => "artifact",
    }
}

/// Returns the documents that two indexes list for one platform.
fn pair_platforms(
    before: &StoredDocument,
    after: &StoredDocument,
    members: &mut Vec<MemberDifference>,
) -> Result<Vec<(String, [StoredDocument; 2])>> {
    let (mut left, mut pairs) = (by_platform(after)?, Vec::new());
    let mut one_sided = |platform: String, sides: [Option<&StoredDocument>; 2]| {
        let [before, after] = sides.map(|document| document.map(|it| json!(it.descriptor.digest.to_string())));
        members.push(MemberDifference {
            part: DocumentPart::Index,
            name: format!("platform {platform}"),
            before,
            after,
        });
    };
    for (platform, document) in by_platform(before)? {
        match left.remove(&platform) {
            Some(other) => pairs.push((platform, [document, other])),
            None => one_sided(platform, [Some(&document), None]),
        }
    }
    left.into_iter().for_each(|(platform, document)| one_sided(platform, [None, Some(&document)]));
    Ok(pairs)
}

/// Returns what an index lists, by platform. Several documents for one platform have numbers behind it.
fn by_platform(index: &StoredDocument) -> Result<BTreeMap<String, StoredDocument>> {
    let mut found = BTreeMap::new();
    for document in index.listed() {
        let document = document?;
        let platform = document.entry.as_ref().map_or_else(|| "unknown".to_owned(), platform_of);
        let mut name = platform.clone();
        let mut number = 1;
        while found.contains_key(&name) {
            number += 1;
            name = format!("{platform} ({number})");
        }
        found.insert(name, document);
    }
    Ok(found)
}

fn platform_of(entry: &Value) -> String {
    let platform = &entry["platform"];
    let parts = ["os", "architecture", "variant", "os.version"].map(|member| platform[member].as_str());
    match parts.into_iter().flatten().collect::<Vec<_>>().join("/") {
        unknown if unknown.is_empty() => "unknown".to_owned(),
        platform => platform,
    }
}
