//! Every command in docs/robots.md, run as it is written there.

use super::Workshop;
use super::engines::Engine;
use crate::support::{Finished, Scratch, command, run_within};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

const ROBOT: &str = "
tasks:
  Count stock:
    shell: python waiting.py counted
  Say no:
    command: [python, -c, 'raise SystemExit(3)']
condaConfigFile: conda.yaml
artifactsDir: output
PYTHONPATH: [libraries]
PATH: [.]
";

/// Waits as long as it is told, and then does what the robot does.
const WAITING: &str = "import os, runpy, time\n\
                       time.sleep(int(os.environ.get('ROBOT_SECONDS', '0')))\n\
                       runpy.run_path('task.py', run_name='__main__')\n";

/// The blocks of `language` in the document, with the number of the line that each begins in.
fn blocks<'d>(document: &'d str, language: &str) -> Vec<(usize, &'d str)> {
    let opening = format!("```{language}\n");
    let mut blocks = Vec::new();
    for (at, _) in document.match_indices(&opening) {
        let start = at + opening.len();
        let length = document[start..].find("```\n").unwrap();
        blocks.push((document[..start].lines().count() + 1, &document[start..start + length]));
    }
    blocks
}

/// Every line of docs/robots.md that a shell and podman can run does what is said there.
#[test]
fn every_command_of_the_document_works() {
    let Some(workshop) = Workshop::shared_by_tests() else { return };
    let Some(Engine::Podman(podman)) = Engine::all().into_iter().find(|engine| matches!(engine, Engine::Podman(_)))
    else {
        return;
    };
    let document = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/robots.md")).unwrap();
    let scratch = Scratch::new();
    let robot = scratch.join("robot");
    workshop.copy_robot(&robot);
    fs::write(robot.join("robot.yaml"), ROBOT).unwrap();
    fs::write(robot.join("waiting.py"), WAITING).unwrap();
    // The two programs as a person has them: ocibuild with a base that needs no network, podman with its own storage here.
    program(&scratch, "ocibuild", |out| {
        let told = workshop.ocibuild(&[], scratch.path());
        for (name, value) in told.get_envs().filter_map(|(name, value)| Some((name.to_str()?, value?.to_str()?))) {
            out.push_str(&format!("export {name}='{value}'\n"));
        }
        out.push_str(&format!(
            "sub=$1; shift\nexec unshare -n -- {} $sub \"$@\" --base {} --quiet\n",
            env!("CARGO_BIN_EXE_ocibuild"),
            workshop.base.location()
        ));
    });
    program(&scratch, "podman", |out| {
        let told = podman.command();
        for (name, value) in told.get_envs().filter_map(|(name, value)| Some((name.to_str()?, value?.to_str()?))) {
            if name != "PATH" {
                out.push_str(&format!("export {name}='{value}'\n"));
            }
        }
        let program = told.get_program().to_str().unwrap();
        out.push_str("sub=$1; shift\ncase $sub in run|create) set -- --network=none --pull=never \"$@\" ;; esac\n");
        out.push_str(&format!("exec {program} $sub \"$@\"\n"));
    });
    let found = blocks(&document, "sh");
    assert!(found.len() >= 12, "{}", found.len());
    for (line, block) in found {
        for (text, status) in steps(block) {
            let finished = step(&scratch, &text);
            assert!(finished.status == status, "docs/robots.md:{line}: expected {status} of {finished}");
        }
    }
}

/// The commands of a block that share an expected status, and that status.
fn steps(block: &str) -> Vec<(String, i32)> {
    let mut steps = vec![(String::new(), 0)];
    for line in block.lines() {
        match line.split_once("   # exit status ") {
            Some((text, status)) => {
                steps.push((text.to_owned(), status.parse().unwrap()));
                steps.push((String::new(), 0));
            }
            None => {
                let (text, _) = steps.last_mut().unwrap();
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    steps.retain(|(text, _)| !text.trim().is_empty());
    steps
}

fn step(scratch: &Scratch, text: &str) -> Finished {
    let mut shell = command("sh");
    let path = shell.get_envs().find(|(name, _)| *name == "PATH").and_then(|(_, path)| path);
    let path = format!("{}:{}", scratch.join("programs").display(), path.unwrap().to_str().unwrap());
    shell.args(["-eu", "-c", text]).env("PATH", path).current_dir(scratch.path());
    run_within(Duration::from_secs(300), &mut shell)
}

fn program(scratch: &Scratch, name: &str, write: impl FnOnce(&mut String)) {
    let mut text = "#!/bin/sh\n".to_owned();
    write(&mut text);
    let path = scratch.write(format!("programs/{name}"), text);
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// The Job in docs/robots.md names the image, and starts it with what the image understands.
#[test]
fn the_job_of_the_document_is_a_job() {
    let document = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/robots.md")).unwrap();
    let [(_, job)] = blocks(&document, "yaml")[..] else { panic!("one Job") };
    let script = "import json, sys, yaml; print(json.dumps(yaml.safe_load(sys.stdin)))";
    let Some(python) = crate::support::python_with("yaml") else { return };
    let scratch = Scratch::new();
    let file = scratch.write("job.yaml", job);
    let mut parse = command(python);
    parse.args(["-c", script]).stdin(fs::File::open(file).unwrap());
    let job: serde_json::Value =
        serde_json::from_str(run_within(Duration::from_secs(60), &mut parse).success().text()).unwrap();
    let pod = &job["spec"]["template"]["spec"];
    assert_eq!((&job["kind"], &pod["restartPolicy"]), (&"Job".into(), &"Never".into()));
    let container = &pod["containers"][0];
    assert_eq!((&container["image"], &container["args"][0]), (&"robot:v1".into(), &"--".into()));
    assert_eq!(container["volumeMounts"][0]["mountPath"], "/home/robot/app/output");
}
