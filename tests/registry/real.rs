//! The reference registry in several configurations, with skopeo as the other client.

use super::server::{Exchange, Server};
use super::*;
use crate::consumers::{self, PASSWORD, Skopeo, USER};
use crate::support::{Scratch, command, consumer, run};
use base64::Engine as _;
use ocibuild::registry::{PlainHttp, certificates};
use ocibuild::store::{ImageName, Layout, StoredImage, copy};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use std::path::Path;

/// Creates a layout with one image of three layers of a few megabytes, under the tag `v1`.
pub(super) fn layout(scratch: &Scratch) -> Arc<Layout> {
    let layout = Arc::new(Layout::create(&scratch.join("ours")).unwrap());
    let layers: Vec<Vec<u8>> = (1..4).map(|n| tar(n << 20)).collect();
    let put = |bytes: &[u8], media_type: &str| layout.put_document(bytes, media_type).unwrap();
    let manifest = ocibuild::spec::Manifest {
        config: put(&config(&layers), media_type::CONFIG),
        layers: layers.iter().map(|layer| put(&gzip(layer), media_type::LAYER_GZIP)).collect(),
        annotations: Default::default(),
    };
    let manifest = manifest.to_bytes();
    let descriptor = Descriptor::of(media_type::MANIFEST, &manifest);
    let stored = StoredImage::assemble(layout.clone(), descriptor, manifest, config(&layers), None, "image").unwrap();
    layout.commit(&stored, &["v1".parse().unwrap()]).unwrap();
    layout
}

