//! Twelve everyday jobs, each a script of a few lines as someone new types it, whose image podman and docker run.
//!
//! In a script, `$ENGINE` is the program of an engine, and `$REGISTRY` a registry with the image `team/app:v1`. The script about a
//! robot is run where a real rcc has recorded an environment, by `rcc::images::docs`.

pub(crate) mod runtimes;

use crate::bases::busybox_root;
use crate::consumers::{Docker, Podman, Registry};
use crate::support::{Scratch, command, consumer, install_script, not_proven, run, run_within};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A step may load a hundred megabytes while other tests run.
const PATIENCE: Duration = Duration::from_secs(300);

/// The containers have no network, and images come from the store alone.
const ALONE: &str = "case $sub in run|create) set -- --network=none --pull=never \"$@\" ;; esac";

/// The same for podman, which takes a registry to speak TLS.
const PULLING: &str = "case $sub in pull) set -- --tls-verify=false \"$@\" ;; esac";

/// A machine with one engine, on which a job is done.
struct Machine {
    scratch: Scratch,
    engine: &'static str,
    registry: Option<Registry>,
    /// Its storage goes with it.
    _podman: Option<Podman>,
}

impl Machine {
    /// One for each engine that is here.
    fn all() -> Vec<Machine> {
        let podman = Podman::find().map(|podman| {
            let script = podman.script(&format!("{ALONE}\n{PULLING}"));
            Machine { _podman: Some(podman), ..Machine::new("podman", &script) }
        });
        let dockers = Docker::all().map(|docker| Machine::new("docker", &docker.script(ALONE)));
        podman.into_iter().chain(dockers).collect()
    }

    /// One for each engine that is here, with the base image that `make` gives as the layout `name`.
    fn all_with(name: &str, make: fn() -> Option<PathBuf>) -> Vec<Machine> {
        let machines = Machine::all();
        let Some(base) = machines.first().and_then(|_| make()) else { return Vec::new() };
        for machine in &machines {
            symlink(&base, machine.scratch.join("work").join(name)).unwrap();
        }
        machines
    }

    fn new(engine: &'static str, script: &str) -> Machine {
        let scratch = Scratch::new();
        install_script(&scratch.join("programs").join(engine), script);
        symlink(env!("CARGO_BIN_EXE_ocibuild"), scratch.join("programs/ocibuild")).unwrap();
        fs::create_dir(scratch.join("work")).unwrap();
        Machine { scratch, engine, registry: None, _podman: None }
    }

    /// Starts a registry with a small image, if there is one to be had.
    fn with_registry(mut self) -> Option<Machine> {
        self.registry = Some(Registry::plain()?);
        self.busybox()?;
        run(&mut self.shell("ocibuild export ./busybox \"docker://$REGISTRY/team/app:v1\"")).success();
        Some(self)
    }

    /// Makes the base image `busybox`.
    fn busybox(&self) -> Option<()> {
        busybox_root(&self.scratch.join("busybox-root"))?;
        let build = "ocibuild layout ./busybox --copy ../busybox-root:/ --symlink busybox:/bin/cp --mkdir /tmp,mode=1777 \
                     --env PATH=/bin:/usr/bin --cmd sh";
        run(&mut self.shell(build)).success();
        Some(())
    }

    fn write(&self, path: &str, content: &str) {
        self.scratch.write(format!("work/{path}"), content);
    }

    /// Does the job, whose last words are `expected`, and returns everything that was printed.
    #[track_caller]
    fn does(&self, script: &str, expected: &str) -> String {
        let done = run_within(PATIENCE, &mut self.shell(script)).success();
        assert!(done.text().ends_with(expected), "{}: expected {expected:?} at the end of {done}", self.engine);
        done.text().to_owned()
    }

    fn shell(&self, text: &str) -> Command {
        let mut shell = command("sh");
        let path = shell.get_envs().find(|(name, _)| *name == "PATH").and_then(|(_, path)| path).unwrap();
        let path = format!("{}:{}", self.scratch.join("programs").display(), path.to_str().unwrap());
        shell.args(["-eu", "-c", text]).current_dir(self.scratch.join("work"));
        let registry = self.registry.as_ref().map(Registry::address).unwrap_or_default();
        shell.env("PATH", path).env("HOME", self.scratch.join("home")).env("ENGINE", self.engine);
        shell.env("REGISTRY", registry).env_remove("OCIBUILD_NO_CACHE");
        shell.env("OCIBUILD_CACHE_DIR", self.scratch.join("cache"));
        shell
    }
}

