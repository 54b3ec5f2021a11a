//! `ocibuild catalogs`, and what is said where a robot's environment is not there.

use super::Workshop;
use crate::support::{Scratch, command, run};
use serde_json::Value;
use std::fs;

#[test]
fn catalogs_are_listed_with_the_robots_that_need_them() {
    let Some(workshop) = Workshop::shared_by_tests() else { return };
    let scratch = Scratch::new();
    workshop.copy_robot(&scratch.join("robots/stock"));
    workshop.copy_robot(&scratch.join("robots/other"));
    workshop.copy_robot(&scratch.join("robots/.hidden"));
    scratch.write("robots/other/conda.yaml", "channels: [conda-forge]\ndependencies: [python=3.9.1]\n");
    scratch.write("robots/broken/robot.yaml", "tasks: [");
    // A hololib of its own: objects are about to be removed.
    let hololib = scratch.join("hololib");
    run(command("cp").arg("-r").arg(workshop.rcc().product_home().join("hololib")).arg(&hololib)).success();
    let catalogs = |format: &str| {
        let named = hololib.to_str().unwrap();
        let words = ["catalogs", "--format", format, "--hololib", named];
        run(&mut workshop.ocibuild(&words, &scratch.join("robots"))).success()
    };
    let listed: Value = serde_json::from_slice(&catalogs("json").stdout).unwrap();
    let catalog = &listed["hololibs"][0]["catalogs"][0];
    assert_eq!(catalog["robots"], serde_json::json!(["stock/robot.yaml"]), "{listed:#}");
    assert_eq!((&catalog["platform"], &catalog["missing"]), (&"linux/amd64".into(), &0.into()));
    assert!(catalog["entries"].as_u64().unwrap() > 500 && catalog["size"].as_u64().unwrap() > 10_000_000);
    let files: Vec<&Value> = listed["robots"].as_array().unwrap().iter().map(|robot| &robot["file"]).collect();
    assert_eq!(files, ["broken/robot.yaml", "other/robot.yaml", "stock/robot.yaml"]);
    let blueprint = catalog["blueprint"].as_str().unwrap();

    let object = fs::read_dir(hololib.join("library")).unwrap().next().unwrap().unwrap().path();
    fs::remove_dir_all(object).unwrap();
    let text = catalogs("text");
    let line = text.text().lines().find(|line| line.contains(blueprint)).unwrap();
    assert!(line.contains("objects missing") && line.ends_with("stock/robot.yaml"), "{text}");
    for said in
        ["robot other/robot.yaml: ", "rcc holotree variables --robot other/robot.yaml", "robot broken/robot.yaml: "]
    {
        assert!(text.text().contains(said), "no {said:?} in {text}");
    }
    let name = hololib.join("catalog").join(catalog["name"].as_str().unwrap());
    fs::write(name, "damaged").unwrap();
    assert!(catalogs("text").text().contains("cannot be read: "));
}

#[test]
fn by_default_the_hololib_is_rccs_own_and_the_one_beside_a_robot() {
    let Some(workshop) = Workshop::shared_by_tests() else { return };
    let scratch = Scratch::new();
    let robot = scratch.join("robot");
    workshop.copy_robot(&robot);
    let (file, zip) = (robot.join("robot.yaml"), robot.join("hololib.zip"));
    workshop.rcc().run(&["holotree", "export", "-r", file.to_str().unwrap(), "-z", zip.to_str().unwrap()]);
    let listed = run(&mut workshop.ocibuild(&["catalogs"], &robot)).success();
    let own = format!("hololib {}", workshop.rcc().product_home().join("hololib").display());
    let lines: Vec<&str> = listed.text().lines().collect();
    assert_eq!((lines.len(), lines[0], lines[2]), (4, own.as_str(), "hololib hololib.zip"), "{listed}");
    assert!(lines[1].ends_with("complete  robot.yaml") && lines[1] == lines[3], "{listed}");
}

#[test]
fn what_is_missing_is_said_with_what_helps() {
    let Some(workshop) = Workshop::shared_by_tests() else { return };
    let scratch = Scratch::new();
    let robot = scratch.join("robot");
    workshop.copy_robot(&robot);
    let layout = |arguments: &[&str]| {
        let base = workshop.base.location();
        workshop.ocibuild(&[&["layout", "./out", "--base", &base], arguments].concat(), &robot)
    };
    let nowhere = scratch.join("nowhere");
    let no_home = run(layout(&[]).env("HOME", &nowhere));
    no_home.failed_saying("(no environment recorded by rcc; create it with --resolve, or set --hololib)");
    let no_rcc = run(layout(&[]).env("PATH", "/usr/bin:/bin"));
    no_rcc.failed_saying("rcc: not on PATH (set the static rcc for linux/amd64 with --rcc-exec FILE");
    scratch.write("robot/conda.yaml", "channels: [conda-forge]\ndependencies: [python=3.11.8]\n");
    let other = run(&mut layout(&[])).ended_with(1);
    for said in [
        "most similar is ",
        "`+ python=3.11.8`, `- python=3.11.7`",
        "(run `rcc holotree variables --robot robot.yaml`, or use --resolve)",
    ] {
        assert!(other.stderr.contains(said), "no {said:?} in {other}");
    }
    assert_eq!(other.stderr.lines().count(), 1, "{other}");
    assert!(!robot.join("out").exists());
}

#[test]
fn a_base_on_which_python_will_not_start_is_warned_about() {
    let Some(workshop) = Workshop::shared_by_tests() else { return };
    let scratch = Scratch::new();
    let robot = scratch.join("robot");
    workshop.copy_robot(&robot);
    let on =
        |base: &str| run(&mut workshop.ocibuild(&["layout", "./out", "--dry-run", "--base", base], &robot)).success();
    let theirs = workshop.base.location();
    let tagged = ["layout", "./alpine", "--base", &theirs, "--tag", "alpine:3.20", "--copy", "robot.yaml:/x"];
    run(&mut workshop.ocibuild(&tagged, &robot)).success();
    for (base, warning) in [
        ("scratch", "base scratch: has no C library"),
        ("oci:alpine", "base image: looks like Alpine, without the glibc"),
    ] {
        let said = on(base).stderr;
        assert_eq!(said.matches(warning).count(), 1, "{said}");
    }
    assert!(!on(&theirs).stderr.contains("libc"));
}
