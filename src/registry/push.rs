//! Writing to a registry: blobs, whole or in chunks, and manifests (distribution-spec, "Push").
//!
//! A blob is sent in one request. If that request is cut or refused for its length, the client asks how much the registry has
//! received and sends the rest in chunks, each to the newest `Location`. If the registry cannot say, the blob is sent again
//! from its beginning. After any unclear result, a `HEAD` request decides whether the blob is there.

use super::authentication::{RequestScope, Scopes};
use super::pull::CONTENT_DIGEST;
use super::retry::Attempts;
use super::transport::{Answer, ExchangeError, HttpRequest, Payload};
use super::{Registry, is_transient, origin};
use crate::common::digest::Digest;
use crate::common::error::{Error, ErrorKind, Result};
use crate::registry::blob_content::BlobContent;
use crate::registry::error_response::ErrorResponse;
use crate::spec::Descriptor;
use crate::spec::reference::Reference;
use crate::store::Opener;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use ureq::http::{HeaderMap, HeaderName, Method, Uri, header};

/// The header in which a registry asks for larger chunks (distribution-spec, "Pushing a blob in chunks").
const CHUNK_MIN_LENGTH: HeaderName = HeaderName::from_static("oci-chunk-min-length");

/// The maximum number of times that a manifest is sent again to a registry that does not see its blobs yet.
const MOST_MANIFEST_RETRIES: u32 = 3;

/// The header in which a registry says that it lists the manifest as a referrer of its subject.
const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");

const OCTETS: &str = "application/octet-stream";

/// An open upload session.
#[derive(Debug)]
pub(super) struct Session {
    /// The URL of the next request of the session. It changes with each response.
    url: Uri,
    /// The minimum chunk size that the registry accepts, in bytes.
    least_part: u64,
    /// The number of bytes that the registry has received.
    offset: u64,
}

/// The open uploads, by blob digest and repository, so that they can be cancelled on interruption.
#[derive(Debug, Default)]
pub(super) struct OpenUploads(Mutex<BTreeMap<(Digest, String), Uri>>);

/// The result of an upload request that is not a final failure.
enum UploadOutcome {
    /// The blob is stored.
    Stored,
    /// The registry may or may not have received the bytes.
    Unclear(Error, Box<HeaderMap>),
    /// The session cannot be used any more.
    Lost(Error),
    /// The registry or a proxy refused the body as too large.
    TooLarge(Error),
}

/// The state of one upload.
struct Upload<'u> {
    registry: &'u Registry,
    image: &'u Reference,
    descriptor: &'u Descriptor,
    content: BlobContent<'u>,
    purpose: RequestScope,
    attempts: Attempts<'u>,
    /// The most bytes that any session has received.
    furthest: u64,
    in_parts: bool,
    /// Whether the session continues after a request with an unclear result.
    resumed: bool,
}

impl Registry {
    /// Checks whether the repository has the blob, with the right size.
    ///
    /// # Errors
    /// Fails if the registry cannot be reached or denies access.
    pub(super) fn has_blob(&self, image: &Reference, descriptor: &Descriptor) -> Result<bool> {
        self.is_there(descriptor, &pushing(image, descriptor))
    }

    /// Checks for a blob as [`Registry::has_blob`] does, with read access only.
    pub(super) fn offers_blob(&self, image: &Reference, descriptor: &Descriptor) -> Result<bool> {
        let (repository, object) = (image.repository(), format!("{image}: blob {}", descriptor.digest));
        self.is_there(descriptor, &RequestScope { scopes: Scopes::pull(repository), object })
    }

    fn is_there(&self, descriptor: &Descriptor, purpose: &RequestScope) -> Result<bool> {
        let mut request = HttpRequest {
            method: Method::HEAD,
            url: self.url(purpose, &format!("blobs/{}", descriptor.digest))?,
            headers: Vec::new(),
            payload: Payload::None,
        };
        let answer = self.send_with_retries(&mut request, purpose)?;
        match answer.status {
            200 => {
                let length = answer.header(header::CONTENT_LENGTH).and_then(|text| text.trim().parse::<u64>().ok());
                Ok(length.is_none_or(|length| length == descriptor.size))
            }
            401 | 403 => Err(self.refused(answer, purpose)),
            _ => Ok(false),
        }
    }

