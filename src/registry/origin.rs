//! Origins (scheme, host and port), which credentials are bound to, and the resolution of URLs.

use crate::common::error::{Error, Result};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use ureq::http::Uri;

/// The maximum length of a `Location` or realm, in bytes. A pre-signed storage URL has about 2 KiB.
const LONGEST_URL: usize = 8 << 10;

/// The scheme of a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTP over TLS.
    Https,
}

/// Scheme, host and port of a URL (RFC 6454, section 4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    scheme: Scheme,
    /// In lower case; an IPv6 address in brackets.
    host: String,
    port: u16,
}

impl Origin {
    /// Returns the origin of `authority` (`host` or `host:port`) with `scheme`.
    ///
    /// # Errors
    /// Returns an error if `authority` is not a host with an optional port.
    pub(super) fn new(scheme: Scheme, authority: &str) -> Result<Origin> {
        let prefix = if scheme == Scheme::Https { "https" } else { "http" };
        parse(&format!("{prefix}://{authority}/"), "registry").map(|url| Origin::of(&url))
    }

    /// Returns the origin of a URL that [`parse`] or [`resolve`] accepted.
    pub(super) fn of(url: &Uri) -> Origin {
        let scheme = if url.scheme_str() == Some("https") { Scheme::Https } else { Scheme::Http };
        let default = if scheme == Scheme::Https { 443 } else { 80 };
        let host = url.host().unwrap_or_default().to_ascii_lowercase();
        Origin { scheme, host, port: url.port_u16().unwrap_or(default) }
    }

    /// Returns the scheme.
    pub(super) fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Returns the host name or address, in lower case.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Returns the host, with the port unless it is the default one.
    pub(super) fn authority(&self) -> String {
        match (self.scheme, self.port) {
            (Scheme::Https, 443) | (Scheme::Http, 80) => self.host.clone(),
            _ => format!("{}:{}", self.host, self.port),
        }
    }

    /// Returns the port, given or default.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Returns whether the host is this machine.
    pub(super) fn is_loopback(&self) -> bool {
        self.host == "localhost" || address(&self.host).is_some_and(|address| address.is_loopback())
    }

    /// Returns whether requests cross the network unencrypted.
    pub(super) fn is_clear_text(&self) -> bool {
        self.scheme == Scheme::Http && !self.is_loopback()
    }

    /// Returns whether the host is a link-local address, which clouds use for their metadata services.
    pub(super) fn is_link_local(&self) -> bool {
        match address(&self.host) {
            Some(IpAddr::V4(four)) => four.is_link_local(),
            Some(IpAddr::V6(six)) => match six.to_ipv4_mapped() {
                Some(four) => four.is_link_local(),
                None => six.is_unicast_link_local(),
            },
            None => false,
        }
    }

    /// Returns the URL of `path_and_query`. Both come from validated references, so the text is a valid URL.
    pub(super) fn url(&self, path_and_query: &str) -> Result<Uri> {
        parse(&format!("{self}{path_and_query}"), "registry")
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.scheme, self.port) {
            (Scheme::Https, 443) => write!(f, "https://{}", self.host),
            (Scheme::Http, 80) => write!(f, "http://{}", self.host),
            (Scheme::Https, port) => write!(f, "https://{}:{port}", self.host),
            (Scheme::Http, port) => write!(f, "http://{}:{port}", self.host),
        }
    }
}

fn address(host: &str) -> Option<IpAddr> {
    match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(six) => six.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => host.parse().ok(),
    }
}

/// Parses an absolute `http:` or `https:` URL.
///
/// # Errors
/// Returns an error if `text` is anything else, is longer than 8 KiB, or has user information, a fragment or control
/// characters.
pub(super) fn parse(text: &str, what: &str) -> Result<Uri> {
    let wrong = |reason: &str| Error::invalid(what.to_owned(), reason.to_owned());
    if text.len() > LONGEST_URL {
        return Err(wrong("a URL longer than 8 KiB"));
    }
    if text.contains('#') {
        return Err(wrong("a URL with a fragment"));
    }
    if has_scheme(text) && !matches!(text.split_once(':'), Some(("http" | "https", _))) {
        return Err(wrong("a URL that is neither http nor https"));
    }
    let url: Uri = text.parse().map_err(|_| wrong("not a URL"))?;
    if url.scheme().is_none() {
        return Err(wrong("not an absolute URL"));
    }
    match url.authority() {
        Some(authority) if authority.as_str().contains('@') => Err(wrong("a URL with user information")),
        Some(authority) if authority.host().is_empty() => Err(wrong("a URL without a host")),
        // `http` accepts any digits here and returns `None` if they are not a valid port.
        Some(authority) if authority.port_u16().is_none() && !authority.as_str().ends_with(authority.host()) => {
            Err(wrong("a URL whose port is not a port"))
        }
        Some(_) => Ok(url),
        None => Err(wrong("a URL without a host")),
    }
}

