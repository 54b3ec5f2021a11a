//! M44: images that have to be signed, through every command that takes one.

use super::bases::{BASE, Yard, image, index};
use super::server::Server;
use super::signer::{Signed, Signer, attach, payload};
use super::*;
use crate::support::{Finished, is_left_out, run};
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// A registry with one image, and a policy that decides about it.
pub(super) struct Trial {
    pub(super) yard: Yard,
    pub(super) digest: Digest,
}

impl Trial {
    pub(super) fn new() -> Trial {
        let yard = Yard::new();
        let manifest = image(&yard.shelf, 5000, "amd64");
        yard.shelf.clone().with_manifest(BASE, "stable", media_type::MANIFEST, &manifest);
        Trial { yard, digest: Digest::of(&manifest) }
    }

    /// A trial with an image that `signer` has signed under its own name.
    fn signed_by(signer: &Signer) -> Trial {
        let trial = Trial::new();
        trial.attach(&[signer.sign_image(trial.digest, &trial.yard.base())]);
        trial
    }

    fn attach(&self, signatures: &[Signed]) {
        attach(&self.yard.shelf, self.digest, signatures);
    }

    /// Writes a policy that rejects everything, and has `requirements` for the repository.
    pub(super) fn policy(&self, requirements: &Value) {
        let repository = format!("{}/{BASE}", self.yard.server.host());
        let policy = json!({"default": [{"type": "reject"}], "transports": {"docker": {repository: requirements}}});
        self.yard.scratch.write("policy.json", policy.to_string());
    }

    /// Writes a policy that requires a signature of `signer`, and what is in `more`.
    fn require(&self, signer: &Signer, more: Value) {
        let key = STANDARD.encode(signer.public_key());
        let mut requirement = json!({"type": "sigstoreSigned", "keyData": key});
        requirement.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.policy(&json!([requirement]));
    }

    /// Takes the image called `name` with every command, each with an empty cache.
    fn results_for(&self, name: &str) -> Vec<Finished> {
        let source = format!("docker://{name}");
        let commands = [
            &["pull", name][..],
            &["layout", "out", "--copy", "app:/app", "--base", &source],
            &["export", &source, "oci:copy:v1"],
        ];
        let results = commands.iter().map(|arguments| {
            for left in ["cache", "out", "copy"] {
                fs::remove_dir_all(self.yard.scratch.join(left)).ok();
            }
            let mut command = self.yard.ocibuild();
            run(command.args(*arguments).args(["--signature-policy", "policy.json"]))
        });
        results.collect()
    }

    #[track_caller]
    fn accepted(&self) {
        self.accepted_as(&self.yard.base());
    }

    #[track_caller]
    fn accepted_as(&self, name: &str) {
        for finished in self.results_for(name) {
            let finished = finished.success();
            assert!(!finished.stderr.contains("warning"), "{finished}");
        }
    }

    #[track_caller]
    fn refused(&self, said: &str) {
        self.refused_as(&self.yard.base(), said);
    }

    #[track_caller]
    fn refused_as(&self, name: &str, said: &str) {
        for finished in self.results_for(name) {
            let finished = finished.ended_with(1).failed_saying(said).failed_saying("policy.json");
            // One line: nothing was copied before the refusal.
            assert_eq!(finished.stderr.lines().count(), 1, "{finished}");
            assert!(!self.yard.scratch.join("copy/index.json").exists(), "{finished}");
        }
    }
}

/// M44: what an ECDSA P-256 or an Ed25519 key has signed is accepted, and nothing else.
#[test]
fn an_image_is_accepted_for_a_signature_of_the_key() {
    if is_left_out() {
        return;
    }
    for signer in [Signer::p256(), Signer::ed25519()] {
        let trial = Trial::signed_by(&signer);
        trial.require(&signer, json!({}));
        trial.accepted();
        for other in [Signer::p256(), Signer::ed25519()] {
            trial.require(&other, json!({}));
            trial.refused("a signature was made with another key");
        }
    }
}

/// M44: without a signature, the image is refused.
#[test]
fn an_image_without_a_signature_is_refused() {
    let (trial, signer) = (Trial::new(), Signer::p256());
    trial.require(&signer, json!({}));
    let repository = format!("{}/{BASE}", trial.yard.server.host());
    trial.refused(&format!("policy.json requires `sigstoreSigned` for {repository} (docker): there is no signature"));
    trial.policy(&json!([{"type": "reject"}]));
    trial.refused(&format!("policy.json rejects it: `reject` for {repository} (docker)"));
    trial.policy(&json!([{"type": "insecureAcceptAnything"}]));
    trial.accepted();
}

