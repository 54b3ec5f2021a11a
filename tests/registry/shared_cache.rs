//! Layers that machines share through a registry: minimal transfers, and no failed build because of a broken cache.

use super::server::{Exchange, Server};
use super::*;
use crate::consumers;
use crate::support::environment::write_environment;
use crate::support::hololib::{Recording, Storage};
use crate::support::packages::{LARGE, install_packages};
use crate::support::{Finished, Scratch, consumer, is_left_out, ocibuild, run, static_program};
use ocibuild::rcc::{Blueprint, BlueprintOptions};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

const STAGE: &str = "/home/robot/.robocorp/holotree/hdc4d952_493f813dad24d3t";
const CONDA: &str = "channels: [conda-forge]\ndependencies: [python=3.11.8]\n";

/// Returns the blueprint of the robot's environment.
fn blueprint() -> Blueprint {
    let options = BlueprintOptions { local_channel: None };
    Blueprint::read(CONDA.as_bytes(), "conda.yaml", &options, &Heard::default()).unwrap()
}

/// Returns the environment of the robot, recorded once for all tests.
fn recording() -> &'static Recording {
    static RECORDING: OnceLock<Recording> = OnceLock::new();
    RECORDING.get_or_init(|| {
        let tree = Scratch::new();
        write_environment(tree.path(), STAGE, 1);
        tree.write("rcc_activate.json", r#"{"LD_LIBRARY_PATH": "/opt/lib"}"#);
        Recording::of(tree.path(), STAGE, blueprint().text(), &blueprint().hash().to_string(), Storage::Gzip)
    })
}

/// Writes a robot and its recorded environment, all that a machine has, below `name`.
pub(crate) fn write_machine(scratch: &Scratch, name: &str) {
    recording().write(&scratch.join(name).join("hololib"));
    let robot = "tasks:\n  Run:\n    shell: echo hello\nartifactsDir: output\ncondaConfigFile: conda.yaml\n";
    scratch.write(format!("{name}/robot/robot.yaml"), robot);
    scratch.write(format!("{name}/robot/conda.yaml"), CONDA);
}

/// A registry, and machines that build the same robot.
pub(super) struct Yard {
    pub(super) scratch: Scratch,
    pub(super) shelf: Shelf,
    pub(super) server: Server,
}

impl Yard {
    pub(super) fn new() -> Yard {
        Yard::with_script(|x, shelf| shelf.serve(x))
    }

    fn with_script(script: impl Fn(&mut Exchange, &Shelf) + Send + Sync + 'static) -> Yard {
        let (server, shelf) = Server::with_shelf(script);
        let scratch = Scratch::new();
        scratch.write("rcc", static_program(&noise(300_000)));
        Yard { scratch, shelf, server }
    }

    /// Returns `docker://` and a repository of the registry.
    pub(super) fn name(&self, repository: &str) -> String {
        format!("docker://{}/{repository}", self.server.host())
    }

    /// Creates a machine with only a robot and its recorded environment.
    pub(super) fn machine(&self, name: &'static str) -> Machine<'_> {
        write_machine(&self.scratch, name);
        Machine { yard: self, name }
    }

    /// Returns the tags of shared groups in a repository.
    pub(super) fn groups(&self, repository: &str) -> Vec<String> {
        self.tags(repository, "application/vnd.ocibuild.cache.v1+json")
    }

    /// Returns the tags of lists of blocks in a repository.
    pub(super) fn block_lists(&self, repository: &str) -> Vec<String> {
        self.tags(repository, "application/vnd.ocibuild.cache.blocks.v1+json")
    }

    fn tags(&self, repository: &str, config_type: &str) -> Vec<String> {
        let is_of_type = |tag: &String| {
            let manifest = self.shelf.manifest(repository, tag).unwrap();
            serde_json::from_slice::<Value>(&manifest).unwrap()["config"]["mediaType"] == config_type
        };
        self.shelf.tags(repository).into_iter().filter(is_of_type).collect()
    }
}

/// A machine with directories of its own.
pub(super) struct Machine<'y> {
    yard: &'y Yard,
    name: &'static str,
}

