//! Rows A10, A11 and F15 to F18: sources that change while they are packed. Whatever happens, no layer ever holds an entry
//! that is not in the plan.

use super::contract::{Bench, build, no_temporaries, spec, tags};
use super::forge::{self, Member};
use crate::support::{is_left_out, run};
use ocibuild::build::{BuildSpec, Plan};
use ocibuild::codec::compression::Compression;
use ocibuild::common::progress::Silent;
use ocibuild::store::Layout;
use ocibuild::{Error, ErrorKind};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// A setuid program of root's, as a tar header with an empty file: an entry that an attacker would smuggle in.
fn forged_header() -> Vec<u8> {
    let mut header = forge::unended(&[Member::file("srv/forged", b"")]);
    header[100..107].copy_from_slice(b"0004755");
    header[148..156].fill(b' ');
    let sum: u32 = header[..512].iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

fn planned(bench: &Bench, spec: &impl Fn() -> BuildSpec) -> (Arc<Layout>, Plan) {
    let layout = Arc::new(Layout::create(&bench.out).unwrap());
    let plan = spec().plan(layout.root(), None, &Silent).unwrap();
    (layout, plan)
}

/// Plans, lets `change` happen, and builds, which must fail for that reason and leave everything as it was.
#[track_caller]
fn is_noticed(row: &str, content: &[u8], change: impl Fn(&Path), reason: &str) {
    let bench = Bench::keeping();
    let file = bench.scratch.write("src/sub/file", content);
    bench.scratch.write("src/sub/other", "other");
    let (layout, plan) = planned(&bench, &spec(&bench.scratch.join("src")));
    let blobs = || fs::read_dir(bench.out.join("blobs/sha256")).unwrap().count();
    let before = (fs::read(bench.out.join("index.json")).unwrap(), blobs());
    change(&file);
    let error = plan.build(&layout, None, &["new".parse().unwrap()], &Silent).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Changed, "{row}: {error}");
    let text = error.to_string();
    assert!(text.contains("src/sub/file: ") && text.contains(reason), "{row}: {text}");
    assert!(before == (fs::read(bench.out.join("index.json")).unwrap(), blobs()), "{row}: a blob is left");
    bench.is_intact(row);
    // At rest, it builds.
    if file.is_file() {
        build(&spec(&bench.scratch.join("src")), &bench.out, "new").unwrap();
        assert_eq!(tags(&bench.out), ["keep", "new"], "{row}");
    }
}

fn append(file: &Path, bytes: &[u8]) {
    fs::File::options().append(true).open(file).unwrap().write_all(bytes).unwrap();
}

#[test]
fn a10_f15_a_file_that_grew_is_never_packed() {
    if is_left_out() {
        return;
    }
    // The forged header would be exactly where the next entry is expected.
    for size in [0, 5, 512, 1 << 20, (1 << 20) + 512] {
        let content = vec![b'c'; size];
        let padding = vec![0; size.next_multiple_of(512) - size];
        let tail = [padding, forged_header()].concat();
        is_noticed("F15", &content, |file| append(file, &tail), "found");
        is_noticed("F15", &content, |file| append(file, b"x"), "found");
    }
}

