//! The target of `WWW-Authenticate` challenges: a registry on this machine that sends them.

use ocibuild::Reference;
use ocibuild::common::progress::Silent;
use ocibuild::registry::credentials::{Credentials, Keychain};
use ocibuild::registry::{Network, Options, Proxies, Registry, Repository, RetryPolicy, Secret, Timeouts, Transport};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

/// A server that answers every request with the same challenge.
struct Server {
    address: SocketAddr,
    challenge: Arc<Mutex<Vec<u8>>>,
    transport: Arc<Transport>,
}

static SERVER: LazyLock<Server> = LazyLock::new(|| {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let challenge = Arc::new(Mutex::new(Vec::new()));
    let shared = challenge.clone();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            // The client may close the connection at any time.
            answer(connection.unwrap(), &shared.lock().unwrap()).ok();
        }
    });
    // A mutated realm may name any host. The server is also the proxy, so no request leaves this machine.
    let proxy = format!("http://{address}");
    let proxies = Proxies::new(Some(&proxy), Some(&proxy), &address.to_string()).unwrap();
    let limit = Duration::from_secs(5);
    let limits = Timeouts { connect: limit, idle: limit, answer: limit, document: limit };
    let transport = Transport::new(Network { proxies, limits, ..Network::default() }).unwrap();
    Server { address, challenge, transport: Arc::new(transport) }
});

fn answer(mut connection: TcpStream, challenge: &[u8]) -> std::io::Result<()> {
    let mut lines = BufReader::new(connection.try_clone()?).lines();
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    // Both a token and a challenge, so that the client comes back with the token.
    connection
        .write_all(b"HTTP/1.1 401 Unauthorized\r\nConnection: close\r\nContent-Length: 2\r\nWWW-Authenticate: ")?;
    connection.write_all(challenge)?;
    connection.write_all(b"\r\n\r\n{}")
}

/// Sends the challenge in `bytes` to a client that has credentials.
pub(super) fn read(bytes: &[u8]) {
    let server = &*SERVER;
    // A line break would end the header; the port of the server is not known to the seeds.
    let line: Vec<u8> = bytes.iter().copied().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect();
    *server.challenge.lock().unwrap() = replace_port(&line, server.address.port());
    let reference: Reference = format!("{}/team/robot:v1", server.address).parse().unwrap();
    let keychain = Arc::new(Keychain::anonymous().with(Credentials::Identity(Secret::new("planted-secret"))));
    let retry = RetryPolicy { retries: 0, first_wait: Duration::from_millis(1), deadline: Duration::from_secs(5) };
    let options = Options { retry, ..Options::default() };
    let registry = Registry::new(reference.registry(), server.transport.clone(), keychain, options, Arc::new(Silent));
    let repository = Repository::new(Arc::new(registry), &reference).unwrap();
    let error = repository.resolve().expect_err("the server never answers").to_string();
    assert!(!error.contains("planted-secret") && !error.contains(['\n', '\u{1b}']), "{error}");
}

/// Replaces `PORT` by the port of the server.
fn replace_port(line: &[u8], port: u16) -> Vec<u8> {
    let Some(at) = line.windows(4).position(|window| window == b"PORT") else { return line.to_vec() };
    [&line[..at], port.to_string().as_bytes(), &line[at + 4..]].concat()
}
