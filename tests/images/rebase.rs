//! Images whose base is replaced.

use super::Yard;
use crate::consumers::{Registry, Umoci};
use crate::support::{command, is_left_out, run};
use serde_json::{Value, json};
use std::os::unix::fs::symlink;

const BASE_NAME: &str = "org.opencontainers.image.base.name";
const BASE_DIGEST: &str = "org.opencontainers.image.base.digest";

/// Two versions of a base in the layout `base`, and an image on the first one in `out`.
fn bases() -> Yard {
    let yard = Yard::new();
    for version in ["1", "2"] {
        yard.scratch.write(format!("base{version}/etc/passwd"), "root:x:0:0::/:/bin/sh\nsvc:x:7:7::/:/bin/sh\n");
        yard.scratch.write(format!("base{version}/etc/version"), version);
        yard.text(&format!(
            "layout base -t v{version} --copy base{version}:/ --env PATH=/bin --env VERSION={version} --label base={version}"
        ));
    }
    yard.text(&format!("{ON_BASE} --base ./base:v1 -t v1"));
    yard
}

const ON_BASE: &str = "layout out --copy a:/a --copy b:/b --env OWN=1 --label own=1 --user svc";

/// What is rebased is what a build on the new base makes.
#[test]
fn an_image_goes_onto_another_base() {
    if is_left_out() {
        return;
    }
    let yard = bases();
    let expected = yard.text(&format!("{ON_BASE} --base ./base:v2 -t expected"));
    let report = yard.json("rebase out:v1 --from ./base:v1 --onto ./base:v2");
    assert_eq!(report["digest"], *expected);
    let again = yard.run("rebase out:v1 --from ./base:v2 --onto ./base:v2").success();
    assert!(again.text() == expected && again.stderr.contains("no change"), "{again}");
    let shown = yard.json("inspect out:v1");
    assert_eq!(shown["config"]["config"]["Labels"], json!({"base": "2", "own": "1"}));
    assert_eq!(shown["config"]["config"]["Env"], json!(["PATH=/bin", "VERSION=2", "OWN=1"]));
    assert_eq!(yard.text("cat out:v1 /etc/version"), "2");
    yard.run("verify out").success();
    let back = yard.text("rebase out:v1 --from ./base:v2 --onto ./base:v1 --to oci:other:back");
    assert_eq!(back, yard.text(&format!("{ON_BASE} --base ./base:v1 -t before")));
    yard.run("verify other").success();
}

/// The annotations and the layers have to agree about the base.
#[test]
fn the_base_is_found_by_annotations_and_layers() {
    if is_left_out() {
        return;
    }
    let yard = bases();
    let index = std::fs::read(yard.scratch.join("out/index.json")).unwrap();
    let refused = yard.run("rebase out:v1 --onto ./base:v2").ended_with(1);
    assert!(refused.stderr.contains(&format!("no annotation {BASE_NAME} (--from IMAGE names the base")), "{refused}");
    let refused = yard.run("rebase out:v1 --from ./base:v2 --onto ./base:v2").ended_with(1);
    assert!(refused.stderr.contains("its layer 1 is not that of its base sha256:"), "{refused}");
    assert_eq!(std::fs::read(yard.scratch.join("out/index.json")).unwrap(), index);
    // A base in the same layout is found by its digest.
    yard.text("export ./base:v1 oci:out:base1");
    yard.text("rebase out:v1 --onto ./base:v2");
    yard.text(&format!("edit out:v1 --annotation {BASE_DIGEST}=sha256:{}", "0".repeat(64)));
    yard.run("rebase out:v1 --onto ./base:v1").ended_with(1).failed_saying("--from IMAGE names the base");
    yard.text(&format!("edit out:v1 --annotation {BASE_DIGEST}=nonsense"));
    yard.run("rebase out:v1 --onto ./base:v1").ended_with(1).failed_saying("--from IMAGE names the base");
    yard.text(&format!("edit out:v1 --unset-annotation {BASE_DIGEST}"));
    yard.run("rebase out:v1 --onto ./base:v1").ended_with(1).failed_saying("does not record its base");
    yard.run("rebase out:v1 --from ./base:v2").ended_with(1).failed_saying("--onto IMAGE names the new base");
    yard.refuses("rebase out:v1 --from ./base:v2 --onto ./base:v1 --sparse", &["not in a registry"]);
    yard.text("layout arm --platform linux/arm64 --copy a:/a");
    yard.run("rebase out:v1 --from ./base:v2 --onto ./arm").ended_with(1).failed_saying("no image for linux/amd64");
    yard.text("layout empty --label x=1");
    let report = yard.json("rebase out:v1 --from ./base:v2 --onto ./empty --allow-conflicts");
    assert_eq!(yard.json("inspect out:v1")["layers"].as_array().unwrap().len(), 2, "{report}");
    yard.text("rebase out:v1 --from ./empty --onto ./base:v2");
    yard.run("verify out:v1").success();
}

