//! One HTTP/1.1 exchange. Does not follow redirects, add credentials or retry.
//!
//! The transfer of a blob has no time limit while it runs at [`LEAST_RATE`] or faster. A document that is read whole has a
//! total time limit.

use super::arrivals::{self, CountArrivals};
use super::origin::{Origin, Scheme};
use super::proxy::{Proxies, Proxy};
use super::secret::Secret;
use crate::common::error::{Error, ErrorKind, Result};
use crate::registry::blob_content::BlobContent;
use rustls::{CertificateError, InvalidMessage};
use std::io::{self, Read};
use std::sync::{Arc, mpsc};
use std::thread::Builder;
use std::time::{Duration, Instant};
use ureq::http::{self, HeaderMap, Method, Uri, header};
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{Connector, DefaultConnector, NextTimeout};
use ureq::{Agent, SendBody, Timeout};

/// The minimum rate of a body, in bytes per second. A body that is slower for [`Timeouts::idle`] counts as stalled.
const LEAST_RATE: u64 = 1 << 10;

/// Settings of the network connection.
#[derive(Debug, Clone, Default)]
pub struct Network {
    /// The trusted certificate authorities, as [`certificates`] reads them.
    pub authorities: Vec<Vec<u8>>,
    /// The client certificate for one registry that asks for one.
    pub identity: Option<ClientCertificate>,
    /// The one registry whose certificate is not checked: `host` or `host:port`.
    pub unverified: Option<String>,
    /// The proxies.
    pub proxies: Proxies,
    /// The time limits.
    pub limits: Timeouts,
}

/// A client certificate, sent to one registry only.
#[derive(Debug, Clone)]
pub struct ClientCertificate {
    /// The registry: `host` or `host:port`.
    pub registry: String,
    /// Certificates in PEM, this client's own first.
    pub certificates: Vec<u8>,
    /// The private key in PEM.
    pub key: Secret,
}

/// The time limits of an exchange.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// From the look-up of a host name to an open connection, including TLS and proxy.
    pub connect: Duration,
    /// Between two pieces of a body, and until the response to a request without a body.
    pub idle: Duration,
    /// Until the response to a request with a body: a registry may copy a large blob before it responds.
    pub answer: Duration,
    /// For all of a document, such as a manifest or a token.
    pub document: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Timeouts { connect: seconds(30), idle: seconds(60), answer: seconds(600), document: seconds(60) }
    }
}

/// Reads the certificates in a PEM file, and returns each in DER.
///
/// # Errors
/// Returns an error if `pem` is malformed or holds no certificate.
pub fn certificates(pem: &[u8], object: &str) -> Result<Vec<Vec<u8>>> {
    let mut certificates = Vec::new();
    for item in ureq::tls::parse_pem(pem) {
        match item {
            Ok(PemItem::Certificate(certificate)) => certificates.push(certificate.der().to_vec()),
            Ok(_) => {}
            Err(_) => return Err(Error::invalid(object, "malformed PEM")),
        }
    }
    if certificates.is_empty() {
        return Err(Error::invalid(object, "has no PEM certificate"));
    }
    Ok(certificates)
}

/// An HTTP client, with its open connections.
#[derive(Debug)]
pub struct Transport {
    agent: Agent,
    /// Agents with a client certificate or without certificate checks, each with the one origin that it is for.
    special: Vec<(Origin, Agent)>,
    proxies: Proxies,
    limits: Timeouts,
}

/// A request to a server.
#[derive(Debug)]
pub(super) struct HttpRequest<'r, 'c> {
    pub(super) method: Method,
    pub(super) url: Uri,
    pub(super) headers: Vec<(http::HeaderName, String)>,
    pub(super) payload: Payload<'r, 'c>,
}

/// The body of a request.
#[derive(Debug)]
pub(super) enum Payload<'r, 'c> {
    /// No body at all.
    None,
    /// These bytes, which may be empty.
    Bytes(&'r [u8]),
    /// A range of a blob.
    Part { content: &'r mut BlobContent<'c>, offset: u64, length: u64 },
}

/// The response of a server.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    /// The URL of the request.
    pub(super) url: Uri,
    pub(super) body: StallDetector<ureq::BodyReader<'static>>,
}

