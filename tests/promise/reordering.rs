//! Power cuts on a model of a disk that writes what it wants in the order it wants: every state that one may leave, made of a
//! recording of the command, is judged.
//!
//! By default these are the states of some commands; with `OCIBUILD_PROMISE=all`, those of all, many more of each where they
//! cannot all be tried. On some of the states the command runs again.

use super::recording::{Kind, Recording, record};
use super::scenario::{IGNORED, Rehearsed};
use super::scenarios::SCENARIOS;
use super::{is_complete, scenario::Scenario};
use crate::support::Scratch;
use crate::support::random::Random;
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The scenarios that run by default: of each way to write one.
const SOME: [&str; 5] = [
    "a new layout",
    "another image of a layout",
    "an archive with another image",
    "two more names",
    "blobs that nothing needs",
];

/// The scenarios that run.
fn wanted() -> impl Iterator<Item = &'static Scenario> {
    SCENARIOS.iter().filter(|scenario| is_complete() || SOME.contains(&scenario.name))
}

#[test]
fn f5_f6_no_order_of_writes_and_no_torn_write_loses_anything() {
    every_state();
}

pub(super) fn every_state() {
    let (mut states, mut changes, mut scenarios) = (0, 0, 0);
    for scenario in wanted() {
        let rehearsed = Rehearsed::new(scenario);
        let Some(recording) = recorded(&rehearsed) else { return };
        let judged = judged(&rehearsed, &recording);
        eprintln!("{}: {} changes, {judged} states that a power cut may leave", scenario.name, recording.changes());
        states += judged;
        changes += recording.changes();
        scenarios += 1;
    }
    eprintln!("{states} states of {changes} changes of {scenarios} scenarios");
}

fn recorded(rehearsed: &Rehearsed) -> Option<Recording> {
    let scene = rehearsed.scene();
    let stdin = rehearsed.stdin(scene.path());
    let (finished, recording) = record(&rehearsed.command(scene.path()), scene.path(), stdin)?;
    assert_eq!(finished.status, 0, "{}: {finished}", rehearsed.scenario.name);
    assert!(rehearsed.is_done(scene.path(), rehearsed.scenario.name));
    // What is pulled is in the cache.
    let is_pull = rehearsed.scenario.command == "pull";
    let ignored: Vec<&str> = IGNORED.iter().copied().filter(|name| !(is_pull && *name == "cache")).collect();
    Some(recording.ignoring(&ignored))
}

/// Judges the states that power cuts may leave. Returns how many there were.
fn judged(rehearsed: &Rehearsed, recording: &Recording) -> usize {
    let (most, again) = if is_complete() { (512, 20) } else { (64, 25) };
    let mut random = Random::new(1);
    let mut seen = HashSet::new();
    let cuts = recording.cuts();
    let end = cuts.last().copied();
    for cut in cuts {
        for outcome in recording.outcomes(cut, most, &mut random) {
            let is_end = Some(cut) == end;
            if !seen.insert((is_end, recording.fingerprint(&outcome.disk))) {
                continue;
            }
            let row = format!("{}: {}", rehearsed.scenario.name, outcome.row);
            let scene = Scratch::new();
            recording.write(&outcome.disk, scene.path());
            rehearsed.is_safe(scene.path(), &row);
            if is_end {
                assert!(rehearsed.is_done(scene.path(), &row), "{row}: {:?}", rehearsed.differing(scene.path(), &row));
            }
            if seen.len() % again == 0 {
                rehearsed.finishes_with_any_cache(scene.path(), &row);
            }
        }
    }
    seen.len()
}

/// Which syncs are made: of files and directories with their names.
type Syncs = fn(Kind, &str) -> bool;

/// A program that left out syncs would be found: the same recordings, without some of their syncs.
#[test]
fn f5_f6_a_sync_that_is_left_out_is_found() {
    let rehearsed = |name: &str| Rehearsed::new(SCENARIOS.iter().find(|scenario| scenario.name == name).unwrap());
    let builds: [(&str, Syncs); 3] = [
        ("the content of files", |kind, _| kind != Kind::File),
        ("the names of blobs", |kind, name| kind != Kind::Directory || name != "sha256"),
        ("the name of the index", |kind, name| kind != Kind::Directory || name != "out"),
    ];
    is_found(&rehearsed("another image of a layout"), &builds);
    is_found(
        &rehearsed("blobs that nothing needs"),
        &[("the names of blobs", |kind, name| kind != Kind::Directory || name != "sha256")],
    );
    is_found(
        &rehearsed("an archive with another image"),
        &[("the content of the archive", |kind, _| kind != Kind::File)],
    );
}

fn is_found(rehearsed: &Rehearsed, mistakes: &[(&str, Syncs)]) {
    let Some(recording) = recorded(rehearsed) else { return };
    for (mistake, is_made) in mistakes {
        let recording = recording.with_syncs(is_made);
        let found = catch_unwind(AssertUnwindSafe(|| judged(rehearsed, &recording)));
        assert!(found.is_err(), "{}: not found: no sync of {mistake}", rehearsed.scenario.name);
    }
}
