//! Names of stored images, and the selection of one image among several.
//!
//! An index entry holds its name in two annotations. Other tools address an image of a layout only by
//! `org.opencontainers.image.ref.name`, and compare it as text. containerd and docker read `io.containerd.image.name`.
//!
//! ```text
//! one image has the tag v1:    ref.name = v1                     containerd name = docker.io/team/a:v1
//! two images have the tag v1:  ref.name = docker.io/team/a:v1    containerd name = docker.io/team/a:v1
//!                              ref.name = docker.io/team/b:v1    containerd name = docker.io/team/b:v1
//! ```
//!
//! `docs/images.md` records how each consumer uses both.

use crate::common::digest::Digest;
use crate::common::error::{Error, Result};
use crate::spec::reference::{Reference, Tag};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// The annotation that holds the name of an index entry (annotations.md).
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The annotation that holds a full image name, which containerd and Docker read on import.
pub const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// A full name, or only a tag. Two images with equal names replace each other.
///
/// ```
/// use ocibuild::ImageName;
///
/// let full: ImageName = "team/robot:v1".parse()?;
/// assert_eq!((full.tag(), full.reference().map(ToString::to_string)), ("v1", Some("docker.io/team/robot:v1".to_owned())));
/// let tag_only: ImageName = "v1".parse()?;
/// assert_eq!((tag_only.tag(), tag_only.reference()), ("v1", None));
/// # Ok::<(), ocibuild::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageName {
    tag: String,
    reference: Option<Reference>,
}

impl ImageName {
    /// Names an image only by a tag.
    pub fn of_tag(tag: &Tag) -> Self {
        ImageName { tag: tag.to_string(), reference: None }
    }

    /// Names an image by its full name, with the tag `latest` if the reference has no tag.
    pub fn of_reference(reference: &Reference) -> Self {
        let tag = reference.tag_or_latest();
        let reference = reference.clone().without_digest().with_tag(tag.clone());
        ImageName { tag: tag.to_string(), reference: Some(reference) }
    }

    /// Names an image by the tag in a layout, which need not follow the rule for tags.
    pub fn of_layout(tag: &str, full: Option<&str>) -> Self {
        let reference = full.and_then(|full| full.parse::<Reference>().ok());
        ImageName { tag: tag.to_owned(), reference }
    }

    /// Reads the name of an index entry.
    ///
    /// A full name counts unless it contradicts the tag: `umoci tag` keeps the full name of the image beside the new tag.
    pub fn of_annotations(annotations: &BTreeMap<String, String>) -> Option<Self> {
        let full = annotations.get(CONTAINERD_NAME).and_then(|full| full_name(full));
        let Some(text) = annotations.get(REF_NAME) else { return full };
        let own = text.contains(['/', ':']).then(|| full_name(text)).flatten();
        match (own, full) {
            (Some(own), _) => Some(own),
            (None, Some(full)) if full.tag == *text => Some(full),
            (None, _) => Some(ImageName { tag: text.clone(), reference: None }),
        }
    }

    /// Returns the tag.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// Returns the full name, if there is one.
    pub fn reference(&self) -> Option<&Reference> {
        self.reference.as_ref()
    }

    /// Returns whether `pattern`, in which `*` is any text, matches the tag, or the full name with or without its
    /// default registry.
    pub fn matches(&self, pattern: &str) -> bool {
        let full = self.to_string();
        let short = full.strip_prefix("docker.io/").unwrap_or(&full);
        let shortest = short.strip_prefix("library/").unwrap_or(short);
        [&*self.tag, &*full, short, shortest].iter().any(|name| matches(name, pattern))
    }

    /// Returns the name that engines give an image: the full name, or for a tag the name that `docker build --tag` makes
    /// of it.
    ///
    /// An image without a name is listed as `latest`, so that tag by itself names nothing.
    pub fn for_engines(&self) -> Option<Reference> {
        match &self.reference {
            Some(reference) => Some(reference.clone()),
            None if self.tag == "latest" => None,
            None => self.tag.parse::<Reference>().ok().map(|name| name.with_tag(Tag::latest())),
        }
    }
}

/// Returns whether `text` is a pattern of names. No name and no digest contains `*`.
pub fn is_pattern(text: &str) -> bool {
    text.contains('*')
}

/// Matches `text` with `pattern` from both ends, and the parts between two `*` as early as possible.
fn matches(text: &str, pattern: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return text == pattern };
    let (middle, end) = rest.rsplit_once('*').map_or((None, rest), |(middle, end)| (Some(middle), end));
    let between = text.strip_prefix(start).and_then(|text| text.strip_suffix(end));
    let parts = middle.into_iter().flat_map(|middle| middle.split('*'));
    let mut left = between;
    for part in parts {
        left = left.and_then(|text| text.split_once(part)).map(|(_, after)| after);
    }
    left.is_some()
}

/// Parses `text` as a full name. Returns `None` for a reference with a digest, which is not a name.
fn full_name(text: &str) -> Option<ImageName> {
    let reference: Reference = text.parse().ok()?;
    reference.digest().is_none().then(|| ImageName::of_reference(&reference))
}

/// Parses a full reference, which has a slash or a colon, or a single word, which is a tag.
impl FromStr for ImageName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if !text.contains(['/', ':', '@']) {
            return text.parse::<Tag>().map(|tag| ImageName::of_tag(&tag));
        }
        let reference: Reference = text.parse()?;
        if reference.digest().is_some() {
            return Err(Error::usage(
                format!("tag `{text}`"),
                "a digest cannot be chosen: it is computed from the content",
            ));
        }
        Ok(ImageName::of_reference(&reference))
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reference {
            Some(reference) => fmt::Display::fmt(reference, f),
            None => f.write_str(&self.tag),
        }
    }
}

