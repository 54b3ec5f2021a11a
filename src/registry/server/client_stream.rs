//! A connection of a client, plain or with TLS, on which everything has a deadline.

use super::tls::ServerTls;
use rustls::{ServerConnection, StreamOwned};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The most bytes that a client may send behind a request that is refused.
const MOST_IGNORED: usize = 4 << 20;

/// The longest time to read them.
const LINGER: Duration = Duration::from_secs(2);

/// The connection of a client.
pub(super) enum ClientStream {
    Plain(TimedSocket),
    Tls(Box<StreamOwned<ServerConnection, TimedSocket>>),
}

/// A socket on which reading and writing fail after a deadline.
pub(super) struct TimedSocket {
    socket: Arc<TcpStream>,
    deadline: Instant,
}

impl TimedSocket {
    fn left(&self) -> io::Result<Duration> {
        let left = self.deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero());
        left.ok_or_else(|| io::ErrorKind::TimedOut.into())
    }
}

impl Read for TimedSocket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.set_read_timeout(Some(self.left()?))?;
        (&*self.socket).read(buffer)
    }
}

impl Write for TimedSocket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.set_write_timeout(Some(self.left()?))?;
        (&*self.socket).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl ClientStream {
    /// Starts a conversation on `socket`. The handshake of TLS takes place when the first bytes are read.
    pub(super) fn new(socket: Arc<TcpStream>, tls: Option<&ServerTls>) -> io::Result<Self> {
        // Without it, the end of a short response waits for an acknowledgement.
        socket.set_nodelay(true)?;
        let socket = TimedSocket { socket, deadline: Instant::now() };
        let Some(tls) = tls else { return Ok(ClientStream::Plain(socket)) };
        let connection = ServerConnection::new(tls.0.clone()).map_err(io::Error::other)?;
        Ok(ClientStream::Tls(Box::new(StreamOwned::new(connection, socket))))
    }

    /// Sets how long everything may take from now on.
    pub(super) fn allow(&mut self, time: Duration) {
        self.socket().deadline = Instant::now() + time;
    }

    /// Ends the conversation. If the client is still sending, some of that is read: a connection that is closed over unread
    /// bytes takes the response with it.
    pub(super) fn close(mut self) {
        self.allow(LINGER);
        if let ClientStream::Tls(stream) = &mut self {
            stream.conn.send_close_notify();
            stream.flush().ok();
        }
        let socket = self.socket();
        socket.socket.shutdown(Shutdown::Write).ok();
        let (mut ignored, mut left) = ([0; 4096], MOST_IGNORED);
        while left > 0 {
            match socket.read(&mut ignored) {
                Ok(0) | Err(_) => break,
                Ok(read) => left = left.saturating_sub(read),
            }
        }
    }

    fn socket(&mut self) -> &mut TimedSocket {
        match self {
            ClientStream::Plain(socket) => socket,
            ClientStream::Tls(stream) => &mut stream.sock,
        }
    }
}

impl Read for ClientStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            ClientStream::Plain(socket) => socket.read(buffer),
            ClientStream::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for ClientStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            ClientStream::Plain(socket) => socket.write(bytes),
            ClientStream::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            ClientStream::Plain(socket) => socket.flush(),
            ClientStream::Tls(stream) => stream.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread::{Builder, JoinHandle, sleep};

    /// Returns a stream to a client that does `work` every 20 ms, for three seconds or until it fails.
    fn with_client(
        mut work: impl FnMut(&mut TcpStream) -> io::Result<()> + Send + 'static,
    ) -> (ClientStream, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let busy = move || {
            let end = Instant::now() + Duration::from_secs(3);
            while Instant::now() < end && work(&mut client).is_ok() {
                sleep(Duration::from_millis(20));
            }
        };
        let thread = Builder::new().spawn(busy).unwrap();
        (ClientStream::new(Arc::new(listener.accept().unwrap().0), None).unwrap(), thread)
    }

    #[test]
    fn a_deadline_is_for_all_reads_and_writes_together() {
        let (mut sends, one) = with_client(|client| client.write_all(b"x"));
        let started = Instant::now();
        sends.allow(Duration::from_millis(300));
        while sends.read(&mut [0; 10]).is_ok_and(|read| read > 0) {}
        let (mut takes, other) = with_client(|client| client.read_exact(&mut [0; 1000]));
        takes.allow(Duration::from_millis(300));
        assert!(takes.write_all(&vec![0; 64 << 20]).is_err());
        assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
        drop((sends, takes));
        one.join().unwrap();
        other.join().unwrap();
    }
}
