//! Tokens from a registry's token server, with or without credentials (distribution, "Token Authentication").

use super::credentials::{BASE64, Credentials};
use super::is_transient;
use super::origin::{self, Origin, Scheme};
use super::retry::Attempts;
use super::secret::Secret;
use super::transport::{ExchangeError, HttpRequest, Payload, Transport};
use crate::common::error::{Error, ErrorKind, Result};
use crate::common::{bounded_read, json};
use crate::registry::error_response::ErrorResponse;
use base64::Engine;
use std::time::Duration;
use ureq::http::{Method, Uri, header};

/// The maximum size of a token document, in bytes.
const LARGEST_DOCUMENT: u64 = 1 << 20;

/// Registries whose token server is known to have another host name.
const PAIRS: [(&str, &str); 2] = [("registry-1.docker.io", "auth.docker.io"), ("registry.gitlab.com", "gitlab.com")];

/// The token server that a registry named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Realm {
    url: Uri,
    service: Option<String>,
    trusted: bool,
}

/// A token and its lifetime.
#[derive(Debug)]
pub(super) struct RegistryToken {
    pub(super) bearer: Secret,
    /// How long the token may be used; `None` if the server gave no plausible lifetime.
    pub(super) lifetime: Option<Duration>,
    /// The identity token that replaces the one that was used.
    pub(super) identity: Option<Secret>,
}

impl Realm {
    /// Checks the realm that the registry at `registry` named.
    ///
    /// A realm gets credentials only if it has the registry's own origin (scheme, host and port), or its `host` or `host:port`
    /// is in `allowed`: otherwise any registry could collect them for any host (CVE-2026-33540), and any user of a host for its
    /// registry.
    ///
    /// # Errors
    /// Returns an error if the realm is not an absolute URL, downgrades TLS, or is a link-local address.
    pub(super) fn new(realm: &str, service: Option<String>, registry: &Origin, allowed: &[String]) -> Result<Realm> {
        let wrong =
            |reason: &str| Error::new(ErrorKind::Denied, registry.to_string(), format!("its token realm is {reason}"));
        let url = origin::parse(realm, "realm").map_err(|error| wrong(&error.reason()))?;
        let there = Origin::of(&url);
        if there.is_link_local() {
            return Err(wrong("a link-local address"));
        }
        if registry.scheme() == Scheme::Https && there.scheme() == Scheme::Http {
            return Err(wrong("plain http"));
        }
        let authority = there.authority();
        let trusted = there == *registry
            || PAIRS.contains(&(&*registry.authority(), &*authority))
            || allowed.iter().any(|allowed| allowed.eq_ignore_ascii_case(&authority));
        Ok(Realm { url, service, trusted })
    }

    /// Returns the host, with any non-default port, if it is not trusted with credentials, and `None` if it is. The user can
    /// allow it.
    pub(super) fn distrusted(&self) -> Option<String> {
        if self.trusted { None } else { Some(self.authority()) }
    }

    /// Returns the host, with the port unless it is the default one.
    pub(super) fn authority(&self) -> String {
        Origin::of(&self.url).authority()
    }

    /// Returns whether requests to it cross the network unencrypted.
    pub(super) fn is_clear_text(&self) -> bool {
        Origin::of(&self.url).is_clear_text()
    }

    /// Fetches a token for all of `scopes`, with `credentials` or anonymously.
    ///
    /// # Errors
    /// Fails if the server refuses the request, or its response is not a token.
    pub(super) fn token(
        &self,
        transport: &Transport,
        mut attempts: Attempts<'_>,
        scopes: &[String],
        credentials: Option<&Credentials>,
    ) -> Result<RegistryToken> {
        let object = format!("token server {}", Origin::of(&self.url));
        loop {
            match self.ask(transport, scopes, credentials.filter(|_| self.trusted), &object) {
                Ok(body) => return read(&body, &object),
                Err(ExchangeError::Transient(error)) => attempts.wait_after(error)?,
                Err(fault) => return Err(fault.error()),
            }
        }
    }

    fn ask(
        &self,
        transport: &Transport,
        scopes: &[String],
        credentials: Option<&Credentials>,
        object: &str,
    ) -> Result<Vec<u8>, ExchangeError> {
        let service = self.service.iter().map(|service| ("service", service.as_str()));
        let form;
        let mut authorization = None;
        let mut request = match credentials {
            // OAuth 2 (RFC 6749, section 6), with the scopes in one field.
            Some(Credentials::Identity(identity)) => {
                let scopes = scopes.join(" ");
                let fields = [("grant_type", "refresh_token"), ("client_id", "ocibuild"), ("scope", &scopes)];
                let secret = [("refresh_token", identity.reveal())];
                let fields = fields.into_iter().chain(service).chain(secret);
                form = Secret::new(
                    fields
                        .map(|(name, value)| format!("{name}={}", origin::encoded(value)))
                        .collect::<Vec<_>>()
                        .join("&"),
                );
                HttpRequest {
                    method: Method::POST,
                    url: self.url.clone(),
                    headers: vec![(header::CONTENT_TYPE, "application/x-www-form-urlencoded".to_owned())],
                    payload: Payload::Bytes(form.reveal().as_bytes()),
                }
            }
            other => {
                if let Some(Credentials::Password { user, password }) = other {
                    authorization = Some(basic(user, password));
                }
                let parameters: Vec<_> = service.chain(scopes.iter().map(|scope| ("scope", scope.as_str()))).collect();
                let url = origin::with_query(&self.url, &parameters, object).map_err(ExchangeError::Permanent)?;
                HttpRequest { method: Method::GET, url, headers: Vec::new(), payload: Payload::None }
            }
        };
        let mut answer = transport.send(&mut request, authorization.as_ref())?;
        match answer.status {
            200 => {
                let body = answer.body.within(transport.document_time());
                bounded_read::read(body, LARGEST_DOCUMENT, object).map_err(ExchangeError::Permanent)
            }
            status => {
                let error = ErrorResponse::read(status, answer.body).error(object);
                Err(if is_transient(status) {
                    ExchangeError::Transient(error)
                } else {
                    ExchangeError::Permanent(error)
                })
            }
        }
    }
}

