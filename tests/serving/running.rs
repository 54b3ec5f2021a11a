//! A server over time: new images, garbage collections, reports, and its end.

use super::{Response, Yard};
use crate::documents::undescribed;
use crate::support::random::Random;
use crate::support::{command, is_left_out, run};
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

#[test]
fn images_that_are_built_meanwhile_are_served() {
    let yard = Yard::new();
    let first = yard.text("layout out --copy a:/a -t team/app:v1");
    let served = yard.serve("out");
    let digest = |tag: &str| {
        served.get(&format!("/v2/team/app/manifests/{tag}")).header("docker-content-digest").map(str::to_owned)
    };
    assert_eq!(digest("v1"), Some(first));
    let second = yard.text("layout out --copy b:/b -t team/app:v1");
    assert_eq!(digest("v1"), Some(second.clone()));
    yard.text("layout out --copy b:/b -t team/new:v1");
    assert_eq!(served.get("/v2/team/new/manifests/v1").status, 200);
    yard.text("rm out:team/new:v1");
    assert_eq!(served.get("/v2/team/new/manifests/v1").status, 404);
    // An index that another program has damaged changes nothing, and is reported once.
    fs::write(yard.scratch.join("out/index.json"), "{").unwrap();
    assert_eq!((digest("v1"), digest("v1")), (Some(second.clone()), Some(second)));
    let warnings = served.lines("warning");
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0]["reason"].as_str().unwrap().ends_with("the images that it listed before are served"));
}

#[test]
fn a_name_that_becomes_ambiguous_is_not_served_until_it_is_clear() {
    let yard = Yard::new();
    yard.text("layout one --copy a:/a -t team/app:v1");
    yard.text("layout two --copy b:/b -t team/app:v2");
    let served = yard.serve("one two");
    yard.text("layout two --copy b:/b -t team/app:v1");
    assert_eq!(served.get("/v2/team/app/manifests/v1").status, 404);
    assert_eq!(served.get("/v2/team/app/manifests/v2").status, 200);
    let warnings = served.lines("warning");
    assert!(warnings[0]["reason"].as_str().unwrap().starts_with("two images have this name: one: "), "{warnings:?}");
    yard.text("rm two:v1");
    assert_eq!(served.get("/v2/team/app/manifests/v1").status, 200);
}

/// A client that has a manifest gets its blobs, although the image is removed and garbage is collected. The collection waits
/// until the pull has ended.
#[test]
fn a_garbage_collection_waits_for_pulls() {
    if is_left_out() {
        return;
    }
    let yard = Yard::new();
    yard.text("layout out --copy a:/a -t team/app:v1");
    let served = yard.serve("out");
    assert_eq!(served.get("/v2/team/app/manifests/v1").status, 200);
    let layer = yard.json("inspect out")["layers"][0]["digest"].as_str().unwrap().to_owned();
    yard.text("rm out:v1");
    let locked = yard.run("gc out --older-than 0s --lock-timeout 0").ended_with(1);
    locked.failed_saying("another process is writing to it");
    let mut gc = yard.command("gc out --older-than 0s").stdout(std::process::Stdio::null()).spawn().unwrap();
    yard.text("layout other --copy a:/a");
    // The repository has no tag any more, but its blobs are there while the pull lasts.
    yard.text("layout out --copy b:/b -t team/app:v2");
    assert_eq!(served.get(&format!("/v2/team/app/blobs/{layer}")).status, 200);
    let pull = served.pull(0);
    assert_eq!((pull["manifests"].clone(), pull["blobs"].clone()), (json!(1), json!(1)));
    assert!(gc.wait().unwrap().success());
    assert_eq!(served.get(&format!("/v2/team/app/blobs/{layer}")).status, 404);
}

#[test]
fn a_cache_that_cannot_be_used_is_a_warning() {
    let yard = Yard::new();
    yard.text("layout out --copy a:/a -t team/app:v1 --no-cache");
    fs::create_dir(yard.scratch.join("open")).unwrap();
    run(command("chmod").arg("777").arg(yard.scratch.join("open"))).success();
    let served = yard.serve("out --cache-dir open");
    let warnings = served.lines("warning");
    assert!(warnings[0]["reason"].as_str().unwrap().ends_with("; the cache is not used"), "{warnings:?}");
    assert_eq!(served.get("/v2/team/app/manifests/v1").status, 200);
}

