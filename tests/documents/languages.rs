//! What the page about languages is given: base images under the names of those of Docker Hub, and a program of each language.

use crate::jobs::runtimes;
use crate::python_environments::real_environment;
use crate::support::{Scratch, consumer, install_script};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Each language with the repository and tag of its base.
const BASES: [(&str, &str); 3] = [
    ("python", "library/python:3.11-slim"),
    ("node", "library/node:20-slim"),
    ("java", "library/eclipse-temurin:17-jre"),
];

/// The languages of the page that need something of this machine.
pub(super) const LANGUAGES: [&str; 5] = ["go", "java", "node", "python", "rust"];

/// A program without packages of others, which could not be fetched.
const SERVER: &str = r#"package main

import (
	"log"
	"os"
	"os/user"
	"time"
)

func main() {
	zone, err := time.LoadLocation(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	who, err := user.Current()
	if err != nil || who.Username != "app" {
		log.Fatalln(who, err)
	}
	if _, err := os.ReadFile("/etc/ssl/certs/ca-certificates.crt"); err != nil {
		log.Fatal(err)
	}
	log.Println(time.Now().In(zone))
}
"#;

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
        // It prints the time in a zone of the image, as a user of the image.
        _ => {
            scratch.write("work/go.mod", "module server.example/server\n\ngo 1.19\n");
            scratch.write("work/cmd/server/main.go", SERVER);
            let settings =
                format!("GOPROXY=off GOFLAGS=-mod=mod GOTOOLCHAIN=local GOPATH='{}'", scratch.join("go").display());
            let script = format!("#!/bin/sh\nexec env {settings} '{}' \"$@\"\n", consumer("go")?.display());
            install_script(&scratch.join("programs/go"), &script);
            None
        }
    };
    let name = BASES.iter().find(|(other, _)| *other == language).map(|(_, name)| *name);
    Some(base.zip(name))
}