impl Machine<'_> {
    pub(super) fn path(&self, below: &str) -> PathBuf {
        self.yard.scratch.join(self.name).join(below)
    }

    pub(super) fn ocibuild(&self) -> Command {
        let mut command = ocibuild();
        command.current_dir(self.path("")).env("OCIBUILD_CACHE_DIR", self.path("cache"));
        command.env_remove("OCIBUILD_NO_CACHE");
        command
    }

    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.ocibuild();
        command.args(["layout", "out", "--robot", "robot", "--base", "scratch", "--format", "json", "--rcc-exec"]);
        command.arg(self.yard.scratch.join("rcc")).arg("--catalog");
        command.arg(self.path(&format!("hololib/catalog/{}v12.linux_amd64", blueprint().hash()))).args(arguments);
        command
    }

    /// Builds, and returns the result.
    #[track_caller]
    pub(super) fn build(&self, arguments: &[&str]) -> Built {
        Built::of(run(&mut self.command(arguments)).success())
    }

    /// Builds without any cache, and returns the digest.
    #[track_caller]
    fn build_alone(&self, arguments: &[&str]) -> String {
        let arguments = [arguments, &["--no-cache", "--tag", "alone"]].concat();
        self.build(&arguments).digest
    }

    /// Removes all objects of a recorded environment, but not its catalog.
    pub(super) fn lose_objects(&self) {
        fs::remove_dir_all(self.path("hololib/library")).unwrap();
    }

    #[track_caller]
    fn export(&self, destination: &str) -> Value {
        let mut export = self.ocibuild();
        let finished = run(export.args(["export", "out", destination, "--format", "json"])).success();
        serde_json::from_slice(&finished.stdout).unwrap()
    }

    #[track_caller]
    fn verify(&self, layout: &str) -> Value {
        let finished = run(self.ocibuild().args(["verify", layout, "--format", "json"])).success();
        serde_json::from_slice(&finished.stdout).unwrap()
    }
}

/// The reported result of a build.
pub(super) struct Built {
    pub(super) digest: String,
    /// The origins of rcc, the environment and the robot.
    pub(super) origins: Vec<String>,
    pub(super) layers: Vec<Value>,
    pub(super) stderr: String,
}

impl Built {
    #[track_caller]
    fn of(finished: Finished) -> Built {
        let report: Value = serde_json::from_slice(&finished.stdout).unwrap();
        let layers = report["layers"].as_array().unwrap().clone();
        let origins = layers.iter().map(|layer| layer["origin"].as_str().unwrap().to_owned()).collect();
        Built { digest: report["digest"].as_str().unwrap().to_owned(), origins, layers, stderr: finished.stderr }
    }
}

/// The acceptance test: the robot has changed, its environment has not, and the machine is new.
#[test]
fn a_new_machine_moves_only_the_robot_and_opens_no_object() {
    if is_left_out() {
        return;
    }
    let yard = Yard::new();
    let first = yard.machine("first");
    let cache = yard.name("team/cache");
    first.build(&["--cache-to", &cache]);
    first.export(&yard.name("team/robot:v1"));

    let second = yard.machine("second");
    yard.scratch.write("second/robot/task.py", noise(50_000));
    let expected = second.build_alone(&[]);
    second.lose_objects();
    assert!(run(&mut second.command(&["--no-cache"])).failed_saying("missing").status != 0);
    let before = yard.server.moved();
    let built = second.build(&["--cache-from", &cache, "--sparse"]);
    assert_eq!(built.digest, expected);
    assert_eq!(built.origins, ["shared", "shared", "made"], "{}", built.stderr);
    let report = second.export(&yard.name("team/robot:v2"));
    assert_eq!((&report["blobs"]["present"], &report["blobs"]["copied"]), (&2.into(), &2.into()), "{report}");
    let robot = built.layers[2]["size"].as_u64().unwrap();
    let moved = yard.server.moved() - before - robot;
    assert!(moved < 20_000, "{moved} bytes moved beyond the robot's layer");
    let environment = built.layers[1]["size"].as_u64().unwrap();
    assert!(environment > 4_000_000, "the environment would be worth noticing: {environment}");
}

