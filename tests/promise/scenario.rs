//! A scenario: what is there, what is typed, and what has to hold after whatever happens.

use super::injector::{Call, Class, Disturbance, Injector};
use super::scenarios::Again;
use super::tree::{self, Tree, is_temporary, unexpected};
use crate::catalogue::contract::Bench;
use crate::consumers;
use crate::registry::server::{Server, Shelf};
use crate::registry::shared_cache::write_machine;
use crate::support::{Finished, Scratch, ocibuild, run, static_program};
use ocibuild::Digest;
use ocibuild::common::progress::Silent;
use ocibuild::spec::{Index, media_type};
use ocibuild::store::verify;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

/// The note that a directory is being extracted, and not complete.
pub(super) const UNFINISHED: &str = "tree/.ocibuild-unfinished";

/// A command line, and what is there before.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scenario {
    pub(super) name: &'static str,
    /// The command as the help lists it.
    pub(super) command: &'static str,
    pub(super) line: &'static str,
    pub(super) stdin: &'static str,
    pub(super) prepare: fn(&Stage),
    pub(super) again: Again,
}

impl Scenario {
    pub(super) const NONE: Scenario =
        Scenario { name: "", command: "", line: "", stdin: "", prepare: |_| {}, again: Again::Same };
}

/// What is not part of a result: files of the tests, and the cache, which only makes later commands faster. `cache verify` judges
/// it.
pub(super) const IGNORED: &[&str] = &["cache", "home", "log", "stdin"];

/// The bases in the cache, which are the result of `pull`.
const BASES: &str = "cache/bases";

/// A directory and a registry with everything that a scenario needs.
pub(super) struct Stage {
    pub(super) bench: Bench,
    server: Server,
    shelf: Shelf,
}

impl Stage {
    /// Makes what is there before the command: the layout `out` with the image `keep`, a directory `src`, and an image in the
    /// registry.
    pub(super) fn new(scenario: &Scenario) -> Stage {
        let bench = Bench::keeping();
        bench.scratch.write("src/a/file", "content\n");
        bench.scratch.write("src/b", "more\n");
        let (server, shelf) = Server::with_shelf(|x, shelf| shelf.serve(x));
        let stage = Stage { bench, server, shelf };
        stage.run("export out:keep docker://{HOST}/team/base:v1 --plain-http {HOST}");
        (scenario.prepare)(&stage);
        stage
    }

    pub(super) fn write(&self, path: &str, text: &str) {
        self.bench.scratch.write(path, text);
    }

    /// Overwrites the manifest of the image `other` in a layout, and removes its layers.
    pub(super) fn damage(&self, layout: &str) {
        let image = consumers::Layout::new(self.bench.scratch.join(layout), "other");
        for layer in image.layers() {
            fs::remove_file(image.blob(layer["digest"].as_str().unwrap())).unwrap();
        }
        let config = image.blob(&image.config_digest());
        fs::remove_file(&config).unwrap();
        fs::write(config, "damaged").unwrap();
    }

    /// Writes a robot and its recorded environment.
    pub(super) fn record_environment(&self) {
        self.bench.scratch.write("rcc", static_program(b"rcc"));
        write_machine(&self.bench.scratch, "machine");
    }

    /// Runs a command that has to succeed.
    pub(super) fn run(&self, line: &str) {
        run(&mut self.command(line, self.bench.scratch.path())).success();
    }

    /// Returns the program with the arguments `line`, below `directory`.
    fn command(&self, line: &str, directory: &Path) -> Command {
        let catalogs = directory.join("machine/hololib/catalog");
        let catalog = fs::read_dir(catalogs).into_iter().flatten().map(|entry| entry.unwrap().file_name()).next();
        let catalog = catalog.map(|name| format!("machine/hololib/catalog/{}", name.display())).unwrap_or_default();
        let line = line.replace("{HOST}", &self.server.host()).replace("{CATALOG}", &catalog);
        let mut command = ocibuild();
        command.args(line.split_whitespace()).arg("--quiet").current_dir(directory);
        if line.contains("--cache-dir") {
            command.env_remove("OCIBUILD_NO_CACHE");
        }
        command.env("TMPDIR", directory.join("home")).env("HOME", directory.join("home"));
        command
    }

    /// Returns the names and manifests of the registry, whose blobs must all be there.
    fn published(&self, row: &str) -> BTreeMap<String, String> {
        let mut published = BTreeMap::new();
        for repository in ["team/base", "team/app", "team/cache"] {
            for tag in self.shelf.tags(repository) {
                let bytes = self.shelf.manifest(repository, &tag).unwrap();
                let document: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
                for listed in document["manifests"].as_array().into_iter().flatten() {
                    let manifest = self.shelf.manifest(repository, listed["digest"].as_str().unwrap());
                    let manifest = manifest.unwrap_or_else(|| panic!("{row}: {tag} lacks {}", listed["digest"]));
                    self.has_blobs(repository, &serde_json::from_slice(&manifest).unwrap(), row);
                }
                self.has_blobs(repository, &document, row);
                published.insert(format!("{repository}:{tag}"), Digest::of(&bytes).to_string());
            }
        }
        published
    }
}