/// Returns a tar of one file.
pub(super) fn tar(length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let header = ocibuild::codec::tar::Header {
        path: b"noise",
        kind: ocibuild::codec::tar::EntryType::File,
        mode: 0o644,
        uid: 0,
        gid: 0,
        size: length as u64,
        mtime: 0,
        link: b"",
        xattrs: &[],
        device: (0, 0),
    };
    ocibuild::codec::tar::append(&header, &mut bytes);
    bytes.extend(noise(length));
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes.extend(ocibuild::codec::tar::END);
    bytes
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

fn config(layers: &[Vec<u8>]) -> Vec<u8> {
    let diff_ids: Vec<String> = layers.iter().map(|layer| Digest::of(layer).to_string()).collect();
    let config = serde_json::json!({"os": "linux", "architecture": "amd64",
        "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    config.to_string().into_bytes()
}

/// Pushes the image `v1` of `layout` and returns the statistics.
fn push(work: &Work, layout: &Arc<Layout>) -> Result<ocibuild::store::TransferStats, String> {
    let image = layout.image(Some("v1"), None).unwrap();
    let names: [ImageName; 1] = ["v1".parse().unwrap()];
    copy(&image, &*work.repository, &names, &*work.heard).map_err(|error| work.said(error))
}

/// Pulls the image into a new layout, and returns the digest of its manifest.
fn pull(work: &Work, scratch: &Scratch, name: &str) -> Result<String, String> {
    let image = work.repository.image(None).map_err(|error| work.said(error))?;
    let layout = Layout::create(&scratch.join(name)).unwrap();
    copy(&image, &layout, &["v1".parse().unwrap()], &*work.heard).map_err(|error| work.said(error))?;
    Ok(consumers::Layout::new(scratch.join(name), "v1").manifest_digest())
}

/// Creates a client for a registry with [`USER`] and [`PASSWORD`].
fn alice(host: &str) -> Client {
    let auth = base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{PASSWORD}"));
    let file = serde_json::json!({"auths": {host: {"auth": auth}}}).to_string();
    let mut client = Client::new();
    client.keychain = Keychain::new(vec![AuthFile::new("auth.json", Some(file.into_bytes()))], no_helper());
    client
}

#[test]
fn what_we_push_skopeo_pulls_and_what_skopeo_pushes_we_pull() {
    let Some(skopeo) = Skopeo::find() else { return };
    consumers::Registry::all().for_each(|registry| to_and_fro(&registry, &skopeo));
}

fn to_and_fro(registry: &consumers::Registry, skopeo: &Skopeo) {
    let scratch = Scratch::new();
    let ours = layout(&scratch);
    let work = Client::new().open(&registry.address());
    let moved = push(&work, &ours).unwrap();
    assert_eq!((moved.copied, moved.present), (4, 0));
    let moved = push(&work, &ours).unwrap();
    assert_eq!((moved.copied, moved.present), (0, 4), "a second push moves no blob");

    let digest = consumers::Layout::new(scratch.join("ours"), "v1").manifest_digest();
    let theirs = consumers::Layout::new(scratch.join("theirs"), "v1");
    let remote = format!("docker://{}/team/robot:v1", registry.address());
    skopeo.copy(&["--src-tls-verify=false"], &remote, &theirs.location()).success();
    assert_eq!(theirs.manifest_digest(), digest);

    let remote = format!("docker://{}/team/theirs:v1", registry.address());
    skopeo.copy(&["--dest-tls-verify=false"], &theirs.location(), &remote).success();
    let work = Client::new().open_as(&format!("{}/team/theirs:v1", registry.address()));
    assert_eq!(pull(&work, &scratch, "again"), Ok(digest));
}

#[test]
fn a_pushed_blob_is_mounted_from_one_repository_into_another() {
    for registry in consumers::Registry::all() {
        let scratch = Scratch::new();
        let work = Client::new().open(&registry.address());
        push(&work, &layout(&scratch)).unwrap();
        let image = work.repository.image(None).unwrap();
        let other = Client::new().open_as(&format!("{}/team/other:v1", registry.address()));
        let moved = copy(&image, &*other.repository, &["v1".parse().unwrap()], &*other.heard).unwrap();
        assert_eq!((moved.mounted, moved.present), if registry.mounts { (4, 0) } else { (0, 4) });
        assert!(pull(&other, &scratch, "pulled").is_ok());
    }
}

#[test]
fn a_blob_in_parts_is_taken_by_a_real_registry() {
    for registry in consumers::Registry::all() {
        let content = noise(3_000_000);
        // A registry behind a proxy that accepts at most a megabyte per request.
        let upstream = registry.address();
        let proxy = Server::start(move |x| forward(x, &upstream, 1 << 20));
        let work = Client::new().options(|o| o.part = 1 << 20).open(&proxy.host());
        assert_eq!(work.upload(&content), Ok(()));
        let patches = proxy.lines().iter().filter(|line| line.starts_with("PATCH")).count();
        assert_eq!(patches, 3);
        assert_eq!(Client::new().open(&registry.address()).fetch(&blob(&content)), Ok(content));
    }
}

/// Forwards a request, unless its body is larger than `limit`.
fn forward(x: &mut Exchange, upstream: &str, limit: usize) {
    use std::io::Write;
    let body = x.body();
    if body.len() > limit {
        return x.answer(413, &[], "too large");
    }
    let mut stream = std::net::TcpStream::connect(upstream).unwrap();
    let mut head = format!("{} {} HTTP/1.1\r\nConnection: close\r\n", x.request.method, x.request.target);
    for (key, value) in &x.request.headers {
        head += &format!("{key}: {value}\r\n");
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
    stream.write_all(&body).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    x.raw(&answer);
    x.cut();
}

#[test]
fn a_registry_with_a_password_takes_it() {
    let Some(registry) = consumers::Registry::with_password() else { return };
    let scratch = Scratch::new();
    let ours = layout(&scratch);
    let host = registry.address();
    assert_says(push(&Client::new().open(&host), &ours), &["requires a user name and password", "no credentials"]);
    assert_says(
        push(&Client::new().with_password(&host).open(&host), &ours),
        &["401", "credentials from auth.json were rejected"],
    );
    assert!(push(&alice(&host).open(&host), &ours).is_ok());
    assert!(pull(&alice(&host).open(&host), &scratch, "pulled").is_ok());
}

#[test]
fn a_registry_with_its_own_authority_is_trusted_if_configured() {
    let Some(registry) = consumers::Registry::with_tls() else { return };
    let scratch = Scratch::new();
    let ours = layout(&scratch);
    let host = registry.address();
    assert_says(push(&Client::new().open(&host), &ours), &["unknown authority"]);
    let mut client = Client::new();
    let pem = std::fs::read(registry.certificates().join("ca.crt")).unwrap();
    client.network.authorities = certificates(&pem, "ca.crt").unwrap();
    assert!(push(&client.open(&host), &ours).is_ok());
}

#[test]
fn a_read_only_registry_gives_and_does_not_take() {
    let Some(registry) = consumers::Registry::plain() else { return };
    let scratch = Scratch::new();
    let ours = layout(&scratch);
    push(&Client::new().open(&registry.address()), &ours).unwrap();
    let registry = consumers::Registry::read_only(registry);
    let work = Client::new().open(&registry.address());
    assert!(pull(&work, &scratch, "pulled").is_ok());
    assert_says(work.upload(b"content"), &["answered 405", "Method not allowed"]);
}

#[test]
fn r2_a_registry_of_plain_http_is_refused_without_permission() {
    let Some(registry) = consumers::Registry::plain() else { return };
    let client = Client::new().options(|o| o.plain_http = PlainHttp::Never);
    assert_says(client.open(&registry.address()).resolve(), &["not a TLS server", "--plain-http"]);
}

/// Signs tokens for the reference registry.
struct Signer {
    key: Arc<dyn rustls::sign::SigningKey>,
    certificate: String,
}

impl Signer {
    /// Creates a key and a certificate in `directory`.
    fn new(directory: &Path) -> Option<Signer> {
        let openssl = consumer("openssl")?;
        let arguments = "req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out token.pem -days 2 -subj /CN=tokens";
        run(command(openssl).current_dir(directory).args(arguments.split(' '))).success();
        let key = PrivateKeyDer::from_pem_file(directory.join("key.pem")).unwrap();
        let pem = std::fs::read(directory.join("token.pem")).unwrap();
        let certificate = certificates(&pem, "token.pem").unwrap().remove(0);
        Some(Signer {
            key: rustls::crypto::ring::sign::any_supported_type(&key).unwrap(),
            certificate: base64::engine::general_purpose::STANDARD.encode(certificate),
        })
    }

    fn token(&self, access: &serde_json::Value) -> String {
        let encode = |bytes: &[u8]| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
        let head = serde_json::json!({"typ": "JWT", "alg": "RS256", "x5c": [self.certificate]});
        let claims = serde_json::json!({"iss": "test-issuer", "sub": "", "aud": "test", "jti": "1",
            "nbf": now - 10, "iat": now, "exp": now + 300, "access": access});
        let signed = format!("{}.{}", encode(head.to_string().as_bytes()), encode(claims.to_string().as_bytes()));
        let signer = self.key.choose_scheme(&[rustls::SignatureScheme::RSA_PKCS1_SHA256]).unwrap();
        let signature = signer.sign(signed.as_bytes()).unwrap();
        format!("{signed}.{}", encode(&signature))
    }
}

#[test]
fn a_registry_with_a_token_server_is_read_written_and_mounted_in() {
    let scratch = Scratch::new();
    let Some(signer) = Signer::new(scratch.path()) else { return };
    let expected = base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{PASSWORD}"));
    let tokens = Server::start(move |x| {
        let is_alice = match x.header("authorization") {
            Some(header) if header == format!("Basic {expected}") => true,
            Some(_) => return x.answer(401, &[], r#"{"details": "incorrect username or password"}"#),
            None => false,
        };
        let access: Vec<serde_json::Value> = x
            .parameters("scope")
            .iter()
            .map(|scope| {
                let (name, actions) = scope.strip_prefix("repository:").unwrap().rsplit_once(':').unwrap();
                let actions: Vec<&str> = actions.split(',').filter(|action| is_alice || *action == "pull").collect();
                serde_json::json!({"type": "repository", "name": name, "actions": actions})
            })
            .collect();
        let token = signer.token(&access.into());
        x.answer(200, &[], serde_json::json!({"token": token, "expires_in": 300}).to_string());
    });
    let realm = format!("http://{}/token", tokens.host());
    let Some(registry) = consumers::Registry::with_tokens(&realm, &scratch.join("token.pem")) else { return };
    let host = registry.address();
    let ours = layout(&scratch);
    assert_says(push(&Client::new().open(&host), &ours), &["answered 401", "no credentials"]);
    let trusted = |client: Client| client.options(|o| o.realms = vec![tokens.host()]).open(&host);
    assert_says(push(&trusted(Client::new().with_password(&host)), &ours), &["incorrect username or password"]);
    let work = trusted(alice(&host));
    push(&work, &ours).unwrap();
    assert!(pull(&Client::new().open(&host), &scratch, "anonymous").is_ok());
    let wrong = base64::engine::general_purpose::STANDARD.encode(format!("alice:{SECRET}"));
    let wrong = format!("Basic {wrong}");
    let tries = tokens.seen().iter().filter(|seen| seen.header("authorization") == Some(&wrong)).count();
    assert_eq!(tries, 1, "a wrong password is tried by one thread of many");

    let image = work.repository.image(None).unwrap();
    let other = alice(&host).options(|o| o.realms = vec![tokens.host()]).open_as(&format!("{host}/team/other:v1"));
    let moved = copy(&image, &*other.repository, &["v1".parse().unwrap()], &*other.heard).unwrap();
    assert_eq!((moved.mounted, moved.copied), (4, 0));
    let scopes: Vec<String> = tokens.seen().iter().map(|seen| seen.target.clone()).collect();
    assert!(scopes.iter().any(|target| target.contains("other%3Apull%2Cpush") && target.contains("robot%3Apull")));
}
