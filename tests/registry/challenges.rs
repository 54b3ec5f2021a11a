//! Authentication challenges: realms, tokens, and repeated challenges.

use super::*;

/// Starts a registry that asks for a token of `realm`.
fn asking_for(realm: String) -> Server {
    let shelf = shelf_with_manifest();
    Server::start(move |x| match x.header("authorization") {
        Some(header) if header == format!("Bearer {TOKEN}") => shelf.serve(x),
        _ => {
            let challenge = format!("Bearer realm=\"{realm}\",service=\"test\"");
            x.answer(401, &[("WWW-Authenticate", &challenge)], "");
        }
    })
}

#[test]
fn r8_a_realm_on_another_host_is_asked_anonymously() {
    let tokens = Server::start(gives_token);
    // Another name for this machine, and so another host.
    let realm = format!("http://{}/token", tokens.host().replace("127.0.0.1", "localhost"));
    let registry = asking_for(realm);
    assert!(Client::new().with_password(&registry.host()).open(&registry.host()).resolve().is_ok());
    assert_no_credentials(&tokens);
    assert!(Client::new().with_identity().open(&registry.host()).resolve().is_ok());
    assert_eq!(tokens.lines(), ["GET /token", "GET /token"]);
    assert_no_credentials(&tokens);
}

/// M42: credentials belong to scheme, host and port.
#[test]
fn r8_a_realm_on_another_port_is_asked_anonymously() {
    let tokens = Server::start(gives_token);
    let registry = asking_for(format!("http://{}/token", tokens.host()));
    assert!(Client::new().with_password(&registry.host()).open(&registry.host()).resolve().is_ok());
    assert!(Client::new().with_identity().open(&registry.host()).resolve().is_ok());
    assert_eq!(tokens.lines(), ["GET /token", "GET /token"]);
    assert_no_credentials(&tokens);
    let allowed = Client::new().with_password(&registry.host()).options(|o| o.realms = vec![tokens.host()]);
    assert!(allowed.open(&registry.host()).resolve().is_ok());
    assert!(tokens.seen()[2].header("authorization").is_some());
}

#[test]
fn r8_the_error_says_how_to_allow_another_realm() {
    let tokens = Server::start(|x| match x.header("authorization") {
        Some(_) => gives_token(x),
        None => x.answer(401, &[("WWW-Authenticate", "Basic realm=tokens")], "{}"),
    });
    let registry = asking_for(format!("http://{}/token", tokens.host().replace("127.0.0.1", "localhost")));
    let client = || Client::new().with_password(&registry.host());
    assert_says(client().open(&registry.host()).resolve(), &["answered 401", "--auth-realm localhost:", " allows it"]);
    assert_no_credentials(&tokens);
    let allowed = client().options(|o| o.realms = vec![tokens.host().replace("127.0.0.1", "localhost")]);
    assert!(allowed.open(&registry.host()).resolve().is_ok());
}

#[test]
fn r9_a_malformed_or_dangerous_realm_is_an_error() {
    let long = format!("http://127.0.0.1/{}", "x".repeat(10 << 10));
    for realm in [
        "file:///etc/passwd",
        "ftp://127.0.0.1/",
        "http://alice:planted-secret@127.0.0.1/",
        "http://169.254.169.254/latest/meta-data/",
        "/token",
        "",
        &long,
    ] {
        let registry = asking_for(realm.to_owned());
        let client = Client::new().with_password(&registry.host());
        assert_says(client.open(&registry.host()).resolve(), &["its token realm is"]);
        assert_eq!(registry.lines(), [MANIFEST_PATH], "{realm}");
    }
    let nameless = Server::start(|x| x.answer(401, &[("WWW-Authenticate", "Bearer service=x")], ""));
    assert_says(Client::new().open(&nameless.host()).resolve(), &["names no realm"]);
}

#[test]
fn r10_endless_challenges_end_after_two() {
    let server = Server::start(|x| match x.line().as_str() {
        "GET /token" => gives_token(x),
        _ => {
            let challenge = format!("Bearer realm=\"http://{}/token\"", x.host());
            x.answer(401, &[("WWW-Authenticate", &challenge)], "{}");
        }
    });
    assert_says(Client::new().open(&server.host()).resolve(), &["answered 401"]);
    // If the token server returns the same token again, the client stops.
    assert_eq!(server.lines(), [MANIFEST_PATH, "GET /token", MANIFEST_PATH, "GET /token"]);

    let fresh = Server::start(|x| match x.line().as_str() {
        "GET /token" => x.answer(200, &[], format!("{{\"token\": \"{}\"}}", x.nth)),
        _ => {
            let challenge = format!("Bearer realm=\"http://{}/token\"", x.host());
            x.answer(401, &[("WWW-Authenticate", &challenge)], "{}");
        }
    });
    assert_says(Client::new().open(&fresh.host()).resolve(), &["answered 401"]);
    assert_eq!((fresh.count("GET /token"), fresh.count(MANIFEST_PATH)), (2, 3));
}