    /// Asks the registry to mount the blob from its repository `from`. A failure is not an error, and the registry may open an
    /// upload session instead.
    pub(super) fn mount(&self, repository: &str, descriptor: &Descriptor, from: &str) -> Mount {
        let parameters =
            format!("mount={}&from={}", origin::encoded(&descriptor.digest.to_string()), origin::encoded(from));
        let purpose = RequestScope { scopes: Scopes::mount(repository, from), object: self.object(repository) };
        let Ok(url) = self.url(&purpose, &format!("blobs/uploads/?{parameters}")) else { return Mount::Failed };
        let mut request = HttpRequest { method: Method::POST, url, headers: Vec::new(), payload: Payload::Bytes(b"") };
        match self.send_once(&mut request, &purpose) {
            Ok(answer) if answer.status == 201 => Mount::Done,
            Ok(answer) if answer.status == 202 => session(&answer).map_or(Mount::Failed, Mount::Session),
            _ => Mount::Failed,
        }
    }

    /// Uploads a blob that the repository lacks, into `session` if there is one.
    ///
    /// # Errors
    /// Fails if the blob does not match its descriptor (then it is never uploaded completely), the registry refuses it, or all
    /// retries fail.
    pub(super) fn upload(
        &self,
        image: &Reference,
        descriptor: &Descriptor,
        open: &Opener<'_>,
        session: Option<Session>,
    ) -> Result<()> {
        let upload = Upload {
            registry: self,
            image,
            descriptor,
            content: BlobContent::new(descriptor, open),
            purpose: pushing(image, descriptor),
            attempts: self.attempts(),
            furthest: 0,
            in_parts: false,
            resumed: false,
        };
        upload.run(session)
    }

    /// Cancels the open uploads, after the user has interrupted the program. Each request is tried once, and its failure is
    /// ignored.
    pub fn abandon_uploads(&self) {
        let open = std::mem::take(&mut *self.uploads.0.lock().unwrap_or_else(PoisonError::into_inner));
        for ((_, repository), url) in open {
            let purpose = RequestScope { scopes: Scopes::push(&repository), object: self.object(&repository) };
            self.abandon(&url, &purpose);
        }
    }

    /// Cancels a session. Registries expire unused sessions, so a failure is ignored.
    fn abandon(&self, session: &Uri, purpose: &RequestScope) {
        let mut request =
            HttpRequest { method: Method::DELETE, url: session.clone(), headers: Vec::new(), payload: Payload::None };
        let _ = self.send_once(&mut request, purpose);
    }

    /// Stores a manifest under `name`, a tag or its digest. All of its blobs must be in the repository. Returns whether the
    /// registry says that it lists the manifest as a referrer.
    ///
    /// # Errors
    /// Fails if the registry refuses it, or reports another digest.
    pub(super) fn put_manifest(
        &self,
        repository: &str,
        descriptor: &Descriptor,
        bytes: &[u8],
        name: &str,
    ) -> Result<bool> {
        let separator = if name.contains(':') { '@' } else { ':' };
        let object = format!("{}{separator}{name}", self.object(repository));
        let refused = |error: Error| {
            let reason = format!("the blobs are uploaded, but the manifest is refused: {}", error.reason());
            let made = Error::new(error.kind(), &object, reason);
            match error.advice() {
                Some(hint) => made.hint(hint),
                None => made,
            }
        };
        let purpose = RequestScope { scopes: Scopes::push(repository), object: object.clone() };
        let mut attempts = self.attempts();
        let mut retries = 0;
        loop {
            let mut request = HttpRequest {
                method: Method::PUT,
                url: self.url(&purpose, &format!("manifests/{name}"))?,
                headers: vec![(header::CONTENT_TYPE, descriptor.media_type.clone())],
                payload: Payload::Bytes(bytes),
            };
            let answer = self.send_with_retries(&mut request, &purpose).map_err(refused)?;
            if matches!(answer.status, 200..=202) {
                check_digest(&answer, descriptor.digest).map_err(|error| error.within(&object))?;
                return Ok(answer.header(SUBJECT).is_some());
            }
            let refusal = ErrorResponse::read(answer.status, answer.body);
            let error = refused(self.authentication.refused(&purpose, &refusal));
            // A distributed registry may need a moment to see the blobs that it has just accepted.
            let sees_no_blob = refusal.has_code("MANIFEST_BLOB_UNKNOWN") || refusal.has_code("BLOB_UNKNOWN");
            if !sees_no_blob || retries == MOST_MANIFEST_RETRIES {
                return Err(error);
            }
            retries += 1;
            attempts.wait_after(error)?;
        }
    }
}

/// Returns the scope of an upload to `image`.
fn pushing(image: &Reference, descriptor: &Descriptor) -> RequestScope {
    RequestScope {
        scopes: Scopes::push(image.repository()),
        object: format!("{image}: upload of {}", descriptor.digest),
    }
}

