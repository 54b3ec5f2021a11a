//! What a request asks for: the paths of the distribution specification ("Endpoints").

use super::refusal::{Code, Refusal};
use crate::common::digest::Digest;
use crate::spec::reference::{Reference, Tag};
use percent_encoding::percent_decode_str;
use std::fmt;
use ureq_proto::http::Uri;

/// The resource that a request names.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RequestTarget {
    /// `/v2/`: whether this is a registry.
    Version,
    /// `/v2/_catalog`: the repositories.
    Repositories(Page),
    /// `/v2/NAME/tags/list`
    Tags(String, Page),
    /// `/v2/NAME/manifests/TAG` or `/v2/NAME/manifests/DIGEST`
    Manifest(String, ManifestName),
    /// `/v2/NAME/blobs/DIGEST`
    Blob(String, Digest),
    /// `/v2/NAME/referrers/DIGEST`
    Referrers(String, Digest, ReferrerFilter),
}

/// A tag or a digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ManifestName {
    Tag(String),
    Digest(Digest),
}

/// A part of a sorted list.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Page {
    /// The largest number of names.
    pub(super) most: Option<usize>,
    /// The name before the first.
    pub(super) after: Option<String>,
}

/// A selection of referrers.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ReferrerFilter {
    pub(super) artifact_type: Option<String>,
    /// The digest before the first.
    pub(super) after: Option<Digest>,
}

impl RequestTarget {
    /// Parses the target of a request, whose path may be percent-encoded.
    pub(super) fn of(uri: &Uri) -> Result<RequestTarget, Refusal> {
        let path = decoded(uri.path())?;
        let query = Query::of(uri)?;
        let unknown = || Refusal::not_found(Code::Unsupported, "no such endpoint");
        if path == "/v2" || path == "/v2/" {
            return Ok(RequestTarget::Version);
        }
        let rest = path.strip_prefix("/v2/").ok_or_else(unknown)?;
        if rest == "_catalog" {
            return Ok(RequestTarget::Repositories(query.page()?));
        }
        let (before, last) = rest.rsplit_once('/').ok_or_else(unknown)?;
        let (name, kind) = before.rsplit_once('/').ok_or_else(unknown)?;
        let name = repository(name)?;
        match (kind, last) {
            ("tags", "list") => Ok(RequestTarget::Tags(name, query.page()?)),
            ("manifests", reference) => Ok(RequestTarget::Manifest(name, ManifestName::of(reference)?)),
            ("blobs", text) => Ok(RequestTarget::Blob(name, digest(text)?)),
            ("referrers", text) => Ok(RequestTarget::Referrers(name, digest(text)?, query.referrers()?)),
            _ => Err(unknown()),
        }
    }
}

impl ManifestName {
    fn of(text: &str) -> Result<ManifestName, Refusal> {
        if text.contains(':') {
            return digest(text).map(ManifestName::Digest);
        }
        // A malformed tag names nothing, as one that is not there.
        let unknown = |_| Refusal::not_found(Code::ManifestUnknown, "no such tag");
        text.parse::<Tag>().map(|tag| ManifestName::Tag(tag.to_string())).map_err(unknown)
    }
}

impl fmt::Display for ManifestName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ManifestName::Tag(tag) => f.write_str(tag),
            ManifestName::Digest(digest) => fmt::Display::fmt(digest, f),
        }
    }
}

/// The decoded parameters of a request.
struct Query(Vec<(String, String)>);

impl Query {
    fn of(uri: &Uri) -> Result<Query, Refusal> {
        let pairs = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        let pair = |text: &str| {
            let (key, value) = text.split_once('=').unwrap_or((text, ""));
            Ok((decoded(key)?, decoded(value)?))
        };
        pairs.map(pair).collect::<Result<_, Refusal>>().map(Query)
    }

