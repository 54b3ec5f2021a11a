//! Clients that are slow, wrong or many, and layouts that are damaged.

use super::{Response, Yard};
use crate::support::is_left_out;
use crate::support::random::Random;
use std::fs;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Splits what came back on one connection into responses to requests other than HEAD.
fn responses(mut bytes: &[u8]) -> Vec<Response> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let mut response = Response::parse(bytes);
        let length: usize = response.header("content-length").unwrap().parse().unwrap();
        let head = response.head.len() + 4;
        response.body.truncate(length);
        assert_eq!(response.body.len(), length);
        bytes = &bytes[head + length..];
        found.push(response);
    }
    found
}

#[test]
fn requests_may_follow_each_other_on_a_connection() {
    let yard = Yard::new();
    yard.text("layout out --copy a:/a -t team/app:v1");
    let served = yard.serve("out");
    let request = |path: &str, headers: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
    let tags = request("/v2/team/app/tags/list", "");
    let pipelined = [
        tags.clone(),
        request("/v2/team/app/manifests/v9", ""),
        // A body is ignored, whichever way its end is given.
        request("/v2/team/app/tags/list", "Content-Length: 5\r\n") + "GET /",
        request("/v2/team/app/tags/list", "Transfer-Encoding: chunked\r\n") + "5\r\nGET /\r\n0\r\n\r\n",
        // Empty lines before a request are ignored.
        format!("\r\n{tags}"),
        request("/v2/", "Connection: close\r\n"),
        tags.clone(),
    ];
    let statuses: Vec<u16> =
        responses(&served.raw(pipelined.concat().as_bytes())).iter().map(|response| response.status).collect();
    assert_eq!(statuses, [200, 404, 200, 200, 200, 200], "nothing follows on a close");
    // A byte at a time.
    let mut stream = served.connect();
    for byte in request("/v2/", "Connection: close\r\n").bytes() {
        stream.write_all(&[byte]).unwrap();
    }
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    assert_eq!(responses(&bytes)[0].status, 200);
}

#[test]
fn http_1_0_ends_unless_it_is_kept() {
    let yard = Yard::new();
    yard.text("layout out --copy a:/a -t team/app:v1");
    let served = yard.serve("out");
    let once = "GET /v2/ HTTP/1.0\r\n\r\n";
    assert_eq!(responses(&served.raw(format!("{once}{once}").as_bytes())).len(), 1);
    let kept = "GET /v2/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    let got = responses(&served.raw(format!("{kept}{once}").as_bytes()));
    assert_eq!((got.len(), got[0].header("connection")), (2, Some("keep-alive")));
}

