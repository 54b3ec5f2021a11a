//! A server with scripted responses: correct data, wrong data and cuts, request by request.

use ocibuild::Digest;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A request that arrived.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
}

impl Seen {
    /// Returns `METHOD /path`, without the query.
    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.method, self.target.split('?').next().unwrap_or_default())
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// A listening server, which stops when it is dropped.
pub(crate) struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    moved: Arc<AtomicU64>,
    stopped: Arc<AtomicBool>,
}

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

type Script = Arc<dyn Fn(&mut Exchange) + Send + Sync>;

impl Server {
    /// Starts a server that handles each request by `script`.
    pub(crate) fn start(script: impl Fn(&mut Exchange) + Send + Sync + 'static) -> Server {
        Server::listen(TcpListener::bind("127.0.0.1:0").unwrap(), Arc::new(script), None)
    }

    /// Starts a server whose `script` can use the shelf of a registry, and returns both.
    pub(crate) fn with_shelf(script: impl Fn(&mut Exchange, &Shelf) + Send + Sync + 'static) -> (Server, Shelf) {
        let shelf = Shelf::default();
        let its = shelf.clone();
        (Server::start(move |x| script(x, &its)), shelf)
    }

    /// Starts a server at `[::1]`, or returns `None` if this machine has no such address.
    pub(crate) fn start_at_ipv6(script: impl Fn(&mut Exchange) + Send + Sync + 'static) -> Option<Server> {
        Some(Server::listen(TcpListener::bind("[::1]:0").ok()?, Arc::new(script), None))
    }

    /// Starts a server with TLS.
    pub(crate) fn start_tls(
        tls: rustls::ServerConfig,
        script: impl Fn(&mut Exchange) + Send + Sync + 'static,
    ) -> Server {
        Server::listen(TcpListener::bind("127.0.0.1:0").unwrap(), Arc::new(script), Some(Arc::new(tls)))
    }

    fn listen(listener: TcpListener, script: Script, tls: Option<Arc<rustls::ServerConfig>>) -> Server {
        let address = listener.local_addr().unwrap();
        let server = Server { address, seen: Arc::default(), moved: Arc::default(), stopped: Arc::default() };
        let (seen, moved, stopped) = (server.seen.clone(), server.moved.clone(), server.stopped.clone());
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(connection) = connection else { continue };
                let (script, tls) = (script.clone(), tls.clone());
                let (seen, moved, stopped) = (seen.clone(), moved.clone(), stopped.clone());
                std::thread::spawn(move || serve(connection, tls, &script, &seen, moved, &stopped, address));
            }
        });
        server
    }

    /// Returns `127.0.0.1:PORT`.
    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    /// Returns the number of bytes sent and received, including heads.
    pub(crate) fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    /// Returns all requests so far, in order.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Returns `METHOD /path` of all requests so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.seen().iter().map(Seen::line).collect()
    }

    /// Returns the number of requests with this `METHOD /path`.
    pub(crate) fn count(&self, line: &str) -> usize {
        self.lines().iter().filter(|seen| *seen == line).count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        // Wakes the thread that waits for connections.
        TcpStream::connect(self.address).ok();
    }
}

fn serve(
    connection: TcpStream,
    tls: Option<Arc<rustls::ServerConfig>>,
    script: &Script,
    seen: &Mutex<Vec<Seen>>,
    moved: Arc<AtomicU64>,
    stopped: &AtomicBool,
    address: SocketAddr,
) {
    connection.set_nodelay(true).ok();
    let socket = connection.try_clone().unwrap();
    let stream: Box<dyn Stream> = match tls {
        Some(config) => {
            let session = rustls::ServerConnection::new(config).unwrap();
            Box::new(rustls::StreamOwned::new(session, connection))
        }
        None => {
            // A TLS hello gets the same response as from Go's servers.
            let mut first = [0];
            if matches!(connection.peek(&mut first), Ok(1)) && first[0] == 0x16 {
                (&connection).write_all(b"HTTP/1.0 400 Bad Request\r\n\r\nnot TLS").ok();
                return;
            }
            Box::new(connection)
        }
    };
    let stream: Box<dyn Stream> = Box::new(Counted { stream, moved });
    let mut stream = BufReader::new(stream);
    while let Ok(Some(request)) = read_head(&mut stream) {
        let nth = {
            let mut seen = seen.lock().unwrap();
            seen.push(request.clone());
            seen.iter().filter(|other| other.line() == request.line()).count()
        };
        let unread = match request.header("transfer-encoding") {
            Some(_) => Unread::Chunked,
            None => Unread::Known(request.header("content-length").map_or(0, |length| length.parse().unwrap())),
        };
        let mut exchange =
            Exchange { request, nth, stream: &mut stream, socket: &socket, stopped, address, unread, close: false };
        script(&mut exchange);
        if !exchange.close {
            exchange.body();
        }
        if exchange.close {
            socket.shutdown(Shutdown::Both).ok();
            return;
        }
    }
}

