//! The harness itself, on images that other tools made.

use super::{Expected, is_valid, runs_everywhere};
use crate::bases;
use crate::consumers::{
    Buildah, Containerd, Docker, Layout, OciImageTool, PASSWORD, Podman, Registry, Runc, Schemas, Settings, Skopeo,
    USER, Umoci,
};
use crate::support::{Scratch, command, run};
use std::path::Path;

const SCRIPT: &str = "echo to stdout; echo to stderr >&2; exit 7";

fn talkative(scratch: &Scratch) -> Option<Layout> {
    bases::busybox_by_umoci(scratch, &Settings { entrypoint: &["/bin/sh", "-c"], cmd: &[SCRIPT] })
}

#[test]
fn an_image_made_by_umoci_runs_everywhere() {
    let scratch = Scratch::new();
    let Some(layout) = talkative(&scratch) else { return };
    let Some(archive) = bases::docker_archive(&scratch, &layout, "localhost/by-umoci:1") else { return };
    runs_everywhere(&layout, &archive, &Expected { stdout: "to stdout\n".to_owned(), status: 7 });
}

#[test]
fn an_archive_of_both_kinds_runs_everywhere() {
    let scratch = Scratch::new();
    let Some(layout) = talkative(&scratch) else { return };
    let archive = bases::dual_archive(&scratch, &layout, "localhost/of-both-kinds:1");
    runs_everywhere(&layout, &archive, &Expected { stdout: "to stdout\n".to_owned(), status: 7 });
    if let Some(containerd) = Containerd::find() {
        let images = containerd.import(&archive);
        assert_eq!(images[0].name, "localhost/of-both-kinds:1");
        assert_eq!(images[0].digest, layout.manifest_digest(), "in containerd");
    }
}

#[test]
fn a_container_that_never_ends() {
    // Only a_test_run_that_is_killed_leaves_nothing_behind asks for it, and kills it.
    if std::env::var_os("OCIBUILD_TEST_ENDLESS").is_none() {
        return;
    }
    let scratch = Scratch::new();
    let Some(layout) = talkative(&scratch) else { return };
    let Some(archive) = bases::docker_archive(&scratch, &layout, "localhost/endless:1") else { return };
    if let Some(docker) = Docker::find() {
        docker.run(&docker.load(&archive), &["trap '' TERM; sleep 1000"]);
    }
}

#[test]
fn the_words_after_the_image_replace_its_command() {
    let scratch = Scratch::new();
    let Some(layout) = talkative(&scratch) else { return };
    let Some(archive) = bases::docker_archive(&scratch, &layout, "localhost/words:1") else { return };
    let (words, expected) = (["echo other; exit 8"], Expected { stdout: "other\n".to_owned(), status: 8 });
    if let Some(podman) = Podman::find() {
        expected.of(podman.run(&podman.load(&archive), &words));
    }
    if let Some(docker) = Docker::find() {
        expected.of(docker.run(&docker.load(&archive), &words));
    }
    // These two replace the entrypoint as well.
    let words = ["/bin/sh", "-c", words[0]];
    if let Some(containerd) = Containerd::find() {
        let name = &containerd.import(&archive)[0].name;
        expected.of(containerd.run(name, &words, |ran| ran.text() == "other"));
    }
    if let (Some(umoci), Some(runc)) = (Umoci::find(), Runc::find()) {
        umoci.unpack(&layout, &scratch.join("bundle")).success();
        expected.of(runc.run(&scratch.join("bundle"), &words));
    }
}

#[test]
fn the_judges_refuse_a_layer_with_one_byte_changed() {
    let scratch = Scratch::new();
    let Some(layout) = talkative(&scratch) else { return };
    let blob = layout.blob(layout.layers()[0]["digest"].as_str().unwrap());
    let mut bytes = std::fs::read(&blob).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&blob, bytes).unwrap();
    if let Some(schemas) = Schemas::find() {
        let faults = schemas.check(&layout.path).ended_with(1);
        assert!(faults.text().contains("content does not have the digest"), "{faults}");
    }
    if let Some(tool) = OciImageTool::find() {
        tool.validate(&layout).failed_saying("digest");
    }
    if let Some(umoci) = Umoci::find() {
        umoci.unpack(&layout, &scratch.join("bundle")).ended_with(1);
    }
    if let Some(skopeo) = Skopeo::find() {
        let copy = Layout::new(scratch.join("copy"), &layout.tag);
        skopeo.copy(&[], &layout.location(), &copy.location()).failed_saying("Digest did not match");
    }
}

