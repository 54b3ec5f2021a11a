//! How the real rcc chooses an environment file, and what it takes for a part of a robot.

use super::machine::Machine;
use crate::support::random::Random;
use crate::support::real_rcc::RealRcc;
use crate::support::{as_nobody, run};
use ocibuild::Platform;
use ocibuild::codec::tar::EntryType;
use ocibuild::common::progress::Silent;
use ocibuild::common::root::Root;
use ocibuild::rcc::Robot;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const CONFIGS: [&str; 16] = [
    "conda.yaml",
    "linux.yaml",
    "Linux.yaml",
    "conda_windows_amd64.yaml",
    "conda_linux_amd64.yaml",
    "environment_linux_amd64_freeze.yaml",
    "environment_darwin_arm64_freeze.yaml",
    "Freeze.yaml",
    "freeze_linux_amd64.yaml",
    "a_b_c_d.yaml",
    "a_b_c_linux_amd64.yaml",
    "AMD64.yaml",
    "x-darwin-then-linux.yaml",
    "x-linux-then-darwin.yaml",
    "sub_windows_x/conda.yaml",
    "missing.yaml",
];

#[test]
fn environment_files_are_chosen_as_by_the_real_rcc() {
    let directory = tempfile::tempdir().unwrap();
    let Some(rcc) = RealRcc::new(directory.path()) else { return };
    for seed in 0..80 {
        let random = &mut Random::new(seed);
        let robot = directory.path().join(format!("robot-{seed}"));
        fs::create_dir_all(robot.join("sub_windows_x")).unwrap();
        let configs: Vec<&str> = (0..random.below(5)).map(|_| random.choose(&CONFIGS)).collect();
        for name in CONFIGS.iter().filter(|name| **name != "missing.yaml") {
            if !random.once_in(4) {
                fs::write(robot.join(name), "channels: []\n").unwrap();
            }
        }
        let conda = if random.once_in(3) { "" } else { "./fallback.yaml" };
        let text = format!(
            "tasks: {{a: {{shell: b}}}}\nartifactsDir: output\nenvironmentConfigs: [{}]\ncondaConfigFile: {conda}\n",
            configs.join(", ")
        );
        fs::write(robot.join("robot.yaml"), &text).unwrap();

        let root = Root::open(&robot).unwrap();
        let ours = Robot::open(&root, "robot.yaml", &Silent).unwrap();
        let ours = ours.environment_file(&root, &Platform::linux_amd64());
        let file = robot.join("robot.yaml");
        let output = rcc.command(&["robot", "diagnostics", "--json", "-r", file.to_str().unwrap()]).output().unwrap();
        let theirs: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let theirs = theirs["details"]["robot-conda-file"].as_str().unwrap();
        // Where nothing fits, rcc names the directory itself and goes on without an environment.
        let expected = match ours {
            Ok(Some(name)) => robot.join(name),
            Ok(None) => robot.clone(),
            Err(_) => {
                assert!(!configs.is_empty());
                robot.clone()
            }
        };
        assert_eq!(Path::new(theirs), expected, "seed {seed}\n{text}");
    }
}

const NAMES: [&str; 20] = [
    "a.log",
    "b.txt",
    "c1.txt",
    "output",
    "temp",
    "tmp",
    "rcc",
    ".git",
    ".rpa",
    "build",
    "src",
    "task.py",
    "__pycache__",
    "x[y]",
    "größe",
    "-dash",
    "a*b",
    "n.pyc",
    "__MACOSX",
    "ab",
];

const PATTERNS: [&str; 24] = [
    "*.log",
    "build/",
    "[ab]?",
    "*.t?t",
    "# comment",
    "src",
    "gr*",
    "x[[]y]",
    "[^a]*.py",
    "a\\*b",
    "[",
    "*",
    "*/",
    "ab/*",
    "{a,b}.txt",
    "{b,c1}.txt",
    "src/task.py",
    "/build",
    "!b.txt",
    "**/ab",
    "**",
    "[!a]b",
    "[a-c]*",
    "ab\\",
];