/// Counts the bytes of a connection.
struct Counted {
    stream: Box<dyn Stream>,
    moved: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(buffer)?;
        self.moved.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.stream.write(bytes)?;
        self.moved.fetch_add(written as u64, Ordering::Relaxed);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

fn read_head(stream: &mut impl BufRead) -> io::Result<Option<Seen>> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        match line.trim_end().split_once(':') {
            Some((key, value)) => headers.push((key.to_owned(), value.trim().to_owned())),
            None => return Ok(Some(Seen { method, target, headers })),
        }
    }
}

enum Unread {
    Known(u64),
    Chunked,
}

/// A request, and the connection for its response.
pub(crate) struct Exchange<'x> {
    pub(crate) request: Seen,
    /// The number of requests so far with this method and path, including this one.
    pub(crate) nth: usize,
    stream: &'x mut BufReader<Box<dyn Stream>>,
    socket: &'x TcpStream,
    stopped: &'x AtomicBool,
    address: SocketAddr,
    unread: Unread,
    close: bool,
}

impl Exchange<'_> {
    pub(crate) fn line(&self) -> String {
        self.request.line()
    }

    /// Returns the server's own `127.0.0.1:PORT`.
    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn header(&self, name: &str) -> Option<String> {
        self.request.header(name).map(str::to_owned)
    }

    /// Returns the values of a parameter in the query.
    pub(crate) fn parameters(&self, name: &str) -> Vec<String> {
        let query = self.request.target.split_once('?').map_or("", |(_, query)| query);
        parameters(query, name)
    }

    /// Reads the whole body of the request.
    pub(crate) fn body(&mut self) -> Vec<u8> {
        match std::mem::replace(&mut self.unread, Unread::Known(0)) {
            Unread::Known(length) => {
                let mut body = Vec::new();
                self.stream.by_ref().take(length).read_to_end(&mut body).ok();
                self.close |= (body.len() as u64) < length;
                body
            }
            Unread::Chunked => panic!("this client never sends chunks"),
        }
    }

    /// Reads the first bytes of the body, after which the connection is cut.
    pub(crate) fn part_of_body(&mut self, length: u64) -> Vec<u8> {
        let mut body = Vec::new();
        self.stream.by_ref().take(length).read_to_end(&mut body).ok();
        self.close = true;
        body
    }

    /// Sends a response. A length is added unless there is one.
    pub(crate) fn answer(&mut self, status: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) {
        let body = body.as_ref();
        self.body();
        let mut head = format!("HTTP/1.1 {status} X\r\n");
        for (key, value) in headers {
            write!(head, "{key}: {value}\r\n").unwrap();
        }
        let has_length = headers.iter().any(|(key, _)| key.eq_ignore_ascii_case("content-length"));
        if !has_length && status != 204 {
            write!(head, "Content-Length: {}\r\n", body.len()).unwrap();
        }
        head += "\r\n";
        self.raw(head.as_bytes());
        if self.request.method != "HEAD" {
            self.raw(body);
        }
    }

    /// Sends an error response in the format of registries.
    pub(crate) fn refuse(&mut self, status: u16, code: &str, message: &str) {
        let body = serde_json::json!({"errors": [{"code": code, "message": message}]}).to_string();
        self.answer(status, &[("Content-Type", "application/json")], body);
    }

    /// Sends these bytes.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        let stream = self.stream.get_mut();
        if stream.write_all(bytes).and_then(|()| stream.flush()).is_err() {
            self.close = true;
        }
    }

    /// Returns whether the connection ends after this exchange.
    pub(crate) fn is_cut(&self) -> bool {
        self.close
    }

    /// Ends the connection after this exchange.
    pub(crate) fn cut(&mut self) {
        self.close = true;
    }

    /// Accepts a `CONNECT`, and forwards bytes in both directions until one side ends.
    pub(crate) fn tunnel_to(&mut self, target: &str) {
        self.raw(b"HTTP/1.1 200 OK\r\n\r\n");
        let there = TcpStream::connect(target).unwrap();
        std::thread::scope(|scope| {
            let back = (there.try_clone().unwrap(), self.socket.try_clone().unwrap());
            scope.spawn(move || {
                io::copy(&mut &back.0, &mut &back.1).ok();
                back.1.shutdown(Shutdown::Both).ok();
            });
            io::copy(&mut &*self.socket, &mut &there).ok();
            there.shutdown(Shutdown::Both).ok();
        });
        self.close = true;
    }

    /// Sends nothing until the test has ended.
    pub(crate) fn hang(&mut self) {
        let begin = Instant::now();
        while !self.stopped.load(Ordering::Relaxed) && begin.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.socket.shutdown(Shutdown::Both).ok();
        self.close = true;
    }
}

