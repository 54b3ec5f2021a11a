//! Every way of shipping an environment, under podman and docker.

use super::Workshop;
use super::engines::Engine;
use super::workshop::{Built, Outcome, SECRET, Setup};
use crate::support::{Finished, Scratch};
use flate2::read::MultiGzDecoder;
use ocibuild::codec::tar::{EntryType, Headers};
use std::fs;
use std::io::{Cursor, Read};

/// Asserts that containers of the image, started with each of `containers`, do what the robot does on this machine: at
/// the first start and at the second, and when the robot fails, which ends with `failed`.
#[track_caller]
pub(super) fn runs_as_here(workshop: &Workshop, built: &Built, containers: &[&[&str]], failed: i32) {
    let [good, bad] = &workshop.on_this_machine;
    let bad = Outcome { status: failed, ..bad.clone() };
    for engine in Engine::all() {
        let image = engine.load(&built.archive);
        for options in containers {
            for finished in engine.run_twice(options, &image) {
                is(&finished, good);
            }
        }
        is(&engine.run(&["--env=ROBOT_STATUS=5"], &image, &[]), &bad);
    }
}

#[track_caller]
fn is(finished: &Finished, expected: &Outcome) {
    assert!(Outcome::of(finished) == *expected, "expected {expected:#?} of {finished}");
}

/// Asserts that rcc finds the hololib in the image complete and undamaged.
#[track_caller]
pub(super) fn is_a_good_hololib(built: &Built) {
    for engine in Engine::all() {
        let image = engine.load(&built.archive);
        let check = ["holotree", "check", "--bundled"];
        engine.run(&["--entrypoint=/usr/local/bin/rcc"], &image, &check).success();
    }
}

pub(super) const AS_OPENSHIFT: &[&str] = &["--user=12345:0"];

#[test]
fn a_sealed_robot_runs_under_any_user_as_it_does_here() {
    let Some(workshop) = Workshop::shared_by_tests() else { return };
    let scratch = Scratch::new();
    // No flag but the base: rcc and its hololib are where rcc puts them.
    let built = workshop.build(&scratch.join("robot"), &[]);
    runs_as_here(workshop, &built, &[&[], AS_OPENSHIFT], 10);
    is_a_good_hololib(&built);
}

#[test]
fn a_ready_robot_runs_as_it_does_here_and_rcc_finds_nothing_to_repair() {
    let Some(workshop) = Workshop::shared_by_tests() else { return };
    let scratch = Scratch::new();
    let built = workshop.build(&scratch.join("robot"), &["--environment", "ready"]);
    runs_as_here(workshop, &built, &[&[]], 10);
    is_a_good_hololib(&built);
    for engine in Engine::all() {
        is_clean(&engine.run(&[], &engine.load(&built.archive), &["--timeline"]));
    }
}

/// Asserts that rcc compared every file of the space, and found all of them as they should be.
#[track_caller]
pub(super) fn is_clean(finished: &Finished) {
    let checked = finished.stderr.lines().find(|line| line.contains("dirty"));
    let checked = checked.unwrap_or_else(|| panic!("no word of what is dirty in {finished}"));
    assert!(checked.contains("dirty 0/") && !checked.contains("dirty 0/0"), "{checked}");
}

#[test]
fn a_compact_robot_runs_as_it_does_here() {
    let Some(workshop) = Workshop::shared_by_tests() else { return };
    let scratch = Scratch::new();
    let built = workshop.build(&scratch.join("robot"), &["--environment", "compact"]);
    runs_as_here(workshop, &built, &[&[], AS_OPENSHIFT], 10);
    is_a_good_hololib(&built);
}

#[test]
fn a_robot_whose_gzip_was_taken_over_runs_as_it_does_here_and_rcc_finds_nothing_to_repair() {
    let Some(workshop) = Workshop::shared_by_tests() else { return };
    let scratch = Scratch::new();
    let built = workshop.build(&scratch.join("robot"), &["--environment", "ready", "--compression", "reuse"]);
    runs_as_here(workshop, &built, &[&[]], 10);
    is_a_good_hololib(&built);
    for engine in Engine::all() {
        is_clean(&engine.run(&[], &engine.load(&built.archive), &["--timeline"]));
    }
}

#[test]
fn a_scrubbed_robot_runs_as_it_does_here_and_keeps_no_secret() {
    let Some(workshop) = Workshop::shared_by_tests() else { return };
    let scratch = Scratch::new();
    for mode in ["sealed", "ready", "compact"] {
        let arguments = ["--environment", mode];
        assert!(warns_of_the_secret(&workshop.build(&scratch.join(format!("{mode}-with-it")), &arguments)), "{mode}");
        let built = workshop.build(&scratch.join(mode), &[&arguments[..], &["--scrub"]].concat());
        assert!(!warns_of_the_secret(&built), "{mode}");
        runs_as_here(workshop, &built, &[&[]], 10);
        is_a_good_hololib(&built);
        for engine in Engine::all().iter().filter(|_| mode == "ready") {
            is_clean(&engine.run(&[], &engine.load(&built.archive), &["--timeline"]));
        }
    }
}

