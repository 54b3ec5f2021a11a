//! Rows Y and H: robots and recorded environments that are not what they should be, given to the program.

use super::machine::{STAGE, conda};
use crate::catalogue::contract::{Bench, is_cheap};
use crate::catalogue::limits::holds_to_the_number;
use crate::support::hololib::{Recording, Storage, gzip, write_zip};
use crate::support::{Finished, command, consumer_as_root, run, static_program};
use ocibuild::common::limits::Limit;
use ocibuild::common::progress::Silent;
use ocibuild::rcc::{Blueprint, BlueprintOptions};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Tasks without an environment.
const TASKS: &str = "tasks: {a: {shell: python a.py}}\nartifactsDir: output\n";

/// `ocibuild layout` of the robot `robot`, without its environment.
fn direct(bench: &Bench) -> Command {
    let mut command = bench.layout();
    command.args(["-t", "new", "--robot", "robot", "--base", "scratch", "--environment", "direct"]);
    command
}

/// The file of a robot is refused for what it says.
#[track_caller]
fn is_refused(row: &str, text: &str, words: &[&str]) {
    let bench = Bench::keeping();
    bench.scratch.write("robot/robot.yaml", text);
    bench.refuses(row, &mut direct(&bench), words);
}

fn make_pipe(path: &Path) {
    run(command("mkfifo").arg(path)).success();
}

#[test]
fn y1_y2_a_robot_has_a_file_that_is_a_regular_one() {
    let bench = Bench::keeping();
    let robot = bench.scratch.join("robot");
    fs::create_dir(&robot).unwrap();
    bench.refuses("Y1", &mut direct(&bench), &["robot/robot.yaml: not found"]);
    let file = robot.join("robot.yaml");
    fs::create_dir(&file).unwrap();
    bench.refuses("Y2", &mut direct(&bench), &["robot/robot.yaml: not a regular file"]);
    fs::remove_dir(&file).unwrap();
    make_pipe(&file);
    bench.refuses("Y2", &mut direct(&bench), &["robot/robot.yaml: not a regular file"]);
    fs::remove_file(&file).unwrap();
    symlink("/dev/zero", &file).unwrap();
    bench.refuses("Y2", &mut direct(&bench), &["robot/robot.yaml: points outside its directory"]);
}

#[test]
fn y3_y10_a_robot_has_tasks_of_the_right_type() {
    for text in ["", "# only a comment\n", "null\n"] {
        is_refused("Y3", text, &["robot/robot.yaml: empty, so it has no tasks"]);
    }
    is_refused("Y10", "tasks: 3\n", &["robot.yaml:1:8: `tasks`: expected a map, found a number"]);
    is_refused("Y10", &format!("{TASKS}PATH: {{}}\n"), &["robot.yaml:3:7: `PATH`: expected a list, found a map"]);
}

#[test]
fn y5_y9_y17_yaml_that_rcc_would_not_read_is_refused_with_its_place() {
    is_refused("Y5", "tasks:\n\ta: b\n", &["robot/robot.yaml:2:2: not YAML: tabs"]);
    is_refused("Y5", "tasks: 'never closed\n", &["robot/robot.yaml:2:1: not YAML"]);
    is_refused("Y9", &format!("{TASKS}---\na: 1\n"), &["robot/robot.yaml:3:1: more than one document"]);
    is_refused("Y17", "tasks: !!python/object x\n", &["robot.yaml:1:8: unsupported tag `!!python/object`"]);
    is_refused("Y17", "tasks: !mine {a: {shell: b}}\n", &["robot.yaml:1:8: unsupported tag `!mine`"]);
}

#[test]
fn y12_the_environment_file_is_inside_of_the_robot() {
    for path in ["../../etc/passwd", "/etc/passwd"] {
        let text = format!("{TASKS}condaConfigFile: {path}\n");
        is_refused("Y12", &text, &["`condaConfigFile`", &format!("`{path}` is outside the robot directory")]);
    }
    let bench = Bench::keeping();
    bench.scratch.write("robot/robot.yaml", format!("{TASKS}condaConfigFile: conda.yaml\n"));
    symlink("/etc/passwd", bench.scratch.join("robot/conda.yaml")).unwrap();
    bench.refuses("Y12", &mut direct(&bench), &["robot/conda.yaml: points outside its directory"]);
}

