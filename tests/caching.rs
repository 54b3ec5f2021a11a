//! The cache of layers: the same bytes with it and without, and nothing that happens to it is an error.

use crate::support::{Scratch, command, consumer, is_left_out, most_own_memory, run};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The program under test, with a cache.
fn ocibuild() -> Command {
    let mut program = crate::support::ocibuild();
    program.env_remove("OCIBUILD_NO_CACHE");
    program
}

struct Bench {
    scratch: Scratch,
}

impl Bench {
    fn new() -> Bench {
        let bench = Bench { scratch: Scratch::new() };
        write_source(&bench.source());
        bench
    }

    fn source(&self) -> PathBuf {
        self.scratch.join("source")
    }

    fn cache(&self) -> PathBuf {
        self.scratch.join("cache")
    }

    fn command(&self, source: &Path, out: &str) -> Command {
        let mut command = ocibuild();
        command
            .arg("layout")
            .arg(self.scratch.join(out))
            .args(["-q", "--format", "json", "--cache-dir"])
            .arg(self.cache());
        command.arg("--copy").arg(format!("{}:/srv", source.display()));
        command
    }

    /// Builds, verifies, and returns the digest and the origin of the layer.
    #[track_caller]
    fn build(&self, out: &str) -> (String, String) {
        self.outcome(&mut self.command(&self.source(), out), out)
    }

    #[track_caller]
    fn outcome(&self, command: &mut Command, out: &str) -> (String, String) {
        let built: Value = serde_json::from_str(run(command).success().text()).unwrap();
        run(ocibuild().args(["verify", "-q"]).arg(self.scratch.join(out))).success();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (text(&built["digest"]), text(&built["layers"][0]["origin"]))
    }
}

fn write_source(at: &Path) {
    for number in 0..40 {
        let directory = at.join(format!("d{}", number % 5));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(format!("f{number}")), format!("file {number}\n").repeat(number * 50)).unwrap();
    }
}

/// Long enough that a file is not racy any more.
fn settle() {
    std::thread::sleep(Duration::from_millis(2100));
}

#[test]
fn c19_cold_warm_and_without_a_cache_the_digest_is_one() {
    if is_left_out() {
        return;
    }
    let bench = Bench::new();
    settle();
    let (digest, origin) = bench.build("cold");
    assert_eq!(origin, "made");
    assert_eq!(bench.build("warm"), (digest.clone(), "same-files".to_owned()));
    for more in [["--no-cache", "--jobs=1"], ["--no-cache", "--jobs=8"]] {
        let outcome = bench.outcome(bench.command(&bench.source(), "without").args(more), "without");
        assert_eq!(outcome, (digest.clone(), "made".to_owned()));
    }
}

#[test]
fn c14_a_fresh_checkout_is_read_and_not_compressed_again() {
    let bench = Bench::new();
    let (digest, _) = bench.build("first");
    let other = bench.scratch.join("elsewhere/source");
    write_source(&other);
    let outcome = bench.outcome(&mut bench.command(&other, "second"), "second");
    assert_eq!(outcome, (digest, "same-content".to_owned()));
}

#[test]
fn c11_c12_c13_c15_every_change_is_noticed() {
    if is_left_out() {
        return;
    }
    let bench = Bench::new();
    settle();
    let (digest, _) = bench.build("first");
    let file = bench.source().join("d1/f11");
    let before = fs::read(&file).unwrap();
    let modified = fs::metadata(&file).unwrap().modified().unwrap();

    let mut changed = before.clone();
    changed[0] = b'F';
    fs::write(&file, &changed).unwrap();
    fs::File::options().write(true).open(&file).unwrap().set_modified(modified).unwrap();
    let (after, origin) = bench.build("time-restored");
    assert_ne!(after, digest, "C11: the same size and modification time");
    assert_eq!(origin, "made");

    // Within the tick of the clock in which the cache was written.
    changed[1] = b'I';
    fs::write(&file, &changed).unwrap();
    assert_ne!(bench.build("racy").0, after, "C12");

    fs::write(file.with_extension("new"), &before).unwrap();
    fs::rename(file.with_extension("new"), &file).unwrap();
    assert_eq!(bench.build("renamed-over").0, digest, "C13: the first content again");

    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    assert_ne!(bench.build("mode").0, digest, "C15");
}

