//! Images that ocibuild built, on bases that others made.

use super::{Expected, is_valid, runs_everywhere};
use crate::bases;
use crate::consumers::{Layout, Podman, Schemas, Settings};
use crate::listers::listed_alike;
use crate::support::{Scratch, command, ocibuild, python_with, run};
use ocibuild::codec::tar::EntryType;
use std::path::{Path, PathBuf};

/// The program in testdata.
fn inventory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/inventory")
}

/// Builds an image of `base` and the program in testdata, whose `entrypoint` is JSON, and exports it.
#[track_caller]
fn inventory_on(base: &str, entrypoint: &str, scratch: &Scratch) -> (Layout, PathBuf) {
    let (layout, archive) = (Layout::new(scratch.join("own"), "inventory"), scratch.join("own.tar"));
    let mut build = ocibuild();
    build.arg("layout").arg(&layout.path).args(["--tag", &layout.tag, "--base", base, "--entrypoint", entrypoint]);
    let built = run(build.arg("--copy").arg(format!("{}:/app", inventory().display()))).success();
    assert_eq!(built.text(), layout.manifest_digest());
    run(ocibuild().arg("verify").arg(&layout.path)).success();
    let destination = format!("docker-archive:{}:localhost/inventory:1", archive.display());
    run(ocibuild().args(["export", &layout.image(), &destination])).success();
    (layout, archive)
}

#[test]
fn a_python_program_on_debian_runs_everywhere() {
    let scratch = Scratch::new();
    let (Some(debian), Some(python)) = (bases::debian(), python_with("argparse")) else { return };
    let here = run(command(python).arg(inventory().join("inventory.py")).args(["--exit-status", "5"])).ended_with(5);
    assert!(here.text().contains("'shelf/a link' -> 'an empty file'"), "{here}");

    let entrypoint = r#"["/usr/bin/python3", "/app/inventory.py", "--exit-status", "5"]"#;
    let (layout, archive) = inventory_on(&debian.location(), entrypoint, &scratch);
    runs_everywhere(&layout, &archive, &Expected { stdout: format!("{}\n", here.text()), status: 5 });
}

const SCRIPT: &str = r#"["/app/shelf/executable.sh"]"#;

#[track_caller]
fn the_script_runs_everywhere_on(base: &str, scratch: &Scratch) {
    let (layout, archive) = inventory_on(base, SCRIPT, scratch);
    runs_everywhere(&layout, &archive, &Expected { stdout: "run from the image\n".to_owned(), status: 0 });
}

fn busybox(scratch: &Scratch) -> Option<Layout> {
    bases::busybox_by_umoci(scratch, &Settings { entrypoint: &[], cmd: &["sh"] })
}

#[test]
fn a_base_by_umoci_can_be_built_on() {
    let scratch = Scratch::new();
    let Some(base) = busybox(&scratch) else { return };
    the_script_runs_everywhere_on(&base.location(), &scratch);
}

#[test]
fn a_base_by_buildah_can_be_built_on() {
    let scratch = Scratch::new();
    let Some(base) = bases::busybox_by_buildah(&scratch) else { return };
    the_script_runs_everywhere_on(&base.location(), &scratch);
}

#[test]
fn an_oci_archive_can_be_built_on() {
    let scratch = Scratch::new();
    let Some(base) = busybox(&scratch).and_then(|base| bases::oci_archive(&scratch, &base)) else { return };
    the_script_runs_everywhere_on(&format!("oci-archive:{}", base.display()), &scratch);
}

#[test]
fn what_docker_saves_can_be_built_on() {
    let scratch = Scratch::new();
    let Some(base) = busybox(&scratch) else { return };
    let Some(archive) = bases::docker_archive(&scratch, &base, "localhost/base:1") else { return };
    let Some(saved) = bases::saved_by_docker(&scratch, &archive, "localhost/saved-by-docker:1") else { return };
    the_script_runs_everywhere_on(&format!("docker-archive:{}", saved.display()), &scratch);
}

#[test]
fn what_podman_saves_can_be_built_on() {
    let scratch = Scratch::new();
    let Some(base) = busybox(&scratch) else { return };
    let Some(archive) = bases::docker_archive(&scratch, &base, "localhost/base:1") else { return };
    let Some(saved) = bases::saved_by_podman(&scratch, &archive) else { return };
    the_script_runs_everywhere_on(&format!("docker-archive:{}", saved.display()), &scratch);
}

#[test]
fn a_base_with_zstd_layers_can_be_built_on() {
    let scratch = Scratch::new();
    let Some(base) = busybox(&scratch).and_then(|base| bases::with_zstd(&scratch, &base)) else { return };
    let (layout, archive) = inventory_on(&base.location(), SCRIPT, &scratch);
    // umoci 0.4, docker before 23 and oci-image-tool do not know zstd.
    if let Some(podman) = Podman::find() {
        podman.run(&podman.load(&archive), &[]).success().printed("run from the image\n");
    }
    if let Some(schemas) = Schemas::find() {
        schemas.check(&layout.path).success();
    }
}

#[test]
fn four_readers_agree_on_our_layers() {
    let scratch = Scratch::new();
    let tree = bases::strange_tree(&scratch);
    let layout = Layout::new(scratch.join("own"), "strange");
    let kept = Layout::new(scratch.join("kept"), "strange");
    let listed = |layout: &Layout, owners: &[&str]| {
        let mut build = ocibuild();
        build.arg("layout").arg(&layout.path).args(["--tag", &layout.tag, "--preserve-modes", "--skip-special"]);
        build.args(["--created=-10", "--compression", "none"]).args(owners);
        run(build.arg("--copy").arg(format!("{}:/", tree.display()))).success();
        listed_alike(&layout.blob(layout.layers()[0]["digest"].as_str().unwrap()))
    };
    let entries = listed(&kept, &["--keep-owners"]);
    assert_eq!(entries.iter().filter(|entry| entry.kind == EntryType::HardLink).count(), 1, "{entries:#?}");
    assert!(entries.iter().any(|entry| entry.mode == 0o7644), "{entries:#?}");
    // Special bits mean something else under another owner.
    let entries = listed(&layout, &["--chown", "3000000:4000000"]);
    assert!(entries.iter().all(|entry| entry.kind != EntryType::File || entry.mode < 0o1000), "{entries:#?}");
    assert!(
        entries.iter().all(|entry| (entry.uid, entry.gid, entry.mtime) == (3_000_000, 4_000_000, -10)),
        "{entries:#?}"
    );
    is_valid(&layout);
}
