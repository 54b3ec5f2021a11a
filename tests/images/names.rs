//! The names of images in a layout, and their replacement.

use super::{Yard, read};
use crate::consumers::{Skopeo, Umoci};
use crate::support::{is_left_out, run};
use serde_json::json;
use std::process::Stdio;

/// M2: a layout can hold two images with one tag, and each is found.
#[test]
fn full_names_with_one_tag_are_two_images() {
    let yard = Yard::new();
    let a = yard.text("layout out -t team/a:v1 --copy a:/a");
    assert_eq!(yard.text("layout out -t team/a:v1 --copy a:/a"), a);
    let b = yard.text("layout out -t team/b:v1 --copy b:/b");
    assert_ne!(a, b);
    for (name, digest) in [("team/a:v1", &a), ("docker.io/team/a:v1", &a), ("team/b:v1", &b)] {
        let shown = yard.json(&format!("inspect out:{name}"));
        assert_eq!(shown["manifest"]["digest"], **digest, "{name}");
        assert_eq!(yard.json(&format!("inspect out:{name}@{digest}"))["manifest"]["digest"], **digest);
    }
    for digest in [&a, &b] {
        assert_eq!(yard.json(&format!("inspect out@{digest}"))["manifest"]["digest"], **digest);
    }
    yard.refuses("inspect out:v1", &["`v1` is ambiguous (select one of docker.io/team/a:v1, docker.io/team/b:v1)"]);
    yard.refuses("inspect out", &["has several images (select one of docker.io/team/a:v1, docker.io/team/b:v1)"]);
    yard.run(&format!("inspect out:team/a:v1@{b}")).ended_with(1).failed_saying("no image `team/a:v1@sha256:");
    yard.run("verify out").success();
}

/// The names that were taken away, and the digests of their images.
fn lost_names(report: &serde_json::Value) -> Vec<(&str, &str)> {
    let replaced = report["replaced"].as_array().unwrap().iter();
    replaced.map(|image| (image["name"].as_str().unwrap(), image["digest"].as_str().unwrap())).collect()
}

/// M2: a replaced image is reported, as text and as JSON, and no other image is.
#[test]
fn a_replaced_image_is_reported() {
    let yard = Yard::new();
    let first = yard.text("layout out -t team/a:v1 --copy a:/a");
    let again = yard.run("layout out -t team/a:v1 --copy b:/a").success();
    assert!(again.stderr.contains(&format!("replaced {first}, the former docker.io/team/a:v1")), "{again}");
    let second = again.text().to_owned();
    let report = yard.json("layout out -t team/a:v1 -t v2 --copy a:/a");
    assert_eq!(lost_names(&report), [("docker.io/team/a:v1", &*second)]);
    assert_eq!(yard.json("layout out -t team/a:v1 -t v2 --copy a:/a")["replaced"], json!([]));
    yard.text("layout other -t team/a:v1 --copy b:/a");
    let exported = yard.run("export out:v2 oci:other:team/a:v1").success();
    assert!(exported.stderr.contains(&format!("replaced {second}, the former docker.io/team/a:v1")), "{exported}");
    yard.text("layout third -t team/a:v1 --copy b:/a");
    let report = yard.json("export out:v2 oci:third:team/a:v1");
    assert_eq!(lost_names(&report), [("docker.io/team/a:v1", &*second)]);
}

/// M2: concurrent builds keep every name.
#[test]
fn builds_at_once_keep_both_images() {
    if is_left_out() {
        return;
    }
    let yard = Yard::new();
    let names = ["team/a:v1", "team/b:v1", "team/c:v1", "team/d:v1"];
    let started = names.map(|name| yard.command(&format!("layout out -q -t {name} --copy a:/{}", &name[5..6])));
    let started = started.map(|mut command| command.stdout(Stdio::null()).spawn().unwrap());
    for mut child in started {
        assert!(child.wait().unwrap().success());
    }
    for name in names {
        yard.run(&format!("inspect out:{name}")).success();
    }
    assert_eq!(yard.json("verify out")["images"], 4);
}

/// M2: `export` to a layout keeps images with other full names.
#[test]
fn exports_into_one_layout_keep_both_images() {
    let yard = Yard::new();
    yard.text("layout one --copy a:/a");
    yard.text("layout two --copy b:/b");
    yard.text("export one oci:usb:team/site:v1");
    yard.text("export two oci:usb:team/app:v1");
    assert_eq!(yard.json("inspect usb:team/site:v1")["names"], json!(["docker.io/team/site:v1"]));
    assert_eq!(yard.json("inspect usb:team/app:v1")["names"], json!(["docker.io/team/app:v1"]));
}