/// A layout with an image, and a robot whose environment is recorded.
struct Recorded {
    bench: Bench,
    recording: Recording,
}

impl Recorded {
    fn new() -> Recorded {
        let bench = Bench::keeping();
        bench.scratch.write("rcc", static_program(b""));
        bench.scratch.write("robot/conda.yaml", conda("3"));
        bench.scratch.write("robot/robot.yaml", format!("{TASKS}condaConfigFile: conda.yaml\n"));
        bench.scratch.write("tree/bin/python", format!("#!{STAGE}/bin/python\n{STAGE} and more\n"));
        bench.scratch.write("tree/rcc_activate.json", "{}");
        let recording = record(&bench, "3");
        Recorded { bench, recording }
    }

    fn hololib(&self) -> PathBuf {
        self.bench.scratch.join("home/.robocorp/hololib")
    }

    fn catalog(&self) -> PathBuf {
        self.hololib().join("catalog").join(self.recording.catalog_name())
    }

    /// The path of the object of `bin/python`.
    fn object(&self) -> PathBuf {
        let digest = self.python()["digest"].as_str().unwrap();
        self.hololib().join("library").join(&digest[..2]).join(&digest[2..4]).join(&digest[4..6]).join(digest)
    }

    fn python(&self) -> &Value {
        &self.recording.document["tree"]["subdirs"]["bin"]["files"]["python"]
    }

    /// Changes a member of `bin/python` in the catalog.
    fn with(mut self, member: &str, value: Value) -> Recorded {
        self.recording.document["tree"]["subdirs"]["bin"]["files"]["python"][member] = value;
        self
    }

    /// Lists another file in `bin`.
    fn with_file(mut self, name: &str) -> Recorded {
        let mut file = self.python().clone();
        file["name"] = name.into();
        self.recording.document["tree"]["subdirs"]["bin"]["files"][name] = file;
        self
    }

    fn written(self) -> Recorded {
        self.recording.write(&self.hololib());
        self
    }

    /// `ocibuild layout` of the robot.
    fn command(&self, more: &[&str]) -> Command {
        let mut command = self.bench.layout();
        command.args(["-t", "new", "--robot", "robot", "--base", "oci:out:keep", "--rcc-exec", "rcc"]).args(more);
        command.env("HOME", self.bench.scratch.join("home"));
        command
    }

    #[track_caller]
    fn refuses(self, row: &str, words: &[&str]) {
        let recorded = self.written();
        recorded.bench.refuses(row, &mut recorded.command(&[]), words);
    }

    #[track_caller]
    fn builds(&self, more: &[&str]) -> Finished {
        let finished = run(&mut self.command(more)).success();
        is_cheap("a robot", &finished);
        self.bench.is_intact("a robot");
        finished
    }
}

/// Records the directory `tree` as the environment with the Python of `version`.
fn record(bench: &Bench, version: &str) -> Recording {
    let text = conda(version);
    let blueprint = Blueprint::read(text.as_bytes(), "conda.yaml", &BlueprintOptions::default(), &Silent).unwrap();
    let hash = blueprint.hash().to_string();
    Recording::of(&bench.scratch.join("tree"), STAGE, blueprint.text(), &hash, Storage::Gzip)
}

#[test]
fn h2_h3_h10_names_that_are_no_file_names_are_refused() {
    for (row, name) in [
        ("H2", "a/b"),
        ("H2", "a\\b"),
        ("H3", "/absolute"),
        ("H3", "C:x"),
        ("H3", "\\\\srv\\x"),
        ("H10", ".wh.x"),
        ("H10", ".wh..wh..opq"),
    ] {
        Recorded::new().with_file(name).refuses(row, &["unsafe name", "`bin/"]);
    }
}

