//! Which image of a layout is the base: layouts, names and platforms.

use super::{builds_on, each_is_refused};
use crate::catalogue::contract::Bench;
use crate::catalogue::forge::{Forged, INDEX};
use crate::support::run;
use serde_json::{Value, json};
use std::fs;

#[test]
fn b30_b31_platforms_are_matched_and_attestations_passed_over() {
    let bench = Bench::keeping();
    let base = Forged::new(bench.scratch.join("base"));
    base.edit_config(|it| it["architecture"] = json!("arm64"));
    let on = |platform: Option<&str>| {
        let mut build = bench.layout();
        build.args(["--tag", "new", "--base"]).arg(base.location());
        build.args(platform.map(|platform| ["--platform", platform]).into_iter().flatten());
        build
    };
    bench.refuses("B30", &mut on(Some("linux/amd64")), &["no image for linux/amd64", "there is linux/arm64"]);
    run(&mut on(Some("linux/arm64/v8"))).success();

    // Two images for one platform: the first counts. Attestations are no images.
    let arm = base.index()["manifests"][0].clone();
    base.edit_config(|it| {
        it["architecture"] = json!("arm");
        it["variant"] = json!("v7");
    });
    let v7 = base.index()["manifests"][0].clone();
    fs::create_dir_all(bench.scratch.join("keep-v7")).unwrap();
    let platform = |descriptor: &Value, platform: Value| {
        let mut listed = descriptor.clone();
        listed.as_object_mut().unwrap().remove("annotations");
        listed["platform"] = platform;
        listed
    };
    // `edit_config` removed the blobs of arm64's documents; only which descriptor is chosen matters here.
    let listed = json!([
        platform(&arm, json!({"os": "unknown", "architecture": "unknown"})),
        platform(&v7, json!({"os": "linux", "architecture": "arm", "variant": "v7"})),
        platform(&arm, json!({"os": "linux", "architecture": "arm", "variant": "v7"})),
        platform(&arm, json!({"os": "linux", "architecture": "arm", "variant": "v6"})),
    ]);
    let nested = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": listed}).to_string();
    let mut entry = base.descriptor(INDEX, nested.as_bytes());
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": "base"});
    base.edit_index(|it| it["manifests"] = json!([entry]));
    run(&mut on(Some("linux/arm/v7"))).success();
    run(&mut on(Some("linux/arm"))).success();
    bench.refuses("B31", &mut on(Some("linux/arm/v8")), &["no image for linux/arm/v8", "linux/arm/v7", "linux/arm/v6"]);
    bench.refuses("B31", &mut on(Some("linux/arm/v6")), &["missing"]);
    bench.refuses_usage("B31", &mut on(None), &["is a multi-platform image without linux/amd64", "linux/arm/v6"]);
}

