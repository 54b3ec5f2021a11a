//! `--compression reuse`: files that RCC has compressed become part of the layer unchanged.

use crate::consumers::{Layout, Podman, Skopeo, Umoci};
use crate::listers::listed_alike;
use crate::support::environment::write_environment;
use crate::support::hololib::{Recording, Storage};
use crate::support::{Finished, Scratch, command, consumer, is_left_out, ocibuild, python_with, run};
use flate2::{Compression, GzBuilder};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

const CONDA: &str = "channels: [conda-forge]\ndependencies: [python=3.11.7]\n";
/// What rcc computes of `CONDA`.
const HASH: &str = "5f74d1b6dace1dfc";
const PREFIX: &str = "/home/robot/.robocorp/holotree/hdc4d952_493f813dad24d3t";

/// A robot whose environment has files of every size, and a hololib with it.
struct Recorded {
    scratch: Scratch,
    recording: Recording,
}

impl Recorded {
    fn new() -> Recorded {
        let scratch = Scratch::new();
        let tree = scratch.join("tree");
        fs::create_dir(&tree).unwrap();
        write_environment(&tree, PREFIX, 7);
        for (name, lines) in [("small", 10), ("page", 400), ("book", 9_000), ("library", 400_000)] {
            scratch.write(format!("tree/share/{name}"), text(lines));
        }
        let recording = Recording::of(&tree, PREFIX, CONDA, HASH, Storage::Gzip);
        recording.write(&scratch.join("hololib"));
        scratch.write(
            "robot/robot.yaml",
            "tasks: {greet: {shell: python}}\nartifactsDir: output\ncondaConfigFile: conda.yaml\n",
        );
        scratch.write("robot/conda.yaml", CONDA);
        // As much of a static program as is looked at.
        let mut program = b"\x7fELF\x02\x01\x01".to_vec();
        program.resize(64, 0);
        for (at, value) in [(16, 2), (18, 62), (54, 56)] {
            program[at] = value;
        }
        scratch.write("rcc", program);
        Recorded { scratch, recording }
    }

    fn layout(&self, name: &str) -> Layout {
        Layout::new(self.scratch.join(name), "latest")
    }

    fn command(&self, name: &str, hololib: &Path, arguments: &[&str]) -> Command {
        let mut build = ocibuild();
        build.arg("layout").arg(self.scratch.join(name)).args(["--tag", "latest", "--base", "scratch", "--quiet"]);
        build.arg("--robot").arg(self.scratch.join("robot")).args(["--catalog", HASH]);
        build.arg("--hololib").arg(hololib).arg("--rcc-exec").arg(self.scratch.join("rcc")).args(arguments);
        build
    }

    #[track_caller]
    fn build(&self, name: &str, arguments: &[&str]) -> Layout {
        run(&mut self.command(name, &self.scratch.join("hololib"), arguments)).success();
        let layout = self.layout(name);
        run(ocibuild().arg("verify").arg(&layout.path)).success();
        layout
    }

    /// The path of the object with this content.
    fn object(&self, content: &[u8]) -> PathBuf {
        let digest = ocibuild::Digest::of(content).hex();
        assert!(self.recording.objects.contains_key(&digest));
        self.scratch.join(format!("hololib/library/{}/{}/{}/{digest}", &digest[..2], &digest[2..4], &digest[4..6]))
    }
}

/// Text that compresses.
fn text(lines: u32) -> Vec<u8> {
    (0..lines).flat_map(|line| format!("{} is line {line}\n", line.wrapping_mul(2_654_435_761)).into_bytes()).collect()
}

fn diff_ids(layout: &Layout) -> serde_json::Value {
    layout.config()["rootfs"]["diff_ids"].clone()
}

/// The blob of the environment's layer.
fn blob(layout: &Layout) -> PathBuf {
    let layers = layout.layers();
    layout.blob(layers[layers.len() - 2]["digest"].as_str().unwrap())
}

fn has_body(layer: &[u8], object: &[u8]) -> bool {
    memchr::memmem::find(layer, &object[10..]).is_some()
}