#[test]
fn a_shared_layer_is_mounted_elsewhere_in_its_registry_and_fetched_anywhere_else() {
    if is_left_out() {
        return;
    }
    let yard = Yard::new();
    let cache = yard.name("team/cache");
    yard.machine("first").build(&["--cache-to", &cache]);
    let second = yard.machine("second");
    second.lose_objects();
    let built = second.build(&["--cache-from", &cache, "--sparse"]);
    assert_eq!(built.layers[1]["leftIn"], format!("{}/team/cache", yard.server.host()));
    let verified = second.verify("out");
    assert_eq!(verified["leftOut"].as_array().unwrap().len(), 2, "{verified}");
    let gets = || yard.server.lines().iter().filter(|line| line.starts_with("GET") && line.contains("/blobs/")).count();
    let before = gets();
    let report = second.export(&yard.name("other/robot:v1"));
    assert_eq!((&report["blobs"]["mounted"], &report["blobs"]["copied"]), (&2.into(), &2.into()), "{report}");
    assert_eq!(gets(), before);

    let elsewhere = Server::start({
        let shelf = Shelf::default();
        move |x| shelf.serve(x)
    });
    let report = second.export(&format!("docker://{}/team/robot:v1", elsewhere.host()));
    assert_eq!((&report["blobs"]["mounted"], &report["blobs"]["copied"]), (&0.into(), &4.into()), "{report}");
    second.export("oci:whole");
    let verified = second.verify("whole");
    assert_eq!((&verified["leftOut"], &verified["blobs"]), (&json!([]), &5.into()));
    let offline = run(second.ocibuild().args(["export", "out", "oci-archive:x.tar", "--offline"]));
    offline.ended_with(2).failed_saying("--offline");
}

#[test]
fn without_sparse_a_shared_layer_is_fetched_once() {
    if is_left_out() {
        return;
    }
    let yard = Yard::new();
    let cache = yard.name("team/cache");
    let first = yard.machine("first").build(&["--cache-to", &cache]);
    let second = yard.machine("second");
    second.lose_objects();
    let built = second.build(&["--cache-from", &cache]);
    assert_eq!(built.digest, first.digest);
    assert_eq!(built.origins, ["shared", "shared", "made"], "{}", built.stderr);
    assert_eq!(second.verify("out")["leftOut"], json!([]));
    let requests = yard.server.seen().len();
    let again = second.build(&["--cache-from", &cache]);
    // Whether a file is too young for a comparison of times depends on how fast this test is.
    assert!(again.origins.iter().all(|origin| origin.starts_with("same-")), "{:?}", again.origins);
    assert_eq!(yard.server.seen().len(), requests, "what is kept here is not asked for");
    // A machine without a cache of its own can use the shared one.
    let third = yard.machine("third");
    let built = Built::of(run(third.command(&["--cache-from", &cache]).env("OCIBUILD_NO_CACHE", "1")).success());
    assert_eq!(built.origins, ["shared", "shared", "made"], "{}", built.stderr);
    assert!(!third.path("cache/layers").exists());
}

#[test]
fn no_object_is_opened_where_the_environment_is_shared() {
    let Some(strace) = consumer("strace") else { return };
    let yard = Yard::new();
    let cache = yard.name("team/cache");
    yard.machine("first").build(&["--cache-to", &cache]);
    let second = yard.machine("second");
    let opened = |arguments: &[&str]| {
        let build = second.command(arguments);
        let mut traced = crate::support::command(&strace);
        traced.args(["-f", "-e", "trace=open,openat,openat2", "-o"]).arg(second.path("trace"));
        traced.arg(build.get_program()).args(build.get_args()).current_dir(second.path(""));
        run(traced.env("OCIBUILD_CACHE_DIR", second.path("cache"))).success();
        let trace = fs::read_to_string(second.path("trace")).unwrap();
        assert!(trace.contains("v12.linux_amd64"), "the catalog is read");
        // Objects are opened relative to handles: by their digest, below three folders of two letters. A failed open does not
        // count.
        let is_object = |line: &&str| {
            let name = line.split('"').nth(1).unwrap_or_default();
            name.rsplit('/').next().is_some_and(|name| {
                name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit()) && !line.contains("O_CREAT")
            }) && !line.contains("ENOENT")
                && second.path("hololib/library").join(&name[name.len().saturating_sub(64)..][..2]).is_dir()
        };
        trace.lines().filter(is_object).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(opened(&["--cache-from", &cache, "--sparse"]), [""; 0]);
    assert!(opened(&["--no-cache"]).len() > 20, "the same trace sees it when there is something to see");
}

