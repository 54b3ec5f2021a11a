//! Commands that write, with less than they need: few open files, small files, few threads, a disk that is nearly full. Each limit
//! is tried from nothing up to what is enough; by default some of them, for some scenarios.

use super::injector::traced;
use super::scenario::Rehearsed;
use super::scenarios::SCENARIOS;
use super::{chosen, is_complete, is_one_error, is_only_not_shared};
use crate::support::{Finished, Scratch, Used, command, consumer, consumer_as_root, run};
use std::fs;
use std::os::unix::fs::{PermissionsExt, lchown};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;

/// The scenarios that run by default.
const SOME: [&str; 3] = ["another image of a layout", "an archive with another image", "layers that become one"];

/// Somebody whom no other test is.
const USER: u32 = 4243;

/// The size of the disk that is filled, in pages.
const PAGES: usize = 4096;

const PAGE: usize = 4096;

/// What there is too little of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Limit {
    OpenFiles,
    /// In units of 100 bytes.
    FileSize,
    Threads,
    /// Free pages of the disk.
    FreePages,
}

impl Limit {
    /// The limits that are tried, until one is enough several times in a row.
    fn values(self) -> Vec<usize> {
        match self {
            // With fewer, the system cannot load the program.
            Limit::OpenFiles => (4..64).collect(),
            Limit::FileSize => (0..200).collect(),
            Limit::Threads => (1..12).collect(),
            Limit::FreePages => (0..80).collect(),
        }
    }
}

/// How often a limit has to be enough.
const ENOUGH: usize = 4;

#[test]
fn f3_f7_with_too_little_of_anything_a_command_fails_and_loses_nothing() {
    let limits = [Limit::OpenFiles, Limit::FileSize, Limit::Threads, Limit::FreePages];
    let (mut refused, mut done) = (0, 0);
    let wanted = SCENARIOS.iter().filter(|scenario| is_complete() || SOME.contains(&scenario.name));
    for (place, scenario) in wanted.enumerate() {
        let rehearsed = Rehearsed::new(scenario);
        for (seed, limit) in limits.into_iter().enumerate() {
            let mut enough = 0;
            for value in chosen(&limit.values(), 5, place * 3 + seed) {
                let row = format!("{}: {limit:?} {value}", scenario.name);
                let Some(finished) = with(&rehearsed, limit, value, &row) else { break };
                match finished.status {
                    0 => (done, enough) = (done + 1, enough + 1),
                    _ => (refused, enough) = (refused + 1, 0),
                }
                if enough == if is_complete() { ENOUGH } else { 1 } {
                    break;
                }
            }
        }
    }
    eprintln!("{refused} limits were too low, {done} were not");
    let has_run = refused + done > 0;
    assert!(!has_run || refused > 0 && done > 0, "all limits were too low, or none");
}

/// Runs the command with a limit, and judges what it leaves; `None` if the limit cannot be set here.
fn with(rehearsed: &Rehearsed, limit: Limit, value: usize, row: &str) -> Option<Finished> {
    let prlimit = |flag: &str, value: usize| {
        let mut prlimit = command(consumer("prlimit")?);
        prlimit.arg(format!("--{flag}={value}"));
        Some(prlimit)
    };
    let place = Scratch::new();
    let scene = place.join("scene");
    if limit == Limit::FreePages {
        let mount = consumer_as_root("mount")?;
        let size = format!("size={}", PAGES * PAGE);
        run(command(mount).args(["-t", "tmpfs", "-o", &size, "none"]).arg(place.path())).success();
    }
    rehearsed.copy_scene_to(&scene);
    let stdin = rehearsed.stdin(&scene);
    let program = rehearsed.command(&scene);
    let mut limited = match limit {
        Limit::OpenFiles => traced(prlimit("nofile", value)?, &program),
        Limit::FileSize => traced(prlimit("fsize", value * 100)?, &program),
        Limit::Threads => {
            let mut other = as_other(&scene)?;
            other.arg("prlimit").arg(format!("--nproc={value}"));
            of_everybody(traced(other, &program), &place)
        }
        Limit::FreePages => {
            fill(place.path(), value);
            program
        }
    };
    let finished = through_pipes(limited.stdin(stdin));
    if limit == Limit::Threads {
        own(&scene, 0);
    }
    fs::remove_file(place.join("filler")).ok();
    rehearsed.is_safe(&scene, row);
    rehearsed.left_nothing(&scene, row);
    match finished.status {
        0 => {
            let is_done =
                rehearsed.is_done(&scene, row) || is_only_not_shared(rehearsed, &scene, &finished.stderr, row);
            assert!(is_done, "{row}: exit 0, but the work is not done: {finished}");
        }
        1 => is_one_error(&finished, row),
        _ => panic!("{row}: {finished}"),
    }
    rehearsed.finishes(&scene, row);
    Some(finished)
}

/// Returns the start of a command that another user runs, who gets everything in `scene`. (The system does not limit root.)
fn as_other(scene: &Path) -> Option<Command> {
    let setpriv = consumer_as_root("setpriv")?;
    own(scene, USER);
    let mut other = command(setpriv);
    other.args(["--reuid", &USER.to_string(), "--regid", &USER.to_string(), "--clear-groups"]);
    Some(other)
}

/// Returns the command with a copy of the program that everybody may run.
fn of_everybody(command: Command, place: &Scratch) -> Command {
    let copy = place.join("program");
    let own = command.get_args().find(|argument| Path::new(argument).ends_with("ocibuild")).unwrap().to_owned();
    fs::copy(&own, &copy).unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut other = Command::new(command.get_program());
    other.args(command.get_args().map(|argument| if argument == own { copy.as_os_str() } else { argument }));
    other.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    other.current_dir(command.get_current_dir().unwrap());
    other
}

fn own(path: &Path, user: u32) {
    lchown(path, Some(user), Some(user)).unwrap();
    if path.is_dir() && !path.is_symlink() {
        fs::read_dir(path).unwrap().for_each(|entry| own(&entry.unwrap().path(), user));
    }
}

/// Fills a disk up to the last `free` pages.
fn fill(disk: &Path, free: usize) {
    let available = run(command("stat").args(["-f", "-c", "%a"]).arg(disk)).success();
    let size = (available.text().parse::<usize>().unwrap() - free) * PAGE;
    run(command("fallocate").args(["-l", &size.to_string()]).arg(disk.join("filler"))).success();
}

/// Runs a command whose output goes into pipes, which have no limit.
fn through_pipes(command: &mut Command) -> Finished {
    let output = command.output().unwrap();
    let status = output.status;
    let signal = status.signal().map(|signal| 128 + signal);
    Finished {
        command: format!("{command:?}"),
        stdout: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        status: status.code().or(signal).unwrap(),
        used: Used::default(),
    }
}
