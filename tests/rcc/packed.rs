//! Robots in one file, and action packages.

use super::machine::{Machine, files_of};
use crate::support::real_rcc::RealRcc;
use crate::support::{Finished, command, is_left_out, run};
use ocibuild::codec::tar::EntryType;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// `ocibuild layout -r FILE` in the machine's directory, which has a temporary directory of its own.
fn layout(machine: &Machine, file: &str, more: &[&str]) -> Finished {
    fs::create_dir_all(machine.scratch.join("temporary")).unwrap();
    let words = ["layout", "out", "--base", "scratch", "--environment", "direct", "--format", "json", "-r", file];
    let mut command = machine.command(".", &[&words[..], more].concat());
    run(command.env("TMPDIR", machine.scratch.join("temporary")))
}

/// The content of the files of the robot, by their paths below it; and nothing is left behind.
#[track_caller]
fn robot_files(machine: &Machine, finished: Finished) -> BTreeMap<String, (u32, Vec<u8>)> {
    let built: Value = serde_json::from_str(finished.success().text()).unwrap();
    assert_eq!(fs::read_dir(machine.scratch.join("temporary")).unwrap().count(), 0);
    let files = files_of(&machine.scratch.join("out"), &built).into_iter();
    let files = files.filter(|(_, (entry, _))| entry.kind == EntryType::File);
    files
        .filter_map(|(path, (entry, content))| {
            Some((path.strip_prefix("home/robot/app/")?.to_owned(), (entry.mode, content)))
        })
        .collect()
}

/// Writes a zip of `members` with Python, behind `stub`, with offsets from the beginning of the file or of the zip.
fn zip(machine: &Machine, name: &str, (stub, offsets): (&str, &str), members: &[(&str, &Path)]) {
    let script = "import sys, zipfile\n\
                  path, stub, offsets, *members = sys.argv[1:]\n\
                  open(path, 'w').write(stub if offsets == 'file' else '')\n\
                  archive = zipfile.ZipFile(path, 'a')\n\
                  for name, file in zip(members[::2], members[1::2]): archive.write(file, name)\n\
                  archive.close()\n\
                  if offsets == 'zip': data = open(path, 'rb').read(); open(path, 'wb').write(stub.encode() + data)\n";
    let mut python = command("python3");
    python.args(["-c", script]).arg(machine.scratch.join(name)).args([stub, offsets]);
    for (member, file) in members {
        python.arg(member).arg(file);
    }
    run(&mut python).success();
}

/// The zip of `rcc robot wrap` gives the image that its directory gives.
#[test]
fn a_wrapped_robot_is_a_robot() {
    let machine = Machine::new();
    let Some(rcc) = RealRcc::new(&machine.scratch.join("real-home")) else { return };
    machine.shell_robot("robot", "tasks: {a: {shell: b}}\nartifactsDir: output\nPATH: [bin]\n");
    machine.scratch.write("robot/bin/tool", "#!/bin/sh\n");
    machine.scratch.write("robot/deep/er/data", vec![7; 100_000]);
    let (robot, packed) = (machine.scratch.join("robot"), machine.scratch.join("Stock Robot.zip"));
    rcc.run(&["robot", "wrap", "-d", robot.to_str().unwrap(), "-z", packed.to_str().unwrap()]);
    let from_directory = robot_files(&machine, layout(&machine, "robot", &[]));
    let from_zip = robot_files(&machine, layout(&machine, "Stock Robot.zip", &[]));
    assert_eq!(from_directory, from_zip);
    let shown = layout(&machine, "Stock Robot.zip", &["--dry-run"]).success();
    let warning = json!({"warning": {
        "object": "Stock Robot.zip: robot.yaml", "reason": "has no environment, so the image has none"
    }})
    .to_string();
    assert!(shown.stderr.lines().any(|line| line == warning), "{shown}");
    assert_eq!(from_zip["bin/tool"].0, 0o775);
    let index = fs::read_to_string(machine.scratch.join("out/index.json")).unwrap();
    assert!(index.contains("docker.io/library/stock-robot:latest"), "{index}");
    layout(&machine, "Stock Robot.zip", &["--root", "."]).failed_saying("has no parent directory");
}

