//! Robots for several platforms: each image has the rcc and the environment for its own.

use super::machine::Machine;
use crate::support::{Finished, install_script, is_left_out, run, static_program};
use std::fs;

/// The robot's environment for both platforms, each in a hololib of its own, and an rcc for each.
fn machine() -> Machine {
    let machine = Machine::new();
    machine.robot("robot", "3.11", "");
    machine.record("amd64", "3.11");
    machine.record_on_arm("arm64/hololib", "3.11");
    let mut arm = static_program(b"for arm64");
    arm[18] = 183;
    machine.scratch.write("rcc-amd64", static_program(b"for amd64"));
    machine.scratch.write("rcc-arm64", arm);
    machine
}

/// Where the environment is in a direct image.
const SPACE: &str = "/home/robot/.robocorp/holotree/dc4d952_5a1fac3_9fcd2534";

const BOTH: &str = "--platform linux/amd64,linux/arm64";
const EACH: &str = "--rcc-exec ../rcc-{arch} --hololib ../{arch}/hololib";

/// `ocibuild layout OUT` of the robot, on scratch.
fn layout(machine: &Machine, out: &str, words: &str) -> Finished {
    let line = format!("layout ../{out} -t v1 --base scratch {words}");
    let words: Vec<&str> = line.split_whitespace().collect();
    run(&mut machine.command("robot", &words))
}

/// What `path` is in the image for `platform`.
fn content(machine: &Machine, platform: &str, path: &str) -> Vec<u8> {
    run(&mut machine.command("robot", &["cat", "../out", path, "--platform", platform])).success().stdout
}

#[test]
fn each_image_has_the_rcc_and_the_environment_for_its_platform() {
    if is_left_out() {
        return;
    }
    let machine = machine();
    for mode in ["sealed", "ready", "compact", "direct"] {
        let each = if mode == "direct" { "--hololib ../{arch}/hololib" } else { EACH };
        let digest = layout(&machine, "out", &format!("{BOTH} {each} --environment {mode}")).success();
        for arch in ["amd64", "arm64"] {
            let platform = format!("--platform linux/{arch} --environment {mode} {}", each.replace("{arch}", arch));
            let one = layout(&machine, mode, &format!("{platform} --into-index")).success();
            assert!(
                arch == "amd64" || one.text() == digest.text(),
                "{mode}: the index of images that were made one by one"
            );
            let platform = format!("linux/{arch}");
            if mode == "direct" {
                let python = content(&machine, &platform, &format!("{SPACE}/bin/python"));
                let own = if arch == "amd64" { "python 3.11" } else { "python 3.11 for arm64" };
                assert_eq!(String::from_utf8(python).unwrap(), own);
            } else {
                let rcc = content(&machine, &platform, "/usr/local/bin/rcc");
                assert!(rcc.ends_with(format!("for {arch}").as_bytes()), "{mode}");
            }
        }
    }
    run(&mut machine.command("robot", &["verify", "../out"])).success();
}

/// One hololib with the catalogs of both platforms, each named by its file too.
#[test]
fn a_hololib_may_have_the_catalogs_of_all_platforms() {
    let machine = machine();
    let hash = machine.record("home/.robocorp", "3.11");
    machine.record_on_arm("home/.robocorp/hololib", "3.11");
    let found = layout(&machine, "out", &format!("{BOTH} --rcc-exec ../rcc-{{arch}}")).success();
    for selector in [
        hash.clone(),
        format!("{hash}v12.{{os}}_{{arch}}"),
        format!("../{{arch}}/hololib/catalog/{hash}v12.{{os}}_{{arch}}"),
    ] {
        let named = layout(&machine, "named", &format!("{BOTH} --rcc-exec ../rcc-{{arch}} --catalog {selector}"));
        assert_eq!(named.success().text(), found.text(), "{selector}");
    }
}

