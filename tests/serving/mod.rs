//! `ocibuild serve`: layouts as a registry, through the shipped program.

mod consumers;
mod faults;
mod names;
mod protocol;
mod running;
mod secured;

use crate::consumers::Daemon;
use crate::support::{Finished, Scratch, ocibuild, run};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// A scratch directory with layouts in it.
struct Yard {
    scratch: Scratch,
}

impl Yard {
    fn new() -> Yard {
        let scratch = Scratch::new();
        scratch.write("a/one", "one");
        scratch.write("b/two", "two");
        Yard { scratch }
    }

    fn command(&self, words: &str) -> Command {
        let mut command = ocibuild();
        command.current_dir(self.scratch.path()).args(words.split_whitespace());
        command.env_remove("OCIBUILD_NO_CACHE").env("OCIBUILD_CACHE_DIR", self.scratch.join("cache"));
        command
    }

    fn run(&self, words: &str) -> Finished {
        run(&mut self.command(words))
    }

    /// Runs the program and returns what it prints.
    #[track_caller]
    fn text(&self, words: &str) -> String {
        self.run(words).success().text().to_owned()
    }

    #[track_caller]
    fn json(&self, words: &str) -> Value {
        serde_json::from_str(&self.text(&format!("{words} --format json"))).unwrap()
    }

    /// Serves with the flags `words`, at a free port.
    #[track_caller]
    fn serve(&self, words: &str) -> Served {
        let mut command = self.command(&format!("serve {words} --format json"));
        if !words.contains("--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        Served::start(&mut command, self.scratch.join(format!("serve-{}.log", words.len())))
    }

    fn blob(&self, layout: &str, digest: &str) -> PathBuf {
        self.scratch.join(layout).join("blobs").join(digest.replace(':', "/"))
    }
}

/// A running server.
struct Served {
    daemon: Daemon,
    log: PathBuf,
    address: String,
}

impl Served {
    #[track_caller]
    fn start(command: &mut Command, log: PathBuf) -> Served {
        let mut daemon = Daemon::start(command, log.clone());
        let address = daemon.wait_for(|log| {
            let document: Value = serde_json::from_str(log.lines().find(|line| line.contains("\"serving\""))?).ok()?;
            Some(document["serving"]["address"].as_str()?.to_owned())
        });
        Served { daemon, log, address }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    /// Sends `bytes` on a connection of its own, and returns everything that comes back.
    #[track_caller]
    fn raw(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        let mut response = Vec::new();
        stream.read_to_end(&mut response).unwrap();
        response
    }

    /// Sends a request with these headers, and returns the response.
    #[track_caller]
    fn request(&self, line: &str, headers: &str) -> Response {
        let request = format!("{line} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{headers}\r\n", self.address);
        Response::parse(&self.raw(request.as_bytes()))
    }

    #[track_caller]
    fn get(&self, path: &str) -> Response {
        self.request(&format!("GET {path}"), "")
    }

    /// The lines that the server has printed, of one kind.
    fn lines(&self, kind: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.log).unwrap();
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter_map(|line| line.get(kind).cloned()).collect()
    }

    /// Waits for the next pull after `known` others.
    #[track_caller]
    fn pull(&self, known: usize) -> Value {
        let started = Instant::now();
        loop {
            if let Some(pull) = self.lines("pull").into_iter().nth(known) {
                return pull;
            }
            assert!(started.elapsed() < Duration::from_secs(30), "no pull: {:?}", std::fs::read_to_string(&self.log));
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// A response to one request.
#[derive(Debug, Clone, PartialEq)]
struct Response {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Response {
    #[track_caller]
    fn parse(bytes: &[u8]) -> Response {
        let split = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        let split = split.unwrap_or_else(|| panic!("no response: {:?}", String::from_utf8_lossy(bytes)));
        let head = String::from_utf8(bytes[..split].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Response { status, head, body: bytes[split + 4..].to_vec() }
    }

    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.head))
    }

    /// The code of an error document.
    #[track_caller]
    fn code(&self) -> String {
        self.json()["errors"][0]["code"].as_str().unwrap().to_owned()
    }
}
