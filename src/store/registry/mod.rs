//! The distribution client: images in a registry, read and written over HTTP (distribution-spec 1.1).
//!
//! ```text
//!   Repository      one repository as a BlobSource and a BlobSink of the copy loop
//!     pull  push    what is asked in which order, and what each answer means
//!   Registry        one host: answers challenges, follows redirects, repeats what failed in passing
//!   Transport       one exchange
//! ```
//!
//! Three rules hold everywhere. Credentials belong to an origin (scheme, host and port): a redirect, an upload `Location`
//! or a token realm elsewhere gets none. Whatever has a digest is verified against it. And nothing is read without a limit.

mod authentication;
mod challenge;
mod content;
pub mod credentials;
mod fetch;
pub mod helper;
mod origin;
mod proxy;
mod pull;
mod push;
mod refusal;
mod repository;
mod retry;
mod secret;
mod token;
mod transport;

pub use fetch::fetch;
pub use proxy::Proxies;
pub use pull::Document;
pub use repository::Repository;
pub use retry::Persistence;
pub use secret::Secret;
pub use transport::{Identity, Limits, Network, Transport, certificates};

use crate::error::{Error, ErrorKind, Result};
use crate::progress::{self, Progress};
use crate::reference::DEFAULT_REGISTRY;
use authentication::{Authentication, Means, Purpose, Scopes};
use credentials::Keychain;
use origin::{Origin, Scheme};
use refusal::Refusal;
use retry::Attempts;
use std::fmt;
use std::io::{self, Read};
use std::sync::{Arc, OnceLock};
use transport::{Answer, Fault, Payload, Request};
use ureq::http::{Method, Uri, header};

/// Where Docker Hub's registry is, which references call `docker.io`.
const DOCKER_HUB: &str = "registry-1.docker.io";

/// How many redirects one request follows.
const MOST_REDIRECTS: u32 = 5;

/// How many challenges one request answers: one for a first or an expired token, one for a token that was not enough.
const MOST_CHALLENGES: u32 = 2;

/// Which registries may be spoken to in clear text, if they do not speak TLS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PlainHttp {
    /// None.
    Never,
    /// Those on this machine.
    #[default]
    Loopback,
    /// All.
    Allowed,
}

