//! Transfers of large blobs over connections that are cut. With `OCIBUILD_LONG_TESTS` the blobs have the size for which
//! resumption is promised.

use super::server::{Exchange, Server};
use super::*;
use crate::support::is_left_out;
use std::sync::atomic::{AtomicU64, Ordering};

/// Returns the size of the blob, in bytes: a gigabyte, or enough for several chunks.
fn size() -> u64 {
    if std::env::var_os("OCIBUILD_LONG_TESTS").is_some() { 1_000_000_000 } else { 150_000_000 }
}

/// The number of cuts in each transfer.
const CUTS: u64 = 3;

/// A blob that is never in memory. It repeats itself, with a period that differs from every chunk size.
struct Content {
    noise: Arc<Vec<u8>>,
    position: u64,
    end: u64,
}

impl Content {
    fn new(end: u64) -> Content {
        Content { noise: Arc::new(noise(1_000_003)), position: 0, end }
    }

    fn at(&self, position: u64) -> Content {
        Content { noise: self.noise.clone(), position, end: self.end }
    }

    fn descriptor(&self) -> Descriptor {
        let mut hashing =
            ocibuild::common::digest::Hashing::new(self.at(0), ocibuild::common::digest::Algorithm::Sha256);
        std::io::copy(&mut hashing, &mut std::io::sink()).unwrap();
        let (digest, size) = hashing.finish().unwrap();
        Descriptor::new(media_type::LAYER_GZIP, digest, size)
    }
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let from = usize::try_from(self.position % self.noise.len() as u64).unwrap();
        let rest = &self.noise[from..];
        let length = rest.len().min(buffer.len()).min(usize::try_from(self.end - self.position).unwrap());
        buffer[..length].copy_from_slice(&rest[..length]);
        self.position += length as u64;
        Ok(length)
    }
}

/// Asserts that less than a fifth of the bytes was transferred in vain.
#[track_caller]
fn assert_thrifty(server: &Server, size: u64) {
    let moved = server.moved();
    assert!(moved >= size && moved < size / 5 * 6, "moved {moved} bytes for {size}");
}

#[test]
fn a_large_blob_is_fetched_over_connections_that_are_cut() {
    if is_left_out() {
        return;
    }
    let content = Content::new(size());
    let descriptor = content.descriptor();
    let server = Server::start({
        let content = content.at(0);
        move |x| {
            if !x.line().contains("/blobs/") {
                return x.answer(200, &[], "");
            }
            let range = x.header("range").map(|range| range["bytes=".len()..range.len() - 1].parse::<u64>().unwrap());
            let (from, size) = (range.unwrap_or(0), content.end);
            let status = match range {
                None => "200 OK".to_owned(),
                Some(from) => format!("206 X\r\nContent-Range: bytes {from}-{}/{size}", size - 1),
            };
            x.raw(format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", size - from).as_bytes());
            let end = if x.nth as u64 > CUTS { size } else { from + size / (CUTS + 1) };
            let (mut rest, mut piece) = (content.at(from).take(end - from), vec![0; 1 << 20]);
            while let Ok(length @ 1..) = rest.read(&mut piece) {
                x.raw(&piece[..length]);
            }
            if end < size {
                x.cut();
            }
        }
    });
    let work = Client::new().open(&server.host());
    let mut verified = Verified::new(work.repository.open(&descriptor).unwrap(), &descriptor);
    assert_eq!(std::io::copy(&mut verified, &mut std::io::sink()).unwrap(), descriptor.size);
    assert_eq!(work.warnings().len() as u64, CUTS);
    assert_thrifty(&server, descriptor.size);
}

/// A registry that keeps only enough to determine whether a blob has arrived.
#[derive(Default)]
struct Receiver {
    hasher: Option<ocibuild::common::digest::Hasher>,
    received: u64,
    cuts: u64,
}

impl Receiver {
    fn receive(&mut self, bytes: &[u8]) {
        self.hasher.get_or_insert_with(ocibuild::common::digest::Hasher::sha256).update(bytes);
        self.received += bytes.len() as u64;
    }

    /// Reads the body of a request; only `part` bytes of it if the connection is to be cut.
    fn take(&mut self, x: &mut Exchange, part: Option<u64>) {
        let bytes = match part {
            Some(part) => x.part_of_body(part),
            None => x.body(),
        };
        self.receive(&bytes);
        self.cuts += u64::from(part.is_some());
    }

    fn serve(&mut self, x: &mut Exchange, size: u64) {
        const SESSION: &str = "/v2/team/robot/blobs/uploads/session";
        let length: u64 = x.header("content-length").map_or(0, |length| length.parse().unwrap());
        match (x.request.method.as_str(), x.line().ends_with("/session")) {
            ("HEAD", _) => x.answer(404, &[], ""),
            ("POST", _) => x.answer(202, &[("Location", SESSION)], ""),
            ("PUT", true) if length > 0 => self.take(x, Some(size / 8)),
            ("PATCH", true) => {
                let is_due = self.cuts < CUTS && self.received > size / 4 * self.cuts;
                self.take(x, is_due.then_some(length / 2));
                if !is_due {
                    let range = format!("0-{}", self.received - 1);
                    x.answer(202, &[("Location", SESSION), ("Range", &range)], "");
                }
            }
            ("GET", true) => {
                let range = format!("0-{}", self.received - 1);
                x.answer(204, &[("Location", SESSION), ("Range", &range)], "");
            }
            ("PUT", true) => {
                let digest = self.hasher.take().unwrap().finish().to_string();
                match x.parameters("digest") == [digest] {
                    true => x.answer(201, &[], ""),
                    false => x.refuse(400, "DIGEST_INVALID", "another digest"),
                }
            }
            _ => x.answer(200, &[], "{}"),
        }
    }
}

#[test]
fn a_large_blob_is_sent_over_connections_that_are_cut() {
    if is_left_out() {
        return;
    }
    let content = Content::new(size());
    let descriptor = content.descriptor();
    let cuts = Arc::new(AtomicU64::new(0));
    let server = Server::start({
        let (receiver, size, cuts) = (Mutex::new(Receiver::default()), descriptor.size, cuts.clone());
        move |x| {
            let mut receiver = receiver.lock().unwrap();
            receiver.serve(x, size);
            cuts.store(receiver.cuts, Ordering::Relaxed);
        }
    });
    let work = Client::new().open(&server.host());
    work.repository.put(&descriptor, &|| Ok(Box::new(content.at(0)))).map_err(|error| work.said(error)).unwrap();
    assert_eq!(cuts.load(Ordering::Relaxed), CUTS);
    assert_thrifty(&server, descriptor.size);
}
