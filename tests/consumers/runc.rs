//! runc runs what umoci unpacked.

use crate::support::{Finished, Scratch, command, consumer_as_root, run};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The program `runc`, with its state in a scratch directory.
pub(crate) struct Runc {
    program: PathBuf,
    state: Scratch,
}

impl Runc {
    /// Finds the program.
    pub(crate) fn find() -> Option<Runc> {
        Some(Runc { program: consumer_as_root("runc")?, state: Scratch::new() })
    }

    /// Runs the bundle that umoci unpacked, as the image's config says, or the words of `arguments` instead.
    #[track_caller]
    pub(crate) fn run(&self, bundle: &Path, arguments: &[&str]) -> Finished {
        let path = bundle.join("config.json");
        let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        // umoci requires a terminal, and there is no terminal.
        config["process"]["terminal"] = false.into();
        if !arguments.is_empty() {
            config["process"]["args"] = arguments.into();
        }
        std::fs::write(&path, config.to_string()).unwrap();
        // The ID names a cgroup, and those are the whole machine's.
        let id = self.state.path().to_str().unwrap().replace('/', "-");
        let root = self.state.join("root");
        let id = id.trim_start_matches('-');
        run(command(&self.program).arg("--root").arg(root).args(["run", "--bundle"]).arg(bundle).arg(id))
    }
}