#[test]
fn c3_c5_a_damaged_cache_costs_time_only() {
    if is_left_out() {
        return;
    }
    let bench = Bench::new();
    settle();
    let (digest, _) = bench.build("first");
    let files = |below: &str| -> Vec<PathBuf> {
        let entries = fs::read_dir(bench.cache().join(below)).unwrap();
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect()
    };
    type Spoil = fn(&Path);
    let spoils: [Spoil; 4] = [
        |file| fs::write(file, b"").unwrap(),
        |file| fs::write(file, b"garbage").unwrap(),
        |file| fs::remove_file(file).unwrap(),
        |file| fs::write(file, &fs::read(file).unwrap()[1..]).unwrap(),
    ];
    for (number, spoil) in spoils.iter().enumerate() {
        for below in ["layers/v1", "verified/v2", "store/blobs/sha256"] {
            for file in files(below) {
                spoil(&file);
            }
            // The blob is one file with that of the layout that made it; a new layout has to do without.
            let out = format!("spoilt-{number}-{}", below.replace('/', "-"));
            assert_eq!(bench.build(&out).0, digest, "{below}");
        }
    }
}

#[test]
fn c7_c8_a_cache_that_cannot_be_used_is_warned_about_once() {
    let bench = Bench::new();
    fs::create_dir(bench.cache()).unwrap();
    fs::set_permissions(bench.cache(), fs::Permissions::from_mode(0o777)).unwrap();
    let finished = run(&mut bench.command(&bench.source(), "out")).success();
    assert_eq!(finished.stderr.lines().count(), 1, "{finished}");
    assert!(finished.stderr.contains("writable by other users"), "{finished}");
    assert_eq!(fs::read_dir(bench.cache()).unwrap().count(), 0);

    fs::remove_dir(bench.cache()).unwrap();
    fs::write(bench.cache(), b"a file").unwrap();
    let finished = run(&mut bench.command(&bench.source(), "out")).success();
    assert_eq!(finished.stderr.lines().count(), 1, "{finished}");
}

#[test]
fn c9_twenty_builds_at_once_share_a_cache() {
    if is_left_out() {
        return;
    }
    let bench = Bench::new();
    settle();
    let mut children: Vec<_> = (0..20)
        .map(|number| {
            // Half of them make the same layer, half one of their own.
            let source = if number % 2 == 0 { bench.source() } else { bench.scratch.join(format!("source{number}")) };
            if number % 2 == 1 {
                write_source(&source);
                fs::write(source.join("own"), number.to_string()).unwrap();
            }
            let mut command = bench.command(&source, &format!("out{number}"));
            command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped()).spawn().unwrap()
        })
        .collect();
    for child in &mut children {
        assert!(child.wait().unwrap().success());
    }
    for number in 0..20 {
        run(ocibuild().args(["verify", "-q"]).arg(bench.scratch.join(format!("out{number}")))).success();
    }
    run(ocibuild().args(["cache", "verify", "--cache-dir"]).arg(bench.cache())).success();
    assert_eq!(bench.build("after").1, "same-files");
}

#[test]
fn c10_a_killed_build_leaves_a_usable_cache() {
    if is_left_out() {
        return;
    }
    let bench = Bench::new();
    settle();
    let digest = bench.outcome(bench.command(&bench.source(), "without").arg("--no-cache"), "without").0;
    for number in 0..15 {
        let mut command = bench.command(&bench.source(), &format!("killed{number}"));
        let mut child =
            command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(number * 3));
        child.kill().ok();
        child.wait().unwrap();
        assert_eq!(bench.build(&format!("after{number}")).0, digest);
    }
}

#[test]
fn a_cache_is_looked_at_pruned_and_cleared() {
    let bench = Bench::new();
    bench.build("out");
    let cache = |arguments: &[&str]| -> String {
        let finished = run(ocibuild().arg("cache").args(arguments).arg("--cache-dir").arg(bench.cache())).success();
        finished.text().to_owned()
    };
    assert!(cache(&["info"]).contains("\n1 layer,"), "{}", cache(&["info"]));
    assert!(cache(&["verify"]).ends_with(": no errors found"));
    assert!(cache(&["prune", "--keep", "1GiB"]).starts_with("0 layers removed"));
    assert!(cache(&["prune", "--older-than", "1d"]).starts_with("0 layers removed"));
    assert!(cache(&["clear"]).starts_with("1 layer removed"));
    assert!(cache(&["info"]).ends_with("cache: 0 B\n0 layers, 0 B"));
    run(ocibuild().args(["cache", "prune", "--cache-dir"]).arg(bench.cache())).ended_with(2);
    run(ocibuild().args(["verify", "-q"]).arg(bench.scratch.join("out"))).success();
}

#[test]
fn an_explanation_says_where_each_layer_came_from() {
    let bench = Bench::new();
    let explained = |out: &str| {
        let mut command = ocibuild();
        command.arg("layout").arg(bench.scratch.join(out)).args(["--explain", "--cache-dir"]).arg(bench.cache());
        command.arg("--copy").arg(format!("{}:/srv", bench.source().display()));
        run(&mut command).success().stderr
    };
    assert!(explained("one").contains("built: no cached layer"));
    assert!(explained("two").contains("cache hit: "));
}

