//! The cache directory as a whole: it heals, it is one view, and it stays small by itself.

use crate::support::{Finished, Scratch, as_nobody, is_left_out, run};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

/// A source directory, and a cache beside it.
struct Bench {
    scratch: Scratch,
}

impl Bench {
    fn new() -> Bench {
        let bench = Bench { scratch: Scratch::new() };
        bench.scratch.write("source/file", "content\n".repeat(5000));
        // Long enough that the file is not racy any more.
        std::thread::sleep(Duration::from_millis(2100));
        bench
    }

    fn cache(&self) -> PathBuf {
        self.scratch.join("cache")
    }

    /// `ocibuild ARGUMENTS` with this cache, in the scratch directory.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut program = crate::support::ocibuild();
        program.args(arguments).env("OCIBUILD_CACHE_DIR", self.cache());
        program.env_remove("OCIBUILD_NO_CACHE").current_dir(self.scratch.path());
        program
    }

    fn run(&self, arguments: &[&str]) -> Finished {
        run(&mut self.command(arguments))
    }

    #[track_caller]
    fn build(&self, out: &str) -> Finished {
        self.run(&["layout", out, "--copy", "source:/srv"]).success()
    }

    /// The largest blob below `directory`.
    fn largest_blob(&self, directory: &str) -> PathBuf {
        let blobs = fs::read_dir(self.scratch.join(directory).join("blobs/sha256")).unwrap();
        blobs.map(|blob| blob.unwrap().path()).max_by_key(|blob| blob.metadata().unwrap().len()).unwrap()
    }
}

/// Changes one byte in place: the size and the modification time stay as they are.
fn damage(file: &Path) {
    let modified = file.metadata().unwrap().modified().unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o644)).unwrap();
    let mut content = fs::read(file).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 1;
    fs::write(file, content).unwrap();
    fs::File::options().write(true).open(file).unwrap().set_modified(modified).unwrap();
}

/// M26: damage that changes no timestamp is found by `cache verify`; the next build repairs it.
#[test]
fn damage_that_verify_finds_is_repaired_by_the_next_build() {
    if is_left_out() {
        return;
    }
    for (find, damaged) in [(["verify", "out"], "out"), (["cache", "verify"], "cache/store")] {
        let bench = Bench::new();
        bench.build("out");
        bench.run(&["verify", "out"]).success();
        bench.build("out");
        damage(&bench.largest_blob(damaged));
        bench.run(&find).ended_with(1);
        bench.build("out");
        bench.run(&["verify", "out"]).success();
        bench.build("other");
        bench.run(&["verify", "other"]).success();
    }
}

const DAY: u64 = 24 * 60 * 60;

