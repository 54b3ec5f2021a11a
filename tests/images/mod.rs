//! The names of images, and their meaning in arguments (`docs/images.md`).

mod building;
mod completing;
mod directories;
mod edit;
mod engines;
mod extract;
mod files;
mod foreign;
mod garbage;
mod grammar;
mod into_index;
mod listing;
mod names;
mod platforms;
mod rebase;
mod referrers;
mod removing;
mod repairing;
mod squash;

use crate::support::{Finished, Scratch, ocibuild, run};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;

/// A directory with the sources `a` and `b`, in which commands are run.
struct Yard {
    scratch: Scratch,
}

impl Yard {
    fn new() -> Yard {
        let scratch = Scratch::new();
        scratch.write("a/file", "a");
        scratch.write("b/file", "b");
        Yard { scratch }
    }

    fn command(&self, line: &str) -> Command {
        let mut command = ocibuild();
        command.current_dir(self.scratch.path()).args(line.split_ascii_whitespace());
        command.env("OCIBUILD_CACHE_DIR", self.scratch.join("cache"));
        command
    }

    /// Runs a command line whose words contain no blanks.
    fn run(&self, line: &str) -> Finished {
        run(&mut self.command(line))
    }

    /// Returns the output of a command that must succeed.
    fn text(&self, line: &str) -> String {
        self.run(line).success().text().to_owned()
    }

    fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.text(&format!("{line} --format json"))).unwrap()
    }

    /// Asserts a usage error that contains all of `parts`.
    #[track_caller]
    fn refuses(&self, line: &str, parts: &[&str]) {
        let finished = self.run(line).ended_with(2);
        for part in parts {
            assert!(finished.stderr.contains(part), "expected {part:?} of {finished}");
        }
        assert_eq!(finished.stderr.lines().count(), 1, "{finished}");
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.scratch.path()).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "cache")
            .collect();
        names.sort();
        names
    }

    /// Stores a blob in the layout `layout` and returns its descriptor.
    fn blob(&self, layout: &str, media_type: &str, bytes: &[u8]) -> Value {
        let digest = ocibuild::Digest::of(bytes);
        fs::write(self.scratch.join(layout).join("blobs/sha256").join(digest.hex()), bytes).unwrap();
        json!({"mediaType": media_type, "digest": digest.to_string(), "size": bytes.len()})
    }

    /// Edits the manifests that a layout lists.
    fn edit_index(&self, layout: &str, edit: impl FnOnce(&mut Vec<Value>)) {
        let file = self.scratch.join(layout).join("index.json");
        let mut index = read(&file);
        edit(index["manifests"].as_array_mut().unwrap());
        fs::write(file, index.to_string()).unwrap();
    }
}

fn read(file: &Path) -> Value {
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}
