//! Rows F1, F2, F4 and S3: every system call of a small build that matters fails once, or is the last thing that happens.
//! After each, the image that was there is whole, and the same command again finishes the job.

use super::contract::{Bench, is_one_line, is_whole, no_temporaries, tags};
use crate::support::{Finished, command, consumer, run};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Mutex;

/// A finished build under strace, with the output of strace.
struct Traced {
    finished: Finished,
    log: String,
}

impl Traced {
    fn was_disturbed(&self) -> bool {
        self.log.contains("INJECTED") || self.log.contains("+++ killed by SIGKILL")
    }

    /// The calls that were made to fail.
    fn injected(&self) -> Vec<String> {
        let lines: Vec<&str> = self.log.lines().collect();
        let whole = |number: usize| {
            let (thread, rest) = lines[number].split_once(' ').unwrap();
            // Another thread's call may be logged between the two halves of one.
            let half = format!("{thread} ");
            let start = lines[..number].iter().rev().find(|line| line.starts_with(&half));
            match (rest.contains(" resumed>"), start) {
                (true, Some(start)) => format!("{start} {rest}"),
                _ => rest.to_owned(),
            }
        };
        (0..lines.len()).filter(|&number| lines[number].contains("(INJECTED)")).map(whole).collect()
    }

    /// Whether even the message about the fault could not be written.
    fn was_silenced(&self) -> bool {
        self.log.lines().any(|line| line.contains("write(2,") && line.contains("INJECTED"))
    }
}

/// Builds under strace, which makes the `number`th of each thread's calls of `call` fail or kill.
fn build_with_fault(strace: &Path, bench: &Bench, call: &str, fault: &str, number: usize) -> Traced {
    let log = bench.scratch.join("strace.log");
    let mut traced = command(strace);
    traced.args(["-f", "-y", "-qq", "-o"]).arg(&log);
    if call == "pread64" {
        // The dynamic loader makes such calls too, of other files.
        traced.arg("-P").arg(bench.scratch.join("src/a/file"));
    }
    traced.args(["-e", &format!("trace={call}"), "-e", &format!("inject={call}:{fault}:when={number}")]);
    traced.arg(env!("CARGO_BIN_EXE_ocibuild"));
    traced.args([
        "layout",
        "out",
        "--quiet",
        "--jobs",
        "1",
        "--tag",
        "new",
        "--base",
        "oci:out:keep",
        "--copy",
        "src:/srv",
    ]);
    let finished = run(traced.current_dir(bench.scratch.path()));
    Traced { finished, log: fs::read_to_string(&log).unwrap() }
}

/// Runs a build for the first, second, … call of `call`, until one has so few that nothing was injected.
fn each_fault(call: &str, fault: &str, step: usize, check: &dyn Fn(&Traced, &Bench, &str)) {
    let Some(strace) = consumer("strace") else { return };
    let mut injected_runs = 0;
    for number in (1..1000).step_by(step) {
        let bench = Bench::keeping();
        bench.scratch.write("src/a/file", "content\n");
        let row = format!("{fault} at {call} {number}");
        let traced = build_with_fault(&strace, &bench, call, fault, number);
        let finished = &traced.finished;
        if finished.stderr.contains("error while loading shared libraries") {
            // The program had not even begun.
            continue;
        }
        check(&traced, &bench, &row);
        is_whole(&row, &bench.out);
        assert!(tags(&bench.out).contains(&"keep".to_owned()), "{row}: {finished}");
        let again =
            bench.layout().args(["--tag", "new", "--base", "oci:out:keep", "--copy", "src:/srv"]).output().unwrap();
        assert!(again.status.success(), "{row}: again: {again:?}");
        is_whole(&row, &bench.out);
        no_temporaries(&row, &bench.out);
        assert_eq!(tags(&bench.out), ["keep", "new"], "{row}");
        if !traced.was_disturbed() {
            assert_eq!(finished.status, 0, "{row}: {finished}");
            assert!(injected_runs > 0, "{row}: nothing was injected at all");
            return;
        }
        injected_runs += 1;
    }
    panic!("{call} has no end");
}