impl Bench {
    /// Puts a base into the cache, as a pull leaves it, and answers how to name it.
    fn base(&self) -> &'static str {
        // Larger than every document, compressed as well.
        let content: Vec<String> =
            (0..40_000_u32).map(|number| number.wrapping_mul(2_654_435_761).to_string()).collect();
        self.scratch.write("base/file", content.join("\n"));
        run(self
            .command(&["layout", "cache/bases", "-q", "--copy", "base:/", "-t", "v1"])
            .env("OCIBUILD_NO_CACHE", "1"))
        .success();
        let index = self.cache().join("bases/index.json");
        let mut document: Value = serde_json::from_slice(&fs::read(&index).unwrap()).unwrap();
        let listed = &mut document["manifests"][0];
        let name = format!("docker.io/team/base:v1@{}", listed["digest"].as_str().unwrap());
        listed["annotations"] = json!({
            "io.containerd.image.name": name,
            "org.opencontainers.image.ref.name": "docker.io/team/base:v1+linux/amd64",
        });
        fs::write(index, document.to_string()).unwrap();
        "docker://docker.io/team/base:v1"
    }

    /// A layer, a base, a download and a listing.
    fn with_everything() -> Bench {
        let bench = Bench::new();
        bench.build("out");
        bench.base();
        // The SHA-256 of nothing.
        let nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        bench.scratch.write(format!("cache/rcc/{nothing}"), "");
        bench.scratch.write("cache/listings/v1/base", "listed");
        bench
    }

    fn info(&self) -> Value {
        serde_json::from_str(self.run(&["cache", "info", "--format", "json"]).success().text()).unwrap()
    }

    /// How many there are in the cache: layers, bases, listings, downloads.
    fn counts(&self) -> [u64; 4] {
        let info = self.info();
        ["layer", "base", "listing", "download"].map(|kind| info["kinds"][kind]["count"].as_u64().unwrap())
    }

    /// Makes everything in the cache as old as that.
    fn age(&self, days: u64) {
        let then = SystemTime::now() - Duration::from_secs(days * DAY);
        for file in files(&self.cache()) {
            fs::File::open(file).unwrap().set_modified(then).unwrap();
        }
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// M35: info, prune and clear cover everything in the cache directory. Bytes that layouts share are not counted as freed.
#[test]
fn cache_commands_cover_the_whole_cache() {
    if is_left_out() {
        return;
    }
    let bench = Bench::with_everything();
    assert_eq!(bench.counts(), [1, 1, 1, 1]);
    let text = bench.run(&["cache", "info"]).success();
    assert!(text.text().contains("\n1 base, ") && text.text().contains("\n  docker.io/team/base:v1@sha256:"), "{text}");
    let takes = |info: &Value, kind: &str| info["kinds"][kind]["bytes"].as_u64().unwrap();
    let info = bench.info();
    assert!(takes(&info, "base") > 100 && takes(&info, "layer") > 20, "{info}");

    bench.run(&["cache", "prune", "--older-than", "1d"]).success();
    assert_eq!(bench.counts(), [1, 1, 1, 1]);
    bench.age(3);
    // What is used is not old: the layer by the first build, the base and its listing by the second.
    bench.build("other");
    bench.run(&["layout", "offline", "--offline", "--base", "docker://docker.io/team/base:v1"]).success();
    bench.run(&["cache", "prune", "--older-than", "1d"]).success();
    assert_eq!(bench.counts(), [1, 1, 1, 0]);

    fs::remove_dir_all(bench.scratch.join("offline")).unwrap();
    let cleared = bench.run(&["cache", "clear", "--format", "json"]).success();
    let freed = serde_json::from_str::<Value>(cleared.text()).unwrap()["freedBytes"].as_u64().unwrap();
    assert_eq!(bench.counts(), [0, 0, 0, 0]);
    // The layer is in `out` and `other`, too, unless they have copies.
    let is_linked = bench.largest_blob("out").metadata().unwrap().nlink() > 1;
    assert!(freed > takes(&info, "base") && (freed < takes(&info, "base") + takes(&info, "layer") || !is_linked));
    assert_eq!(bench.info()["bytes"], 0);
    bench.run(&["verify", "other"]).success();
    bench
        .run(&["layout", "offline", "--offline", "--base", "docker://docker.io/team/base:v1"])
        .ended_with(1)
        .failed_saying("not in the cache");
}

/// M35: what cannot be read is discarded with one line, and stops nothing.
#[test]
fn what_cannot_be_read_is_discarded() {
    if is_left_out() {
        return;
    }
    let bench = Bench::with_everything();
    for (garbage, words) in
        [("store/index.json", "store"), ("bases/index.json", "bases"), ("store/oci-layout", "store")]
    {
        bench.scratch.write(format!("cache/{garbage}"), "garbage");
        let mut build = bench.command(&["layout", "out", "-q", "--copy", "source:/srv"]);
        let finished = match words {
            "bases" => run(build.args(["--base", "docker://127.0.0.1:1/absent"])).failed_saying("connection refused"),
            _ => run(&mut build).success(),
        };
        let said: Vec<&str> = finished.stderr.lines().filter(|line| line.contains("discarded")).collect();
        assert!(said.len() == 1 && said[0].contains(&format!("cache/{words} is discarded")), "{garbage}: {finished}");
        assert!(!run(&mut build).stderr.contains("discarded"), "{garbage}");
    }
    let damage = || {
        for garbage in ["store/index.json".to_owned(), "bases/index.json".to_owned(), format!("layers/v1/{:064}", 0)] {
            bench.scratch.write(format!("cache/{garbage}"), "garbage");
        }
        bench.scratch.write(format!("cache/rcc/{:064}", 0), "not what it is called");
    };
    damage();
    let reported = bench.run(&["cache", "verify", "--format", "json"]).ended_with(1);
    let reported: Value = serde_json::from_str(reported.text()).unwrap();
    let faults = reported["faults"].as_array().unwrap();
    assert!(faults.len() == 4 && faults.iter().all(|fault| fault["object"].is_string()), "{reported}");
    damage();
    let reported = bench.run(&["cache", "verify"]).ended_with(1);
    assert_eq!(reported.text().lines().filter(|line| line.contains("discarded")).count(), 4, "{reported}");
    bench.run(&["cache", "verify"]).success();
    bench.scratch.write("cache/bases/index.json", "garbage");
    bench.run(&["cache", "clear"]).success();
    bench.build("out");
}

/// M35: maintenance of a cache creates nothing, neither without a cache nor on a full disk.
#[test]
fn cache_commands_create_no_files() {
    let bench = Bench { scratch: Scratch::new() };
    for action in [&["info"][..], &["verify"], &["clear"], &["prune", "--keep", "0"]] {
        let mut command = bench.command(&["cache"]);
        run(command.args(action)).success();
        assert!(!bench.cache().exists(), "{action:?}");
    }
    let Some(unshare) = crate::support::consumer_as_root("unshare") else { return };
    bench.scratch.write("source/file", "content\n".repeat(5000));
    fs::create_dir(bench.cache()).unwrap();
    let script = "set -e
        mount -t tmpfs -o size=1m,mode=700 none cache
        $OCIBUILD layout out -q --copy source:/srv --cache-dir cache
        dd if=/dev/zero of=cache/full bs=4096 2>/dev/null || true
        $OCIBUILD cache clear --cache-dir cache
        rm cache/full; $OCIBUILD cache info --cache-dir cache";
    let mut command = crate::support::command(unshare);
    command.args(["-m", "sh", "-c", script]).current_dir(bench.scratch.path());
    let finished =
        run(command.env("OCIBUILD", env!("CARGO_BIN_EXE_ocibuild")).env_remove("OCIBUILD_NO_CACHE")).success();
    assert!(finished.text().starts_with("sha256:") && finished.text().ends_with("\n0 layers, 0 B"), "{finished}");
}

/// M35: what was not used for thirty days goes when a build has ended, or for as long as one says; and so does what is too
/// much.
#[test]
fn a_cache_stays_small_by_itself() {
    if is_left_out() {
        return;
    }
    let bench = Bench::with_everything();
    let build = |flags: &[&str], age: &str| {
        let mut command = bench.command(&["layout", "new", "--copy", "source:/other"]);
        run(command.args(flags).env("OCIBUILD_CACHE_MAX_AGE", age)).success()
    };
    bench.age(29);
    assert!(!build(&[], "").stderr.contains("cache:"));
    assert_eq!(bench.counts(), [2, 1, 1, 1]);
    bench.age(40);
    for (flags, age) in [(&["--cache-max-age", "0"][..], "30d"), (&[], "0"), (&[], "50d")] {
        assert!(!build(flags, age).stderr.contains("cache:"));
    }
    let tidied = build(&[], "");
    assert!(tidied.stderr.contains("\ncache: 1 layer, 1 base, 1 listing, 1 download removed, "), "{tidied}");
    // What this build used has stayed.
    assert_eq!(bench.counts(), [1, 0, 0, 0]);
    // Once a day is enough.
    bench.base();
    bench.age(40);
    fs::File::open(bench.cache().join("tidied")).unwrap().set_modified(SystemTime::now()).unwrap();
    build(&[], "");
    assert_eq!(bench.counts(), [1, 1, 0, 0]);
    let tidied = build(&["--cache-max-age", "0", "--cache-max-size", "1KiB"], "");
    assert!(tidied.stderr.contains("\ncache: 0 layers, 1 base removed, "), "{tidied}");
    assert_eq!(bench.counts(), [1, 0, 0, 0]);
    run(bench.command(&["layout", "new"]).env("OCIBUILD_CACHE_MAX_SIZE", "much"))
        .ended_with(2)
        .failed_saying("OCIBUILD_CACHE_MAX_SIZE: size `much`");
}

/// M34, M35: entries that a running build uses are kept.
#[test]
fn files_of_a_running_build_are_kept() {
    if is_left_out() {
        return;
    }
    let bench = Bench::with_everything();
    let note = bench.scratch.write("cache/running/.ocibuild-11111111111111111111111111111111", "");
    let running = fs::File::open(&note).unwrap();
    running.lock().unwrap();
    running.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
    let cleared = bench.run(&["cache", "clear"]).success();
    assert!(cleared.text().ends_with("; entries in use were kept"), "{cleared}");
    assert_eq!(bench.counts(), [1, 1, 1, 1]);
    bench.age(1);
    running.set_modified(SystemTime::now()).unwrap();
    bench.build("other");
    bench.run(&["cache", "clear"]).success();
    assert_eq!(bench.counts(), [1, 0, 0, 0]);
    // A build that was killed uses nothing.
    drop(running);
    bench.run(&["cache", "clear"]).success();
    assert_eq!(bench.counts(), [0, 0, 0, 0]);
    assert!(!note.exists());
}

/// M34: builds, verify, prune and clear beside each other all go well, and what was built is whole.
#[test]
fn builds_and_cache_maintenance_run_concurrently() {
    if is_left_out() {
        return;
    }
    let bench = Bench::with_everything();
    for number in 0..4 {
        bench.scratch.write(format!("source{number}/file"), format!("content {number}\n").repeat(5000));
    }
    let requests: [&[&str]; 4] = [&["verify"], &["prune", "--keep", "0"], &["prune", "--older-than", "0s"], &["info"]];
    std::thread::scope(|scope| {
        for request in requests {
            let bench = &bench;
            scope.spawn(move || {
                for _ in 0..40 {
                    run(bench.command(&["cache"]).args(request)).success();
                }
            });
        }
        for number in 0..4 {
            let bench = &bench;
            scope.spawn(move || {
                for round in 0..10 {
                    let (out, source) = (format!("out{number}"), format!("source{number}:/srv{round}"));
                    let built = bench.run(&["layout", &out, "--copy", &source]).success();
                    assert!(!built.stderr.contains("warning"), "{built}");
                    bench.run(&["verify", &out]).success();
                }
            });
        }
    });
}

/// M54: a layer of a base is not copied into a layout, but shared like a layer of the cache, and reported once at most.
#[test]
fn layers_of_a_base_are_shared() {
    if is_left_out() {
        return;
    }
    let bench = Bench::with_everything();
    let base = "docker://docker.io/team/base:v1";
    let build = |out: &str| bench.run(&["layout", out, "--offline", "--base", base, "--copy", "source:/srv"]).success();
    let built = build("out1");
    let stored = bench.largest_blob("cache/bases");
    let shared = bench.scratch.join("out1/blobs/sha256").join(stored.file_name().unwrap());
    let (stored, shared) = (stored.metadata().unwrap(), shared.metadata().unwrap());
    assert_eq!(stored.len(), shared.len());
    // A file system that shares blocks has two files with different inode numbers.
    let can_link = bench.largest_blob("out").metadata().unwrap().nlink() > 1;
    assert!(!can_link || stored.ino() == shared.ino(), "the layer of the base was copied");
    assert!(!built.stderr.contains("copy sha256:"), "{built}");
    bench.run(&["verify", "out1"]).success();
}

/// Temporary files of killed processes go from every directory of the cache.
#[test]
fn temporary_files_of_killed_processes_go_from_the_whole_cache() {
    if is_left_out() {
        return;
    }
    let bench = Bench::with_everything();
    for place in ["seen/v1", "left-out/v1", "signatures/v1", "used/v1", "store/blobs/sha256", "rcc", "listings/v2", "."]
    {
        bench.scratch.write(format!("cache/{place}/.ocibuild-0123456789abcdef0123456789abcdef"), "left");
    }
    bench.run(&["cache", "prune", "--older-than", "100d"]).success();
    let is_temporary = |file: &PathBuf| file.to_str().unwrap().contains("/.ocibuild-");
    assert_eq!(files(&bench.cache()).into_iter().filter(is_temporary).collect::<Vec<_>>(), Vec::<PathBuf>::new());
    assert_eq!(bench.counts(), [1, 1, 1, 1]);
}

/// M35: if it is not known which builds are running, nothing is removed.
#[test]
fn nothing_is_removed_while_running_builds_are_unknown() {
    if is_left_out() {
        return;
    }
    let bench = Bench::with_everything();
    fs::remove_dir_all(bench.cache().join("running")).unwrap();
    bench.scratch.write("cache/running", "");
    let refused = bench.run(&["cache", "clear"]).ended_with(1);
    assert!(refused.stderr.contains("cache/running: cannot open: not a directory"), "{refused}");
    fs::remove_file(bench.cache().join("running")).unwrap();
    assert_eq!(bench.counts(), [1, 1, 1, 1]);
}

/// M35: a store that the system cannot read at the moment is not a damaged one, and is kept.
#[test]
fn a_store_is_not_removed_because_the_system_cannot_read_it() {
    if is_left_out() {
        return;
    }
    let bench = Bench::with_everything();
    let owned_by = |user: u32| {
        run(crate::support::command("chown").arg("-R").arg(user.to_string()).arg(bench.cache())).success();
    };
    let manifest = fs::read_to_string(bench.cache().join("bases/index.json")).unwrap();
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    let manifest = manifest["manifests"][0]["digest"].as_str().unwrap().replace(':', "/");
    for file in ["store/index.json", "bases/index.json", &format!("bases/blobs/{manifest}")] {
        for action in [&["prune", "--older-than", "100d"][..], &["verify"]] {
            let words = [&["cache"], action, &["--cache-dir", "cache"]].concat();
            let Some(mut nobody) = as_nobody(&bench.scratch, &words) else { return };
            let path = bench.cache().join(file);
            let mode = path.metadata().unwrap().permissions();
            owned_by(65534);
            fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
            let refused = run(&mut nobody).ended_with(1);
            assert!(format!("{refused}").contains("cannot open: permission denied"), "{file}: {refused}");
            owned_by(0);
            fs::set_permissions(&path, mode).unwrap();
            assert_eq!(bench.counts(), [1, 1, 1, 1], "{file}: {refused}");
        }
    }
}