#[test]
fn h6_h7_a_name_is_there_once() {
    let mut both = Recorded::new();
    let folder = json!({ "name": "python", "mode": 0o755_u32 | 1 << 31, "subdirs": {}, "files": {} });
    both.recording.document["tree"]["subdirs"]["bin"]["subdirs"]["python"] = folder;
    both.refuses("H6", &["`bin/python`: duplicate name"]);
    let twice = Recorded::new().written();
    let text = twice.recording.document.to_string();
    let entry = format!("\"python\":{}", twice.python());
    let doubled = text.replace(&entry, &format!("{entry},{entry}"));
    assert_ne!(text, doubled);
    fs::write(twice.catalog(), gzip(doubled.as_bytes())).unwrap();
    twice.bench.refuses("H7", &mut twice.command(&[]), &["`bin/python`: duplicate name"]);
}

#[test]
fn h12_h13_h15_sizes_and_digests_are_those_of_the_content() {
    let size = Recorded::new().python()["size"].as_u64().unwrap();
    Recorded::new().with("size", json!(size - 1)).refuses("H12", &["corrupt: expected", "bytes, found more"]);
    Recorded::new().with("size", json!(size + 1)).refuses("H13", &["corrupt: expected", "bytes, found"]);
    let (short, long, upper, mixed) = ("0".repeat(63), "0".repeat(65), "A".repeat(64), "0".repeat(32));
    for digest in ["", "N/A", "../..", &short, &long, &upper] {
        Recorded::new().with("digest", json!(digest)).refuses("H15", &["`bin/python`: invalid digest"]);
    }
    Recorded::new().with("digest", json!(mixed)).refuses("H15", &["digests of two kinds"]);
}

#[test]
fn h26_a_library_file_is_a_regular_file() {
    let make: [fn(&Path); 4] = [
        |path| fs::create_dir(path).unwrap(),
        |path| symlink("elsewhere", path).unwrap(),
        |path| symlink("/dev/zero", path).unwrap(),
        make_pipe,
    ];
    for make in make {
        let recorded = Recorded::new().written();
        fs::remove_file(recorded.object()).unwrap();
        make(&recorded.object());
        recorded.bench.refuses("H26", &mut recorded.command(&[]), &["1 of its 3 library files are missing"]);
    }
}

#[test]
fn h29_h30_offsets_may_be_there_twice_and_in_any_order_and_do_not_overlap() {
    let recorded = Recorded::new().written();
    let layers = |recorded: &Recorded| {
        let built: Value =
            serde_json::from_str(recorded.builds(&["--format", "json", "--environment", "direct"]).text()).unwrap();
        built["layers"].as_array().unwrap().iter().map(|layer| layer["digest"].clone()).collect::<Vec<_>>()
    };
    let expected = layers(&recorded);
    let offsets: Vec<u64> = serde_json::from_value(recorded.python()["rewrite"].clone()).unwrap();
    assert_eq!(offsets.len(), 2);
    let odd = json!([offsets[1], offsets[1], offsets[0]]);
    assert_eq!(layers(&Recorded::new().with("rewrite", odd).written()), expected);
    let overlapping = json!([offsets[0], offsets[0] + 1]);
    Recorded::new().with("rewrite", overlapping).refuses("H30", &["`bin/python`: rewrite offsets", "overlap"]);
}

#[test]
fn h39_the_info_file_is_no_catalog() {
    let recorded = Recorded::new().written();
    let name = format!("{}.info", recorded.recording.catalog_name());
    recorded.bench.refuses("H39", &mut recorded.command(&["--catalog", &name]), &["this is the .info file"]);
}