    fn value(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    fn page(&self) -> Result<Page, Refusal> {
        let number = |text: &str| {
            let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            // More than fits is more than there is.
            is_number.then(|| text.parse().unwrap_or(usize::MAX))
        };
        let malformed = || Refusal::malformed(Code::PaginationNumberInvalid, "`n` is not a number");
        let most = self.value("n").map(|text| number(text).ok_or_else(malformed)).transpose()?;
        Ok(Page { most, after: self.value("last").map(str::to_owned) })
    }

    fn referrers(&self) -> Result<ReferrerFilter, Refusal> {
        let after = self.value("last").map(digest).transpose()?;
        let artifact_type = self.value("artifactType").filter(|text| !text.is_empty()).map(str::to_owned);
        Ok(ReferrerFilter { artifact_type, after })
    }
}

fn decoded(text: &str) -> Result<String, Refusal> {
    let malformed = |_| Refusal::malformed(Code::NameInvalid, "the path is not UTF-8");
    percent_decode_str(text).decode_utf8().map(std::borrow::Cow::into_owned).map_err(malformed)
}

fn digest(text: &str) -> Result<Digest, Refusal> {
    text.parse().map_err(|_| Refusal::malformed(Code::DigestInvalid, "not a digest: sha256:… or sha512:…"))
}

/// Checks the name of a repository (distribution-spec, "Pulling manifests").
fn repository(name: &str) -> Result<String, Refusal> {
    if is_repository(name) {
        return Ok(name.to_owned());
    }
    Err(Refusal::malformed(Code::NameInvalid, "not the name of a repository"))
}

/// Returns whether `name` can name a repository.
pub(super) fn is_repository(name: &str) -> bool {
    let reference = format!("localhost/{name}").parse::<Reference>();
    reference.is_ok_and(|reference| reference.repository() == name && reference.tag().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(path: &str) -> Result<RequestTarget, u16> {
        RequestTarget::of(&path.parse().unwrap()).map_err(|refusal| refusal.status())
    }

    #[test]
    fn every_endpoint_is_recognized() {
        let zero = Digest::of(b"");
        let name = || "team/app".to_owned();
        assert_eq!(target("/v2/"), Ok(RequestTarget::Version));
        assert_eq!(target("/v2/_catalog"), Ok(RequestTarget::Repositories(Page::default())));
        let page = Page { most: Some(2), after: Some("v1".to_owned()) };
        assert_eq!(target("/v2/team/app/tags/list?n=2&last=v1"), Ok(RequestTarget::Tags(name(), page)));
        let tag = ManifestName::Tag("v1".to_owned());
        assert_eq!(target("/v2/team/app/manifests/v1?ns=docker.io"), Ok(RequestTarget::Manifest(name(), tag.clone())));
        assert_eq!(target("http://other.example/v2/team/app/manifests/v1"), Ok(RequestTarget::Manifest(name(), tag)));
        assert_eq!(target(&format!("/v2/team/app/blobs/{zero}")), Ok(RequestTarget::Blob(name(), zero)));
        let encoded = zero.to_string().replace(':', "%3A");
        assert_eq!(target(&format!("/v2/team%2Fapp/blobs/{encoded}")), Ok(RequestTarget::Blob(name(), zero)));
        let filter = ReferrerFilter { artifact_type: Some("a/b+c".to_owned()), after: None };
        let referrers = format!("/v2/team/app/referrers/{zero}?artifactType=a%2Fb+c");
        assert_eq!(target(&referrers), Ok(RequestTarget::Referrers(name(), zero, filter)));
        let deep = RequestTarget::Tags("manifests/blobs/tags".to_owned(), Page::default());
        assert_eq!(target("/v2/manifests/blobs/tags/tags/list"), Ok(deep));
    }

    #[test]
    fn other_paths_are_refused() {
        for (path, status) in [
            ("/", 404),
            ("/v1/_ping", 404),
            ("/v2/x", 404),
            ("/v2/tags/list", 404),
            ("/v2/a/b/c/d", 404),
            ("/v2/../../etc/passwd/manifests/v1", 400),
            ("/v2/%2e%2e/%2e%2e/manifests/v1", 400),
            ("/v2/a%00b/manifests/v1", 400),
            ("/v2/%ff/manifests/v1", 400),
            ("/v2/App/manifests/v1", 400),
            ("/v2/a:b/manifests/v1", 400),
            ("/v2//manifests/v1", 400),
            ("/v2/app/manifests/.bad", 404),
            ("/v2/app/manifests/sha256:1", 400),
            ("/v2/app/blobs/..%2f..%2findex.json", 400),
            ("/v2/app/blobs/v1", 400),
            ("/v2/app/tags/list?n=-1", 400),
            ("/v2/app/tags/list?n=", 400),
        ] {
            assert_eq!(target(path), Err(status), "{path}");
        }
        let many = target("/v2/app/tags/list?n=99999999999999999999999");
        assert_eq!(many, Ok(RequestTarget::Tags("app".to_owned(), Page { most: Some(usize::MAX), after: None })));
    }
}
