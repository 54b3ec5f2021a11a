//! Garbage is collected while processes are killed, and beside builds, copies, removals and programs that take no lock. Every
//! image that is listed stays whole, and the next collection finishes the job.
//!
//! ```text
//! OCIBUILD_GC_SECONDS=300 cargo test --test all collecting -- --show-output
//! ```

use super::contract::{Bench, is_whole, no_temporaries, tags};
use crate::consumers::{Skopeo, Umoci};
use crate::support::{command, consumer, is_left_out, run};
use ocibuild::Layout;
use std::collections::BTreeMap;
use std::fs;
use std::process::Stdio;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// The number of builders, each with a tag of its own.
const BUILDERS: usize = 20;

/// A layout with the image `keep`, three images without a name, and the temporary file of a killed process.
fn littered() -> Bench {
    let bench = Bench::keeping();
    for content in ["one", "two", "three", "four"] {
        bench.scratch.write("src/file", content);
        run(bench.layout().args(["--tag", "other", "--copy", "src:/srv"])).success();
    }
    bench.scratch.write("out/blobs/sha256/.ocibuild-0123456789abcdef0123456789abcdef", "");
    bench
}

fn blobs(bench: &Bench) -> usize {
    fs::read_dir(bench.out.join("blobs/sha256")).unwrap().count()
}

/// Kills `arguments` at the first, second, … call of `call`, until it ends before. Every time `check` looks at what is left.
fn killed_at_each(call: &str, arguments: &[&str], check: &dyn Fn(&Bench, &str)) {
    let Some(strace) = consumer("strace") else { return };
    for number in 1..1000 {
        let bench = littered();
        let mut traced = command(&strace);
        traced.args(["-f", "-qq", "-o"]).arg(bench.scratch.join("strace.log"));
        traced.args(["-e", &format!("trace={call}"), "-e", &format!("inject={call}:signal=KILL:when={number}")]);
        traced.arg(env!("CARGO_BIN_EXE_ocibuild")).args(arguments).current_dir(bench.scratch.path());
        let finished = run(&mut traced);
        let row = format!("{arguments:?}, killed at {call} {number}");
        assert!(matches!(finished.status, 0 | 137), "{row}: {finished}");
        is_whole(&row, &bench.out);
        assert!(tags(&bench.out).contains(&"keep".to_owned()), "{row}");
        check(&bench, &row);
        // A process that is gone holds no lock.
        run(&mut bench.command(&["gc", "out", "--older-than", "0s", "--lock-timeout", "0"])).success();
        is_whole(&row, &bench.out);
        no_temporaries(&row, &bench.out);
        assert_eq!(blobs(&bench), 3 * tags(&bench.out).len(), "{row}: a manifest, a config and a layer of each image");
        if finished.status == 0 {
            assert!(number > 1, "{row}: there is no such call");
            return;
        }
    }
    panic!("{call} has no end");
}

#[test]
fn a_collection_that_is_killed_at_any_change_loses_nothing() {
    let collect = ["gc", "out", "--older-than", "0s", "--quiet"];
    for call in ["unlinkat", "fsync"] {
        killed_at_each(call, &collect, &|bench, row| assert_eq!(tags(&bench.out), ["keep", "other"], "{row}"));
    }
}

/// Another program may have replaced the index without a sync: after a power cut, the former one would need the blobs.
#[test]
fn the_index_is_durable_before_a_blob_is_removed() {
    let Some(strace) = consumer("strace") else { return };
    let bench = littered();
    let log = bench.scratch.join("strace.log");
    let mut traced = command(&strace);
    traced.args(["-f", "-y", "-qq", "-e", "trace=fsync,unlinkat", "-o"]).arg(&log);
    traced.arg(env!("CARGO_BIN_EXE_ocibuild")).args(["gc", "out", "--older-than", "0s"]);
    run(traced.current_dir(bench.scratch.path())).success();
    let log = fs::read_to_string(log).unwrap();
    let place = |part: &str| log.find(part).unwrap_or_else(|| panic!("no {part}: {log}"));
    assert!(place("out/index.json>)") < place("unlinkat("), "{log}");
}

#[test]
fn a_removal_that_is_killed_at_any_change_loses_nothing_else() {
    for call in ["write", "fsync", "renameat", "unlinkat", "ftruncate"] {
        killed_at_each(call, &["rm", "out:other", "--quiet"], &|_, _| ());
    }
}

