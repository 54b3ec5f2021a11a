//! Connections to registries: names, TLS, proxies, and slow servers.

use super::*;
use crate::support::is_left_out;
use ocibuild::registry::{ClientCertificate, PlainHttp, Proxies, certificates};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::Path;
use std::time::Instant;

fn tls_file(name: &str) -> Vec<u8> {
    std::fs::read(Path::new("testdata/tls").join(name)).unwrap()
}

/// Creates a TLS server with the certificate `name`, which can ask for a client certificate.
pub(super) fn tls(name: &str, asks_for_client: bool) -> rustls::ServerConfig {
    let chain = vec![CertificateDer::from_pem_slice(&tls_file(&format!("{name}.crt"))).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(&tls_file(&format!("{name}.key"))).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let builder = builder.unwrap();
    let builder = if asks_for_client {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&tls_file("authority.crt")).unwrap()).unwrap();
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        builder.with_client_cert_verifier(verifier.build().unwrap())
    } else {
        builder.with_no_client_auth()
    };
    builder.with_single_cert(chain, key).unwrap()
}

/// Creates a client that trusts the test authority.
pub(super) fn trusting() -> Client {
    let mut client = Client::new();
    client.network.authorities = certificates(&tls_file("authority.crt"), "authority.crt").unwrap();
    client
}

#[test]
fn r1_each_way_of_not_getting_there_has_its_own_word() {
    let unknown = Client::new().open("no-such-host.invalid").resolve();
    assert_says(unknown, &["https://no-such-host.invalid", "the host name cannot be resolved"]);

    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert_says(Client::new().open(&free.to_string()).resolve(), &[&free.to_string(), "connection refused"]);

    let shelf = shelf_with_manifest();
    let good = Server::start_tls(tls("good", false), move |x| shelf.serve(x));
    assert_says(Client::new().open(&good.host()).resolve(), &["signed by an unknown authority", "--cert-dir"]);
    for (name, word) in [("expired", "its certificate has expired"), ("other", "is for another host name")] {
        let server = Server::start_tls(tls(name, false), |x| x.answer(200, &[], ""));
        assert_says(trusting().open(&server.host()).resolve(), &[word]);
        assert_eq!(server.lines(), [] as [&str; 0]);
    }
    assert_eq!(trusting().open(&good.host()).resolve(), Ok(Digest::of(&manifest())));
}

#[test]
fn r1_a_client_certificate_is_shown_to_its_host() {
    let shelf = shelf_with_manifest();
    let server = Server::start_tls(tls("good", true), move |x| shelf.serve(x));
    assert!(trusting().open(&server.host()).resolve().is_err());
    let identified = |host: &str| {
        let mut client = trusting();
        let key = Secret::new(String::from_utf8(tls_file("client.key")).unwrap());
        client.network.identity =
            Some(ClientCertificate { registry: host.to_owned(), certificates: tls_file("client.crt"), key });
        client.open(&server.host()).resolve()
    };
    assert_eq!(identified(&server.host()), Ok(Digest::of(&manifest())));
    assert!(identified("localhost").is_err(), "a certificate for one host is not shown to another");
    assert!(identified("127.0.0.1").is_err(), "nor to another port of it");
}

#[test]
fn r2_plain_http_is_spoken_on_this_machine_or_by_permission() {
    let shelf = shelf_with_manifest();
    let server = Server::start(move |x| shelf.serve(x));
    let resolve = |plain_http| Client::new().options(|o| o.plain_http = plain_http).open(&server.host()).resolve();
    assert_says(resolve(PlainHttp::Never), &["not a TLS server", "--plain-http"]);
    assert_eq!(server.lines(), [] as [&str; 0]);
    assert!(resolve(PlainHttp::Loopback).is_ok());
    assert!(resolve(PlainHttp::Allowed).is_ok());
}

#[test]
fn r2_permission_for_plain_http_does_not_excuse_a_bad_certificate() {
    let server = Server::start_tls(tls("good", false), |x| x.answer(200, &[], ""));
    let client = Client::new().options(|o| o.plain_http = PlainHttp::Allowed);
    assert_says(client.open(&server.host()).resolve(), &["signed by an unknown authority"]);
    assert_eq!(server.lines(), [] as [&str; 0]);
}

/// Creates a client with an idle limit of 400 ms.
fn impatient() -> Client {
    let mut client = Client::new();
    let idle = Duration::from_millis(400);
    client.network.limits = Timeouts { connect: idle, idle, answer: idle, document: idle * 2 };
    client
}

#[test]
fn r19_a_server_that_stalls_is_given_up() {
    if is_left_out() {
        return;
    }
    let silent = Server::start(|x| x.hang());
    let endless = Server::start(|x| {
        x.raw(b"HTTP/1.1 200 OK\r\n");
        for _ in 0..200 {
            x.raw(b"X-Again: 1\r\n");
            std::thread::sleep(Duration::from_millis(20));
        }
        x.cut();
    });
    let large = Server::start(|x| {
        x.raw(b"HTTP/1.1 200 OK\r\nX-Long: ");
        for _ in 0..200 {
            x.raw(&[b'x'; 1024]);
        }
        x.cut();
    });
    for (server, word) in [(&silent, "timed out"), (&endless, "timed out"), (&large, "its response header is too long")]
    {
        let begin = Instant::now();
        let client = impatient().options(|o| o.retry.retries = 1);
        assert_says(client.open(&server.host()).resolve(), &[word]);
        assert!(begin.elapsed() < Duration::from_secs(8), "{word} took {:?}", begin.elapsed());
    }
}

