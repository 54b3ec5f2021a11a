//! The distribution client: reads and writes images in a registry over HTTP (distribution-spec 1.1).
//!
//! ```text
//!   Repository      one repository as a BlobSource and a BlobSink of the copy loop
//!     pull  push    the requests in their order, and the meaning of each response
//!   Registry        one host: answers challenges, follows redirects, retries transient failures
//!   Transport       one HTTP exchange
//! ```
//!
//! Three rules hold everywhere. Credentials belong to an origin (scheme, host and port): a redirect, an upload `Location` or a
//! token realm of another origin gets none. All content that has a digest is verified against it. No response is read without a
//! size limit.

mod arrivals;
mod authentication;
mod base_store;
mod blob_content;
mod challenge;
pub mod credential_helper;
pub mod credentials;
mod engine_pull;
mod error_response;
mod fallback;
mod fetch;
mod layer_sources;
pub mod mirrors;
mod origin;
mod proxy;
mod pull;
mod push;
mod referrers;
mod repository;
mod retry;
mod secret;
pub mod server;
mod token;
mod transport;
pub mod trust;

pub use base_store::{BaseStore, Meanings, Pulled, StoredBase};
pub use engine_pull::pull_into_engine;
pub use fallback::{BASE_NAME, Fallback, MirroredRepository};
pub use fetch::fetch;
pub use layer_sources::LayerSources;
pub use proxy::Proxies;
pub use pull::ManifestDocument;
pub use repository::Repository;
pub use retry::RetryPolicy;
pub use secret::Secret;
pub use transport::{ClientCertificate, Network, Timeouts, Transport, certificates};

use crate::common::error::{Error, ErrorKind, Result};
use crate::common::limits::MostBytes;
use crate::common::progress::Progress;
use crate::spec::reference::DEFAULT_REGISTRY;
use authentication::{Authentication, RequestScope, Scopes, TokenContext};
use credentials::Keychain;
use error_response::ErrorResponse;
use origin::{Origin, Scheme};
use retry::Attempts;
use std::fmt;
use std::io::{self, Read};
use std::sync::{Arc, OnceLock};
use transport::{Answer, ExchangeError, HttpRequest, Payload};
use ureq::http::{Method, Uri, header};

/// The host of Docker Hub's registry, which references call `docker.io`.
const DOCKER_HUB: &str = "registry-1.docker.io";

/// The maximum number of redirects that one request follows.
const MOST_REDIRECTS: u32 = 5;

/// The maximum number of challenges that one request answers: one for a first or an expired token, one for a token with
/// insufficient scope.
const MOST_CHALLENGES: u32 = 2;

/// The registries that may be reached over plain HTTP if they do not support TLS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PlainHttp {
    /// No registry.
    Never,
    /// Registries on a loopback address.
    #[default]
    Loopback,
    /// Every registry.
    Allowed,
}

/// Options of a registry client.
#[derive(Debug, Clone)]
pub struct Options {
    /// The registries for which plain HTTP is allowed.
    pub plain_http: PlainHttp,
    /// The limits of retries of a failed request.
    pub retry: RetryPolicy,
    /// Token servers (`host` or `host:port`) that receive credentials although they differ from the registry's origin.
    pub realms: Vec<String>,
    /// The number of blobs that are transferred concurrently.
    pub transfers: usize,
    /// The chunk size of chunked uploads, in bytes. A registry may ask for larger chunks.
    pub part: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            plain_http: PlainHttp::default(),
            retry: RetryPolicy::default(),
            realms: Vec::new(),
            transfers: 4,
            // Every registry accepts chunks of 5 MiB (the minimum of Amazon ECR); some refuse bodies over 100 MB (Cloudflare).
            part: 32 << 20,
        }
    }
}

/// A client of one registry, shared by all threads that work with it.
pub struct Registry {
    name: String,
    transport: Arc<Transport>,
    authentication: Authentication,
    options: Options,
    progress: Arc<dyn Progress + Send>,
    origin: OnceLock<Origin>,
    uploads: push::OpenUploads,
}

