//! Tests of the distribution client against a server that returns wrong data and fails on request (each row R of the fault
//! catalogue has its test), and against real registries.

#[cfg(target_os = "linux")]
mod bases;
mod challenges;
#[cfg(target_os = "linux")]
mod clear_text;
#[cfg(target_os = "linux")]
mod comparing;
mod credentials;
#[cfg(target_os = "linux")]
mod examples;
#[cfg(target_os = "linux")]
mod hostile;
#[cfg(target_os = "linux")]
mod login;
mod long_transfers;
#[cfg(target_os = "linux")]
mod mirrors;
#[cfg(target_os = "linux")]
mod mounts;
#[cfg(target_os = "linux")]
mod poisoned;
#[cfg(target_os = "linux")]
mod policies;
#[cfg(target_os = "linux")]
mod program;
mod pulling;
mod pushing;
#[cfg(target_os = "linux")]
mod rcc_download;
mod reaching;
#[cfg(target_os = "linux")]
mod real;
mod redirects;
mod referrers;
#[cfg(target_os = "linux")]
mod repairing;
pub(crate) mod server;
#[cfg(target_os = "linux")]
mod shared_blocks;
#[cfg(target_os = "linux")]
pub(crate) mod shared_cache;
#[cfg(target_os = "linux")]
mod signatures;
#[cfg(target_os = "linux")]
mod signer;

use base64::Engine;
use ocibuild::common::progress::{Event, Progress};
use ocibuild::registry::credentials::{AuthFile, Credentials, Keychain};
use ocibuild::registry::{Network, Options, Registry, Repository, RetryPolicy, Secret, Timeouts, Transport};
use ocibuild::spec::{Descriptor, media_type};
use ocibuild::store::{BlobSink, BlobSource, Verified};
use ocibuild::{Digest, Error, Reference, Result};
use server::{Exchange, Server, Shelf};
use std::io::Read;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A password that must never appear where it does not belong.
const SECRET: &str = "planted-secret";

/// The token that a token server returns for the password.
const TOKEN: &str = "planted-token";

/// All messages of the client.
#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Progress for Heard {
    fn event(&self, event: Event<'_>) {
        if let Event::Warning { object, reason } = event {
            self.0.lock().unwrap().push(format!("{object}: {reason}"));
        }
    }
}

/// A client under test, and its messages.
struct Client {
    network: Network,
    options: Options,
    keychain: Keychain,
    heard: Arc<Heard>,
}

impl Client {
    fn new() -> Client {
        let milliseconds = Duration::from_millis;
        // Long enough for a busy machine; tests of time limits set their own.
        let limits = Timeouts {
            connect: milliseconds(10_000),
            idle: milliseconds(10_000),
            answer: milliseconds(10_000),
            document: milliseconds(20_000),
        };
        let retry = RetryPolicy { retries: 3, first_wait: milliseconds(1), deadline: milliseconds(10_000) };
        Client {
            network: Network { limits, ..Network::default() },
            options: Options { retry, ..Options::default() },
            keychain: Keychain::anonymous(),
            heard: Arc::default(),
        }
    }

    /// Sets the name `alice` and the planted password for `host`.
    fn with_password(mut self, host: &str) -> Client {
        let auth = base64::engine::general_purpose::STANDARD.encode(format!("alice:{SECRET}"));
        let file = serde_json::json!({"auths": {host: {"auth": auth}}}).to_string();
        self.keychain = Keychain::new(vec![AuthFile::new("auth.json", Some(file.into_bytes()))], no_helper());
        self
    }

    fn with_identity(mut self) -> Client {
        self.keychain = Keychain::anonymous().with(Credentials::Identity(Secret::new(SECRET)));
        self
    }

    fn options(mut self, change: impl FnOnce(&mut Options)) -> Client {
        change(&mut self.options);
        self
    }

    /// Opens the repository `team/robot` at `host`, with the tag `v1`.
    fn open(self, host: &str) -> Work {
        self.open_as(&format!("{host}/team/robot:v1"))
    }

    /// Opens the repository of a reference.
    fn open_as(self, reference: &str) -> Work {
        let reference: Reference = reference.parse().unwrap();
        let transport = Arc::new(Transport::new(self.network).unwrap());
        let registry =
            Registry::new(reference.registry(), transport, Arc::new(self.keychain), self.options, self.heard.clone());
        Work { repository: Arc::new(Repository::new(Arc::new(registry), &reference).unwrap()), heard: self.heard }
    }
}