#[test]
fn what_is_missing_for_a_platform_is_named() {
    let machine = machine();
    let hash = machine.record("home/.robocorp", "3.11");
    let refuses = |status, words: &str, expected: &str| {
        let refused = layout(&machine, "refused", &format!("{BOTH} {words}")).ended_with(status);
        assert!(refused.stderr.contains(expected), "expected {expected:?} of {refused}");
        assert_eq!(refused.stderr.lines().count(), 1, "{refused}");
        assert!(!machine.scratch.join("refused").exists());
    };
    let hololib = "--hololib ../{arch}/hololib";
    refuses(
        1,
        &format!("--rcc-exec ../rcc-amd64 {hololib}"),
        "linux/arm64: ../rcc-amd64: a program for amd64 (use the static rcc for linux/arm64; see rcc's release page)",
    );
    refuses(1, &format!("--rcc-exec ../missing-{{arch}} {hololib}"), "linux/amd64: ../missing-amd64: not found");
    refuses(1, "--rcc-exec ../rcc-{arch} --hololib ../{arch}", "linux/amd64: ../amd64: no hololib found");
    refuses(1, "--rcc-exec ../rcc-{arch}", &format!("linux/arm64: blueprint {hash}: no catalog for linux/arm64 in "));
    refuses(
        1,
        &format!("--rcc-exec ../rcc-{{arch}} --catalog {hash}v12.linux_amd64"),
        &format!("linux/arm64: catalog {hash}v12.linux_amd64: is for linux/amd64, and the image for linux/arm64"),
    );
    refuses(
        2,
        &format!("--rcc-download 19.0.2 {hololib} --offline"),
        "--rcc-download 19.0.2: rcc is not released for linux/arm64 (--rcc-exec FILE, or a URL, names one;",
    );
    refuses(
        2,
        &format!("--rcc-download http://127.0.0.1:1/{{arch}} --rcc-sha256 {} {hololib}", "0".repeat(64)),
        "--rcc-sha256: is the digest of one program, and there are several platforms",
    );
    let words = ["dockerfile", "--platform", "linux/amd64,linux/arm64"];
    run(&mut machine.command("robot", &words)).ended_with(2).failed_saying("a Dockerfile is for one platform");
}

/// rcc records for the platform on which it runs, so `--resolve` does so for that one of several, and never runs for another.
#[test]
fn resolving_is_for_the_platform_of_this_machine() {
    let (own, other) = if cfg!(target_arch = "aarch64") { ("arm64", "amd64") } else { ("amd64", "arm64") };
    let machine = Machine::new();
    machine.robot("robot", "3.11", "");
    machine.record("amd64", "3.11");
    machine.record_on_arm("arm64/hololib", "3.11");
    let file = |name: &str| machine.scratch.join(name).display().to_string();
    let recorder = format!("#!/bin/sh\necho run >> {}\n[ -e {} ] || ", file("log"), file("records-nothing"));
    let copy = format!("cp -r {}/. {}/\n", file(own), file("home/.robocorp"));
    install_script(&machine.scratch.join("bin/rcc"), &(recorder + &copy));
    let runs = || fs::read_to_string(machine.scratch.join("log")).unwrap_or_default().lines().count();
    let direct = |out: &str, words: &str| {
        let line = format!("layout ../{out} --base scratch --environment direct {words}");
        let mut command = machine.command("robot", &line.split_whitespace().collect::<Vec<_>>());
        run(command.env("PATH", format!("{}:/usr/bin:/bin", file("bin"))))
    };

    let refused = direct("no", &format!("--resolve --platform linux/{other}")).ended_with(2);
    refused.failed_saying(&format!(
        "--resolve: rcc on this machine records no environment for linux/{other} (record it on such a machine, and name its \
         hololib with --hololib)"
    ));
    for flag in ["--hololib=../amd64/hololib", "--catalog=x"] {
        let both = direct("no", &format!("--resolve {flag}")).ended_with(2);
        assert!(both.stderr.contains("'--resolve' cannot be used with"), "{both}");
    }
    assert_eq!(runs(), 0);
    machine.scratch.write("records-nothing", "");
    fs::create_dir_all(machine.scratch.join("home/.robocorp/hololib/catalog")).unwrap();
    let unrecorded = direct("no", "--resolve").ended_with(1);
    assert!(
        unrecorded.stderr.ends_with("(rcc holotree variables --robot robot.yaml succeeded without recording it)\n"),
        "{unrecorded}"
    );
    fs::remove_file(machine.scratch.join("records-nothing")).unwrap();

    // Of both platforms, one is recorded. For the other, rcc is not run again.
    let half = direct("no", &format!("{BOTH} --resolve")).ended_with(1);
    assert_eq!(runs(), 2);
    let said = format!("linux/{other}: blueprint ");
    assert!(half.stderr.contains(&said), "{half}");
    let hint = "(record it on a machine of that platform; `rcc holotree export` and `import` bring it here)\n";
    assert!(half.stderr.ends_with(hint), "{half}");
    assert!(!machine.scratch.join("no").exists());
    let import = |from: &str| {
        let copy = ["-r", &format!("{}/.", file(from)), &file("home/.robocorp/hololib")];
        run(std::process::Command::new("cp").args(copy)).success();
    };
    import(&format!("{other}/hololib"));
    let resolved = direct("both", &format!("{BOTH} --resolve")).success();
    assert_eq!(runs(), 2, "nothing is missing");
    // What is incomplete is recorded again, and gives the same images.
    fs::remove_dir_all(machine.scratch.join("home/.robocorp/hololib/library")).unwrap();
    import(&format!("{other}/hololib"));
    assert_eq!(direct("again", &format!("{BOTH} --resolve")).success().text(), resolved.text());
    assert_eq!(runs(), 3);
    let separate = direct("separate", &format!("{BOTH} --hololib=../{{arch}}/hololib")).success();
    assert_eq!(separate.text(), resolved.text());
}