impl Stage {
    /// Asserts that the registry has the config and the layers of a manifest; an index has none.
    #[track_caller]
    fn has_blobs(&self, repository: &str, manifest: &serde_json::Value, row: &str) {
        let blobs = manifest["layers"].as_array().into_iter().flatten().chain(manifest.get("config"));
        for digest in blobs.map(|blob| blob["digest"].as_str().unwrap().parse().unwrap()) {
            assert!(self.shelf.blob(repository, digest).is_some(), "{row}: {repository} lacks {digest}");
        }
    }
}

/// Returns what `verify` finds wrong in a layout, without the layout's path.
fn faults(layout: &Path) -> Vec<String> {
    if !layout.join("oci-layout").exists() {
        return Vec::new();
    }
    let report = verify::verify(layout, &Silent).unwrap_or_else(|error| panic!("{}: {error}", layout.display()));
    let path = layout.display().to_string();
    report.faults.iter().map(|fault| fault.to_string().replace(&path, "")).collect()
}

/// What is there: files, and names in the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct State {
    tree: Tree,
    published: BTreeMap<String, String>,
}

/// A scenario whose command was run undisturbed.
pub(super) struct Rehearsed {
    pub(super) scenario: &'static Scenario,
    stage: Stage,
    before: State,
    after: State,
}

/// A run that was disturbed.
pub(super) struct Disturbed {
    pub(super) finished: Finished,
    pub(super) calls: Vec<Call>,
}

impl Rehearsed {
    /// Runs the command once to know what it does.
    pub(super) fn new(scenario: &'static Scenario) -> Rehearsed {
        let stage = Stage::new(scenario);
        let before =
            State { tree: tree::read(stage.bench.scratch.path(), IGNORED), published: stage.published("before") };
        let mut rehearsed = Rehearsed { scenario, after: before.clone(), stage, before };
        let scene = rehearsed.scene();
        rehearsed.run_again(scene.path(), scenario.name);
        rehearsed.after = rehearsed.state(scene.path(), scenario.name);
        rehearsed
    }

    /// Returns a copy of what is there before the command.
    pub(super) fn scene(&self) -> Scratch {
        let scene = Scratch::new();
        self.copy_scene_to(scene.path());
        scene
    }

    /// Makes a copy of what is there before the command in `directory`.
    pub(super) fn copy_scene_to(&self, directory: &Path) {
        tree::copy(self.stage.bench.scratch.path(), directory);
        fs::create_dir_all(directory.join("home")).unwrap();
        self.reset_registry();
    }

    fn reset_registry(&self) {
        for repository in ["team/app", "team/cache"] {
            self.stage.shelf.forget(repository);
        }
    }

    pub(super) fn command(&self, directory: &Path) -> Command {
        self.stage.command(self.scenario.line, directory)
    }

    /// Returns the calls that the command makes if it is not disturbed.
    pub(super) fn calls(&self, class: Class) -> Option<Vec<Call>> {
        let scene = self.scene();
        let disturbed = self.disturb(scene.path(), class, Disturbance::None, 0)?;
        assert_eq!(disturbed.finished.status, 0, "{}: {}", self.scenario.name, disturbed.finished);
        Some(disturbed.calls)
    }

    /// Runs the command with a disturbance at call `number`.
    pub(super) fn disturb(
        &self,
        scene: &Path,
        class: Class,
        disturbance: Disturbance,
        number: usize,
    ) -> Option<Disturbed> {
        let injector = Injector::new(scene.join("log"))?;
        let mut command = injector.disturb(&self.command(scene), class, disturbance, number);
        command.stdin(self.stdin(scene));
        let finished = run(&mut command);
        Some(Disturbed { finished, calls: injector.calls(scene) })
    }

    pub(super) fn stdin(&self, directory: &Path) -> File {
        fs::write(directory.join("stdin"), self.scenario.stdin).unwrap();
        File::open(directory.join("stdin")).unwrap()
    }

    fn state(&self, scene: &Path, row: &str) -> State {
        let mut tree = tree::read(scene, IGNORED);
        if self.scenario.command == "pull" {
            let bases = tree::read(&scene.join(BASES), &[]);
            tree.extend(bases.into_iter().map(|(path, node)| (format!("{BASES}/{path}"), node)));
        }
        State { tree, published: self.stage.published(row) }
    }

    /// Whether the command has done all of its work.
    pub(super) fn is_done(&self, scene: &Path, row: &str) -> bool {
        self.state(scene, row) == self.after
    }