/// M2: the annotation that other tools compare is unique, so each tool finds each image by it.
#[test]
fn skopeo_and_umoci_find_both_images() {
    let yard = Yard::new();
    let mut digests = Vec::new();
    for name in ["a", "b"] {
        digests.push(yard.text(&format!("layout out -t team/{name}:v1 --copy {name}:/{name}")));
        let found = yard.json(&format!("inspect out:team/{name}:v1"))["manifest"]["digest"].clone();
        assert_eq!(found, *digests.last().unwrap());
    }
    let ref_names: Vec<_> = read(&yard.scratch.join("out/index.json"))["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|listed| listed["annotations"]["org.opencontainers.image.ref.name"].clone())
        .collect();
    assert_eq!(ref_names, ["docker.io/team/a:v1", "docker.io/team/b:v1"]);
    if Skopeo::find().is_some() {
        for (name, digest) in [("a", &digests[0]), ("b", &digests[1])] {
            let mut skopeo = crate::support::command("skopeo");
            skopeo.args(["inspect", "--format", "{{.Digest}}"]);
            skopeo.arg(format!("oci:{}:docker.io/team/{name}:v1", yard.scratch.join("out").display()));
            assert_eq!(run(&mut skopeo).success().text(), digest);
        }
        // An image that skopeo writes under the tag alone is separate, and the program's images keep their names.
        let mut skopeo = crate::support::command("skopeo");
        skopeo.current_dir(yard.scratch.path()).args(["copy", "-q", "oci:out:docker.io/team/a:v1", "oci:out:v1"]);
        run(&mut skopeo).success();
        assert_eq!(yard.json("inspect out:team/a:v1")["manifest"]["digest"], digests[0]);
        yard.refuses(
            "inspect out:v1",
            &["is ambiguous (select one of docker.io/team/a:v1, docker.io/team/b:v1, @sha256:"],
        );
    }
    if Umoci::find().is_some() {
        let mut umoci = crate::support::command("umoci");
        umoci.current_dir(yard.scratch.path()).args(["stat", "--image", "out:docker.io/team/b:v1"]);
        run(&mut umoci).success();
    }
}

/// M56: a tag alone becomes the name that `docker build --tag` would give it, and stays a tag when it is read again.
#[test]
fn a_bare_tag_names_the_image_in_engines() {
    let yard = Yard::new();
    yard.text("layout out -t app --copy a:/a --save saved.tar");
    yard.text("export out docker-archive:exported.tar");
    for archive in ["saved.tar", "exported.tar"] {
        let mut tar = crate::support::command("tar");
        tar.arg("-xOf").arg(yard.scratch.join(archive)).arg("manifest.json");
        let list: serde_json::Value = serde_json::from_str(run(&mut tar).success().text()).unwrap();
        assert_eq!(list[0]["RepoTags"], json!(["docker.io/library/app:latest"]), "{archive}");
        assert_eq!(yard.json(&format!("inspect {archive}"))["names"], json!(["app"]), "{archive}");
    }
}

/// M2: names from other tools keep their meaning.
#[test]
fn names_of_other_tools_are_understood() {
    let yard = Yard::new();
    let digest = yard.text("layout out -t team/a:v1 --copy a:/a");
    for annotations in [
        json!({"org.opencontainers.image.ref.name": "team/a:v1"}),
        json!({"org.opencontainers.image.ref.name": "docker.io/team/a:v1"}),
        json!({"io.containerd.image.name": "docker.io/team/a:v1"}),
    ] {
        yard.edit_index("out", |manifests| manifests[0]["annotations"] = annotations.clone());
        for name in ["v1", "team/a:v1"] {
            assert_eq!(yard.json(&format!("inspect out:{name}"))["manifest"]["digest"], digest, "{annotations}");
        }
        // A build treats it as the same image.
        let report = yard.json("layout out -t team/a:v1 --copy b:/a");
        assert_eq!(report["replaced"][0]["digest"], digest, "{annotations}");
        yard.text("layout out -t team/a:v1 --copy a:/a");
    }
}

/// M56: an oci-archive keeps images with other names, as a layout does.
#[test]
fn an_archive_keeps_its_other_images() {
    let yard = Yard::new();
    let a = yard.text("layout one -t team/a:v1 --copy a:/a");
    let b = yard.text("layout two -t team/b:v1 --copy b:/b");
    yard.text("export one oci-archive:many.tar");
    yard.text("export two oci-archive:many.tar");
    assert_eq!(yard.json("inspect many.tar:team/a:v1")["manifest"]["digest"], a);
    assert_eq!(yard.json("inspect many.tar:team/b:v1")["manifest"]["digest"], b);
    yard.text("export oci-archive:many.tar:team/a:v1 oci:back");
    yard.run("verify back").success();
    let replaced = yard.json("export two oci-archive:many.tar:team/a:v1");
    assert_eq!(lost_names(&replaced), [("docker.io/team/a:v1", &*a)]);
    assert_eq!(replaced["replaced"][0]["unneededBytes"], json!(null), "an archive keeps no blob for later");
    assert_eq!(yard.json("export two oci-archive:many.tar:team/a:v1")["replaced"], json!([]));
    // An image that takes over a name replaces the previous one completely.
    let alone = yard.text("export one oci-archive:alone.tar:v1");
    yard.text("export two oci-archive:alone.tar:v1");
    yard.text("export one oci-archive:alone.tar:v1");
    yard.text("export one oci-archive:fresh.tar:v1");
    assert_eq!(alone, a);
    let bytes = |name: &str| std::fs::read(yard.scratch.join(name)).unwrap();
    assert_eq!(bytes("alone.tar"), bytes("fresh.tar"));
}

/// M56: a file that is not an image archive is not replaced.
#[test]
fn an_archive_replaces_archives_only() {
    let yard = Yard::new();
    yard.text("layout out -t team/a:v1 --copy a:/a");
    yard.scratch.write("notes.txt", "precious");
    yard.scratch.write("empty", "");
    for transport in ["docker-archive", "oci-archive"] {
        let refused = yard.run(&format!("export out {transport}:notes.txt")).ended_with(1);
        refused.failed_saying("notes.txt: exists and is not an image archive (remove it, or name another file)");
        yard.text(&format!("export out {transport}:empty"));
        yard.text(&format!("export out {transport}:empty"));
        std::fs::write(yard.scratch.join("empty"), "").unwrap();
    }
    assert_eq!(std::fs::read_to_string(yard.scratch.join("notes.txt")).unwrap(), "precious");
}
