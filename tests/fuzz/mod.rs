//! Fuzz targets: functions that read untrusted bytes. None of them may panic, hang, or allocate without bound.
//!
//! A target is a function in `targets`. Its seeds are the files in `corpus/<target>/`, with every input that was found to
//! do harm; a file that ends in `.hex` holds hexadecimal digits. `cargo test` runs each target on a few thousand mutations of its seeds. A long run takes new mutations
//! until its time is over, for each target:
//!
//! ```text
//! OCIBUILD_FUZZ_SECONDS=600 cargo test --test all fuzz
//! OCIBUILD_FUZZ_SEED=1234 cargo test --test all fuzz::yaml      the mutations of one round again
//! ```
//!
//! The inputs of the targets `made_…` are the decisions of a generator (`structure`), whose archives and documents are right but for
//! what was decided otherwise. `differential` compares what our reader of tars accepts with what other readers read.
//!
//! A target runs in a process of its own with limited memory, so an allocation that is too large ends only that process. The
//! last line that it printed names the round.

mod challenge;
mod differential;
mod mutations;
mod structure;
mod targets;

use crate::support::{command, processor_time, run_within};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant, UNIX_EPOCH};
use targets::{TARGETS, Target};

/// The seed of the round that `cargo test` runs.
const ORDINARY_SEED: u64 = 1;

/// The address space of the process of a target, in KiB. Threads reserve more of it than they use.
const ADDRESS_SPACE: u64 = 4 << 20;

/// The memory that a target may use at once, in KiB, including that of the test binary.
const MEMORY: u64 = 200 << 10;

/// The time that one input may take on the processors, whatever else they do. Most take less than a millisecond.
const SLOWEST: Duration = Duration::from_secs(10);

#[test]
fn tar_archives_never_crash_the_reader() {
    fuzz("tar");
}

#[test]
fn zip_archives_never_crash_the_reader() {
    fuzz("zip");
}

#[test]
fn json_documents_never_crash_the_reader() {
    fuzz("json");
}

#[test]
fn yaml_never_crashes_the_reader() {
    fuzz("yaml");
}

#[test]
fn references_never_crash_the_parser() {
    fuzz("reference");
}

#[test]
fn challenges_never_crash_the_registry_client() {
    fuzz("challenge");
}

#[test]
fn block_lists_never_crash_the_reader() {
    fuzz("block_list");
}

#[test]
fn base_listings_never_crash_the_reader() {
    fuzz("base_listing");
}

#[test]
fn tars_that_are_made_never_crash_the_reader() {
    fuzz("made_tar");
}

#[test]
fn zips_that_are_made_never_crash_the_reader() {
    fuzz("made_zip");
}

#[test]
fn catalogs_that_are_made_never_crash_the_reader() {
    fuzz("made_catalog");
}

#[test]
fn documents_that_are_made_never_crash_the_reader() {
    fuzz("made_document");
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name}: not a number: {value}")))
}

fn time_seed() -> u64 {
    u64::try_from(UNIX_EPOCH.elapsed().unwrap().as_nanos()).unwrap()
}

/// Runs a target in a process of its own.
fn fuzz(target: &str) {
    let seconds = variable("OCIBUILD_FUZZ_SECONDS").unwrap_or(0);
    let ordinary_or_new = || if seconds == 0 { ORDINARY_SEED } else { time_seed() };
    let seed = variable("OCIBUILD_FUZZ_SEED").unwrap_or_else(ordinary_or_new);
    let mut process = command("/bin/sh");
    process.args(["-c", &format!("ulimit -v {ADDRESS_SPACE} && exec \"$@\""), "sh"]);
    process.arg(std::env::current_exe().unwrap()).args(["--exact", "fuzz::run_of_one_target", "--nocapture"]);
    process.env("OCIBUILD_FUZZ_TARGET", target).env("OCIBUILD_FUZZ_SEED", seed.to_string());
    process.env("OCIBUILD_FUZZ_SECONDS", seconds.to_string());
    let finished = run_within(Duration::from_secs(seconds + 300), &mut process).success();
    if seconds > 0 {
        let last = finished.stderr.lines().last().unwrap_or_default().to_owned();
        writeln!(std::io::stderr(), "{last}").unwrap();
    }
}

/// The process that [`fuzz`] starts. Does nothing in an ordinary run.
#[test]
fn run_of_one_target() {
    let Ok(name) = std::env::var("OCIBUILD_FUZZ_TARGET") else { return };
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let end = Instant::now() + Duration::from_secs(variable("OCIBUILD_FUZZ_SECONDS").unwrap());
    let mut seed = variable("OCIBUILD_FUZZ_SEED").unwrap();
    let mut inputs = 0;
    // As they are: among them is what was found before.
    seeds(target.name).iter().for_each(|bytes| (target.read)(bytes));
    loop {
        writeln!(std::io::stderr(), "fuzz::{name}: OCIBUILD_FUZZ_SEED={seed} after {inputs} inputs").unwrap();
        round(target, seed);
        inputs += u64::from(target.inputs);
        seed = seed.wrapping_add(1);
        if Instant::now() >= end {
            break;
        }
    }
    let peak = peak_memory();
    assert!(peak < MEMORY, "{name} used {peak} KiB of memory");
    writeln!(std::io::stderr(), "fuzz::{name}: {inputs} inputs, at most {peak} KiB of memory").unwrap();
}

/// Runs a target on the mutations of one seed of the generator. Panics with the smallest input that fails.
fn round(target: &Target, seed: u64) {
    let config =
        Config { cases: target.inputs, failure_persistence: None, max_shrink_iters: 2000, ..Config::default() };
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &key));
    let inputs = mutations::of_seeds(seeds(target.name), target.words);
    let checked = runner.run(&inputs, |mutated| {
        let bytes = mutated.bytes();
        let before = processor_time();
        (target.read)(&bytes);
        let took = processor_time() - before;
        assert!(took < SLOWEST, "took {took:?} of the processors");
        Ok(())
    });
    if let Err(error) = checked {
        panic!("fuzz::{} with OCIBUILD_FUZZ_SEED={seed}: {error}", target.name);
    }
}

/// Reads the seeds of a target.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
    let mut paths: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{target} has no seeds");
    paths.iter().map(|path| seed(path)).collect()
}

fn seed(path: &Path) -> Vec<u8> {
    let bytes = std::fs::read(path).unwrap();
    if path.extension().is_none_or(|extension| extension != "hex") {
        return bytes;
    }
    let digits: String = String::from_utf8(bytes).unwrap().split_whitespace().collect();
    digits
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// Returns the most memory that this process used at once, in KiB.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_target_that_panics_is_reported_with_its_seed_and_the_smallest_input() {
    let broken =
        Target { name: "yaml", words: &[], inputs: 300, read: |bytes| assert!(bytes.len() % 7 != 3, "planted") };
    let caught = std::panic::catch_unwind(|| round(&broken, 5)).unwrap_err();
    let message = caught.downcast_ref::<String>().unwrap();
    assert!(message.contains("OCIBUILD_FUZZ_SEED=5") && message.contains("planted"), "{message}");
}