    /// Returns the paths at which the result is not that of an undisturbed run.
    pub(super) fn differing(&self, scene: &Path, row: &str) -> Vec<String> {
        let now = self.state(scene, row);
        unexpected(&now.tree, &self.after.tree, &self.after.tree).into_iter().cloned().collect()
    }

    /// Asserts what holds at every moment: earlier images are whole, every name leads to all of its blobs, and every file is as it
    /// was or as it will be.
    #[track_caller]
    pub(super) fn is_safe(&self, scene: &Path, row: &str) {
        let now = self.state(scene, row);
        let is_unfinished = now.tree.contains_key(UNFINISHED);
        for path in unexpected(&now.tree, &self.before.tree, &self.after.tree) {
            if is_unfinished && path.starts_with("tree") {
                continue;
            }
            let is_index = path.ends_with("index.json") && now.tree.contains_key(path);
            assert!(
                is_temporary(path) || is_index,
                "{row}: {path} is {:?}, neither as before nor as after",
                now.tree.get(path)
            );
        }
        for path in now.tree.keys().filter(|path| path.ends_with("oci-layout")) {
            let layout = scene.join(path).parent().unwrap().to_owned();
            let damaged = faults(&self.stage.bench.scratch.join(path.trim_end_matches("oci-layout")));
            for fault in faults(&layout) {
                assert!(damaged.contains(&fault), "{row}: {fault}");
            }
            self.lists_what_it_should(&layout, path.trim_end_matches("oci-layout"), row);
        }
        for name in now.published.keys() {
            let is_known =
                [&self.before, &self.after].iter().any(|state| state.published.get(name) == now.published.get(name));
            assert!(is_known, "{row}: {name} in the registry");
        }
    }

    /// Asserts that the index of a layout lists the images before, the images after, or some of both, and always those that
    /// stay.
    #[track_caller]
    fn lists_what_it_should(&self, layout: &Path, prefix: &str, row: &str) {
        let listed = |directory: &Path| -> Vec<String> {
            let Ok(bytes) = fs::read(directory.join("index.json")) else { return Vec::new() };
            let index = Index::read(&bytes, media_type::INDEX, row).unwrap_or_else(|error| panic!("{row}: {error}"));
            index.manifests().iter().map(|listed| format!("{} {:?}", listed.digest, listed.annotations)).collect()
        };
        let now = listed(layout);
        let before = listed(&self.stage.bench.scratch.join(prefix));
        let after = self.after.tree.get(&format!("{prefix}index.json"));
        if self.state_of_index(layout) == after.cloned() {
            return;
        }
        assert!(now == before, "{row}: the index lists {now:#?}, neither as before nor as after");
    }

    fn state_of_index(&self, layout: &Path) -> Option<tree::Node> {
        tree::read(layout, &[]).remove("index.json")
    }

    /// Asserts that nothing in the making is left.
    #[track_caller]
    pub(super) fn left_nothing(&self, scene: &Path, row: &str) {
        let all = tree::read(scene, &[]);
        let left: Vec<&String> = all.keys().filter(|path| is_temporary(path) && *path != UNFINISHED).collect();
        assert!(left.is_empty(), "{row}: left behind: {left:?}");
    }

    /// Runs the command undisturbed.
    #[track_caller]
    fn run_again(&self, scene: &Path, row: &str) {
        if scene.join(UNFINISHED).exists() {
            // Files in a directory that a person named are not removed; the message says what to do.
            let refused = run(self.command(scene).stdin(self.stdin(scene)));
            assert!(refused.stderr.contains("(remove the directory, and try again)"), "{row}: again: {refused}");
            fs::remove_dir_all(scene.join("tree")).unwrap();
        }
        let was_done = self.before != self.after && self.is_done(scene, row);
        let finished = run(self.command(scene).stdin(self.stdin(scene)));
        match self.scenario.again {
            Again::NothingLeft(words) if was_done => {
                assert!(finished.status == 1 && finished.stderr.contains(words), "{row}: again: {finished}");
            }
            _ => assert_eq!(finished.status, 0, "{row}: again: {finished}"),
        }
    }

    /// Runs the command undisturbed, and asserts that the result is the one that was rehearsed, and the cache whole.
    #[track_caller]
    pub(super) fn finishes(&self, scene: &Path, row: &str) {
        self.finishes_with_any_cache(scene, row);
        if scene.join("cache").exists() {
            let verified = run(&mut self.stage.command("cache verify --cache-dir cache", scene));
            assert_eq!(verified.status, 0, "{row}: {verified}");
        }
    }

    /// As [`Rehearsed::finishes`], where records in the cache, which are not synced, may be damaged.
    #[track_caller]
    pub(super) fn finishes_with_any_cache(&self, scene: &Path, row: &str) {
        self.run_again(scene, row);
        let differing = self.differing(scene, row);
        assert!(differing.is_empty(), "{row}: again: not as after an undisturbed run: {differing:?}");
        assert_eq!(self.state(scene, row).published, self.after.published, "{row}: again");
    }
}