impl Answer {
    /// Returns the text of a header, or `None` if it is absent or not ASCII.
    pub(super) fn header(&self, name: impl header::AsHeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// A failed exchange.
#[derive(Debug)]
pub(super) enum ExchangeError {
    /// A transient failure, which a retry may cure.
    Transient(Error),
    /// A permanent failure.
    Permanent(Error),
    /// A permanent failure over TLS, which the server does not support.
    NoTls(Error),
}

impl ExchangeError {
    /// Prefixes the error with the name of the requested object.
    pub(super) fn about(self, object: &str) -> ExchangeError {
        let name = |error: Error| if error.object().starts_with(object) { error } else { error.within(object) };
        match self {
            ExchangeError::Transient(error) => ExchangeError::Transient(name(error)),
            ExchangeError::Permanent(error) => ExchangeError::Permanent(name(error)),
            ExchangeError::NoTls(error) => ExchangeError::NoTls(name(error)),
        }
    }

    pub(super) fn error(self) -> Error {
        match self {
            ExchangeError::Transient(error) | ExchangeError::Permanent(error) | ExchangeError::NoTls(error) => error,
        }
    }
}

impl Transport {
    /// Creates a client. Opens no connection before the first request.
    ///
    /// # Errors
    /// Returns an error if the client certificate or its key is malformed.
    pub fn new(network: Network) -> Result<Self> {
        let authorities: Vec<_> = network.authorities.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
        let roots = RootCerts::Specific(Arc::new(authorities));
        let agent = |identity: Option<ClientCert>, is_verified: bool| {
            let tls = TlsConfig::builder()
                .root_certs(roots.clone())
                .client_cert(identity)
                .disable_verification(!is_verified)
                .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .build();
            let config = Agent::config_builder()
                .tls_config(tls)
                .proxy(None)
                .http_status_as_error(false)
                .max_redirects(0)
                .max_redirects_will_error(false)
                .user_agent(concat!("ocibuild/", env!("CARGO_PKG_VERSION")))
                // Content that a proxy compresses has another digest.
                .accept_encoding("identity")
                .timeout_resolve(Some(network.limits.connect))
                .timeout_connect(Some(network.limits.connect))
                .timeout_per_read(Some(network.limits.idle))
                .timeout_per_write(Some(network.limits.idle))
                .timeout_recv_response(Some(network.limits.idle))
                .build();
            Agent::with_parts(config, DefaultConnector::new().chain(CountArrivals), AddressResolver)
        };
        let origin = |name: &String| Origin::new(Scheme::Https, super::authority_of(name));
        let identity = match &network.identity {
            Some(identity) => Some((origin(&identity.registry)?, client_certificate(identity)?)),
            None => None,
        };
        let unverified = network.unverified.as_ref().map(origin).transpose()?;
        let mut special = Vec::new();
        if let Some((there, certificate)) = &identity {
            let is_verified = unverified.as_ref() != Some(there);
            special.push((there.clone(), agent(Some(certificate.clone()), is_verified)));
        }
        if let Some(there) = unverified {
            special.push((there, agent(None, false)));
        }
        Ok(Transport { agent: agent(None, true), special, proxies: network.proxies, limits: network.limits })
    }

    /// Returns the time limit for a whole document.
    pub(super) fn document_time(&self) -> Duration {
        self.limits.document
    }

    /// Sends `request` with `authorization` and waits for the head of the response.
    pub(super) fn send(
        &self,
        request: &mut HttpRequest<'_, '_>,
        authorization: Option<&Secret>,
    ) -> Result<Answer, ExchangeError> {
        let origin = Origin::of(&request.url);
        let proxy = self.proxies.for_origin(&origin);
        self.exchange(request, authorization, &origin, proxy)
            .map_err(|error| fault(error, &origin, proxy, &self.limits))
    }

    fn exchange(
        &self,
        request: &mut HttpRequest<'_, '_>,
        authorization: Option<&Secret>,
        origin: &Origin,
        proxy: Option<&Proxy>,
    ) -> Result<Answer, ureq::Error> {
        let mut head = http::Request::builder().method(request.method.clone()).uri(request.url.clone());
        for (name, value) in &request.headers {
            head = head.header(name, value);
        }
        if let Some(authorization) = authorization {
            let mut value = http::HeaderValue::from_str(authorization.reveal()).map_err(http::Error::from)?;
            value.set_sensitive(true);
            head = head.header(header::AUTHORIZATION, value);
        }
        let answered = match &mut request.payload {
            Payload::None => self.run(head.body(SendBody::none())?, origin, proxy, self.limits.idle),
            Payload::Bytes(bytes) => {
                let head = head.header(header::CONTENT_LENGTH, bytes.len());
                // A copy of the slice, since sending advances it and the request may be sent again.
                let mut unsent = *bytes;
                self.run(head.body(SendBody::from_reader(&mut unsent))?, origin, proxy, self.limits.answer)
            }
            Payload::Part { content, offset, length } => {
                let head = head.header(header::CONTENT_LENGTH, *length);
                let mut part = content.part(*offset, *length).map_err(io::Error::from)?;
                self.run(head.body(SendBody::from_reader(&mut part))?, origin, proxy, self.limits.answer)
            }
        }?;
        let (head, body) = answered.into_parts();
        Ok(Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            url: request.url.clone(),
            body: StallDetector::new(body.into_reader(), self.limits.idle),
        })
    }

    fn run(
        &self,
        request: http::Request<SendBody<'_>>,
        origin: &Origin,
        proxy: Option<&Proxy>,
        patience: Duration,
    ) -> Result<http::Response<ureq::Body>, ureq::Error> {
        let agent = self.special.iter().find(|(there, _)| there == origin).map_or(&self.agent, |(_, agent)| agent);
        let request = agent
            .configure_request(request)
            .proxy(proxy.map(|proxy| proxy.proxy.clone()))
            .timeout_per_read(Some(patience))
            .timeout_recv_response(Some(patience))
            .build();
        arrivals::count();
        agent.run(request)
    }

    /// Converts an error of reading a response body.
    pub(super) fn body_fault(&self, answer_url: &Uri, error: io::Error) -> ExchangeError {
        let origin = Origin::of(answer_url);
        fault(error.into(), &origin, self.proxies.for_origin(&origin), &self.limits)
    }
}

fn client_certificate(identity: &ClientCertificate) -> Result<ClientCert> {
    let object = "client certificate";
    let chain: Vec<_> =
        certificates(&identity.certificates, object)?.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
    let key = PrivateKey::from_pem(identity.key.reveal().as_bytes())
        .map_err(|_| Error::invalid(object, "its private key is not PEM"))?;
    Ok(ClientCert::new_with_certs(&chain, key))
}

/// A resolver that looks up addresses as ureq does, and reports every failure precisely: in ureq, an unknown name is a plain
/// I/O error, and a system that cannot start more threads causes a panic.
#[derive(Debug)]
struct AddressResolver;

impl Resolver for AddressResolver {
    fn resolve(
        &self,
        url: &Uri,
        config: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let (sender, found) = mpsc::sync_channel(1);
        let (url, config) = (url.clone(), config.clone());
        let untimed = NextTimeout { after: ureq::unversioned::transport::time::Duration::NotHappening, ..timeout };
        // The system's look-up has no timeout, so the thread is abandoned if it takes too long.
        let look_up = move || sender.send(DefaultResolver::default().resolve(&url, &config, untimed)).ok();
        Builder::new().spawn(look_up)?;
        match found.recv_timeout(*timeout.after) {
            Ok(Err(ureq::Error::Io(_))) => Err(ureq::Error::HostNotFound),
            Ok(found) => found,
            Err(_) => Err(ureq::Error::Timeout(timeout.reason)),
        }
    }
}

/// A body that fails if it stalls.
pub(super) struct StallDetector<R> {
    body: R,
    idle: Duration,
    /// The time by which the whole body must have arrived.
    end: Option<Instant>,
    /// How long reading has waited for the server since the last rate check, and how many bytes arrived in that time.
    waited: Duration,
    came: u64,
}

impl<R> StallDetector<R> {
    fn new(body: R, idle: Duration) -> Self {
        StallDetector { body, idle, end: None, waited: Duration::ZERO, came: 0 }
    }

