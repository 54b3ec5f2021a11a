//! Rows S1 to S13: many builders at once, signals, locks.

use super::contract::{Bench, build, is_one_line, is_whole, no_temporaries, spec, tags, temporaries};
use super::forge::{self, Member};
use crate::consumers::{Layout as Image, Skopeo};
use crate::support::{command, consumer_as_root, install_ocibuild, is_left_out, ocibuild, run};
use ocibuild::common::progress::{Event, Progress, Silent};
use ocibuild::store::Layout;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Starts a program and does not wait for it.
fn start(command: &mut Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits for programs, which must all succeed.
#[track_caller]
fn all_succeed(row: &str, children: Vec<Child>) {
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{row}: {output:?}");
    }
}

#[test]
fn s6_twenty_builders_of_twenty_tags_lose_none() {
    if is_left_out() {
        return;
    }
    for round in 0..5 {
        // In the first rounds they also race to make the layout.
        let bench = if round < 2 { Bench::empty() } else { Bench::keeping() };
        let source = format!("{}:/srv", bench.source().display());
        let builders = (0..20).map(|number| {
            let (tag, label) = (format!("tag{number}"), format!("number={number}"));
            start(bench.layout().args(["--tag", &tag, "--label", &label, "--copy", &source, "--jobs", "1"]))
        });
        all_succeed("S6", builders.collect());
        let mut expected: Vec<String> = (0..20).map(|number| format!("tag{number}")).collect();
        expected.extend((round >= 2).then(|| "keep".to_owned()));
        expected.sort();
        assert_eq!(tags(&bench.out), expected, "S6, round {round}");
        for number in 0..20 {
            let config = Image::new(&bench.out, &format!("tag{number}")).config();
            assert_eq!(config["config"]["Labels"]["number"], number.to_string(), "S6");
        }
        bench.is_intact("S6");
    }
}

#[test]
fn s6_twenty_builders_of_one_tag_leave_one_whole_image() {
    if is_left_out() {
        return;
    }
    for different in [false, true] {
        let bench = Bench::keeping();
        bench.source();
        let builders = (0..20).map(|number| {
            let label = format!("number={}", if different { number } else { 0 });
            start(bench.layout().args(["--tag", "one", "--label", &label, "--copy", "src:/srv", "--jobs", "1"]))
        });
        let mut digests: Vec<String> = Vec::new();
        for builder in builders.collect::<Vec<_>>() {
            let output = builder.wait_with_output().unwrap();
            assert!(output.status.success(), "S6: {output:?}");
            digests.push(String::from_utf8(output.stdout).unwrap().trim().to_owned());
        }
        assert_eq!(tags(&bench.out), ["keep", "one"], "S6");
        digests.sort();
        digests.dedup();
        assert_eq!(digests.len(), if different { 20 } else { 1 }, "S6");
        assert!(digests.contains(&Image::new(&bench.out, "one").manifest_digest()), "S6");
        bench.is_intact("S6");
    }
}

#[test]
fn s7_no_reader_ever_sees_half_an_image() {
    if is_left_out() {
        return;
    }
    let bench = Bench::keeping();
    let source = spec(&bench.source());
    let stop = AtomicBool::new(false);
    let reads = std::thread::scope(|scope| {
        for tag in ["one", "two"] {
            let (bench, source, stop) = (&bench, &source, &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    build(source, &bench.out, tag).unwrap();
                }
            });
        }
        let started = Instant::now();
        let mut reads = 0;
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            while started.elapsed() < Duration::from_millis(1500) {
                let layout = Arc::new(Layout::open(&bench.out).unwrap());
                for tag in tags(&bench.out) {
                    layout.image(Some(&tag), None).unwrap();
                }
                is_whole("S7", &bench.out);
                reads += 1;
            }
            reads
        }));
        stop.store(true, Ordering::Relaxed);
        outcome.unwrap()
    });
    assert!(reads > 5, "S7: only {reads} reads");
    bench.is_intact("S7");
}

#[test]
fn s8_beside_a_writer_without_locks_nothing_is_damaged() {
    if is_left_out() {
        return;
    }
    let Some(skopeo) = Skopeo::find() else { return };
    let bench = Bench::keeping();
    let source = format!("{}:/srv", bench.source().display());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..5 {
                let to = format!("oci:{}:foreign{number}", bench.out.display());
                // It may lose a race for a file of its own; what matters is what is left.
                skopeo.copy(&[], &format!("oci:{}:keep", bench.out.display()), &to);
            }
        });
        for number in 0..10 {
            // It truncates index.json for a moment, and what is no index is refused. Not `run`, which reads the index again.
            bench.layout().args(["--tag", &format!("ours{number}"), "--copy", &source]).output().unwrap();
        }
    });
    is_whole("S8", &bench.out);
    no_temporaries("S8", &bench.out);
    run(bench.layout().args(["--tag", "last", "--copy", &source])).success();
    assert!(tags(&bench.out).contains(&"last".to_owned()), "S8");
}

