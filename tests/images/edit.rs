//! Changes of the config and the annotations of existing images.

use super::{Yard, read};
use crate::consumers::{Registry, Skopeo, Umoci};
use crate::registry::server::Server;
use crate::support::{command, is_left_out, run};
use serde_json::{Value, json};
use std::fs;
use std::process::Stdio;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Everything that flags can set.
const SET: &str = "--label l=2 --env A=2 --env B=3 --entrypoint /a/run --cmd x --user 7 --workdir /w --expose 81 --volume /v \
                   --stop-signal SIGINT --author me --created 9 --healthcheck check --health-interval 30s --health-timeout 5s \
                   --health-start-period 1m --health-retries 3 --annotation k=v";

/// Lists `manifest` as the image `v1` of a layout, with documents as another program formats them.
fn list_foreign(yard: &Yard, config: &Value, change: impl FnOnce(&mut Value)) -> Value {
    let layer = yard.json("inspect out")["layers"][0].clone();
    let config = yard.blob("out", CONFIG, format!("{config:#}\n").as_bytes());
    let mut manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "x-vendor": {"kept": [1.5, null]},
        "layers": [{"mediaType": layer["mediaType"], "digest": layer["digest"], "size": layer["size"], "x": 1}],
        "annotations": {"org.opencontainers.image.base.name": "docker.io/library/debian:stable", "own": "1"},
    });
    change(&mut manifest);
    let mut entry = yard.blob("out", MANIFEST, format!("{manifest:#}\n").as_bytes());
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": "v1", "vendor.io/mark": "kept"});
    entry["x-entry"] = json!(true);
    yard.edit_index("out", |manifests| *manifests = vec![entry.clone()]);
    entry
}

fn foreign_config(yard: &Yard) -> Value {
    let mut config = yard.json("inspect out")["config"].clone();
    config["moby.buildkit.buildinfo.v1"] = json!("eyJ9");
    config["config"] = json!({"Env": ["PATH=/bin", "A=1"], "Labels": {"l": "1"}, "Cmd": null, "OnBuild": null,
        "ArgsEscaped": true, "ExposedPorts": {"80": {}}, "Volumes": {}, "Entrypoint": []});
    config
}

#[test]
fn every_member_is_set_and_unset() {
    let yard = Yard::new();
    let before = yard.text("layout out -t v1 --copy a:/a");
    let after = yard.text(&format!("edit out:v1 {SET}"));
    assert_ne!(before, after);
    let shown = yard.json("inspect out:v1");
    assert_eq!(
        shown["config"]["config"],
        json!({
            "Cmd": ["x"], "Entrypoint": ["/a/run"], "Env": ["A=2", "B=3"], "ExposedPorts": {"81/tcp": {}}, "Labels": {"l": "2"},
            "StopSignal": "SIGINT", "User": "7", "Volumes": {"/v": {}}, "WorkingDir": "/w",
            "Healthcheck": {"Test": ["CMD", "check"], "Interval": 30_000_000_000_u64, "Timeout": 5_000_000_000_u64,
                "StartPeriod": 60_000_000_000_u64, "Retries": 3},
        })
    );
    assert_eq!(
        (&shown["config"]["author"], &shown["config"]["created"]),
        (&json!("me"), &json!("1970-01-01T00:00:09Z"))
    );
    assert_eq!(shown["annotations"], json!({"k": "v"}));
    assert_eq!(yard.text(&format!("edit out:v1 {SET}")), after, "the same edit changes nothing");
    let unset = "edit out:v1 --unset-label l --unset-env A --unset-env B --unset entrypoint --unset cmd --unset user \
                 --unset workdir --unset-expose 81 --unset-volume /v --unset stop-signal --unset author --unset healthcheck \
                 --unset-annotation k --created 0";
    assert_eq!(yard.text(unset), before, "setting and unsetting leads back");
    yard.run("verify out:v1").success();
}

