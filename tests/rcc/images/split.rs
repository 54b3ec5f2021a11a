//! Environments that are divided into layers by packages, recorded by the real rcc and run by engines.

use super::Workshop;
use super::engines::Engine;
use super::modes::{AS_OPENSHIFT, is_a_good_hololib, is_clean, runs_as_here};
use super::workshop::Built;
use crate::support::Scratch;
use crate::support::packages::LARGE;

/// The digest of each layer above the base, and what its history calls it.
fn layers(built: &Built) -> Vec<(String, String)> {
    let config = built.layout.config();
    let history = config["history"].as_array().unwrap();
    let named = history.iter().filter_map(|entry| entry["created_by"].as_str()?.strip_prefix("ocibuild: "));
    let layers = built.layout.layers();
    let named: Vec<&str> = named.collect();
    let own = &layers[layers.len() - named.len()..];
    let part = |name: &str| name.rsplit(": ").next().unwrap().to_owned();
    named.iter().zip(own).map(|(name, layer)| (part(name), layer["digest"].as_str().unwrap().to_owned())).collect()
}

#[test]
fn recorded_environments_that_differ_in_one_package_share_all_other_layers() {
    let Some(workshop) = Workshop::with_packages() else { return };
    let scratch = Scratch::new();
    let newer = scratch.join("newer");
    workshop.record_with_newer(&["numpy"], &newer);
    let [before, after] =
        ["before", "newer"].map(|robot| workshop.build(&scratch.join(robot), &["--split", "packages"]));
    let (before, after) = (layers(&before), layers(&after));
    let names: Vec<&str> = before.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names[..4], ["rcc", LARGE[0], LARGE[1], LARGE[2]]);
    assert_eq!(names[names.len() - 2..], ["the rest", "robot"]);
    assert_eq!(before.len(), after.len());
    let moved = before.iter().zip(&after).filter(|(one, other)| one != other).map(|(one, _)| one.0.as_str());
    assert_eq!(moved.collect::<Vec<_>>(), ["numpy", "the rest", "robot"]);
}

#[test]
fn a_robot_with_a_divided_environment_runs_as_it_does_here() {
    let Some(workshop) = Workshop::with_packages() else { return };
    let scratch = Scratch::new();
    for (mode, failed) in [("sealed", 10), ("ready", 10), ("compact", 10), ("direct", 5)] {
        let arguments = ["--split", "packages", "--environment", mode, "--scrub"];
        let built = workshop.build(&scratch.join(mode), &arguments);
        assert!(layers(&built).len() > LARGE.len() + 3);
        let containers: &[&[&str]] = if mode == "ready" { &[&[]] } else { &[&[], AS_OPENSHIFT] };
        runs_as_here(workshop, &built, containers, failed);
        if mode != "direct" {
            is_a_good_hololib(&built);
        }
        if mode == "ready" {
            for engine in Engine::all() {
                is_clean(&engine.run(&[], &engine.load(&built.archive), &["--timeline"]));
            }
        }
    }
}
