//! Programs in a robot's search path, and that path itself.

use super::machine::Machine;
use crate::support::random::Random;
use crate::support::real_rcc::RealRcc;
use crate::support::{Scratch, run};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

const ROBOT: &str = "tasks: {a: {shell: 'true'}}\nartifactsDir: output\nPATH: [bin, ., missing]\n";

/// M46: programs of a checkout from Windows run, as they do with `rcc run`.
#[test]
fn programs_in_the_search_path_are_programs() {
    let machine = Machine::new();
    machine.shell_robot("robot", &ROBOT.replace("missing", "missing, linked"));
    machine.scratch.write("robot/other/tool", "#!/bin/sh\n");
    symlink("other", machine.scratch.join("robot/linked")).unwrap();
    machine.scratch.write("robot/bin/tool", "#!/bin/sh\n");
    machine.scratch.write("robot/bin/run.sh", "#!/bin/sh\r\necho a\r\n");
    machine.scratch.write("robot/bin/notes.md", "notes\r\n");
    machine.scratch.write("robot/bin/deeper/tool", "#!/bin/sh\n");
    machine.scratch.write("robot/elsewhere/run.sh", "#!/bin/sh\r\n");
    let files = machine.files("robot", &["--environment", "direct"]);
    let file = |name: &str| {
        let (entry, content) = &files[&format!("home/robot/app/{name}")];
        (entry.mode, String::from_utf8(content.clone()).unwrap())
    };
    assert_eq!(file("bin/tool"), (0o775, "#!/bin/sh\n".to_owned()));
    assert_eq!(file("bin/run.sh"), (0o775, "#!/bin/sh\necho a\n".to_owned()));
    // A directory of the search path may be a link.
    assert_eq!(file("other/tool").0, 0o775);
    assert_eq!(file("bin/notes.md"), (0o664, "notes\r\n".to_owned()));
    assert_eq!(file("bin/deeper/tool").0, 0o664);
    assert_eq!(file("elsewhere/run.sh"), (0o664, "#!/bin/sh\r\n".to_owned()));
    let said = machine.layout("robot", &["--environment", "direct"]).success();
    assert!(said.stderr.contains("3 files in PATH made executable, as by rcc run: bin/run.sh"), "{said}");
    assert!(said.stderr.contains("bin/run.sh: CR is removed, as by `rcc run`"), "{said}");
}

const NAMES: [&str; 16] = [
    "tool",
    "run.sh",
    "RUN.SH",
    ".hidden",
    ".hidden.sh",
    "task.py",
    "a.b.txt",
    "data.JSON",
    "x.yaml",
    "page.html",
    "suite.robot",
    "image.jpeg",
    "trailing.",
    "two.sh.md",
    "größe",
    "archive.zip",
];

/// M46: the real rcc is the judge of what becomes a program, and of what loses CR.
#[test]
fn programs_are_what_the_real_rcc_makes_of_them() {
    let machine = Machine::new();
    let Some(rcc) = RealRcc::new(&machine.scratch.join("real-home")) else { return };
    for seed in 0..12 {
        let random = &mut Random::new(seed);
        let robot = format!("robot-{seed}");
        machine.shell_robot(&robot, &ROBOT.replace("missing", "missing, linked, away, dangling, robot.yaml"));
        for (link, target) in [("linked", "other"), ("away", "/usr/bin"), ("dangling", "nothing")] {
            symlink(target, machine.scratch.join(&robot).join(link)).unwrap();
        }
        for folder in ["", "bin/", "bin/deep/", "other/"] {
            for name in NAMES {
                if random.once_in(3) {
                    continue;
                }
                let text = random.choose(&["#!/bin/sh\r\necho\r\n", "#!/bin/sh\necho\n", "\r\rx\r", ""]);
                let path = machine.scratch.write(format!("{robot}/{folder}{name}"), text);
                let mode = random.choose(&[0o644, 0o644, 0o755, 0o600]);
                fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
            }
        }
        let ours: BTreeMap<String, (bool, Vec<u8>)> = machine
            .files(&robot, &["--environment", "direct", "--compression", "none"])
            .into_iter()
            .filter(|(_, (entry, _))| entry.kind == ocibuild::codec::tar::EntryType::File)
            .filter_map(|(path, (entry, content))| {
                Some((path.strip_prefix("home/robot/app/")?.to_owned(), (entry.mode & 0o100 != 0, content)))
            })
            .collect();
        let file = machine.scratch.join(format!("{robot}/robot.yaml"));
        rcc.run(&["run", "-r", file.to_str().unwrap()]);
        for (path, expected) in &ours {
            let file = machine.scratch.join(&robot).join(path);
            let mode = fs::metadata(&file).unwrap().permissions().mode();
            assert_eq!(*expected, (mode & 0o100 != 0, fs::read(&file).unwrap()), "seed {seed}: {path}");
        }
        assert!(ours.len() > 20, "{}", ours.len());
    }
}