/// A bundle brings its robot and its environment, behind a program or not.
#[test]
fn a_bundle_brings_its_environment() {
    if is_left_out() {
        return;
    }
    let machine = Machine::new();
    machine.robot("robot", "3.11", "");
    machine.scratch.write("robot/task.py", "print(1)\n");
    let hash = machine.record("elsewhere", "3.11");
    let catalogs = machine.scratch.join("elsewhere/hololib");
    let listed = run(command("find").arg(".").args(["-type", "f", "-printf", "%P\n"]).current_dir(&catalogs)).success();
    let stored: Vec<(&str, std::path::PathBuf)> =
        listed.text().lines().map(|name| (name, catalogs.join(name))).collect();
    let stored: Vec<(&str, &Path)> = stored.iter().map(|(name, path)| (*name, path.as_path())).collect();
    zip(&machine, "hololib.zip", ("", "file"), &stored);
    let paths: Vec<_> = ["robot/robot.yaml", "robot/conda.yaml", "robot/task.py", "hololib.zip"]
        .map(|name| machine.scratch.join(name))
        .into();
    let members = [
        ("robot/robot.yaml", paths[0].as_path()),
        ("robot/conda.yaml", &paths[1]),
        ("robot/task.py", &paths[2]),
        ("envs/default/conda.yaml", &paths[1]),
        ("hololib/hololib.zip", &paths[3]),
    ];
    for (name, stub, offsets) in
        [("plain.zip", "", "file"), ("a.py", "#!/usr/bin/env python3\n", "file"), ("b.py", "print('x')\n", "zip")]
    {
        zip(&machine, name, (stub, offsets), &members);
        let planned = layout(&machine, name, &["--dry-run"]).success();
        let plan: Value = serde_json::from_str(planned.text()).unwrap();
        let labels = &plan["config"]["config"]["Labels"];
        assert_eq!(labels["dev.ocibuild.environment.blueprint"], json!(hash), "{name}: {planned}");
        let files = robot_files(&machine, layout(&machine, name, &[]));
        assert_eq!(files.keys().collect::<Vec<_>>(), ["conda.yaml", "robot.yaml", "task.py"], "{name}");
    }
}

/// A packed robot is as untrusted as everything else.
#[test]
fn an_invalid_packed_robot_is_refused() {
    let machine = Machine::new();
    machine.shell_robot("robot", "tasks: {a: {shell: b}}\nartifactsDir: output\n");
    let file = machine.scratch.join("robot/robot.yaml");
    for (name, members, expected) in [
        ("escape.zip", vec![("robot.yaml", file.as_path()), ("../evil", &file)], "unsafe name"),
        ("none.zip", vec![("other", file.as_path())], "contains neither robot.yaml nor robot/robot.yaml"),
    ] {
        zip(&machine, name, ("", "file"), &members);
        layout(&machine, name, &[]).ended_with(1).failed_saying(expected);
        assert_eq!(fs::read_dir(machine.scratch.join("temporary")).unwrap().count(), 0);
    }
    zip(&machine, "damaged.zip", ("", "file"), &[("robot.yaml", &file)]);
    let mut bytes = fs::read(machine.scratch.join("damaged.zip")).unwrap();
    bytes[45] ^= 1;
    fs::write(machine.scratch.join("damaged.zip"), bytes).unwrap();
    layout(&machine, "damaged.zip", &[]).ended_with(1).failed_saying("checksum mismatch");
    machine.scratch.write("cut.zip", &fs::read(machine.scratch.join("damaged.zip")).unwrap()[..60]);
    layout(&machine, "cut.zip", &[]).ended_with(1).failed_saying("not a zip, or trailing data");
}

