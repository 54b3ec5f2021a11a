//! A read-only registry over image layouts: the pull half of the distribution specification.
//!
//! ```text
//!   RegistryServer     accepts connections, a thread for each, and stops them
//!     conversation     requests and responses of one connection, within limits of size and time
//!     respond          the meaning of each request
//!     served_images    repositories and tags, from the indexes of the layouts
//!     served_blob      blobs and ranges, verified on their way
//!     pulls            which requests belong together, for reports and against garbage collections
//! ```
//!
//! Nothing in a layout is changed. `docs/design/serving.md` has the decisions.

mod byte_range;
mod client_stream;
mod connections;
mod conversation;
mod passwords;
mod pulls;
mod refusal;
mod respond;
mod served_blob;
mod served_images;
mod slots;
mod target;
mod tls;

pub use passwords::Passwords;
pub use pulls::{Pull, RegistryClient};
pub use tls::ServerTls;

use super::PlainHttp;
use crate::common::digest::Digest;
use crate::common::error::{Error, Result};
use crate::spec::reference::Reference;
use crate::store::{Layout, VerifiedFiles};
use client_stream::ClientStream;
use connections::Connections;
use respond::Responder;
use served_blob::{HashedFiles, ServedBlob, is_damage};
use served_images::{ONE_IMAGE, ServedImages};
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::Builder;
use std::time::{Duration, Instant, SystemTime};

/// The most connections at a time. Others wait until one ends.
const MOST_CONNECTIONS: usize = 256;

/// The stack of a connection's thread, in bytes.
const STACK: usize = 512 << 10;

/// The time that running transfers have when the server stops.
const GRACE: Duration = Duration::from_secs(5);

/// The time between two looks at the pulls.
const TICK: Duration = Duration::from_millis(250);

/// The pause after a connection that the system could not accept, such as for a lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Settings of a server.
#[derive(Debug, Default)]
pub struct ServerOptions {
    /// The certificate; `None` for plain HTTP.
    pub tls: Option<ServerTls>,
    /// The addresses on which plain HTTP is allowed.
    pub plain_http: PlainHttp,
    /// The users; `None` if everyone may pull.
    pub passwords: Option<Passwords>,
    /// The store of base images, which has layers of sparse images.
    pub bases: Option<Layout>,
    /// The record of verified blobs.
    pub verified: Option<VerifiedFiles>,
}

/// An event of a server.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum ServerEvent<'a> {
    /// A client has pulled an image, or a part of one.
    Pulled(&'a Pull),
    /// A request was refused.
    Refused {
        /// The client.
        client: &'a RegistryClient,
        /// The method and the path.
        request: &'a str,
        /// The status of the response.
        status: u16,
        /// The reason, as in the response.
        reason: &'a str,
    },
    /// A possible problem, such as a damaged blob.
    Warning {
        /// The object of the warning.
        object: &'a str,
        /// The reason for the warning.
        reason: &'a str,
    },
}

