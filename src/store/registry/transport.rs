//! One HTTP/1.1 exchange: no redirect is followed, no credentials are added and nothing is repeated here.
//!
//! Times are bounded where nothing happens, not in total: a large blob may take as long as it takes.

use super::content::Content;
use super::origin::{Origin, Scheme};
use super::proxy::{Proxies, Proxy};
use super::secret::Secret;
use crate::error::{Error, ErrorKind, Result};
use rustls::{CertificateError, InvalidMessage};
use std::io::{self, Read};
use std::sync::{Arc, mpsc};
use std::thread::Builder;
use std::time::{Duration, Instant};
use ureq::http::{self, HeaderMap, Method, Uri, header};
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, SendBody, Timeout};

/// Less than this many bytes within [`Limits::idle`] count as nothing: a server must not keep us for ever by a byte now
/// and then.
const LEAST_PROGRESS: u64 = 1 << 10;

/// How the network is reached.
#[derive(Debug, Clone, Default)]
pub struct Network {
    /// The certificate authorities that are trusted, as [`certificates`] reads them.
    pub authorities: Vec<Vec<u8>>,
    /// Who this client is to one host that asks for a certificate.
    pub identity: Option<Identity>,
    /// The proxies between here and there.
    pub proxies: Proxies,
    /// How long nothing may happen.
    pub limits: Limits,
}

/// A client certificate, shown to one host only.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The host, without a port.
    pub host: String,
    /// Certificates in PEM, this client's own first.
    pub certificates: Vec<u8>,
    /// The private key in PEM.
    pub key: Secret,
}

/// How long nothing may happen before an exchange fails.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// From a host's name to a connection with it, TLS and proxy included.
    pub connect: Duration,
    /// Between one piece of a body and the next, and until the answer to a request without a body.
    pub idle: Duration,
    /// Until the answer to a request with a body: a registry may copy a large blob before it answers.
    pub answer: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Limits { connect: seconds(30), idle: seconds(60), answer: seconds(600) }
    }
}

/// The certificates in a PEM file, each in DER.
///
/// # Errors
/// When `pem` is malformed or holds none.
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
        return Err(Error::invalid(object, "holds no certificate in PEM"));
    }
    Ok(certificates)
}

/// The way to all servers, with its open connections.
#[derive(Debug)]
pub struct Transport {
    agent: Agent,
    /// The agent that shows our certificate, and the one host it speaks to.
    identified: Option<(String, Agent)>,
    proxies: Proxies,
    limits: Limits,
}

/// What is asked of a server.
#[derive(Debug)]
pub(super) struct Request<'r, 'c> {
    pub(super) method: Method,
    pub(super) url: Uri,
    pub(super) headers: Vec<(http::HeaderName, String)>,
    pub(super) payload: Payload<'r, 'c>,
}

/// What goes with a request.
#[derive(Debug)]
pub(super) enum Payload<'r, 'c> {
    /// No body at all.
    None,
    /// These bytes, perhaps none.
    Bytes(&'r [u8]),
    /// A part of a blob.
    Part { content: &'r mut Content<'c>, offset: u64, length: u64 },
}

/// What a server answered.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    /// What was asked, without its query.
    pub(super) url: Uri,
    pub(super) body: Steady<ureq::BodyReader<'static>>,
}