/// Unknown members survive, and so do the annotations about the base and the entry of the index.
#[test]
fn documents_of_other_programs_keep_what_is_not_named() {
    let yard = Yard::new();
    yard.text("layout out -t v1 --copy a:/a");
    let config = foreign_config(&yard);
    let entry = list_foreign(&yard, &config, |_| {});
    for nothing in [
        "--label l=1",
        "--env A=1 --unset-env B",
        "--entrypoint []",
        "--unset cmd",
        "--unset-annotation none",
        "--annotation own=1",
        "--unset-volume /v",
        "--created 1970-01-01T00:00:00.000Z",
        "--unset healthcheck",
    ] {
        let finished = yard.run(&format!("edit out:v1 {nothing}")).success();
        assert_eq!(finished.text(), entry["digest"], "{nothing}");
        assert!(finished.stderr.contains("no change"), "{finished}");
        assert_eq!(read(&yard.scratch.join("out/index.json"))["manifests"][0], entry, "{nothing}");
    }
    let report = yard.json("edit out:v1 --label l=2 --unset-expose 80/tcp");
    assert_eq!((&report["changed"], &report["replaced"][0]["name"]), (&json!(true), &json!("v1")));
    let shown = yard.json("inspect out:v1");
    let mut expected = config;
    expected["config"]["Labels"]["l"] = "2".into();
    expected["config"].as_object_mut().unwrap().remove("ExposedPorts");
    assert_eq!(shown["config"], expected);
    let digest: ocibuild::Digest = report["digest"].as_str().unwrap().parse().unwrap();
    let manifest = read(&yard.scratch.join("out/blobs/sha256").join(digest.hex()));
    assert_eq!((&manifest["x-vendor"], &manifest["layers"][0]["x"]), (&json!({"kept": [1.5, null]}), &json!(1)));
    assert_eq!(manifest["annotations"]["org.opencontainers.image.base.name"], "docker.io/library/debian:stable");
    let listed = read(&yard.scratch.join("out/index.json"))["manifests"][0].clone();
    assert_eq!((&listed["x-entry"], &listed["annotations"]), (&json!(true), &entry["annotations"]));
    assert_eq!(yard.json("edit out:v1 --unset-annotation org.opencontainers.image.base.name")["changed"], true);
}

/// The name moves alone, and what became unneeded is said.
#[test]
fn a_name_moves_and_the_image_before_stays() {
    let yard = Yard::new();
    let before = yard.text("layout out -t v1 -t v2 --copy a:/a");
    let first = yard.run("edit out:v1 --label x=1").success();
    assert!(first.stderr.contains(&format!("replaced {before}, the former v1")), "{first}");
    assert!(!first.stderr.contains("gc can free"), "{first}");
    assert_eq!(yard.json("inspect out:v2")["manifest"]["digest"], *before);
    let second = yard.run("edit out:v1 --label x=2").success();
    assert!(second.stderr.contains(&format!("replaced {}, the former v1; gc can free ", first.text())), "{second}");
    let report = yard.json(&format!("edit out@{} --label x=3", second.text()));
    let told = report["replaced"][0]["unneededBytes"].as_u64().unwrap();
    assert!(report["replaced"][0]["name"] == "v1" && told > 0 && told < 2000, "without the layer: {report}");
    assert_eq!(yard.text("edit out:v2 --label x=3 --to oci:other:moved"), report["digest"]);
    assert_eq!(yard.json("inspect out:v2")["manifest"]["digest"], *before);
    assert_eq!(yard.json("inspect other:moved")["manifest"]["digest"], report["digest"]);
    yard.text("edit out:v2 --label x=3 --to docker-archive:saved.tar:team/app:v9");
    assert_eq!(yard.json("inspect saved.tar")["names"], json!(["docker.io/team/app:v9"]));
    yard.run("verify other").success();
    yard.run("verify out").success();
}