/// Resolves a reference from the `what` header of a server at `base` (RFC 3986, section 5.2, without `..`).
///
/// # Errors
/// Fails as [`parse`] does, and if the result would downgrade `https` to `http`.
pub(super) fn resolve(base: &Uri, reference: &str, what: &str) -> Result<Uri> {
    let origin = Origin::of(base);
    let absolute = if has_scheme(reference) {
        reference.to_owned()
    } else if let Some(rest) = reference.strip_prefix("//") {
        format!("{}://{rest}", base.scheme_str().unwrap_or("https"))
    } else if reference.starts_with('/') {
        format!("{origin}{reference}")
    } else if reference.starts_with('?') {
        format!("{origin}{}{reference}", base.path())
    } else {
        let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{origin}{folder}/{reference}")
    };
    let url = parse(&absolute, what)?;
    if origin.scheme == Scheme::Https && Origin::of(&url).scheme == Scheme::Http {
        return Err(Error::invalid(what, "redirects from https to http")
            .hint("the registry is behind a TLS proxy that does not set X-Forwarded-Proto"));
    }
    Ok(url)
}

fn has_scheme(reference: &str) -> bool {
    match reference.split_once(':') {
        Some((scheme, _)) => {
            scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
        }
        None => false,
    }
}

/// Adds `parameters` to the query of `url`, and keeps every other byte as the server wrote it.
pub(super) fn with_query(url: &Uri, parameters: &[(&str, &str)], what: &str) -> Result<Uri> {
    let mut text = url.to_string();
    for (name, value) in parameters {
        text.push(if text.contains('?') { '&' } else { '?' });
        text.push_str(name);
        text.push('=');
        text.push_str(&encoded(value));
    }
    parse(&text, what)
}

/// Percent-encodes all but the unreserved characters (RFC 3986, section 2.3).
pub(super) fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// Formats a URL for messages, without its query: pre-signed URLs have their secret there.
pub(super) fn without_query(url: &Uri) -> String {
    format!("{}{}", Origin::of(url), url.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(base: &str, reference: &str) -> String {
        let base = parse(base, "base").unwrap();
        match resolve(&base, reference, "Location") {
            Ok(url) => url.to_string(),
            Err(error) => error.reason(),
        }
    }

    #[test]
    fn a_location_is_resolved_against_the_request() {
        let base = "https://reg.io/v2/a/b/blobs/uploads/";
        assert_eq!(resolved(base, "/v2/x?_state=a%2Fb"), "https://reg.io/v2/x?_state=a%2Fb");
        assert_eq!(resolved(base, "17?q=1"), "https://reg.io/v2/a/b/blobs/uploads/17?q=1");
        assert_eq!(resolved(base, "?q=1"), "https://reg.io/v2/a/b/blobs/uploads/?q=1");
        assert_eq!(resolved(base, "//cdn.io/x"), "https://cdn.io/x");
        assert_eq!(resolved(base, "https://cdn.io:8443/x"), "https://cdn.io:8443/x");
        assert_eq!(resolved("http://reg.io/", "https://reg.io/x"), "https://reg.io/x");
    }

    #[test]
    fn a_location_that_leads_astray_is_refused() {
        let base = "https://reg.io/v2/";
        assert_eq!(resolved(base, "http://reg.io/x"), "redirects from https to http");
        assert_eq!(resolved(base, "file:///etc/passwd"), "a URL that is neither http nor https");
        assert_eq!(resolved(base, "https://user@reg.io/"), "a URL with user information");
        assert_eq!(resolved(base, "/x#y"), "a URL with a fragment");
        assert_eq!(resolved(base, "/x\r\nEvil: 1"), "not a URL");
        assert_eq!(resolved(base, &"/x".repeat(5000)), "a URL longer than 8 KiB");
        assert_eq!(resolved(base, "https://reg.io:99999/"), "a URL whose port is not a port");
    }

    #[test]
    fn a_default_port_is_the_same_origin_as_none() {
        let origin = |text: &str| Origin::of(&parse(text, "url").unwrap());
        assert_eq!(origin("https://REG.io/a"), origin("https://reg.io:443/b"));
        assert_ne!(origin("https://reg.io/"), origin("http://reg.io/"));
        assert_ne!(origin("https://reg.io/"), origin("https://reg.io:5000/"));
        assert!(origin("http://[::1]:5000/").is_loopback());
        assert!(origin("http://127.8.9.1/").is_loopback());
        assert!(!origin("http://localhost.evil.io/").is_loopback());
        assert!(origin("http://169.254.169.254/").is_link_local());
        assert!(origin("http://[::ffff:169.254.169.254]/").is_link_local());
    }

    #[test]
    fn a_parameter_is_added_behind_an_opaque_query() {
        let url = parse("https://reg.io/u/1?_state=x%2By%3D", "url").unwrap();
        let with = with_query(&url, &[("digest", "sha256:0")], "url").unwrap();
        assert_eq!(with.to_string(), "https://reg.io/u/1?_state=x%2By%3D&digest=sha256%3A0");
        assert_eq!(without_query(&with), "https://reg.io/u/1");
    }
}