#[test]
fn what_is_wrong_with_what_is_shared_costs_a_warning_and_the_time() {
    if is_left_out() {
        return;
    }
    let cache_manifest = |x: &Exchange| x.line().contains("/team/cache/manifests/") && x.request.method == "GET";
    let cache_blob = |x: &Exchange| x.line().contains("/team/cache/blobs/sha256:") && x.request.method == "GET";
    type Script = Box<dyn Fn(&mut Exchange, &Shelf) + Send + Sync>;
    let cases: [(&str, &str, Script); 7] = [
        (
            "forbidden",
            "403",
            Box::new(move |x, shelf| match cache_manifest(x) {
                true => x.refuse(403, "DENIED", "go away"),
                false => shelf.serve(x),
            }),
        ),
        (
            "a page",
            "not a manifest",
            Box::new(move |x, shelf| match cache_manifest(x) {
                true => x.answer(200, &[("Content-Type", "text/html")], "<html>"),
                false => shelf.serve(x),
            }),
        ),
        (
            "another image",
            "not in the format of the cache",
            Box::new(move |x, shelf| match cache_manifest(x) {
                true => x.answer(200, &[("Content-Type", media_type::MANIFEST)], manifest()),
                false => shelf.serve(x),
            }),
        ),
        (
            "torn",
            "JSON",
            Box::new(move |x, shelf| match cache_manifest(x) {
                true => {
                    let whole = shelf.any_manifest("team/cache");
                    x.answer(200, &[("Content-Type", media_type::MANIFEST)], &whole[..whole.len() / 2]);
                }
                false => shelf.serve(x),
            }),
        ),
        (
            "no blob",
            "404",
            Box::new(move |x, shelf| match cache_blob(x) {
                true => x.refuse(404, "BLOB_UNKNOWN", "gone"),
                false => shelf.serve(x),
            }),
        ),
        (
            "another blob",
            "its content has the digest",
            Box::new(move |x, shelf| match cache_blob(x) {
                true => {
                    let digest = x.line().rsplit('/').next().unwrap().parse().unwrap();
                    let mut bytes = shelf.blob("team/cache", digest).unwrap();
                    let middle = bytes.len() / 2;
                    bytes[middle] ^= 1;
                    x.answer(200, &[], bytes);
                }
                false => shelf.serve(x),
            }),
        ),
        (
            "a short blob",
            "the registry has",
            Box::new(move |x, shelf| match cache_blob(x) {
                true => x.answer(200, &[], "short"),
                false => shelf.serve(x),
            }),
        ),
    ];
    for (name, said, script) in cases {
        let yard = Yard::with_script(script);
        let cache = yard.name("team/cache");
        let expected = yard.machine("first").build(&["--cache-to", &cache]).digest;
        let built = yard.machine("second").build(&["--cache-from", &cache, "--quiet"]);
        assert_eq!(built.digest, expected, "{name}");
        assert_eq!(built.origins[1], "made", "{name}: {}", built.stderr);
        assert!(built.stderr.contains(said), "{name}: {}", built.stderr);
        assert!(built.stderr.lines().count() <= 5, "{name}: {}", built.stderr);
    }
}

#[test]
fn a_layer_that_the_registry_has_lost_is_not_left_there() {
    if is_left_out() {
        return;
    }
    let yard = Yard::with_script(|x, shelf| match x.request.method.as_str() {
        "HEAD" if x.line().contains("/team/cache/blobs/") && x.nth > 1 => x.answer(404, &[], ""),
        _ => shelf.serve(x),
    });
    let cache = yard.name("team/cache");
    let expected = yard.machine("first").build(&["--cache-to", &cache]).digest;
    let second = yard.machine("second");
    let built = second.build(&["--cache-from", &cache, "--sparse"]);
    assert_eq!((built.digest, built.origins[1].as_str()), (expected, "made"));
    assert!(built.stderr.contains("building the layer instead"), "{}", built.stderr);
    assert_eq!(second.verify("out")["leftOut"], json!([]));
}