/// The result of a mount request.
#[derive(Debug)]
pub(super) enum Mount {
    /// The blob is in the repository.
    Done,
    /// The registry did not mount the blob, but opened an upload session.
    Session(Session),
    /// The blob was not mounted.
    Failed,
}

/// Returns the session that a response of 202 opens or continues, with no bytes received.
fn session(answer: &Answer) -> Result<Session> {
    let location = answer.header(header::LOCATION).ok_or_else(|| {
        Error::new(
            ErrorKind::Network,
            origin::without_query(&answer.url),
            "accepts an upload without saying where (no Location)",
        )
    })?;
    let url = origin::resolve(&answer.url, location, "Location")
        .map_err(|error| error.within(origin::without_query(&answer.url)))?;
    let least_part = answer.header(CHUNK_MIN_LENGTH).and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    Ok(Session { url, least_part, offset: 0 })
}

/// Compares the digest that the registry reports for the stored content. Many registries report none.
fn check_digest(answer: &Answer, expected: Digest) -> Result<()> {
    match answer.header(CONTENT_DIGEST).map(str::parse::<Digest>) {
        Some(Ok(said)) if said.algorithm() == expected.algorithm() && said != expected => {
            Err(Error::corrupt(origin::without_query(&answer.url), format!("stored {expected} as {said}")))
        }
        _ => Ok(()),
    }
}

/// Returns the number of bytes that the registry has, from `Range`. Some registries send `0-0` for none, so it is ignored; a
/// single byte does not matter.
fn received(answer: &Answer) -> Option<u64> {
    let text = answer.header(header::RANGE)?.trim();
    let (first, last) = text.strip_prefix("bytes=").unwrap_or(text).split_once('-')?;
    match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(0), Ok(last)) if last > 0 => last.checked_add(1),
        _ => None,
    }
}

