//! Results that are written to what is no regular file.

use super::contract::Bench;
use crate::consumers::Layout as Image;
use crate::support::{Finished, consumer_as_root, run};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::fs;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::path::Path;

/// A special file of this bench's own, never one of the machine's.
fn special(bench: &Bench, name: &str, kind: FileType, device: u64) {
    mknodat(CWD, bench.scratch.join(name), kind, Mode::from_raw_mode(0o600), device).unwrap();
}

/// Runs `ocibuild` while a thread reads the pipe `name`, and returns what was read.
fn through_pipe(bench: &Bench, name: &str, arguments: &[&str]) -> (Finished, Vec<u8>) {
    let pipe = bench.scratch.join(name);
    std::thread::scope(|scope| {
        // Open for writing, too, so that the reader ends when it has read enough, whether the program writes or not.
        let keep = fs::File::options().read(true).write(true).open(&pipe).unwrap();
        let reader = scope.spawn(|| fs::read(&pipe).unwrap());
        let finished = run(&mut bench.command(arguments));
        drop(keep);
        (finished, reader.join().unwrap())
    })
}

fn is_pipe(path: &Path) -> bool {
    fs::symlink_metadata(path).unwrap().file_type().is_fifo()
}

/// M24: a pipe takes the bytes, and stays one.
#[test]
fn pipes_take_archives_and_digests() {
    let bench = Bench::keeping();
    bench.source();
    special(&bench, "pipe", FileType::Fifo, 0);
    for form in ["oci-archive", "docker-archive"] {
        run(&mut bench.command(&["export", "out:keep", &format!("{form}:file"), "-q"])).success();
        let (finished, read) = through_pipe(&bench, "pipe", &["export", "out:keep", &format!("{form}:pipe"), "-q"]);
        assert_eq!(finished.status, 0, "{finished}");
        assert!(read == fs::read(bench.scratch.join("file")).unwrap(), "{form}: {} bytes", read.len());
    }
    let build = ["layout", "out", "-q", "-t", "new", "--copy", "src:/srv"];
    let image = || Image::new(&bench.out, "new");
    for flag in ["--iidfile", "--digest-file", "--save"] {
        let (finished, read) = through_pipe(&bench, "pipe", &[&build[..], &[flag, "pipe"]].concat());
        assert_eq!(finished.status, 0, "{flag}: {finished}");
        match flag {
            "--iidfile" => assert_eq!(read, format!("{}\n", image().config_digest()).as_bytes()),
            "--digest-file" => assert_eq!(read, format!("{}\n", image().manifest_digest()).as_bytes()),
            _ => assert_eq!(read.len() % 512, 0),
        }
    }
    assert!(is_pipe(&bench.scratch.join("pipe")));
}

/// M24: what leads to standard output goes there, whatever that is.
#[test]
fn links_to_open_files_are_written_through() {
    let bench = Bench::keeping();
    bench.source();
    symlink("/proc/self/fd/1", bench.scratch.join("stdout")).unwrap();
    run(&mut bench.command(&["export", "out:keep", "docker-archive:file", "-q"])).success();
    // `run` makes standard output a regular file.
    let exported = run(&mut bench.command(&["export", "out:keep", "docker-archive:stdout", "-q"])).success();
    assert!(exported.stdout == fs::read(bench.scratch.join("file")).unwrap());
    let mut build = bench.command(&["layout", "out", "-q", "-t", "new", "--copy", "src:/srv"]);
    // Not `run`, which takes what a build prints for its digest; and a pipe instead of a file.
    let built = build.args(["--iidfile", "stdout", "--digest-file", "stdout"]).output().unwrap();
    let image = Image::new(&bench.out, "new");
    let (config, manifest) = (image.config_digest(), image.manifest_digest());
    assert_eq!(String::from_utf8_lossy(&built.stdout), format!("{config}\n{manifest}\n{manifest}\n"));
    for file in ["stdout", "/proc/self/fd/1"] {
        let mut build = bench.command(&["layout", "out", "-q", "-t", "new", "--copy", "src:/srv"]);
        let saved = build.args(["--save", file]).output().unwrap();
        assert!(saved.status.success(), "{saved:?}");
        assert_eq!((saved.stdout.len() % 512, saved.stdout[saved.stdout.len() - 1024..].to_vec()), (0, vec![0; 1024]));
    }
    let json = ["export", "out:keep", "docker-archive:stdout", "-q", "--format", "json"];
    let refused = run(&mut bench.command(&json)).ended_with(2);
    assert!(refused.stderr.contains("standard output is for the tar"), "{refused}");
    assert!(fs::symlink_metadata(bench.scratch.join("stdout")).unwrap().is_symlink());
}

/// M24: a link to a file stays a link, and what it leads to is replaced.
#[test]
fn the_target_of_a_link_is_replaced() {
    let bench = Bench::keeping();
    bench.source();
    for (name, before) in [("digest", "before"), ("archive", "")] {
        bench.scratch.write(format!("elsewhere/{name}"), before);
        symlink(format!("elsewhere/{name}"), bench.scratch.join(name)).unwrap();
    }
    let mut build = bench.command(&["layout", "out", "-q", "-t", "new", "--copy", "src:/srv"]);
    run(build.args(["--digest-file", "digest", "--save", "archive"])).success();
    let digest = fs::read_to_string(bench.scratch.join("elsewhere/digest")).unwrap();
    assert_eq!(digest, Image::new(&bench.out, "new").manifest_digest());
    assert!(fs::metadata(bench.scratch.join("elsewhere/archive")).unwrap().len() > 512);
    for name in ["digest", "archive"] {
        assert!(fs::symlink_metadata(bench.scratch.join(name)).unwrap().is_symlink());
    }
    symlink("nowhere", bench.scratch.join("dangling")).unwrap();
    let words = ["dangling: is a dangling link"];
    for flags in [["--digest-file", "dangling"], ["--iidfile", "dangling"]] {
        let mut build = bench.command(&["layout", "out", "-q", "-t", "new", "--copy", "src:/srv"]);
        bench.refuses("M24", build.args(flags), &words);
    }
    bench.refuses("M24", &mut bench.command(&["export", "out:keep", "oci-archive:dangling", "-q"]), &words);
}

/// M24: a character device takes the bytes; a block device and a socket are refused.
#[test]
fn devices_are_never_replaced() {
    let bench = Bench::keeping();
    bench.source();
    let _socket = std::os::unix::net::UnixListener::bind(bench.scratch.join("socket")).unwrap();
    let words = ["not a file, pipe or character device"];
    let export = |name: &str| bench.command(&["export", "out:keep", &format!("docker-archive:{name}"), "-q"]);
    bench.refuses("M24", &mut export("socket"), &words);
    if consumer_as_root("setpriv").is_none() {
        return;
    }
    // A null device, and a block device that no driver knows.
    special(&bench, "null", FileType::CharacterDevice, rustix::fs::makedev(1, 3));
    special(&bench, "block", FileType::BlockDevice, rustix::fs::makedev(4000, 1));
    bench.refuses("M24", &mut export("block"), &words);
    run(&mut export("null")).success();
    for flag in ["--iidfile", "--digest-file", "--save"] {
        let mut build = bench.command(&["layout", "out", "-q", "-t", "new", "--copy", "src:/srv"]);
        run(build.args([flag, "null"])).success();
    }
    assert!(fs::metadata(bench.scratch.join("null")).unwrap().file_type().is_char_device());
    assert!(fs::metadata(bench.scratch.join("block")).unwrap().file_type().is_block_device());
}