impl Answer {
    /// A header's text; nothing where it is absent or not ASCII.
    pub(super) fn header(&self, name: impl header::AsHeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// Why an exchange failed.
#[derive(Debug)]
pub(super) enum Fault {
    /// It may go well the next time.
    Passing(Error),
    /// It would fail again.
    Lasting(Error),
    /// It would fail again over TLS, which the other side does not speak.
    NoTls(Error),
}

impl Fault {
    pub(super) fn error(self) -> Error {
        match self {
            Fault::Passing(error) | Fault::Lasting(error) | Fault::NoTls(error) => error,
        }
    }
}

impl Transport {
    /// Prepares the way; nothing is opened before the first request.
    ///
    /// # Errors
    /// When the client certificate or its key is malformed.
    pub fn new(network: Network) -> Result<Self> {
        let authorities: Vec<_> = network.authorities.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
        let roots = RootCerts::Specific(Arc::new(authorities));
        let agent = |identity: Option<ClientCert>| {
            let tls = TlsConfig::builder()
                .root_certs(roots.clone())
                .client_cert(identity)
                .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .build();
            let config = Agent::config_builder()
                .tls_config(tls)
                .proxy(None)
                .http_status_as_error(false)
                .max_redirects(0)
                .max_redirects_will_error(false)
                .user_agent(concat!("ocibuild/", env!("CARGO_PKG_VERSION")))
                // What a proxy compresses on its way has another digest.
                .accept_encoding("identity")
                .timeout_resolve(Some(network.limits.connect))
                .timeout_connect(Some(network.limits.connect))
                .timeout_per_read(Some(network.limits.idle))
                .timeout_per_write(Some(network.limits.idle))
                .timeout_recv_response(Some(network.limits.idle))
                .build();
            Agent::with_parts(config, DefaultConnector::new(), Names)
        };
        let identified = match &network.identity {
            Some(identity) => Some((identity.host.to_ascii_lowercase(), agent(Some(client_certificate(identity)?)))),
            None => None,
        };
        Ok(Transport { agent: agent(None), identified, proxies: network.proxies, limits: network.limits })
    }

    /// Sends `request` with `authorization` and waits for the head of the answer.
    pub(super) fn send(&self, request: &mut Request<'_, '_>, authorization: Option<&Secret>) -> Result<Answer, Fault> {
        let origin = Origin::of(&request.url);
        let proxy = self.proxies.for_origin(&origin);
        self.exchange(request, authorization, &origin, proxy)
            .map_err(|error| fault(error, &origin, proxy, &self.limits))
    }

    fn exchange(
        &self,
        request: &mut Request<'_, '_>,
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
                // A copy of the slice, since sending moves its beginning and the request may be sent again.
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
            body: Steady::new(body.into_reader(), self.limits.idle),
        })
    }

    fn run(
        &self,
        request: http::Request<SendBody<'_>>,
        origin: &Origin,
        proxy: Option<&Proxy>,
        patience: Duration,
    ) -> Result<http::Response<ureq::Body>, ureq::Error> {
        let agent = match &self.identified {
            Some((host, identified)) if host == origin.host() && origin.scheme() == Scheme::Https => identified,
            _ => &self.agent,
        };
        let request = agent
            .configure_request(request)
            .proxy(proxy.map(|proxy| proxy.proxy.clone()))
            .timeout_per_read(Some(patience))
            .timeout_recv_response(Some(patience))
            .build();
        agent.run(request)
    }

    /// Why reading the body of an answer failed.
    pub(super) fn body_fault(&self, answer_url: &Uri, error: io::Error) -> Fault {
        let origin = Origin::of(answer_url);
        fault(error.into(), &origin, self.proxies.for_origin(&origin), &self.limits)
    }
}

fn client_certificate(identity: &Identity) -> Result<ClientCert> {
    let object = "client certificate";
    let chain: Vec<_> =
        certificates(&identity.certificates, object)?.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
    let key = PrivateKey::from_pem(identity.key.reveal().as_bytes())
        .map_err(|_| Error::invalid(object, "its private key is not PEM"))?;
    Ok(ClientCert::new_with_certs(&chain, key))
}

/// Finds addresses as ureq does, and reports every failure as what it is: without this, an unknown name is an I/O error
/// like any other, and a system that starts no more threads a panic.
#[derive(Debug)]
struct Names;

impl Resolver for Names {
    fn resolve(
        &self,
        url: &Uri,
        config: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let (sender, found) = mpsc::sync_channel(1);
        let (url, config) = (url.clone(), config.clone());
        let untimed = NextTimeout { after: ureq::unversioned::transport::time::Duration::NotHappening, ..timeout };
        // The system's look-up knows no timeout, so it is left alone when it takes too long.
        let look_up = move || sender.send(DefaultResolver::default().resolve(&url, &config, untimed)).ok();
        Builder::new().spawn(look_up)?;
        match found.recv_timeout(*timeout.after) {
            Ok(Err(ureq::Error::Io(_))) => Err(ureq::Error::HostNotFound),
            Ok(found) => found,
            Err(_) => Err(ureq::Error::Timeout(timeout.reason)),
        }
    }
}

/// A body that must keep coming.
pub(super) struct Steady<R> {
    body: R,
    idle: Duration,
    /// How long the last stretch of reading has waited for the server, and what came in it.
    waited: Duration,
    came: u64,
}

impl<R> Steady<R> {
    fn new(body: R, idle: Duration) -> Self {
        Steady { body, idle, waited: Duration::ZERO, came: 0 }
    }
}