/// M7: patterns leave out what they leave out in the real rcc, through the program and not beside it.
#[test]
fn a_robot_holds_what_the_real_rcc_wraps() {
    let machine = Machine::new();
    let Some(rcc) = RealRcc::new(&machine.scratch.join("real-home")) else { return };
    const CASES: u64 = 220;
    let left_out: usize = (0..CASES).map(|seed| wrapped_alike(&machine, &rcc, seed)).sum();
    assert!(left_out > 5 * CASES as usize, "only {left_out} files were left out");
}

/// Builds and wraps the generated robot `seed`, compares what is in it, and returns how many files are not.
fn wrapped_alike(machine: &Machine, rcc: &RealRcc, seed: u64) -> usize {
    let random = &mut Random::new(seed);
    let name = format!("robot-{seed}");
    let robot = machine.scratch.join(&name);
    let mut written = 0;
    for _ in 0..40 {
        let depth = random.below(3);
        let folder: PathBuf = (0..depth).map(|_| random.choose(&NAMES)).collect();
        let path = robot.join(folder).join(random.choose(&NAMES));
        // A name may already be a file where now a folder is wanted, or the other way round.
        if fs::create_dir_all(path.parent().unwrap()).is_ok() && !path.exists() {
            fs::write(path, "x").unwrap();
            written += 1;
        }
    }
    // `*` and `**` would leave nothing; they stay rare.
    let patterns: Vec<&str> = (0..random.below(5))
        .map(|_| random.choose(&PATTERNS))
        .filter(|pattern| !matches!(*pattern, "*" | "**") || seed.is_multiple_of(20))
        .collect();
    fs::write(robot.join(".ignored"), patterns.join("\n")).unwrap();
    // The image has a directory for results, so no file may have its name.
    machine.shell_robot(&name, "tasks: {a: {shell: b}}\nartifactsDir: results\nignoreFiles: [.ignored]\n");
    let words = ["--environment", "direct", "--compression", "none"];
    let files = machine.files(&name, &words).into_iter();
    let ours: BTreeSet<String> = files
        .filter(|(_, (entry, _))| entry.kind == EntryType::File)
        .map(|(path, _)| path.strip_prefix("home/robot/app/").unwrap().to_owned())
        .collect();
    let zip = machine.scratch.join("robot.zip");
    let (directory, list) = (robot.to_str().unwrap(), robot.join(".ignored"));
    rcc.run(&["robot", "wrap", "-d", directory, "-z", zip.to_str().unwrap(), "-i", list.to_str().unwrap()]);
    let theirs = members(&zip);
    assert_eq!(ours, theirs, "seed {seed}: {patterns:?}");
    fs::remove_file(zip).unwrap();
    written + 2 - ours.len()
}

fn members(zip: &Path) -> BTreeSet<String> {
    let list =
        "import sys, zipfile; sys.stdout.buffer.write('\\n'.join(zipfile.ZipFile(sys.argv[1]).namelist()).encode())";
    let output = Command::new("python3").args(["-c", list]).arg(zip).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// Objects that this user may not read are not missing, and recording them again would not help.
#[test]
fn a_library_that_may_not_be_read_is_not_incomplete() {
    let machine = Machine::new();
    machine.record("home/.robocorp", "3.11");
    machine.robot("robot", "3.11", "");
    let library = machine.scratch.join("home/.robocorp/hololib/library");
    let (rcc, home) = (machine.scratch.join("rcc"), machine.scratch.join("home"));
    fs::set_permissions(&library, fs::Permissions::from_mode(0o700)).unwrap();
    fs::create_dir(machine.scratch.join("robot/out")).unwrap();
    fs::set_permissions(machine.scratch.join("robot/out"), fs::Permissions::from_mode(0o777)).unwrap();
    let words = ["layout", "out", "--no-cache", "--base", "scratch", "--rcc-exec", rcc.to_str().unwrap()];
    let Some(mut nobody) = as_nobody(&machine.scratch, &words) else { return };
    let refused = run(nobody.env("HOME", home).current_dir(machine.scratch.join("robot"))).ended_with(1);
    assert!(refused.stderr.contains("library file library/"), "{refused}");
    assert!(refused.stderr.contains(": cannot open: permission denied"), "{refused}");
    assert!(!refused.stderr.contains("--resolve"), "{refused}");
}
