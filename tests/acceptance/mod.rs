//! One image through every consumer that is on this machine.

mod harness;
mod own;

use crate::consumers::{Containerd, Docker, Layout, OciImageTool, Podman, Registry, Runc, Schemas, Skopeo, Umoci};
use crate::support::{Finished, Scratch};
use sha2::Digest;
use std::path::Path;

/// What the image's own program does when it is run.
pub(crate) struct Expected {
    /// All that it prints.
    pub(crate) stdout: String,
    /// The status it ends with.
    pub(crate) status: i32,
}

impl Expected {
    #[track_caller]
    fn of(&self, ran: Finished) {
        ran.ended_with(self.status).printed(&self.stdout);
    }
}

/// Asserts that every consumer takes the image, keeps its digest, and runs its program as it should: from the layout,
/// and from the archive, whose image has a full name.
pub(crate) fn runs_everywhere(layout: &Layout, archive: &Path, expected: &Expected) {
    is_valid(layout);
    runs_with_umoci_and_runc(layout, expected);
    runs_with_podman(layout, archive, expected);
    runs_with_docker(layout, archive, expected);
    runs_with_containerd(archive, expected);
    goes_through_a_registry(layout, expected);
}

fn is_valid(layout: &Layout) {
    if let Some(schemas) = Schemas::find() {
        schemas.check(&layout.path).success().printed("");
    }
    if let Some(tool) = OciImageTool::find() {
        tool.validate(layout).success();
    }
    if let Some(skopeo) = Skopeo::find() {
        let scratch = Scratch::new();
        let copy = Layout::new(scratch.join("copy"), &layout.tag);
        skopeo.copy(keeping_digests(layout), &layout.location(), &copy.location()).success();
        assert_eq!(copy.manifest_digest(), layout.manifest_digest(), "after skopeo's copy");
    }
}

fn runs_with_umoci_and_runc(layout: &Layout, expected: &Expected) {
    let (Some(umoci), Some(runc)) = (Umoci::find(), Runc::find()) else { return };
    let scratch = Scratch::new();
    let bundle = scratch.join("bundle");
    umoci.unpack(layout, &bundle).success();
    expected.of(runc.run(&bundle, &[]));
}

fn runs_with_podman(layout: &Layout, archive: &Path, expected: &Expected) {
    let Some(podman) = Podman::find() else { return };
    let image = podman.load(archive);
    assert_eq!(podman.image_id(&image), layout.config_digest(), "in podman");
    expected.of(podman.run(&image, &[]));
}

fn runs_with_docker(layout: &Layout, archive: &Path, expected: &Expected) {
    for docker in Docker::all() {
        let id = docker.load(archive);
        assert_eq!(id, docker.id_in(archive, layout).unwrap_or(id.clone()), "in docker");
        expected.of(docker.run(&id, &[]));
        if let Some(skopeo) = Skopeo::find().filter(|_| docker.hears_skopeo()) {
            // The daemon is shared by all tests; the name is this image's alone.
            let name = format!("ocibuild-test:{}", &id[id.len() - 12..]);
            let options = ["--dest-daemon-host", &docker.host()];
            skopeo.copy(&options, &layout.location(), &format!("docker-daemon:{name}")).success();
            assert_eq!(docker.image_id(&name), id, "in docker, by skopeo");
        }
    }
}

fn runs_with_containerd(archive: &Path, expected: &Expected) {
    let Some(containerd) = Containerd::find() else { return };
    let images = containerd.import(archive);
    assert_eq!(images.len(), 1, "one archive, one name: {images:?}");
    expected.of(containerd.run(&images[0].name, &[], |ran| ran.stdout == expected.stdout.as_bytes()));
}

fn goes_through_a_registry(layout: &Layout, expected: &Expected) {
    let (Some(skopeo), Some(registry)) = (Skopeo::find(), Registry::plain()) else { return };
    let reference = format!("{}/some/image:1", registry.address());
    let remote = format!("docker://{reference}");
    let keeping = keeping_digests(layout);
    skopeo.copy(&[keeping, &["--dest-tls-verify=false"]].concat(), &layout.location(), &remote).success();
    let manifest = skopeo.raw_manifest(&["--tls-verify=false"], &remote);
    assert_eq!(digest_of(&manifest), layout.manifest_digest(), "in the registry");

    let scratch = Scratch::new();
    let back = Layout::new(scratch.join("back"), &layout.tag);
    skopeo.copy(&[keeping, &["--src-tls-verify=false"]].concat(), &remote, &back.location()).success();
    assert_eq!(back.manifest_digest(), layout.manifest_digest(), "pulled back");

    if let Some(podman) = Podman::find() {
        podman.pull(&reference).success();
        expected.of(podman.run(&reference, &[]));
    }
    for docker in Docker::all() {
        let id = docker.pull(&reference);
        assert_eq!(id, docker.id_of(layout), "pulled by docker");
        expected.of(docker.run(&id, &[]));
    }
}

/// The options with which skopeo copies without changing the digest: none, unless it would compress an uncompressed layer.
fn keeping_digests(layout: &Layout) -> &'static [&'static str] {
    let is_plain = |layer: &serde_json::Value| layer["mediaType"] == "application/vnd.oci.image.layer.v1.tar";
    if layout.layers().iter().any(is_plain) { &["--preserve-digests"] } else { &[] }
}

fn digest_of(bytes: &[u8]) -> String {
    let hex: String = sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}