#[test]
fn layers_that_do_not_fit_are_conflicts() {
    if is_left_out() {
        return;
    }
    let yard = bases();
    std::fs::create_dir_all(yard.scratch.join("usr/b")).unwrap();
    symlink("usr", yard.scratch.join("usr/a")).unwrap();
    yard.text("layout base -t link --copy usr:/");
    let rebase = "rebase out:v1 --from ./base:v1 --onto ./base:link";
    let refused = yard.run(rebase).ended_with(1);
    assert!(refused.stderr.contains("/a: is a link in the new base, and a directory in the image"), "{refused}");
    assert!(refused.stderr.contains("there are 2 conflicts in all") && refused.stderr.contains("--allow-conflicts"));
    let allowed = yard.run(&format!("{rebase} --allow-conflicts --to oci:other")).success();
    assert!(allowed.stderr.contains("user svc: the image has no /etc/passwd"), "{allowed}");
    yard.text("layout own -t files --base ./base:v1 --copy a/file:/etc/own --remove /etc/version");
    yard.scratch.write("base3/etc/own/file", "x");
    yard.text("layout base -t v3 --copy base3:/");
    let refused = yard.run("rebase own --from ./base:v1 --onto ./base:v3").ended_with(1);
    assert!(refused.stderr.contains("/etc/own: is a directory in the new base, and not in the image"), "{refused}");
    assert!(refused.stderr.contains("new base: does not have 1 path that the image deletes"), "{refused}");
    yard.scratch.write("base4/etc", "x");
    yard.text("layout base -t v4 --copy base4:/");
    let refused = yard.run("rebase own --from ./base:v1 --onto ./base:v4").ended_with(1);
    assert!(refused.stderr.contains("/etc: is a file in the new base"), "{refused}");
}

/// A base in a registry is followed by its name. Layers of the base are mounted in the registry, and left there on request.
#[test]
fn an_image_follows_its_base_in_a_registry() {
    let Some(registry) = Registry::plain() else { return };
    let yard = bases();
    let base = format!("{}/team/base:stable", registry.address());
    let push = |version: &str| yard.text(&format!("export ./base:{version} docker://{base}"));
    let first = push("v1");
    yard.text(&format!("{ON_BASE} --base {base} -t app:v1"));
    yard.text(&format!("{ON_BASE} --base {base} -t app:v2"));
    let image = format!("docker://{}/team/app:v1", registry.address());
    yard.text(&format!("export out:app:v1 {image}"));
    assert!(yard.run("rebase out:app:v1").success().stderr.contains("no change"));
    let second = push("v2");
    let expected = yard.text(&format!("{ON_BASE} --base {base} --pull always -t expected"));
    let report = yard.run("rebase out:app:v1").success();
    assert_eq!(report.text(), expected);
    assert!(report.stderr.contains(&format!("1 layer of {first} replaced by 1 layer of {second}")), "{report}");
    // In the registry, the layer of the base is mounted.
    let pushed = yard.run(&format!("rebase {image}")).success();
    assert_eq!(pushed.text(), expected);
    assert!(pushed.stderr.contains("mounted from team/base"), "{pushed}");
    yard.text(&format!("export {image} oci:back"));
    yard.run("verify back").success();
    // A sparse rebase leaves the layer where it is.
    let sparse = yard.text("rebase out:app:v2 --sparse");
    assert_eq!(sparse, expected);
    let listed = yard.json("ls out");
    let remote = |name: &str| {
        let entry = listed.as_array().unwrap().iter().find(|entry| entry["name"].as_str().unwrap().ends_with(name));
        entry.unwrap()["remote"].as_u64().unwrap()
    };
    assert_eq!(remote("app:v2"), 0, "the layout has the layer already");
    yard.text(&format!("{ON_BASE} --base {base} -t v9"));
    yard.text("export out:v9 oci:alone");
    push("v1");
    let left = yard.json("rebase alone --sparse");
    assert_eq!(left["changed"], true);
    assert!(yard.json("ls alone")[0]["remote"].as_u64().unwrap() > 0);
    assert_eq!(yard.json("verify alone")["leftOut"].as_array().unwrap().len(), 1);
    yard.text("export alone oci:whole");
    yard.run("verify whole").success();
    let pinned = yard.json("inspect out:v9")["annotations"][BASE_DIGEST].as_str().unwrap().to_owned();
    let name = format!("{}/team/base@{pinned}", registry.address());
    yard.text(&format!("edit out:v9 --annotation {BASE_NAME}={name}"));
    yard.refuses("rebase out:v9", &["is pinned", "--onto IMAGE names the new base"]);
}

/// umoci unpacks the rebased image to the files of the new base and of the image.
#[test]
fn umoci_unpacks_the_rebased_image() {
    if is_left_out() || Umoci::find().is_none() {
        return;
    }
    let yard = bases();
    yard.text("rebase out:v1 --from ./base:v1 --onto ./base:v2");
    let mut umoci = command("umoci");
    umoci.current_dir(yard.scratch.path()).args(["unpack", "--rootless", "--image", "out:v1", "bundle"]);
    run(&mut umoci).success();
    for (path, content) in [("etc/version", "2"), ("a/file", "a"), ("b/file", "b")] {
        assert_eq!(std::fs::read_to_string(yard.scratch.join("bundle/rootfs").join(path)).unwrap(), content);
    }
    let config: Value = yard.json("inspect out:v1")["config"].clone();
    assert_eq!(config["history"].as_array().unwrap().len(), 3, "{config}");
}