#[test]
fn what_the_library_has_compressed_is_taken_over_and_the_tar_is_the_same() {
    if is_left_out() {
        return;
    }
    let recorded = Recorded::new();
    for mode in ["sealed", "ready", "compact", "direct"] {
        let usual = recorded.build(&format!("{mode}-usual"), &["--environment", mode]);
        let reuse = ["--environment", mode, "--compression", "reuse"];
        let reused = recorded.build(&format!("{mode}-reused"), &[&reuse[..], &["--jobs", "1"]].concat());
        let threads = recorded.build(&format!("{mode}-threads"), &[&reuse[..], &["--jobs", "5"]].concat());
        assert_eq!(diff_ids(&usual), diff_ids(&reused), "{mode}");
        assert_eq!(reused.manifest_digest(), threads.manifest_digest(), "{mode}");
        let layer = fs::read(blob(&reused)).unwrap();
        for (lines, is_taken) in
            [(10, false), (400, mode != "compact"), (9_000, mode != "compact"), (400_000, mode != "compact")]
        {
            let object = fs::read(recorded.object(&text(lines))).unwrap();
            assert_eq!(has_body(&layer, &object), is_taken, "{lines} lines in {mode}");
        }
    }
}

#[test]
fn every_reader_accepts_a_layer_with_reused_gzip() {
    if is_left_out() {
        return;
    }
    let recorded = Recorded::new();
    let layout = recorded.build("out", &["--compression", "reuse"]);
    let (blob, tar) = (blob(&layout), recorded.scratch.join("layer.tar"));
    run(command("sh")
        .args(["-c", "gzip --test <\"$1\" && gzip --decompress <\"$1\" >\"$2\"", "sh"])
        .args([&blob, &tar]))
    .success();
    let entries = listed_alike(&tar).len();
    if let Some(tar) = consumer("tar") {
        let listing = run(command(tar).args(["--list", "--gzip", "--file"]).arg(&blob)).success();
        assert_eq!(listing.text().lines().count(), entries);
    }
    if let Some(python) = python_with("tarfile") {
        let script = "import sys, tarfile; print(sum(1 for _ in tarfile.open(sys.argv[1], 'r:gz')))";
        run(command(python).args(["-c", script]).arg(&blob)).success().printed(&format!("{entries}\n"));
    }
    if let Some(skopeo) = Skopeo::find() {
        let copied = recorded.layout("copied");
        skopeo.copy(&["--preserve-digests"], &layout.location(), &copied.location()).success();
        assert_eq!(copied.manifest_digest(), layout.manifest_digest());
    }
    if let Some(umoci) = Umoci::find() {
        let bundle = recorded.scratch.join("bundle");
        umoci.unpack(&layout, &bundle).success();
        let rest = "rootfs/home/robot/.robocorp/holotree";
        let spaces = fs::read_dir(bundle.join(rest)).unwrap().map(|entry| entry.unwrap().path());
        let space = spaces.into_iter().find(|path| path.join("share").is_dir()).unwrap();
        assert_eq!(fs::read(space.join("share/library")).unwrap(), text(400_000));
        assert_eq!(fs::read(space.join("share/page")).unwrap(), text(400));
    }
    if let Some(podman) = Podman::find() {
        let archive = recorded.scratch.join("out.tar");
        let destination = format!("docker-archive:{}:localhost/reused:1", archive.display());
        run(ocibuild().args(["export", &layout.image(), &destination])).success();
        podman.load(&archive);
    }
}

#[test]
fn gzip_of_any_make_is_taken_over_without_what_it_says_of_its_maker() {
    if is_left_out() {
        return;
    }
    let recorded = Recorded::new();
    let zip = recorded.scratch.join("hololib.zip");
    let usual = recorded.build("usual", &[]);
    let (page, book) = (text(400), text(9_000));
    let member = |name: &str, content: &[u8]| {
        let mut encoder = GzBuilder::new().filename(name).mtime(99).write(Vec::new(), Compression::best());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    };
    fs::write(recorded.object(&page), member("a-secret-name", &page)).unwrap();
    let two = [member("a-secret-name", &book[..1000]), member("a-secret-name", &book[1000..]), vec![0; 512]].concat();
    fs::write(recorded.object(&book), two).unwrap();
    let library = text(400_000);
    fs::write(recorded.object(&library), zstd::bulk::compress(&library, 3).unwrap()).unwrap();
    let reused = recorded.build("reused", &["--compression", "reuse"]);
    assert_eq!(diff_ids(&usual), diff_ids(&reused));
    let layer = fs::read(blob(&reused)).unwrap();
    assert_eq!(memchr::memmem::find(&layer, b"a-secret-name"), None);
    assert!(has_body(&layer, &member("", &page)[1..]));
    // A zip gives what the directory of the same objects gives.
    recorded.recording.write(&recorded.scratch.join("hololib"));
    recorded.recording.write_zip(&zip);
    let of_directory = recorded.build("of-directory", &["--compression", "reuse"]);
    run(&mut recorded.command("of-zip", &zip, &["--compression", "reuse"])).success();
    assert_eq!(recorded.layout("of-zip").manifest_digest(), of_directory.manifest_digest());
}

