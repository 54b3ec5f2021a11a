//! Random build files beside their command lines.

use super::random_file::{Bench, BothForms, VARIABLES};
use crate::support::random::Random;
use crate::support::{is_left_out, ocibuild, run};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;

/// The number of files.
const FILES: u64 = 48;

/// The members of the schema that no random file has, each with the reason.
const NOT_WRITTEN: [(&str, &str); 9] = [
    ("image", "each file is also written as one of several images"),
    ("import", "each file is also imported by another"),
    ("load", "asks an engine; see `destinations_are_written_down`"),
    ("namespace", "goes with `load`"),
    ("push", "asks a registry; see `destinations_are_written_down`"),
    ("rcc-download", "asks a server; see `registry::rcc_download`"),
    ("rcc-mirror", "goes with `rcc-download`"),
    ("rcc-sha256", "goes with `rcc-download`"),
    ("resolve", "runs rcc; see `rcc::platforms`"),
];

impl Bench {
    /// Runs the program in its directory with the variables, and returns what it prints.
    #[track_caller]
    fn printed(&self, words: &[&str]) -> String {
        let mut command = self.machine.command(".", &[words, &["--quiet"]].concat());
        // The variable would go with `--cache-from` into a command line that contradicts itself.
        run(command.envs(VARIABLES).env("OCIBUILD_NO_CACHE", "0")).success().text().to_owned()
    }
}

#[test]
fn random_files_and_their_command_lines_give_one_digest_and_one_file() {
    if is_left_out() {
        return;
    }
    for seed in 0..FILES {
        let bench = Bench::new();
        let scratch = &bench.machine.scratch;
        let both = BothForms::random(&mut Random::new(seed), &bench);
        let file = both.file();
        scratch.write("random.toml", &file);
        let typed: Vec<&str> = ["layout", "out"].into_iter().chain(both.words.iter().map(String::as_str)).collect();
        let digest = bench.printed(&typed);
        let gives_it = |words: &[&str], file: &str| {
            assert_eq!(bench.printed(words), digest, "{seed}: {words:?}:\n{file}\n{typed:?}");
        };
        gives_it(&["layout", "out", "-f", "random.toml"], &file);
        let as_toml = ["--dry-run", "--format", "toml"];
        let written = bench.printed(&[&typed[..], &as_toml].concat());
        scratch.write("written.toml", &written);
        gives_it(&["layout", "out", "-f", "written.toml"], &written);
        let again = bench.printed(&[&["layout", "out", "-f", "written.toml"][..], &as_toml].concat());
        assert_eq!(again, written, "{seed}");
        if both.has_output {
            gives_it(&["build", "-f", "random.toml"], &file);
            gives_it(&["build", "-f", "written.toml"], &written);
        }
        // Imported by another file, in another directory, and as one of several images.
        fs::create_dir_all(scratch.join("sub")).unwrap();
        scratch.write("sub/several.toml", "import = [\"../random.toml\"]\n[[image]]\nname = \"i\"\n");
        gives_it(&["layout", "out", "-f", "sub/several.toml"], &file);
        let image = both.file_with_an_image();
        scratch.write("image.toml", &image);
        gives_it(&["layout", "out", "-f", "image.toml"], &image);
    }
}

/// The members of a part of the schema: keys, and the parts of their tables.
fn members(schema: &Value, prefix: &str, found: &mut BTreeSet<String>) {
    for (name, member) in schema["properties"].as_object().into_iter().flatten() {
        found.insert(format!("{prefix}{name}"));
        if name != "image" {
            members(member, &format!("{prefix}{name}."), found);
        }
    }
    for part in schema["anyOf"].as_array().into_iter().flatten() {
        members(part, prefix, found);
    }
    if schema["items"].is_object() {
        members(&schema["items"], prefix, found);
    }
}

/// What a file can have is in the random files, so that a new key or part of a table is tried as well.
#[test]
fn random_files_have_every_member_of_the_schema() {
    let schema = run(ocibuild().args(["init", "--schema"])).success();
    let mut known = BTreeSet::new();
    members(&serde_json::from_str(schema.text()).unwrap(), "", &mut known);
    assert!(known.contains("copy.exclude") && known.contains("timezones.from"), "{known:?}");
    let bench = Bench::new();
    let files = (0..FILES).map(|seed| BothForms::random(&mut Random::new(seed), &bench));
    let mut written: BTreeSet<String> = files.flat_map(|both| both.members).collect();
    for (member, reason) in NOT_WRITTEN {
        assert!(written.insert(member.to_owned()), "{member} is written, and has the exception: {reason}");
    }
    assert_eq!(known.difference(&written).collect::<Vec<_>>(), Vec::<&String>::new(), "in the schema, never written");
    assert_eq!(written.difference(&known).collect::<Vec<_>>(), Vec::<&String>::new(), "written, not in the schema");
}

/// Engines and registries are not asked in a dry run.
#[test]
fn destinations_are_written_down() {
    let bench = Bench::new();
    let dry = |words: &[&str]| bench.printed(&[&["build"], words, &["--dry-run", "--format", "toml"]].concat());
    let engines = ["--load=docker", "--load=containerd", "--namespace=k8s.io", "--push", "-o", "oci-archive:a.tar"];
    let image = ["-t", "localhost:1/team/app:v1", "--copy=app:/app"];
    let written = dry(&[&engines[..], &image].concat());
    for line in [
        "output = [\"oci-archive:a.tar\"]",
        "namespace = \"k8s.io\"",
        "push = true",
        "load = [\"docker\", \"containerd\"]",
    ] {
        assert!(written.lines().any(|written| written == line), "no {line} in {written}");
    }
    bench.machine.scratch.write("written.toml", &written);
    assert_eq!(dry(&["-f", "written.toml"]), written);
}