#[test]
fn odd_requests_get_an_answer_and_change_nothing() {
    let yard = Yard::new();
    yard.text("layout out --copy a:/a -t team/app:v1");
    yard.scratch.write("secret", "outside");
    let served = yard.serve("out");
    let close = "Host: x\r\nConnection: close\r\n\r\n";
    for (request, status) in [
        (format!("GET http://other.example/v2/team/app/tags/list HTTP/1.1\r\n{close}"), 200),
        (format!("GET /v2/team%2Fapp/tags/list HTTP/1.1\r\n{close}"), 200),
        (format!("GET /v2/../secret HTTP/1.1\r\n{close}"), 404),
        (format!("GET /v2/../../secret/manifests/v1 HTTP/1.1\r\n{close}"), 400),
        (format!("GET /v2/%2e%2e/%2e%2e/secret/blobs/..%2f..%2fsecret HTTP/1.1\r\n{close}"), 400),
        (format!("GET /v2/team/app/blobs/sha256:..%2f..%2f..%2fsecret HTTP/1.1\r\n{close}"), 400),
        (format!("GET * HTTP/1.1\r\n{close}"), 404),
        (format!("OPTIONS * HTTP/1.1\r\n{close}"), 405),
        (format!("CONNECT other.example:443 HTTP/1.1\r\n{close}"), 405),
        (format!("GET /v2/ HTTP/2.0\r\n{close}"), 400),
        ("GET /v2/ HTTP/1.1\r\nConnection: close\r\n\r\n".to_owned(), 400),
        (format!("GET /v2/\u{1}x HTTP/1.1\r\n{close}"), 400),
        (format!("GET /v2/ HTTP/1.1\r\nno colon\r\n{close}"), 400),
        (format!("GET /v2/ HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n{close}"), 400),
        (format!("GET /v2/ HTTP/1.1\r\nContent-Length: -1\r\n{close}"), 400),
        (format!("GET /v2/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n{close}"), 400),
        (format!("GET /v2/ HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n{close}"), 400),
        (format!("GET /v2/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n{close}zz\r\n"), 400),
        (format!("GET /v2/ HTTP/1.1\r\nContent-Length: 99999999999\r\n{close}{}", "x".repeat(100_000)), 413),
        (format!("GET /v2/ HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n{close}"), 417),
        (format!("GET /v2/ HTTP/1.1\r\nExpect: 100-continue\r\n{close}"), 200),
        (format!("GET /v2/ HTTP/1.1\r\nX: {}\r\n{close}", "x".repeat(1 << 20)), 431),
        (format!("GET /v2/{} HTTP/1.1\r\n{close}", "x".repeat(1 << 20)), 431),
        (format!("GET /v2/ HTTP/1.1\r\n{}{close}", "X: y\r\n".repeat(500)), 431),
        ("\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}".to_owned(), 400),
        ("nonsense\r\n\r\n".to_owned(), 400),
    ] {
        let mut stream = served.connect();
        // The server may refuse before it has read all.
        stream.write_all(request.as_bytes()).ok();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).ok();
        let shown: String = request.chars().take(80).collect();
        let got = if bytes.is_empty() { 0 } else { Response::parse(&bytes).status };
        assert_eq!(got, status, "{shown:?}");
        assert!(!String::from_utf8_lossy(&bytes).contains("outside"));
    }
    assert_eq!(served.get("/v2/team/app/manifests/v1").status, 200);
    assert!(served.lines("warning").is_empty());
}

/// Whatever bytes come, the server answers the next client.
#[test]
fn random_bytes_and_broken_requests_end_only_their_connection() {
    let yard = Yard::new();
    let digest = yard.text("layout out --copy a:/a -t team/app:v1");
    let served = yard.serve("out");
    let mut random = Random::new(7);
    let good = format!(
        "GET /v2/team/app/blobs/{digest}?n=1 HTTP/1.1\r\nHost: x\r\nRange: bytes=0-5\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    for _ in 0..300 {
        let mut bytes = good.clone().into_bytes();
        for _ in 0..=random.below(4) {
            let at = random.below(bytes.len());
            match random.below(3) {
                0 => bytes[at] = random.number() as u8,
                1 => bytes.truncate(at.max(1)),
                _ => bytes.extend(random.bytes(20)),
            }
        }
        let mut stream = served.connect();
        stream.write_all(&bytes).ok();
        stream.shutdown(std::net::Shutdown::Write).ok();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok();
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 "), "{bytes:?}: {answer:?}");
    }
    assert_eq!(served.get("/v2/team/app/manifests/v1").status, 200);
    assert!(served.lines("warning").is_empty(), "{:?}", served.lines("warning"));
}

/// Clients that send a byte now and then, or nothing, do not keep others out, and are ended in time.
#[test]
fn slow_clients_are_ended() {
    if is_left_out() {
        return;
    }
    let yard = Yard::new();
    yard.text("layout out --copy a:/a -t team/app:v1");
    let served = yard.serve("out");
    let mut slow: Vec<_> = (0..100).map(|_| served.connect()).collect();
    let started = Instant::now();
    for stream in slow.iter_mut().take(50) {
        stream.write_all(b"GET /v2/ HTTP/1.1\r\nX: ").unwrap();
    }
    for _ in 0..5 {
        std::thread::sleep(Duration::from_millis(200));
        slow.iter_mut().take(50).for_each(|stream| stream.write_all(b"x").unwrap());
    }
    // One goes on: a byte now and then does not give it more time.
    let mut answer = [0; 12];
    slow[0].set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    while started.elapsed() < Duration::from_secs(20) && slow[0].read_exact(&mut answer).is_err() {
        slow[0].write_all(b"x").ok();
    }
    assert_eq!(&answer, b"HTTP/1.1 408");
    slow.remove(0);
    assert_eq!(served.get("/v2/").status, 200);
    for (number, stream) in slow.iter_mut().enumerate() {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        match number < 49 {
            true => assert_eq!(Response::parse(&bytes).status, 408),
            false => assert!(bytes.is_empty()),
        }
    }
    assert!(started.elapsed() < Duration::from_secs(40), "{:?}", started.elapsed());
}

