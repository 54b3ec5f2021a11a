//! The meaning of each request: the pull half of the distribution specification.

use super::byte_range::Wanted;
use super::pulls::{PullRequest, Pulls, RegistryClient, Sent};
use super::refusal::{Code, Refusal};
use super::served_blob::{HashedFiles, ServedBlob};
use super::served_images::{Repositories, ServedImages};
use super::slots::Slots;
use super::target::{ManifestName, Page, ReferrerFilter, RequestTarget};
use super::{ServerEvent, ServerReport};
use crate::common::digest::Digest;
use crate::common::error::{Error, ErrorKind};
use crate::spec::media_type;
use serde_json::{Value, json};
use std::time::{Instant, SystemTime};
use ureq_proto::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};

/// The most names in one response; the client asks for the rest.
const MOST_NAMES: usize = 1000;

/// The size of a list of referrers from which on the client has to ask for the rest, in bytes.
const LONG_LIST: usize = 1 << 20;

/// The largest manifest that is held in memory while it is sent, in bytes.
const SMALL_MANIFEST: usize = 256 << 10;

/// The number of manifests that are parsed at once, since a large one takes a lot of memory.
const PARSED_AT_ONCE: usize = 2;

const DIGEST_HEADER: HeaderName = HeaderName::from_static("docker-content-digest");
const VERSION_HEADER: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const FILTERS_HEADER: HeaderName = HeaderName::from_static("oci-filters-applied");

/// Everything that responses are made of.
pub(super) struct Responder {
    pub(super) images: ServedImages,
    pub(super) files: HashedFiles,
    pub(super) pulls: Pulls,
    parsing: Slots,
}

/// A response that is ready to be sent.
pub(super) struct RegistryResponse<'p> {
    pub(super) status: StatusCode,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: ResponseBody,
    /// The pull that it belongs to.
    pub(super) pull: Option<(PullRequest<'p>, Sent)>,
}

/// The content of a response.
pub(super) enum ResponseBody {
    /// Nothing, and no length either.
    None,
    Bytes(Vec<u8>),
    Blob(ServedBlob),
}

impl ResponseBody {
    /// Returns the length in bytes, if there is a body.
    pub(super) fn length(&self) -> Option<u64> {
        match self {
            ResponseBody::None => None,
            ResponseBody::Bytes(bytes) => Some(bytes.len() as u64),
            ResponseBody::Blob(blob) => Some(blob.range.end - blob.range.start),
        }
    }
}

impl From<Refusal> for RegistryResponse<'_> {
    fn from(refusal: Refusal) -> Self {
        let (status, headers, bytes) = refusal.into_parts();
        RegistryResponse { status, headers, body: ResponseBody::Bytes(bytes), pull: None }.typed("application/json")
    }
}

impl<'p> RegistryResponse<'p> {
    fn new(status: StatusCode, body: ResponseBody) -> Self {
        RegistryResponse { status, headers: Vec::new(), body, pull: None }
    }

    fn json(value: &Value) -> Self {
        let bytes = ResponseBody::Bytes(value.to_string().into_bytes());
        RegistryResponse::new(StatusCode::OK, bytes).typed("application/json")
    }

    fn typed(self, media_type: &str) -> Self {
        self.with(header::CONTENT_TYPE, media_type).with(VERSION_HEADER, "registry/2.0")
    }

    /// Adds a header. A value that no header can have is left out.
    fn with(mut self, name: HeaderName, value: &str) -> Self {
        self.headers.extend(HeaderValue::from_str(value).ok().map(|value| (name, value)));
        self
    }

    fn of_pull(self, request: PullRequest<'p>, sent: Sent) -> Self {
        RegistryResponse { pull: Some((request, sent)), ..self }
    }
}

impl Responder {
    pub(super) fn new(images: ServedImages, files: HashedFiles) -> Self {
        Responder { images, files, pulls: Pulls::default(), parsing: Slots::new(PARSED_AT_ONCE) }
    }

