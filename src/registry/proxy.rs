//! The selection of a proxy, from values that the caller read from the environment.

use super::origin::{Origin, Scheme};
use crate::common::error::{Error, Result};
use std::net::IpAddr;

/// The proxies for the two schemes, and the hosts that are reached directly.
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    http: Option<Proxy>,
    https: Option<Proxy>,
    except: Vec<String>,
}

/// One proxy. Its `Debug` output omits name and password, as that of ureq does.
#[derive(Debug, Clone)]
pub(super) struct Proxy {
    pub(super) proxy: ureq::Proxy,
    /// `http://host:port`, for messages.
    pub(super) name: String,
}

impl Proxies {
    /// Creates the proxies for `http` and `https` requests, from `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`.
    ///
    /// The exceptions in `except` are names (with all names below them), addresses, address ranges, each with an optional port,
    /// or `*`.
    ///
    /// # Errors
    /// Returns an error if a proxy is not a URL, or its protocol is not HTTP or HTTPS.
    pub fn new(http: Option<&str>, https: Option<&str>, except: &str) -> Result<Self> {
        let given = |url: &&str| !url.trim().is_empty();
        Ok(Proxies {
            http: http.filter(given).map(proxy).transpose()?,
            https: https.filter(given).map(proxy).transpose()?,
            except: except.split(',').map(|entry| entry.trim().to_ascii_lowercase()).collect(),
        })
    }

    /// Returns the proxy for a request to `origin`. Loopback addresses are always reached directly.
    pub(super) fn for_origin(&self, origin: &Origin) -> Option<&Proxy> {
        if origin.is_loopback() || self.except.iter().any(|entry| excepts(entry, origin)) {
            return None;
        }
        match origin.scheme() {
            Scheme::Http => self.http.as_ref(),
            Scheme::Https => self.https.as_ref(),
        }
    }
}

fn proxy(url: &str) -> Result<Proxy> {
    // The URL may hold a password, so no message shows it.
    let wrong = |reason: &str| Error::usage("proxy", reason.to_owned());
    let proxy = ureq::Proxy::new(url.trim()).map_err(|_| wrong("not a URL, or of an unknown kind"))?;
    let scheme = match proxy.protocol() {
        ureq::ProxyProtocol::Http => "http",
        ureq::ProxyProtocol::Https => "https",
        _ => return Err(wrong("only HTTP and HTTPS proxies are supported")),
    };
    let name = format!("{scheme}://{}:{}", proxy.host(), proxy.port());
    Ok(Proxy { proxy, name })
}

/// Returns whether one entry of `NO_PROXY` covers `origin`.
fn excepts(entry: &str, origin: &Origin) -> bool {
    let host = origin.host().trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = host.parse::<IpAddr>() {
        let (entry, has_port) = without_port(entry, origin.port());
        let (range, length) = match entry.split_once('/') {
            Some((range, length)) => (range, length.parse().ok()),
            None => (entry, Some(128)),
        };
        let range = range.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        let is_in = range.ok().zip(length).is_some_and(|(range, length)| within(address, range, length));
        return has_port && (entry == "*" || is_in);
    }
    let (name, port) = match entry.rsplit_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (entry, None),
    };
    if port.is_some_and(|port| port.parse() != Ok(origin.port())) {
        return false;
    }
    let name = name.trim_start_matches('*').trim_start_matches('.');
    match host.strip_suffix(name) {
        _ if entry == "*" => true,
        Some(before) => !name.is_empty() && (before.is_empty() || before.ends_with('.')),
        None => false,
    }
}

/// Splits the port from an address or range, and returns whether it is `port` or absent. An IPv6 address has a port only if it
/// is in brackets.
fn without_port(entry: &str, port: u16) -> (&str, bool) {
    match entry.rsplit_once(':') {
        Some((before, number)) if !before.contains(':') || before.ends_with(']') => {
            (before, number.parse() == Ok(port))
        }
        _ => (entry, true),
    }
}

/// Returns whether the first `length` bits of both addresses are equal.
fn within(address: IpAddr, range: IpAddr, length: u32) -> bool {
    match (address, range) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (u32::from(a) ^ u32::from(b)).leading_zeros() >= length.min(32),
        (IpAddr::V6(a), IpAddr::V6(b)) => (u128::from(a) ^ u128::from(b)).leading_zeros() >= length.min(128),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_direct(except: &str, authority: &str) -> bool {
        let proxies = Proxies::new(None, Some("http://user:secret@proxy:3128"), except).unwrap();
        proxies.for_origin(&Origin::new(Scheme::Https, authority).unwrap()).is_none()
    }

    /// M42: exceptions that are addresses may have a port.
    #[test]
    fn exceptions_are_names_addresses_and_ranges() {
        for (except, direct, proxied) in [
            ("reg.io", "sub.reg.io:5000", "notreg.io"),
            (".reg.io", "sub.reg.io", "reg.io.evil"),
            ("*.reg.io", "sub.reg.io", "other.io"),
            ("a.io, REG.io:5000", "reg.io:5000", "reg.io:5001"),
            ("10.0.0.0/8", "10.1.2.3", "11.1.2.3"),
            ("192.168.1.7", "192.168.1.7:5000", "192.168.1.70"),
            ("fd00::/8", "[fd12::1]", "[fe80::1]"),
            ("192.168.1.7:5000", "192.168.1.7:5000", "192.168.1.7:5001"),
            ("[fd12::1]:5000", "[fd12::1]:5000", "[fd12::1]:5001"),
            ("10.0.0.0/8:5000", "10.1.2.3:5000", "10.1.2.3"),
            ("fd12::1", "[fd12::1]:5000", "[fd12::2]:5000"),
            ("*", "reg.io", "localhost."),
        ] {
            assert!(is_direct(except, direct), "{except} {direct}");
            assert!(except == "*" || !is_direct(except, proxied), "{except} {proxied}");
        }
        assert!(!is_direct("", "reg.io"));
        assert!(is_direct("", "127.0.0.1:5000"), "this machine is never behind a proxy");
    }

    #[test]
    fn a_proxy_that_cannot_be_used_is_refused_without_its_password() {
        for bad in ["socks5://user:secret@p", "ftp://user:secret@p", "http://user:secret@"] {
            let error = Proxies::new(Some(bad), None, "").unwrap_err().to_string();
            assert!(error.starts_with("proxy: ") && !error.contains("secret"), "{error}");
        }
        assert!(Proxies::new(Some(""), Some(" "), "").unwrap().https.is_none());
        let proxies = Proxies::new(None, Some("http://user:secret@proxy:3128"), "").unwrap();
        assert!(!format!("{proxies:?}").contains("secret"));
        assert_eq!(proxies.https.unwrap().name, "http://proxy:3128");
    }
}