fn no_helper() -> ocibuild::registry::credentials::Helper {
    Box::new(|name, _| panic!("helper {name} was run"))
}

/// A repository under test. Every error and warning is searched for the planted secrets.
struct Work {
    repository: Arc<Repository>,
    heard: Arc<Heard>,
}

impl Work {
    /// Returns the digest of the manifest that the tag names, or the error.
    fn resolve(&self) -> Result<Digest, String> {
        self.repository.resolve().map(|descriptor| descriptor.digest).map_err(|error| self.said(error))
    }

    /// Returns the verified blob, or the error.
    fn fetch(&self, descriptor: &Descriptor) -> Result<Vec<u8>, String> {
        let read = self.repository.open(descriptor).and_then(|reader| {
            let mut bytes = Vec::new();
            Verified::new(reader, descriptor)
                .read_to_end(&mut bytes)
                .map_err(|error| Error::io("blob", "read", error))?;
            Ok(bytes)
        });
        read.map_err(|error| self.said(error))
    }

    /// Uploads bytes as a blob.
    fn upload(&self, bytes: &[u8]) -> Result<(), String> {
        self.upload_as(&blob(bytes), bytes)
    }

    /// Uploads bytes as the blob of `descriptor`, which need not match.
    fn upload_as(&self, descriptor: &Descriptor, bytes: &[u8]) -> Result<(), String> {
        self.repository.put(descriptor, &|| Ok(Box::new(bytes))).map_err(|error| self.said(error))
    }

    /// Formats the error, and asserts that neither it nor any warning so far contains a secret.
    fn said(&self, error: Error) -> String {
        let line = error.to_string();
        let all = format!("{line}\n{:?}\n{:?}\n{}", error, self.repository, self.warnings().join("\n"));
        for secret in [SECRET, TOKEN, "YWxpY2U6"] {
            assert!(!all.contains(secret), "{all}");
        }
        assert!(!line.contains('\n') && !line.contains('\u{1b}'), "{line}");
        line
    }

    fn warnings(&self) -> Vec<String> {
        self.heard.0.lock().unwrap().clone()
    }
}

fn blob(bytes: &[u8]) -> Descriptor {
    Descriptor::of(media_type::LAYER_GZIP, bytes)
}

/// Returns bytes without repetitions.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut next).flatten().take(length).collect()
}

/// Returns a well-formed manifest without layers.
fn manifest() -> Vec<u8> {
    serde_json::json!({
        "schemaVersion": 2,
        "mediaType": media_type::MANIFEST,
        "config": Descriptor::of(media_type::CONFIG, b"{}").to_json(),
        "layers": [],
    })
    .to_string()
    .into_bytes()
}

/// Creates a shelf with that manifest under `team/robot:v1`.
fn shelf_with_manifest() -> Shelf {
    Shelf::default().with_manifest("team/robot", "v1", media_type::MANIFEST, &manifest())
}

const MANIFEST_PATH: &str = "GET /v2/team/robot/manifests/v1";
const UPLOADS: &str = "POST /v2/team/robot/blobs/uploads/";

/// Answers 401 with the server's own `/token` as realm, unless the request carries the token.
fn asks_for_token(x: &mut Exchange) -> bool {
    if x.header("authorization") == Some(format!("Bearer {TOKEN}")) {
        return false;
    }
    let challenge = format!("Bearer realm=\"http://{}/token\",service=\"test\"", x.host());
    x.answer(401, &[("WWW-Authenticate", &challenge)], "{}");
    true
}

fn gives_token(x: &mut Exchange) {
    x.answer(200, &[], serde_json::json!({"token": TOKEN}).to_string());
}

#[track_caller]
fn assert_says(result: Result<impl std::fmt::Debug, String>, words: &[&str]) {
    let said = result.expect_err("this must fail");
    for word in words {
        assert!(said.contains(word), "`{word}` is not in: {said}");
    }
}

#[track_caller]
fn assert_no_credentials(server: &Server) {
    for seen in server.seen() {
        assert_eq!(seen.header("authorization"), None, "{seen:?}");
        assert_eq!(seen.header("cookie"), None, "{seen:?}");
        assert!(!format!("{seen:?}").contains(SECRET), "{seen:?}");
    }
}