impl Upload<'_> {
    fn run(mut self, mut open: Option<Session>) -> Result<()> {
        loop {
            let mut session = match open.take() {
                Some(session) => session,
                None => self.start()?,
            };
            self.note(Some(&session));
            let step = if self.in_parts { self.send_parts(&mut session) } else { self.send_whole(&session) };
            open = match step {
                Ok(UploadOutcome::Stored) => {
                    self.note(None);
                    return Ok(());
                }
                Ok(UploadOutcome::Unclear(error, headers)) => {
                    let waited = self.attempts.wait_for_retry(&headers, error);
                    // If this check fails as well, the first failure is the one to report.
                    if self.registry.has_blob(self.image, self.descriptor).unwrap_or(false) {
                        self.note(None);
                        return Ok(());
                    }
                    if let Err(error) = waited {
                        self.abandon(&session);
                        return Err(error);
                    }
                    self.in_parts = true;
                    self.resume(session)
                }
                Ok(UploadOutcome::Lost(error)) => {
                    self.abandon(&session);
                    self.attempts.wait_after(error)?;
                    None
                }
                Ok(UploadOutcome::TooLarge(error)) => {
                    self.abandon(&session);
                    if self.in_parts {
                        return Err(error);
                    }
                    self.in_parts = true;
                    None
                }
                Err(error) => {
                    self.abandon(&session);
                    return Err(error);
                }
            };
        }
    }

    fn start(&mut self) -> Result<Session> {
        self.resumed = false;
        let mut request = HttpRequest {
            method: Method::POST,
            url: self.registry.url(&self.purpose, "blobs/uploads/")?,
            headers: Vec::new(),
            payload: Payload::Bytes(b""),
        };
        let answer = self.registry.send_with_retries(&mut request, &self.purpose)?;
        if answer.status == 202 { session(&answer) } else { Err(self.registry.refused(answer, &self.purpose)) }
    }

    /// Sends the whole blob in the request that also ends the upload.
    fn send_whole(&mut self, session: &Session) -> Result<UploadOutcome> {
        let length = self.content.size();
        let mut request = HttpRequest {
            method: Method::PUT,
            url: self.closing_url(session)?,
            headers: vec![(header::CONTENT_TYPE, OCTETS.to_owned())],
            payload: Payload::Part { content: &mut self.content, offset: 0, length },
        };
        let sent = self.registry.send_once(&mut request, &self.purpose);
        self.judge(sent)
    }

    /// Sends all missing bytes in chunks, then the request that ends the upload.
    fn send_parts(&mut self, session: &mut Session) -> Result<UploadOutcome> {
        while session.offset < self.content.size() {
            let offset = session.offset;
            let length = self.registry.options.part.max(session.least_part).min(self.content.size() - offset);
            let mut request = HttpRequest {
                method: Method::PATCH,
                url: session.url.clone(),
                headers: vec![
                    (header::CONTENT_TYPE, OCTETS.to_owned()),
                    (header::CONTENT_RANGE, format!("{offset}-{}", offset + length - 1)),
                ],
                payload: Payload::Part { content: &mut self.content, offset, length },
            };
            let sent = self.registry.send_once(&mut request, &self.purpose);
            let answer = match sent {
                Ok(answer) if matches!(answer.status, 200..=204) => answer,
                other => return self.judge(other),
            };
            if answer.header(header::LOCATION).is_some() {
                session.url = self::session(&answer)?.url;
                self.note(Some(session));
            }
            // Some registries do not report a range; then they have received all bytes.
            let has = match answer.header(header::RANGE) {
                None => Some(offset + length),
                Some(_) => received(&answer),
            };
            session.offset = match has {
                Some(has) if offset < has && has <= offset + length => has,
                _ => {
                    let said = answer.header(header::RANGE).unwrap_or_default();
                    let reason = format!("sent the bytes {offset}-{}, the registry has `{said}`", offset + length - 1);
                    return Ok(UploadOutcome::Lost(Error::new(ErrorKind::Network, &self.purpose.object, reason)));
                }
            };
            if session.offset > self.furthest {
                self.furthest = session.offset;
                self.attempts.start_over();
            }
        }
        let mut request = HttpRequest {
            method: Method::PUT,
            url: self.closing_url(session)?,
            headers: vec![(header::CONTENT_TYPE, OCTETS.to_owned())],
            payload: Payload::Bytes(b""),
        };
        let sent = self.registry.send_once(&mut request, &self.purpose);
        self.judge(sent)
    }

    /// Classifies the result of a request.
    fn judge(&mut self, sent: Result<Answer, ExchangeError>) -> Result<UploadOutcome> {
        let answer = match sent {
            Ok(answer) => answer,
            Err(ExchangeError::Transient(error)) => return Ok(UploadOutcome::Unclear(error, Box::default())),
            Err(fault) => return Err(fault.error()),
        };
        if matches!(answer.status, 200 | 201 | 204) {
            return check_digest(&answer, self.descriptor.digest).map(|()| UploadOutcome::Stored);
        }
        let refusal = ErrorResponse::read(answer.status, answer.body);
        let error = self.registry.authentication.refused(&self.purpose, &refusal);
        Ok(match answer.status {
            status if is_transient(status) => UploadOutcome::Unclear(error, Box::new(answer.headers)),
            404 | 416 => UploadOutcome::Lost(error),
            413 => UploadOutcome::TooLarge(error),
            // The bytes were verified, so the registry continued at a wrong offset.
            400 if self.resumed && refusal.has_code("DIGEST_INVALID") => UploadOutcome::Lost(error),
            _ => return Err(error),
        })
    }

    /// Asks how many bytes of the blob have arrived. A session with an invalid response is cancelled.
    fn resume(&mut self, session: Session) -> Option<Session> {
        let mut request =
            HttpRequest { method: Method::GET, url: session.url.clone(), headers: Vec::new(), payload: Payload::None };
        let answer = self.registry.send_once(&mut request, &self.purpose).ok();
        let resumed = answer.filter(|answer| matches!(answer.status, 200 | 202 | 204)).and_then(|answer| {
            let offset = received(&answer).filter(|offset| *offset <= self.content.size())?;
            let url = match answer.header(header::LOCATION) {
                Some(_) => self::session(&answer).ok()?.url,
                None => session.url.clone(),
            };
            Some(Session { url, least_part: session.least_part, offset })
        });
        match resumed {
            Some(resumed) => {
                self.resumed = true;
                Some(resumed)
            }
            None => {
                self.abandon(&session);
                None
            }
        }
    }

    /// Remembers the URL of the session, or removes it.
    fn note(&self, session: Option<&Session>) {
        let key = (self.descriptor.digest, self.image.repository().to_owned());
        let mut open = self.registry.uploads.0.lock().unwrap_or_else(PoisonError::into_inner);
        match session {
            Some(session) => open.insert(key, session.url.clone()),
            None => open.remove(&key),
        };
    }

    fn abandon(&self, session: &Session) {
        self.note(None);
        self.registry.abandon(&session.url, &self.purpose);
    }

    fn closing_url(&self, session: &Session) -> Result<Uri> {
        origin::with_query(&session.url, &[("digest", &self.descriptor.digest.to_string())], "Location")
    }
}
