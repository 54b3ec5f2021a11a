//! The promise: if a command exits 0, its work is done, durable and whole. Whatever happens before that, everything that was there
//! is still there, and the same command again finishes the work.
//!
//! Every command that writes is run under an injector that stops it, kills it, or makes a system call fail, at each call in
//! turn. By default some calls of each are tried; with `OCIBUILD_PROMISE=all`, all of them, and with a number, that many of each
//! kind for each scenario:
//!
//! ```text
//! RUST_TEST_NOCAPTURE=1 OCIBUILD_PROMISE=12 cargo test --test all promise
//! ```
//!
//! The numbers of what was tried are printed for each command.

mod crowd;
mod injector;
mod limits;
mod model;
mod planted;
mod power;
mod read_back;
mod recording;
mod reordering;
mod scenario;
mod scenarios;
mod tree;

use crate::support::{Finished, ocibuild, run};
use injector::{Call, Class, Disturbance};
use scenario::{Disturbed, Rehearsed, UNFINISHED};
use scenarios::{READERS, SCENARIOS};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use tree::is_temporary;

/// How much is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effort {
    /// Something of each, in a few minutes.
    Some,
    /// At most this many of each.
    Number(usize),
    Everything,
}

fn effort() -> Effort {
    match std::env::var("OCIBUILD_PROMISE").unwrap_or_default().as_str() {
        "" | "planted" => Effort::Some,
        "all" => Effort::Everything,
        number => Effort::Number(number.parse().expect("OCIBUILD_PROMISE is a number, all, or planted")),
    }
}

/// Whether every scenario is tried.
fn is_complete() -> bool {
    effort() != Effort::Some
}

/// Chooses from what can be disturbed: as many as the effort says, or about `most`, which differ with `seed`.
fn chosen<T: Copy>(all: &[T], most: usize, seed: usize) -> Vec<T> {
    let most = match effort() {
        Effort::Some => most,
        Effort::Number(number) => number.max(1),
        Effort::Everything => all.len().max(1),
    };
    let step = all.len().div_ceil(most).max(1);
    all.iter().skip(seed % step).step_by(step).copied().collect()
}

/// How often each command was tried.
#[derive(Debug, Default)]
struct Tally(BTreeMap<&'static str, usize>);

impl Tally {
    fn add(&mut self, command: &'static str) {
        *self.0.entry(command).or_default() += 1;
    }

    fn sum(&self) -> usize {
        self.0.values().sum()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each: Vec<String> = self.0.iter().map(|(command, number)| format!("{command} {number}")).collect();
        write!(out, "{} ({})", self.sum(), each.join(", "))
    }
}

/// Returns the numbers of the calls that a disturbance can meet.
fn meeting(calls: &[Call], disturbance: Disturbance) -> Vec<usize> {
    (1..=calls.len()).filter(|number| can_be_met(&calls[number - 1], disturbance)).collect()
}

fn can_be_met(call: &Call, disturbance: Disturbance) -> bool {
    match disturbance {
        Disturbance::Error(errno) | Disturbance::Errors(errno) => can_return(call, errno),
        _ => true,
    }
}

/// Returns whether a call may fail with `errno`, as its manual page says.
fn can_return(call: &Call, errno: i32) -> bool {
    let (call, path) = (call.name.as_str(), call.path.as_str());
    let opens = call.starts_with("open");
    let writes = ["write", "pwrite64", "copy_file_range", "ftruncate", "fallocate", "fsync", "fdatasync", "syncfs"];
    let names = ["mkdirat", "renameat", "renameat2", "linkat", "symlinkat", "unlinkat", "rename", "mkdir", "unlink"];
    let waits = ["read", "pread64", "write", "pwrite64", "fsync", "flock", "ftruncate", "fallocate"];
    match errno {
        EMFILE | ENFILE => opens,
        // Where directories cannot be locked, commands do without.
        ENOLCK => call == "flock" && path.ends_with(".lock"),
        EINTR => opens || waits.contains(&call),
        ENOSPC | EDQUOT => opens || writes.contains(&call) || names.contains(&call) && !call.starts_with("unlink"),
        EROFS | EACCES => opens || names.contains(&call) || ["fchmod", "utimensat", "statx"].contains(&call),
        _ => true,
    }
}

/// Disturbs each scenario at calls of `class`, and lets `judge` look at each result before the command runs again.
fn each_disturbance(class: Class, disturbances: &[Disturbance], most: usize, judge: fn(&Disturbed, usize, &str)) {
    let (mut points, mut violations) = (Tally::default(), Vec::new());
    for (place, scenario) in SCENARIOS.iter().enumerate() {
        let rehearsed = Rehearsed::new(scenario);
        let Some(calls) = rehearsed.calls(class) else { return };
        for (seed, disturbance) in disturbances.iter().enumerate() {
            for number in chosen(&meeting(&calls, *disturbance), most, place + seed * 7) {
                let point = || one_disturbance(&rehearsed, class, *disturbance, number, judge);
                let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(point));
                violations.extend(outcome.err().map(|panic| match panic.downcast::<String>() {
                    Ok(violation) => *violation,
                    Err(_) => format!("{}: {disturbance:?} at {number}: the test itself failed", scenario.name),
                }));
                points.add(scenario.command);
            }
        }
        if is_complete() {
            eprintln!("{}: {points} until here, {} violations", scenario.name, violations.len());
        }
    }
    eprintln!("{disturbances:?} at calls of {class:?}: {points} of {} scenarios", SCENARIOS.len());
    assert!(violations.is_empty(), "{} of {}:\n{violations:#?}", violations.len(), points.sum());
}