/// A receiver of events, which many threads call.
pub type ServerReport = dyn Fn(ServerEvent<'_>) + Send + Sync;

/// A registry that listens.
pub struct RegistryServer {
    listener: TcpListener,
    address: SocketAddr,
    shared: Arc<ServerState>,
}

/// Ends a server.
#[derive(Clone)]
pub struct ServerStop {
    address: SocketAddr,
    shared: Arc<ServerState>,
}

/// What the threads of a server share.
struct ServerState {
    responder: Responder,
    connections: Connections,
    tls: Option<ServerTls>,
    passwords: Option<Passwords>,
    report: Box<ServerReport>,
    has_stopped: (Mutex<bool>, Condvar),
}

impl RegistryServer {
    /// Listens at `address` and reads the indexes of `layouts`. With port 0, the system chooses a free port.
    ///
    /// # Errors
    /// Fails if the address is in use or may not be used without TLS, an index cannot be read, an image has no name that can be
    /// served, or two images claim one name.
    pub fn bind(
        address: SocketAddr,
        layouts: Vec<Layout>,
        mut options: ServerOptions,
        report: Box<ServerReport>,
    ) -> Result<RegistryServer> {
        let images = ServedImages::new(layouts, options.bases.take(), SystemTime::now())?;
        RegistryServer::listen(address, images, options, report)
    }

    /// Listens on a free port of this machine alone, and serves the manifest and the blobs with the given `digests` in one repository.
    /// Returns its name, with the address in front.
    ///
    /// # Errors
    /// Fails if there is no free port, or the layout cannot be read.
    pub(super) fn bind_image(
        layout: Layout,
        digests: &BTreeSet<Digest>,
        options: ServerOptions,
        report: Box<ServerReport>,
    ) -> Result<(RegistryServer, String)> {
        let images = ServedImages::of_blobs(layout, digests.clone());
        let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
        let server = RegistryServer::listen(address, images, options, report)?;
        let repository = format!("{}/{ONE_IMAGE}", server.address);
        Ok((server, repository))
    }

    fn listen(
        address: SocketAddr,
        images: ServedImages,
        options: ServerOptions,
        report: Box<ServerReport>,
    ) -> Result<RegistryServer> {
        let may_be_plain = match options.plain_http {
            PlainHttp::Never => false,
            PlainHttp::Loopback => address.ip().to_canonical().is_loopback(),
            PlainHttp::Allowed => true,
        };
        if options.tls.is_none() && !may_be_plain {
            return Err(Error::usage(address.to_string(), "other machines can reach this address, so it needs TLS"));
        }
        let listening = TcpListener::bind(address).and_then(|listener| Ok((listener.local_addr()?, listener)));
        let (address, listener) = listening.map_err(|error| Error::io(address, "listen", error))?;
        let shared = ServerState {
            responder: Responder::new(images, HashedFiles::new(options.verified)),
            connections: Connections::new(MOST_CONNECTIONS),
            tls: options.tls,
            passwords: options.passwords,
            report,
            has_stopped: (Mutex::new(false), Condvar::new()),
        };
        Ok(RegistryServer { listener, address, shared: Arc::new(shared) })
    }

    /// Returns the address, with the port that was chosen.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the images with tags, as `REPOSITORY:TAG`, sorted.
    pub fn images(&self) -> Vec<String> {
        let repositories = self.shared.responder.images.refresh(SystemTime::now()).repositories;
        let tagged = |name: &str| repositories.tags(name).map(|tag| format!("{name}:{tag}")).collect::<Vec<_>>();
        repositories.names().flat_map(tagged).collect()
    }

    /// Returns the layers of sparse images that cannot be served, with the repositories that have them.
    ///
    /// # Errors
    /// Fails if the file system cannot be read.
    pub fn missing_layers(&self) -> Result<Vec<(Digest, Reference)>> {
        let images = &self.shared.responder.images;
        images.missing_layers(&images.refresh(SystemTime::now()).repositories)
    }

    /// Returns the means to end the server from another thread.
    pub fn stop(&self) -> ServerStop {
        ServerStop { address: self.address, shared: self.shared.clone() }
    }

    /// Serves until it is stopped.
    ///
    /// # Errors
    /// Fails if no thread can be started.
    pub fn run(self) -> Result<()> {
        let shared = self.shared.clone();
        let cannot_start = |error| Error::io("threads", "start", error);
        Builder::new().stack_size(STACK).spawn(move || shared.report_pulls()).map_err(cannot_start)?;
        loop {
            self.shared.connections.wait_for_place();
            let accepted = self.listener.accept();
            if self.shared.connections.is_stopping() {
                self.shared.connections.give_back();
                break;
            }
            match accepted {
                Ok((socket, peer)) => self.start(socket, peer.ip().to_canonical()),
                Err(error) => {
                    self.shared.connections.give_back();
                    self.shared.warn_of_lost_connection(&error);
                }
            }
        }
        self.shared.connections.wait_for_end(Instant::now() + GRACE + Duration::from_secs(1));
        self.shared.responder.pulls.end_all().iter().for_each(|pull| (self.shared.report)(ServerEvent::Pulled(pull)));
        Ok(())
    }

    fn start(&self, socket: TcpStream, client: IpAddr) {
        let shared = self.shared.clone();
        let socket = Arc::new(socket);
        let work = move || shared.serve(socket, client);
        if let Err(error) = Builder::new().stack_size(STACK).spawn(work) {
            self.shared.connections.give_back();
            self.shared.warn_of_lost_connection(&error);
        }
    }
}

impl ServerStop {
    /// Ends the server: connections without a request at once, and others within five seconds.
    pub fn stop(&self) {
        self.shared.connections.begin_stop();
        // The thread that waits for a connection gets one, and sees that the server stops.
        TcpStream::connect_timeout(&reachable(self.address), Duration::from_secs(1)).ok();
        self.shared.connections.finish_stop(Instant::now() + GRACE);
        let (has_stopped, condition) = &self.shared.has_stopped;
        *has_stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        condition.notify_all();
    }
}

impl ServerState {
    /// Serves one connection, whose place was waited for.
    fn serve(&self, socket: Arc<TcpStream>, client: IpAddr) {
        let Some(connection) = self.connections.add(socket.clone()) else {
            self.connections.give_back();
            return;
        };
        let converse = || {
            if let Ok(stream) = ClientStream::new(socket, self.tls.as_ref()) {
                conversation::converse(stream, client, self, &connection);
            }
        };
        if catch_unwind(AssertUnwindSafe(converse)).is_err() {
            let reason = "internal error in a connection; please report it";
            (self.report)(ServerEvent::Warning { object: &client.to_string(), reason });
        }
    }

    fn send_blob(&self, blob: ServedBlob, write: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let result = self.responder.files.send(blob, write);
        if let Err(error) = &result
            && is_damage(error)
        {
            (self.report)(ServerEvent::Warning { object: "layout", reason: &error.to_string() });
        }
        result
    }

    fn report_pulls(&self) {
        let (has_stopped, condition) = &self.has_stopped;
        let mut stopped = has_stopped.lock().unwrap_or_else(PoisonError::into_inner);
        while !*stopped {
            stopped = condition.wait_timeout(stopped, TICK).unwrap_or_else(PoisonError::into_inner).0;
            let ended = self.responder.pulls.end_quiet(Instant::now());
            ended.iter().for_each(|pull| (self.report)(ServerEvent::Pulled(pull)));
        }
    }

    fn warn_of_lost_connection(&self, error: &io::Error) {
        let reason = format!("cannot accept a connection: {error}");
        (self.report)(ServerEvent::Warning { object: "server", reason: &reason });
        std::thread::sleep(ACCEPT_PAUSE);
    }
}

/// Returns an address at which this machine reaches a server that listens at `address`.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

impl fmt::Debug for RegistryServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryServer").field("address", &self.address).finish_non_exhaustive()
    }
}

impl fmt::Debug for ServerStop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerStop").field("address", &self.address).finish_non_exhaustive()
    }
}