    /// Requires that the whole body arrives within `total`.
    pub(super) fn within(&mut self, total: Duration) -> &mut Self {
        self.end = Some(Instant::now() + total);
        self
    }
}

impl<R: Read> Read for StallDetector<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let before = Instant::now();
        arrivals::count();
        let read = self.body.read(buffer)?;
        // Only the time in this call counts against the server; the caller may take long between two reads.
        self.waited += before.elapsed();
        self.came += read as u64;
        if read == 0 {
            return Ok(0);
        }
        if self.end.is_some_and(|end| Instant::now() > end) {
            return Err(ureq::Error::Timeout(Timeout::Global).into_io());
        }
        if self.waited > self.idle {
            if u128::from(self.came) * 1000 < u128::from(LEAST_RATE) * self.waited.as_millis() {
                return Err(ureq::Error::Timeout(Timeout::RecvBody).into_io());
            }
            (self.waited, self.came) = (Duration::ZERO, 0);
        }
        Ok(read)
    }
}

/// Converts an error of an exchange with `origin` to a message, a different one for each cause.
fn fault(error: ureq::Error, origin: &Origin, proxy: Option<&Proxy>, limits: &Timeouts) -> ExchangeError {
    // Before the tunnel is open, the other end of the connection is the proxy.
    let peer = match proxy {
        Some(proxy) => format!("proxy {} (to {origin})", proxy.name),
        None => origin.to_string(),
    };
    let network = |reason: String| Error::new(ErrorKind::Network, peer.clone(), reason);
    let lasting = |reason: &str, hint: &str| ExchangeError::Permanent(network(reason.to_owned()).hint(hint));
    let passing = |reason: String| ExchangeError::Transient(network(reason).hint(TRY_AGAIN));
    match error {
        ureq::Error::Io(error) if error.get_ref().is_some_and(|inner| inner.is::<Error>()) => {
            ExchangeError::Permanent(Error::io(peer, "send", error))
        }
        ureq::Error::Io(error) => match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(tls) => tls_words(tls, &origin.authority(), &network),
            None => io_words(&error, &network),
        },
        ureq::Error::Rustls(error) => tls_words(&error, &origin.authority(), &network),
        ureq::Error::HostNotFound => lasting("the host name cannot be resolved", NO_WAY),
        ureq::Error::Timeout(Timeout::Resolve | Timeout::Connect) => ExchangeError::Transient(
            network(format!("timed out while connecting ({} s)", limits.connect.as_secs())).hint(NO_WAY),
        ),
        ureq::Error::Timeout(Timeout::Global) => {
            let reason = format!("timed out: no complete response within {} s", limits.document.as_secs());
            ExchangeError::Permanent(network(reason).hint(TRY_AGAIN))
        }
        ureq::Error::Timeout(_) => passing("timed out: the transfer stalled".to_owned()),
        ureq::Error::ConnectProxyFailed(reason) => ExchangeError::Permanent(
            network(format!("refused the connection: {reason}"))
                .hint(format!("NO_PROXY={} bypasses the proxy", origin.host())),
        ),
        ureq::Error::LargeResponseHeader(..) => lasting("its response header is too long", WRONG_SERVER),
        ureq::Error::Protocol(error) => {
            ExchangeError::Permanent(network(format!("not an HTTP/1.1 server: {error}")).hint(WRONG_SERVER))
        }
        ureq::Error::Other(reason) => lasting(&reason.to_string(), WRONG_SERVER),
        other => ExchangeError::Permanent(network(other.to_string()).hint(TRY_AGAIN)),
    }
}