/// Returns the decoded values of `name` in a query or form.
pub(crate) fn parameters(query: &str, name: &str) -> Vec<String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(key, _)| *key == name).map(|(_, value)| decoded(value)).collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        match (first, behind) {
            (b'%', [high, low, behind @ ..]) => {
                let hex = [*high, *low];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap());
                rest = behind;
            }
            _ => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// The content of a correct registry, which handles all requests that a test does not.
#[derive(Clone, Default)]
pub(crate) struct Shelf(Arc<Mutex<Content>>);

#[derive(Default)]
struct Content {
    /// By `repository digest`.
    blobs: BTreeMap<String, Vec<u8>>,
    /// By `repository name`, the media type and the bytes.
    manifests: BTreeMap<String, (String, Vec<u8>)>,
    uploads: BTreeMap<String, Vec<u8>>,
    opened: usize,
}

impl Shelf {
    pub(crate) fn with_blob(self, repository: &str, bytes: &[u8]) -> Shelf {
        self.0.lock().unwrap().blobs.insert(format!("{repository} {}", Digest::of(bytes)), bytes.to_vec());
        self
    }

    pub(crate) fn with_manifest(self, repository: &str, name: &str, media_type: &str, bytes: &[u8]) -> Shelf {
        let manifest = (media_type.to_owned(), bytes.to_vec());
        for name in [name.to_owned(), Digest::of(bytes).to_string()] {
            self.0.lock().unwrap().manifests.insert(format!("{repository} {name}"), manifest.clone());
        }
        self
    }

    pub(crate) fn blob(&self, repository: &str, digest: Digest) -> Option<Vec<u8>> {
        self.0.lock().unwrap().blobs.get(&format!("{repository} {digest}")).cloned()
    }

    pub(crate) fn manifest(&self, repository: &str, name: &str) -> Option<Vec<u8>> {
        self.0.lock().unwrap().manifests.get(&format!("{repository} {name}")).map(|(_, bytes)| bytes.clone())
    }

    pub(crate) fn lose_blob(&self, repository: &str, digest: &str) {
        self.0.lock().unwrap().blobs.remove(&format!("{repository} {digest}"));
    }

    /// Removes everything in a repository.
    pub(crate) fn forget(&self, repository: &str) {
        let mut content = self.0.lock().unwrap();
        content.blobs.retain(|key, _| !key.starts_with(&format!("{repository} ")));
        content.manifests.retain(|key, _| !key.starts_with(&format!("{repository} ")));
    }

    /// Returns the tags in a repository.
    pub(crate) fn tags(&self, repository: &str) -> Vec<String> {
        let content = self.0.lock().unwrap();
        let names = content.manifests.keys().filter_map(|key| key.strip_prefix(&format!("{repository} ")));
        names.filter(|name| !name.contains(':')).map(str::to_owned).collect()
    }

    /// Returns one of the manifests in a repository.
    pub(crate) fn any_manifest(&self, repository: &str) -> Vec<u8> {
        self.manifest(repository, &self.tags(repository)[0]).unwrap()
    }

    /// Adds bytes to an upload, as if a request that was cut had sent them.
    pub(crate) fn receive(&self, x: &Exchange, bytes: &[u8]) {
        let path = x.line().split_once(' ').unwrap().1.to_owned();
        self.0.lock().unwrap().uploads.get_mut(&path).unwrap().extend_from_slice(bytes);
    }

    /// Opens a session with a minimum chunk size of 40,000 bytes.
    pub(crate) fn receive_into_new(&self, x: &mut Exchange) {
        let location = {
            let mut content = self.0.lock().unwrap();
            content.opened += 1;
            let location = format!("{}session-{}", x.request.target, content.opened);
            content.uploads.insert(location.clone(), Vec::new());
            location
        };
        x.answer(202, &[("Location", &location), ("OCI-Chunk-Min-Length", "40000")], "");
    }

    /// Returns the number of open sessions.
    pub(crate) fn open_uploads(&self) -> usize {
        self.0.lock().unwrap().uploads.len()
    }

