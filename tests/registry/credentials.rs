//! The transmission of credentials to registries. The search for credentials has its own tests.

use super::*;

fn basic(x: &mut Exchange, shelf: &Shelf) {
    match x.header("authorization") {
        Some(_) => shelf.serve(x),
        None => x.answer(401, &[("WWW-Authenticate", "Basic realm=\"r\"")], ""),
    }
}

#[test]
fn r3_a_damaged_file_fails_when_credentials_are_asked_for_and_not_before() {
    let shelf = shelf_with_manifest();
    let open = Server::start({
        let shelf = shelf.clone();
        move |x| shelf.serve(x)
    });
    let closed = Server::start(move |x| basic(x, &shelf));
    let client = |content: &str| {
        let mut client = Client::new();
        let file = AuthFile::new("config.json", Some(content.as_bytes().to_vec()));
        client.keychain = Keychain::new(vec![file], no_helper());
        client
    };
    for (content, word) in [("{", "not JSON"), (r#"{"auths": 1}"#, "`auths`")] {
        assert!(client(content).open(&open.host()).resolve().is_ok());
        assert_says(client(content).open(&closed.host()).resolve(), &["config.json", word]);
    }
}

#[test]
fn r4_credentials_reach_their_own_host_only() {
    let shelf = shelf_with_manifest();
    let server = Server::start(move |x| basic(x, &shelf));
    assert!(Client::new().with_password(&server.host()).open(&server.host()).resolve().is_ok());
    let header = server.seen().last().unwrap().header("authorization").unwrap().to_owned();
    assert_eq!(
        header,
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("alice:{SECRET}")))
    );

    let other = Client::new().with_password("127.0.0.1").open(&server.host()).resolve();
    assert_says(other, &["requires a user name and password", "tried auth.json, found nothing for"]);
    let path = format!("{}/team", server.host());
    assert!(Client::new().with_password(&path).open(&server.host()).resolve().is_ok());
    let sibling = format!("{}/tea", server.host());
    assert!(Client::new().with_password(&sibling).open(&server.host()).resolve().is_err());
}

#[test]
fn r6_a_failing_helper_sends_no_request_anywhere_else() {
    let server = Server::start(|x| basic(x, &Shelf::default()));
    let mut client = Client::new();
    let file = AuthFile::new("config.json", Some(br#"{"credsStore": "broken"}"#.to_vec()));
    client.keychain = Keychain::new(
        vec![file],
        Box::new(|_, _| Err(Error::new(ocibuild::ErrorKind::Denied, "docker-credential-broken", "failed"))),
    );
    assert_says(client.open(&server.host()).resolve(), &["docker-credential-broken: failed"]);
    assert_eq!(server.lines(), [MANIFEST_PATH]);
    assert_no_credentials(&server);
}

#[test]
fn a_wrong_password_is_refused_once_and_explained() {
    let server = Server::start(|x| x.answer(401, &[("WWW-Authenticate", "Basic realm=r")], ""));
    let said = Client::new().with_password(&server.host()).open(&server.host()).resolve();
    assert_says(said, &["answered 401", "credentials from auth.json were rejected"]);
    assert_eq!(server.lines().len(), 2);
}

#[test]
fn anonymous_access_that_is_refused_says_where_credentials_were_looked_for() {
    let server = Server::start(|x| match x.line().as_str() {
        "GET /token" => gives_token(x),
        _ if asks_for_token(x) => {}
        _ => x.refuse(403, "DENIED", "requested access to the resource is denied"),
    });
    let mut client = Client::new();
    let files = ["/a/auth.json", "/b/config.json"].map(|name| AuthFile::new(name, None));
    client.keychain = Keychain::new(files.to_vec(), no_helper());
    let said = client.open(&server.host()).resolve();
    assert_says(said, &["403: DENIED requested access", "tried /a/auth.json, /b/config.json, found nothing"]);
}

#[test]
fn an_identity_token_is_exchanged_by_post() {
    let shelf = shelf_with_manifest();
    let forms = Arc::new(Mutex::new(Vec::new()));
    let server = Server::start({
        let forms = forms.clone();
        move |x| match x.line().as_str() {
            "POST /token" => {
                forms.lock().unwrap().push(String::from_utf8(x.body()).unwrap());
                x.answer(200, &[], serde_json::json!({"access_token": TOKEN, "refresh_token": "next"}).to_string());
            }
            _ if asks_for_token(x) => {}
            _ => shelf.serve(x),
        }
    });
    assert!(Client::new().with_identity().open(&server.host()).resolve().is_ok());
    let form = forms.lock().unwrap()[0].clone();
    let field = |name: &str| super::server::parameters(&form, name);
    assert_eq!(field("grant_type"), ["refresh_token"]);
    assert_eq!(field("refresh_token"), [SECRET]);
    assert_eq!(field("scope"), ["repository:team/robot:pull"]);
    assert_eq!(field("service"), ["test"]);
    assert!(!server.seen().iter().any(|seen| seen.target.contains(SECRET)));
}