#[test]
fn every_platform_is_changed_or_the_one_that_is_named() {
    let yard = Yard::new();
    let mut manifests = Vec::new();
    for architecture in ["amd64", "arm64"] {
        yard.text(&format!("layout many -t {architecture} --platform linux/{architecture} --copy a:/a"));
        let manifest = yard.json(&format!("inspect many:{architecture}"))["manifest"].clone();
        manifests.push(json!({"mediaType": MANIFEST, "digest": manifest["digest"], "size": manifest["size"],
            "platform": {"os": "linux", "architecture": architecture, "os.features": ["x"]}}));
    }
    let about = json!({"vnd.docker.reference.type": "attestation-manifest"});
    let statement = yard.blob("many", "application/vnd.in-toto+json", b"{}");
    let config = json!({"architecture": "unknown", "os": "unknown",
        "rootfs": {"type": "layers", "diff_ids": [statement["digest"]]}});
    let config = yard.blob("many", CONFIG, config.to_string().as_bytes());
    let attestation = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [statement]});
    let mut attestation = yard.blob("many", MANIFEST, attestation.to_string().as_bytes());
    attestation["platform"] = json!({"os": "unknown", "architecture": "unknown"});
    attestation["annotations"] = about;
    manifests.push(attestation);
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests, "annotations": {"i": "1"}});
    let mut entry = yard.blob("many", INDEX, index.to_string().as_bytes());
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": "stable"});
    yard.edit_index("many", |listed| *listed = vec![entry.clone()]);

    let one = yard.json("edit many:stable --platform linux/arm64 --label x=1");
    assert_eq!((one["images"].as_array().unwrap().len(), &one["images"][0]["platform"]), (1, &json!("linux/arm64")));
    assert_eq!(yard.json("inspect many --platform linux/amd64")["manifest"]["digest"], manifests[0]["digest"]);
    let finished = yard.run("edit many:stable --label x=1").success();
    assert!(finished.stderr.contains("1 entry of the index"), "{finished}");
    let digest: ocibuild::Digest = finished.text().parse().unwrap();
    let index = read(&yard.scratch.join("many/blobs/sha256").join(digest.hex()));
    assert_eq!((&index["annotations"], &index["manifests"][2]), (&json!({"i": "1"}), &manifests[2]));
    assert_eq!(index["manifests"][1]["digest"], one["images"][0]["digest"], "arm64 was so already");
    assert_eq!(index["manifests"][0]["platform"], manifests[0]["platform"]);
    assert_eq!(yard.text("edit many:stable --label x=1"), finished.text());
    let inner = index["manifests"][0]["digest"].as_str().unwrap();
    yard.refuses(&format!("edit many@{inner} --label x=2"), &["is one platform of another image"]);
    yard.run("edit many --platform linux/s390x --label x=2").failed_saying("no image for linux/s390x");
    yard.run("verify many").success();
}

/// Two edits at once: none is lost.
#[test]
fn edits_at_once_keep_each_other() {
    let yard = Yard::new();
    yard.text("layout out -t v1 --copy a:/a");
    let lines: Vec<String> = (0..6).map(|number| format!("edit out:v1 -q --label l{number}=1")).collect();
    let started: Vec<_> = lines.iter().map(|line| yard.command(line).stdout(Stdio::null()).spawn().unwrap()).collect();
    for mut child in started {
        assert!(child.wait().unwrap().success());
    }
    let labels = yard.json("inspect out:v1")["config"]["config"]["Labels"].clone();
    assert_eq!(labels.as_object().unwrap().len(), 6, "{labels}");
    yard.run("verify out:v1").success();
}

