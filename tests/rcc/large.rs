//! An environment that is much larger than the memory it may take.

use crate::support::{Scratch, is_left_out, most_own_memory, ocibuild};
use flate2::Compression;
use flate2::write::GzEncoder;
use ocibuild::Digest;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

const CONDA: &str = "channels: [conda-forge]\ndependencies: [python=3.11.7]\n";
/// What rcc computes of `CONDA`.
const HASH: &str = "5f74d1b6dace1dfc";
const PREFIX: &str = "/home/robot/.robocorp/holotree/hdc4d952_493f813dad24d3t";
const PACKAGES: usize = 200;

/// How long a file is, in turn; 50 KB on average.
const SIZES: [usize; 8] = [300, 2_000, 4_600, 9_000, 300_000, 4_600, 20_000, 59_400];

/// What may be in memory, in bytes: 64 MiB, and 2 MiB for each thread.
const BOUND: u64 = (64 << 20) + THREADS * (2 << 20);
const THREADS: u64 = 2;

#[test]
fn a_hololib_of_very_many_files_takes_little_memory() {
    if is_left_out() {
        return;
    }
    // Making one of 5 GB takes a minute; CI may have it.
    let is_patient = ["CI", "OCIBUILD_LONG_TESTS"].iter().any(|name| std::env::var_os(name).is_some());
    let count = if is_patient { 100_000 } else { 10_000 };
    let scratch = Scratch::new();
    record(&scratch.join("hololib"), count);
    scratch.write(
        "robot/robot.yaml",
        "tasks: {greet: {shell: python}}\nartifactsDir: output\ncondaConfigFile: conda.yaml\n",
    );
    scratch.write("robot/conda.yaml", CONDA);
    for arguments in [&["--environment", "sealed"][..], &["--environment", "ready", "--split", "none"]] {
        let mut build = ocibuild();
        build.arg("layout").arg(scratch.join("out")).args(["--base", "scratch", "--quiet", "--compression-level", "1"]);
        build.arg("--robot").arg(scratch.join("robot")).args(["--catalog", HASH]);
        build.arg("--hololib").arg(scratch.join("hololib")).arg("--rcc-exec").arg(program(&scratch));
        build.args(["--jobs", &THREADS.to_string()]).args(arguments);
        let most = most_own_memory(&mut build);
        assert!(most <= BOUND, "{arguments:?}: {} KiB, more than {} KiB", most >> 10, BOUND >> 10);
        // A bound that nothing comes near would show nothing.
        assert!(most > 8 << 20, "{arguments:?}: {} KiB", most >> 10);
        fs::remove_dir_all(scratch.join("out")).unwrap();
    }
}

/// As much of a static program as is looked at.
fn program(scratch: &Scratch) -> std::path::PathBuf {
    let mut program = b"\x7fELF\x02\x01\x01".to_vec();
    program.resize(64, 0);
    for (at, value) in [(16, 2), (18, 62), (54, 56)] {
        program[at] = value;
    }
    scratch.write("rcc", program)
}

/// Records an environment of so many files, each another one, in packages of all sizes.
fn record(hololib: &Path, count: usize) {
    let bodies: BTreeMap<usize, (Vec<u8>, Vec<u8>)> = SIZES
        .iter()
        .map(|&size| {
            let body: Vec<u8> = b"A line that is in every file.\n".iter().copied().cycle().take(size).collect();
            let packed = gzip(&body);
            (size, (body, packed))
        })
        .collect();
    let store = |number: usize| {
        let (body, packed) = &bodies[&SIZES[number % SIZES.len()]];
        let head = format!("# {number}\n").into_bytes();
        let content = [&head[..], body].concat();
        // gzip may be in several members.
        let digest = keep(hololib, &content, &[gzip(&head), packed.clone()].concat());
        (digest, content.len())
    };
    let middle = count / 2;
    let (mut stored, rest) = std::thread::scope(|scope| {
        let rest = scope.spawn(|| (middle..count).map(store).collect::<Vec<_>>());
        ((0..middle).map(store).collect::<Vec<_>>(), rest.join().unwrap())
    });
    stored.extend(rest);
    let mut root = directory();
    let mut lists: Vec<Vec<String>> = vec![Vec::new(); PACKAGES];
    for (number, (digest, size)) in stored.into_iter().enumerate() {
        // The first packages are large, the last ones small.
        let package = number * number * PACKAGES / (count * count);
        let path = format!("lib/python3.11/site-packages/package_{package}/part_{}/module_{number}.py", number % 17);
        add(&mut root, &path, &digest, size);
        lists[package].push(path);
    }
    for (package, files) in lists.into_iter().enumerate() {
        let list = json!({ "name": format!("package-{package}"), "version": "1.0", "files": files }).to_string();
        let digest = keep(hololib, list.as_bytes(), &gzip(list.as_bytes()));
        add(&mut root, &format!("conda-meta/package-{package}-1.0-0.json"), &digest, list.len());
    }
    let digest = keep(hololib, CONDA.as_bytes(), &gzip(CONDA.as_bytes()));
    add(&mut root, "identity.yaml", &digest, CONDA.len());
    let document = json!({
        "rcc": "v19.0.2", "identity": PREFIX.rsplit('/').next(), "path": PREFIX, "controller": "", "space": "",
        "platform": "linux_amd64", "blueprint": HASH, "lifted": true, "tree": root,
    });
    fs::create_dir_all(hololib.join("catalog")).unwrap();
    let catalog = hololib.join(format!("catalog/{HASH}v12.linux_amd64"));
    fs::write(catalog, gzip(&serde_json::to_vec_pretty(&document).unwrap())).unwrap();
}

fn keep(hololib: &Path, content: &[u8], stored: &[u8]) -> String {
    let digest = Digest::of(content).hex();
    let folder = hololib.join(format!("library/{}/{}/{}", &digest[..2], &digest[2..4], &digest[4..6]));
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(&digest), stored).unwrap();
    digest
}

fn directory() -> Value {
    json!({ "name": "", "mode": 1_u32 << 31 | 0o755, "subdirs": {}, "files": {} })
}

fn add(root: &mut Value, path: &str, digest: &str, size: usize) {
    let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
    let mut place = root;
    for folder in folders.split('/').filter(|folder| !folder.is_empty()) {
        let below = place["subdirs"].as_object_mut().unwrap();
        place = below.entry(folder).or_insert_with(|| {
            let mut made = directory();
            made["name"] = json!(folder);
            made
        });
    }
    place["files"][name] = json!({ "name": name, "size": size, "mode": 0o644, "digest": digest, "rewrite": [] });
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}
