//! The grammar of image names, which is the same in every command.

use super::Yard;
use crate::support::{command, consumer, is_left_out, run};
use std::fs;

/// M3: a destination that `layout` cannot build into is refused with the right command, and nothing is created.
#[test]
fn layout_builds_into_layouts_only() {
    let yard = Yard::new();
    let before = yard.names();
    let export = |to: &str| format!("then ocibuild export ./out {to}");
    for other in ["docker://reg.example/x:1", "docker-archive:x.tar", "oci-archive:x.tar", "-"] {
        yard.refuses(&format!("layout {other} --copy a:/a"), &[&export(other)]);
    }
    yard.refuses("layout oci:out:v1 --copy a:/a", &["ocibuild layout out -t v1"]);
    yard.refuses("layout ./out:v1 --copy a:/a", &["names an image, not a directory", "ocibuild layout ./out -t v1"]);
    yard.refuses("layout out:team/a:v1 --copy a:/a", &["ocibuild layout out -t team/a:v1"]);
    yard.refuses("layout reg.example:5000/team/a:v1 --copy a:/a", &[&export("docker://reg.example:5000/team/a:v1")]);
    yard.refuses("layout reg.example/team/a --copy a:/a", &["./reg.example/team/a", "docker://reg.example/team/a"]);
    assert_eq!(yard.names(), before);
    let digest = yard.text("layout oci:out --copy a:/a");
    assert_eq!(yard.text("layout ./reg.example/team/a --copy a:/a"), digest);
    // A colon in the name of an existing directory is part of the name.
    fs::create_dir(yard.scratch.join("a:b")).unwrap();
    assert_eq!(yard.text("layout a:b/out --copy a:/a"), digest);
    assert_eq!(yard.json("inspect a:b/out")["manifest"]["digest"], digest);
}

/// M40: an existing path is a path, in every command.
#[test]
fn a_path_is_what_is_there() {
    if is_left_out() {
        return;
    }
    let yard = Yard::new();
    let digest = yard.text("layout out -t team/a:v1 --copy a:/a");
    yard.text("export out oci-archive:layout.tar");
    yard.text("export out docker-archive:both.tar");
    for image in ["out", "./out", "out:v1", "out:team/a:v1", "layout.tar", "./layout.tar:v1", "both.tar", "oci:out"] {
        assert_eq!(yard.json(&format!("inspect {image}"))["manifest"]["digest"], digest, "{image}");
        assert_eq!(yard.json(&format!("export {image} oci:copies"))["digest"], digest, "{image}");
    }
    for base in ["./out", "layout.tar", "both.tar:team/a:v1", "oci:out:v1", &format!("./out@{digest}")] {
        assert_eq!(yard.json(&format!("layout based --base {base} --copy b:/b"))["baseLayers"], 1, "{base}");
    }
    // An image keeps its names, wherever it is copied from.
    assert_eq!(yard.json("inspect copies")["names"][0], "docker.io/team/a:v1");
    assert_eq!(yard.text("export out copies"), digest, "a layout that is there needs no transport");
    yard.run("verify out:v1").success();
    yard.run(&format!("verify oci:out@{digest}")).success();
}

/// M40, M65: an ambiguous argument is refused with both spellings.
#[test]
fn an_ambiguous_argument_is_refused() {
    let yard = Yard::new();
    yard.text("layout debian --copy a:/a");
    yard.refuses("layout out --base debian --copy b:/b", &["`debian`", "./debian or docker://debian"]);
    yard.text("layout out --base ./debian --copy b:/b");
    yard.refuses("export out app", &["oci:app", "docker-archive:app", "docker://app"]);
    yard.refuses("export out ./app", &["oci:./app", "docker-archive:./app"]);
    yard.refuses("inspect No/Such", &["neither an existing path nor a reference"]);
    yard.run("inspect ./none").ended_with(1).failed_saying("./none: not found");
    yard.run("inspect ./a").ended_with(1).failed_saying("not an OCI layout");
    yard.run("inspect ./a/file").ended_with(1).failed_saying("not an image archive");
    yard.run("inspect outt --offline").ended_with(2).failed_saying("--offline");
    yard.scratch.write("app.tar", "no tar");
    for command in ["inspect app.tar", "export app.tar oci:copy", "layout out --base app.tar --copy b:/b"] {
        yard.refuses(command, &["is a file, but not an image archive (for an image in a registry: docker://app.tar)"]);
    }
    fs::create_dir(yard.scratch.join("site")).unwrap();
    // A directory that is not a layout does not hide a reference.
    yard.run("layout out --base site --copy b:/b --offline").ended_with(1).failed_saying("base docker.io/library/site");
}

