//! What the flags of robots mean, and what is said where they mean nothing.

use super::machine::Machine;
use crate::catalogue::forge::gzip;
use crate::support::{install_script, run};
use serde_json::json;
use std::fs;
use std::io::Read;

/// M5: rcc would not run the image, so another blueprint than the robot's is refused, unless no rcc is in the image.
#[test]
fn a_catalog_of_another_blueprint_is_refused() {
    let machine = Machine::new();
    machine.robot("robot", "3.11", "");
    let (own, other) = (machine.record("home/.robocorp", "3.11"), machine.record("home/.robocorp", "3.9"));
    let file = machine.scratch.join(format!("home/.robocorp/hololib/catalog/{other}v12.linux_amd64"));
    for mode in ["sealed", "ready", "compact"] {
        for selector in [other.as_str(), file.to_str().unwrap()] {
            let refused = machine.layout("robot", &["--catalog", selector, "--environment", mode]).ended_with(1);
            let expected = format!(
                "catalog {other}v12.linux_amd64: is for blueprint {other}, but the robot needs {own}: \
                 `+ python=3.11`, `- python=3.9` (rcc would not run it; --environment direct accepts any catalog)"
            );
            assert!(refused.stderr.contains(&expected), "{refused}");
        }
        machine.layout("robot", &["--catalog", &own, "--environment", mode]).success();
    }
    machine.layout("robot", &["--catalog", &other, "--environment", "direct"]).success();
    machine.shell_robot("shell", "tasks: {a: {shell: b}}\nartifactsDir: output\n");
    machine
        .layout("shell", &["--catalog", &other])
        .failed_saying("is for blueprint 0caa2913f7dd4011, but the robot has no environment");
}

/// M6: the platform of a catalog is held against the image's, however the catalog is named.
#[test]
fn a_catalog_of_another_platform_is_refused() {
    let machine = Machine::new();
    machine.robot("robot", "3.11", "");
    let own = machine.record("home/.robocorp", "3.11");
    let catalogs = machine.scratch.join("home/.robocorp/hololib/catalog");
    let foreign = format!("{own}v12.darwin_arm64");
    let mut content = String::new();
    let recorded = fs::File::open(catalogs.join(format!("{own}v12.linux_amd64"))).unwrap();
    flate2::read::GzDecoder::new(recorded).read_to_string(&mut content).unwrap();
    let content = content.replace("linux_amd64", "darwin_arm64");
    let file = catalogs.join(&foreign);
    fs::write(&file, gzip(content.as_bytes())).unwrap();
    for mode in ["sealed", "ready", "compact", "direct"] {
        for selector in [foreign.as_str(), file.to_str().unwrap()] {
            let refused = machine.layout("robot", &["--catalog", selector, "--environment", mode]).ended_with(1);
            let expected = format!("catalog {foreign}: is for darwin/arm64, and the image for linux/amd64");
            assert!(refused.stderr.contains(&expected), "{refused}");
        }
    }
}

/// M4: a flag that requires a robot is an error without one.
#[test]
fn flags_for_robots_need_a_robot() {
    let machine = Machine::new();
    machine.scratch.write("empty/data/file", "x");
    machine.robot("robot", "3.11", "");
    for (flag, value) in [
        ("--task", Some("x")),
        ("--environment", Some("direct")),
        ("--catalog", Some("x")),
        ("--hololib", Some("x")),
        ("--resolve", None),
        ("--rcc-exec", Some("x")),
        ("--rcc-download", Some("1")),
        ("--home", Some("/x")),
        ("--controller", Some("x")),
        ("--space", Some("x")),
        ("--scrub", None),
        ("--root", Some(".")),
        ("--product", Some("sema4ai")),
    ] {
        let flags: Vec<&str> = [flag].into_iter().chain(value).collect();
        for command in [&["layout", "out"][..], &["dockerfile"]] {
            let none = run(&mut machine.command("empty", &[command, &flags].concat())).ended_with(2);
            let expected =
                format!("{flag}: requires a robot, and this directory has no robot.yaml (set one with --robot PATH)");
            assert!(none.stderr.contains(&expected), "{none}");
        }
        let copies = ["layout", "out", "--copy", "conda.yaml:/x"];
        let beside = run(&mut machine.command("robot", &[&copies[..], &flags].concat())).ended_with(2);
        assert!(beside.stderr.contains(&format!("{flag}: requires a robot, and ./robot.yaml is not")), "{beside}");
        assert!(beside.stderr.contains("(--robot . packages both)"), "{beside}");
    }
    assert!(!machine.scratch.join("empty/out").exists());
}