/// The selection of one image among several: `NAME`, `NAME@DIGEST`, `@DIGEST`, or a digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector<'a> {
    name: Option<&'a str>,
    full: Option<ImageName>,
    /// The digest of the image, if one was given.
    pub digest: Option<Digest>,
}

impl<'a> Selector<'a> {
    /// Parses a selector. Text after an `@` that is not a digest belongs to the name.
    pub fn of(text: &'a str) -> Self {
        if let Ok(digest) = text.parse() {
            return Selector { name: None, full: None, digest: Some(digest) };
        }
        let (name, digest) = split_digest(text);
        let full = name.contains(['/', ':']).then(|| full_name(name)).flatten();
        Selector { name: (!name.is_empty()).then_some(name), full, digest }
    }

    /// Returns the selector for the same name with any digest.
    #[must_use]
    pub fn without_digest(self) -> Self {
        Selector { digest: None, ..self }
    }

    /// Returns the name as it was written.
    pub fn name(&self) -> Option<&str> {
        self.name
    }

    /// Returns whether an entry with `annotations` has the requested name. A selector without a name matches every entry.
    pub fn fits(&self, annotations: &BTreeMap<String, String>) -> bool {
        let Some(wanted) = self.name else { return true };
        let is_verbatim = |key| annotations.get(key).is_some_and(|text| text == wanted);
        let is_same = |name: ImageName| name.tag() == wanted || self.full.as_ref() == Some(&name);
        is_verbatim(REF_NAME)
            || is_verbatim(CONTAINERD_NAME)
            || ImageName::of_annotations(annotations).is_some_and(is_same)
    }
}

/// Splits `NAME@DIGEST`. Text without a digest at its end is a name.
pub fn split_digest(text: &str) -> (&str, Option<Digest>) {
    match text.rsplit_once('@').map(|(name, digest)| (name, digest.parse())) {
        Some((name, Ok(digest))) => (name, Some(digest)),
        _ => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotations(ref_name: Option<&str>, containerd: Option<&str>) -> BTreeMap<String, String> {
        let pairs = [(REF_NAME, ref_name), (CONTAINERD_NAME, containerd)];
        pairs.into_iter().filter_map(|(key, text)| Some((key.to_owned(), text?.to_owned()))).collect()
    }

    #[test]
    fn patterns_match_tags_and_full_names() {
        let name: ImageName = "team/app:nightly-2026-01-02".parse().unwrap();
        for pattern in
            ["*", "nightly-*", "team/*", "docker.io/*", "team/app:*", "*-01-*", "n*-*-02", "nightly-2026-01-02*", "**"]
        {
            assert!(name.matches(pattern), "{pattern}");
        }
        for pattern in ["nightly", "app:*", "nightly-2026-01-02?*", "*-01-02-02", "n*n*n*n*n", "other/*", ""] {
            assert!(!name.matches(pattern), "{pattern}");
        }
        assert!("debian:v1".parse::<ImageName>().unwrap().matches("debian:*"));
    }

    /// M2: every form in which tools write a name.
    #[test]
    fn a_name_is_read_from_what_tools_write() {
        let name = |ref_name, containerd| {
            ImageName::of_annotations(&annotations(ref_name, containerd)).map(|name| name.to_string())
        };
        let full = Some("docker.io/team/a:v1");
        assert_eq!(name(Some("v1"), full).as_deref(), full);
        assert_eq!(name(full, full).as_deref(), full);
        assert_eq!(name(full, None).as_deref(), full);
        assert_eq!(name(Some("team/a:v1"), None).as_deref(), full);
        assert_eq!(name(None, full).as_deref(), full);
        assert_eq!(name(Some("v2"), full).as_deref(), Some("v2"), "tagged anew by a tool that copies annotations");
        assert_eq!(name(Some("v1"), None).as_deref(), Some("v1"));
        assert_eq!(name(Some("a/b+linux/amd64"), None).as_deref(), Some("a/b+linux/amd64"));
        assert_eq!(name(None, None), None);
    }

    #[test]
    fn a_selector_is_a_name_a_digest_or_both() {
        let digest = Digest::of(b"x");
        let at = format!("team/a:v1@{digest}");
        let selector = Selector::of(&at);
        assert_eq!((selector.name(), selector.digest), (Some("team/a:v1"), Some(digest)));
        assert_eq!(Selector::of(&format!("@{digest}")), Selector::of(&digest.to_string()));
        assert_eq!(Selector::of("a@b").name(), Some("a@b"));
        let listed = annotations(Some("docker.io/team/a:v1"), None);
        for fits in ["v1", "team/a:v1", "docker.io/team/a:v1"] {
            assert!(Selector::of(fits).fits(&listed), "{fits}");
        }
        for fails in ["v2", "team/b:v1", "a:v1", "team/a"] {
            assert!(!Selector::of(fails).fits(&listed), "{fails}");
        }
    }

    /// M56: a single word is named as `docker build --tag WORD` names it.
    #[test]
    fn engines_get_a_repository_and_a_tag() {
        let name = |text: &str| text.parse::<ImageName>().unwrap().for_engines().map(|name| name.to_string());
        assert_eq!(name("app").as_deref(), Some("docker.io/library/app:latest"));
        assert_eq!(name("team/app:v1").as_deref(), Some("docker.io/team/app:v1"));
        assert_eq!((name("latest"), name("V1")), (None, None));
    }
}
