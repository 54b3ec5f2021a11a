//! A machine with hololibs of our own making, and robots that need what is in them. It takes no rcc.

use crate::support::hololib::{Recording, Storage};
use crate::support::{Finished, Scratch, ocibuild, run, static_program};
use flate2::read::MultiGzDecoder;
use ocibuild::codec::tar::{Headers, TarEntry};
use ocibuild::common::progress::Silent;
use ocibuild::rcc::{Blueprint, BlueprintOptions};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Read};
use std::path::Path;
use std::process::Command;

/// Where every environment was recorded.
pub(crate) const STAGE: &str = "/home/robot/.robocorp/holotree/hdc4d952_493f813dad24d3t";

/// A home with products below it, and a directory with robots.
pub(crate) struct Machine {
    pub(crate) scratch: Scratch,
}

impl Machine {
    pub(crate) fn new() -> Machine {
        let machine = Machine { scratch: Scratch::new() };
        machine.scratch.write("rcc", static_program(b""));
        machine
    }

    /// Writes a robot that needs the Python of `version`, with `more` in its file.
    pub(crate) fn robot(&self, directory: &str, version: &str, more: &str) {
        self.scratch.write(format!("{directory}/conda.yaml"), conda(version));
        let text = "tasks:\n  Run:\n    shell: python task.py\ncondaConfigFile: conda.yaml\nartifactsDir: output\n";
        self.scratch.write(format!("{directory}/robot.yaml"), format!("{text}{more}"));
    }

    /// Writes a robot without an environment, whose file is `text`.
    pub(crate) fn shell_robot(&self, directory: &str, text: &str) {
        self.scratch.write(format!("{directory}/robot.yaml"), text);
    }

    /// Records the environment with the Python of `version` below `home`, and returns its blueprint hash.
    pub(crate) fn record(&self, home: &str, version: &str) -> String {
        let tree = self.scratch.join(format!("tree-{version}"));
        fs::create_dir_all(tree.join("bin")).unwrap();
        fs::write(tree.join("bin/python"), format!("python {version}")).unwrap();
        fs::write(tree.join("rcc_activate.json"), "{}").unwrap();
        let blueprint = blueprint(version);
        let hash = blueprint.hash().to_string();
        let recording = Recording::of(&tree, STAGE, blueprint.text(), &hash, Storage::Gzip);
        recording.write(&self.scratch.join(home).join("hololib"));
        hash
    }

    /// As [`Machine::record`], on linux/arm64 and into the hololib `hololib`.
    pub(crate) fn record_on_arm(&self, hololib: &str, version: &str) {
        let tree = self.scratch.join(format!("arm-tree-{version}"));
        fs::create_dir_all(tree.join("bin")).unwrap();
        fs::write(tree.join("bin/python"), format!("python {version} for arm64")).unwrap();
        fs::write(tree.join("rcc_activate.json"), "{}").unwrap();
        let blueprint = blueprint(version);
        let stage = "/home/robot/.robocorp/holotree/hdc4d952_eb558489e116a1t";
        let mut recording = Recording::of(&tree, stage, blueprint.text(), &blueprint.hash().to_string(), Storage::Gzip);
        recording.document["platform"] = "linux_arm64".into();
        recording.write(&self.scratch.join(hololib));
    }

    /// Writes a robot that needs the environment `conda`, and records that with more files below `home`.
    pub(crate) fn robot_of(&self, directory: &str, conda: &str, home: &str, more: &[(&str, &str)]) {
        self.robot_stored(directory, conda, home, more, Storage::Gzip);
    }

    /// As [`Machine::robot_of`], with the objects of the environment in the form `storage`.
    pub(crate) fn robot_stored(
        &self,
        directory: &str,
        conda: &str,
        home: &str,
        more: &[(&str, &str)],
        storage: Storage,
    ) {
        self.robot(directory, "3", "");
        self.scratch.write(format!("{directory}/conda.yaml"), conda);
        let tree = self.scratch.join(format!("{directory}-tree"));
        for (name, content) in [&[("rcc_activate.json", "{}"), ("bin/python", "python")], more].concat() {
            self.scratch.write(format!("{directory}-tree/{name}"), content);
        }
        let blueprint = Blueprint::read(conda.as_bytes(), "conda.yaml", &BlueprintOptions::default(), &Silent).unwrap();
        let hash = blueprint.hash().to_string();
        let recording = Recording::of(&tree, STAGE, blueprint.text(), &hash, storage);
        recording.write(&self.scratch.join(home).join("hololib"));
    }

    /// The program, with the machine's home, in `directory`.
    pub(crate) fn command(&self, directory: &str, words: &[&str]) -> Command {
        let mut command = ocibuild();
        command.args(words).env("HOME", self.scratch.join("home")).current_dir(self.scratch.join(directory));
        command
    }

    /// `ocibuild layout` of the robot in `directory`, on scratch, into `directory.out`.
    pub(crate) fn layout(&self, directory: &str, more: &[&str]) -> Finished {
        let (out, rcc) = (self.scratch.join(format!("{directory}.out")), self.scratch.join("rcc"));
        let words = ["layout", out.to_str().unwrap(), "--base", "scratch", "--rcc-exec", rcc.to_str().unwrap()];
        run(&mut self.command(directory, &[&words[..], more].concat()))
    }

    /// The plan of the same image.
    #[track_caller]
    pub(crate) fn plan(&self, directory: &str, more: &[&str]) -> Value {
        let finished = self.layout(directory, &[&["--dry-run", "--format", "json"], more].concat()).success();
        serde_json::from_str(finished.text()).unwrap()
    }

    /// Builds that image, and returns the entries of its layers with their content, the last layer's winning.
    #[track_caller]
    pub(crate) fn files(&self, directory: &str, more: &[&str]) -> BTreeMap<String, (TarEntry, Vec<u8>)> {
        let finished = self.layout(directory, &[&["--format", "json", "--quiet"], more].concat()).success();
        let built: Value = serde_json::from_str(finished.text()).unwrap();
        files_of(&self.scratch.join(format!("{directory}.out")), &built)
    }
}

/// The entries of all layers in the layout at `out`, in the order of `built`.
pub(crate) fn files_of(out: &Path, built: &Value) -> BTreeMap<String, (TarEntry, Vec<u8>)> {
    let mut files = BTreeMap::new();
    for layer in built["layers"].as_array().unwrap() {
        let digest = layer["digest"].as_str().unwrap().trim_start_matches("sha256:");
        let blob = fs::read(out.join("blobs/sha256").join(digest)).unwrap();
        let mut tar = Vec::new();
        match blob.starts_with(&[0x1f, 0x8b]) {
            true => drop(MultiGzDecoder::new(&blob[..]).read_to_end(&mut tar).unwrap()),
            false => tar = blob,
        }
        let (mut source, mut headers) = (Cursor::new(&tar), Headers::new("layer"));
        while let Some(entry) = headers.next(&mut source).unwrap() {
            let content = tar[entry.offset as usize..][..entry.size as usize].to_vec();
            source.set_position(headers.position());
            let path = String::from_utf8_lossy(&entry.path).trim_end_matches('/').to_owned();
            files.insert(path, (entry, content));
        }
    }
    files
}

pub(crate) fn conda(version: &str) -> String {
    format!("channels: [conda-forge]\ndependencies: [python={version}]\n")
}

fn blueprint(version: &str) -> Blueprint {
    Blueprint::read(conda(version).as_bytes(), "conda.yaml", &BlueprintOptions::default(), &Silent).unwrap()
}
