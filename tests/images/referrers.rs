//! SBOMs, signatures and other artifacts about images.

use super::Yard;
use serde_json::{Value, json};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Attaches an artifact to a manifest as `oras attach --oci-layout` does, and returns its digest.
fn attach(yard: &Yard, layout: &str, subject: &Value, kind: &str) -> String {
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
