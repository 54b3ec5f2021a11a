//! SBOMs, signatures and other artifacts about images.

use super::Yard;
use crate::consumers::{Registry, Skopeo};
use crate::support::{command, consumer, run};
use serde_json::{Value, json};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Attaches an artifact to a manifest as `oras attach --oci-layout` does, and returns its digest.
pub(super) fn attach(yard: &Yard, layout: &str, subject: &Value, kind: &str) -> String {
    let subject = json!({"mediaType": subject["mediaType"], "digest": subject["digest"], "size": subject["size"]});
    let config = yard.blob(layout, "application/vnd.oci.empty.v1+json", b"{}");
    let mut content = yard.blob(layout, kind, format!("a {kind}").as_bytes());
    content["annotations"] = json!({"org.opencontainers.image.title": "sbom.json"});
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": kind, "config": config, "layers": [content],
        "subject": subject, "annotations": {"org.opencontainers.image.created": "2024-01-01T00:00:00Z"},
    });
    let mut entry = yard.blob(layout, MANIFEST, manifest.to_string().as_bytes());
    entry["artifactType"] = kind.into();
    let digest = entry["digest"].as_str().unwrap().to_owned();
    yard.edit_index(layout, |manifests| manifests.push(entry));
    digest
}

/// M63: an attached SBOM is complete, is not an image, and hides no image.
#[test]
fn artifacts_are_no_images() {
    let yard = Yard::new();
    let digest = yard.text("layout out -t team/a:v1 --copy a:/a");
    let image = yard.json("inspect out")["manifest"].clone();
    let sbom = attach(&yard, "out", &image, "application/spdx+json");
    let report = yard.json("verify out");
    assert_eq!((&report["images"], &report["artifacts"], &report["faults"]), (&json!(1), &json!(1), &json!([])));
    assert_eq!(yard.json("verify out:v1")["artifacts"], 1);
    assert_eq!(yard.json("inspect out")["manifest"]["digest"], digest);
    assert_eq!(yard.json("layout based --base oci:out --copy b:/b")["baseLayers"], 1);
    // An artifact whose type is missing in the index is still not an image.
    yard.edit_index("out", |manifests| drop(manifests[1].as_object_mut().unwrap().remove("artifactType")));
    assert_eq!(yard.text("export out oci:copy"), digest);
    yard.run(&format!("inspect out@{sbom}")).ended_with(1).failed_saying("not a runnable image");
    // Builds keep it.
    yard.text("layout out -t team/b:v1 --copy b:/b");
    assert_eq!(yard.json("verify out")["artifacts"], 1);
    // Its blobs are verified like all others.
    let content = ocibuild::Digest::of(b"a application/spdx+json");
    std::fs::write(yard.scratch.join("out/blobs/sha256").join(content.hex()), "damaged").unwrap();
    assert!(yard.run("verify out").ended_with(1).text().contains(&content.to_string()));
}

/// M63: an SBOM and its signature are copied with their image, and artifacts about other images are not.
#[test]
fn referrers_go_with_their_image() {
    let yard = Yard::new();
    let digest = yard.text("layout out -t team/a:v1 --copy a:/a");
    yard.text("layout out -t team/b:v1 --copy b:/b");
    let manifest = |name: &str| yard.json(&format!("inspect out:{name}"))["manifest"].clone();
    let sbom = attach(&yard, "out", &manifest("team/a:v1"), "application/spdx+json");
    attach(&yard, "out", &manifest("team/b:v1"), "application/other");
    let size = std::fs::metadata(yard.scratch.join("out/blobs/sha256").join(&sbom[7..])).unwrap().len();
    let about = json!({"mediaType": MANIFEST, "digest": sbom, "size": size});
    attach(&yard, "out", &about, "application/signature");
    assert_eq!(yard.text("export out:team/a:v1 oci:copy"), digest);
    assert_eq!(yard.text("export out:team/a:v1 oci-archive:copy.tar"), digest);
    assert_eq!(yard.text("export copy.tar oci:again"), digest);
    for layout in ["copy", "again"] {
        let report = yard.json(&format!("verify {layout}"));
        assert_eq!((&report["images"], &report["artifacts"]), (&json!(1), &json!(2)), "{layout}");
        let index = super::read(&yard.scratch.join(layout).join("index.json"));
        let types: Vec<_> =
            index["manifests"].as_array().unwrap().iter().map(|listed| &listed["artifactType"]).collect();
        assert_eq!(types, [&json!(null), &json!("application/spdx+json"), &json!("application/signature")], "{layout}");
    }
}

