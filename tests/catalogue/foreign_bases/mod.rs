//! Rows B1 to B41: base images in layouts that are wrong, damaged or unusual.

mod blobs;
mod choosing;
mod configs;
mod documents;
mod layers;

use super::contract::{Bench, is_cheap};
use super::forge::Forged;
use crate::support::run;
use serde_json::Value;

/// A fault, and the words that name it.
type Fault<'a> = (&'a str, &'a dyn Fn(&Forged), &'a [&'a str]);

/// Builds on each faulty base, into nothing and into a layout with an image, and expects the refusal.
#[track_caller]
fn each_is_refused(faults: &[Fault<'_>]) {
    for (row, forge, words) in faults {
        for bench in [Bench::empty(), Bench::keeping()] {
            let base = Forged::new(bench.scratch.join("base"));
            forge(&base);
            let mut build = bench.layout();
            build.arg("--base").arg(base.location()).arg("--copy").arg(format!("{}:/srv", bench.source().display()));
            bench.refuses(row, &mut build, words);
        }
    }
}

/// Builds on the base, which must work, and answers the manifest and config of the image and what was warned of.
#[track_caller]
fn builds_on(row: &str, forge: &dyn Fn(&Forged), arguments: &[&str]) -> (Value, Value, String) {
    let bench = Bench::keeping();
    let base = Forged::new(bench.scratch.join("base"));
    forge(&base);
    let mut build = bench.layout();
    build.args(["--tag", "new", "--base"]).arg(base.location()).args(arguments);
    build.arg("--copy").arg(format!("{}:/srv", bench.source().display()));
    let built = run(&mut build);
    assert_eq!(built.status, 0, "{row}: {built}");
    is_cheap(row, &built);
    bench.is_intact(row);
    let out = crate::consumers::Layout::new(&bench.out, "new");
    assert_eq!(built.text(), out.manifest_digest(), "{row}");
    (out.manifest(), out.config(), built.stderr)
}

/// What is warned of, a line each.
fn warnings(stderr: &str) -> Vec<&str> {
    stderr.lines().map(|line| line.strip_prefix("ocibuild: warning: ").unwrap_or_else(|| panic!("{stderr}"))).collect()
}