#[test]
fn a_cache_that_takes_nothing_does_not_undo_the_build() {
    if is_left_out() {
        return;
    }
    let yard = Yard::with_script(|x, shelf| match x.request.method.as_str() {
        "POST" | "PUT" | "PATCH" => x.refuse(403, "DENIED", "read only"),
        _ => shelf.serve(x),
    });
    let machine = yard.machine("first");
    let built = machine.build(&["--cache-to", &yard.name("team/cache"), "--quiet"]);
    assert!(
        built.stderr.contains("read only") && built.stderr.contains("the layers are not pushed to the shared cache"),
        "{}",
        built.stderr
    );
    machine.verify("out");
}

#[test]
fn a_registry_that_is_down_costs_a_warning_for_each_flag() {
    if is_left_out() {
        return;
    }
    let yard = Yard::new();
    let machine = yard.machine("first");
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let cache = format!("docker://{nobody}/team/cache");
    let began = std::time::Instant::now();
    let built = machine.build(&["--cache-from", &cache, "--cache-to", &cache, "-q"]);
    assert!(built.stderr.contains("building without this cache"), "{}", built.stderr);
    assert!(built.stderr.contains("the layers are not pushed to the shared cache"), "{}", built.stderr);
    assert!(began.elapsed() < std::time::Duration::from_secs(10));
    machine.verify("out");
}