impl<R: Read> Read for Steady<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let before = Instant::now();
        let read = self.body.read(buffer)?;
        // Only time spent in here is the server's; the caller may take long between two reads.
        self.waited += before.elapsed();
        self.came += read as u64;
        if self.waited > self.idle {
            if self.came < LEAST_PROGRESS && read > 0 {
                return Err(ureq::Error::Timeout(Timeout::RecvBody).into_io());
            }
            (self.waited, self.came) = (Duration::ZERO, 0);
        }
        Ok(read)
    }
}

/// Finds the words for what went wrong between here and `origin`, a different one for each cause.
fn fault(error: ureq::Error, origin: &Origin, proxy: Option<&Proxy>, limits: &Limits) -> Fault {
    // Before the tunnel stands, the other end of the connection is the proxy.
    let peer = match proxy {
        Some(proxy) => format!("proxy {} (to {origin})", proxy.name),
        None => origin.to_string(),
    };
    let network = |reason: String| Error::new(ErrorKind::Network, peer.clone(), reason);
    let lasting = |reason: &str| Fault::Lasting(network(reason.to_owned()));
    match error {
        ureq::Error::Io(error) if error.get_ref().is_some_and(|inner| inner.is::<Error>()) => {
            Fault::Lasting(Error::io(peer, "send", error))
        }
        ureq::Error::Io(error) => match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(tls) => tls_words(tls, &network),
            None => io_words(&error, &network),
        },
        ureq::Error::Rustls(error) => tls_words(&error, &network),
        ureq::Error::HostNotFound => lasting("the host name cannot be resolved"),
        ureq::Error::Timeout(Timeout::Resolve | Timeout::Connect) => {
            Fault::Passing(network(format!("timed out while connecting ({} s)", limits.connect.as_secs())))
        }
        ureq::Error::Timeout(_) => Fault::Passing(network("timed out: nothing came for too long".to_owned())),
        ureq::Error::ConnectProxyFailed(reason) => Fault::Lasting(network(format!("refused the connection: {reason}"))),
        ureq::Error::LargeResponseHeader(..) => lasting("the header of its answer does not end"),
        ureq::Error::Protocol(error) => Fault::Lasting(network(format!("does not speak HTTP/1.1: {error}"))),
        other => Fault::Lasting(network(other.to_string())),
    }
}

fn io_words(error: &io::Error, network: &dyn Fn(String) -> Error) -> Fault {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Fault::Lasting(network("connection refused".to_owned())),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            Fault::Lasting(network("no route to the host".to_owned()))
        }
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => Fault::Passing(network("the connection was cut".to_owned())),
        _ => Fault::Passing(network(format!("the connection failed: {error}"))),
    }
}

fn tls_words(error: &rustls::Error, network: &dyn Fn(String) -> Error) -> Fault {
    use CertificateError as Bad;
    let say = |reason: &str| network(reason.to_owned());
    Fault::Lasting(match error {
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            return Fault::NoTls(say("does not speak TLS").hint("--plain-http, if it is meant to be so"));
        }
        rustls::Error::InvalidCertificate(Bad::UnknownIssuer) => {
            say("its certificate is signed by an unknown authority")
                .hint("name the authority by --cert-dir or SSL_CERT_FILE")
        }
        rustls::Error::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => {
            say("its certificate has expired")
        }
        rustls::Error::InvalidCertificate(Bad::NotValidYet | Bad::NotValidYetContext { .. }) => {
            say("its certificate is not valid yet").hint("look at the clock of this machine")
        }
        rustls::Error::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => {
            say("its certificate is for another host name")
        }
        rustls::Error::InvalidCertificate(other) => network(format!("its certificate is not acceptable: {other}")),
        rustls::Error::AlertReceived(alert) => network(format!("ended the TLS handshake: {alert:?}")),
        other => network(format!("TLS failed: {other}")),
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
        let error = io::copy(&mut Steady::new(Drip(0), Duration::from_millis(50)), &mut io::sink()).unwrap_err();
        assert!(matches!(ureq::Error::from(error), ureq::Error::Timeout(_)));

        let mut prompt = Steady::new(&b"ab"[..], Duration::from_millis(5));
        let mut byte = [0];
        prompt.read_exact(&mut byte).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        prompt.read_exact(&mut byte).unwrap();
    }

    #[test]
    fn pem_without_a_certificate_is_refused() {
        assert!(certificates(b"", "ca.crt").unwrap_err().to_string().contains("no certificate"));
        assert!(certificates(b"-----BEGIN CERTIFICATE-----\n", "ca.crt").is_err());
    }
}