#[test]
fn r10_a_token_server_that_fails_is_named() {
    type Answer = fn(&mut Exchange);
    let with_tokens = |answer: Answer| {
        Server::start(move |x| match x.line().as_str() {
            "GET /token" => answer(x),
            _ => {
                asks_for_token(x);
            }
        })
    };
    let cases: [(Answer, &str); 10] = [
        (|x| x.answer(401, &[], "{}"), "answered 401"),
        (|x| x.answer(403, &[], r#"{"error": "no\u001b[31m"}"#), "answered 403: no\\u{1b}[31m"),
        (|x| x.answer(500, &[], ""), "answered 500"),
        (|x| x.answer(200, &[], "<html>"), "not JSON"),
        (|x| x.answer(200, &[], ""), "not JSON"),
        (|x| x.answer(200, &[], "{}"), "answered without a token"),
        (|x| x.answer(302, &[("Location", "/elsewhere")], ""), "answered 302"),
        (|x| x.answer(200, &[], ["{}", &" ".repeat((1 << 20) - 2)].concat()), "answered without a token"),
        (|x| x.answer(200, &[], ["{}", &" ".repeat((1 << 20) - 1)].concat()), "larger than 1 MiB"),
        (
            |x| {
                x.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n");
                for _ in 0..1024 {
                    x.raw(&[b' '; 4096]);
                }
                x.cut();
            },
            "larger than 1 MiB",
        ),
    ];
    for (answer, word) in cases {
        let server = with_tokens(answer);
        let work = Client::new().with_password(&server.host()).open(&server.host());
        assert_says(work.resolve(), &["token server", word]);
        let asked = server.count("GET /token");
        assert_eq!(asked, if word == "answered 500" { 4 } else { 1 }, "{word}");
        assert_eq!(work.warnings().len(), asked - 1, "{word}: {:?}", work.warnings());
    }
}

#[test]
fn r11_the_supported_challenge_is_picked_and_a_broken_one_refused() {
    let shelf = shelf_with_manifest();
    let server = Server::start(move |x| match x.header("authorization") {
        Some(_) => shelf.serve(x),
        None => {
            let challenges = [("WWW-Authenticate", "Negotiate"), ("WWW-Authenticate", "Basic realm=\"r\"")];
            x.answer(401, &challenges, "");
        }
    });
    assert!(Client::new().with_password(&server.host()).open(&server.host()).resolve().is_ok());
    for (challenge, word) in [
        ("Negotiate", "an unknown authentication scheme: Negotiate"),
        ("Bearer realm=\"http://x", "malformed challenge"),
        ("Bearer realm=\"a\" b=\"c\"", "malformed challenge"),
        ("Bearer realm=\"caf\u{e9}\"", "malformed challenge"),
    ] {
        let server = Server::start(move |x| x.answer(401, &[("WWW-Authenticate", challenge)], ""));
        assert_says(Client::new().open(&server.host()).resolve(), &[word]);
    }
    let speechless = Server::start(|x| x.answer(401, &[], ""));
    assert_says(Client::new().open(&speechless.host()).resolve(), &["without an authentication scheme"]);
}

#[test]
fn r36_a_token_with_an_implausible_lifetime_is_used_until_it_is_refused() {
    for expires in ["-1", "0", "1", "1000000000000000000", "\"x\""] {
        let shelf = shelf_with_manifest();
        let server = Server::start(move |x| match x.line().as_str() {
            "GET /token" => {
                let issued = "2199-01-01T00:00:00Z";
                let body =
                    format!("{{\"token\": \"{TOKEN}\", \"expires_in\": {expires}, \"issued_at\": \"{issued}\"}}");
                x.answer(200, &[], body);
            }
            _ if asks_for_token(x) => {}
            _ => shelf.serve(x),
        });
        let work = Client::new().open(&server.host());
        for _ in 0..3 {
            assert!(work.resolve().is_ok());
        }
        assert_eq!(server.count("GET /token"), 1, "{expires}");
    }
}

#[test]
fn a_token_that_expires_is_renewed_once_for_many_threads() {
    let content = noise(1000);
    let shelf = Shelf::default().with_blob("team/robot", &content);
    let server = Server::start({
        move |x| match (x.line().as_str(), x.nth) {
            ("GET /token", nth) => x.answer(200, &[], format!("{{\"token\": \"{nth}\"}}")),
            ("GET /v2/", _) => x.answer(200, &[], ""),
            _ if x.header("authorization") != Some("Bearer 2".to_owned()) => {
                let challenge = format!("Bearer realm=\"http://{}/token\"", x.host());
                x.answer(401, &[("WWW-Authenticate", &challenge)], "");
            }
            _ => shelf.serve(x),
        }
    });
    let work = Client::new().open(&server.host());
    let described = blob(&content);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(work.fetch(&described).as_ref(), Ok(&content)));
        }
    });
    assert_eq!(server.count("GET /token"), 2);
}