#[test]
fn a11_f16_a_file_that_shrank_or_was_written_to_is_never_packed() {
    let whole = vec![b'c'; 3 << 20];
    let truncate =
        |size: u64| move |file: &Path| fs::File::options().write(true).open(file).unwrap().set_len(size).unwrap();
    is_noticed("F16", &whole, truncate(0), "found 0");
    is_noticed("F16", &whole, truncate((3 << 20) - 1), "found 3145727");
    is_noticed("F16", &whole, |file| fs::remove_file(file).unwrap(), "removed during the build");
    let touch = |file: &Path| {
        let file = fs::File::options().write(true).open(file).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(7)).unwrap();
    };
    is_noticed("F16", &whole, touch, "modified during the build");
    is_noticed("F16", b"", touch, "modified during the build");
    let replace = |file: &Path| {
        let modified = fs::metadata(file).unwrap().modified().unwrap();
        let new = file.with_extension("new");
        fs::write(&new, vec![b'd'; 3 << 20]).unwrap();
        fs::File::options().write(true).open(&new).unwrap().set_modified(modified).unwrap();
        fs::rename(new, file).unwrap();
    };
    is_noticed("F16", &whole, replace, "replaced during the build");
    let become_special = |file: &Path| {
        fs::remove_file(file).unwrap();
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, file, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    };
    is_noticed("F16", &whole, become_special, "removed during the build");
    let become_link = |file: &Path| {
        fs::rename(file, file.with_extension("moved")).unwrap();
        symlink("file.moved", file).unwrap();
    };
    is_noticed("F16", &whole, become_link, "removed during the build");
}

#[test]
fn f18_a_directory_swapped_for_a_link_is_not_followed() {
    for target in ["/var/tmp", "../../outside", "../outside"] {
        let bench = Bench::keeping();
        bench.scratch.write("src/sub/file", "inside");
        bench.scratch.write("outside/file", "secret");
        bench.scratch.write("src/outside/file", "another");
        let (layout, plan) = planned(&bench, &spec(&bench.scratch.join("src")));
        fs::rename(bench.scratch.join("src/sub"), bench.scratch.join("moved")).unwrap();
        symlink(target, bench.scratch.join("src/sub")).unwrap();
        let error = plan.build(&layout, None, &["new".parse().unwrap()], &Silent).unwrap_err();
        assert!(error.to_string().contains("src/sub/file"), "F18 {target}: {error}");
        assert_eq!(tags(&bench.out), ["keep"]);
        bench.is_intact("F18");
    }
}

/// Builds again and again while `disturb` goes on beside, and looks at every layer that comes of it.
fn race(row: &str, prepare: impl Fn(&Path), disturb: impl Fn(&Path, usize) + Sync) -> (usize, usize) {
    const ROUNDS: usize = 150;
    let bench = Bench::keeping();
    let source = bench.scratch.join("src");
    fs::create_dir(&source).unwrap();
    prepare(&source);
    let plain = spec(&source);
    let spec = || plain().compression(Compression::None);
    let stop = AtomicBool::new(false);
    let (mut built, mut refused) = (0, 0);
    let started = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut round = 0;
            while !stop.load(Ordering::Relaxed) {
                disturb(&source, round);
                round += 1;
            }
        });
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..ROUNDS {
                if started.elapsed() > Duration::from_secs(4) {
                    break;
                }
                match build(&spec, &bench.out, "new") {
                    Ok(image) => {
                        built += 1;
                        only_what_was_planned(row, &bench.out, &image.layers[0].layer.descriptor);
                    }
                    Err(error) => {
                        refused += 1;
                        is_expected(row, &error);
                    }
                }
            }
        }));
        stop.store(true, Ordering::Relaxed);
        outcome.unwrap();
    });
    bench.is_intact(row);
    no_temporaries(row, bench.scratch.path());
    (built, refused)
}

fn is_expected(row: &str, error: &Error) {
    let text = error.to_string();
    assert!(text.contains("src"), "{row}: {text}");
    assert!(matches!(error.kind(), ErrorKind::Changed | ErrorKind::NotFound | ErrorKind::Io), "{row}: {error:?}");
}

fn only_what_was_planned(row: &str, out: &Path, layer: &ocibuild::spec::Descriptor) {
    let tar = fs::read(out.join("blobs").join(layer.digest.to_string().replacen(':', "/", 1))).unwrap();
    assert!(tar.ends_with(&[0; 1024]), "{row}");
    for entry in super::archives::entries(&tar) {
        let path = String::from_utf8(entry.path).unwrap();
        assert!(path == "srv" || path.starts_with("srv/file"), "{row}: a forged entry: {path}");
        assert_eq!(entry.mode & 0o7000, 0, "{row}: {path}");
        if entry.kind == ocibuild::codec::tar::EntryType::File {
            let content = &tar[entry.offset as usize..(entry.offset + entry.size) as usize];
            // Found while it was longer, a file may end with the header, as content.
            let content = content.strip_suffix(&forged_header()[..]).unwrap_or(content);
            assert!(content.iter().all(|&byte| byte == b'c'), "{row}: torn content of {path}");
        }
    }
}