#[test]
fn b35_b36_invalid_and_incomplete_layouts_are_refused() {
    each_is_refused(&[
        (
            "B35",
            &|base| fs::remove_file(base.directory.join("oci-layout")).unwrap(),
            &["not an OCI layout", "`oci-layout` is missing"],
        ),
        ("B35", &|base| base.write("oci-layout", r#"{"imageLayoutVersion":"2.0.0"}"#), &["layout version 2.0.0"]),
        ("B35", &|base| base.write("oci-layout", r#"{}"#), &["has no layout version"]),
        ("B35", &|base| fs::remove_file(base.directory.join("index.json")).unwrap(), &["index.json: not found"]),
        ("B35", &|base| fs::remove_dir_all(&base.directory).unwrap(), &["base: not found"]),
        ("B36", &|base| fs::remove_file(base.blob(&base.layer_digest())).unwrap(), &["blob sha256:", "missing"]),
        ("B36", &|base| fs::remove_file(base.blob(&base.config_digest())).unwrap(), &["blob sha256:", "missing"]),
        ("B36", &|base| fs::remove_file(base.blob(&base.manifest_digest())).unwrap(), &["blob sha256:", "missing"]),
        ("B36", &|base| fs::remove_dir_all(base.directory.join("blobs")).unwrap(), &["blob sha256:", "missing"]),
    ]);
    let littered = |base: &Forged| {
        base.write("README", "x");
        base.write("blobs/sha256/README", "x");
        base.edit_index(|it| drop(it.as_object_mut().unwrap().remove("mediaType")));
    };
    builds_on("B35", &littered, &[]);
}

#[test]
fn b37_a_name_means_one_image() {
    let bench = Bench::keeping();
    let base = Forged::new(bench.scratch.join("base"));
    let one = base.index()["manifests"][0].clone();
    base.edit_config(|it| it["author"] = json!("another"));
    let mut two = base.index()["manifests"][0].clone();
    base.edit_index(|it| it["manifests"] = json!([one, two]));
    let on = |name: &str| {
        let mut build = bench.layout();
        build.args(["--tag", "new", "--base", &format!("oci:base{name}")]);
        build
    };
    bench.refuses_usage("B37", &mut on(":base"), &["`base` is ambiguous (select one of @sha256:"]);
    bench.refuses_usage("B37", &mut on(""), &["has several images (select one of "]);
    bench.refuses("B37", &mut on(":absent"), &["no image `absent`", "it has base"]);
    let digest = two["digest"].as_str().unwrap().to_owned();
    run(&mut on(&format!(":{digest}"))).success();

    two["annotations"] = json!({
        "org.opencontainers.image.ref.name": "team/app:v1",
        "io.containerd.image.name": "docker.io/team/app:v2",
    });
    base.edit_index(|it| it["manifests"] = json!([two]));
    for name in ["", ":v1", ":team/app:v1", ":docker.io/team/app:v2"] {
        run(&mut on(name)).success();
    }
    bench.refuses("B37", &mut on(":v3"), &["no image `v3`", "it has docker.io/team/app:v1"]);
    base.edit_index(|it| it["manifests"] = json!([]));
    bench.refuses("B37", &mut on(""), &["has no image"]);
}

#[test]
fn b38_a_layout_can_be_its_own_base() {
    let bench = Bench::keeping();
    let source = format!("{}:/more", bench.source().display());
    run(bench.layout().args(["--tag", "more", "--base", "oci:out:keep", "--copy", &source])).success();
    assert_eq!(crate::catalogue::contract::tags(&bench.out), ["keep", "more"]);
    let more = crate::consumers::Layout::new(&bench.out, "more");
    assert_eq!(more.layers().len(), 2);
    bench.is_intact("B38");
    // Even under the same tag.
    run(bench.layout().args(["--tag", "more", "--base", "oci:out:more", "--copy", &source])).success();
    assert_eq!(more.layers().len(), 3);
    bench.is_intact("B38");
}

#[test]
fn b39_a_base_that_changes_meanwhile_is_one_or_the_other() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let bench = Bench::keeping();
    let (one, two) = (Forged::new(bench.scratch.join("one")), Forged::new(bench.scratch.join("two")));
    two.edit_config(|it| it["author"] = json!("two"));
    let base = bench.scratch.join("base");
    for layout in [&one, &two] {
        crate::catalogue::contract::copy_directory(&layout.directory, &base);
    }
    let swap = |layout: &Forged| {
        fs::copy(layout.directory.join("index.json"), base.join("next")).unwrap();
        fs::rename(base.join("next"), base.join("index.json")).unwrap();
    };
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                swap(&one);
                swap(&two);
            }
        });
        for _ in 0..10 {
            let built = run(bench.layout().args(["--tag", "new", "--base", "oci:base:base"]));
            assert_eq!(built.status, 0, "B39: {built}");
            let author = crate::consumers::Layout::new(&bench.out, "new").config()["author"].clone();
            assert!(author == Value::Null || author == "two", "B39: {author}");
        }
        stop.store(true, Ordering::Relaxed);
    });
    bench.is_intact("B39");
}

#[test]
fn b40_scratch_is_the_empty_base_and_has_no_tags() {
    let bench = Bench::keeping();
    let on = |base: &str| {
        let mut build = bench.layout();
        build.args(["--tag", "new", "--base", base]);
        build
    };
    run(&mut on("scratch")).success();
    bench.refuses_usage("B40", &mut on("scratch:latest"), &["scratch is the empty base, and has no tags"]);
    bench.refuses("B40", &mut on("docker.io/library/scratch"), &["scratch is not in a registry (--base scratch)"]);
}
