//! Many writers of one layout, half of them of one name, with collections, removals, checks, copies and a cache that is pruned
//! beside them; and in another layout beside programs that take no lock. By default a few of them, for a moment:
//!
//! ```text
//! OCIBUILD_CROWD=100 OCIBUILD_CROWD_SECONDS=180 cargo test --test all promise::crowd -- --nocapture
//! ```

use crate::catalogue::contract::{Bench, is_whole, no_temporaries, tags};
use crate::consumers::{Layout as Image, Skopeo};
use crate::support::{command, is_left_out};
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// What was done, and how often; and the digests that were printed, by name.
#[derive(Default)]
struct Done {
    counts: Mutex<BTreeMap<&'static str, usize>>,
    digests: Mutex<BTreeMap<String, Vec<String>>>,
}

impl Done {
    fn count(&self, kind: &'static str) {
        *self.counts.lock().unwrap().entry(kind).or_default() += 1;
    }

    /// Runs a command that has to succeed, and returns what it prints. (Nobody else reads the image, which another writer may
    /// replace at once.)
    #[track_caller]
    fn run(&self, kind: &'static str, command: &mut Command) -> String {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{command:?}: {output:?}");
        self.count(kind);
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

fn number(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).map_or(usual, |value| value.parse().unwrap())
}

#[test]
fn s6_s7_a_crowd_of_writers_loses_nothing() {
    if is_left_out() {
        return;
    }
    let writers = number("OCIBUILD_CROWD", 8);
    let seconds = number("OCIBUILD_CROWD_SECONDS", 1);
    let (bench, done) = (Bench::keeping(), Done::default());
    let end = Instant::now() + Duration::from_secs(seconds);
    std::thread::scope(|scope| {
        for writer in 0..writers {
            let (bench, done) = (&bench, &done);
            scope.spawn(move || writes(bench, done, writer, end));
        }
        let beside: [(&'static str, &[&str]); 5] = [
            ("collections", &["gc", "out", "-q", "--older-than", "0s", "--lock-timeout", "600"]),
            ("checks", &["verify", "-q", "out:keep"]),
            ("copies", &["export", "-q", "out:keep", "oci:out:copy", "--lock-timeout", "600"]),
            ("archives", &["export", "-q", "out:keep", "oci-archive:image.tar"]),
            ("prunings", &["cache", "prune", "--keep", "0", "-q", "--cache-dir", "cache"]),
        ];
        for (kind, words) in beside {
            let (bench, done) = (&bench, &done);
            scope.spawn(move || {
                while Instant::now() < end {
                    done.run(kind, &mut bench.command(words));
                    if kind == "copies" {
                        let words = ["rm", "out:copy", "-q", "--lock-timeout", "600"];
                        done.run("removals", &mut bench.command(&words));
                    }
                }
            });
        }
        let (bench, done) = (&bench, &done);
        scope.spawn(move || writes_without_a_lock(bench, done, end));
    });
    println!("{writers} writers in {seconds} s: {:?}", done.counts.lock().unwrap());
    is_whole("a crowd", &bench.out);
    no_temporaries("a crowd", &bench.out);
    let digests = done.digests.lock().unwrap();
    let expected: BTreeSet<&str> = digests.keys().map(String::as_str).chain(["keep"]).collect();
    assert_eq!(tags(&bench.out), expected.into_iter().collect::<Vec<_>>());
    for (tag, printed) in digests.iter() {
        let now = Image::new(&bench.out, tag).manifest_digest();
        match tag.as_str() {
            "one" => assert!(printed.contains(&now), "{tag}"),
            _ => assert_eq!(printed.last(), Some(&now), "{tag}"),
        }
    }
    let words = ["cache", "verify", "-q", "--cache-dir", "cache"];
    done.run("checks", &mut bench.command(&words));
}

/// Builds again and again, every other writer the same name.
fn writes(bench: &Bench, done: &Done, writer: u64, end: Instant) {
    let tag = if writer.is_multiple_of(2) { "one".to_owned() } else { format!("own{writer}") };
    let source = format!("src{writer}");
    for round in 0.. {
        // Contents come back after they were removed.
        bench.scratch.write(format!("{source}/file"), format!("{writer} {}", round % 3));
        let copied = format!("{source}:/srv");
        let words = ["layout", "out", "-q", "-t", &tag, "--copy", &copied, "--jobs", "1", "--lock-timeout", "600"];
        let mut build = bench.command(&words);
        build.args(["--cache-dir", "cache"]).env_remove("OCIBUILD_NO_CACHE");
        let digest = done.run("builds", &mut build);
        done.digests.lock().unwrap().entry(tag.clone()).or_default().push(digest);
        if Instant::now() > end {
            return;
        }
    }
}

/// skopeo and we write into one layout, which either of them makes. It may drop an image of ours, but damages none.
fn writes_without_a_lock(bench: &Bench, done: &Done, end: Instant) {
    if Skopeo::find().is_none() {
        return;
    }
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while Instant::now() < end {
                let mut skopeo = command("skopeo");
                skopeo.args(["copy", "-q", "oci:out:keep", "oci:shared:theirs"]).current_dir(bench.scratch.path());
                // An index that changes below it may be too much for it.
                if skopeo.output().unwrap().status.success() {
                    done.count("copies without a lock");
                }
            }
        });
        scope.spawn(|| {
            while Instant::now() < end {
                let words = ["export", "-q", "out:keep", "oci:shared:ours"];
                let output = bench.command(&words).output().unwrap();
                let said = String::from_utf8_lossy(&output.stderr);
                // skopeo writes blobs and its temporary files before `oci-layout`, and `index.json` in place.
                let half_made = ["index.json", "`oci-layout` is missing", "not an OCI layout, and not empty"];
                assert!(output.status.success() || half_made.iter().any(|reason| said.contains(reason)), "{said}");
                done.count("copies beside them");
            }
        });
    });
    done.run("copies after them", &mut bench.command(&["export", "-q", "out:keep", "oci:shared:ours"]));
    is_whole("beside a program without a lock", &bench.scratch.join("shared"));
}