impl Registry {
    /// Creates a client of the registry that references call `name`. Sends no request.
    pub fn new(
        name: &str,
        transport: Arc<Transport>,
        keychain: Arc<Keychain>,
        options: Options,
        progress: Arc<dyn Progress + Send>,
    ) -> Self {
        let authentication = Authentication::new(name, keychain, options.realms.clone());
        Registry {
            name: name.to_owned(),
            transport,
            authentication,
            options,
            progress,
            origin: OnceLock::new(),
            uploads: push::OpenUploads::default(),
        }
    }

    /// Returns the name by which references call this registry.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the scheme, host and port of the registry. If plain HTTP is allowed, TLS is tried first.
    fn origin(&self) -> Result<&Origin> {
        if let Some(origin) = self.origin.get() {
            return Ok(origin);
        }
        let authority = authority_of(&self.name);
        let secure = Origin::new(Scheme::Https, authority)?;
        let may_be_plain = match self.options.plain_http {
            PlainHttp::Never => false,
            PlainHttp::Loopback => secure.is_loopback(),
            PlainHttp::Allowed => true,
        };
        let origin =
            if may_be_plain && !self.speaks_tls(&secure)? { Origin::new(Scheme::Http, authority)? } else { secure };
        Ok(self.origin.get_or_init(|| origin))
    }

    fn speaks_tls(&self, origin: &Origin) -> Result<bool> {
        let url = origin.url("/v2/")?;
        let mut request = HttpRequest { method: Method::GET, url, headers: Vec::new(), payload: Payload::None };
        match self.transport.send(&mut request, None) {
            Ok(_) => Ok(true),
            Err(ExchangeError::NoTls(_)) => Ok(false),
            Err(fault) => Err(fault.error()),
        }
    }

    /// Checks that the registry can be reached and accepts the credentials (`GET /v2/`).
    ///
    /// Returns `true` if the registry asked for credentials.
    ///
    /// # Errors
    /// Fails if the registry cannot be reached, is not a registry, or refuses the credentials.
    pub fn check_auth(&self) -> Result<bool> {
        let url = self.origin()?.url("/v2/")?;
        let mut request = HttpRequest { method: Method::GET, url, headers: Vec::new(), payload: Payload::None };
        let purpose = RequestScope { scopes: Scopes::none(), object: self.name.clone() };
        let answer = self.send_with_retries(&mut request, &purpose)?;
        match answer.status {
            200 => self.authentication.credentials_were_accepted(),
            _ => Err(self.refused(answer, &purpose)),
        }
    }

    /// Returns the URL of `path` below the repository that `purpose` is about.
    fn url(&self, purpose: &RequestScope, path: &str) -> Result<Uri> {
        let origin = self.origin().map_err(|error| ExchangeError::Permanent(error).about(&purpose.object).error())?;
        origin.url(&format!("/v2/{}/{path}", purpose.scopes.repository))
    }

    /// Returns the name of a repository in messages.
    fn object(&self, repository: &str) -> String {
        format!("{}/{repository}", self.name)
    }

    /// Sends a request, answers challenges and follows redirects. Any other status is returned to the caller.
    fn send_once(&self, request: &mut HttpRequest<'_, '_>, purpose: &RequestScope) -> Result<Answer, ExchangeError> {
        self.exchange(request, purpose).map_err(|fault| fault.about(&purpose.object))
    }

    fn exchange(&self, request: &mut HttpRequest<'_, '_>, purpose: &RequestScope) -> Result<Answer, ExchangeError> {
        let registry = self.origin().map_err(ExchangeError::Permanent)?;
        let means =
            TokenContext { registry, transport: &self.transport, retry: self.options.retry, progress: &*self.progress };
        let (mut challenges, mut redirects) = (0, 0);
        loop {
            let is_ours = Origin::of(&request.url) == *registry;
            let authorization = match is_ours {
                true => self.authentication.header(&purpose.scopes, means).map_err(ExchangeError::Permanent)?,
                false => None,
            };
            let answer = self.transport.send(request, authorization.as_ref())?;
            match answer.status {
                // Only the registry's own origin gets credentials: a 401 from any other host is returned to the caller.
                401 if is_ours => {
                    let refusal = ErrorResponse::read(401, answer.body);
                    if challenges == MOST_CHALLENGES {
                        return Err(ExchangeError::Permanent(self.authentication.refused(purpose, &refusal)));
                    }
                    challenges += 1;
                    self.authentication
                        .answer(&answer.headers, &purpose.scopes, authorization.as_ref(), means)
                        .map_err(ExchangeError::Permanent)?;
                }
                301 | 302 | 303 | 307 | 308 => {
                    redirects += 1;
                    request.url = redirected(request, &answer, redirects).map_err(ExchangeError::Permanent)?;
                }
                _ => return Ok(answer),
            }
        }
    }