/// M44: what was signed is the very document, of this very image.
#[test]
fn a_signature_of_something_else_is_refused() {
    if is_left_out() {
        return;
    }
    let (trial, signer) = (Trial::new(), Signer::p256());
    let name = trial.yard.base();
    let good = signer.sign_image(trial.digest, &name);
    trial.require(&signer, json!({}));
    let altered = Signed { payload: payload(trial.digest, &name.replace("stable", "STABLE")), ..good.clone() };
    let cut = Signed { signature: good.signature[..good.signature.len() - 1].to_vec(), ..good.clone() };
    let other_image = signer.sign_image(Digest::of(b"another image"), &name);
    let changed = |from: &str, to: &str| {
        signer.sign(String::from_utf8(good.payload.clone()).unwrap().replace(from, to).into_bytes())
    };
    let no_image = "a signature is for something other than an image".to_owned();
    let cases = [
        (altered, "a signature was made with another key".to_owned()),
        (cut, "a signature was made with another key".to_owned()),
        (other_image, format!("a signature is for {}", Digest::of(b"another image"))),
        (changed("cosign container", "atomic container"), no_image.clone()),
        (changed(r#""type":"#, r#""only-until":"2020","type":"#), no_image.clone()),
        (changed("optional", "options"), no_image),
        (signer.sign(b"hello".to_vec()), "not JSON".to_owned()),
    ];
    for (signed, said) in cases {
        trial.attach(&[signed]);
        trial.refused(&said);
    }
    // One good one is enough, whatever else is there.
    let strangers = Signer::ed25519().sign_image(trial.digest, &name);
    trial.attach(&[strangers, signer.sign(b"{}".to_vec()), good.clone()]);
    trial.accepted();
}

/// M44: of an image for several platforms, the manifest that is taken has to be signed, as skopeo and podman have it.
#[test]
fn the_manifest_of_the_platform_is_what_has_to_be_signed() {
    if is_left_out() {
        return;
    }
    let (mut trial, signer) = (Trial::new(), Signer::p256());
    let (index, name) = (index(&trial.yard.shelf, 5000, "stable"), trial.yard.base());
    trial.require(&signer, json!({}));
    attach(&trial.yard.shelf, index, &[signer.sign_image(index, &name)]);
    trial.refused("there is no signature");
    trial.digest = Digest::of(&image(&trial.yard.shelf, 5000, "amd64"));
    trial.attach(&[signer.sign_image(trial.digest, &name)]);
    trial.accepted();
    // The registry cannot pass the signature of the index off as one of the manifest.
    trial.attach(&[signer.sign_image(index, &name)]);
    trial.refused(&format!("a signature is for {index}"));
}

/// M44: which name has to be signed, by every kind of `signedIdentity`.
#[test]
fn a_signature_is_for_the_name_that_the_policy_asks_for() {
    if is_left_out() {
        return;
    }
    let signer = Signer::p256();
    let trial = Trial::new();
    let base = trial.yard.base();
    let repository = base.strip_suffix(":stable").unwrap();
    let (other_tag, other) = (format!("{repository}:old"), "reg.example/team/other:stable".to_owned());
    let prefix = repository.split_once('/').unwrap().0;
    let identity = |kind: &str| json!({"type": kind});
    let cases: [(Value, Vec<&str>, Vec<&str>); 6] = [
        (identity("matchExact"), vec![&base], vec![&other_tag, repository, &other]),
        (identity("matchRepoDigestOrExact"), vec![&base], vec![&other_tag, repository, &other]),
        (identity("matchRepository"), vec![&base, &other_tag, repository], vec![&other]),
        (
            json!({"type": "exactReference", "dockerReference": "reg.example/team/other:stable"}),
            vec![&other],
            vec![&base, "reg.example/team/other:old"],
        ),
        (
            json!({"type": "exactRepository", "dockerRepository": "reg.example/team/other"}),
            vec![&other, "reg.example/team/other:old"],
            vec![&base],
        ),
        (
            json!({"type": "remapIdentity", "prefix": prefix, "signedPrefix": "vendor.example/hub"}),
            vec!["vendor.example/hub/team/base:stable"],
            vec![&base, "vendor.example/hub/team/base:old"],
        ),
    ];
    for (identity, accepted, refused) in cases {
        trial.require(&signer, json!({"signedIdentity": identity}));
        for name in accepted {
            trial.attach(&[signer.sign_image(trial.digest, name)]);
            trial.accepted();
        }
        for name in refused {
            trial.attach(&[signer.sign_image(trial.digest, name)]);
            trial.refused(&format!("a signature is for {name}, which does not match `signedIdentity`"));
        }
    }
    // What is asked for by its digest has no tag to compare: the repository counts, unless the policy wants the exact name.
    let pinned = format!("{repository}@{}", trial.digest);
    trial.attach(&[signer.sign_image(trial.digest, &other_tag)]);
    trial.require(&signer, json!({}));
    trial.accepted_as(&pinned);
    trial.require(&signer, json!({"signedIdentity": {"type": "matchExact"}}));
    trial.refused_as(&pinned, "which does not match `signedIdentity`");
    trial.attach(&[signer.sign_image(trial.digest, &pinned)]);
    trial.accepted_as(&pinned);
    // `cosign sign` signs the bare repository, which only `matchRepository` and fixed names accept.
    trial.attach(&[signer.sign_image(trial.digest, repository)]);
    trial.require(&signer, json!({}));
    trial.refused_as(&pinned, "which does not match `signedIdentity`");
}

/// M44: keys are named by path or by value, one or several of them.
#[test]
fn a_policy_names_keys_in_four_ways() {
    if is_left_out() {
        return;
    }
    let (signer, other) = (Signer::p256(), Signer::ed25519());
    let trial = Trial::signed_by(&signer);
    let file = |signer: &Signer, name: &str| trial.yard.scratch.write(name, signer.public_key()).display().to_string();
    let (key, foreign) = (file(&signer, "key.pub"), file(&other, "other.pub"));
    let data = |signer: &Signer| STANDARD.encode(signer.public_key());
    let cases: [(&str, Value, Option<&str>); 8] = [
        ("keyPath", json!(key), None),
        ("keyPaths", json!([foreign, key]), None),
        ("keyData", json!(data(&signer)), None),
        ("keyDatas", json!([data(&other), data(&signer)]), None),
        ("keyPaths", json!([foreign]), Some("with another key")),
        ("keyDatas", json!([data(&other)]), Some("with another key")),
        ("keyPath", json!("/nowhere/key.pub"), Some("/nowhere/key.pub")),
        ("keyData", json!(STANDARD.encode("no key")), Some("`keyData`: not a public key in PEM")),
    ];
    for (member, keys, refused) in cases {
        trial.policy(&json!([{"type": "sigstoreSigned", member: keys}]));
        match refused {
            None => trial.accepted(),
            Some(said) => trial.refused(said),
        }
    }
    // Every requirement of a list has to hold.
    let required = |signer: &Signer| json!({"type": "sigstoreSigned", "keyData": data(signer)});
    trial.policy(&json!([required(&signer), required(&other)]));
    trial.refused("with another key");
    let name = trial.yard.base();
    trial.attach(&[signer.sign_image(trial.digest, &name), other.sign_image(trial.digest, &name)]);
    trial.accepted();
    trial.policy(&json!([required(&signer), {"type": "reject"}]));
    trial.refused("rejects it");
}

/// M44: how much is read of signatures that others put beside an image has a bound.
#[test]
fn signatures_without_end_are_not_read() {
    if is_left_out() {
        return;
    }
    let (trial, signer) = (Trial::new(), Signer::p256());
    let name = trial.yard.base();
    trial.require(&signer, json!({}));
    let mut huge = payload(trial.digest, &name);
    huge.resize(64 << 10, b' ');
    trial.attach(&[signer.sign(huge.clone())]);
    trial.accepted();
    huge.push(b' ');
    trial.attach(&[signer.sign(huge)]);
    for finished in trial.results_for(&name) {
        finished.ended_with(1).failed_saying("signatures of sha256:").failed_saying("larger than 64 KiB");
    }
    // Behind a hundred strangers, a good one is not looked for.
    let mut many: Vec<Signed> = (0..100).map(|number| Signer::ed25519().sign(vec![b'x'; number + 1])).collect();
    many.push(signer.sign_image(trial.digest, &name));
    trial.attach(&many);
    trial.refused("a signature was made with another key");
}

/// M44: signatures that were accepted are kept for builds without a network; others are looked for again.
#[test]
fn accepted_signatures_are_kept() {
    let (trial, signer) = (Trial::new(), Signer::p256());
    let base = trial.yard.base();
    let command =
        |arguments: &[&str]| run(trial.yard.ocibuild().args(arguments).args(["--signature-policy", "policy.json"]));
    let build = ["layout", "out", "--copy", "app:/app", "--base", &base];
    let offline = [&build[..], &["--offline"]].concat();
    let tag = format!("sha256-{}.sig", trial.digest.hex());
    trial.require(&signer, json!({}));
    command(&["pull", &base]).failed_saying("there is no signature");
    // Pulled without a policy.
    run(trial.yard.ocibuild().args(["pull", &base])).success();
    command(&offline).failed_saying("there is no signature").failed_saying("run with network access: ocibuild pull");
    let asked = trial.yard.server.seen().len();
    command(&[&build[..], &["--pull", "never"]].concat()).failed_saying("there is no signature");
    assert_eq!(trial.yard.server.seen().len(), asked, "--pull never asks no registry");
    // Signed later.
    trial.attach(&[Signer::ed25519().sign_image(trial.digest, &base)]);
    command(&build).failed_saying("with another key");
    trial.attach(&[signer.sign_image(trial.digest, &base)]);
    command(&build).success();
    let asked = trial.yard.server.seen().len();
    command(&offline).success();
    command(&[&build[..], &["--pull", "never"]].concat()).success();
    command(&build).success();
    assert_eq!(trial.yard.server.seen().len(), asked, "what is kept is not asked for again");
    // Kept signatures prove nothing without the key.
    let other = Signer::p256();
    trial.require(&other, json!({}));
    command(&offline).failed_saying("with another key");
    trial.require(&signer, json!({}));
    let kept = trial.yard.scratch.join("cache/signatures/v1").join(trial.digest.hex());
    let (good, asked) = (fs::read(&kept).unwrap(), trial.yard.server.count(&format!("GET /v2/{BASE}/manifests/{tag}")));
    fs::write(&kept, &good[1..]).unwrap();
    command(&offline).failed_saying("there is no signature");
    command(&build).success();
    assert_eq!(trial.yard.server.count(&format!("GET /v2/{BASE}/manifests/{tag}")), asked + 1);
    assert_eq!(fs::read(&kept).unwrap(), good);
}

/// M44: a mirror that has the image without its signatures.
#[test]
fn signatures_are_looked_for_at_every_place_of_the_image() {
    let signer = Signer::p256();
    let trial = Trial::signed_by(&signer);
    trial.require(&signer, json!({}));
    let manifest = trial.yard.shelf.manifest(BASE, "stable").unwrap();
    let (mirror, shelf) = Server::with_shelf(|x, shelf| shelf.serve(x));
    image(&shelf, 5000, "amd64");
    shelf.with_manifest(BASE, "stable", media_type::MANIFEST, &manifest);
    let rule = format!("{}={}", trial.yard.server.host(), mirror.host());
    let mut pull = trial.yard.ocibuild();
    pull.args(["pull", &trial.yard.base(), "--mirror", &rule, "--signature-policy", "policy.json"]);
    let pulled = run(&mut pull).success();
    assert!(pulled.stderr.contains("no signature of sha256:"), "{pulled}");
    assert!(pulled.stderr.contains("trying the next location"), "{pulled}");
    assert!(mirror.lines().iter().any(|line| line.contains("/blobs/")));
    assert!(!trial.yard.server.lines().iter().any(|line| line.contains(&format!("/manifests/{}", trial.digest))));
}

/// M44: kept signatures are a part of the cache: counted, verified, used with their base, and taken out.
#[test]
fn kept_signatures_are_a_part_of_the_cache() {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    let signer = Signer::p256();
    let trial = Trial::signed_by(&signer);
    trial.require(&signer, json!({}));
    let pull = || {
        let arguments = ["pull", &trial.yard.base(), "--signature-policy", "policy.json"];
        run(trial.yard.ocibuild().args(arguments)).success()
    };
    let cache = |arguments: &[&str]| run(trial.yard.ocibuild().arg("cache").args(arguments));
    pull();
    let kept = trial.yard.scratch.join("cache/signatures/v1").join(trial.digest.hex());
    let size = kept.metadata().unwrap().len();
    let info: Value = serde_json::from_slice(&cache(&["info", "--format", "json"]).success().stdout).unwrap();
    assert_eq!(info["kinds"]["signature file"], json!({"count": 1, "bytes": size}));
    assert!(cache(&["info"]).success().text().contains("\n1 signature file, "));
    cache(&["verify"]).success();
    fs::write(&kept, "[{}]").unwrap();
    let damaged = format!("{}: damaged and discarded", kept.display());
    assert!(cache(&["verify"]).ended_with(1).text().contains(&damaged));
    assert!(!kept.exists());
    pull();
    // They are used whenever the base is, however old they are.
    let set_used = |file: &Path, days: u32| {
        let file = fs::File::options().write(true).open(file).unwrap();
        file.set_modified(SystemTime::now() - days * DAY).unwrap();
    };
    set_used(&kept, 40);
    cache(&["prune", "--older-than", "30d"]).success();
    assert!(kept.exists());
    set_used(&trial.yard.scratch.join("cache/used/v1").join(trial.digest.hex()), 40);
    assert!(cache(&["prune", "--older-than", "30d"]).success().text().contains("1 signature file removed"));
    assert!(!kept.exists());
    pull();
    cache(&["prune", "--keep", "1"]).success();
    assert!(kept.exists(), "what is so small is no reason to ask the registry again");
    cache(&["clear"]).success();
    assert!(!kept.exists());
}
