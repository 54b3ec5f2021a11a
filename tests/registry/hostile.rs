//! Registries that answer without end: whatever the program asks them, it takes little memory, little time on the processors, and
//! little of what they send.

use super::*;
use crate::catalogue::contract::{Bench, is_cheap};
use crate::support::{Finished, is_left_out, run};
use serde_json::json;

/// The most that a server sends before it gives up, and the most that may have been taken of it, in bytes.
const ENOUGH: u64 = 16 << 30;
const MOST_TAKEN: u64 = 256 << 20;

/// An answer of a registry.
type Answer = fn(&mut Exchange);

/// Sends `head`, and then `piece` again and again, until the program has heard enough.
fn without_end(x: &mut Exchange, head: &str, piece: &str) {
    x.body();
    x.raw(head.as_bytes());
    let pieces = piece.repeat((64 << 10) / piece.len());
    let mut sent = 0;
    while sent < ENOUGH && !x.is_cut() {
        x.raw(pieces.as_bytes());
        sent += pieces.len() as u64;
    }
    x.cut();
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.oci.image.manifest.v1+json\r\n";

/// What may be sent instead of any answer.
const ANSWERS: [(&str, Answer); 12] = [
    ("a body without a length", |x| without_end(x, &format!("{OK}\r\n"), " ")),
    ("a body of any length", |x| without_end(x, &format!("{OK}Content-Length: 9223372036854775807\r\n\r\n"), " ")),
    ("chunks", |x| without_end(x, &format!("{OK}Transfer-Encoding: chunked\r\n\r\n"), "1\r\n \r\n")),
    ("the length of a chunk", |x| without_end(x, &format!("{OK}Transfer-Encoding: chunked\r\n\r\n"), "0")),
    ("an extension of a chunk", |x| without_end(x, &format!("{OK}Transfer-Encoding: chunked\r\n\r\n1;"), "x")),
    ("lines behind the chunks", |x| {
        without_end(x, &format!("{OK}Transfer-Encoding: chunked\r\n\r\n0\r\n"), "X: y\r\n")
    }),
    ("a line of the head", |x| without_end(x, &format!("{OK}X: "), "y")),
    ("lines of the head", |x| without_end(x, OK, "X: y\r\n")),
    ("answers before the answer", |x| without_end(x, "", "HTTP/1.1 100 Continue\r\n\r\n")),
    ("an error", |x| without_end(x, "HTTP/1.1 403 Forbidden\r\n\r\n", "[")),
    ("a challenge", |x| without_end(x, "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: ", "Bearer a=b, ")),
    ("challenges", |x| without_end(x, "HTTP/1.1 401 Unauthorized\r\n", "WWW-Authenticate: Bearer realm=\"x\"\r\n")),
];

/// A layout with the image `keep`, and a registry that has the same image at `team/base:v1`, but sends `answer` to every request
/// whose line begins with `line`.
fn hostile(line: &'static str, answer: Answer) -> (Bench, Server) {
    let bench = Bench::keeping();
    let (server, shelf) = Server::with_shelf(move |x, shelf| match x.line().starts_with(line) {
        true => answer(x),
        false => shelf.serve(x),
    });
    publish(&bench, &shelf);
    (bench, server)
}

/// Brings the image `keep` to the shelf, as `team/base:v1`.
fn publish(bench: &Bench, shelf: &Shelf) {
    let shelf = shelf.clone();
    let honest = Server::start(move |x| shelf.serve(x));
    let there = format!("docker://{}/team/base:v1", honest.host());
    run(&mut bench.command(&["export", "-q", "out:keep", &there, "--plain-http", &honest.host()])).success();
}

/// Runs the command, with `{HOST}` replaced, which has to fail.
#[track_caller]
fn fails_cheaply(name: &str, bench: &Bench, server: &Server, line: &str) {
    let finished = takes_little(name, bench, server, line);
    assert_eq!(finished.status, 1, "{name}: {finished}");
}

/// Runs the command, with `{HOST}` replaced, and asserts that it takes little.
#[track_caller]
fn takes_little(name: &str, bench: &Bench, server: &Server, line: &str) -> Finished {
    let line = format!("{line} --plain-http {{HOST}}").replace("{HOST}", &server.host());
    let row = format!("{name}: {line}");
    let mut command = bench.command(&line.split(' ').collect::<Vec<_>>());
    command.stdin(std::fs::File::open(bench.scratch.write("password", "password\n")).unwrap());
    let before = server.moved();
    let finished = run(&mut command);
    is_cheap(&row, &finished);
    assert!(matches!(finished.status, 0 | 1), "{row}: {finished}");
    assert!(server.moved() - before < MOST_TAKEN, "{row}: {} bytes were taken", server.moved() - before);
    assert!(!finished.stderr.contains("internal error"), "{row}: {finished}");
    bench.is_intact(&row);
    finished
}

#[test]
fn manifests_without_end_take_little() {
    if is_left_out() {
        return;
    }
    for (name, answer) in ANSWERS {
        let (bench, server) = hostile("GET /v2/team/base/manifests/", answer);
        fails_cheaply(name, &bench, &server, "layout out -q -t new --base docker://{HOST}/team/base:v1");
    }
}

#[test]
fn blobs_without_end_take_little() {
    if is_left_out() {
        return;
    }
    for (name, answer) in ANSWERS {
        let (bench, server) = hostile("GET /v2/team/base/blobs/", answer);
        fails_cheaply(name, &bench, &server, "export -q docker://{HOST}/team/base:v1 oci:out:new");
    }
}

#[test]
fn tokens_without_end_take_little() {
    if is_left_out() {
        return;
    }
    for (name, answer) in ANSWERS {
        let bench = Bench::keeping();
        let server = Server::start(move |x| match x.line().as_str() {
            "GET /token" => answer(x),
            _ => {
                let challenge = format!("Bearer realm=\"http://{}/token\"", x.host());
                x.answer(401, &[("WWW-Authenticate", &challenge)], "");
            }
        });
        fails_cheaply(name, &bench, &server, "inspect -q docker://{HOST}/team/base:v1");
    }
}

#[test]
fn answers_without_end_to_an_upload_take_little() {
    if is_left_out() {
        return;
    }
    for line in ["POST /v2/team/app/blobs/uploads/", "PUT /v2/team/app/"] {
        for (name, answer) in ANSWERS {
            let (bench, server) = hostile(line, answer);
            // What a registry says beside its success is not read.
            takes_little(name, &bench, &server, "export -q out:keep docker://{HOST}/team/app:v1");
        }
    }
}

#[test]
fn a_login_without_end_takes_little() {
    if is_left_out() {
        return;
    }
    for (name, answer) in ANSWERS {
        let (bench, server) = hostile("GET /v2/", answer);
        takes_little(name, &bench, &server, "login {HOST} -u alice --password-stdin --authfile auth.json");
    }
}

/// What is within the limits of a document, and means too much.
#[test]
fn documents_that_mean_too_much_take_little() {
    if is_left_out() {
        return;
    }
    let layer = blob(b"layer").to_json();
    let listed = Descriptor::of(media_type::MANIFEST, &manifest()).to_json();
    let whole = |mut document: serde_json::Value, name: &str, value: serde_json::Value| {
        document[name] = value;
        document.to_string().into_bytes()
    };
    let empty: serde_json::Value = serde_json::from_slice(&manifest()).unwrap();
    let index = json!({"schemaVersion": 2, "mediaType": media_type::INDEX, "manifests": []});
    let names: serde_json::Map<String, serde_json::Value> =
        (0..150_000).map(|number| (format!("a{number}"), json!("b"))).collect();
    let documents: [(&str, &str, Vec<u8>); 6] = [
        ("lists in lists", media_type::MANIFEST, b"[".repeat(4 << 20)),
        ("objects in objects", media_type::MANIFEST, b"{\"a\":".repeat(600_000)),
        ("layers", media_type::MANIFEST, whole(empty.clone(), "layers", vec![layer; 20_000].into())),
        ("annotations", media_type::MANIFEST, whole(empty, "layers", json!([names]))),
        ("manifests", media_type::INDEX, whole(index, "manifests", vec![listed; 20_000].into())),
        ("a name", media_type::MANIFEST, format!("{{\"{}", "x".repeat((4 << 20) - 2)).into_bytes()),
    ];
    for (name, media_type, bytes) in documents {
        assert!(bytes.len() <= 4 << 20, "{name}: {}", bytes.len());
        let bench = Bench::keeping();
        let shelf = Shelf::default().with_manifest("team/base", "v1", media_type, &bytes);
        let server = Server::start(move |x| shelf.serve(x));
        fails_cheaply(name, &bench, &server, "layout out -q -t new --base docker://{HOST}/team/base:v1");
        fails_cheaply(name, &bench, &server, "inspect -q docker://{HOST}/team/base:v1");
    }
}