/// Numbers that look random and are the same in every run.
struct Spread(u64);

impl Spread {
    /// A number below `limit`.
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// A source that takes a moment: content that does not compress.
fn long_source(bench: &Bench) {
    let mut spread = Spread(1);
    let noise: Vec<u8> = (0..2 << 20).map(|_| spread.below(256) as u8).collect();
    for number in 0..3 {
        bench.scratch.write(format!("src/file{number}"), &noise[number << 10..]);
    }
}

fn long_build(bench: &Bench) -> Command {
    let mut build = bench.layout();
    build.args(["--tag", "new", "--compression-level", "9", "--copy", "src:/srv", "--base", "oci:out:keep"]);
    build
}

/// More than a pipe holds, so that a program that was given it has begun to read, and waits for the rest.
fn half_an_archive() -> Vec<u8> {
    let mut tar = forge::tar(&[Member::file("f", &vec![b'x'; 4 << 20])]);
    tar.truncate(2 << 20);
    tar
}

fn duration_of(command: &mut Command) -> u64 {
    let started = Instant::now();
    run(command).success();
    u64::try_from(started.elapsed().as_micros()).unwrap()
}

fn send(child: &Child, signal: Signal) {
    // It may have ended just now.
    kill_process(Pid::from_child(child), signal).ok();
}

#[test]
fn s1_a_signal_at_any_moment_leaves_no_temporary_files() {
    if is_left_out() {
        return;
    }
    let bench = Bench::keeping();
    long_source(&bench);
    let whole = duration_of(&mut long_build(&bench));
    let mut spread = Spread(7);
    let mut stopped = 0;
    for round in 0..42 {
        let bench_index = bench.out.join("index.json");
        // Each round is for a new image, and there is something to commit.
        let (name, status) = [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)][round % 3];
        let before = fs::read(&bench_index).unwrap();
        let child = start(long_build(&bench).args(["--label", &format!("round={round}")]));
        std::thread::sleep(Duration::from_micros(spread.below(whole * 11 / 10)));
        send(&child, name);
        let output = child.wait_with_output().unwrap();
        let code = output.status.code();
        if code.is_none() {
            // Killed by the signal itself, before the program could ask for it: then it had not begun.
            assert!(before == fs::read(&bench_index).unwrap(), "S1 {name:?} {round}");
        } else {
            assert!(code == Some(0) || code == Some(status), "S1 {name:?} {round}: {output:?}");
        }
        assert!(output.stderr.is_empty(), "S1 {name:?} {round}: {output:?}");
        stopped += usize::from(code == Some(status));
        no_temporaries(&format!("S1 {name:?} {round}"), &bench.out);
    }
    assert!(stopped > 10, "S1: only {stopped} were stopped");
    bench.is_intact("S1");
    assert_eq!(tags(&bench.out), ["keep", "new"]);
}

#[test]
fn s2_a_second_signal_ends_the_program_at_once() {
    if is_left_out() {
        return;
    }
    let bench = Bench::keeping();
    let mut child = start(bench.layout().args(["--tag", "new", "--copy", "-:/in"]).stdin(Stdio::piped()));
    child.stdin.as_mut().unwrap().write_all(&half_an_archive()).unwrap();
    send(&child, Signal::INT);
    send(&child, Signal::INT);
    let started = Instant::now();
    let status = loop {
        // Its input stays open.
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None => std::thread::sleep(Duration::from_millis(5)),
        }
        assert!(started.elapsed() < Duration::from_secs(60), "S2");
    };
    assert_eq!(status.code(), Some(130), "S2");
    long_source(&bench);
    run(&mut long_build(&bench)).success();
    bench.is_intact("S2");
}

#[test]
fn s3_a_killed_build_is_finished_by_the_next() {
    if is_left_out() {
        return;
    }
    let bench = Bench::keeping();
    long_source(&bench);
    let whole = duration_of(&mut long_build(&bench));
    let mut spread = Spread(3);
    let mut left = 0;
    for round in 0..20 {
        let mut child = start(long_build(&bench).args(["--label", &format!("round={round}")]));
        std::thread::sleep(Duration::from_micros(spread.below(whole * 11 / 10)));
        child.kill().unwrap();
        child.wait().unwrap();
        is_whole(&format!("S3 {round}"), &bench.out);
        left += temporaries(&bench.out).len();
    }
    assert!(left > 0, "S3: nothing was killed half-way");
    run(&mut long_build(&bench)).success();
    bench.is_intact("S3");
    assert_eq!(tags(&bench.out), ["keep", "new"]);
}

