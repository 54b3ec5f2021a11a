//! How the real rcc chooses an environment file, and what it takes for a part of a robot.

use crate::support::random::Random;
use crate::support::real_rcc::RealRcc;
use ocibuild::Platform;
use ocibuild::progress::Silent;
use ocibuild::rcc::{IgnoreRules, Robot};
use ocibuild::root::Root;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
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

const PATTERNS: [&str; 14] = [
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
];

#[test]
fn a_robot_holds_what_the_real_rcc_wraps() {
    let directory = tempfile::tempdir().unwrap();
    let Some(rcc) = RealRcc::new(&directory.path().join("home")) else { return };
    for seed in 0..60 {
        let random = &mut Random::new(seed);
        let robot = directory.path().join(format!("robot-{seed}"));
        for _ in 0..40 {
            let depth = random.below(3);
            let folder: PathBuf = (0..depth).map(|_| random.choose(&NAMES)).collect();
            let path = robot.join(folder).join(random.choose(&NAMES));
            // A name may already be a file where now a folder is wanted, or the other way round.
            if fs::create_dir_all(path.parent().unwrap()).is_ok() && !path.exists() {
                fs::write(path, "x").unwrap();
            }
        }
        // `*` would leave nothing; it stays rare.
        let patterns: Vec<&str> = (0..random.below(5))
            .map(|_| random.choose(&PATTERNS))
            .filter(|pattern| *pattern != "*" || seed % 20 == 0)
            .collect();
        fs::write(robot.join(".ignored"), patterns.join("\n")).unwrap();
        let text = "tasks: {a: {shell: b}}\nartifactsDir: output\nignoreFiles: [.ignored]\n";
        fs::write(robot.join("robot.yaml"), text).unwrap();

        let root = Root::open(&robot).unwrap();
        let rules = IgnoreRules::of(&Robot::open(&root, "robot.yaml", &Silent).unwrap(), &root).unwrap();
        let ours = kept(&robot, &rules);
        let zip = directory.path().join("robot.zip");
        let (robot, list) = (robot.to_str().unwrap(), robot.join(".ignored"));
        rcc.run(&["robot", "wrap", "-d", robot, "-z", zip.to_str().unwrap(), "-i", list.to_str().unwrap()]);
        let theirs = members(&zip);
        assert_eq!(ours, theirs, "seed {seed}: {patterns:?}");
        fs::remove_file(zip).unwrap();
    }
}

/// The files below `robot` that are not left out.
fn kept(robot: &Path, rules: &IgnoreRules) -> BTreeSet<String> {
    let mut kept = BTreeSet::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(relative) = pending.pop() {
        for entry in fs::read_dir(robot.join(&relative)).unwrap() {
            let entry = entry.unwrap();
            let path = relative.join(entry.file_name());
            let name = entry.file_name();
            if entry.file_type().unwrap().is_dir() {
                if !rules.ignores_directory(name.as_bytes()) {
                    pending.push(path);
                }
            } else if !rules.ignores_file(name.as_bytes()) {
                kept.insert(path.to_str().unwrap().to_owned());
            }
        }
    }
    kept
}

fn members(zip: &Path) -> BTreeSet<String> {
    let list =
        "import sys, zipfile; sys.stdout.buffer.write('\\n'.join(zipfile.ZipFile(sys.argv[1]).namelist()).encode())";
    let output = Command::new("python3").args(["-c", list]).arg(zip).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}