/// How often each kind of command was run.
#[derive(Default)]
struct Counts(Mutex<BTreeMap<&'static str, usize>>);

impl Counts {
    fn add(&self, kind: &'static str) {
        *self.0.lock().unwrap().entry(kind).or_default() += 1;
    }
}

#[test]
fn collections_beside_builders_removals_and_copies_lose_nothing() {
    if is_left_out() {
        return;
    }
    let seconds = std::env::var("OCIBUILD_GC_SECONDS").map_or(8, |seconds| seconds.parse().unwrap());
    let end = Instant::now() + Duration::from_secs(seconds);
    let (bench, counts) = (Bench::keeping(), Counts::default());
    let does = |kind, arguments: &[&str]| {
        run(&mut bench.command(arguments)).success();
        counts.add(kind);
    };
    std::thread::scope(|scope| {
        for builder in 0..BUILDERS {
            let (does, scratch) = (&does, &bench.scratch);
            scope.spawn(move || {
                let (source, tag) = (format!("src{builder}"), format!("b{builder}"));
                for round in 0.. {
                    // Blobs come back after they were removed.
                    scratch.write(format!("{source}/file"), format!("{builder} {}", round % 3));
                    does("builds", &["layout", "out", "-q", "-t", &tag, "--copy", &format!("{source}:/srv")]);
                    if round % 4 == 0 {
                        does("verified images", &["verify", "-q", &format!("out:{tag}")]);
                    }
                    if Instant::now() > end {
                        return;
                    }
                }
            });
        }
        scope.spawn(|| {
            while Instant::now() < end {
                does("collections", &["gc", "out", "-q", "--older-than", "0s"]);
            }
        });
        scope.spawn(|| {
            while Instant::now() < end {
                does("copies", &["export", "-q", "out:keep", "oci:out:removed"]);
                does("copies", &["export", "-q", "out:keep", "oci:other"]);
                does("removals", &["rm", "-q", "out:removed"]);
            }
        });
        scope.spawn(|| {
            bench.scratch.write("killed/file", "of a killed build");
            let lines: [&[&str]; 2] = [
                &["gc", "out", "-q", "--older-than", "0s"],
                &["layout", "out", "-q", "-t", "killed", "--copy", "killed:/srv"],
            ];
            for round in 0_u32.. {
                let mut victim = bench.command(lines[round as usize % 2]);
                let mut victim = victim.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
                std::thread::sleep(Duration::from_millis(u64::from(round.wrapping_mul(2_654_435_761) % 400)));
                victim.kill().unwrap();
                victim.wait().unwrap();
                counts.add("kills");
                if Instant::now() > end {
                    return;
                }
            }
        });
    });
    println!("in {seconds} s: {:?}", counts.0.lock().unwrap());
    is_whole("beside each other", &bench.out);
    is_whole("copied", &bench.scratch.join("other"));
    run(&mut bench.command(&["gc", "out", "-q", "--older-than", "0s"])).success();
    is_whole("collected", &bench.out);
    no_temporaries("collected", &bench.out);
    let mut left = tags(&bench.out);
    left.retain(|tag| tag != "killed");
    let mut wanted: Vec<String> = (0..BUILDERS).map(|builder| format!("b{builder}")).collect();
    wanted.push("keep".to_owned());
    wanted.sort();
    assert_eq!(left, wanted);
}

/// Other programs take no lock; what they write is kept by its age.
#[test]
fn collections_beside_skopeo_and_umoci_lose_nothing() {
    if Skopeo::find().is_none() || Umoci::find().is_none() {
        return;
    }
    let bench = Bench::keeping();
    std::thread::scope(|scope| {
        let (stop, halted) = std::sync::mpsc::channel::<()>();
        let bench = &bench;
        scope.spawn(move || {
            while halted.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                let collected = run(&mut bench.command(&["gc", "out", "-q"]));
                // They replace the index in place, so it may be cut off for a moment. Then nothing is removed.
                assert!(collected.status == 0 || collected.stderr.contains("index.json"), "{collected}");
            }
        });
        for round in 0..8 {
            bench.scratch.write("theirs/file", format!("{round}"));
            run(&mut bench.command(&["layout", "source", "-q", "-t", "v1", "--copy", "theirs:/srv"])).success();
            let tag = format!("theirs{}", round % 2);
            let mut skopeo = command("skopeo");
            skopeo.args(["copy", "-q", "oci:source:v1", &format!("oci:out:{tag}")]);
            run(skopeo.current_dir(bench.scratch.path())).success();
            run(&mut bench.command(&["verify", "-q", &format!("out:{tag}")])).success();
            let mut umoci = command("umoci");
            umoci.args(["config", "--image", &format!("out:{tag}"), "--author", &format!("round {round}")]);
            run(umoci.current_dir(bench.scratch.path())).success();
            run(&mut bench.command(&["verify", "-q", &format!("out:{tag}")])).success();
        }
        drop(stop);
    });
    is_whole("beside other programs", &bench.out);
    // skopeo leaves an image whose name it gives to another one without a name.
    let left = Layout::open(&bench.out).unwrap().images().unwrap();
    let mut left: Vec<String> = left.iter().filter_map(|image| Some(image.name.as_ref()?.to_string())).collect();
    left.sort();
    assert_eq!(left, ["keep", "theirs0", "theirs1"]);
}