/// M4: an image of nothing is no image, and a robot that is left out is mentioned.
#[test]
fn nothing_to_build_is_an_error_and_a_robot_left_out_a_warning() {
    let machine = Machine::new();
    machine.scratch.write("empty/data/file", "x");
    machine.robot("robot", "3.11", "");
    let nothing = run(&mut machine.command("empty", &["layout", "out", "-t", "team/robot:v1"])).ended_with(2);
    assert!(nothing.stderr.contains("image: nothing to build: no robot.yaml in this directory"), "{nothing}");
    run(&mut machine.command("empty", &["layout", "out", "--entrypoint", "/bin/sh"])).success();
    let unchanged = run(&mut machine.command("empty", &["layout", "two", "--base", "oci:out"])).success();
    assert!(unchanged.stderr.contains("image: no change to the base: no robot.yaml"), "{unchanged}");
    let beside = run(&mut machine.command("robot", &["layout", "out", "--copy", "conda.yaml:/x"])).success();
    let warning = "robot.yaml: not packaged because of --copy or other content; --robot . packages both";
    assert!(beside.stderr.contains(warning), "{beside}");
}

/// M45: the homes of both products are searched, and one can be named.
#[test]
fn environments_of_both_products_are_found() {
    let machine = Machine::new();
    machine.robot("robot", "3.11", "");
    machine.record("home/.robocorp", "3.9");
    let own = machine.record("home/.sema4ai", "3.11");
    let label =
        |plan: &serde_json::Value| plan["config"]["config"]["Labels"]["dev.ocibuild.environment.blueprint"].clone();
    assert_eq!(label(&machine.plan("robot", &[])), json!(own));
    assert_eq!(label(&machine.plan("robot", &["--product", "sema4ai"])), json!(own));
    let missing = machine.layout("robot", &["--product", "robocorp"]).ended_with(1);
    let command = "(run `rcc holotree variables --robot robot.yaml`, or use --resolve)";
    assert!(missing.stderr.contains(command) && !missing.stderr.contains("sema4ai"), "{missing}");
    machine.robot("other", "3.12", "");
    let nowhere = machine.layout("other", &[]).ended_with(1);
    for said in
        [".robocorp/hololib; most similar is", "; no catalog for linux/amd64 in ", ".sema4ai/hololib; most similar is"]
    {
        assert!(nowhere.stderr.contains(said), "no {said:?} in {nowhere}");
    }
    let command = "(run `rcc holotree variables --sema4ai --robot robot.yaml`, or use --resolve)";
    assert!(machine.layout("other", &["--product", "sema4ai"]).ended_with(1).stderr.contains(command));
    // An incomplete catalog of one product does not hide the complete one of the other.
    machine.record("home/.robocorp", "3.11");
    fs::remove_dir_all(machine.scratch.join("home/.robocorp/hololib/library")).unwrap();
    machine.layout("robot", &[]).success();
    let listed = run(&mut machine.command(".", &["catalogs", "--product", "sema4ai"])).success();
    assert!(listed.text().contains(".sema4ai/hololib") && !listed.text().contains(".robocorp"), "{listed}");
}

/// M45, M49: --resolve runs rcc for the right product, for a missing and for an incomplete environment, and is suggested.
#[test]
fn resolving_records_what_is_missing_or_incomplete() {
    let machine = Machine::new();
    machine.robot("robot", "3.11", "");
    let own = machine.record("recorded/.sema4ai", "3.11");
    fs::create_dir_all(machine.scratch.join("home/.sema4ai/hololib/catalog")).unwrap();
    let log = machine.scratch.join("log");
    let recorder = format!(
        "#!/bin/sh\necho \"$@\" >> {}\ncp -r {}/. {}/\n",
        log.display(),
        machine.scratch.join("recorded").display(),
        machine.scratch.join("home").display()
    );
    install_script(&machine.scratch.join("bin/rcc"), &recorder);
    let resolve = || {
        let words = ["layout", "../out", "--base", "scratch", "--environment", "direct", "--resolve"];
        let mut command = machine.command("robot", &words);
        run(command.env("PATH", format!("{}:/usr/bin:/bin", machine.scratch.join("bin").display())))
    };
    resolve().success();
    resolve().success();
    assert_eq!(fs::read_to_string(&log).unwrap(), "holotree variables --sema4ai --robot robot.yaml\n");
    let objects = machine.scratch.join("home/.sema4ai/hololib/library");
    fs::remove_dir_all(&objects).unwrap();
    let incomplete = machine.layout("robot", &["--environment", "direct"]).ended_with(1);
    let hint = "(--resolve records the environment again)";
    assert!(incomplete.stderr.contains(&format!("catalog {own}v12.linux_amd64: ")), "{incomplete}");
    assert!(incomplete.stderr.contains(hint), "{incomplete}");
    resolve().success();
    assert_eq!(fs::read_to_string(&log).unwrap().lines().count(), 2);
    assert!(objects.is_dir());
}