    /// Responds as the specification requires.
    pub(crate) fn serve(&self, x: &mut Exchange) {
        let line = x.line();
        let (method, path) = line.split_once(' ').unwrap();
        let body = x.body();
        let path = path.to_owned();
        let Some(below) = path.strip_prefix("/v2/") else { return x.refuse(404, "NOT_FOUND", "no such page") };
        if below.is_empty() {
            return x.answer(200, &[], "{}");
        }
        if let Some((repository, name)) = below.split_once("/manifests/") {
            return self.manifests(x, method, repository, name, &body);
        }
        if let Some((repository, rest)) = below.split_once("/blobs/uploads/") {
            return match rest {
                "" => self.open(x, repository),
                _ => self.upload(x, method, repository, &path, &body),
            };
        }
        if let Some((repository, digest)) = below.split_once("/blobs/") {
            return self.blobs(x, repository, digest);
        }
        x.refuse(404, "NOT_FOUND", "no such page");
    }

    fn manifests(&self, x: &mut Exchange, method: &str, repository: &str, name: &str, body: &[u8]) {
        let key = format!("{repository} {name}");
        if method == "PUT" {
            let media_type = x.header("content-type").unwrap();
            self.clone().with_manifest(repository, name, &media_type, body);
            let digest = Digest::of(body).to_string();
            return x.answer(201, &[("Docker-Content-Digest", &digest)], "");
        }
        let found = self.0.lock().unwrap().manifests.get(&key).cloned();
        match found {
            Some((media_type, bytes)) => {
                let digest = Digest::of(&bytes).to_string();
                x.answer(200, &[("Content-Type", &media_type), ("Docker-Content-Digest", &digest)], bytes);
            }
            None => x.refuse(404, "MANIFEST_UNKNOWN", "manifest unknown"),
        }
    }

    fn blobs(&self, x: &mut Exchange, repository: &str, digest: &str) {
        let Some(bytes) = self.0.lock().unwrap().blobs.get(&format!("{repository} {digest}")).cloned() else {
            return x.refuse(404, "BLOB_UNKNOWN", "blob unknown to registry");
        };
        let requested = x.header("range").map(|range| {
            let (from, to) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
            (from.parse::<usize>().unwrap(), if to.is_empty() { bytes.len() - 1 } else { to.parse().unwrap() })
        });
        match requested {
            Some((from, _)) if from >= bytes.len() => x.answer(416, &[], ""),
            Some((from, to)) => {
                let range = format!("bytes {from}-{to}/{}", bytes.len());
                x.answer(206, &[("Content-Range", &range)], &bytes[from..=to]);
            }
            None => x.answer(200, &[], bytes),
        }
    }

    fn open(&self, x: &mut Exchange, repository: &str) {
        if let [digest, from] = &[x.parameters("mount"), x.parameters("from")].concat()[..] {
            let mut content = self.0.lock().unwrap();
            if let Some(bytes) = content.blobs.get(&format!("{from} {digest}")).cloned() {
                content.blobs.insert(format!("{repository} {digest}"), bytes);
                drop(content);
                return x.answer(201, &[("Location", "/somewhere")], "");
            }
        }
        let location = {
            let mut content = self.0.lock().unwrap();
            content.opened += 1;
            let location = format!("/v2/{repository}/blobs/uploads/session-{}", content.opened);
            content.uploads.insert(location.clone(), Vec::new());
            location
        };
        x.answer(202, &[("Location", &location), ("Range", "0-0")], "");
    }

    fn upload(&self, x: &mut Exchange, method: &str, repository: &str, path: &str, body: &[u8]) {
        let Some(mut bytes) = self.0.lock().unwrap().uploads.get(path).cloned() else {
            return x.refuse(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry");
        };
        match method {
            "DELETE" => {
                self.0.lock().unwrap().uploads.remove(path);
                x.answer(204, &[], "");
            }
            "GET" => {
                let range = format!("0-{}", bytes.len().saturating_sub(1));
                x.answer(204, &[("Location", path), ("Range", &range)], "");
            }
            "PATCH" => {
                let range = x.header("content-range").unwrap();
                if range != format!("{}-{}", bytes.len(), bytes.len() + body.len() - 1) {
                    return x.refuse(416, "RANGE_INVALID", "out of order");
                }
                bytes.extend_from_slice(body);
                let range = format!("0-{}", bytes.len() - 1);
                self.0.lock().unwrap().uploads.insert(path.to_owned(), bytes);
                x.answer(202, &[("Location", path), ("Range", &range)], "");
            }
            "PUT" => {
                bytes.extend_from_slice(body);
                let digest = Digest::of(&bytes).to_string();
                if x.parameters("digest") != [digest.clone()] {
                    return x.refuse(400, "DIGEST_INVALID", "provided digest did not match uploaded content");
                }
                let mut content = self.0.lock().unwrap();
                content.uploads.remove(path);
                content.blobs.insert(format!("{repository} {digest}"), bytes);
                drop(content);
                x.answer(201, &[("Docker-Content-Digest", &digest)], "");
            }
            _ => x.answer(405, &[], ""),
        }
    }
}