#[test]
fn a10_f15_a_file_that_grows_meanwhile_forges_nothing() {
    if is_left_out() {
        return;
    }
    let header = forged_header();
    let (built, refused) = race(
        "F15",
        |source| {
            for number in 0..20 {
                fs::write(source.join(format!("file{number}")), vec![b'c'; 512 * number]).unwrap();
            }
        },
        |source, round| {
            let file = fs::File::options().write(true).open(source.join(format!("file{}", round % 20))).unwrap();
            let size = file.metadata().unwrap().len();
            file.write_all_at(&header, size).unwrap();
            if round % 3 == 0 {
                std::thread::sleep(Duration::from_micros(300));
            }
            file.set_len(size).unwrap();
            if round % 40 == 0 {
                std::thread::sleep(Duration::from_millis(25));
            }
        },
    );
    assert!(built + refused > 5 && refused > 0, "F15: {built} built, {refused} refused");
}

#[test]
fn a11_f16_a_file_that_shrinks_meanwhile_swallows_nothing() {
    if is_left_out() {
        return;
    }
    let (built, refused) = race(
        "F16",
        |source| {
            for number in 0..20 {
                fs::write(source.join(format!("file{number}")), vec![b'c'; 100_000 * number]).unwrap();
            }
        },
        |source, round| {
            let name = source.join(format!("file{}", round % 20));
            let file = fs::File::options().write(true).open(&name).unwrap();
            let size = file.metadata().unwrap().len();
            file.set_len(size / 2).unwrap();
            file.write_all_at(&vec![b'c'; (size - size / 2) as usize], size / 2).unwrap();
            if round % 20 == 0 {
                std::thread::sleep(Duration::from_millis(30));
            }
        },
    );
    assert!(built + refused > 5 && refused > 0, "F16: {built} built, {refused} refused");
}

#[test]
fn f17_entries_that_come_and_go_meanwhile_are_in_the_layer_whole_or_not_at_all() {
    if is_left_out() {
        return;
    }
    let (built, refused) = race(
        "F17",
        |source| fs::write(source.join("file"), "ccc").unwrap(),
        |source, round| {
            let name = source.join(format!("file-{}", round % 50));
            if fs::remove_file(&name).is_err() {
                fs::write(&name, vec![b'c'; round % 1000]).unwrap();
            }
            if round % 30 == 0 {
                std::thread::sleep(Duration::from_millis(10));
            }
        },
    );
    assert!(built + refused > 5, "F17: {built} built, {refused} refused");
}

#[test]
fn f15_the_program_says_which_file_changed() {
    let bench = Bench::keeping();
    let source = bench.scratch.join("src");
    for number in 0..50 {
        bench.scratch.write(format!("src/file{number}"), vec![b'c'; 200_000]);
    }
    let stop = AtomicBool::new(false);
    let refused = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                append(&source.join("file49"), b"c");
                std::thread::sleep(Duration::from_micros(100));
            }
        });
        let refused = (0..20).find_map(|_| {
            let finished = run(bench.layout().args(["--tag", "new", "--copy", "src:/srv", "--jobs", "1"]));
            (finished.status != 0).then_some(finished)
        });
        stop.store(true, Ordering::Relaxed);
        refused.expect("a file that grows all the time is noticed")
    });
    super::contract::is_one_line(
        "F15",
        &refused,
        &["src/file49: modified during the build", "(retry when nothing is writing to it)"],
    );
    bench.is_intact("F15");
}
