//! What every refusal promises: status 1 (or 2 when the request itself cannot be meant), one line that names the object and
//! the reason, an index that did not change, an earlier image that still verifies, and no file in the making.

use crate::support::{Finished, Scratch, ocibuild, run};
use ocibuild::Platform;
use ocibuild::build::image::Base;
use ocibuild::build::{BuildSpec, LayerSpec, Source};
use ocibuild::common::progress::Silent;
use ocibuild::common::root::Root;
use ocibuild::store::Layout;
use ocibuild::store::verify;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// No hostile input takes more time on the processors.
const TIME: Duration = Duration::from_secs(10);

/// No hostile input takes more memory, in KiB.
const MEMORY: u64 = 200 << 10;

/// A scratch directory with a place `out` to build into.
pub(crate) struct Bench {
    pub(crate) scratch: Scratch,
    pub(crate) out: PathBuf,
}

impl Bench {
    /// Nothing is at `out` yet.
    pub(crate) fn empty() -> Bench {
        let scratch = Scratch::new();
        let out = scratch.join("out");
        Bench { scratch, out }
    }

    /// At `out` is a layout with the image `keep`.
    pub(crate) fn keeping() -> Bench {
        let bench = Bench::empty();
        copy_directory(keep(), &bench.out);
        bench
    }

    /// `ocibuild layout OUT --quiet`, run in the scratch directory.
    pub(crate) fn layout(&self) -> Command {
        self.command(&["layout", "out", "--quiet"])
    }

    /// The same for an image without content, which has to be asked for: by a label.
    pub(crate) fn empty_image(&self) -> Command {
        self.command(&["layout", "out", "--quiet", "--label", "ocibuild.test=yes"])
    }

    /// `ocibuild ARGUMENTS`, run in the scratch directory.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = ocibuild();
        command.args(arguments).current_dir(self.scratch.path());
        command
    }

    /// A directory `src` with one file, to copy.
    pub(crate) fn source(&self) -> PathBuf {
        self.scratch.write("src/file", "content\n");
        self.scratch.join("src")
    }

    /// Runs the command, which must keep the contract of a refusal and say all of `words`.
    #[track_caller]
    pub(crate) fn refuses(&self, row: &str, command: &mut Command, words: &[&str]) -> Finished {
        self.refuses_with(1, row, command, words)
    }

    /// As [`Bench::refuses`], for a request that cannot be meant.
    #[track_caller]
    pub(crate) fn refuses_usage(&self, row: &str, command: &mut Command, words: &[&str]) -> Finished {
        self.refuses_with(2, row, command, words)
    }

    #[track_caller]
    fn refuses_with(&self, status: i32, row: &str, command: &mut Command, words: &[&str]) -> Finished {
        let before = fs::read(self.out.join("index.json")).ok();
        let finished = run(command);
        is_cheap(row, &finished);
        assert_eq!(finished.status, status, "{row}: {finished}");
        is_one_line(row, &finished, words);
        let after = fs::read(self.out.join("index.json")).ok();
        // Where there was nothing, an empty layout may have been made.
        if before.is_some() {
            assert!(before == after, "{row}: index.json changed: {finished}");
        }
        self.is_intact(row);
        finished
    }

    /// Asserts that every image of `out` is whole, and that nothing in the making is left anywhere.
    #[track_caller]
    pub(crate) fn is_intact(&self, row: &str) {
        if self.out.join("oci-layout").is_file() {
            is_whole(row, &self.out);
        }
        no_temporaries(row, self.scratch.path());
    }
}

/// Asserts that standard error is the one line of an error that says all of `words`, and that nothing was printed.
#[track_caller]
pub(crate) fn is_one_line(row: &str, finished: &Finished, words: &[&str]) {
    let stderr = &finished.stderr;
    assert_eq!(stderr.lines().count(), 1, "{row}: not one line: {finished}");
    assert!(stderr.starts_with("ocibuild: error: ") && stderr.ends_with('\n'), "{row}: {finished}");
    let (_, rest) = stderr.split_once("error: ").unwrap();
    assert!(rest.contains(": "), "{row}: no `object: reason`: {finished}");
    assert!(!stderr.contains("internal error"), "{row}: {finished}");
    for word in words {
        assert!(stderr.contains(word), "{row}: {word:?} is not said: {finished}");
    }
    assert!(finished.stdout.is_empty(), "{row}: {finished}");
}

/// Asserts that little time and memory was used.
#[track_caller]
pub(crate) fn is_cheap(row: &str, finished: &Finished) {
    let used = finished.used;
    assert!(used.processor < TIME && used.memory < MEMORY, "{row}: took {used:?}: {finished}");
}

/// Asserts that `verify` finds no fault.
#[track_caller]
pub(crate) fn is_whole(row: &str, layout: &Path) {
    let report = verify::verify(layout, &Silent).unwrap_or_else(|error| panic!("{row}: {error}"));
    assert!(report.faults.is_empty(), "{row}: {:#?}", report.faults);
}

/// The tags of a layout, sorted.
#[track_caller]
pub(crate) fn tags(layout: &Path) -> Vec<String> {
    let index = Layout::open(layout).unwrap().index().unwrap();
    let name = |listed: &ocibuild::spec::Descriptor| listed.annotations[ocibuild::spec::REF_NAME].clone();
    let mut tags: Vec<String> = index.manifests().iter().map(name).collect();
    tags.sort();
    tags
}

/// Asserts that below `directory` no file in the making is left.
#[track_caller]
pub(crate) fn no_temporaries(row: &str, directory: &Path) {
    let left = temporaries(directory);
    assert!(left.is_empty(), "{row}: left behind: {left:?}");
}

/// The files in the making below `directory`.
pub(crate) fn temporaries(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name.to_string_lossy().starts_with(".ocibuild-") {
            found.push(entry.path());
        }
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(temporaries(&entry.path()));
        }
    }
    found
}

/// Copies plain files and directories.
pub(crate) fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_directory(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A layout with the image `keep`, made once.
fn keep() -> &'static Path {
    static KEEP: OnceLock<(Scratch, PathBuf)> = OnceLock::new();
    let (_, layout) = KEEP.get_or_init(|| {
        let scratch = Scratch::new();
        let source = scratch.join("source");
        scratch.write("source/kept", "kept\n");
        let layout = scratch.join("layout");
        build(&spec(&source), &layout, "keep").unwrap();
        fs::remove_file(layout.join(".ocibuild.lock")).unwrap();
        (scratch, layout)
    });
    layout
}

/// A request to copy the directory `source` to `/srv` of an image on scratch.
pub(crate) fn spec(source: &Path) -> impl Fn() -> BuildSpec + use<> {
    let source = source.to_owned();
    move || {
        let source = Source::directory(Root::open(&source).unwrap(), "/srv".parse().unwrap()).named("source");
        let layer = LayerSpec::new("the source").source(source);
        BuildSpec::new(Base::Scratch(Platform::linux_amd64())).layer(layer)
    }
}

/// Builds through the library.
pub(crate) fn build(
    spec: &impl Fn() -> BuildSpec,
    layout: &Path,
    tag: &str,
) -> ocibuild::Result<ocibuild::build::Built> {
    let layout = Arc::new(Layout::create(layout)?);
    spec().plan(layout.root(), None, &Silent)?.build(&layout, None, &[tag.parse()?], &Silent)
}