    /// Returns the response to a GET or HEAD of `client`.
    pub(super) fn respond(
        &self,
        request: &Request<()>,
        client: &RegistryClient,
        report: &ServerReport,
    ) -> Result<RegistryResponse<'_>, Refusal> {
        let target = RequestTarget::of(request.uri())?;
        let refreshed = self.images.refresh(SystemTime::now());
        for (object, reason) in &refreshed.problems {
            report(ServerEvent::Warning { object, reason });
        }
        let repositories = &*refreshed.repositories;
        let known = |name: &str| match repositories.has(name) {
            true => Ok(()),
            false => Err(Refusal::not_found(Code::NameUnknown, format!("no repository `{name}`"))),
        };
        match target {
            RequestTarget::Version => Ok(RegistryResponse::json(&json!({}))),
            RequestTarget::Repositories(page) => Ok(list("repositories", "/v2/_catalog", repositories.names(), &page)),
            RequestTarget::Tags(name, page) => {
                known(&name)?;
                let path = format!("/v2/{name}/tags/list");
                let mut response = list("tags", &path, repositories.tags(&name), &page);
                response.add_member("name", &name);
                Ok(response)
            }
            RequestTarget::Manifest(name, reference) => {
                known(&name)?;
                let pull = self.pull(repositories, &name, client, report)?;
                let unread = |error| self.unread(&error, Code::ManifestUnknown, report);
                let response = self.manifest(repositories, &name, &reference, request.headers());
                let response = response.map_err(|failure| failure.refusal(unread))?;
                pull.name(&reference.to_string());
                Ok(response.of_pull(pull, Sent::Manifest))
            }
            RequestTarget::Blob(name, digest) => {
                known(&name)?;
                let pull = self.pull(repositories, &name, client, report)?;
                let unread = |error| self.unread(&error, Code::BlobUnknown, report);
                let response = self.blob(repositories, &name, &digest, request);
                let response = response.map_err(|failure| failure.refusal(unread))?;
                Ok(response.of_pull(pull, Sent::Blob))
            }
            RequestTarget::Referrers(name, subject, filter) => {
                known(&name)?;
                let unread = |error| self.unread(&error, Code::ManifestUnknown, report);
                self.referrers(repositories, &name, &subject, &filter).map_err(unread)
            }
        }
    }

    /// Notes a request of a pull, and keeps garbage collections out until the pull ends.
    fn pull(
        &self,
        repositories: &Repositories,
        name: &str,
        client: &RegistryClient,
        report: &ServerReport,
    ) -> Result<PullRequest<'_>, Refusal> {
        let held = self.images.hold(repositories, name).map_err(|error| match error.kind() {
            ErrorKind::Locked => Refusal::busy("the layout is being cleaned"),
            _ => self.unread(&error, Code::Unknown, report),
        })?;
        let (request, ended) = self.pulls.begin(client, name, held, Instant::now());
        if let Some(pull) = ended {
            report(ServerEvent::Pulled(&pull));
        }
        Ok(request)
    }

    fn manifest(
        &self,
        repositories: &Repositories,
        name: &str,
        reference: &ManifestName,
        headers: &HeaderMap,
    ) -> Result<RegistryResponse<'_>, Failure> {
        let digest = match reference {
            ManifestName::Digest(digest) => Some(*digest),
            ManifestName::Tag(tag) => repositories.tagged(name, tag),
        };
        let unknown = || Refusal::not_found(Code::ManifestUnknown, format!("`{name}` has no `{reference}`"));
        let digest = digest.ok_or_else(unknown)?;
        let parsing = self.parsing.wait();
        let found = self.images.manifest(repositories, name, &digest)?.ok_or_else(unknown)?;
        let media_type = &found.descriptor.media_type;
        if !accepts(headers, media_type) {
            let reason = format!("`{reference}` is of the type {media_type}, which the header Accept excludes");
            return Err(Refusal::not_found(Code::ManifestUnknown, reason).into());
        }
        let body = if is_unchanged(headers, &digest) {
            ResponseBody::None
        } else if found.bytes.len() > SMALL_MANIFEST {
            let file = self.images.blob(repositories, name, &digest)?.ok_or_else(unknown)?;
            ResponseBody::Blob(self.files.admit(file, digest)?)
        } else {
            ResponseBody::Bytes(found.bytes)
        };
        drop(parsing);
        let status = if body.length().is_none() { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
        Ok(RegistryResponse::new(status, body).typed(media_type).with_digest(&digest))
    }

    fn blob(
        &self,
        repositories: &Repositories,
        name: &str,
        digest: &Digest,
        request: &Request<()>,
    ) -> Result<RegistryResponse<'_>, Failure> {
        let Some(file) = self.images.blob(repositories, name, digest)? else {
            let reason = match repositories.place_of(digest) {
                Some(place) => format!("the layer {digest} of a sparse image is in {place}, not here"),
                None => format!("`{name}` has no blob {digest}"),
            };
            return Err(Refusal::not_found(Code::BlobUnknown, reason).into());
        };
        let response = |status, body| {
            let response = RegistryResponse::new(status, body).typed("application/octet-stream");
            response.with_digest(digest).with(header::ACCEPT_RANGES, "bytes")
        };
        if is_unchanged(request.headers(), digest) {
            return Ok(response(StatusCode::NOT_MODIFIED, ResponseBody::None));
        }
        let mut blob = self.files.admit(file, *digest)?;
        let size = blob.size();
        match wanted(request, digest, size) {
            Wanted::Whole => Ok(response(StatusCode::OK, ResponseBody::Blob(blob))),
            Wanted::Unsatisfiable => {
                let refusal = Refusal::new(StatusCode::RANGE_NOT_SATISFIABLE, Code::RangeInvalid, "beyond the blob");
                let range = HeaderValue::from_str(&format!("bytes */{size}"));
                Err(range.map_or(Refusal::internal(), |range| refusal.with(header::CONTENT_RANGE, range)).into())
            }
            Wanted::Part(range) => {
                self.files.prove(&mut blob)?;
                let content_range = format!("bytes {}-{}/{size}", range.start, range.end - 1);
                blob.range = range;
                let response = response(StatusCode::PARTIAL_CONTENT, ResponseBody::Blob(blob));
                Ok(response.with(header::CONTENT_RANGE, &content_range))
            }
        }
    }

    fn referrers(
        &self,
        repositories: &Repositories,
        name: &str,
        subject: &Digest,
        filter: &ReferrerFilter,
    ) -> Result<RegistryResponse<'_>, Error> {
        let _parsing = self.parsing.wait();
        let (mut manifests, mut length, mut last) = (Vec::new(), 0, None);
        let found = self.images.referrers(repositories, name, subject, filter.after.as_ref())?;
        for (digest, (layout, listed)) in found {
            if length > LONG_LIST {
                break;
            }
            // One that cannot be read is not listed, as if it were not there.
            let Ok(described) = layout.describe_referrer(&listed) else { continue };
            let is_wanted = filter.artifact_type.is_none() || filter.artifact_type == described.artifact_type;
            if is_wanted {
                let described = described.to_json();
                length += described.to_string().len();
                manifests.push(described);
                last = Some(digest).filter(|_| length > LONG_LIST);
            }
        }
        let document = json!({"schemaVersion": 2, "mediaType": media_type::INDEX, "manifests": manifests});
        let bytes = ResponseBody::Bytes(document.to_string().into_bytes());
        let mut response = RegistryResponse::new(StatusCode::OK, bytes).typed(media_type::INDEX);
        let mut query = String::new();
        if let Some(wanted) = &filter.artifact_type {
            response = response.with(FILTERS_HEADER, "artifactType");
            query = format!("&artifactType={}", encoded(wanted));
        }
        Ok(match last {
            Some(last) => {
                let next = format!("</v2/{name}/referrers/{subject}?last={last}{query}>; rel=\"next\"");
                response.with(header::LINK, &next)
            }
            None => response,
        })
    }

    /// Returns the response about content that cannot be read, and reports why.
    fn unread(&self, error: &Error, code: Code, report: &ServerReport) -> Refusal {
        report(ServerEvent::Warning { object: &error.object(), reason: &error.reason() });
        match error.digest() {
            Some(digest) if error.is_of_the_content() => {
                Refusal::not_found(code, format!("{digest} is damaged in the layout"))
            }
            _ => Refusal::internal(),
        }
    }
}

