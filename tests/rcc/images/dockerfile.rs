//! A robot's image, built by others from our Dockerfile.

use super::Workshop;
use super::workshop::Outcome;
use crate::dockerfile::built_by_others;
use crate::support::{Scratch, run};

#[test]
fn others_build_the_same_robot_from_a_dockerfile() {
    let Some(workshop) = Workshop::shared_by_tests() else { return };
    for mode in ["sealed", "ready"] {
        others_build(workshop, &["--environment", mode]);
    }
}

#[test]
fn others_build_the_same_layers_of_a_divided_environment() {
    let Some(workshop) = Workshop::with_packages() else { return };
    others_build(workshop, &["--split", "packages"]);
}

fn others_build(workshop: &Workshop, arguments: &[&str]) {
    let scratch = Scratch::new();
    let robot = scratch.join("robot");
    let built = workshop.build(&robot, arguments);
    // The context beside the robot is no part of it; a layout there would be one, but for this command.
    let elsewhere = scratch.join("layout");
    std::fs::rename(&built.layout.path, &elsewhere).unwrap();
    let layout = crate::consumers::Layout::new(elsewhere, &built.layout.tag);
    let base = workshop.base.location();
    let words = [&["dockerfile", "--context", "./context", "--base", &base], arguments].concat();
    run(&mut workshop.ocibuild(&words, &robot)).success();
    let runs = built_by_others(&scratch, &workshop.base, &robot.join("context"), &layout, &built.archive);
    for finished in runs {
        assert!(Outcome::of(&finished) == workshop.on_this_machine[0], "{finished}");
    }
}