/// Hints for network failures.
const TRY_AGAIN: &str = "run the command again to resume";
const NO_WAY: &str = "check the name and the network; HTTPS_PROXY names a proxy";
const NOT_THERE: &str = "check the port, and whether a registry runs there";
const WRONG_SERVER: &str = "check the port, and whether a proxy is in the way";

fn io_words(error: &io::Error, network: &dyn Fn(String) -> Error) -> ExchangeError {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            ExchangeError::Permanent(network("connection refused".to_owned()).hint(NOT_THERE))
        }
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            ExchangeError::Permanent(network("no route to the host".to_owned()).hint(NO_WAY))
        }
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => {
            ExchangeError::Transient(network("connection closed unexpectedly".to_owned()).hint(TRY_AGAIN))
        }
        _ => ExchangeError::Transient(network(format!("the connection failed: {error}")).hint(TRY_AGAIN)),
    }
}

fn tls_words(error: &rustls::Error, authority: &str, network: &dyn Fn(String) -> Error) -> ExchangeError {
    use CertificateError as Bad;
    let say = |reason: &str| network(reason.to_owned());
    ExchangeError::Permanent(match error {
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            let hint = format!("to allow HTTP: --plain-http {authority}");
            return ExchangeError::NoTls(say("not a TLS server").hint(hint));
        }
        rustls::Error::InvalidCertificate(Bad::UnknownIssuer) => {
            say("its certificate is signed by an unknown authority")
                .hint("add the authority with --cert-dir or SSL_CERT_FILE")
        }
        rustls::Error::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => {
            say("its certificate has expired").hint("the registry needs a new one")
        }
        rustls::Error::InvalidCertificate(Bad::NotValidYet | Bad::NotValidYetContext { .. }) => {
            say("its certificate is not valid yet").hint("check the clock of this machine")
        }
        rustls::Error::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => {
            say("its certificate is for another host name").hint("use a name that is in the certificate")
        }
        rustls::Error::InvalidCertificate(other) => {
            network(format!("its certificate is not acceptable: {other}")).hint("the registry needs another one")
        }
        rustls::Error::AlertReceived(alert) => network(format!("ended the TLS handshake: {alert:?}"))
            .hint("a client certificate may be missing: --cert-dir"),
        other => network(format!("TLS failed: {other}")).hint(WRONG_SERVER),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_of_single_bytes_times_out_and_a_slow_reader_does_not() {
        struct Drip(u32);
        impl Read for Drip {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                std::thread::sleep(Duration::from_millis(10));
                self.0 += 1;
                buffer[0] = 0;
                Ok(usize::from(self.0 < 100))
            }
        }
        let error = io::copy(&mut StallDetector::new(Drip(0), Duration::from_millis(50)), &mut io::sink()).unwrap_err();
        assert!(matches!(ureq::Error::from(error), ureq::Error::Timeout(Timeout::RecvBody)));

        // Fast enough at every moment, but too long in total.
        struct Trickle;
        impl Read for Trickle {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                std::thread::sleep(Duration::from_millis(5));
                buffer[..64].fill(0);
                Ok(64)
            }
        }
        let mut trickle = StallDetector::new(Trickle, Duration::from_millis(50));
        let error = io::copy(trickle.within(Duration::from_millis(200)), &mut io::sink()).unwrap_err();
        assert!(matches!(ureq::Error::from(error), ureq::Error::Timeout(Timeout::Global)));

        let mut prompt = StallDetector::new(&b"ab"[..], Duration::from_millis(5));
        let mut byte = [0];
        prompt.read_exact(&mut byte).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        prompt.read_exact(&mut byte).unwrap();
    }

    #[test]
    fn pem_without_a_certificate_is_refused() {
        assert!(certificates(b"", "ca.crt").unwrap_err().to_string().contains("has no PEM certificate"));
        assert!(certificates(b"-----BEGIN CERTIFICATE-----\n", "ca.crt").is_err());
    }
}
