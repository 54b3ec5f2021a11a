//! Every `sh` block of a document is run by `sh -eu`, in order, in one scratch directory.
//!
//! What follows `sh` says what the block needs:
//!
//! * nothing: the program alone, offline;
//! * `registry`: a registry. `registry.example` is replaced by its address, and it is a mirror of `docker.io`;
//! * `podman`: podman, as root;
//! * `checkout`: the checkout; only commands that run the program are run;
//! * `go`, `java`, `node`, `python`, `rust`: a program of that language and its base, see `languages`;
//! * `robot`: a robot with an environment; `rcc::images::docs` runs these.

use super::Page;
use super::languages::{self, LANGUAGES};
use super::page::Block;
use crate::consumers::{Podman, Registry};
use crate::support::{Scratch, command, install_script, is_left_out, run, run_within};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Containers have no network, and images come from the store alone.
const ALONE: &str = "case $sub in run) set -- --network=none --pull=never \"$@\" ;; esac";

/// A step may build and push several images while other tests run.
const PATIENCE: Duration = Duration::from_secs(300);

/// The page that `rcc::images::docs` runs.
const ROBOTS: &str = "docs/robots.md";

/// Everything that a block can need.
const NEEDS: [&str; 4] = ["checkout", "podman", "registry", "robot"];

/// The machine on which the commands of one page are run.
struct Desk {
    scratch: Scratch,
    registry: Option<Registry>,
    podman: Option<Podman>,
    languages: Vec<&'static str>,
}

impl Desk {
    /// Sets up what the blocks of `page` need, as far as it is available.
    fn of(page: &Page) -> Desk {
        let scratch = Scratch::new();
        let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
        run(command("cp").arg("-r").arg(testdata).arg(scratch.join("work"))).success();
        let work = scratch.join("work");
        fs::create_dir(work.join("testdata")).unwrap();
        for entry in ["inventory", "robot"] {
            fs::rename(work.join(entry), work.join("testdata").join(entry)).unwrap();
        }
        fs::create_dir_all(scratch.join("programs")).unwrap();
        symlink(env!("CARGO_BIN_EXE_ocibuild"), scratch.join("programs/ocibuild")).unwrap();
        let blocks = page.blocks();
        let is_needed = |what: &str| blocks.iter().any(|block| block.needs.contains(what));
        let mut desk = Desk { scratch, registry: None, podman: None, languages: Vec::new() };
        if is_needed("registry") {
            desk.registry = Registry::plain();
            desk.fill_registry();
        }
        if is_needed("podman") {
            desk.podman = Podman::find();
            desk.install_podman();
        }
        for language in LANGUAGES.into_iter().filter(|language| is_needed(language)) {
            desk.add_language(language);
        }
        desk
    }

    /// Pushes the base image that documents name, and makes the registry a mirror of `docker.io`.
    fn fill_registry(&self) {
        let Some(registry) = &self.registry else { return };
        let address = registry.address();
        self.scratch.write(
            "home/.config/containers/registries.conf",
            format!("[[registry]]\nlocation = \"docker.io\"\n[[registry.mirror]]\nlocation = \"{address}\"\n"),
        );
        self.scratch.write("base/etc/passwd", "root:x:0:0::/:/bin/sh\n");
        fs::create_dir_all(self.scratch.join("base/usr/local/bin")).unwrap();
        let push = "ocibuild layout ../debian --copy ../base:/ && \
                    ocibuild export ../debian docker://registry.example/library/debian:stable-slim";
        run(&mut self.shell(push, &BTreeSet::from(["registry"]))).success();
    }

    fn add_language(&mut self, language: &'static str) {
        let Some(base) = languages::prepare(language, &self.scratch) else { return };
        if let Some((base, name)) = base {
            if self.registry.is_none() {
                return;
            }
            let export = format!("ocibuild export {} docker://registry.example/{name}", base.display());
            run_within(PATIENCE, &mut self.shell(&export, &BTreeSet::from(["registry"]))).success();
        }
        self.languages.push(language);
    }

