//! Artifacts that are pushed with their image.

use super::real::layout;
use super::server::Server;
use super::*;
use crate::consumers;
use crate::support::{Scratch, ocibuild, run};
use serde_json::json;

/// Attaches an artifact to the image `v1` of the layout `ours`, and returns its digest.
fn attach(scratch: &Scratch) -> String {
    let ours = consumers::Layout::new(scratch.join("ours"), "v1");
    let blobs = scratch.join("ours/blobs/sha256");
    let put = |media_type: &str, bytes: &[u8]| {
        std::fs::write(blobs.join(Digest::of(bytes).hex()), bytes).unwrap();
        Descriptor::of(media_type, bytes).to_json()
    };
    let mut index = ours.index();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media_type::MANIFEST, "artifactType": "application/spdx+json",
        "config": put("application/vnd.oci.empty.v1+json", b"{}"), "layers": [put("application/spdx+json", b"an SBOM")],
        "subject": {
            "mediaType": media_type::MANIFEST, "digest": ours.manifest_digest(), "size": index["manifests"][0]["size"],
        },
    });
    let mut entry = put(media_type::MANIFEST, manifest.to_string().as_bytes());
    entry["artifactType"] = "application/spdx+json".into();
    let digest = entry["digest"].as_str().unwrap().to_owned();
    index["manifests"].as_array_mut().unwrap().push(entry);
    scratch.write("ours/index.json", index.to_string());
    digest
}

/// M63: a registry that says `OCI-Subject` lists referrers by itself, so that no tag is made for them; in another one the tag
/// is.
#[test]
fn the_tag_of_referrers_is_kept_only_where_the_registry_has_no_list() {
    for lists in ["OCI-Subject", "X-Other"] {
        let scratch = Scratch::new();
        layout(&scratch);
        let sbom = attach(&scratch);
        let (server, shelf) =
            Server::with_shelf(move |x, shelf| match x.line().starts_with("PUT /v2/team/app/manifests/sha256:") {
                true => {
                    x.body();
                    x.answer(201, &[(lists, "sha256:0")], "");
                }
                false => shelf.serve(x),
            });
        let destination = format!("docker://{}/team/app:v1", server.host());
        run(ocibuild().arg("export").arg(scratch.join("ours")).arg(destination)).success();
        assert_eq!(server.count(&format!("PUT /v2/team/app/manifests/{sbom}")), 1);
        let subject = consumers::Layout::new(scratch.join("ours"), "v1").manifest_digest().replace(':', "-");
        let expected = if lists == "OCI-Subject" { vec!["v1"] } else { vec![&*subject, "v1"] };
        let mut tags = shelf.tags("team/app");
        tags.sort();
        assert_eq!(tags, expected, "{lists}");
    }
}

/// M54: a base that is copied from a registry into the cache, and from there to another file system, is reported once.
#[cfg(target_os = "linux")]
#[test]
fn a_blob_that_cannot_be_shared_is_reported_once() {
    let Some(registry) = consumers::Registry::plain() else { return };
    let scratch = Scratch::new();
    layout(&scratch);
    let base = format!("docker://{}/team/base:v1", registry.address());
    run(ocibuild().arg("export").arg(scratch.join("ours")).arg(&base)).success();
    // In memory, so on another file system than the layout.
    let cache = tempfile::tempdir_in("/dev/shm").unwrap();
    scratch.write("source/file", "x");
    let mut build = ocibuild();
    build.arg("layout").arg(scratch.join("out")).arg("--base").arg(&base);
    build.arg("--copy").arg(format!("{}:/x", scratch.join("source").display()));
    let said = run(build.env("OCIBUILD_CACHE_DIR", cache.path())).success().stderr;
    let mut copied: Vec<&str> = said.lines().filter(|line| line.starts_with("copy ")).collect();
    let all = copied.len();
    copied.sort_unstable();
    copied.dedup();
    assert!(all >= 4 && copied.len() == all, "{said}");
}
