//! The rooms of the library, which are the folders of `src`, and the imports between them.

use super::imports::Imports;
use super::{code, sources, src};
use std::fs;
use std::path::Path;

/// The rooms, from the command line down to what everything else uses. A room imports only from those below it.
const ROOMS: &[&str] = &[
    "cli",
    "robot_image",
    "build",
    "rcc",
    "cache",
    "registry",
    "layers",
    "store",
    "spec",
    "codec",
    "common",
    "secrets",
];

/// The most imports from room to room: more of them, and no room can be read on its own.
const MOST_ARROWS: usize = 60;

#[test]
fn every_folder_of_the_sources_is_a_room() {
    for entry in fs::read_dir(src()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(ROOMS.contains(&name.as_str()) || name == "lib.rs" || name == "main.rs", "{name} is no room");
    }
    assert!(ROOMS.len() <= 12);
}

#[test]
fn a_room_imports_only_from_rooms_below_it() {
    let place = |room: &str| ROOMS.iter().position(|known| *known == room).unwrap();
    let arrows = Imports::of_sources().between_rooms();
    let upwards: Vec<_> = arrows.iter().filter(|(from, to)| place(from) > place(to)).collect();
    assert!(upwards.is_empty(), "{upwards:?}");
    assert!(arrows.len() <= MOST_ARROWS, "{} arrows between rooms", arrows.len());
    assert!(arrows.contains(&("cli".to_owned(), "build".to_owned())), "imports are found");
}

#[test]
fn no_files_import_from_each_other_in_a_circle() {
    assert_eq!(Imports::of_sources().circle(), None);
}

/// The most lines of code in a file, without its tests.
const MOST_LINES: usize = 500;

#[test]
fn files_are_short() {
    for file in sources(&src()) {
        let lines = code(&file).lines().count();
        assert!(lines <= MOST_LINES, "{} has {lines} lines", file.display());
    }
}

/// The module at the top level that a file belongs to.
fn module_of(file: &Path) -> String {
    let relative = file.strip_prefix(src()).unwrap();
    let first = relative.components().next().unwrap().as_os_str().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

#[test]
fn only_the_command_line_prints_or_asks_the_machine() {
    for file in sources(&src()) {
        if module_of(&file) == "cli" {
            continue;
        }
        let text = code(&file);
        for forbidden in ["println!", "eprintln!", "env::var", "home_dir", "stdout()", "stderr()"] {
            let documented_only =
                text.lines().filter(|line| line.contains(forbidden)).all(|line| line.trim_start().starts_with("//"));
            assert!(documented_only, "{} uses {forbidden}", file.display());
        }
    }
}