/// M17: a password in the blueprint is refused where the real rcc would miss it, and gone from a direct image, which runs.
#[test]
fn a_password_in_the_blueprint_is_refused_or_gone() {
    let Some(workshop) = Workshop::new(Setup::Private) else { return };
    let scratch = Scratch::new();
    let conda = format!(
        "channels:\n  - https://robot:{SECRET}@channel.example/main\n  - conda-forge\ndependencies:\n  - python=3.11.7\n"
    );
    workshop.record_with(&conda, &scratch.join("robot"));
    let base = workshop.base.location();
    for mode in ["sealed", "ready", "compact"] {
        let words = ["layout", "./out", "--base", &base, "--environment", mode, "--scrub"];
        let refused = crate::support::run(&mut workshop.ocibuild(&words, &scratch.join("robot"))).ended_with(1);
        let reason =
            format!("rcc compares the blueprint, and a {mode} image would not start (--environment direct; or");
        assert!(refused.stderr.contains(&reason) && !refused.stderr.contains(SECRET), "{refused}");
        assert!(!scratch.join("robot/out").exists());
    }
    let built = workshop.build(&scratch.join("robot"), &["--environment", "direct", "--scrub"]);
    assert!(!warns_of_the_secret(&built));
    for engine in Engine::all() {
        // It is another environment than that of the other tests, so only its hash differs.
        let finished = engine.run(&[], &engine.load(&built.archive), &[]).success();
        let plain = |said: &[String]| -> Vec<String> {
            said.iter().filter(|line| !line.contains("RCC_ENVIRONMENT_HASH")).cloned().collect()
        };
        assert_eq!(plain(&Outcome::of(&finished).said), plain(&workshop.on_this_machine[0].said));
    }
}

/// Whether the secret is in any file of the image, compressed or not, or in its config.
fn warns_of_the_secret(built: &Built) -> bool {
    if built.layout.config().to_string().contains(SECRET) {
        return true;
    }
    let layers = built.layout.layers();
    layers.iter().any(|layer| {
        let blob = fs::read(built.layout.blob(layer["digest"].as_str().unwrap())).unwrap();
        let tar = inflated(&blob);
        let (mut source, mut headers) = (Cursor::new(&tar), Headers::new("layer"));
        std::iter::from_fn(|| {
            source.set_position(headers.position());
            headers.next(&mut source).unwrap()
        })
        .filter(|entry| entry.kind == EntryType::File)
        .any(|entry| {
            let content = &tar[entry.offset as usize..][..entry.size as usize];
            let content = if content.starts_with(&[0x1f, 0x8b]) { inflated(content) } else { content.to_vec() };
            content.windows(SECRET.len()).any(|window| window == SECRET.as_bytes())
        })
    })
}

fn inflated(bytes: &[u8]) -> Vec<u8> {
    let mut inflated = Vec::new();
    MultiGzDecoder::new(bytes).read_to_end(&mut inflated).unwrap();
    inflated
}

#[test]
fn a_direct_robot_runs_on_a_read_only_root_as_it_does_here() {
    let Some(workshop) = Workshop::shared_by_tests() else { return };
    let scratch = Scratch::new();
    let built = workshop.build(&scratch.join("robot"), &["--environment", "direct"]);
    // Without rcc in between, the robot's own status is the container's.
    runs_as_here(workshop, &built, &[&[], AS_OPENSHIFT], 5);
    for engine in Engine::all() {
        let image = engine.load(&built.archive);
        let results = ["--tmpfs=/home/robot/app/output:mode=1777"];
        let read_only = [engine.read_only(), &results].concat();
        is(&engine.run(&read_only, &image, &[]), &workshop.on_this_machine[0]);
        let without_rcc = engine.run(&["--entrypoint=/bin/ls"], &image, &["/usr/local/bin/rcc"]);
        without_rcc.failed_saying("No such file");
    }
}

#[test]
fn home_user_controller_and_space_can_be_chosen() {
    let Some(workshop) = Workshop::shared_by_tests() else { return };
    let scratch = Scratch::new();
    let places = ["--home", "/srv/bot", "--user", "4321:99", "--controller", "oci", "--space", "svc"];
    for mode in ["ready", "sealed"] {
        let built = workshop.build(&scratch.join(mode), &[&places[..], &["--environment", mode]].concat());
        let config = &built.layout.config()["config"];
        assert_eq!((&config["User"], &config["WorkingDir"]), (&"4321:99".into(), &"/srv/bot/app".into()));
        for engine in Engine::all() {
            let finished = engine.run(&[], &engine.load(&built.archive), &["--timeline"]);
            is(&finished, &workshop.on_this_machine[0]);
            if mode == "ready" {
                is_clean(&finished);
            }
        }
    }
}

const TWO_TASKS: &str = "
tasks:
  Count stock:
    shell: python task.py counted
  Say no:
    command: [python, -c, 'print(\"robot: no\"); raise SystemExit(3)']
condaConfigFile: conda.yaml
artifactsDir: output
PATH: [.]
PYTHONPATH: [libraries]
";

#[test]
fn one_task_of_several_is_chosen_when_the_image_is_built() {
    let Some(workshop) = Workshop::shared_by_tests() else { return };
    let scratch = Scratch::new();
    let robot = scratch.join("Two Tasks");
    workshop.copy_robot(&robot);
    std::fs::write(robot.join("robot.yaml"), TWO_TASKS).unwrap();
    let words = ["layout", "./out", "--base", "scratch", "--environment", "direct"];
    let undecided = crate::support::run(&mut workshop.ocibuild(&words, &robot)).ended_with(2);
    undecided.failed_saying("a direct image runs one (--task NAME; tasks: \"Count stock\", \"Say no\")");
    assert!(!robot.join("out").exists());
    for (mode, status) in [("sealed", 10), ("direct", 3)] {
        let built = workshop.build(&robot, &["--task", "Say no", "--environment", mode]);
        for engine in Engine::all() {
            let expected = Outcome { said: vec!["robot: no".to_owned()], status };
            is(&engine.run(&[], &engine.load(&built.archive), &[]), &expected);
        }
    }
    let reference = &built_index(&robot)["manifests"][0]["annotations"];
    assert_eq!(reference["io.containerd.image.name"], "docker.io/library/two-tasks:latest");
}

fn built_index(robot: &std::path::Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(robot.join("out/index.json")).unwrap()).unwrap()
}