/// Compiles the program of the jobs without shared libraries; a stand-in for what Go and Rust make.
pub(crate) fn compile_clock(program: &Path) -> Option<()> {
    let compiler = consumer("gcc")?;
    fs::create_dir_all(program.parent().unwrap()).unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/jobs/clock.c");
    run(command(compiler).args(["-static", "-O1", "-o"]).arg(program).arg(source)).success();
    Some(())
}

#[test]
fn a_static_program_without_a_base() {
    if !Path::new("/etc/ssl/certs/ca-certificates.crt").exists() || !Path::new("/usr/share/zoneinfo/UTC").exists() {
        return not_proven("certificates and time zones of this machine: it has none");
    }
    for machine in Machine::all() {
        let Some(()) = compile_clock(&machine.scratch.join("work/clock")) else { return };
        machine.does(include_str!("static.sh"), "user 65532, home /home/app, 11:46, certificates: yes");
    }
}

#[test]
fn a_python_program_with_its_packages() {
    for machine in Machine::all_with("python", runtimes::python) {
        machine.write("packages/words/__init__.py", "GREETING = 'a report'\n");
        machine.write("report.py", "import json, os, words\nprint(json.dumps([words.GREETING, os.getuid()]))\n");
        machine.does(include_str!("python.sh"), "[\"a report\", 1000]");
    }
}

#[test]
fn a_node_program_with_its_modules() {
    for machine in Machine::all_with("node", runtimes::node) {
        machine.write("greeter/node_modules/words/index.js", "module.exports = 'good morning'\n");
        machine.write("greeter/main.js", "console.log(require('words'), process.getuid())\n");
        machine.does(include_str!("node.sh"), "good morning 1000");
    }
}

#[test]
fn a_java_program_with_its_libraries() {
    for machine in Machine::all_with("java", runtimes::java) {
        let (Some(()), Some(())) = (
            runtimes::jar(&machine.scratch.join("work/ledger.jar"), "Main"),
            runtimes::jar(&machine.scratch.join("work/lib/other.jar"), "Other"),
        ) else {
            return;
        };
        machine.does(include_str!("java.sh"), "in the black");
    }
}

#[test]
fn a_web_site() {
    for machine in Machine::all() {
        let Some(()) = machine.busybox() else { return };
        machine.write("site/index.html", "<p>a page</p>\n");
        machine.does(include_str!("site.sh"), "<p>a page</p>");
    }
}

#[test]
fn a_file_on_top_of_an_image_in_a_registry() {
    for machine in Machine::all() {
        let Some(machine) = machine.with_registry() else { return };
        machine.write("app.conf", "mode = fast\n");
        machine.does(include_str!("append.sh"), "mode = fast");
    }
}

#[test]
fn two_platforms_and_one_name() {
    for machine in Machine::all() {
        let Some(machine) = machine.with_registry() else { return };
        let Some(()) = compile_clock(&machine.scratch.join("work/bin/amd64/clock")) else { return };
        machine.write("bin/arm64/clock", "stands in for a program of another processor");
        let printed = machine.does(include_str!("platforms.sh"), "09:46, certificates: no");
        assert!(printed.contains("\narm64\n"), "{printed}");
    }
}

#[test]
fn a_tool_with_a_user_and_a_health_check() {
    for machine in Machine::all() {
        let Some(()) = machine.busybox() else { return };
        install_script(&machine.scratch.join("work/tool"), "#!/bin/sh\necho \"$(id -un): $*\"\n");
        machine.does(include_str!("tool.sh"), "tool: --help\ntool: count words");
        if machine.engine == "docker" {
            let check = "docker image inspect --format '{{json .Config.Healthcheck.Test}}' jobs/tool:v1";
            machine.does(check, r#"["CMD","/usr/bin/tool","--version"]"#);
        }
    }
}

#[test]
fn a_hand_over_without_a_network() {
    for machine in Machine::all() {
        let Some(machine) = machine.with_registry() else { return };
        install_script(&machine.scratch.join("work/tool"), "#!/bin/sh\necho \"$*\" over\n");
        machine.does(include_str!("airgap.sh"), "carried over");
    }
}

#[test]
fn another_environment_for_an_image() {
    for machine in Machine::all() {
        let Some(machine) = machine.with_registry() else { return };
        machine.does(include_str!("edit.sh"), "1.0.1\nproduction");
    }
}

#[test]
fn data_for_a_volume() {
    for machine in Machine::all() {
        let Some(()) = machine.busybox() else { return };
        machine.write("model/weights", "0.5 0.25\n");
        machine.does(include_str!("data.sh"), "0.5 0.25");
    }
}