impl RegistryResponse<'_> {
    fn with_digest(self, digest: &Digest) -> Self {
        self.with(DIGEST_HEADER, &digest.to_string()).with(header::ETAG, &etag(digest))
    }

    /// Adds a member to a JSON object.
    fn add_member(&mut self, key: &str, value: &str) {
        if let ResponseBody::Bytes(bytes) = &mut self.body
            && let Ok(Value::Object(mut members)) = serde_json::from_slice(bytes)
        {
            members.insert(key.to_owned(), value.into());
            *bytes = Value::Object(members).to_string().into_bytes();
        }
    }
}

/// A request that fails: because of the client, or because of the layout.
enum Failure {
    Refused(Refusal),
    Unread(Error),
}

impl Failure {
    fn refusal(self, unread: impl FnOnce(Error) -> Refusal) -> Refusal {
        match self {
            Failure::Refused(refusal) => refusal,
            Failure::Unread(error) => unread(error),
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Failure::Refused(refusal)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Unread(error)
    }
}

/// Returns a page of `names`, with a link to the next one (distribution-spec, "Listing Tags").
fn list<'p>(key: &str, path: &str, names: impl Iterator<Item = impl AsRef<str>>, page: &Page) -> RegistryResponse<'p> {
    let most = page.most.unwrap_or(MOST_NAMES).min(MOST_NAMES);
    let mut rest = names.skip_while(|name| page.after.as_deref().is_some_and(|after| name.as_ref() <= after));
    let listed: Vec<String> = rest.by_ref().take(most).map(|name| name.as_ref().to_owned()).collect();
    let response = RegistryResponse::json(&json!({key: listed}));
    match (listed.last(), rest.next()) {
        (Some(last), Some(_)) => {
            let next = format!("<{path}?n={most}&last={}>; rel=\"next\"", encoded(last));
            response.with(header::LINK, &next)
        }
        _ => response,
    }
}

fn encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

fn etag(digest: &Digest) -> String {
    format!("\"{digest}\"")
}

/// Returns the values of a header that is a list.
fn values(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim)
}