/// What may fail although the build goes well: a part of the call as strace shows it, and why it does no harm.
const HARMLESS: [(&str, &str); 6] = [
    ("/etc/ld.so.cache>, ", "the dynamic loader looks for the libraries themselves"),
    ("/maps>, ", "the C library looks for the bounds of a stack, and does without"),
    (".ocibuild.lock>, \"pid ", "the note in the lock file is for those who wait for it"),
    ("/out>, 0x", "what a killed build has left in a layout is removed by the next one"),
    ("/out/blobs/sha256>, 0x", "what a killed build has left in a layout is removed by the next one"),
    ("unlinkat(", "a temporary file has its final name already, so there is nothing to remove"),
];

/// The build either took no notice of a fault that does no harm, or failed as every refusal does.
fn fails_well(traced: &Traced, bench: &Bench, row: &str, word: &str) {
    let finished = &traced.finished;
    match finished.status {
        1 if traced.was_silenced() => {}
        0 => {
            assert!(tags(&bench.out).contains(&"new".to_owned()), "{row}: {finished}");
            for call in traced.injected() {
                let is_harmless = HARMLESS.iter().any(|(part, _)| call.contains(part));
                assert!(is_harmless, "{row}: the build went well although this call failed: {call}");
            }
        }
        1 => is_one_line(row, finished, &[word]),
        _ => panic!("{row}: {finished}"),
    }
    no_temporaries(row, &bench.out);
}

fn full_disk(traced: &Traced, bench: &Bench, row: &str) {
    fails_well(traced, bench, row, "no space left on device");
}

fn broken_disk(traced: &Traced, bench: &Bench, row: &str) {
    fails_well(traced, bench, row, "input/output error");
}

fn killed(traced: &Traced, _: &Bench, row: &str) {
    let finished = &traced.finished;
    assert!(matches!(finished.status, 0 | 137), "{row}: {finished}");
    assert_eq!(finished.stderr, "", "{row}");
}

#[test]
fn f1_a_full_disk_at_every_write_and_rename() {
    each_fault("write", "error=ENOSPC", 1, &full_disk);
    each_fault("pwrite64", "error=ENOSPC", 1, &full_disk);
    each_fault("renameat", "error=ENOSPC", 1, &full_disk);
    each_fault("mkdirat", "error=ENOSPC", 1, &full_disk);
}

#[test]
fn f1_a_full_disk_at_every_sync_and_open() {
    each_fault("fsync", "error=ENOSPC", 1, &full_disk);
    each_fault("openat2", "error=ENOSPC", 2, &full_disk);
}

/// M23: a directory that cannot be read back is not taken for one that is absent.
#[test]
fn f2_a_broken_disk_at_every_read() {
    each_fault("pread64", "error=EIO", 1, &broken_disk);
    let refused = Mutex::new(BTreeSet::new());
    each_fault("getdents64", "error=EIO", 1, &|traced, bench, row| {
        broken_disk(traced, bench, row);
        if let (1, [call]) = (traced.finished.status, &traced.injected()[..]) {
            let directory = call.split_once('>').unwrap().0.rsplit('/').next().unwrap();
            refused.lock().unwrap().insert(directory.to_owned());
        }
    });
    // Files that killed builds left are looked for in a layout, too, which may fail.
    for directory in ["src", "a", "sha256"] {
        assert!(refused.lock().unwrap().contains(directory), "a listing of `{directory}` failed without an error");
    }
    each_fault("statx", "error=EIO", 1, &broken_disk);
    each_fault("newfstatat", "error=EIO", 1, &broken_disk);
}

#[test]
fn f2_a_broken_disk_at_every_write() {
    each_fault("write", "error=EIO", 1, &broken_disk);
    each_fault("pwrite64", "error=EIO", 1, &broken_disk);
    each_fault("fsync", "error=EIO", 1, &broken_disk);
    each_fault("renameat", "error=EIO", 1, &broken_disk);
    each_fault("unlinkat", "error=EIO", 1, &broken_disk);
}

/// M23: a directory of blobs that cannot be opened, and so cannot be synced, is no success.
#[test]
fn f3_no_files_left_at_every_open() {
    each_fault("openat2", "error=EMFILE", 3, &|traced, bench, row| {
        fails_well(traced, bench, row, "too many open files");
    });
}