#[test]
fn h42_a_packed_hololib_has_a_catalog_and_every_file_of_it() {
    let recorded = Recorded::new();
    let zip = recorded.bench.scratch.join("hololib.zip");
    let build = || recorded.command(&["--hololib", "hololib.zip"]);
    let refuses = |files: &[(String, Vec<u8>)], words: &[&str]| {
        write_zip(&zip, files);
        recorded.bench.refuses("H42", &mut build(), words);
    };
    let files = recorded.recording.files();
    let (catalog, objects) = files.split_last().unwrap();
    refuses(objects, &["no catalog"]);
    refuses(&files[1..], &["1 of its", objects[0].0.rsplit('/').next().unwrap()]);
    // Both have the same objects but for what they were made of.
    let others: BTreeMap<String, Vec<u8>> =
        ["1", "2"].iter().flat_map(|version| record(&recorded.bench, version).files()).collect();
    refuses(&others.into_iter().collect::<Vec<_>>(), &["no catalog", "most similar is"]);
    let others = [("readme.txt".to_owned(), b"more".to_vec())];
    write_zip(&zip, &[objects, &others[..], std::slice::from_ref(catalog)].concat());
    run(&mut build()).success();
    recorded.bench.is_intact("H42");
}

#[test]
fn h43_a_library_that_everybody_may_write_to_is_one_warning() {
    let recorded = Recorded::new().written();
    fs::set_permissions(recorded.hololib().join("catalog"), fs::Permissions::from_mode(0o777)).unwrap();
    let finished = recorded.builds(&[]);
    let warnings = finished.stderr.lines().filter(|line| line.contains("writable by every user")).count();
    assert_eq!(warnings, 1, "{finished}");
}

#[test]
fn h44_a_library_on_a_medium_that_cannot_be_written_is_read() {
    let Some(mount) = consumer_as_root("mount") else { return };
    let recorded = Recorded::new();
    let library = recorded.hololib();
    fs::create_dir_all(&library).unwrap();
    run(command(&mount).args(["-t", "tmpfs", "none"]).arg(&library)).success();
    let recorded = recorded.written();
    run(command(&mount).args(["-o", "remount,ro"]).arg(&library)).success();
    assert!(fs::write(library.join("new"), "").is_err());
    let finished = run(&mut recorded.command(&[]));
    run(command("umount").arg(&library)).success();
    assert_eq!(finished.status, 0, "{finished}");
    recorded.bench.is_intact("H44");
}

#[test]
fn c17_c18_a_damaged_library_matters_where_it_is_read() {
    let recorded = Recorded::new().written();
    let cached = |recorded: &Recorded| {
        let mut command = recorded.command(&["--cache-dir", "cache"]);
        command.env_remove("OCIBUILD_NO_CACHE");
        run(&mut command).success().text().to_owned()
    };
    let digest = cached(&recorded);
    fs::write(recorded.object(), gzip(b"damaged")).unwrap();
    assert_eq!(cached(&recorded), digest, "C17");
    recorded.bench.is_intact("C17");
    let missing = recorded.bench.scratch.join("cache");
    fs::remove_dir_all(missing).unwrap();
    recorded.bench.refuses("C18", &mut recorded.command(&[]), &["library/", "corrupt: expected"]);
}

/// The robot with `more` in its file.
fn with_yaml(more: &str) -> Recorded {
    let recorded = Recorded::new().written();
    recorded.bench.scratch.write("robot/robot.yaml", format!("{TASKS}condaConfigFile: conda.yaml\n{more}\n"));
    recorded
}