#[test]
fn mistakes_are_refused_before_anything_changes() {
    if is_left_out() {
        return;
    }
    let yard = Yard::new();
    yard.text("layout out -t v1 --copy a:/a");
    yard.text("export out:v1 oci-archive:out.tar");
    let before = fs::read(yard.scratch.join("out/index.json")).unwrap();
    yard.refuses("edit out:v1", &["edit: nothing to change"]);
    yard.refuses("edit out:v1 --env A=1 --unset-env A", &["--unset-env A: the variable is also set"]);
    yard.refuses("edit out:v1 --label a=1 --unset-label a", &["--unset-label a: is also set"]);
    yard.refuses("edit out:v1 --user 7 --unset user", &["--unset user: the member is also set"]);
    yard.refuses("edit out:v1 --health-retries 3", &["has no health check to change"]);
    yard.refuses(
        "edit out.tar --label a=1",
        &["can be changed in layouts and registries only", "--to oci-archive:out.tar"],
    );
    yard.run("edit out:v2 --label a=1").ended_with(1).failed_saying("no image `v2` (it has v1)");
    let labels: String = (0..100_000).map(|number| format!("\"label-{number}\":\"{}\",", "x".repeat(60))).collect();
    let mut config = yard.json("inspect out")["config"].clone();
    config["config"]["Labels"] = serde_json::from_str(&format!("{{{}\"z\":\"\"}}", labels)).unwrap();
    list_foreign(&yard, &config, |_| {});
    yard.run("edit out:v1 --label z=1").ended_with(1).failed_saying("larger than 8 MiB");
    fs::write(yard.scratch.join("out/index.json"), &before).unwrap();
    let blob = |count: usize| json!({"config": {"Labels": (0..count).map(|n| (n.to_string(), json!("x"))).collect::<serde_json::Map<_, _>>()}});
    let mut config = yard.json("inspect out")["config"].clone();
    config["config"] = blob(100_000)["config"].clone();
    list_foreign(&yard, &config, |_| {});
    yard.text("edit out:v1 --label 99999=y");
    assert_eq!(yard.json("inspect out:v1")["config"]["config"]["Labels"]["99999"], "y");
    list_foreign(&yard, &json!({}), |manifest| manifest["artifactType"] = "application/spdx+json".into());
    yard.run("edit out:v1 --label a=1")
        .ended_with(1)
        .failed_saying("an artifact `application/spdx+json`, not an image");
}

#[test]
fn signatures_of_the_image_before_are_mentioned() {
    let yard = Yard::new();
    yard.text("layout out -t v1 --copy a:/a");
    let image = yard.json("inspect out")["manifest"].clone();
    super::referrers::attach(&yard, "out", &image, "application/spdx+json");
    let edited = yard.run("edit out:v1 --label a=1").success();
    let line = format!("signatures and other artifacts about {} do not apply", image["digest"].as_str().unwrap());
    assert!(edited.stderr.contains(&line), "{edited}");
    assert!(!yard.run("edit out:v1 --label a=2").success().stderr.contains("signatures"));
    yard.text("layout out -t signed --copy a:/a");
    let copied = yard.run("edit out:signed --label a=1 --to oci:other").success();
    assert!(copied.stderr.contains(&line), "on the way to another place, too: {copied}");
    yard.run("verify out").success();
}

/// An index whose entries lead to each other again and again.
#[test]
fn indexes_that_multiply_are_refused() {
    if is_left_out() {
        return;
    }
    let yard = Yard::new();
    yard.text("layout out -t v1 --copy a:/a");
    let mut listed = yard.json("inspect out")["manifest"].clone();
    for _ in 0..3 {
        listed = json!({"mediaType": listed["mediaType"], "digest": listed["digest"], "size": listed["size"]});
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": vec![listed; 100]});
        listed = yard.blob("out", INDEX, index.to_string().as_bytes());
    }
    listed["annotations"] = json!({"org.opencontainers.image.ref.name": "many"});
    yard.edit_index("out", |manifests| manifests.push(listed));
    yard.run("edit out:many --label a=1").ended_with(1).failed_saying("refers to more than 1000 images");
    let export = "export out:many --all-platforms oci:copy";
    yard.run(export).ended_with(1).failed_saying("refers to more than 10000 images");
}

