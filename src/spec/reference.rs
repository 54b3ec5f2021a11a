//! References: the names of images in registries, such as `docker.io/library/debian:stable`.

use crate::common::digest::Digest;
use crate::common::error::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// The registry of a reference without a host.
pub const DEFAULT_REGISTRY: &str = "docker.io";

/// A tag (distribution-spec: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`).
///
/// ```
/// use ocibuild::Tag;
///
/// assert_eq!("v1.0".parse::<Tag>()?.as_str(), "v1.0");
/// assert!("team/robot:v1".parse::<Tag>().is_err());
/// # Ok::<(), ocibuild::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(String);

impl Tag {
    /// Returns the text of the tag.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns `latest`, the tag of a reference without one.
    pub fn latest() -> Self {
        Tag("latest".to_owned())
    }
}

impl FromStr for Tag {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let bytes = text.as_bytes();
        let fits = matches!(bytes.len(), 1..=128)
            && word(bytes[0])
            && bytes.iter().all(|&b| word(b) || b == b'.' || b == b'-');
        if fits {
            return Ok(Tag(text.to_owned()));
        }
        Err(Error::usage(
            format!("tag `{text}`"),
            "a tag is 1 to 128 letters, digits, `_`, `.` or `-`, and begins with neither `.` nor `-`",
        ))
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of an image in a registry: host, repository, and a tag or digest or both.
///
/// ```
/// use ocibuild::Reference;
///
/// let short: Reference = "debian:stable-slim".parse()?;
/// assert_eq!(short.to_string(), "docker.io/library/debian:stable-slim");
/// let local: Reference = "localhost:5000/team/robot".parse()?;
/// assert_eq!((local.registry(), local.repository()), ("localhost:5000", "team/robot"));
/// # Ok::<(), ocibuild::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<Tag>,
    digest: Option<Digest>,
}

impl Reference {
    /// Returns the host, with the port if one was given.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Returns the path of the repository in its registry.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// Returns the tag that was written, if any.
    pub fn tag(&self) -> Option<&Tag> {
        self.tag.as_ref()
    }

    /// Returns the digest that pins the reference, if any.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// Returns the effective tag: the one written, or `latest`.
    pub fn tag_or_latest(&self) -> Tag {
        self.tag.clone().unwrap_or_else(Tag::latest)
    }

    /// Returns the same reference with `tag`.
    #[must_use]
    pub fn with_tag(mut self, tag: Tag) -> Self {
        self.tag = Some(tag);
        self
    }

    /// Returns the same reference, pinned to `digest`.
    #[must_use]
    pub fn with_digest(mut self, digest: Digest) -> Self {
        self.digest = Some(digest);
        self
    }

    /// Returns the same reference without its tag.
    #[must_use]
    pub fn without_tag(mut self) -> Self {
        self.tag = None;
        self
    }

    /// Returns the same reference without its digest.
    #[must_use]
    pub fn without_digest(mut self) -> Self {
        self.digest = None;
        self
    }

    /// Returns whether both name the same repository of the same registry.
    pub fn same_repository(&self, other: &Reference) -> bool {
        (&self.registry, &self.repository) == (&other.registry, &other.repository)
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |reason: &str| Error::usage(format!("reference `{text}`"), reason);
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest.parse::<Digest>().map_err(|error| wrong(&error.reason()))?)),
            None => (text, None),
        };
        let first = name.split_once('/').map(|(first, rest)| (first.to_ascii_lowercase(), rest));
        let (host, rest) = match &first {
            Some((first, rest)) if names_a_host(first) => (Some(first.as_str()), *rest),
            _ => (None, name),
        };
        let (path, tag) = match rest.rsplit_once(':') {
            Some((path, tag)) => (path, Some(tag.parse::<Tag>().map_err(|error| wrong(&error.reason()))?)),
            None => (rest, None),
        };
        if let Some(host) = host.filter(|host| !host_is_valid(host)) {
            return Err(wrong(&format!("`{host}` is not a host name")));
        }
        if !path.split('/').all(component_is_valid) {
            return Err(wrong("a repository is lower-case letters and digits, separated by `.`, `_`, `-` or `/`"));
        }
        let registry = match host {
            None | Some("index.docker.io" | "registry-1.docker.io") => DEFAULT_REGISTRY.to_owned(),
            Some(host) => host.to_owned(),
        };
        let official = registry == DEFAULT_REGISTRY && !path.contains('/');
        let repository = if official { format!("library/{path}") } else { path.to_owned() };
        if repository.len() > 255 {
            return Err(wrong("a repository is at most 255 characters"));
        }
        Ok(Reference { registry, repository, tag, digest })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

/// Returns whether the first component, in lower case, is a host.
///
/// Docker also takes `Team` in `Team/app` for a host, but in lower case that is a repository of Docker Hub, so it is refused.
fn names_a_host(component: &str) -> bool {
    component == "localhost" || component.contains(['.', ':', '['])
}

fn host_is_valid(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) if address.parse::<std::net::Ipv6Addr>().is_ok() => {
                ("v6", port.strip_prefix(':').or(Some(port)))
            }
            _ => return false,
        },
        None => match host.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, None),
        },
    };
    let port_fits = match port {
        None => true,
        Some("") => name == "v6" && host.ends_with(']'),
        Some(port) => port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok(),
    };
    let label_fits = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    port_fits && name.split('.').all(label_fits)
}

/// Checks a component: `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*` (distribution-spec, "Pulling manifests").
fn component_is_valid(component: &str) -> bool {
    let bytes = component.as_bytes();
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else { return false };
    if !plain(first) || !plain(last) {
        return false;
    }
    component
        .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        .all(|parting| matches!(parting, "" | "." | "_" | "__") || parting.bytes().all(|b| b == b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(text: &str) -> String {
        text.parse::<Reference>().map(|reference| reference.to_string()).unwrap_or_else(|error| error.reason())
    }

    #[test]
    fn references_mean_what_docker_means() {
        assert_eq!(normal("debian"), "docker.io/library/debian");
        assert_eq!(normal("team/robot:v1"), "docker.io/team/robot:v1");
        assert_eq!(normal("index.docker.io/debian"), "docker.io/library/debian");
        assert_eq!(normal("localhost/x"), "localhost/x");
        assert_eq!(normal("REG.io:5000/x:1"), "reg.io:5000/x:1");
        assert_eq!(normal("INDEX.Docker.io/debian"), "docker.io/library/debian");
        assert_eq!(normal("Localhost/x"), "localhost/x");
        assert_eq!(normal("[::1]:5000/x"), "[::1]:5000/x");
        assert_eq!(normal("[::1]/x"), "[::1]/x");
        let pinned = format!("h.io/x:1@sha256:{}", "0".repeat(64));
        assert_eq!(normal(&pinned), pinned);
    }

    #[test]
    fn malformed_references_are_refused() {
        for bad in [
            "",
            "Debian",
            "Team/app",
            "a//b",
            "a/",
            "/a",
            "x:",
            "x:.bad",
            "x@sha256:1",
            "reg.io./x",
            "reg.io:99999/x",
            "reg.io:/x",
            "bücher.example/x",
            "a b",
            "a__-b",
            "[::1/x",
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad}");
        }
    }

    #[test]
    fn tags_follow_the_rule() {
        assert!("a".repeat(128).parse::<Tag>().is_ok());
        for bad in ["", ".bad", "-bad", "a b", "a:b", "ü", "@"] {
            assert!(bad.parse::<Tag>().is_err(), "{bad}");
        }
        assert!("a".repeat(129).parse::<Tag>().is_err());
    }
}