/// A transfer of which the client takes nothing ends, and its place is free again.
#[test]
fn a_client_that_takes_nothing_is_ended() {
    if is_left_out() {
        return;
    }
    let yard = Yard::new();
    yard.scratch.write("a/large", Random::new(1).bytes(64 << 20));
    yard.text("layout out --copy a:/a -t team/app:v1 --compression none");
    let layer = yard.json("inspect out")["layers"][0]["digest"].as_str().unwrap().to_owned();
    let served = yard.serve("out");
    let mut stuck = served.connect();
    write!(stuck, "GET /v2/team/app/blobs/{layer} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    stuck.read_exact(&mut [0; 1000]).unwrap();
    std::thread::sleep(Duration::from_secs(20));
    assert!(served.lines("pull").is_empty(), "it has some time");
    let pull = served.pull(0);
    assert_eq!((pull["blobs"].clone(), pull["broken"].clone()), (1.into(), 1.into()));
}

/// The memory of a process, in KiB.
fn memory(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn two_hundred_clients_pull_at_once() {
    if is_left_out() {
        return;
    }
    let yard = Yard::new();
    yard.scratch.write("a/large", Random::new(1).bytes(4 << 20));
    yard.text("layout out --copy a:/a -t team/app:v1");
    let layer = yard.json("inspect out")["layers"][0]["digest"].as_str().unwrap().to_owned();
    let content = fs::read(yard.blob("out", &layer)).unwrap();
    let served = yard.serve("out");
    let connected: Vec<_> = (0..200).map(|_| served.connect()).collect();
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    ocibuild::common::threads::together(200, || {
        let mut stream = &connected[next.fetch_add(1, Ordering::SeqCst)];
        for _ in 0..2 {
            stream.write_all(b"GET /v2/team/app/manifests/v1 HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            let length = Response::parse(&head).header("content-length").unwrap().parse().unwrap();
            stream.read_exact(&mut vec![0; length]).unwrap();
        }
        write!(stream, "GET /v2/team/app/blobs/{layer} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        assert!(Response::parse(&bytes).body == content);
        done.fetch_add(1, Ordering::SeqCst);
    });
    assert_eq!(done.into_inner(), 200);
    let memory = memory(served.daemon.id());
    assert!(memory < 200 << 10, "{memory} KiB");
    assert_eq!(served.pull(0)["blobs"], 200);
}

/// More connections than the server has: those that wait are served when others end.
#[test]
fn connections_beyond_the_limit_wait() {
    if is_left_out() {
        return;
    }
    let yard = Yard::new();
    yard.text("layout out --copy a:/a -t team/app:v1");
    let served = yard.serve("out");
    let idle: Vec<_> = (0..256).map(|_| served.connect()).collect();
    let mut late = served.connect();
    late.write_all(b"GET /v2/ HTTP/1.0\r\n\r\n").unwrap();
    late.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(late.read(&mut [0; 10]).is_err(), "all places are taken");
    drop(idle);
    late.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut bytes = Vec::new();
    late.read_to_end(&mut bytes).unwrap();
    assert_eq!(Response::parse(&bytes).status, 200);
}

#[test]
fn a_damaged_blob_is_never_served_to_its_end() {
    let yard = Yard::new();
    yard.scratch.write("a/large", Random::new(1).bytes(5 << 20));
    yard.text("layout out --copy a:/a -t team/app:v1");
    let layer = yard.json("inspect out")["layers"][0]["digest"].as_str().unwrap().to_owned();
    let path = yard.blob("out", &layer);
    let mut content = fs::read(&path).unwrap();
    let last = content.len() - 1;
    content[last] ^= 1;
    fs::remove_file(&path).unwrap();
    fs::write(&path, &content).unwrap();
    let served = yard.serve("out");
    let url = format!("/v2/team/app/blobs/{layer}");
    let ranged = || served.request(&format!("GET {url}"), "Range: bytes=0-9\r\n");
    let cut = served.get(&url);
    assert_eq!(cut.status, 200);
    assert!(cut.body.len() < content.len(), "{} of {}", cut.body.len(), content.len());
    let refused = served.get(&url);
    assert_eq!((refused.status, refused.code().as_str()), (404, "BLOB_UNKNOWN"));
    assert_eq!(ranged().status, 404);
    let warnings = served.lines("warning");
    assert!(warnings[0].to_string().contains("its content has the digest"), "{warnings:?}");
    drop(served);
    // A range of a blob that nobody has read yet is no less sure.
    let served = yard.serve("out");
    assert_eq!(served.request(&format!("GET {url}"), "Range: bytes=0-9\r\n").status, 404);
    // It is served again once it is repaired.
    content[last] ^= 1;
    fs::write(&path, &content).unwrap();
    assert_eq!(served.get(&url).body, content);
    let manifest = yard.json("inspect out")["manifest"]["digest"].as_str().unwrap().to_owned();
    let path = yard.blob("out", &manifest);
    let damaged = fs::read_to_string(&path).unwrap().replace("schemaVersion\":2", "schemaVersion\":3");
    fs::write(&path, damaged).unwrap();
    assert_eq!(served.get("/v2/team/app/manifests/v1").status, 404);
    assert_eq!(served.get("/v2/").status, 200);
}

#[test]
fn transfers_that_clients_abort_are_counted_and_harm_nobody() {
    if is_left_out() {
        return;
    }
    let yard = Yard::new();
    yard.scratch.write("a/large", Random::new(1).bytes(32 << 20));
    yard.text("layout out --copy a:/a -t team/app:v1");
    let layer = yard.json("inspect out")["layers"][0]["digest"].as_str().unwrap().to_owned();
    let content = fs::read(yard.blob("out", &layer)).unwrap();
    let served = yard.serve("out");
    for first in [0, 1_000_000] {
        let mut stream = served.connect();
        let range = format!("Range: bytes={first}-\r\n");
        write!(stream, "GET /v2/team/app/blobs/{layer} HTTP/1.1\r\nHost: x\r\n{range}\r\n").unwrap();
        stream.read_exact(&mut [0; 100_000]).unwrap();
    }
    let resumed = served.request(&format!("GET /v2/team/app/blobs/{layer}"), "Range: bytes=99000-\r\n");
    assert!(resumed.body == content[99_000..]);
    let pull = served.pull(0);
    assert_eq!((pull["blobs"].as_u64(), pull["broken"].as_u64()), (Some(3), Some(2)), "{pull}");
}

#[test]
fn layers_of_sparse_images_come_from_the_store_of_bases_or_are_refused() {
    let Some(registry) = crate::consumers::Registry::plain() else { return };
    let yard = Yard::new();
    let base = format!("{}/team/base:v1", registry.address());
    yard.text("layout base --copy a:/base");
    yard.run(&format!("export base docker://{base}")).success();
    yard.text(&format!("layout out --base {base} --sparse --copy b:/b -t team/app:v1"));
    let image = crate::consumers::Layout::new(yard.scratch.join("out"), "v1");
    let layer = image.layers()[0]["digest"].as_str().unwrap().to_owned();
    let url = format!("/v2/team/app/blobs/{layer}");
    let served = yard.serve("out --cache-dir empty");
    let got = served.get(&url);
    let reason = got.json()["errors"][0]["message"].as_str().unwrap().to_owned();
    assert_eq!(got.status, 404);
    assert_eq!(reason, format!("the layer {layer} of a sparse image is in {}/team/base, not here", registry.address()));
    assert!(served.lines("warning")[0]["reason"].as_str().unwrap().contains("cannot be pulled from here"));
    yard.run(&format!("pull {base}")).success();
    let served = yard.serve("out");
    assert_eq!(served.get(&url).status, 200);
    assert!(served.lines("warning").is_empty());
    // Other blobs of that store are not served.
    let manifest = yard.json(&format!("inspect {base}"))["manifest"]["digest"].as_str().unwrap().to_owned();
    assert_eq!(served.get(&format!("/v2/team/app/blobs/{manifest}")).status, 404);
}