    fn install_podman(&self) {
        let Some(podman) = &self.podman else { return };
        install_script(&self.scratch.join("programs/podman"), &podman.script(ALONE));
    }

    /// Returns whether everything that `block` needs is there.
    fn can_run(&self, block: &Block<'_>) -> bool {
        block.needs.iter().all(|need| match *need {
            "registry" => self.registry.is_some(),
            "podman" => self.podman.is_some(),
            need => need == "checkout" || self.languages.contains(&need),
        })
    }

    fn shell(&self, text: &str, needs: &BTreeSet<&str>) -> Command {
        let mut shell = command("sh");
        let path = shell.get_envs().find(|(name, _)| *name == "PATH").and_then(|(_, path)| path).unwrap();
        let path = format!("{}:{}", self.scratch.join("programs").display(), path.to_str().unwrap());
        let text = match &self.registry {
            Some(registry) => text.replace("registry.example", &registry.address()),
            None => text.to_owned(),
        };
        shell.args(["-eu", "-c", &text]).current_dir(self.scratch.join("work"));
        shell
            .env("PATH", path)
            .env("HOME", self.scratch.join("home"))
            .env("XDG_RUNTIME_DIR", self.scratch.join("runtime"));
        shell.env_remove("OCIBUILD_NO_CACHE").env("OCIBUILD_CACHE_DIR", self.scratch.join("cache"));
        if !needs.contains("registry") {
            shell.env("OCIBUILD_OFFLINE", "1");
        }
        shell
    }
}

/// Runs every command of the page at `path`, as far as what it needs is there.
fn run_page(path: &str) {
    let page = Page::read(path);
    let desk = Desk::of(&page);
    let mut count = 0;
    for block in page.blocks().iter().filter(|block| desk.can_run(block)) {
        for (text, status) in block.steps() {
            let finished = run_within(PATIENCE, &mut desk.shell(&text, &block.needs));
            assert!(finished.status == status, "{path}:{}: expected {status} of {finished}", block.line);
            count += 1;
        }
    }
    assert!(count > 0, "{path}: no command");
}

#[test]
fn commands_of_the_readme_work() {
    if is_left_out() {
        return;
    }
    run_page("README.md");
}

#[test]
fn commands_of_the_guide_work() {
    if is_left_out() {
        return;
    }
    run_page("docs/guide.md");
}

#[test]
fn commands_about_registries_work() {
    if is_left_out() {
        return;
    }
    run_page("docs/registries.md");
}

#[test]
fn commands_about_caching_work() {
    if is_left_out() {
        return;
    }
    run_page("docs/caching.md");
}

#[test]
fn commands_about_build_files_work() {
    if is_left_out() {
        return;
    }
    run_page("docs/build-file.md");
}

#[test]
fn commands_about_languages_work() {
    if is_left_out() {
        return;
    }
    run_page("docs/languages.md");
}

#[test]
fn commands_about_json_work() {
    if is_left_out() {
        return;
    }
    run_page("docs/json.md");
}

#[test]
fn every_page_with_commands_is_run() {
    let tests = include_str!("commands.rs");
    for page in Page::all() {
        let blocks = page.blocks();
        if page.path != ROBOTS {
            let is_unknown = |need: &&&str| !NEEDS.contains(need) && !LANGUAGES.contains(need);
            let unknown = blocks.iter().flat_map(|block| &block.needs).find(is_unknown);
            assert_eq!(unknown, None, "{}: a block needs something unknown", page.path);
        }
        let elsewhere = |block: &&Block<'_>| block.needs.contains("robot") || block.steps().is_empty();
        let is_run = page.path == ROBOTS || tests.contains(&format!("run_page(\"{}\")", page.path));
        assert!(is_run || blocks.iter().all(|block| elsewhere(&block)), "no test runs {}", page.path);
    }
}