#[test]
fn y6_y7_y16_yaml_is_read_up_to_its_limits() {
    let nested = |depth: usize| format!("more: {}{}", "[".repeat(depth - 1), "]".repeat(depth - 1));
    with_yaml(&nested(64)).builds(&[]);
    let beyond = with_yaml(&nested(65));
    beyond.bench.refuses("Y7", &mut beyond.command(&[]), &["robot.yaml:", "nesting deeper than 64"]);
    // Each alias is a list of 99.
    let aliases = |number: usize| format!("a: &a [{}]\nb: [{}]", "x,".repeat(99), "*a,".repeat(number));
    with_yaml(&aliases(100)).builds(&[]);
    let beyond = with_yaml(&aliases(101));
    beyond.bench.refuses("Y6", &mut beyond.command(&[]), &["robot.yaml:", "too many aliases"]);
    let long = with_yaml(&"#".repeat((1 << 20) - 200));
    let size = fs::metadata(long.bench.scratch.join("robot/robot.yaml")).unwrap().len();
    long.builds(&[]);
    holds_to_the_number(&long.bench, &|| long.command(&[]), Limit::YamlSize, size, &["robot.yaml: larger than"]);
    let comment = |size: u64| with_yaml(&"#".repeat(usize::try_from(size).unwrap()));
    let others = size - ((1 << 20) - 200);
    comment((1 << 20) - others).builds(&[]);
    let beyond = comment((1 << 20) - others + 1);
    beyond.bench.refuses("Y16", &mut beyond.command(&[]), &["robot.yaml: larger than 1 MiB (OCIBUILD_MAX_YAML_SIZE"]);
}

#[test]
fn h17_directories_of_a_catalog_nest_up_to_the_limit() {
    let nested = |depth: usize| {
        let folder = |below: Value| json!({ "name": "d", "mode": 0o755_u32 | 1 << 31, "subdirs": below, "files": {} });
        let mut recorded = Recorded::new();
        let deepest = (1..depth).fold(folder(json!({})), |below, _| folder(json!({ "d": below })));
        recorded.recording.document["tree"]["subdirs"]["d"] = deepest;
        recorded.written()
    };
    nested(256).builds(&[]);
    let beyond = nested(257);
    beyond.bench.refuses("H17", &mut beyond.command(&[]), &["too deep: more than 256 levels"]);
}

#[test]
fn h18_h20_catalogs_are_read_up_to_the_limits_that_are_set() {
    let recorded = Recorded::new().written();
    let size = serde_json::to_vec_pretty(&recorded.recording.document).unwrap().len() as u64;
    let words = ["catalog ", "larger than"];
    holds_to_the_number(&recorded.bench, &|| recorded.command(&[]), Limit::CatalogSize, size, &words);
    // The image has more.
    let entries = 4;
    let limit = Limit::Entries.variable();
    let mut beyond = recorded.command(&[]);
    let words = ["catalog ", "more than 3 entries", "OCIBUILD_MAX_ENTRIES sets the limit)"];
    recorded.bench.refuses("H18", beyond.env(limit, (entries - 1).to_string()), &words);
    let listed = |entries: u64| {
        let mut list = recorded.bench.command(&["catalogs", "--hololib", "home/.robocorp/hololib"]);
        run(list.env(limit, entries.to_string()).env("HOME", recorded.bench.scratch.join("home"))).success()
    };
    assert!(listed(entries - 1).text().contains("more than 3 entries"), "{}", listed(entries - 1));
    assert!(!listed(entries).text().contains("more than"), "{}", listed(entries));
}

#[test]
fn a31_members_of_a_zip_are_read_up_to_the_limits_that_are_set() {
    let recorded = Recorded::new();
    let zip = recorded.bench.scratch.join("hololib.zip");
    let files = recorded.recording.files();
    write_zip(&zip, &files);
    let listed = |limit: Limit, value: u64| {
        let mut list = recorded.bench.command(&["catalogs", "--hololib", "hololib.zip"]);
        run(list.env(limit.variable(), value.to_string()))
    };
    let members = files.len() as u64;
    listed(Limit::Entries, members).success();
    listed(Limit::Entries, members - 1)
        .ended_with(1)
        .failed_saying("hololib.zip: 4 members, more than 3 (OCIBUILD_MAX_ENTRIES");
    // A central header of 46 bytes and a name for each (APPNOTE.TXT, 4.3.12).
    let directory = files.iter().map(|(name, _)| 46 + name.len() as u64).sum::<u64>();
    listed(Limit::CatalogSize, directory - 1)
        .ended_with(1)
        .failed_saying("central directory of hololib.zip: larger than");
    let at = listed(Limit::CatalogSize, directory);
    assert!(!at.stderr.contains("central directory"), "{at}");
}