/// M63: an SBOM and the signature of it go to a registry that has no list of referrers, and are listed under the tag for that.
#[test]
fn referrers_are_pushed_to_a_registry() {
    let (Some(skopeo), Some(registry)) = (Skopeo::find(), Registry::plain()) else { return };
    let yard = Yard::new();
    let digest = yard.text("layout out -t team/a:v1 --copy a:/a");
    let image = yard.json("inspect out")["manifest"].clone();
    let sbom = attach(&yard, "out", &image, "application/spdx+json");
    let size = std::fs::metadata(yard.scratch.join("out/blobs/sha256").join(&sbom[7..])).unwrap().len();
    let about = json!({"mediaType": MANIFEST, "digest": sbom, "size": size});
    let signature = attach(&yard, "out", &about, "application/signature");
    let repository = format!("docker://{}/referrers", registry.address());
    let listed = |subject: &str| -> Value {
        let tag = subject.replace(':', "-");
        let location = format!("{repository}:{tag}");
        serde_json::from_slice(&skopeo.raw_manifest(&["--tls-verify=false"], &location)).unwrap()
    };
    for _ in 0..2 {
        let exported = yard.run(&format!("export out {repository}:v1")).success();
        assert!(!exported.stderr.contains("warning"), "{exported}");
        assert_eq!(exported.text(), digest);
        let (about_image, about_sbom) = (listed(&digest), listed(&sbom));
        assert_eq!(about_image["manifests"].as_array().unwrap().len(), 1, "{about_image}");
        let entry = &about_image["manifests"][0];
        assert_eq!((&entry["digest"], &entry["artifactType"]), (&json!(sbom), &json!("application/spdx+json")));
        assert_eq!(entry["annotations"]["org.opencontainers.image.created"], "2024-01-01T00:00:00Z");
        assert_eq!(about_sbom["manifests"][0]["digest"], signature);
    }
    // A second artifact joins the list.
    let other = attach(&yard, "out", &image, "application/vnd.in-toto+json");
    yard.text(&format!("export out {repository}:v1"));
    let all = listed(&digest);
    let digests: Vec<_> = all["manifests"].as_array().unwrap().iter().map(|entry| &entry["digest"]).collect();
    assert_eq!(digests, [&json!(sbom), &json!(other)]);
    // The artifact is in the registry with its blobs.
    let raw = skopeo.raw_manifest(&["--tls-verify=false"], &format!("{repository}@{other}"));
    assert_eq!(ocibuild::Digest::of(&raw).to_string(), other);
    // A tag that is no list is not replaced.
    let elsewhere = format!("docker://{}/taken", registry.address());
    yard.text("layout plain --copy b:/b");
    yard.text(&format!("export plain {elsewhere}:{}", digest.replace(':', "-")));
    let refused = yard.run(&format!("export out {elsewhere}:v1")).ended_with(1);
    refused.failed_saying("the tag is for the list of referrers");
}

/// Finding the image of a name does not read the manifests of all others.
#[test]
fn other_images_are_not_read() {
    let Some(strace) = consumer("strace") else { return };
    let yard = Yard::new();
    let digest = yard.text("layout out -t team/a:v1 --copy a:/a");
    let other = yard.text("layout out -t team/b:v1 --copy b:/b");
    for line in
        ["inspect out:team/a:v1", "export out:team/a:v1 oci:copy", "layout based --base oci:out:team/a:v1 --copy b:/b"]
    {
        let calls = yard.scratch.join("calls");
        let mut traced = command(&strace);
        traced.args(["-f", "-e", "trace=openat,openat2", "-o"]).arg(&calls).arg(yard.command(line).get_program());
        traced.args(line.split(' ')).current_dir(yard.scratch.path());
        run(traced.env("OCIBUILD_CACHE_DIR", yard.scratch.join("cache"))).success();
        let calls = std::fs::read_to_string(calls).unwrap();
        assert!(calls.contains(&digest[7..]) && !calls.contains(&other[7..]), "{line}: {calls}");
    }
}