/// How a registry is spoken to.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whether TLS may be missing.
    pub plain_http: PlainHttp,
    /// How often and how long a failed request is repeated.
    pub persistence: Persistence,
    /// Token servers (`host` or `host:port`) that are given credentials although they are not the registry's own origin.
    pub realms: Vec<String>,
    /// How many blobs are sent or fetched at once.
    pub transfers: usize,
    /// The size of a part where a blob is sent in parts, in bytes. A registry may ask for larger ones.
    pub part: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            plain_http: PlainHttp::default(),
            persistence: Persistence::default(),
            realms: Vec::new(),
            transfers: 4,
            // The smallest that every registry takes is 5 MiB (Amazon ECR); some refuse bodies over 100 MB (Cloudflare).
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
    /// A client of the registry that references call `name`. Nothing is sent before the first request.
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

    /// The name by which references call this registry.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Scheme, host and port of the registry. Where plain HTTP is allowed, TLS is tried first.
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
        let mut request = Request { method: Method::GET, url, headers: Vec::new(), payload: Payload::None };
        match self.transport.send(&mut request, None) {
            Ok(_) => Ok(true),
            Err(Fault::NoTls(_)) => Ok(false),
            Err(fault) => Err(fault.error()),
        }
    }

    /// Asks the registry whether it is one and lets us in. Answers whether it wanted to know who we are.
    ///
    /// # Errors
    /// When it cannot be asked, is no registry, or refuses the credentials.
    pub fn greet(&self) -> Result<bool> {
        let url = self.origin()?.url("/v2/")?;
        let mut request = Request { method: Method::GET, url, headers: Vec::new(), payload: Payload::None };
        let purpose = Purpose { scopes: Scopes::none(), object: self.name.clone() };
        let answer = self.persistently(&mut request, &purpose)?;
        match answer.status {
            200 => self.authentication.proved(),
            _ => Err(self.refused(answer, &purpose)),
        }
    }

    /// The URL of `path` below the repository that `purpose` is about.
    fn url(&self, purpose: &Purpose, path: &str) -> Result<Uri> {
        let origin = self.origin().map_err(|error| Fault::Lasting(error).about(&purpose.object).error())?;
        origin.url(&format!("/v2/{}/{path}", purpose.scopes.repository))
    }

    /// What messages call a repository.
    fn object(&self, repository: &str) -> String {
        format!("{}/{repository}", self.name)
    }

    /// Sends a request, answers challenges and follows redirects. The answer may be any other status.
    fn once(&self, request: &mut Request<'_, '_>, purpose: &Purpose) -> Result<Answer, Fault> {
        self.exchange(request, purpose).map_err(|fault| fault.about(&purpose.object))
    }

    fn exchange(&self, request: &mut Request<'_, '_>, purpose: &Purpose) -> Result<Answer, Fault> {
        let registry = self.origin().map_err(Fault::Lasting)?;
        let means = Means {
            registry,
            transport: &self.transport,
            persistence: self.options.persistence,
            progress: &*self.progress,
        };
        let (mut challenges, mut redirects) = (0, 0);
        loop {
            let is_ours = Origin::of(&request.url) == *registry;
            let authorization = match is_ours {
                true => self.authentication.header(&purpose.scopes, means).map_err(Fault::Lasting)?,
                false => None,
            };
            let answer = self.transport.send(request, authorization.as_ref())?;
            match answer.status {
                // Whoever else asks for credentials gets none: the answer is passed on as it is.
                401 if is_ours => {
                    let refusal = Refusal::read(401, answer.body);
                    if challenges == MOST_CHALLENGES {
                        return Err(Fault::Lasting(self.authentication.refused(purpose, &refusal)));
                    }
                    challenges += 1;
                    self.authentication
                        .answer(&answer.headers, &purpose.scopes, authorization.as_ref(), means)
                        .map_err(Fault::Lasting)?;
                }
                301 | 302 | 303 | 307 | 308 => {
                    redirects += 1;
                    request.url = redirected(request, &answer, redirects).map_err(Fault::Lasting)?;
                }
                _ => return Ok(answer),
            }
        }
    }

    /// As [`Registry::once`], and again as long as what went wrong may pass. Only for requests that may arrive twice.
    fn persistently(&self, request: &mut Request<'_, '_>, purpose: &Purpose) -> Result<Answer> {
        let mut attempts = Attempts::new(self.options.persistence);
        let start = request.url.clone();
        loop {
            request.url = start.clone();
            match self.once(request, purpose) {
                Ok(answer) if passes(answer.status) => {
                    let error = Refusal::read(answer.status, answer.body).error(&purpose.object);
                    self.tell(&error);
                    attempts.wait_as_told(&answer.headers, error)?;
                }
                Ok(answer) => return Ok(answer),
                Err(Fault::Passing(error)) => {
                    self.tell(&error);
                    attempts.wait_after(error)?;
                }
                Err(fault) => return Err(fault.error()),
            }
        }
    }

    /// Reads the whole body that `request` is answered with, again from its beginning where it was cut.
    fn document(&self, request: &mut Request<'_, '_>, purpose: &Purpose, limit: u64) -> Result<(Answer, Vec<u8>)> {
        let mut attempts = Attempts::new(self.options.persistence);
        loop {
            let mut answer = self.persistently(request, purpose)?;
            if answer.status != 200 {
                return Err(self.refused(answer, purpose));
            }
            let mut bytes = Vec::new();
            let body = answer.body.within(self.transport.document_time());
            match io::copy(&mut body.take(limit + 1), &mut bytes) {
                Ok(read) if read > limit => {
                    let reason = format!("the document is larger than {}", crate::wording::size(limit));
                    return Err(Error::invalid(&purpose.object, reason));
                }
                Ok(_) => return Ok((answer, bytes)),
                Err(error) => match self.transport.body_fault(&answer.url, error).about(&purpose.object) {
                    Fault::Passing(error) => attempts.wait_after(error)?,
                    fault => return Err(fault.error()),
                },
            }
        }
    }

    /// The error that an answer is.
    fn refused(&self, answer: Answer, purpose: &Purpose) -> Error {
        let refusal = Refusal::read(answer.status, answer.body);
        self.authentication.refused(purpose, &refusal)
    }

    /// Tells the watcher of what goes wrong and will be tried again.
    fn tell(&self, error: &Error) {
        progress::warn(&*self.progress, &error.object(), &format!("{}; trying again", error.reason()));
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("name", &self.name).field("origin", &self.origin).finish_non_exhaustive()
    }
}

/// Where the registry is that references call `name`.
fn authority_of(name: &str) -> &str {
    if name == DEFAULT_REGISTRY { DOCKER_HUB } else { name }
}

/// Whether an answer of this status may be another one soon.
fn passes(status: u16) -> bool {
    matches!(status, 429 | 500 | 502 | 503 | 504)
}

/// Where a redirect leads.
fn redirected(request: &Request<'_, '_>, answer: &Answer, redirects: u32) -> Result<Uri> {
    let wrong = |reason: String| Error::new(ErrorKind::Network, origin::shown(&answer.url), reason);
    let keeps_method = matches!(answer.status, 307 | 308);
    if !keeps_method && !matches!(request.method, Method::GET | Method::HEAD) {
        return Err(wrong(format!("answered {} to a {}, which cannot be followed", answer.status, request.method)));
    }
    if redirects > MOST_REDIRECTS {
        return Err(wrong(format!("redirects more than {MOST_REDIRECTS} times")));
    }
    let location =
        answer.header(header::LOCATION).ok_or_else(|| wrong("redirects without saying where to".to_owned()))?;
    origin::resolve(&answer.url, location, "redirect").map_err(|error| error.within(origin::shown(&answer.url)))
}