#[test]
fn s4_a_held_lock_is_waited_for_and_its_holder_named() {
    if is_left_out() {
        return;
    }
    let bench = Bench::keeping();
    let source = format!("{}:/srv", bench.source().display());
    let holder = fs::File::create(bench.out.join(".ocibuild.lock")).unwrap();
    holder.lock().unwrap();
    fs::write(bench.out.join(".ocibuild.lock"), "pid 4711 on host elsewhere\n").unwrap();
    let mut waiting = bench.layout();
    waiting.args(["--tag", "new", "--copy", &source, "--lock-timeout", "1"]);
    let words = ["out: locked by pid 4711 on host elsewhere", "(waited 1 s; see --lock-timeout)"];
    bench.refuses("S4", &mut waiting, &words);
    // Reading takes no lock.
    run(&mut bench.command(&["inspect", "out:keep"])).success();
    run(&mut bench.command(&["verify", "out", "-q"])).success();
    let patient = start(bench.layout().args(["--tag", "new", "--copy", &source]));
    std::thread::sleep(Duration::from_millis(200));
    drop(holder);
    all_succeed("S4", vec![patient]);
    bench.is_intact("S4");
    let copy = ["export", "out:keep", "oci:copy:keep", "-q"];
    run(&mut bench.command(&copy)).success();
    let holder = fs::File::create(bench.scratch.join("copy/.ocibuild.lock")).unwrap();
    holder.lock().unwrap();
    let started = Instant::now();
    bench.refuses(
        "S4",
        bench.command(&["export", "out:keep", "oci:copy:other", "-q"]).args(["--lock-timeout", "0"]),
        &["copy: locked by another process"],
    );
    assert!(started.elapsed() < Duration::from_secs(5), "S4");
}

/// The write end of a closed pipe.
fn unread() -> Stdio {
    std::io::pipe().unwrap().1.into()
}

#[test]
fn s5_a_pipe_that_is_closed_early_causes_no_error() {
    let bench = Bench::keeping();
    let commands = [
        &["--help"][..],
        &["layout", "--help"],
        &["--version"],
        &["completions", "bash"],
        &["man", "layout"],
        &["inspect", "out:keep"],
        &["verify", "out"],
        &["layout", "out", "--dry-run", "--copy", "src:/srv"],
        &["layout", "out", "--tag", "new", "--copy", "src:/srv"],
        &["export", "out:keep", "oci:copy", "-q"],
    ];
    bench.source();
    for arguments in commands {
        let output = bench.command(arguments).stdout(unread()).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "S5 {arguments:?}: {output:?}");
        assert!(!String::from_utf8_lossy(&output.stderr).contains("panic"), "S5 {arguments:?}: {output:?}");
        // Standard error is closed, too.
        let status = bench.command(arguments).stdout(unread()).stderr(unread()).status().unwrap();
        assert_eq!(status.code(), Some(0), "S5 {arguments:?}");
    }
    // An archive that is not read to its end is incomplete, and that is an error.
    let output = bench.command(&["export", "out:keep", "-", "-q"]).stdout(unread()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "S5: {output:?}");
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "ocibuild: error: standard output: cannot write: broken pipe\n",
        "S5"
    );
}

