//! An index while images are put into it, each for its platform.

use super::{DocumentContent, StoredDocument, StoredImage};
use crate::common::digest::Digest;
use crate::common::error::{Error, Result};
use crate::common::json;
use crate::common::limits::{Limit, MostBytes};
use crate::spec::{Descriptor, Platform, media_type};
use serde_json::{Value, json};

/// The annotation by which an attestation of BuildKit names the image that it is about.
const ATTESTED: &str = "vnd.docker.reference.digest";

/// The images of an index, sorted by platform, so that an index does not depend on the order in which they came.
///
/// What else an existing index has stays: its other members, attestations, and entries for platforms that this library does not
/// know.
#[derive(Debug)]
pub struct PlatformIndex {
    media_type: String,
    document: Value,
    entries: Vec<PlatformEntry>,
    object: String,
}

#[derive(Debug)]
struct PlatformEntry {
    descriptor: Descriptor,
    /// The entry in the document, with members that this library does not know.
    member: Value,
    /// What the image is for; `None` for anything but an image.
    target: Option<ImageTarget>,
}

/// What an image is for. Images for Windows differ by the version of the system, too.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ImageTarget {
    platform: Platform,
    os_version: Option<String>,
}

impl PlatformIndex {
    /// Starts with an empty index, which messages call `object`.
    pub fn empty(object: &str) -> PlatformIndex {
        PlatformIndex {
            media_type: media_type::INDEX.to_owned(),
            document: json!({"schemaVersion": 2, "mediaType": media_type::INDEX, "manifests": []}),
            entries: Vec::new(),
            object: object.to_owned(),
        }
    }

    /// Starts with the index that `document` is, or with the image that it is as the only one.
    ///
    /// # Errors
    /// Fails if it is an artifact, or an index that lists another index, or a document cannot be read that says what an entry
    /// without a platform is.
    pub fn of(document: &StoredDocument) -> Result<PlatformIndex> {
        let object = document.object();
        match &document.content {
            DocumentContent::Artifact => Err(Error::invalid(object, "an artifact, not an image")),
            DocumentContent::Image(image) => {
                let mut index = PlatformIndex::empty(object);
                index.put(image);
                Ok(index)
            }
            DocumentContent::Index(_) => {
                let members = document.document["manifests"].as_array().into_iter().flatten();
                let entries = members.zip(document.listed()).enumerate().map(|(place, (member, descriptor))| {
                    let target = target_of(document, place, descriptor, member)?;
                    Ok(PlatformEntry { descriptor: descriptor.clone(), member: member.clone(), target })
                });
                Ok(PlatformIndex {
                    media_type: document.descriptor.media_type.clone(),
                    document: document.document.clone(),
                    entries: entries.collect::<Result<_>>()?,
                    object: object.to_owned(),
                })
            }
        }
    }

    /// Puts an image in, in the place of one for the same platform and of the attestations about that. Returns the digest of
    /// the image that was there for the platform.
    pub fn put(&mut self, image: &StoredImage) -> Option<Digest> {
        let described = &image.descriptor;
        let platform = image.config.platform().clone();
        let os_version = image.config.document()["os.version"].as_str().map(str::to_owned);
        let mut descriptor = Descriptor::new(&described.media_type, described.digest, described.size);
        descriptor.platform = Some(platform.clone());
        let mut member = descriptor.to_json();
        if let Some(version) = &os_version {
            member["platform"]["os.version"] = version.as_str().into();
        }
        let target = ImageTarget { platform, os_version };
        let same = |entry: &PlatformEntry| entry.target.as_ref().is_some_and(|other| other.is_same_as(&target));
        let before = self.entries.iter().position(same).map(|place| self.entries.remove(place).descriptor.digest);
        if let Some(before) = before.filter(|before| *before != descriptor.digest) {
            self.entries.retain(|entry| entry.target.is_some() || !is_about(&entry.descriptor, &before));
        }
        // Behind the images for lower platforms, before those for higher ones and before whatever follows the images.
        let is_lower = |entry: &PlatformEntry| entry.target.as_ref().is_some_and(|other| *other <= target);
        let place = self.entries.iter().rposition(is_lower).map_or(0, |last| last + 1);
        self.entries.insert(place, PlatformEntry { descriptor, member, target: Some(target) });
        before
    }

    /// Returns the platform and the digest of each image, in the order of the index.
    pub fn images(&self) -> Vec<(Platform, Digest)> {
        let image = |entry: &PlatformEntry| Some((entry.target.as_ref()?.platform.clone(), entry.descriptor.digest));
        self.entries.iter().filter_map(image).collect()
    }

    /// Returns the descriptor and the bytes of the index.
    ///
    /// # Errors
    /// Fails if the index is larger than readers accept.
    pub fn finish(mut self) -> Result<(Descriptor, Vec<u8>)> {
        Limit::Manifests.check(self.entries.len(), &self.object, "image")?;
        self.document["manifests"] = self.entries.into_iter().map(|entry| entry.member).collect();
        let bytes = json::canonical(&self.document);
        MostBytes::from(Limit::DocumentSize).check(bytes.len() as u64, &format!("index of {}", self.object))?;
        Ok((Descriptor::of(&self.media_type, &bytes), bytes))
    }
}

impl ImageTarget {
    /// Whether an image for one is chosen wherever one for the other is.
    fn is_same_as(&self, other: &ImageTarget) -> bool {
        self.os_version == other.os_version
            && self.platform.satisfies(&other.platform)
            && other.platform.satisfies(&self.platform)
    }
}

/// Returns what the entry of `document` at `place` is for, if it is an image.
fn target_of(
    document: &StoredDocument,
    place: usize,
    descriptor: &Descriptor,
    member: &Value,
) -> Result<Option<ImageTarget>> {
    let object = document.object();
    if media_type::is_index(&descriptor.media_type) {
        let reason = "its index lists another index, so it is unclear where a platform belongs";
        return Err(Error::invalid(object, reason));
    }
    if descriptor.artifact_type.is_some() || !media_type::is_manifest(&descriptor.media_type) {
        return Ok(None);
    }
    let os_version = |value: &Value| value["os.version"].as_str().map(str::to_owned);
    if let Some(platform) = &descriptor.platform {
        let target = ImageTarget { platform: platform.clone(), os_version: os_version(&member["platform"]) };
        return Ok((!platform.is_unknown()).then_some(target));
    }
    Ok(match document.listed_at(place, descriptor)?.content {
        DocumentContent::Image(image) => Some(ImageTarget {
            platform: image.config.platform().clone(),
            os_version: os_version(image.config.document()),
        }),
        DocumentContent::Index(_) | DocumentContent::Artifact => None,
    })
}

fn is_about(entry: &Descriptor, image: &Digest) -> bool {
    entry.annotations.get(ATTESTED).is_some_and(|about| *about == image.to_string())
}