/// Returns whether the header `Accept` allows the type. Without the header, every type is allowed.
fn accepts(headers: &HeaderMap, media_type: &str) -> bool {
    let fits = |value: &str| {
        let value = value.split(';').next().unwrap_or_default().trim();
        value.eq_ignore_ascii_case(media_type) || matches!(value, "*/*" | "application/*")
    };
    !headers.contains_key(header::ACCEPT) || values(headers, header::ACCEPT).any(fits)
}

/// Returns whether the client has the content already (RFC 9110, section 13.1.2).
fn is_unchanged(headers: &HeaderMap, digest: &Digest) -> bool {
    let etag = etag(digest);
    values(headers, header::IF_NONE_MATCH).any(|value| value == "*" || value.trim_start_matches("W/") == etag)
}

/// Returns the bytes that a request asks for. Only GET has ranges (RFC 9110, section 14.2).
fn wanted(request: &Request<()>, digest: &Digest, size: u64) -> Wanted {
    if request.method() != Method::GET {
        return Wanted::Whole;
    }
    let headers = request.headers();
    let is_of_this = values(headers, header::IF_RANGE).all(|value| value == etag(digest));
    let range = headers.get(header::RANGE).and_then(|value| value.to_str().ok()).filter(|_| is_of_this);
    range.map_or(Wanted::Whole, |range| Wanted::of(range, size))
}
