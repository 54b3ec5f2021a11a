//! M44: what policy.json says of shared caches and of images that are no registry's.

use super::shared_cache;
use super::signatures::Trial;
use super::signer::{Signed, Signer};
use super::*;
use crate::support::{Scratch, is_left_out, ocibuild, run};
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

fn signed() -> Value {
    json!([{"type": "sigstoreSigned", "keyData": STANDARD.encode(Signer::p256().public_key())}])
}

/// M44: a shared cache is in a registry, and the policy applies to its repository. Its content is not signed.
#[test]
fn layers_of_a_shared_cache_are_refused_as_images_of_its_repository() {
    if is_left_out() {
        return;
    }
    let yard = shared_cache::Yard::new();
    let cache = yard.name("team/cache");
    let repository = cache.strip_prefix("docker://").unwrap();
    yard.machine("first").build(&["--cache-to", &cache]);
    let second = yard.machine("second");
    let requests = yard.server.seen().len();
    let accept = json!([{"type": "insecureAcceptAnything"}]);
    let policy = |scope: &str, requirements: &Value| {
        let policy = json!({"default": [{"type": "reject"}], "transports": {"docker": {scope: requirements}}});
        yard.scratch.write("policy.json", policy.to_string()).display().to_string()
    };
    let unsigned = "and layers from a shared cache are not signed";
    let latest = format!("{repository}:latest");
    let cases = [
        (repository, json!([{"type": "reject"}]), format!("rejects it: `reject` for {repository} (docker)")),
        (repository, signed(), format!("requires `sigstoreSigned` for {repository} (docker), {unsigned}")),
        (repository, json!([{"type": "signedBy"}]), format!("requires `signedBy` for {repository} (docker), which")),
        // A scope of one image does not cover the repository.
        (&latest, accept.clone(), "rejects it: `reject` for all images (default)".to_owned()),
    ];
    for (scope, requirements, said) in cases {
        let file = policy(scope, &requirements);
        for more in [&["--cache-from", &cache][..], &["--cache-from", &cache, "--offline"]] {
            let refused = run(second.command(more).args(["--signature-policy", &file])).ended_with(1);
            let refused = refused.failed_saying(&format!(r#""object":"{repository}","reason":"{file} {said}"#));
            assert_eq!(refused.stderr.lines().count(), 1, "{refused}");
        }
    }
    assert_eq!(yard.server.seen().len(), requests, "a cache that is refused is not asked");
    let file = policy(repository, &accept);
    let built = second.build(&["--cache-from", &cache, "--signature-policy", &file]);
    assert_eq!(built.origins[1], "shared", "{}", built.stderr);
    // What was taken before the policy changed is refused as well.
    let file = policy(repository, &json!([{"type": "reject"}]));
    run(second.command(&["--cache-from", &cache]).args(["--signature-policy", &file])).failed_saying("rejects it");
    // The policy is of what is taken, as skopeo has it; what is written is the writer's affair.
    second.build(&["--cache-to", &cache, "--signature-policy", &file]);
}

/// M44: the transports of layouts and archives have scopes of their own.
#[test]
fn images_in_layouts_and_archives_have_policies() {
    if is_left_out() {
        return;
    }
    let scratch = Scratch::new();
    scratch.write("app/file", "content\n");
    let command = |arguments: &[&str]| run(ocibuild().args(arguments).current_dir(scratch.path()));
    command(&["layout", "base", "--copy", "app:/app", "--tag", "team/base:v1"]).success();
    command(&["export", "base", "oci-archive:base.tar", "docker-archive:base-docker.tar"]).success();
    let real = scratch.path().canonicalize().unwrap();
    let path = |name: &str| real.join(name).display().to_string();
    let policy = |default: Value, transports: Value| {
        scratch.write("policy.json", json!({"default": default, "transports": transports}).to_string());
    };
    let take = |image: &str| {
        let policy = ["--signature-policy", "policy.json"];
        let based = [&["layout", "out", "--copy", "app:/more", "--base", image][..], &policy].concat();
        let exported = [&["export", image, "oci:copy"][..], &policy].concat();
        let printed = [&["cat", image, "/app/file"][..], &policy].concat();
        [command(&based), command(&exported), command(&printed)]
    };
    for words in ["inspect base", "ls base /", "diff base base"] {
        let words = words.split(' ').chain(["--signature-policy", "policy.json"]).collect::<Vec<_>>();
        let refused = command(&words).ended_with(2).failed_saying(&format!("has no effect with {}", words[0]));
        assert!(refused.stderr.starts_with("ocibuild: error: --signature-policy: "), "{refused}");
    }
    let (accept, reject) = (json!([{"type": "insecureAcceptAnything"}]), json!([{"type": "reject"}]));
    let all = ["oci:base", "oci-archive:base.tar", "docker-archive:base-docker.tar"];
    for image in all.into_iter().chain(["./base", "./base.tar", "./base-docker.tar"]) {
        policy(reject.clone(), json!({"docker": {"": accept}}));
        for finished in take(image) {
            finished.ended_with(1).failed_saying("policy.json rejects it: `reject` for all images (default)");
        }
        policy(accept.clone(), json!({"docker": {"": reject}}));
        for finished in take(image) {
            finished.success();
        }
    }
    let cases = [
        ("oci", "", "oci:base", "all images (oci)".to_owned()),
        ("oci", &path("base")[..], "oci:base", format!("{} (oci)", path("base"))),
        ("oci", &format!("{}:v1", path("base")), "oci:base:v1", format!("{}:v1 (oci)", path("base"))),
        ("oci", &real.display().to_string(), "oci:base", format!("{} (oci)", real.display())),
        ("oci-archive", &path("base.tar"), "oci-archive:base.tar", format!("{} (oci-archive)", path("base.tar"))),
        ("docker-archive", "", "docker-archive:base-docker.tar", "all images (docker-archive)".to_owned()),
    ];
    for (transport, scope, image, place) in &cases {
        policy(accept.clone(), json!({*transport: {*scope: reject}}));
        for finished in take(image) {
            finished.ended_with(1).failed_saying(&format!("rejects it: `reject` for {place}"));
        }
        policy(accept.clone(), json!({*transport: {*scope: signed()}}));
        let why = if *transport == "oci" { ": there is no signature" } else { ", and archives have no signatures" };
        let said = format!("policy.json requires `sigstoreSigned` for {place}{why}");
        for finished in take(image) {
            finished.ended_with(1).failed_saying(&said);
        }
        policy(reject.clone(), json!({*transport: {*scope: accept}}));
        for finished in take(image) {
            finished.success();
        }
    }
}

/// M44: skopeo keeps the signatures of a `dir:` image in files beside it.
#[test]
fn images_in_directories_are_signed_by_files() {
    let scratch = Scratch::new();
    scratch.write("app/file", "content\n");
    let command = |arguments: &[&str]| run(ocibuild().args(arguments).current_dir(scratch.path()));
    command(&["layout", "base", "--copy", "app:/app"]).success();
    command(&["export", "base", "dir:d"]).success();
    let digest = Digest::of(&std::fs::read(scratch.join("d/manifest.json")).unwrap());
    let (signer, name) = (Signer::ed25519(), "reg.example/team/base:v1");
    let require = |signer: &Signer| {
        let identity = json!({"type": "exactRepository", "dockerRepository": "reg.example/team/base"});
        let key = STANDARD.encode(signer.public_key());
        let signed = json!([{"type": "sigstoreSigned", "keyData": key, "signedIdentity": identity}]);
        let scope = scratch.path().canonicalize().unwrap().join("d").display().to_string();
        let policy = json!({"default": [{"type": "reject"}], "transports": {"dir": {scope: signed}}});
        scratch.write("policy.json", policy.to_string());
    };
    let file = |signed: Signed| {
        let annotations = json!({"dev.cosignproject.cosign/signature": STANDARD.encode(&signed.signature)});
        let mime_type = "application/vnd.dev.cosign.simplesigning.v1+json";
        let document =
            json!({"mimeType": mime_type, "payload": STANDARD.encode(&signed.payload), "annotations": annotations});
        format!("\0sigstore-json\n{document}")
    };
    let take = || {
        let policy = ["--signature-policy", "policy.json"];
        let based = [&["layout", "out", "--copy", "app:/more", "--base", "dir:d"][..], &policy].concat();
        let exported = [&["export", "dir:d", "oci:copy"][..], &policy].concat();
        [command(&based), command(&exported)]
    };
    let refused = |said: &str| {
        for finished in take() {
            finished.ended_with(1).failed_saying(said);
        }
    };
    require(&signer);
    refused("policy.json requires `sigstoreSigned` for");
    scratch.write("d/signature-1", "a signature of GnuPG");
    refused("there is no signature");
    scratch.write("d/signature-2", file(signer.sign_image(Digest::of(b"other"), name)));
    refused("a signature is for sha256:");
    scratch.write("d/signature-3", "\0sigstore-json\n{");
    refused("d/signature-3: not JSON");
    scratch.write("d/signature-3", vec![b'x'; (256 << 10) + 1]);
    refused("d/signature-3: larger than 256 KiB");
    scratch.write("d/signature-3", file(signer.sign_image(digest, name)));
    for finished in take() {
        finished.success();
    }
    require(&Signer::p256());
    refused("with another key");
    require(&signer);
    std::fs::rename(scratch.join("d/signature-3"), scratch.join(format!("d/{}.signature-1", digest.hex()))).unwrap();
    for finished in take() {
        finished.success();
    }
}

/// M44: a policy that is malformed or missing is an error that names its file, before anything is asked.
#[test]
fn a_policy_that_cannot_be_read_is_an_error() {
    let trial = Trial::new();
    let asks = || {
        let mut pull = trial.yard.ocibuild();
        run(pull.args(["pull", &trial.yard.base(), "--signature-policy", "policy.json"]))
    };
    asks().ended_with(1).failed_saying("policy.json: not found");
    let cases = [
        ("{", "policy.json: not JSON"),
        (r#"{"default": []}"#, "policy.json: a list of requirements is empty"),
        (
            r#"{"default": [{"type": "reject"}], "default": [{"type": "insecureAcceptAnything"}]}"#,
            "policy.json: not JSON",
        ),
        (r#"{"default": [{"type": "sigstoreSigned"}]}"#, "policy.json: `sigstoreSigned` names no key"),
        (
            r#"{"default": [{"type": "sigstoreSigned", "keyPath": "/k", "signedIdentity": {"type": "matchAll"}}]}"#,
            "policy.json: `signedIdentity` of an unknown type",
        ),
        (
            r#"{"default": [{"type": "sigstoreSigned", "keyPath": "/k", "signedIdentity":
                {"type": "exactReference", "dockerReference": "reg.example/a"}}]}"#,
            "policy.json: `signedIdentity` with a `dockerReference` that has neither a tag nor a digest",
        ),
        (r#"{"default": [{"type": "sigstoreSigned", "fulcio": {}}]}"#, "requires `sigstoreSigned with fulcio`"),
        (r#"{"default": [{"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/k"}]}"#, "requires `signedBy`"),
    ];
    for (policy, said) in cases {
        trial.yard.scratch.write("policy.json", policy);
        asks().ended_with(1).failed_saying(said).failed_saying("policy.json");
    }
    assert_eq!(trial.yard.server.seen().len(), 0);
}

/// M44: without the flag, the policy of this user counts.
#[test]
fn the_policy_of_the_user_counts() {
    let trial = Trial::new();
    let home = trial.yard.scratch.join("home");
    trial.yard.scratch.write("home/.config/containers/policy.json", r#"{"default": [{"type": "reject"}]}"#);
    let mut pull = trial.yard.ocibuild();
    let refused = run(pull.args(["pull", &trial.yard.base()]).env("HOME", home)).ended_with(1);
    refused.failed_saying(".config/containers/policy.json rejects it: `reject` for all images (default)");
}