const TWO_TASKS: &str = "tasks: {One: {shell: python one.py}, Two: {shell: python two.py}}\nartifactsDir: output\n";

/// M49: with rcc in the image the run can choose among several tasks, and without it the image runs one.
#[test]
fn the_run_may_choose_the_task() {
    let machine = Machine::new();
    machine.shell_robot("robot", TWO_TASKS);
    let config = |more: &[&str]| machine.plan("robot", more)["config"]["config"].clone();
    let start = ["/usr/local/bin/rcc", "run", "--robot", "/home/robot/app/robot.yaml", "--bundled", "--no-build"];
    assert_eq!(config(&[])["Entrypoint"], json!(start));
    assert_eq!(config(&["--task", "two"])["Entrypoint"], json!([&start[..], &["--task", "Two"]].concat()));
    let said = machine.layout("robot", &[]).success();
    assert!(
        said.stderr.contains("choose a task with --task NAME when running the image; tasks: \"One\", \"Two\""),
        "{said}"
    );
    let undecided = machine.layout("robot", &["--environment", "direct"]).ended_with(2);
    let expected = "has several tasks, but a direct image runs one (--task NAME; tasks: \"One\", \"Two\")";
    assert!(undecided.stderr.contains(expected), "{undecided}");
    // As an entrypoint, the task's command would swallow `--task` of `podman run IMAGE --task NAME`.
    let direct = config(&["--environment", "direct", "--task", "One"]);
    assert_eq!((&direct["Entrypoint"], &direct["Cmd"]), (&json!(null), &json!(["python", "one.py"])));
}

/// M49: no made-up version, and the home has every directory that rcc makes at a start.
#[test]
fn the_image_has_no_version_of_its_own_and_a_whole_home() {
    let machine = Machine::new();
    machine.robot("robot", "3.11", "");
    machine.record("home/.robocorp", "3.11");
    let annotations = &machine.plan("robot", &[])["annotations"];
    assert_eq!(annotations["org.opencontainers.image.version"], json!(null), "{annotations}");
    let files = machine.files("robot", &[]);
    let wheels = &files["home/robot/.robocorp/wheels"].0;
    assert_eq!((wheels.mode, wheels.uid, wheels.gid), (0o775, 1000, 0));
}

/// M71: the robot runs without the list, so a missing one is a warning.
#[test]
fn a_missing_list_of_what_to_ignore_is_a_warning() {
    let machine = Machine::new();
    machine.shell_robot("robot", "tasks: {a: {shell: b}}\nartifactsDir: output\nignoreFiles: [.gitignore]\n");
    let warned = machine.layout("robot", &[]).success();
    assert!(warned.stderr.contains("`ignoreFiles`: .gitignore not found, so it excludes nothing"), "{warned}");
}

/// M14: an environment from the cache is checked like one that was read, and its layer is read once, only for paths in it.
#[test]
fn commands_are_checked_in_an_environment_from_the_cache() {
    let machine = Machine::new();
    machine.robot("robot", "3.11", "");
    machine.record("home/.robocorp", "3.11");
    let space = "/home/robot/.robocorp/holotree/dc4d952_5a1fac3_9fcd2534";
    let (python, below) = (format!("{space}/bin/python"), format!("{space}/nosuch"));
    let not_executable = format!("{python} is not executable: its mode is 0");
    for (mode, entrypoint, warning, is_read) in [
        ("ready", "/usr/bin/nosuch", "entrypoint /usr/bin/nosuch: not found in the image", false),
        ("ready", "/usr/bin/nosuch", "entrypoint /usr/bin/nosuch: not found in the image", false),
        ("ready", &python, &not_executable, true),
        ("ready", &python, &not_executable, false),
        ("ready", &below, &format!("entrypoint {below}: not found in the image"), false),
        ("direct", &python, &not_executable, false),
        ("direct", &python, &not_executable, true),
        ("direct", &python, &not_executable, false),
    ] {
        let words = ["layout", "../out", "--base", "scratch", "--rcc-exec", "../rcc", "--environment", mode];
        let mut command = machine.command("robot", &[&words[..], &["--entrypoint", entrypoint]].concat());
        command.env("OCIBUILD_NO_CACHE", "0").env("XDG_CACHE_HOME", machine.scratch.join("cache"));
        let built = run(&mut command).success();
        assert!(built.stderr.contains(warning), "{built}");
        assert_eq!(built.stderr.contains("list sha256:"), is_read, "{built}");
    }
}