fn one_disturbance(
    rehearsed: &Rehearsed,
    class: Class,
    disturbance: Disturbance,
    number: usize,
    judge: fn(&Disturbed, usize, &str),
) {
    let scene = rehearsed.scene();
    let Some(disturbed) = rehearsed.disturb(scene.path(), class, disturbance, number) else { return };
    // Threads make their calls in another order each time: this may be a call that never fails like this, or none at all.
    let Some(call) = disturbed.calls.get(number - 1).filter(|call| can_be_met(call, disturbance)) else { return };
    let row = format!("{}: {disturbance:?} at {number}: {} {}", rehearsed.scenario.name, call.name, call.path);
    rehearsed.is_safe(scene.path(), &row);
    let could_not_remove = call.name == "unlinkat";
    if disturbed.finished.status == 0 && !rehearsed.is_done(scene.path(), &row) {
        let differing = rehearsed.differing(scene.path(), &row);
        let is_left_over = could_not_remove && differing.iter().all(|path| is_temporary(path));
        let said = &disturbed.finished.stderr;
        let is_not_shared = is_only_not_shared(rehearsed, scene.path(), said, &row);
        assert!(is_left_over || is_not_shared, "{row}: exit 0, but the work is not done: {differing:?}: {said}");
    }
    judge(&disturbed, number, &row);
    if disturbance != Disturbance::Kill && !could_not_remove {
        rehearsed.left_nothing(scene.path(), &row);
    }
    rehearsed.finishes(scene.path(), &row);
}

/// Returns whether the image is complete, and the program `said` what the shared cache does not get.
fn is_only_not_shared(rehearsed: &Rehearsed, scene: &Path, said: &str, row: &str) -> bool {
    rehearsed.differing(scene, row).is_empty() && NOT_SHARED.iter().any(|words| said.contains(words))
}

/// The words of warnings of a build whose layers, or their blocks, the shared cache does not get. Blocks come from the own cache.
const NOT_SHARED: [&str; 4] = [
    "not pushed to the shared cache",
    "the blocks of layers are not pushed",
    "building without the cache",
    "the layer is not cached",
];

#[test]
fn every_command_that_writes_has_a_scenario() {
    let listed = |arguments: &[&str]| -> Vec<String> {
        let help = run(ocibuild().args(arguments)).success();
        let commands =
            help.text().split("Commands:\n").nth(1).map(|rest| rest.split("\n\n").next().unwrap().to_owned());
        let names = commands.unwrap_or_default();
        let is_command = |line: &&str| line.starts_with("  ") && !line.starts_with("   ");
        names.lines().filter(is_command).map(|line| line.split_whitespace().next().unwrap().to_owned()).collect()
    };
    let below = listed(&["cache", "--help"]).into_iter().map(|name| format!("cache {name}"));
    let all: BTreeSet<String> = listed(&["--help"]).into_iter().filter(|name| name != "cache").chain(below).collect();
    let known: BTreeSet<String> =
        SCENARIOS.iter().map(|scenario| scenario.command).chain(READERS.iter().copied()).map(str::to_owned).collect();
    assert_eq!(all, known, "commands of the help, and those in the table");
}

#[test]
fn f4_a_command_that_is_killed_at_any_change_loses_nothing() {
    kills();
}