#[test]
fn s9_s10_a_lock_must_be_a_regular_file_of_any_content() {
    for content in ["", "garbage\u{0}\u{1b}[31m", "pid 1 on host other\n"] {
        let bench = Bench::keeping();
        fs::write(bench.out.join(".ocibuild.lock"), content).unwrap();
        build(&spec(&bench.source()), &bench.out, "new").unwrap();
        bench.is_intact("S9");
    }
    type Make<'a> = (&'a str, &'a dyn Fn(&std::path::Path));
    let make: [Make<'_>; 3] = [
        ("a link", &|lock| std::os::unix::fs::symlink("../canary", lock).unwrap()),
        ("a directory", &|lock| fs::create_dir(lock).unwrap()),
        ("a pipe", &|lock| {
            let mode = rustix::fs::Mode::from_raw_mode(0o600);
            rustix::fs::mknodat(rustix::fs::CWD, lock, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        }),
    ];
    for (name, make) in make {
        let bench = Bench::keeping();
        bench.scratch.write("canary", "untouched");
        make(&bench.out.join(".ocibuild.lock"));
        let source = format!("{}:/srv", bench.source().display());
        bench.refuses(
            &format!("S10 {name}"),
            bench.layout().args(["--tag", "new", "--copy", &source]),
            &["out/.ocibuild.lock: "],
        );
        assert_eq!(fs::read_to_string(bench.scratch.join("canary")).unwrap(), "untouched", "S10 {name}");
    }
}

#[test]
fn s9_a_lock_file_of_another_user_locks_too() {
    use std::os::unix::fs::PermissionsExt as _;
    let Some(setpriv) = consumer_as_root("setpriv") else { return };
    let bench = Bench::keeping();
    bench.source();
    fs::write(bench.out.join(".ocibuild.lock"), "").unwrap();
    fs::set_permissions(bench.out.join(".ocibuild.lock"), fs::Permissions::from_mode(0o444)).unwrap();
    for directory in ["", "blobs", "blobs/sha256"] {
        fs::set_permissions(bench.out.join(directory), fs::Permissions::from_mode(0o777)).unwrap();
    }
    let program = install_ocibuild(bench.scratch.path());
    let mut nobody = command(setpriv);
    nobody.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program);
    nobody.args(["layout", "out", "-q", "--tag", "new", "--copy", "src:/srv", "--lock-timeout", "0"]);
    nobody.current_dir(bench.scratch.path());
    run(&mut nobody).success();
    let holder = fs::File::options().write(true).open(bench.out.join(".ocibuild.lock")).unwrap();
    holder.lock().unwrap();
    bench.refuses("S9", nobody.args(["--label", "a=b"]), &["out: locked by"]);
}

#[test]
fn s11_ignored_signals_stay_ignored() {
    let bench = Bench::keeping();
    long_source(&bench);
    let mut nohup = command("nohup");
    nohup.arg(env!("CARGO_BIN_EXE_ocibuild")).args(["layout", "out", "-q", "--tag", "new", "--copy", "src:/srv"]);
    let child = start(nohup.current_dir(bench.scratch.path()));
    for _ in 0..20 {
        std::thread::sleep(Duration::from_millis(10));
        send(&child, Signal::HUP);
    }
    let output = child.wait_with_output().unwrap();
    // nohup itself may have been met before it had asked to ignore the signal.
    assert!(output.status.success() || output.status.code().is_none(), "S11: {output:?}");
    run(command("timeout").args(["10", env!("CARGO_BIN_EXE_ocibuild"), "--version"])).success();
}

#[test]
fn s12_little_memory_and_one_processor_are_enough() {
    if is_left_out() {
        return;
    }
    let bench = Bench::keeping();
    long_source(&bench);
    let script = "ulimit -v 262144; exec nice -n 19 \"$OCIBUILD\" layout out -q --tag new --copy src:/srv";
    let mut shell = command("sh");
    shell.args(["-c", script]).env("OCIBUILD", env!("CARGO_BIN_EXE_ocibuild")).current_dir(bench.scratch.path());
    run(&mut shell).success();
    bench.is_intact("S12");
    // What the C library reserves for threads would use the limit up, depending on when they begin.
    let script = "ulimit -v 1048576; exec \"$OCIBUILD\" layout out -q --tag new --copy -:/srv";
    let mut shell = command("sh");
    shell.args(["-c", script]).env("OCIBUILD", env!("CARGO_BIN_EXE_ocibuild")).current_dir(bench.scratch.path());
    let mut child = start(shell.stdin(Stdio::piped()));
    child.stdin.as_mut().unwrap().write_all(&half_an_archive()).unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let most =
        status.lines().find_map(|line| line.strip_prefix("VmPeak:")?.strip_suffix(" kB")?.trim().parse::<u64>().ok());
    assert!(most.unwrap() < 128 << 10, "{status}");
    child.kill().unwrap();
    child.wait().unwrap();
    bench.is_intact("S12");
    if crate::support::consumer("taskset").is_some() {
        let mut pinned = command("taskset");
        pinned.args(["1", env!("CARGO_BIN_EXE_ocibuild"), "layout", "out", "-q", "--tag", "one", "--copy", "src:/srv"]);
        run(pinned.current_dir(bench.scratch.path())).success();
    }
    let images = ["new", "one"].map(|tag| Image::new(&bench.out, tag));
    if tags(&bench.out).contains(&"one".to_owned()) {
        assert_eq!(images[0].manifest_digest(), images[1].manifest_digest(), "S12");
    }
}

