//! What is on the disk after a build, whatever happened around it: power cuts, other writers, locks that do not work.

use super::contract::{Bench, copy_directory, is_one_line, is_whole, tags};
use crate::consumers::Skopeo;
use crate::support::{Finished, LoopDisk, command, consumer, consumer_as_root, run};
use ocibuild::Digest;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// The build of `src` as the tag `new`, with every call of `call` treated by strace as `fault` says.
fn injected(strace: &Path, bench: &Bench, call: &str, fault: &str) -> Command {
    bench.source();
    let mut traced = command(strace);
    traced.args(["-f", "-qq", "-o"]).arg(bench.scratch.join("strace.log"));
    traced.args(["-e", &format!("trace={call}"), "-e", &format!("inject={call}:{fault}")]);
    traced.arg(env!("CARGO_BIN_EXE_ocibuild")).args(["layout", "out", "-q", "-t", "new", "--copy", "src:/srv"]);
    traced.current_dir(bench.scratch.path());
    traced
}

/// Disks whose file systems a power cut is tried on.
fn disks() -> impl Iterator<Item = (&'static str, LoopDisk)> {
    LoopDisk::KINDS.into_iter().filter_map(|kind| Some((kind, LoopDisk::new(kind)?)))
}

/// Copies the image `keep` into the layout `out` of the disk by skopeo, which syncs nothing.
fn copy_by_skopeo(skopeo: &Skopeo, bench: &Bench, disk: &LoopDisk) {
    let from = format!("oci:{}:keep", bench.out.display());
    assert!(skopeo.copy(&[], &from, &format!("oci:{}:base", disk.join("out").display())).status == 0);
}

/// M22: an image that builds on what skopeo has just written survives a power cut together with that.
#[test]
fn a_build_on_what_others_did_not_sync_survives_a_power_cut() {
    let Some(skopeo) = Skopeo::find() else { return };
    for (kind, disk) in disks() {
        let bench = Bench::keeping();
        bench.source();
        copy_by_skopeo(&skopeo, &bench, &disk);
        let base = format!("oci:{}:base", disk.join("out").display());
        let build = || {
            let mut build = bench.command(&["layout", "-q", "-t", "new", "--copy", "src:/srv", "--base", &base]);
            build.arg(disk.join("out"));
            build
        };
        let digest = run(&mut build()).success().text().to_owned();
        disk.cut_power();
        is_whole(kind, &disk.join("out"));
        assert_eq!(tags(&disk.join("out")), ["base", "new"], "{kind}");
        assert_eq!(run(&mut build()).success().text(), digest, "{kind}");
    }
}

/// M22: a copy into a layout of which every blob is there already.
#[test]
fn an_export_into_what_others_did_not_sync_survives_a_power_cut() {
    let Some(skopeo) = Skopeo::find() else { return };
    for (kind, disk) in disks() {
        let bench = Bench::keeping();
        copy_by_skopeo(&skopeo, &bench, &disk);
        let to = format!("oci:{}:new", disk.join("out").display());
        run(&mut bench.command(&["export", "out:keep", &to, "-q"])).success();
        disk.cut_power();
        is_whole(kind, &disk.join("out"));
        assert_eq!(tags(&disk.join("out")), ["base", "new"], "{kind}");
    }
}

/// M22: the same where so many files are not known to be durable that the file system is synced as a whole; and an image
/// that no other process changed.
#[test]
fn a_layout_of_many_blobs_survives_a_power_cut() {
    for (kind, disk) in disks() {
        let bench = Bench::keeping();
        bench.source();
        copy_directory(&bench.out, &disk.join("out"));
        let blobs: Vec<String> = (0..300).map(|number| format!("blob {number}")).collect();
        let path = |blob: &String| disk.join("out/blobs/sha256").join(Digest::of(blob.as_bytes()).hex());
        blobs.iter().for_each(|blob| fs::write(path(blob), blob).unwrap());
        for out in ["out", "new"] {
            let mut build = bench.command(&["layout", "-q", "-t", "new", "--copy", "src:/srv"]);
            run(build.arg(disk.join(out))).success();
        }
        disk.cut_power();
        is_whole(kind, &disk.join("out"));
        is_whole(kind, &disk.join("new"));
        assert_eq!(tags(&disk.join("out")), ["keep", "new"], "{kind}");
        assert!(blobs.iter().all(|blob| fs::read_to_string(path(blob)).unwrap() == *blob), "{kind}");
    }
}