fn kills() {
    each_disturbance(Class::Change, &[Disturbance::Kill], 6, |disturbed, _, row| {
        assert!(matches!(disturbed.finished.status, 0 | 137), "{row}: {}", disturbed.finished);
    });
}

#[test]
fn a_command_that_is_stopped_at_any_change_cleans_up() {
    stops();
}

fn stops() {
    let signals = [Disturbance::Signal(1), Disturbance::Signal(2), Disturbance::Signal(15)];
    each_disturbance(Class::Change, &signals, 2, |disturbed, _, row| {
        let status = disturbed.finished.status;
        assert!(matches!(status, 0 | 129 | 130 | 143), "{row}: {}", disturbed.finished);
    });
}

/// On a network file system the answer of the server may be lost: what was renamed is reported as missing.
#[test]
fn f29_a_rename_that_is_done_and_reported_as_failed_is_done() {
    let names = ["a new layout", "an archive with another image"];
    let mut points = Tally::default();
    for scenario in SCENARIOS.iter().filter(|scenario| is_complete() || names.contains(&scenario.name)) {
        let rehearsed = Rehearsed::new(scenario);
        let Some(calls) = rehearsed.calls(Class::Change) else { return };
        let renames = (1..=calls.len()).filter(|number| calls[number - 1].name.starts_with("rename"));
        for number in renames {
            let scene = rehearsed.scene();
            let lost_answer = Disturbance::Done(ENOENT);
            let Some(disturbed) = rehearsed.disturb(scene.path(), Class::Change, lost_answer, number) else { return };
            // Threads make their calls in another order each time.
            let Some(call) = disturbed.calls.get(number - 1).filter(|call| call.name.starts_with("rename")) else {
                continue;
            };
            let row = format!("{}: rename at {number}: {}", scenario.name, call.path);
            assert_eq!(disturbed.finished.status, 0, "{row}: {}", disturbed.finished);
            assert!(rehearsed.is_done(scene.path(), &row), "{row}: {:?}", rehearsed.differing(scene.path(), &row));
            rehearsed.left_nothing(scene.path(), &row);
            points.add(scenario.command);
        }
    }
    eprintln!("renames whose answer is lost: {points}");
    assert!(points.sum() > 0, "no rename was met");
}

const ENOENT: i32 = 2;
const ENOSPC: i32 = 28;
const EIO: i32 = 5;
const EDQUOT: i32 = 122;
const EROFS: i32 = 30;
const EACCES: i32 = 13;
const EMFILE: i32 = 24;
const ENFILE: i32 = 23;
const EINTR: i32 = 4;
const ENOLCK: i32 = 37;
const ESTALE: i32 = 116;

#[test]
fn f1_f2_a_change_that_fails_is_an_error_and_loses_nothing() {
    changes_that_fail();
}

fn changes_that_fail() {
    let errors = [ENOSPC, EIO, EDQUOT, EROFS, EACCES].map(Disturbance::Error);
    each_disturbance(Class::Change, &errors, 2, fails_well);
    let errors = [ENOSPC, EDQUOT].map(Disturbance::Errors);
    each_disturbance(Class::Change, &errors, 2, fails_well);
}

#[test]
fn f2_f3_a_call_that_fails_is_an_error_and_loses_nothing() {
    calls_that_fail();
}

fn calls_that_fail() {
    let errors = [EIO, ESTALE, EMFILE, ENFILE, ENOLCK].map(Disturbance::Error);
    each_disturbance(Class::All, &errors, 2, fails_well);
}

#[test]
fn f2_a_call_that_is_interrupted_is_made_again() {
    each_disturbance(Class::All, &[Disturbance::Error(EINTR)], 4, fails_well);
}

/// A call that may fail while the command succeeds.
struct Harmless {
    /// Its name; empty for any.
    call: &'static str,
    is_about: fn(&str) -> bool,
    /// Why it does no harm.
    _because: &'static str,
}