#[test]
fn r19_a_body_of_a_byte_now_and_then_is_not_waited_for_but_a_slow_one_is() {
    if is_left_out() {
        return;
    }
    let content = noise(40_000);
    let described = blob(&content);
    let drip = |pause: u64, step: usize| {
        let content = content.clone();
        Server::start(move |x| {
            if x.line() == "GET /v2/" {
                return x.answer(200, &[], "");
            }
            x.raw(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", content.len()).as_bytes());
            for piece in content.chunks(step) {
                x.raw(piece);
                std::thread::sleep(Duration::from_millis(pause));
            }
        })
    };
    let client = || impatient().options(|o| o.retry.retries = 0);
    let loris = drip(50, 1);
    assert_says(client().open(&loris.host()).fetch(&described), &["timed out"]);
    // Longer in total than the idle limit of 400 ms.
    let slow = drip(50, 2_000);
    assert_eq!(client().open(&slow.host()).fetch(&described), Ok(content));
}

/// M42: a manifest that arrives slowly has a total time limit.
#[test]
fn r19_a_manifest_that_trickles_is_given_up() {
    if is_left_out() {
        return;
    }
    let server = Server::start(|x| {
        if x.line() == "GET /v2/" {
            return x.answer(200, &[], "");
        }
        let head =
            format!("HTTP/1.1 200 OK\r\nContent-Type: {}\r\nContent-Length: 40000\r\n\r\n", media_type::MANIFEST);
        x.raw(head.as_bytes());
        for _ in 0..200 {
            x.raw(&[b' '; 200]);
            std::thread::sleep(Duration::from_millis(40));
        }
    });
    let begin = Instant::now();
    assert_says(impatient().open(&server.host()).resolve(), &["timed out: no complete response within"]);
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    assert_eq!(server.count(MANIFEST_PATH), 1, "what trickled once will do so again");
}

#[test]
fn r45_a_server_of_another_protocol_is_an_error() {
    let http2 = Server::start(|x| {
        x.raw(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x80\x00\x04\x00\x01\x00\x00\x00\x05\x00\xff\xff\xff");
        x.cut();
    });
    assert_says(Client::new().open(&http2.host()).resolve(), &["not an HTTP/1.1 server"]);
    let mut only_http2 = tls("good", false);
    only_http2.alpn_protocols = vec![b"h2".to_vec()];
    let server = Server::start_tls(only_http2, |x| shelf_with_manifest().serve(x));
    assert!(trusting().open(&server.host()).resolve().is_ok(), "a client that offers no protocol gets HTTP/1.1");
}

#[test]
fn r46_a_proxy_that_fails_is_named() {
    let through = |proxy: &str, except: &str| {
        let mut client = Client::new();
        client.network.proxies = Proxies::new(Some(proxy), Some(proxy), except).unwrap();
        client.open("registry.invalid").resolve()
    };
    for (status, word) in [("407 Proxy Authentication Required", "407"), ("403 Forbidden", "403")] {
        let proxy = Server::start(move |x| {
            x.raw(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").as_bytes());
            x.cut();
        });
        let name = format!("http://{}", proxy.host());
        let url = format!("http://alice:{SECRET}@{}", proxy.host());
        assert_says(through(&url, ""), &["proxy", &name, "registry.invalid", "refused", word]);
        assert_eq!(proxy.seen()[0].target, "registry.invalid:443");
        assert_says(through(&url, "invalid"), &["the host name cannot be resolved"]);
        assert_eq!(proxy.lines().len(), 1);
    }
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert_says(through(&format!("http://{free}"), ""), &["proxy", &free.to_string(), "connection refused"]);
}

#[test]
fn r46_a_proxy_carries_bytes_and_sees_no_credentials_of_the_registry() {
    let shelf = shelf_with_manifest();
    let registry = Server::start_tls(tls("other", false), move |x| match x.header("authorization") {
        None => x.answer(401, &[("WWW-Authenticate", "Basic realm=r")], ""),
        Some(_) => shelf.serve(x),
    });
    let proxy = Server::start({
        let registry = registry.host();
        move |x| x.tunnel_to(&registry)
    });
    let mut client = trusting().with_password("other.example");
    let url = format!("http://bob:proxy-password@{}", proxy.host());
    client.network.proxies = Proxies::new(None, Some(&url), "").unwrap();
    assert_eq!(client.open("other.example").resolve(), Ok(Digest::of(&manifest())));
    assert_eq!(registry.lines(), [MANIFEST_PATH, MANIFEST_PATH]);
    let seen = &proxy.seen()[0];
    assert_eq!((&*seen.method, &*seen.target), ("CONNECT", "other.example:443"));
    assert_eq!(seen.header("authorization"), None);
    assert!(seen.header("proxy-authorization").is_some());
    assert!(registry.seen().iter().all(|seen| seen.header("proxy-authorization").is_none()));
}

#[test]
fn r50_references_name_hosts_as_docker_does() {
    let shelf = shelf_with_manifest();
    let server = Server::start(move |x| shelf.serve(x));
    let port = server.host().rsplit_once(':').unwrap().1.to_owned();
    assert!(Client::new().open(&format!("localhost:{port}")).resolve().is_ok());
    assert_eq!(server.seen().last().unwrap().header("host"), Some(&*format!("localhost:{port}")));
    for bad in ["bücher.example/x", "reg.io./x", "reg.io/Team/x"] {
        assert!(bad.parse::<Reference>().is_err(), "{bad}");
    }
    if let Ok(six) = std::net::TcpListener::bind("[::1]:0") {
        let port = six.local_addr().unwrap().port();
        drop(six);
        assert_says(Client::new().open(&format!("[::1]:{port}")).resolve(), &["connection refused", "[::1]"]);
    }
}