/// M13: the path that was named has to lead to the image in the end.
#[test]
fn a_layout_that_is_moved_during_the_build_is_no_success() {
    let Some(strace) = consumer("strace") else { return };
    for is_replaced in [false, true] {
        let bench = Bench::keeping();
        let mut build = injected(&strace, &bench, "fsync", "delay_enter=300000");
        let finished = std::thread::scope(|scope| {
            let build = scope.spawn(|| run(&mut build));
            wait_until(|| !super::contract::temporaries(&bench.out).is_empty());
            fs::rename(&bench.out, bench.scratch.join("moved")).unwrap();
            if is_replaced {
                copy_directory(&bench.scratch.join("moved"), &bench.out);
            }
            build.join().unwrap()
        });
        assert_eq!(finished.status, 1, "{finished}");
        is_one_line("M13", &finished, &["out: was renamed or replaced during the build"]);
        assert_eq!(tags(&bench.scratch.join("moved")), ["keep", "new"]);
    }
}

fn wait_until(happened: impl Fn() -> bool) {
    let started = Instant::now();
    while !happened() {
        assert!(started.elapsed() < Duration::from_secs(60), "it does not happen");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// M37: a program that read the index before the build and writes it back behind it does not remove the image.
#[test]
fn an_image_that_another_program_drops_is_listed_again() {
    let Some(strace) = consumer("strace") else { return };
    let bench = Bench::keeping();
    let index = bench.out.join("index.json");
    let foreign = fs::read_to_string(&index).unwrap().replace("\"keep\"", "\"foreign\"");
    // Every sync takes long, also the one behind the change of the index, so that the other program is not too late.
    let mut build = injected(&strace, &bench, "fsync", "delay_enter=300000");
    let finished = std::thread::scope(|scope| {
        let build = scope.spawn(|| run(&mut build));
        wait_until(|| fs::read_to_string(&index).is_ok_and(|text| text.contains("\"new\"")));
        fs::write(&index, &foreign).unwrap();
        build.join().unwrap().success()
    });
    assert_eq!(tags(&bench.out), ["foreign", "new"], "{finished}");
    let warning = "out/index.json: the image was removed by a program that ignores the lock; added again";
    assert!(finished.stderr.contains(warning), "{finished}");
    is_whole("M37", &bench.out);
}

/// M37: a program that writes the index back again and again is outlasted, and one warning says so.
#[test]
fn an_image_that_is_dropped_several_times_is_listed_in_the_end() {
    let Some(strace) = consumer("strace") else { return };
    let bench = Bench::keeping();
    let index = bench.out.join("index.json");
    let foreign = fs::read_to_string(&index).unwrap().replace("\"keep\"", "\"foreign\"");
    let mut build = injected(&strace, &bench, "fsync", "delay_enter=200000");
    let finished = std::thread::scope(|scope| {
        let build = scope.spawn(|| run(&mut build));
        for _ in 0..4 {
            wait_until(|| fs::read_to_string(&index).is_ok_and(|text| text.contains("\"new\"")));
            // In place, as skopeo does.
            fs::write(&index, &foreign).unwrap();
        }
        build.join().unwrap().success()
    });
    assert_eq!(tags(&bench.out), ["foreign", "new"], "{finished}");
    assert_eq!(finished.stderr.matches("added again").count(), 1, "{finished}");
    is_whole("M37", &bench.out);
}

/// M37: other tools write the documents of a layout in place, so for a moment one is empty.
#[test]
fn a_document_that_is_being_written_is_waited_for() {
    for document in ["index.json", "oci-layout"] {
        let bench = Bench::keeping();
        bench.source();
        let path = bench.out.join(document);
        let content = fs::read(&path).unwrap();
        fs::write(&path, "").unwrap();
        let finished = std::thread::scope(|scope| {
            let build = scope.spawn(|| run(bench.layout().args(["-t", "new", "--copy", "src:/srv"])));
            std::thread::sleep(Duration::from_millis(200));
            fs::write(&path, &content).unwrap();
            build.join().unwrap()
        });
        assert_eq!(finished.status, 0, "{document}: {finished}");
        assert_eq!(tags(&bench.out), ["keep", "new"]);
    }
}

/// M36: a lock is waited for although a signal arrives; where there are no locks, that is said, and a flag does without.
#[test]
fn a_lock_that_is_interrupted_or_refused() {
    let Some(strace) = consumer("strace") else { return };
    let bench = Bench::keeping();
    let interrupted = run(&mut injected(&strace, &bench, "flock", "error=EINTR:when=1..20"));
    assert_eq!(interrupted.status, 0, "{interrupted}");
    for (errno, words) in [("ENOLCK", "no locks available"), ("EOPNOTSUPP", "operation not supported")] {
        let bench = Bench::keeping();
        let refused = |flags: &[&str]| -> Finished {
            run(injected(&strace, &bench, "flock", &format!("error={errno}")).args(flags))
        };
        let finished = refused(&[]);
        assert_eq!(finished.status, 1, "{finished}");
        let hint = "(this file system does not support locks: use a local disk, or --layout-lock none if no other process writes to it)";
        is_one_line("M36", &finished, &["out/.ocibuild.lock: cannot lock: ", words, hint]);
        refused(&["--layout-lock", "none"]).success();
        assert_eq!(tags(&bench.out), ["keep", "new"]);
        let fresh = bench.scratch.join("fresh");
        fs::create_dir(&fresh).unwrap();
        let mut export = command(&strace);
        export.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("inject=flock:error={errno}")]);
        export.arg(env!("CARGO_BIN_EXE_ocibuild")).args(["export", "out:new", "oci:fresh:v1", "-q"]);
        export.args(["--layout-lock", "none"]);
        run(export.current_dir(bench.scratch.path())).success();
        is_whole("M36", &fresh);
    }
}