#[test]
fn what_is_shared_already_is_not_sent_again() {
    if is_left_out() {
        return;
    }
    let yard = Yard::new();
    let cache = yard.name("team/cache");
    let both = ["--cache-from", &cache[..], "--cache-to", &cache];
    yard.machine("first").build(&both);
    assert_eq!(yard.groups("team/cache").len(), 1);
    let writes =
        || yard.server.lines().iter().filter(|line| !line.starts_with("GET") && !line.starts_with("HEAD")).count();
    let before = writes();
    yard.machine("second").build(&both);
    assert_eq!(writes(), before);
    // Layers from one repository are not shared again in another (M38).
    let third = yard.machine("third");
    third.lose_objects();
    let other = yard.name("other/cache");
    let built = third.build(&["--cache-from", &cache, "--sparse", "--cache-to", &other, "-q"]);
    let expected = format!(r#"{{"object":"{other}","reason":"not pushed: the layers came from "#);
    assert!(built.stderr.contains(&expected), "{}", built.stderr);
    assert!(yard.shelf.tags("other/cache").is_empty());
    // Another option produces another environment, and both are kept.
    yard.machine("fourth").build(&["--environment", "ready", "--cache-to", &cache]);
    assert_eq!(yard.groups("team/cache").len(), 2);
    // The user can set the prefix of tags.
    yard.machine("fifth").build(&["--cache-to", &format!("{cache}:mine")]);
    assert!(yard.shelf.tags("team/cache").iter().any(|tag| tag.starts_with("mine-")));
}

#[test]
fn every_mode_but_compact_is_shared() {
    if is_left_out() {
        return;
    }
    let yard = Yard::new();
    for mode in ["sealed", "ready", "direct"] {
        let cache = yard.name(&format!("team/{mode}"));
        let mode = ["--environment", mode];
        let expected = yard.machine("first").build(&[&mode[..], &["--cache-to", &cache]].concat()).digest;
        let second = yard.machine("second");
        // In this mode the layer keeps the setuid program of the environment, so it is not accepted from a shared cache (M38).
        let keeps_setuid = mode[1] == "ready";
        if !keeps_setuid {
            second.lose_objects();
        }
        let built = second.build(&[&mode[..], &["--cache-from", &cache]].concat());
        assert_eq!(built.digest, expected, "{mode:?}");
        assert_eq!(built.stderr.contains("is setuid or setgid"), keeps_setuid, "{}", built.stderr);
        fs::remove_dir_all(yard.scratch.join("first")).unwrap();
        fs::remove_dir_all(yard.scratch.join("second")).unwrap();
    }
    let cache = yard.name("team/compact");
    yard.machine("first").build(&["--environment", "compact", "--cache-to", &cache, "-q"]);
    assert_eq!((yard.groups("team/compact").len(), yard.block_lists("team/compact").len()), (0, 1));
}

#[test]
fn a_build_that_takes_gzip_over_neither_shares_nor_spoils_what_is_shared() {
    if is_left_out() {
        return;
    }
    let yard = Yard::new();
    let cache = yard.name("team/cache");
    yard.machine("first").build(&["--cache-to", &cache]);
    let tag = &yard.groups("team/cache")[0];
    let before = yard.shelf.manifest("team/cache", tag);
    yard.machine("second").build(&["--compression", "reuse", "--cache-to", &cache, "-q"]);
    assert_eq!((yard.groups("team/cache").len(), yard.shelf.manifest("team/cache", tag)), (1, before));
}

#[test]
fn one_request_finds_all_parts_of_an_environment() {
    if is_left_out() {
        return;
    }
    let yard = Yard::new();
    let tree = Scratch::new();
    install_packages(tree.path(), STAGE, &[]);
    let recording =
        Recording::of(tree.path(), STAGE, blueprint().text(), &blueprint().hash().to_string(), Storage::Gzip);
    let machine = |name| {
        let machine = yard.machine(name);
        fs::remove_dir_all(machine.path("hololib")).unwrap();
        recording.write(&machine.path("hololib"));
        machine
    };
    let cache = yard.name("team/cache");
    let split = ["--split", "packages"];
    let first = machine("first").build(&[&split[..], &["--cache-to", &cache]].concat());
    // The large packages, and at least rcc, the rest and the robot.
    assert!(first.layers.len() >= LARGE.len() + 3, "{:?}", first.layers);
    for sparse in [&["--sparse"][..], &[]] {
        let second = machine(if sparse.is_empty() { "third" } else { "second" });
        second.lose_objects();
        let before = yard.server.lines().len();
        let built = second.build(&[&split[..], sparse, &["--cache-from", &cache]].concat());
        assert_eq!(built.digest, first.digest);
        let (robot, shared) = built.origins.split_last().unwrap();
        assert!(shared.iter().all(|origin| origin == "shared") && robot == "made", "{:?}", built.origins);
        let lines = &yard.server.lines()[before..];
        let lookups = lines.iter().filter(|line| line.contains("/manifests/")).count();
        assert_eq!(lookups, 1, "{lines:?}");
        let fetched = lines.iter().filter(|line| line.starts_with("GET") && line.contains("/blobs/")).count();
        assert_eq!(fetched, if sparse.is_empty() { shared.len() } else { 0 }, "{lines:?}");
    }
}

#[test]
fn offline_wins_over_shared_caches() {
    let yard = Yard::new();
    let machine = yard.machine("first");
    let cache = yard.name("team/cache");
    let built = machine.build(&["--cache-from", &cache, "--cache-to", &cache, "--offline", "-q"]);
    assert_eq!(built.stderr.matches("network access is disabled (--offline)").count(), 2, "{}", built.stderr);
    assert_eq!(yard.server.seen().len(), 0);
    let Some(strace) = consumer("strace") else { return };
    let build = machine.command(&["--cache-from", &cache, "--cache-to", &cache]);
    let mut traced = crate::support::command(&strace);
    traced.args(["-f", "-e", "trace=socket,connect", "-o"]).arg(machine.path("trace"));
    traced.arg(build.get_program()).args(build.get_args()).current_dir(machine.path(""));
    run(traced.env("OCIBUILD_OFFLINE", "1")).success();
    let trace = fs::read_to_string(machine.path("trace")).unwrap();
    assert!(!trace.contains("socket(") && !trace.contains("connect("), "{trace}");
}

#[test]
fn contradictory_flags_are_refused_before_anything_is_built() {
    let yard = Yard::new();
    let machine = yard.machine("first");
    let cache = yard.name("team/cache");
    let digest = format!("{cache}@{}", Digest::of(b"x"));
    let long = format!("{cache}:{}", "x".repeat(64));
    for arguments in
        [["--cache-from", "oci:dir"], ["--cache-to", "team/cache"], ["--cache-from", &digest], ["--cache-to", &long]]
    {
        run(&mut machine.command(&arguments)).ended_with(2);
    }
    run(&mut machine.command(&["--cache-from", &cache, "--no-cache"])).ended_with(2);
    assert!(!machine.path("out").exists());
}

#[test]
fn verify_distinguishes_remote_layers_from_lost_ones() {
    if is_left_out() {
        return;
    }
    let yard = Yard::new();
    let cache = yard.name("team/cache");
    yard.machine("first").build(&["--cache-to", &cache]);
    let second = yard.machine("second");
    let built = second.build(&["--cache-from", &cache, "--sparse"]);
    let said = run(second.ocibuild().args(["verify", "out"])).success();
    assert!(said.text().ends_with(": no errors found, except 2 layers not downloaded"), "{said}");
    let repository = format!("{}/team/cache", yard.server.host());
    assert!(
        said.text().contains(&format!("{}: not downloaded, ", built.layers[1]["digest"].as_str().unwrap())),
        "{said}"
    );
    assert!(said.text().contains(&repository), "{said}");
    let shown = run(second.ocibuild().args(["inspect", "out"])).success();
    assert_eq!(shown.text().matches(&format!("  not downloaded, in {repository}")).count(), 2, "{shown}");
    // The robot's own layer is not in any repository.
    let blob = |layer: &Value| {
        let digest: Digest = layer["digest"].as_str().unwrap().parse().unwrap();
        second.path("out/blobs/sha256").join(digest.hex())
    };
    let robot = fs::read(blob(&built.layers[2])).unwrap();
    fs::remove_file(blob(&built.layers[2])).unwrap();
    let said = run(second.ocibuild().args(["verify", "out"])).ended_with(1);
    assert_eq!(said.text().matches(": missing").count(), 1, "{said}");
    fs::write(blob(&built.layers[2]), robot).unwrap();
    // The same image under another tag, complete: a missing layer is an error.
    second.build(&["--cache-from", &cache, "--tag", "whole"]);
    second.verify("out");
    fs::remove_file(blob(&built.layers[1])).unwrap();
    run(second.ocibuild().args(["verify", "out"])).ended_with(1);
}

#[test]
fn a_mirror_gives_what_was_left_out() {
    if is_left_out() {
        return;
    }
    let yard = Yard::new();
    let cache = yard.name("team/cache");
    let first = yard.machine("first").build(&["--cache-to", &cache]);
    let second = yard.machine("second");
    second.build(&["--cache-from", &cache, "--sparse"]);
    // One mirror has nothing, the next has everything, and the registry gets no request.
    let nothing = Server::start(|x| Shelf::default().serve(x));
    let mirror = Server::start({
        let shelf = yard.shelf.clone();
        move |x| shelf.serve(x)
    });
    let host = yard.server.host();
    let before = yard.server.seen().len();
    let mut export = second.ocibuild();
    export.args(["export", "out", "oci:whole", "--mirror", &format!("{host}={}", nothing.host())]);
    let exported = run(export.args(["--mirror", &format!("{host}={}", mirror.host())])).success();
    assert_eq!(exported.text(), first.digest);
    assert_eq!(exported.stderr.matches("trying the next location").count(), 2, "{exported}");
    assert_eq!(yard.server.seen().len(), before);
    second.verify("whole");
}

#[test]
fn a_real_registry_keeps_what_is_shared() {
    consumers::Registry::all().for_each(|registry| share_in(&registry));
}

fn share_in(registry: &consumers::Registry) {
    let yard = Yard::new();
    let cache = format!("docker://{}/team/cache", registry.address());
    let first = yard.machine("first");
    let expected = first.build(&["--cache-to", &cache]).digest;
    let second = yard.machine("second");
    second.lose_objects();
    let built = second.build(&["--cache-from", &cache, "--sparse", "--cache-to", &cache]);
    assert_eq!((built.digest, built.origins[1].as_str()), (expected.clone(), "shared"));
    let report = second.export(&format!("docker://{}/team/robot:v1", registry.address()));
    let mounted = if registry.mounts { 2 } else { 0 };
    assert_eq!(
        (&report["blobs"]["mounted"], &report["digest"]),
        (&mounted.into(), &expected.clone().into()),
        "{report}"
    );
    let third = yard.machine("third");
    third.lose_objects();
    assert_eq!(third.build(&["--cache-from", &cache]).digest, expected);
    third.verify("out");
}