#[test]
fn f2_a_call_that_is_interrupted_is_made_again() {
    let unnoticed = |traced: &Traced, _: &Bench, row: &str| {
        assert_eq!(traced.finished.status, 0, "{row}: {}", traced.finished);
    };
    for call in ["write", "read", "pread64", "pwrite64", "getdents64"] {
        each_fault(call, "error=EINTR", 2, &unnoticed);
    }
}

#[test]
fn f4_s3_killed_at_every_write_and_rename() {
    each_fault("write", "signal=KILL", 1, &killed);
    each_fault("pwrite64", "signal=KILL", 1, &killed);
    each_fault("renameat", "signal=KILL", 1, &killed);
    each_fault("mkdirat", "signal=KILL", 1, &killed);
}

#[test]
fn f4_s3_killed_at_every_sync_and_open() {
    each_fault("fsync", "signal=KILL", 1, &killed);
    each_fault("unlinkat", "signal=KILL", 1, &killed);
    each_fault("openat2", "signal=KILL", 2, &killed);
}

#[test]
fn f4_killed_while_a_new_layout_is_made() {
    let Some(strace) = consumer("strace") else { return };
    for call in ["renameat", "fsync", "mkdirat"] {
        for number in 1..1000 {
            let bench = Bench::empty();
            bench.scratch.write("keep-is-absent/x", "");
            bench.source();
            let mut traced = command(&strace);
            traced.args(["-f", "-qq", "-o"]).arg(bench.scratch.join("strace.log"));
            traced.args(["-e", &format!("trace={call}"), "-e", &format!("inject={call}:signal=KILL:when={number}")]);
            traced
                .arg(env!("CARGO_BIN_EXE_ocibuild"))
                .args(["layout", "out", "--quiet", "--jobs", "1", "--copy", "src:/srv"]);
            let finished = run(traced.current_dir(bench.scratch.path()));
            let row = format!("F4 {call} {number}");
            assert!(matches!(finished.status, 0 | 137), "{row}: {finished}");
            let again = run(bench.layout().args(["--copy", "src:/srv"]));
            assert_eq!(again.status, 0, "{row}: {again}");
            bench.is_intact(&row);
            assert_eq!(tags(&bench.out), ["latest"], "{row}");
            if finished.status == 0 {
                break;
            }
        }
    }
}

#[test]
fn f4_export_is_whole_or_absent() {
    let Some(strace) = consumer("strace") else { return };
    for (call, fault) in [
        ("write", "error=ENOSPC"),
        ("renameat", "error=EIO"),
        ("fsync", "error=EIO"),
        ("write", "signal=KILL"),
        ("renameat", "signal=KILL"),
    ] {
        for number in 1..1000 {
            let bench = Bench::keeping();
            let mut traced = command(&strace);
            traced.args(["-f", "-qq", "-o"]).arg(bench.scratch.join("strace.log"));
            traced.args(["-e", &format!("trace={call}"), "-e", &format!("inject={call}:{fault}:when={number}")]);
            traced.arg(env!("CARGO_BIN_EXE_ocibuild")).args(["export", "out:keep", "oci-archive:f.tar", "--quiet"]);
            let finished = run(traced.current_dir(bench.scratch.path()));
            let row = format!("export, {fault} at {call} {number}");
            let archive = bench.scratch.join("f.tar");
            if archive.exists() {
                run(bench.command(&["layout", "new", "-q", "--base", "oci-archive:f.tar"]).arg("--dry-run")).success();
            }
            if finished.status != 137 {
                no_temporaries(&row, bench.scratch.path());
            }
            assert!(matches!(finished.status, 0 | 1 | 137), "{row}: {finished}");
            if finished.status == 1 && !finished.stderr.is_empty() {
                assert!(
                    finished.stderr.starts_with("ocibuild: error: ") && finished.stderr.lines().count() == 1,
                    "{row}: {finished}"
                );
            }
            run(&mut bench.command(&["export", "out:keep", "oci-archive:f.tar", "--quiet"])).success();
            no_temporaries(&row, bench.scratch.path());
            bench.is_intact(&row);
            if finished.status == 0 {
                break;
            }
        }
    }
}