/// An action package is its environment and its files; what runs is for the person to say.
#[test]
fn an_action_package_is_packaged() {
    let machine = Machine::new();
    // The environment of conda.yaml in another form: the same blueprint.
    machine.record("home/.robocorp", "3.11");
    let text = "name: Stock\nversion: 1.0.0\ndependencies:\n  conda-forge:\n    - python=3.11\n\
                packaging:\n  exclude:\n    - ./secret/**\n    - '*.env'\n";
    machine.scratch.write("package/package.yaml", text);
    machine.scratch.write("package/actions.py", "x = 1\n");
    machine.scratch.write("package/secret/key", "x");
    machine.scratch.write("package/.env", "x");
    for file in ["package", "package/package.yaml"] {
        let files = robot_files(&machine, layout(&machine, file, &["--cmd", "python actions.py"]));
        assert_eq!(files.keys().collect::<Vec<_>>(), ["actions.py", "package.yaml"]);
    }
    let words = ["--cmd", "python actions.py", "--dry-run"];
    let plan: Value = serde_json::from_str(layout(&machine, "package", &words).success().text()).unwrap();
    let config = &plan["config"]["config"];
    assert_eq!((&config["Cmd"], &config["WorkingDir"]), (&json!(["python", "actions.py"]), &json!("/home/robot/app")));
    machine.scratch.write("package/package.yaml", text.replace("3.11", "3.12"));
    let missing = layout(&machine, "package", &[]).ended_with(1);
    missing.failed_saying("run `rcc holotree variables package/package.yaml`, or use --resolve");
    let words = ["layout", "out", "--base", "scratch", "-r", "package", "--environment", "sealed"];
    let sealed = run(&mut machine.command(".", &words)).ended_with(2);
    sealed.failed_saying("is an action package, which has no tasks for rcc to run (--environment direct, with --cmd)");
}

/// A robot in one file is unpacked once, and its layer comes from the cache as long as the file is the same.
#[test]
fn an_unchanged_packed_robot_is_a_cache_hit() {
    if is_left_out() {
        return;
    }
    let machine = Machine::new();
    machine.scratch.write("robot.yaml", "tasks: {a: {shell: 'true'}}\nartifactsDir: output\n");
    machine.scratch.write("data", vec![7; 100_000]);
    let file = |name: &str| machine.scratch.join(name);
    zip(&machine, "robot.zip", ("", "file"), &[("robot.yaml", &file("robot.yaml")), ("deep/data", &file("data"))]);
    let robots = machine.scratch.join("cache/robots/v1");
    let names = || -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(&robots).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    let build = |more: &[&str]| {
        let words =
            ["layout", "out", "--base", "scratch", "--environment", "direct", "--format", "json", "-r", "robot.zip"];
        let mut command = machine.command(".", &[&words[..], more].concat());
        command.env_remove("OCIBUILD_NO_CACHE").env("OCIBUILD_CACHE_DIR", machine.scratch.join("cache"));
        let built: Value = serde_json::from_str(run(&mut command).success().text()).unwrap();
        (built["digest"].clone(), built["layers"].as_array().unwrap().last().unwrap()["origin"].clone())
    };
    let (digest, origin) = build(&[]);
    assert_eq!(origin, "made");
    let [name] = <[String; 1]>::try_from(names()).unwrap();
    // Files that were just unpacked are not believed to be at rest.
    std::thread::sleep(std::time::Duration::from_millis(2100));
    let again = build(&[]);
    assert_eq!(again.0, digest);
    assert!(again.1 != "made", "{again:?}");
    assert_eq!(build(&[]), (digest.clone(), "same-files".into()));

    // What a crash cut off is unpacked again, and what a killed process left goes with what is not needed.
    fs::write(robots.join(&name).join("deep/data"), "").unwrap();
    fs::create_dir_all(robots.join(format!("{name}.0.unfinished/deep"))).unwrap();
    assert_eq!(build(&[]).0, digest);
    assert_eq!(fs::read(robots.join(&name).join("deep/data")).unwrap().len(), 100_000);
    assert_eq!(build(&["--no-cache"]).0, digest);
    let cache = |words: &[&str]| {
        let mut command = machine.command(".", &[&["cache"], words].concat());
        run(command.env("OCIBUILD_CACHE_DIR", machine.scratch.join("cache"))).success()
    };
    cache(&["prune", "--keep", "1GiB"]);
    assert_eq!(names(), [name]);
    cache(&["clear"]);
    assert_eq!(names(), [""; 0]);
    assert_eq!(build(&[]), (digest, "made".into()));
}