/// Panics in the middle of the work, in whatever thread brings the news.
struct Bomb;

impl Progress for Bomb {
    fn event(&self, event: Event<'_>) {
        assert!(!matches!(event, Event::Advanced { .. }), "a bomb in a worker");
    }
}

#[test]
fn s13_a_worker_that_panics_harms_nothing() {
    let bench = Bench::keeping();
    let source = spec(&bench.source());
    let index = fs::read(bench.out.join("index.json")).unwrap();
    let layout = Arc::new(Layout::create(&bench.out).unwrap());
    let plan = source().plan(layout.root(), None, &Silent).unwrap();
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        plan.build(&layout, None, &["new".parse().unwrap()], &Bomb)
    }));
    assert!(!matches!(outcome, Ok(Ok(_))), "S13");
    assert_eq!(fs::read(bench.out.join("index.json")).unwrap(), index, "S13");
    bench.is_intact("S13");
    build(&source, &bench.out, "new").unwrap();
    bench.is_intact("S13");
}

#[test]
fn s14_an_error_is_one_line_beside_concurrent_output() {
    if is_left_out() {
        return;
    }
    let bench = Bench::keeping();
    long_source(&bench);
    let failed = run(bench.command(&["layout", "out", "-q", "--base", "oci:absent"]).args(["--copy", "src:/srv"]));
    assert_eq!(failed.status, 1);
    is_one_line("S14", &failed, &["absent: not found"]);
    assert_eq!(run(ocibuild().arg("verify").arg(&bench.out).arg("-q")).success().stdout, b"");
}

/// M30: builds that lock different bases in one lock file at once keep each other's entries.
#[test]
fn what_many_builds_lock_at_once_is_all_kept() {
    if is_left_out() {
        return;
    }
    let bench = Bench::keeping();
    for number in 0..8 {
        super::contract::copy_directory(&bench.out, &bench.scratch.join(format!("base{number}")));
    }
    for round in 0..5 {
        fs::remove_file(bench.scratch.join("ocibuild.lock")).ok();
        let builders = (0..8).map(|number| {
            let (out, base) = (format!("out{number}"), format!("oci:base{number}"));
            start(&mut bench.command(&["layout", &out, "-q", "--jobs", "1", "--base", &base, "--lock"]))
        });
        all_succeed("M30", builders.collect());
        let lock: serde_json::Value =
            serde_json::from_slice(&fs::read(bench.scratch.join("ocibuild.lock")).unwrap()).unwrap();
        assert_eq!(lock["bases"].as_object().unwrap().len(), 8, "round {round}: {lock}");
    }
    assert!(temporaries(bench.scratch.path()).is_empty());
}

/// M34: a file of a person that only begins like one of ours is not swept, wherever ours are.
#[test]
fn a_file_of_a_user_that_looks_temporary_is_kept() {
    let bench = Bench::keeping();
    bench.source();
    let (own, dead) = (".ocibuild-notes", ".ocibuild-00000000000000000000000000000000");
    let places = [
        "archives",
        "out",
        "out/blobs/sha256",
        "cache",
        "cache/layers/v1",
        "cache/blocks/v1",
        "cache/verified/v2",
        "cache/store/blobs/sha256",
        "locks",
    ];
    let cache = bench.scratch.join("cache");
    let all = |flags: &[&str]| {
        let mut command = bench.layout();
        command.args(["--tag", "v1", "--base", "oci:out:keep", "--copy", "src:/srv", "--save", "archives/x.tar"]);
        command.args(["--lock", "--lock-file", "locks/ocibuild.lock", "--cache-dir"]).arg(&cache).args(flags);
        run(command.env_remove("OCIBUILD_NO_CACHE")).success();
    };
    fs::create_dir(bench.scratch.join("archives")).unwrap();
    fs::create_dir(bench.scratch.join("locks")).unwrap();
    all(&[]);
    for place in places {
        bench.scratch.write(format!("{place}/{own}"), "mine");
        bench.scratch.write(format!("{place}/{dead}"), "half");
    }
    fs::remove_file(bench.scratch.join("locks/ocibuild.lock")).unwrap();
    fs::remove_file(bench.scratch.join("archives/x.tar")).unwrap();
    all(&[]);
    run(bench.command(&["cache", "prune", "--older-than", "30d", "--cache-dir"]).arg(&cache)).success();
    for place in places {
        assert!(bench.scratch.join(format!("{place}/{own}")).exists(), "{place}");
        assert!(!bench.scratch.join(format!("{place}/{dead}")).exists(), "{place}");
    }
}
