//! What the page about languages is given: base images under the names of those of Docker Hub, and a program of each language.

use crate::jobs::{compile_clock, runtimes};
use crate::python_environments::real_environment;
use crate::support::Scratch;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Each language with the repository and tag of its base.
const BASES: [(&str, &str); 3] = [
    ("python", "library/python:3.11-slim"),
    ("node", "library/node:20-slim"),
    ("java", "library/eclipse-temurin:17-jre"),
];

/// The languages of the page that need something of this machine.
pub(super) const LANGUAGES: [&str; 5] = ["java", "node", "python", "rust", "static"];

/// Makes the files of `language` in the directory `work` of `scratch`, and returns its base and the name that this gets in a registry;
/// `None` if this machine does not have what it takes.
pub(super) fn prepare(language: &str, scratch: &Scratch) -> Option<Option<(PathBuf, &'static str)>> {
    let work = scratch.join("work");
    let base = match language {
        "python" => {
            real_environment(scratch, "work/.venv")?;
            scratch.write("work/report.py", "import greet\ngreet.main()\n");
            Some(runtimes::python()?)
        }
        "node" => {
            scratch.write("work/greeter/node_modules/words/index.js", "module.exports = 'good morning'\n");
            scratch.write("work/greeter/main.js", "console.log(require('words'))\n");
            Some(runtimes::node()?)
        }
        "java" => {
            runtimes::jar(&work.join("target/ledger.jar"), "Main")?;
            runtimes::jar(&work.join("target/dependency/other.jar"), "Other")?;
            Some(runtimes::java()?)
        }
        "rust" => {
            // The compiler of this build; the one in the search path may ask a home which it is.
            symlink(Path::new(env!("CARGO")).with_file_name("rustc"), scratch.join("programs/rustc")).unwrap();
            scratch.write("work/tool.rs", "fn main() { println!(\"a tool\") }\n");
            None
        }
        // A stand-in for a program of Go, whose compiler the tests do not install.
        _ => {
            compile_clock(&work.join("server"))?;
            None
        }
    };
    let name = BASES.iter().find(|(other, _)| *other == language).map(|(_, name)| *name);
    Some(base.zip(name))
}
