//! Runs every command in the documents about robots, exactly as written.

use super::Workshop;
use crate::consumers::{Podman, Registry};
use crate::documents::{Page, undescribed};
use crate::support::{Finished, Scratch, command, install_script, run_within};
use std::fs;
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

/// Waits for the given time, and then does what the robot does.
const WAITING: &str = "import os, runpy, time\n\
                       time.sleep(int(os.environ.get('ROBOT_SECONDS', '0')))\n\
                       runpy.run_path('task.py', run_name='__main__')\n";

/// A machine with a robot in `robot`, ocibuild with a base that needs no network, and podman, if it is here, with its own
/// storage.
struct Desk {
    scratch: Scratch,
    podman: Option<Podman>,
}

/// The network of a command.
#[derive(Clone, Copy)]
enum Network<'r> {
    None,
    /// `registry.example` is this registry.
    Registry(&'r Registry),
}

impl Desk {
    fn new() -> Option<Desk> {
        let workshop = Workshop::shared_by_tests()?;
        let desk = Desk { scratch: Scratch::new(), podman: Podman::find() };
        let robot = desk.scratch.join("robot");
        workshop.copy_robot(&robot);
        fs::write(robot.join("robot.yaml"), ROBOT).unwrap();
        fs::write(robot.join("waiting.py"), WAITING).unwrap();
        let with_base = workshop.ocibuild(&[], desk.scratch.path());
        let variables = with_base.get_envs().filter_map(|(name, value)| Some((name.to_str()?, value?.to_str()?)));
        let exports: String = variables.map(|(name, value)| format!("export {name}='{value}'\n")).collect();
        let base = workshop.base.location();
        let base = format!("case $sub in layout|build|dockerfile) set -- \"$@\" --base {base} ;; esac");
        let ocibuild = env!("CARGO_BIN_EXE_ocibuild");
        let call = format!("sub=$1; shift\n{base}\nexec ${{ALONE-unshare -n --}} {ocibuild} $sub \"$@\" --quiet\n");
        desk.install("ocibuild", &format!("#!/bin/sh\n{exports}{call}"));
        if let Some(podman) = &desk.podman {
            let alone = "case $sub in run|create) set -- --network=none --pull=never \"$@\" ;; esac";
            desk.install("podman", &podman.script(alone));
        }
        Some(desk)
    }

    fn install(&self, name: &str, text: &str) {
        install_script(&self.scratch.join("programs").join(name), text);
    }

    /// Runs the commands of the page at `path` that need `needs`, in `directory`.
    fn run_page(&self, path: &str, needs: &[&str], directory: &str, network: Network<'_>) {
        let page = Page::read(path);
        let blocks = page.blocks();
        let found: Vec<_> = blocks.iter().filter(|block| block.needs.iter().eq(needs)).collect();
        assert!(!found.is_empty(), "{path}");
        for block in found {
            for (text, status) in block.steps() {
                let finished = self.step(&text, directory, network);
                assert!(finished.status == status, "{path}:{}: expected {status} of {finished}", block.line);
            }
        }
    }

    fn step(&self, text: &str, directory: &str, network: Network<'_>) -> Finished {
        let mut shell = command("sh");
        let path = shell.get_envs().find(|(name, _)| *name == "PATH").and_then(|(_, path)| path);
        let path = format!("{}:{}", self.scratch.join("programs").display(), path.unwrap().to_str().unwrap());
        let text = match network {
            Network::None => text.to_owned(),
            Network::Registry(registry) => {
                shell.env("ALONE", "");
                text.replace("registry.example", &registry.address())
            }
        };
        shell.args(["-eu", "-c", &text]).env("PATH", path).current_dir(self.scratch.join(directory));
        run_within(Duration::from_secs(300), &mut shell)
    }
}

/// Every line of docs/robots.md that a shell and podman can run does what is said there.
#[test]
fn every_command_of_the_document_works() {
    let Some(desk) = Desk::new().filter(|desk| desk.podman.is_some()) else { return };
    desk.run_page("docs/robots.md", &[], "", Network::None);
}

/// The job of tests/jobs that is about a robot.
#[test]
fn a_robot_with_its_environment_is_one_command() {
    let Some(desk) = Desk::new().filter(|desk| desk.podman.is_some()) else { return };
    let done = desk.step(include_str!("../../jobs/robot.sh"), "robot", Network::None).success();
    assert!(done.text().lines().any(|line| line.starts_with("robot:")), "{done}");
}

/// The commands of docs/packaging-robots.md work in the directory of a robot.
#[test]
fn commands_about_packaging_robots_work() {
    let Some(desk) = Desk::new() else { return };
    desk.run_page("docs/packaging-robots.md", &["robot"], "robot", Network::None);
    let listed = desk.step("ocibuild catalogs --format json", "robot", Network::None).success();
    let document = serde_json::from_str(listed.text()).unwrap();
    assert_eq!(undescribed("catalogs", &document), [""; 0]);
}

/// The commands of docs/caching.md share the environment of a robot through a registry.
#[test]
fn commands_about_shared_caches_work() {
    let (Some(desk), Some(registry)) = (Desk::new(), Registry::plain()) else { return };
    desk.run_page("docs/caching.md", &["registry", "robot"], "", Network::Registry(&registry));
}

/// The Job in docs/robots.md names the image, and starts it with what the image understands.
#[test]
fn the_job_of_the_document_is_a_job() {
    let page = Page::read("docs/robots.md");
    let [job] = &page.fenced("yaml")[..] else { panic!("one Job") };
    let script = "import json, sys, yaml; print(json.dumps(yaml.safe_load(sys.stdin)))";
    let Some(python) = crate::support::python_with("yaml") else { return };
    let scratch = Scratch::new();
    let file = scratch.write("job.yaml", job.text);
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