/// M33: two containers may have the same process number and the same cache, and mean other files.
#[test]
fn the_temporary_name_of_a_link_is_not_the_process_number() {
    let (Some(strace), Some(unshare)) = (consumer("strace"), consumer_as_root("unshare")) else { return };
    let bench = Bench::empty();
    bench.source();
    let mut names = BTreeSet::new();
    for out in ["first", "second", "third"] {
        let log = bench.scratch.join("strace.log");
        let mut build = command(&unshare);
        build.args(["--pid", "--fork"]).arg(&strace).args(["-f", "-qq", "-o"]).arg(&log).args(["-e", "trace=linkat"]);
        build.arg(env!("CARGO_BIN_EXE_ocibuild")).args(["layout", out, "-q", "--copy", "src:/srv"]);
        build.env_remove("OCIBUILD_NO_CACHE").args(["--cache-dir", "cache"]);
        run(build.current_dir(bench.scratch.path())).success();
        let log = fs::read_to_string(&log).unwrap();
        let linked = log.lines().filter(|line| line.contains("linkat("));
        let targets = linked.filter_map(|line| line.split('"').nth(3).map(str::to_owned));
        let before = names.len();
        names.extend(targets);
        assert!(names.len() > before || log.is_empty(), "a name was used twice: {names:?}");
    }
    if names.is_empty() {
        crate::support::not_proven("this file system shares blocks, so not proven here: names of links in the making");
    }
}