/// What another program pushes while an image is changed is not lost.
#[test]
fn a_tag_that_was_moved_meanwhile_stays() {
    let yard = Yard::new();
    yard.text("layout out -t v1 --copy a:/a");
    let theirs = json!({"schemaVersion": 2, "mediaType": MANIFEST}).to_string();
    let pushed = theirs.clone();
    let (server, shelf) = Server::with_shelf(move |x, shelf| {
        if x.nth == 1 && x.request.method == "PUT" && x.line().contains("/blobs/") {
            shelf.clone().with_manifest("team/app", "v1", MANIFEST, pushed.as_bytes());
        }
        shelf.serve(x);
    });
    let image = format!("docker://{}/team/app:v1", server.host());
    yard.text(&format!("export out:v1 {image}"));
    shelf.clone().with_manifest("team/app", "v2", MANIFEST, &shelf.any_manifest("team/app"));
    let moved = yard.run(&format!("edit {image} --label a=1")).ended_with(1);
    assert!(moved.stderr.contains("another program has moved the tag to sha256:"), "{moved}");
    assert!(moved.stderr.contains("(run the command again)"), "{moved}");
    assert_eq!(shelf.manifest("team/app", "v1").unwrap(), theirs.as_bytes());
}

/// In a registry, the config and the manifest are pushed, and no layer is read.
#[test]
fn an_image_of_a_registry_is_changed_where_it_is() {
    let Some(registry) = Registry::plain() else { return };
    let yard = Yard::new();
    let image = format!("docker://{}/team/app:v1", registry.address());
    let before = yard.text("layout out -t v1 --copy a:/a --label a=1");
    yard.text(&format!("export out:v1 {image}"));
    let changed = yard.run(&format!("edit {image} --label a=2")).success();
    let layer = yard.json("inspect out")["layers"][0]["digest"].as_str().unwrap()[..19].to_owned();
    assert!(!changed.stderr.contains(&layer), "{changed}");
    assert!(changed.stderr.contains(&format!("artifacts about {before} do not apply")), "{changed}");
    assert_eq!(yard.json(&format!("inspect {image}"))["config"]["config"]["Labels"], json!({"a": "2"}));
    assert_eq!(yard.text("edit out:v1 --label a=2"), changed.text(), "the same digest in a layout");
    assert!(yard.run(&format!("edit {image} --label a=2")).success().stderr.contains("no change"));
    yard.refuses(&format!("edit {image}@{before} --label a=3"), &["names an image by its digest"]);
    let other = format!("docker://{}/team/other:v1", registry.address());
    yard.text(&format!("edit {image} --label a=3 --to {other}"));
    assert_eq!(yard.json(&format!("inspect {image}"))["config"]["config"]["Labels"], json!({"a": "2"}));
    yard.text(&format!("export {other} oci:back"));
    yard.run("verify back").success();
}

/// skopeo and umoci read what was edited, and umoci's edit of the same image has the same config.
#[test]
fn other_programs_read_the_edited_image() {
    if is_left_out() {
        return;
    }
    let yard = Yard::new();
    yard.text("layout out -t v1 --copy a:/a --env A=1");
    if Umoci::find().is_some() {
        let umoci = |words: &str| {
            run(command("umoci").current_dir(yard.scratch.path()).args(words.split(' '))).success();
        };
        umoci(
            "config --image out:v1 --tag by-umoci --no-history --config.label l=2 --config.user 7 --config.workingdir /w",
        );
        yard.text("edit out:v1 --label l=2 --user 7 --workdir /w");
        let config = |name: &str| yard.json(&format!("inspect out:{name}"))["config"]["config"].clone();
        assert_eq!(config("v1"), config("by-umoci"));
        umoci("unpack --rootless --image out:v1 bundle");
        assert_eq!(fs::read_to_string(yard.scratch.join("bundle/rootfs/a/file")).unwrap(), "a");
    }
    if Skopeo::find().is_some() {
        let digest = yard.text("edit out:v1 --label l=3 --annotation k=v");
        let shown = run(command("skopeo").current_dir(yard.scratch.path()).args(["inspect", "oci:out:v1"])).success();
        let shown: Value = serde_json::from_str(shown.text()).unwrap();
        assert_eq!((&shown["Digest"], &shown["Labels"]["l"]), (&json!(digest), &json!("3")));
    }
}