/// Returns the `Authorization` header for a name and a password.
pub(super) fn basic(user: &str, password: &Secret) -> Secret {
    Secret::new(format!("Basic {}", BASE64.encode(format!("{user}:{}", password.reveal()))))
}

fn read(body: &[u8], object: &str) -> Result<RegistryToken> {
    // The parser's own message could quote the secret.
    let wrong = |reason: &str| Error::new(ErrorKind::Denied, object, reason.to_owned());
    let document =
        json::parse(body, json::DOCUMENT_DEPTH, object).map_err(|_| wrong("answered something that is not JSON"))?;
    let text = |key: &str| document.get(key).and_then(serde_json::Value::as_str).filter(|text| !text.is_empty());
    // `token` and `access_token` mean the same; OAuth 2 has only the latter.
    let token = text("token").or_else(|| text("access_token")).ok_or_else(|| wrong("answered without a token"))?;
    if !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(wrong("answered a token with invalid characters"));
    }
    // A lifetime of under half a minute or over a year is a mistake or a wrong clock, so the token is used until the registry
    // answers 401.
    let lifetime = document.get("expires_in").and_then(serde_json::Value::as_u64);
    let lifetime = lifetime
        .filter(|seconds| (30..=31_536_000).contains(seconds))
        .map(|seconds| Duration::from_secs(seconds * 9 / 10));
    let identity = text("refresh_token").map(Secret::new);
    Ok(RegistryToken { bearer: Secret::new(format!("Bearer {token}")), lifetime, identity })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn realm(registry: &str, realm: &str) -> String {
        let registry = Origin::of(&origin::parse(registry, "registry").unwrap());
        match Realm::new(realm, None, &registry, &["ALLOWED.io".to_owned()]) {
            Ok(realm) => realm.distrusted().map_or_else(|| "trusted".to_owned(), |host| format!("distrusted {host}")),
            Err(error) => error.reason(),
        }
    }

    /// M42: another port is another origin.
    #[test]
    fn credentials_go_to_the_registrys_own_realm_only() {
        assert_eq!(realm("https://reg.io", "https://reg.io/token"), "trusted");
        assert_eq!(realm("https://reg.io:5000", "https://REG.io:5000/token"), "trusted");
        assert_eq!(realm("https://registry-1.docker.io", "https://auth.docker.io/token"), "trusted");
        assert_eq!(realm("https://reg.io", "https://allowed.io/token"), "trusted");
        assert_eq!(realm("http://reg.io", "http://reg.io/token"), "trusted");
        for (registry, other) in [
            ("https://reg.io", "https://evil.io/token"),
            ("https://reg.io", "https://auth.docker.io/token"),
            ("https://reg.io", "https://reg.io.evil.io/token"),
            ("https://reg.io", "https://sub.reg.io/token"),
            ("https://reg.io:5000", "https://reg.io:5001/token"),
            ("https://reg.io:5000", "https://reg.io/token"),
            ("http://reg.io", "https://reg.io/token"),
            ("https://reg.io", "https://allowed.io:444/token"),
        ] {
            assert!(realm(registry, other).starts_with("distrusted "), "{other}");
        }
    }

    #[test]
    fn a_realm_that_leads_astray_is_refused() {
        for (bad, why) in [
            ("http://reg.io/token", "plain http"),
            ("file:///etc/passwd", "neither http nor https"),
            ("ftp://reg.io/", "neither http nor https"),
            ("https://user:pass@reg.io/", "user information"),
            ("https://169.254.169.254/latest", "link-local"),
            ("https://[fe80::1]/", "link-local"),
            ("/token", "absolute"),
            ("", "not a URL"),
            (&format!("https://reg.io/{}", "x".repeat(10 << 10)), "8 KiB"),
        ] {
            let said = realm("https://reg.io", bad);
            assert!(said.starts_with("its token realm is ") && said.contains(why), "{bad}: {said}");
        }
    }

    #[test]
    fn a_token_is_believed_only_as_far_as_it_makes_sense() {
        let seconds = |expires: &str| {
            let token = read(format!(r#"{{"token": "t", "expires_in": {expires}}}"#).as_bytes(), "x").unwrap();
            token.lifetime.map(|lifetime| lifetime.as_secs())
        };
        assert_eq!(seconds("300"), Some(270));
        for nonsense in ["0", "-1", "29", "1000000000000000000", "1e99", "\"300\"", "null"] {
            assert_eq!(seconds(nonsense), None, "{nonsense}");
        }
        assert_eq!(read(br#"{"access_token": "a"}"#, "x").unwrap().bearer.reveal(), "Bearer a");
        for (bad, why) in [
            ("", "not JSON"),
            ("<html>", "not JSON"),
            ("[]", "without a token"),
            (r#"{"token": ""}"#, "without a token"),
            (r#"{"token": "a\r\nEvil: 1"}"#, "invalid characters"),
        ] {
            let said = read(bad.as_bytes(), "x").unwrap_err().to_string();
            assert!(said.contains(why), "{bad}: {said}");
        }
    }
}