#[test]
fn the_schemas_name_every_fault_of_a_document() {
    let scratch = Scratch::new();
    let (Some(layout), Some(schemas)) = (talkative(&scratch), Schemas::find()) else { return };
    let index = layout.path.join("index.json");
    let text = std::fs::read_to_string(&index).unwrap();
    std::fs::write(&index, text.replacen("\"schemaVersion\":2", "\"schemaVersion\":3", 1)).unwrap();
    std::fs::write(layout.path.join("oci-layout"), "{}").unwrap();
    std::fs::write(layout.path.join("blobs/sha256/stray"), "").unwrap();
    let faults = schemas.check(&layout.path).ended_with(1);
    for fault in [
        "oci-layout: : 'imageLayoutVersion' is a required property",
        "index.json: schemaVersion: 3 is greater than the maximum of 2",
        "stray: nothing refers to it",
    ] {
        assert!(faults.text().lines().any(|line| line == fault), "{fault:?} is missing in {faults}");
    }
    assert_eq!(faults.text().lines().count(), 3, "{faults}");
}

#[test]
fn every_base_is_what_its_maker_is_known_for() {
    let scratch = Scratch::new();
    let Some(by_umoci) = talkative(&scratch) else { return };
    assert_eq!(by_umoci.manifest().get("mediaType"), None);
    assert_eq!(by_umoci.config()["config"]["Cmd"][0], SCRIPT);

    if let Some(by_buildah) = bases::busybox_by_buildah(&scratch) {
        assert_eq!(by_buildah.layers()[0]["mediaType"], "application/vnd.oci.image.layer.v1.tar");
        assert_eq!(by_buildah.manifest()["annotations"]["org.opencontainers.image.base.name"], "");
        is_valid(&by_buildah);
    }
    if let Some(zstd) = bases::with_zstd(&scratch, &by_umoci) {
        assert_eq!(zstd.layers()[0]["mediaType"], "application/vnd.oci.image.layer.v1.tar+zstd");
        Schemas::find().map(|schemas| schemas.check(&zstd.path).success());
    }
    let has = |archive: &Path, name: &str| {
        let listing = run(command("tar").arg("--list").arg("--file").arg(archive)).success();
        assert!(listing.text().lines().any(|line| line == name), "no {name} in {listing}");
    };
    if let Some(archive) = bases::oci_archive(&scratch, &by_umoci) {
        has(&archive, "index.json");
    }
    let Some(archive) = bases::docker_archive(&scratch, &by_umoci, "localhost/base:1") else { return };
    has(&archive, "manifest.json");
    if let Some(saved) = bases::saved_by_docker(&scratch, &archive, "localhost/saved:1") {
        has(&saved, "manifest.json");
    }
    if let Some(saved) = bases::saved_by_podman(&scratch, &archive) {
        has(&saved, "manifest.json");
    }
}

#[test]
fn buildah_builds_on_a_layout() {
    let scratch = Scratch::new();
    let (Some(base), Some(buildah)) = (talkative(&scratch), Buildah::find()) else { return };
    let result = Layout::new(scratch.join("result"), "built");
    buildah.build_on(&base, "touch /made; echo done", &result).success().printed("done\n");
    assert_eq!(result.layers().len(), 2);
}

#[test]
fn registries_reject_requests_without_credentials_or_certificate() {
    let scratch = Scratch::new();
    let (Some(layout), Some(skopeo)) = (talkative(&scratch), Skopeo::find()) else { return };
    let push = |registry: &Registry, options: &[&str]| {
        skopeo.copy(options, &layout.location(), &format!("docker://{}/a/b:1", registry.address()))
    };
    if let Some(registry) = Registry::with_password() {
        let credentials = format!("{USER}:{PASSWORD}");
        push(&registry, &["--dest-tls-verify=false"]).failed_saying("authentication required");
        push(&registry, &["--dest-tls-verify=false", "--dest-creds", "alice:wrong"])
            .failed_saying("authentication required");
        push(&registry, &["--dest-tls-verify=false", "--dest-creds", &credentials]).success();
    }
    if let Some(registry) = Registry::with_tls() {
        push(&registry, &[]).failed_saying("certificate signed by unknown authority");
        let certificates = registry.certificates();
        push(&registry, &["--dest-cert-dir", certificates.to_str().unwrap()]).success();
    }
}
