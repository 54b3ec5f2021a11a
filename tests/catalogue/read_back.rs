//! Row F25: a disk that returns other bytes than were written, with `--verify-writes`.
//!
//! The disk is a file with a file system in it. Before the program reads back, a byte is changed in that file. The system has the
//! bytes that were written in its memory, so an ordinary reader does not notice.

use super::contract::{self, Bench, is_one_line, is_whole};
use crate::support::{Finished, LoopDisk, command, consumer, run};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Writes a source with a text that is nowhere on a disk by accident, and returns the text.
fn source(bench: &Bench, number: usize) -> String {
    let text = format!("Text {number} is changed on the disk, where nobody sees it.");
    bench.scratch.write("src/file", format!("{text}\n").repeat(200));
    text
}

/// Runs a command that waits a while before it reads back, and in the meantime changes `text` on the disk.
fn run_on_bad(disk: &LoopDisk, text: &str, program: &Command) -> Option<Finished> {
    let mut slow = command(consumer("strace")?);
    slow.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fadvise64", "-e", "inject=fadvise64:delay_enter=10000000"]);
    slow.arg(program.get_program()).args(program.get_args()).current_dir(program.get_current_dir().unwrap());
    let has_ended = AtomicBool::new(false);
    Some(std::thread::scope(|scope| {
        scope.spawn(|| {
            while !change(disk, text) && !has_ended.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let finished = run(&mut slow);
        has_ended.store(true, Ordering::Relaxed);
        finished
    }))
}

/// Changes a byte of the text, wherever it is on the disk. Returns whether it was there.
fn change(disk: &LoopDisk, text: &str) -> bool {
    let found = run(command("grep").args(["-obUaFm", "1", text]).arg(disk.image()));
    let offset = found.text().split(':').next().and_then(|offset| offset.parse::<u64>().ok());
    if let Some(offset) = offset {
        File::options().write(true).open(disk.image()).unwrap().write_all_at(b"t", offset).unwrap();
    }
    offset.is_some()
}

#[test]
fn f25_what_the_disk_does_not_hold_is_an_error() {
    let Some(disk) = LoopDisk::new("ext4") else { return };
    let bench = Bench::empty();
    let out = disk.join("out");
    let build = |flags: &[&str]| {
        let mut command = bench.command(&["layout", "-q", "-t", "v1", "--compression", "none", "--copy", "src:/srv"]);
        command.arg(&out).args(flags);
        command
    };
    let text = source(&bench, 1);
    let Some(refused) = run_on_bad(&disk, &text, &build(&["--verify-writes"])) else { return };
    is_one_line("F25", &refused.ended_with(1), &["blob sha256:", "the disk returns other bytes than were written"]);
    assert!(contract::tags(&out).is_empty());
    contract::no_temporaries("F25", &out);
    // An ordinary reader finds everything whole.
    let text = source(&bench, 2);
    run(&mut build(&[])).success();
    assert!(change(&disk, &text));
    is_whole("F25", &out);
    // A disk that holds what it should is no error.
    source(&bench, 3);
    run(&mut build(&["--verify-writes"])).success();
}

#[test]
fn f25_an_archive_is_read_back_before_it_replaces_another() {
    let Some(disk) = LoopDisk::new("ext4") else { return };
    let bench = Bench::keeping();
    let text = source(&bench, 1);
    run(bench.layout().args(["-t", "new", "--compression", "none", "--copy", "src:/srv"])).success();
    let archive = disk.join("image.tar");
    let to = format!("oci-archive:{}", archive.display());
    run(&mut bench.command(&["export", "out:keep", &to, "-q", "--verify-writes"])).success();
    let before = std::fs::read(&archive).unwrap();
    let mut export = bench.command(&["export", "out:new", &to, "-q", "--verify-writes"]);
    let Some(refused) = run_on_bad(&disk, &text, &export) else { return };
    is_one_line("F25", &refused.ended_with(1), &["image.tar", "the disk returns other bytes than were written"]);
    assert!(before == std::fs::read(&archive).unwrap());
    run(&mut export).success();
    run(&mut bench.command(&["export", &format!("{to}:new"), "oci:copy", "-q"])).success();
}

#[test]
fn f25_other_places_cannot_be_read_back() {
    let bench = Bench::keeping();
    for place in ["dir:copy", "docker://127.0.0.1:1/app", "docker-daemon:app:v1", "rootfs:files.tar", "-"] {
        bench.refuses_usage(
            "F25",
            &mut bench.command(&["export", "out:keep", place, "--verify-writes"]),
            &["--verify-writes: only layouts and archives can be read back"],
        );
    }
    let edit = ["edit", "docker://127.0.0.1:1/app", "--label", "a=b", "--verify-writes"];
    bench.refuses_usage("F25", &mut bench.command(&edit), &["can be read back, not docker://127.0.0.1:1/app"]);
    bench.refuses_usage("F25", &mut bench.command(&["verify", "out", "--verify-writes"]), &["--repair"]);
}