#[test]
fn damage_is_reported_as_without_reuse() {
    if is_left_out() {
        return;
    }
    let recorded = Recorded::new();
    for (lines, damage) in
        [(400, "body"), (400, "checksum"), (400, "more"), (400_000, "body"), (400_000, "checksum"), (400_000, "more")]
    {
        let object = recorded.object(&text(lines));
        let whole = fs::read(&object).unwrap();
        let mut damaged = whole.clone();
        match damage {
            "body" => damaged[whole.len() / 2] ^= 0x10,
            "checksum" => damaged[whole.len() - 6] ^= 1,
            _ => damaged.extend_from_slice(b"more"),
        }
        fs::write(&object, damaged).unwrap();
        let said = |kind: &str| {
            let arguments = ["--compression", kind];
            let failed = run(&mut recorded.command("damaged", &recorded.scratch.join("hololib"), &arguments));
            failed.ended_with(1).stderr
        };
        let usual = said("gzip");
        assert!(usual.contains("corrupt"), "{lines} {damage}: {usual}");
        assert_eq!(said("reuse"), usual, "{lines} {damage}");
        fs::write(&object, whole).unwrap();
    }
}

#[test]
fn the_cache_distinguishes_hololibs() {
    if is_left_out() {
        return;
    }
    let recorded = Recorded::new();
    let (first, second) = (recorded.scratch.join("hololib"), recorded.scratch.join("second"));
    recorded.recording.write(&second);
    let page = text(400);
    let object = recorded.object(&page);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&page).unwrap();
    fs::write(second.join(object.strip_prefix(&first).unwrap()), encoder.finish().unwrap()).unwrap();
    let build = |name: &str, hololib: &Path, arguments: &[&str]| -> Finished {
        let mut build = recorded.command(name, hololib, &[&["--explain"], arguments].concat());
        build.env_remove("OCIBUILD_NO_CACHE").env("XDG_CACHE_HOME", recorded.scratch.join("cache"));
        run(&mut build).success()
    };
    let reuse = ["--compression", "reuse"];
    let of_first = build("first", &first, &reuse).text().to_owned();
    let of_second = build("second-out", &second, &reuse).text().to_owned();
    assert_ne!(of_first, of_second);
    let uncached = recorded.command("fresh", &second, &reuse).env("OCIBUILD_NO_CACHE", "1").output().unwrap().stdout;
    assert_eq!(String::from_utf8(uncached).unwrap().trim_end(), of_second);
    assert_eq!(build("again", &first, &reuse).text(), of_first);
    // Plain gzip follows from the catalog, whichever hololib it is in.
    let plain = build("plain", &first, &[]).text().to_owned();
    assert_eq!(build("plain-again", &second, &[]).text(), plain);
}

#[test]
fn where_nothing_is_compressed_reuse_is_gzip() {
    let scratch = Scratch::new();
    scratch.write("src/page", text(400));
    let build = |name: &str, arguments: &[&str]| {
        let mut build = ocibuild();
        build
            .arg("layout")
            .arg(scratch.join(name))
            .arg("--copy")
            .arg(format!("{}:/srv", scratch.join("src").display()));
        run(build.args(arguments)).success().text().to_owned()
    };
    assert_eq!(build("reuse", &["--compression", "reuse"]), build("gzip", &[]));
    let low = ["--compression-level", "1"];
    assert_eq!(build("reuse-1", &[&["--compression", "reuse"], &low[..]].concat()), build("gzip-1", &low));
}