/// M40, M65: `pull` and `verify` refuse unsupported places, and a transport that is not supported is named.
#[test]
fn commands_refuse_the_places_that_they_are_not_for() {
    let yard = Yard::new();
    yard.text("layout out --copy a:/a");
    yard.text("export out oci-archive:x.tar");
    for place in ["./out", "oci:out", "oci-archive:x.tar"] {
        yard.refuses(&format!("pull {place}"), &["not a registry reference"]);
    }
    yard.refuses("verify x.tar", &["not an image layout", "ocibuild export oci-archive:x.tar oci:DIR"]);
    yard.refuses("verify docker://debian", &["ocibuild export docker://docker.io/library/debian oci:DIR"]);
    yard.refuses("pull docker-daemon:a", &["not a registry reference"]);
    yard.refuses(
        "verify containers-storage:a",
        &["ocibuild export containers-storage:docker.io/library/a:latest oci:DIR"],
    );
    yard.refuses("inspect ostree:x", &["the transport `ostree:` is not supported"]);
}

/// M12: one image of a layout is verified alone, by its name or its digest.
#[test]
fn verify_checks_one_image() {
    let yard = Yard::new();
    let good = yard.text("layout out -t good --copy a:/a");
    let report = yard.json("layout out -t bad --copy b:/b");
    let layer = report["layers"][0]["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
    fs::write(yard.scratch.join("out/blobs/sha256").join(layer), "x").unwrap();
    for one in ["out:good".to_owned(), format!("out@{good}")] {
        let report = yard.json(&format!("verify {one}"));
        assert_eq!((&report["images"], &report["blobs"]), (&1.into(), &3.into()));
    }
    for faulty in ["out:bad", "out"] {
        assert!(yard.run(&format!("verify {faulty}")).ended_with(1).text().contains("expected"));
    }
    yard.run("verify out:none").ended_with(1).failed_saying("no image `none` (it has good, bad)");
}

/// M12: the index is read once, so that the images that are checked are the images that are reported.
#[test]
fn verify_reads_the_index_once() {
    let Some(strace) = consumer("strace") else { return };
    let yard = Yard::new();
    yard.text("layout out --copy a:/a");
    let log = yard.scratch.join("strace.log");
    let mut verify = command(strace);
    verify.args(["-f", "-qq", "-e", "trace=openat,openat2", "-o"]).arg(&log);
    verify.arg(env!("CARGO_BIN_EXE_ocibuild")).args(["verify", "out"]).current_dir(yard.scratch.path());
    run(&mut verify).success();
    let log = fs::read_to_string(&log).unwrap();
    assert_eq!(log.matches("\"index.json\"").count(), 1, "{log}");
}

/// M40: `--save` takes the destinations of `export`; a text without a transport stays the file of a docker-archive.
#[test]
fn save_takes_destinations() {
    let yard = Yard::new();
    let save = |to: &str| yard.text(&format!("layout out -t team/a:v1 --copy a:/a --save {to}"));
    for (to, saved, names) in [
        ("plain.tar", "docker-archive:plain.tar", 1),
        ("docker-archive:named.tar:team/b:v2", "docker-archive:named.tar:team/b:v2", 1),
        ("oci-archive:layout.tar", "oci-archive:layout.tar", 1),
        ("oci:copy", "oci:copy", 1),
        ("dir:d", "dir:d", 0),
    ] {
        let digest = save(to);
        let inspected = yard.json(&format!("inspect {saved}"));
        assert_eq!(inspected["manifest"]["digest"], digest, "{to}");
        assert_eq!(inspected["names"].as_array().unwrap().len(), names, "{to}");
    }
    save("plain:v1");
    assert!(yard.scratch.join("plain:v1").is_file());
    let said = yard.run("layout out -t team/a:v1 --copy b:/b --save oci:copy").success().stderr;
    assert_eq!(said.matches("replaced sha256:").count(), 2, "{said}");
    // What is refused is refused before anything is built.
    yard.refuses("layout other --copy a:/a --save ostree:x", &["`ostree:` is not supported"]);
    yard.refuses("layout other --copy a:/a --save docker-archive:x.tar:Upper", &["reference `Upper`"]);
    assert!(!yard.scratch.join("other").exists());
    // What is written is no source.
    yard.scratch.write("a/inner/file", "x");
    let report = yard.json("layout out --copy a:/a --save dir:a/d");
    assert_eq!(yard.json("layout out --copy a:/a --save dir:a/d")["digest"], report["digest"]);
}