const HARMLESS: &[Harmless] = &[
    Harmless {
        call: "",
        is_about: |path| path.starts_with("cache") || path.starts_with("home/.cache"),
        _because: "the cache only makes later commands faster",
    },
    Harmless { call: "openat2", is_about: is_temporary, _because: "a file that cannot be linked is copied" },
    Harmless { call: "ioctl", is_about: is_temporary, _because: "a file whose blocks cannot be shared is copied" },
    Harmless {
        call: "openat2",
        is_about: |path| path == "out/index.json",
        _because: "what a replaced image leaves for gc is counted when the work is done",
    },
    Harmless { call: "read", is_about: |path| path == "out/index.json", _because: "the same count" },
    Harmless { call: "statx", is_about: |path| path == "out/index.json", _because: "the same count" },
    Harmless {
        call: "statx",
        is_about: |path| path == UNFINISHED,
        _because: "what an extraction left that did not end is refused for its files too",
    },
    Harmless {
        call: "utimensat",
        is_about: |path| path.contains("blobs/"),
        _because: "a manifest whose age cannot be renewed is written again",
    },
    Harmless { call: "linkat", is_about: is_temporary, _because: "a file that cannot be linked is copied" },
    Harmless {
        call: "openat2",
        is_about: |path| path.contains("/blobs"),
        _because: "a blob that cannot be looked up is written again, and what a replaced image leaves is only counted",
    },
    Harmless {
        call: "openat",
        is_about: |path| path.ends_with("robot.yaml"),
        _because: "whether it is a packed robot; as a YAML file, it is opened again",
    },
    Harmless {
        call: "fdatasync",
        is_about: |path| path.contains("blobs/"),
        _because: "a blob that could not be synced is verified anew the next time",
    },
    Harmless {
        call: "statx",
        is_about: |path| path.contains("blobs/"),
        _because: "a blob that cannot be read is written again",
    },
    Harmless { call: "openat2", is_about: |path| path == ".", _because: "the directory that the cache is in" },
    Harmless {
        call: "unlinkat",
        is_about: is_temporary,
        _because: "a temporary file has its final name already, so there is nothing to remove",
    },
    Harmless {
        call: "flock",
        is_about: is_temporary,
        _because: "the lock of a temporary file tells others that it is in use",
    },
    Harmless {
        call: "fchmod",
        is_about: |path| path.contains("blobs/"),
        _because: "the mode of a blob only marks who wrote it",
    },
    Harmless {
        call: "ftruncate",
        is_about: |path| path.ends_with(".ocibuild.lock"),
        _because: "the note in the lock file is for those who wait for it",
    },
    Harmless {
        call: "write",
        is_about: |path| path.ends_with(".ocibuild.lock"),
        _because: "the note in the lock file is for those who wait for it",
    },
    Harmless {
        call: "openat2",
        is_about: |path| path.ends_with(".ocibuild.lock"),
        _because: "a lock file of another user is locked without being written",
    },
    Harmless {
        call: "read",
        is_about: |path| path.contains("blobs/"),
        _because: "a blob that cannot be read is written again",
    },
    Harmless {
        call: "getdents64",
        is_about: is_output,
        _because: "what killed processes left is searched for, and only takes space",
    },
    Harmless {
        call: "openat",
        is_about: |path| is_output(path.trim_end_matches('.').trim_end_matches('/')),
        _because: "the same search",
    },
    Harmless {
        call: "statx",
        is_about: |path| path.is_empty() || path == "rcc",
        _because: "the size of a file that was opened, as a hint for its reader",
    },
];

/// The directories that commands write to.
fn is_output(path: &str) -> bool {
    ["", "out", "out/blobs/sha256", "new", "there", "context", "image", "project"].contains(&path)
}

/// The command failed in one line, or took no notice of a fault that does no harm.
fn fails_well(disturbed: &Disturbed, number: usize, row: &str) {
    let finished = &disturbed.finished;
    match finished.status {
        0 => {
            let call = &disturbed.calls[number - 1];
            let was_made_again = disturbed.calls[number..].contains(call);
            let is_harmless = HARMLESS
                .iter()
                .any(|fault| (fault.call.is_empty() || call.name == fault.call) && (fault.is_about)(&call.path));
            assert!(
                is_harmless || was_made_again,
                "{row}: the command succeeded although this call failed: {finished}"
            );
        }
        1 => is_one_error(finished, row),
        _ => panic!("{row}: {finished}"),
    }
}

/// The command failed in one line.
fn is_one_error(finished: &Finished, row: &str) {
    // Each fault is a line of its own.
    let lists_faults = ["a cache that is verified", "damaged blobs"].iter().any(|name| row.starts_with(name));
    if lists_faults && !finished.stdout.is_empty() {
        return;
    }
    let lines: Vec<&str> = finished.stderr.lines().collect();
    assert!(lines.last().is_some_and(|line| line.starts_with("ocibuild: error: ")), "{row}: {finished}");
    assert!(lines.iter().all(|line| line.starts_with("ocibuild: ")), "{row}: {finished}");
    assert!(!finished.stderr.contains("internal error"), "{row}: {finished}");
}
