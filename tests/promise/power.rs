//! Power cuts on real file systems: at each sync and rename of a command, and right after it has succeeded.

use super::injector::{Class, Disturbance, Injector};
use super::scenario::Rehearsed;
use super::scenarios::SCENARIOS;
use super::{Tally, chosen};
use crate::support::{LoopDisk, Scratch, command, run};
use std::process::Stdio;
use std::time::Duration;

/// The most pauses of a millisecond until a command comes to a call, or ends. (While everything is stopped, a clock goes on.)
const PATIENCE: usize = 60_000;

#[test]
fn f5_a_power_cut_at_any_sync_loses_nothing() {
    cuts();
}

pub(super) fn cuts() {
    for kind in LoopDisk::KINDS {
        let Some(disk) = LoopDisk::new(kind) else { continue };
        let mut cuts = Tally::default();
        for (place, scenario) in SCENARIOS.iter().enumerate() {
            let rehearsed = Rehearsed::new(scenario);
            let Some(calls) = rehearsed.calls(Class::Sync) else { return };
            let numbers: Vec<usize> = (1..=calls.len()).collect();
            for number in chosen(&numbers, 2, place) {
                let row = format!("{kind}: {}: power cut at {number}: {:?}", scenario.name, calls[number - 1]);
                cut_at(&rehearsed, &disk, number, &row);
                cuts.add(scenario.command);
            }
            cut_after_success(&rehearsed, &disk, &format!("{kind}: {}: power cut at the end", scenario.name));
            cuts.add(scenario.command);
        }
        eprintln!("power cuts on {kind}: {cuts}");
    }
}

/// Makes a scene on the disk, and makes it durable.
fn scene_on(rehearsed: &Rehearsed, disk: &LoopDisk) -> std::path::PathBuf {
    let scene = disk.join("scene");
    if scene.exists() {
        std::fs::remove_dir_all(&scene).unwrap();
    }
    rehearsed.copy_scene_to(&scene);
    std::fs::write(scene.join("stdin"), rehearsed.scenario.stdin).unwrap();
    run(command("sync").arg("-f").arg(&scene)).success();
    scene
}

/// Runs the command up to its `number`th sync or rename, and cuts the power before that.
fn cut_at(rehearsed: &Rehearsed, disk: &LoopDisk, number: usize, row: &str) {
    let scene = scene_on(rehearsed, disk);
    let aside = Scratch::new();
    let Some(injector) = Injector::new(aside.join("log")) else { return };
    let mut held = injector.disturb(&rehearsed.command(&scene), Class::Sync, Disturbance::Hold, number);
    held.stdin(rehearsed.stdin(aside.path())).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = held.spawn().unwrap();
    let mut pauses = 0;
    while !injector.is_holding() && child.try_wait().unwrap().is_none() {
        assert!(pauses < PATIENCE, "{row}: never comes to that call");
        pauses += 1;
        std::thread::sleep(Duration::from_millis(1));
    }
    // The program that the injector holds ends with it.
    child.kill().unwrap();
    child.wait().unwrap();
    disk.cut_power();
    rehearsed.is_safe(&scene, row);
    rehearsed.finishes_with_any_cache(&scene, row);
}

/// Runs the command to its end, and cuts the power then: exit 0 means durable.
fn cut_after_success(rehearsed: &Rehearsed, disk: &LoopDisk, row: &str) {
    let scene = scene_on(rehearsed, disk);
    let finished = run(rehearsed.command(&scene).stdin(rehearsed.stdin(&scene)));
    assert_eq!(finished.status, 0, "{row}: {finished}");
    disk.cut_power();
    assert!(rehearsed.is_done(&scene, row), "{row}: {:?}", rehearsed.differing(&scene, row));
    rehearsed.finishes_with_any_cache(&scene, row);
}