#[test]
fn c4_records_of_another_format_are_left_alone() {
    let bench = Bench::new();
    let digest = bench.build("first").0;
    for version in ["v0", "v2"] {
        let directory = bench.cache().join("layers").join(version);
        fs::create_dir(&directory).unwrap();
        for entry in fs::read_dir(bench.cache().join("layers/v1")).unwrap().map(Result::unwrap) {
            fs::write(directory.join(entry.file_name()), "{\"format\": \"another\"}").unwrap();
        }
    }
    assert_eq!(bench.build("second").0, digest);
    assert!(fs::read_dir(bench.cache().join("layers/v2")).unwrap().count() > 0);
}

#[test]
fn c6_a_record_with_the_name_of_another_one_is_not_used() {
    if is_left_out() {
        return;
    }
    let bench = Bench::new();
    let other = bench.scratch.join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("file"), "other\n").unwrap();
    settle();
    let first = bench.build("first").0;
    let second = bench.outcome(&mut bench.command(&other, "second"), "second").0;
    assert_ne!(first, second);
    let records = bench.cache().join("layers/v1");
    let paths: Vec<PathBuf> = fs::read_dir(&records).unwrap().map(|entry| entry.unwrap().path()).collect();
    let contents: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
    for distance in 1..paths.len() {
        for (path, content) in paths.iter().zip(contents.iter().cycle().skip(distance)) {
            fs::remove_file(path).unwrap();
            fs::write(path, content).unwrap();
        }
        let out = format!("again{distance}");
        assert_eq!(bench.build(&out).0, first);
        let out = format!("{out}-other");
        assert_eq!(bench.outcome(&mut bench.command(&other, &out), &out).0, second);
    }
}

/// Row C2: a value that is taken apart without a rest does not compile once it gets a member that the key does not list.
#[test]
fn c2_inputs_of_a_layer_are_taken_apart_without_a_rest() {
    let keys = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cache/keys.rs")).unwrap();
    for value in ["RecipeKey", "Fingerprints", "Fingerprint", "Entry", "Attributes", "Stamp"] {
        let taken_apart = format!("let {value} {{ ");
        let mut lines =
            keys.lines().filter(|line| line.contains(&taken_apart) || line.contains(&format!("&{value} {{ ")));
        assert!(
            lines.clone().next().is_some() || keys.contains(&format!("for {value} {{ ")),
            "{value} is not taken apart"
        );
        assert_eq!(lines.find(|line| line.contains("..")), None, "{value}");
    }
}

/// Row C20: what a build reads of the cache does not grow with it, and `cache prune` removes what is there.
#[test]
fn c20_a_cache_of_very_many_records_is_looked_up_in_few_calls_and_pruned() {
    let Some(strace) = consumer("strace") else { return };
    let bench = Bench::new();
    fs::remove_dir_all(bench.source()).unwrap();
    bench.scratch.write("source/file", "content\n");
    bench.build("out");
    let log = bench.scratch.join("log");
    let calls = || {
        let build = bench.command(&bench.source(), "out");
        let mut traced = command(&strace);
        traced.args(["-f", "-qq", "-e", "trace=%file,getdents64,read", "-o"]).arg(&log);
        traced.arg(build.get_program()).args(build.get_args()).env_remove("OCIBUILD_NO_CACHE");
        run(&mut traced).success();
        fs::read_to_string(&log).unwrap().lines().count()
    };
    calls();
    let few = calls();
    let records = bench.cache().join("layers/v1");
    let one = fs::read_dir(&records).unwrap().next().unwrap().unwrap().path();
    const MORE: usize = 20_000;
    (0..MORE).for_each(|number| fs::hard_link(&one, records.join(format!("{number:064x}"))).unwrap());
    let many = calls();
    assert!(many <= few + few / 10, "{few} calls, and {many} beside {MORE} more records");
    let prune = ["cache", "prune", "--keep", "0", "--quiet", "--cache-dir"];
    run(ocibuild().args(prune).arg(bench.cache())).success();
    assert!(fs::read_dir(&records).is_ok_and(|left| left.count() < 10));
}

#[test]
fn a_hundred_thousand_files_take_little_memory() {
    if is_left_out() {
        return;
    }
    let scratch = Scratch::new();
    for number in 0..1000 {
        let directory = scratch.join(format!("source/package{number:04}"));
        fs::create_dir_all(&directory).unwrap();
        for number in 0..100 {
            fs::write(directory.join(format!("module{number:05}.py")), format!("{number}\n")).unwrap();
        }
    }
    settle();
    let bench = Bench { scratch };
    // What a release build takes is 46 MiB with its program.
    for (out, most) in [("first", 40), ("unchanged", 34)] {
        let own = most_own_memory(&mut bench.command(&bench.source(), out));
        assert!(own < most << 20, "{out}: {} KiB", own >> 10);
        // A bound that nothing comes near would show nothing.
        assert!(own > 16 << 20, "{out}: {} KiB", own >> 10);
    }
}