#[test]
fn each_pull_is_a_line() {
    if is_left_out() {
        return;
    }
    let yard = Yard::new();
    yard.text("layout out --copy a:/a -t team/app:v1");
    let served = yard.serve("out");
    let copy = format!("export docker://{}/team/app:v1 oci:copy", served.address);
    yard.run(&copy).success();
    let pull = served.pull(0);
    let members = |key: &str| pull[key].clone();
    assert_eq!((members("repository"), members("client")), (json!("team/app"), json!("127.0.0.1")));
    assert_eq!((members("broken"), members("user")), (json!(0), Value::Null));
    assert!(members("names").as_array().unwrap().contains(&json!("v1")), "{pull}");
    assert!(members("agent").as_str().unwrap().starts_with("ocibuild/"), "{pull}");
    let size = |digest: &str| fs::metadata(yard.blob("out", digest)).unwrap().len();
    let image = crate::consumers::Layout::new(yard.scratch.join("out"), "v1");
    // The config may be fetched more than once, the layer is not.
    let configs = size(&image.config_digest()) * (members("blobs").as_u64().unwrap() - 1);
    let blobs = configs + size(image.layers()[0]["digest"].as_str().unwrap());
    let manifests = size(&image.manifest_digest()) * members("manifests").as_u64().unwrap();
    assert_eq!(members("bytes"), json!(blobs + manifests), "{pull}");
    served.request("GET /v2/team/app/manifests/v9", "User-Agent: x\u{1b}[31m/1 y\r\n");
    let refused = served.request("GET /v2/team/app/manifests/v9", "User-Agent: probe/1 more\r\n");
    assert_eq!(refused.status, 404);
    for (kind, document) in
        [("serving", served.lines("serving")), ("pull", vec![pull]), ("refused", served.lines("refused"))]
    {
        assert_eq!(undescribed("serve", &json!({ kind: document })), [""; 0], "{document:?}");
    }
    let last = served.lines("refused").pop().unwrap();
    assert_eq!((last["agent"].clone(), last["status"].clone()), (json!("probe/1"), json!(404)));
}

/// What a client says about itself cannot move the cursor of a terminal or forge a line.
#[test]
fn lines_are_text() {
    if is_left_out() {
        return;
    }
    let yard = Yard::new();
    yard.text("layout out --copy a:/a -t team/app:v1");
    let mut command = yard.command("serve out --listen 127.0.0.1:0");
    let log = yard.scratch.join("text.log");
    let mut daemon = crate::consumers::Daemon::start(&mut command, log.clone());
    let address = daemon.wait_for(|log| log.lines().find(|line| line.starts_with("127.0.0.1:")).map(str::to_owned));
    let mut stream = std::net::TcpStream::connect(&address).unwrap();
    stream.write_all(b"GET /v2/team/app/manifests/v9 HTTP/1.0\r\nUser-Agent: a\xc2\x9b31mb\r\n\r\n").unwrap();
    stream.read_to_end(&mut Vec::new()).unwrap();
    let mut stream = std::net::TcpStream::connect(&address).unwrap();
    stream.write_all(b"GET /v2/team/app/manifests/v1 HTTP/1.0\r\nUser-Agent: probe/1\r\n\r\n").unwrap();
    stream.read_to_end(&mut Vec::new()).unwrap();
    assert_eq!(daemon.end_by("INT"), Some(0));
    let text = fs::read_to_string(log).unwrap();
    assert!(text.contains(&format!("serving {address}/team/app:v1\n")), "{text}");
    assert!(text.contains(": GET /v2/team/app/manifests/v9: 404: `team/app` has no `v9`\n"), "{text}");
    assert!(text.contains("team/app:v1: pulled by 127.0.0.1 (probe/1): 0 blobs, "), "{text}");
    assert!(text.ends_with("stopped\n") && !text.contains(['\u{1b}', '\u{9b}']), "{text}");
}

#[test]
fn a_signal_ends_the_server_after_the_transfers() {
    if is_left_out() {
        return;
    }
    let yard = Yard::new();
    yard.scratch.write("a/large", Random::new(1).bytes(32 << 20));
    yard.text("layout out --copy a:/a -t team/app:v1");
    let layer = yard.json("inspect out")["layers"][0]["digest"].as_str().unwrap().to_owned();
    for signal in ["TERM", "INT"] {
        let mut served = yard.serve("out");
        // One connection waits, one has half a request, and one is in the middle of a transfer.
        let mut waiting = served.connect();
        waiting.write_all(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        waiting.read_exact(&mut [0; 20]).unwrap();
        let mut half = served.connect();
        half.write_all(b"GET /v2/ HT").unwrap();
        let mut transfer = served.connect();
        write!(transfer, "GET /v2/team/app/blobs/{layer} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut bytes = vec![0; 1 << 20];
        transfer.read_exact(&mut bytes).unwrap();
        let started = Instant::now();
        let rest = std::thread::Builder::new().spawn(move || transfer.read_to_end(&mut bytes).map(|_| bytes)).unwrap();
        assert_eq!(served.daemon.end_by(signal), Some(0));
        assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
        let response = Response::parse(&rest.join().unwrap().unwrap());
        let size = fs::metadata(yard.blob("out", &layer)).unwrap().len();
        assert_eq!(response.body.len() as u64, size, "the transfer was finished");
        assert!(std::net::TcpStream::connect(&served.address).is_err());
    }
}

#[test]
fn transfers_that_do_not_end_are_cut_at_the_end_of_the_server() {
    if is_left_out() {
        return;
    }
    let yard = Yard::new();
    yard.scratch.write("a/large", Random::new(1).bytes(64 << 20));
    yard.text("layout out --copy a:/a -t team/app:v1 --compression none");
    let layer = yard.json("inspect out")["layers"][0]["digest"].as_str().unwrap().to_owned();
    let mut served = yard.serve("out");
    let mut stuck = served.connect();
    write!(stuck, "GET /v2/team/app/blobs/{layer} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    stuck.read_exact(&mut [0; 1000]).unwrap();
    let started = Instant::now();
    assert_eq!(served.daemon.end_by("TERM"), Some(0));
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    let pull = served.pull(0);
    assert_eq!((pull["blobs"].clone(), pull["broken"].clone()), (json!(1), json!(1)));
}
