//! What an image is called in the place where it lies.

use crate::error::{Error, Result};
use crate::reference::{Reference, Tag};
use std::fmt;
use std::str::FromStr;

/// A tag, and the full name that it is part of where one is known.
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
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ImageName {
    tag: String,
    reference: Option<Reference>,
}

impl ImageName {
    /// A tag alone.
    pub fn of_tag(tag: &Tag) -> Self {
        ImageName { tag: tag.to_string(), reference: None }
    }

    /// A tag as some layout has it, which need not follow the rule for tags.
    pub fn of_layout(tag: &str, full: Option<&str>) -> Self {
        let reference = full.and_then(|full| full.parse::<Reference>().ok());
        ImageName { tag: tag.to_owned(), reference }
    }

    /// The tag.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// The full name.
    pub fn reference(&self) -> Option<&Reference> {
        self.reference.as_ref()
    }
}

/// A full reference has a slash or a colon; a single word is a tag.
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
                "a digest cannot be chosen: it follows from the content",
            ));
        }
        let tag = reference.tag_or_latest();
        Ok(ImageName { tag: tag.to_string(), reference: Some(reference.with_tag(tag)) })
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