/// M47: what a base has in its search path is found in a direct image, too, but for other Pythons.
#[test]
fn a_direct_image_keeps_the_search_path_of_its_base() {
    let machine = Machine::new();
    machine.shell_robot("robot", ROBOT);
    let path = "PATH=/opt/conda/bin:/opt/tool/bin:/usr/bin";
    run(&mut machine.command(".", &["layout", "base", "--copy", "rcc:/opt/tool/bin/tool", "--env", path])).success();
    for (more, expected) in [(&[][..], "/opt/tool/bin:/usr/bin"), (&["--env", "PATH=/mine"], "/mine")] {
        let words = ["layout", "out", "--base", "oci:../base", "--environment", "direct", "--dry-run"];
        let planned = run(&mut machine.command("robot", &[&words[..], &["--format", "json"], more].concat())).success();
        let plan: serde_json::Value = serde_json::from_str(planned.text()).unwrap();
        let variables = plan["config"]["config"]["Env"].as_array().unwrap();
        let expected = format!("PATH=/home/robot/app/bin:/home/robot/app:/home/robot/app/missing:{expected}");
        assert!(variables.contains(&json!(expected)), "no {expected} in {variables:?}");
    }
}

/// M48: a robot in a monorepo names what is beside it, and leaves results there.
#[test]
fn a_root_above_the_robot_holds_what_it_names() {
    let machine = Machine::new();
    machine.record("home/.robocorp", "3.11");
    machine.scratch.write("repo/env/conda.yaml", super::machine::conda("3.11"));
    machine.scratch.write("repo/libs/common.py", "x = 1\n");
    machine.scratch.write("repo/robots/stock/task.py", "import common\n");
    let text = "tasks: {a: {shell: python task.py}, b: {robotTaskName: B}}\ncondaConfigFile: ../../env/conda.yaml\n\
                artifactsDir: ../output\nPYTHONPATH: [../../libs]\nPATH: [.]\n";
    machine.shell_robot("repo/robots/stock", text);
    let refused = machine.layout("repo/robots/stock", &[]).ended_with(1);
    let hint = "`../../env/conda.yaml` is outside the robot directory (--root DIR packages a directory above, with both in it)";
    assert!(refused.stderr.contains(hint), "{refused}");

    let files = machine.files("repo/robots/stock", &["--root", "../.."]);
    for path in ["env/conda.yaml", "libs/common.py", "robots/stock/task.py", "robots/stock/robot.yaml", "robots/output"]
    {
        assert!(files.contains_key(&format!("home/robot/app/{path}")), "{path}");
    }
    assert_eq!(files["home/robot/app/robots/output"].0.mode, 0o775);
    let config = machine.plan("repo/robots/stock", &["--root", "../.."])["config"]["config"].clone();
    assert_eq!(config["WorkingDir"], "/home/robot/app/robots/stock");
    assert_eq!(config["Entrypoint"][3], "/home/robot/app/robots/stock/robot.yaml");
    let direct = ["--root", "../..", "--environment", "direct", "--task"];
    let config = machine.plan("repo/robots/stock", &[&direct[..], &["b"]].concat())["config"]["config"].clone();
    let variables = config["Env"].as_array().unwrap();
    for variable in [
        "PYTHONPATH=/home/robot/app/libs",
        "ROBOT_ROOT=/home/robot/app/robots/stock",
        "ROBOT_ARTIFACTS=/home/robot/app/robots/output",
    ] {
        assert!(variables.contains(&json!(variable)), "no {variable} in {config}");
    }
    assert_eq!(config["Cmd"][6], "../output");
    machine.layout("repo/robots/stock", &["--root", "../../env"]).failed_saying("is outside it");

    // A directory for results is only made in the image, so it needs no root; but it stays in the run user's home.
    let plain = "tasks: {a: {shell: b}}\nartifactsDir: ";
    machine.shell_robot("plain", &format!("{plain}../output\n"));
    assert!(machine.files("plain", &[]).contains_key("home/robot/output"));
    for outside in ["../../output", "..", "../.robocorp/x"] {
        machine.shell_robot("plain", &format!("{plain}{outside}\n"));
        machine.layout("plain", &[]).failed_saying("which is outside of /home/robot");
    }
}

/// M48: the image of a robot below a root runs as the real rcc runs the robot there.
#[test]
fn the_real_rcc_reads_a_robot_below_a_root_as_we_do() {
    let scratch = Scratch::new();
    let Some(rcc) = RealRcc::new(&scratch.join("home")) else { return };
    scratch.write("repo/env/conda.yaml", super::machine::conda("3.11"));
    let text = "tasks: {a: {shell: b}}\ncondaConfigFile: ../../env/conda.yaml\nartifactsDir: ../output\n";
    let file = scratch.write("repo/robots/stock/robot.yaml", text);
    let output = rcc.command(&["robot", "diagnostics", "--json", "-r", file.to_str().unwrap()]).output().unwrap();
    let theirs: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let conda = scratch.join("repo/env/conda.yaml");
    assert_eq!(theirs["details"]["robot-conda-file"], json!(conda.to_str().unwrap()), "{theirs:#}");
    assert_eq!(theirs["details"]["robot-artifact-directory"], json!(scratch.join("repo/robots/output")), "{theirs:#}");
}