    /// Sends a request as [`Registry::send_once`] does, and retries transient failures. The request must be safe to repeat.
    fn send_with_retries(&self, request: &mut HttpRequest<'_, '_>, purpose: &RequestScope) -> Result<Answer> {
        let mut attempts = self.attempts();
        let start = request.url.clone();
        loop {
            request.url = start.clone();
            match self.send_once(request, purpose) {
                Ok(answer) if is_transient(answer.status) => {
                    let error = ErrorResponse::read(answer.status, answer.body).error(&purpose.object);
                    attempts.wait_for_retry(&answer.headers, error)?;
                }
                Ok(answer) => return Ok(answer),
                Err(ExchangeError::Transient(error)) => attempts.wait_after(error)?,
                Err(fault) => return Err(fault.error()),
            }
        }
    }

    /// Sends `request` and reads the whole body of its response. A body that was cut is requested again from its beginning.
    fn document(
        &self,
        request: &mut HttpRequest<'_, '_>,
        purpose: &RequestScope,
        most: impl Into<MostBytes>,
    ) -> Result<(Answer, Vec<u8>)> {
        let bound = most.into();
        let mut attempts = self.attempts();
        loop {
            let mut answer = self.send_with_retries(request, purpose)?;
            if answer.status != 200 {
                return Err(self.refused(answer, purpose));
            }
            let mut bytes = Vec::new();
            let body = answer.body.within(self.transport.document_time());
            match io::copy(&mut body.take(bound.bytes.saturating_add(1)), &mut bytes) {
                Ok(read) => {
                    bound.check(read, &purpose.object)?;
                    return Ok((answer, bytes));
                }
                Err(error) => match self.transport.body_fault(&answer.url, error).about(&purpose.object) {
                    ExchangeError::Transient(error) => attempts.wait_after(error)?,
                    fault => return Err(fault.error()),
                },
            }
        }
    }

    /// Returns the error for an unsuccessful response.
    fn refused(&self, answer: Answer, purpose: &RequestScope) -> Error {
        let refusal = ErrorResponse::read(answer.status, answer.body);
        self.authentication.refused(purpose, &refusal)
    }

    /// Starts to count the attempts at a request or transfer.
    fn attempts(&self) -> Attempts<'_> {
        Attempts::new(self.options.retry, &*self.progress)
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("name", &self.name).field("origin", &self.origin).finish_non_exhaustive()
    }
}

/// Returns the host (and port) of the registry that references call `name`.
fn authority_of(name: &str) -> &str {
    if name == DEFAULT_REGISTRY { DOCKER_HUB } else { name }
}

/// Returns whether a response of this status is a transient failure.
fn is_transient(status: u16) -> bool {
    matches!(status, 429 | 500 | 502 | 503 | 504)
}

/// Returns the target of a redirect.
fn redirected(request: &HttpRequest<'_, '_>, answer: &Answer, redirects: u32) -> Result<Uri> {
    let wrong = |reason: String| Error::new(ErrorKind::Network, origin::without_query(&answer.url), reason);
    let keeps_method = matches!(answer.status, 307 | 308);
    if !keeps_method && !matches!(request.method, Method::GET | Method::HEAD) {
        return Err(wrong(format!("answered {} to a {}, which cannot be followed", answer.status, request.method)));
    }
    if redirects > MOST_REDIRECTS {
        return Err(wrong(format!("redirects more than {MOST_REDIRECTS} times")));
    }
    let location =
        answer.header(header::LOCATION).ok_or_else(|| wrong("redirects without saying where to".to_owned()))?;
    origin::resolve(&answer.url, location, "redirect").map_err(|error| error.within(origin::without_query(&answer.url)))
}
