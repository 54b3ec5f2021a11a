//! Environments that are divided into layers by packages. The hololibs are of our own making, so this takes no rcc.

use crate::support::hololib::{Recording, Storage};
use crate::support::packages::{LARGE, install_packages};
use crate::support::{Finished, Scratch, is_left_out, ocibuild, run, static_program};
use ocibuild::Digest;
use ocibuild::codec::tar::{EntryType, Headers};
use ocibuild::common::progress::Silent;
use ocibuild::rcc::{Blueprint, BlueprintOptions};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const STAGE: &str = "/home/robot/.robocorp/holotree/hdc4d952_493f813dad24d3t";

/// A machine on which environments of packages were recorded, each with a robot of its own.
struct Yard {
    scratch: Scratch,
    storage: Storage,
}

impl Yard {
    fn new() -> Yard {
        Yard::storing(Storage::Gzip)
    }

    fn storing(storage: Storage) -> Yard {
        let yard = Yard { scratch: Scratch::new(), storage };
        yard.scratch.write("rcc", static_program(b""));
        yard
    }

    /// Records an environment with these packages in their second version, for the robot `robot`.
    fn record(&self, robot: &str, newer: &[&str]) {
        let tree = self.scratch.join(format!("tree-{robot}"));
        install_packages(&tree, STAGE, newer);
        fs::create_dir_all(tree.join("empty/folder")).unwrap();
        fs::write(tree.join("of-nobody"), "whose is this?").unwrap();
        std::os::unix::fs::symlink("python", tree.join("bin/python3")).unwrap();
        fs::write(tree.join("bin/python"), "").unwrap();
        let text = format!("channels: [conda-forge]\ndependencies: [python=3.11.7, robot={robot}]\n");
        let blueprint = Blueprint::read(text.as_bytes(), "conda.yaml", &BlueprintOptions::default(), &Silent).unwrap();
        let hash = blueprint.hash().to_string();
        Recording::of(&tree, STAGE, blueprint.text(), &hash, self.storage).write(&self.hololib());
        self.scratch.write(format!("{robot}/conda.yaml"), text);
        self.scratch.write(
            format!("{robot}/robot.yaml"),
            "tasks:\n  Run:\n    shell: python\ncondaConfigFile: conda.yaml\nartifactsDir: output\n",
        );
    }

    fn hololib(&self) -> PathBuf {
        self.scratch.join("hololib")
    }

    fn layout(&self, robot: &str, out: &str, more: &[&str]) -> Finished {
        let mut command = ocibuild();
        command.args([
            "layout",
            out,
            "--robot",
            robot,
            "--base",
            "scratch",
            "--rcc-exec",
            "rcc",
            "--hololib",
            "hololib",
        ]);
        command.args(["--quiet", "--cache-dir", "cache"]).args(more);
        run(command.env_remove("OCIBUILD_NO_CACHE").current_dir(self.scratch.path()))
    }

    #[track_caller]
    fn build(&self, robot: &str, more: &[&str]) -> Image {
        let out = format!("out-{robot}");
        let finished = self.layout(robot, &out, &[&["--format", "json"], more].concat()).success();
        run(ocibuild().args(["verify", "-q"]).arg(self.scratch.join(&out))).success();
        let document: Value = serde_json::from_str(finished.text()).unwrap();
        Image { document, blobs: self.scratch.join(out).join("blobs/sha256") }
    }
}

/// A finished image, and its folder of blobs.
struct Image {
    document: Value,
    blobs: PathBuf,
}

impl Image {
    fn digest(&self) -> &str {
        self.document["digest"].as_str().unwrap()
    }

    /// Digest and origin of each layer of the environment, by what the layer is called behind the environment's name.
    fn parts(&self) -> Vec<(String, String, String)> {
        let layers = self.document["layers"].as_array().unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let parts = layers.iter().filter_map(|layer| {
            let name = text(&layer["createdBy"]);
            let of_environment = name.strip_prefix("ocibuild: environment ")?;
            let part = of_environment.split_once(": ").map_or("", |(_, part)| part).to_owned();
            Some((part, text(&layer["digest"]), text(&layer["origin"])))
        });
        parts.collect()
    }

    fn names(&self) -> Vec<String> {
        self.parts().into_iter().map(|(name, ..)| name).collect()
    }

    /// The tars of all layers, lowest first.
    fn tars(&self) -> Vec<Vec<u8>> {
        let layers = self.document["layers"].as_array().unwrap().iter();
        let tar = |layer: &Value| {
            let blob = self.blobs.join(layer["digest"].as_str().unwrap().trim_start_matches("sha256:"));
            let mut tar = Vec::new();
            std::io::copy(&mut flate2::read::MultiGzDecoder::new(fs::File::open(blob).unwrap()), &mut tar).unwrap();
            tar
        };
        layers.map(tar).collect()
    }
}

/// What a path is in the end, whichever layer it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Unpacked {
    kind: EntryType,
    mode: u32,
    owner: (u64, u64),
    mtime: i64,
    link: Vec<u8>,
    content: Option<Digest>,
}

/// Unpacks one layer upon another, and requires of each that its hard links lead to files of the same layer and repeat their
/// attributes, and that directories are as they were in the layers below.
fn unpacked(image: &Image) -> BTreeMap<String, Unpacked> {
    let mut all: BTreeMap<String, Unpacked> = BTreeMap::new();
    for tar in image.tars() {
        let mut layer: BTreeMap<String, Unpacked> = BTreeMap::new();
        let mut headers = Headers::new("layer");
        while let Some(entry) = headers.next(&mut &tar[usize::try_from(headers.position()).unwrap()..]).unwrap() {
            let path = String::from_utf8(entry.path).unwrap();
            let from = usize::try_from(entry.offset).unwrap();
            let content = &tar[from..from + usize::try_from(entry.size).unwrap()];
            let mut found = Unpacked {
                kind: entry.kind,
                mode: entry.mode,
                owner: (entry.uid, entry.gid),
                mtime: entry.mtime,
                link: entry.link,
                content: (entry.kind == EntryType::File).then(|| Digest::of(content)),
            };
            if found.kind == EntryType::HardLink {
                let target = &layer[std::str::from_utf8(&found.link).unwrap()];
                assert_eq!((target.mode, target.owner), (found.mode, found.owner), "{path}");
                found = target.clone();
            }
            if let Some(below) = all.get(&path).filter(|below| below.kind == EntryType::Directory) {
                assert_eq!(*below, found, "{path} differs between layers");
            }
            layer.insert(path, found);
        }
        all.extend(layer);
    }
    all
}

const MODES: [&str; 4] = ["sealed", "ready", "compact", "direct"];

#[test]
fn environments_that_differ_in_one_package_share_all_layers_but_that_ones_and_the_last() {
    if is_left_out() {
        return;
    }
    let yard = Yard::new();
    yard.record("first", &[]);
    yard.record("large", &["numpy"]);
    yard.record("small", &["certifi"]);
    for mode in MODES {
        let build =
            |robot: &str| yard.build(robot, &["--no-cache", "--split", "packages", "--environment", mode]).parts();
        let first = build("first");
        let names: Vec<&str> = first.iter().map(|(name, ..)| name.as_str()).collect();
        assert_eq!(names[..3], LARGE);
        assert!(names[3..names.len() - 1].iter().any(|name| name.ends_with(" more")), "{names:?}");
        assert_eq!(names.last(), Some(&"the rest"));
        for (robot, newer) in [("large", "numpy"), ("small", "certifi")] {
            let other = build(robot);
            assert_eq!(other.len(), first.len());
            let moved: Vec<&str> =
                other.iter().zip(&first).filter(|(a, b)| a.1 != b.1).map(|(a, _)| a.0.as_str()).collect();
            assert_eq!(moved.len(), 2, "{mode}: {moved:?}");
            assert!(moved[0] == newer || (robot == "small" && moved[0].ends_with(" more")), "{mode}: {moved:?}");
            assert_eq!(moved[1], "the rest");
        }
    }
}

#[test]
fn a_divided_image_has_the_files_of_one_that_is_not() {
    if is_left_out() {
        return;
    }
    let yard = Yard::new();
    yard.record("robot", &[]);
    for mode in MODES {
        has_the_same_files(&yard, mode, &["packages", "2", "3", "7", "100"]);
    }
    let uncompressed = Yard::storing(Storage::Raw);
    uncompressed.record("robot", &[]);
    has_the_same_files(&uncompressed, "sealed", &["packages"]);
}

#[track_caller]
fn has_the_same_files(yard: &Yard, mode: &str, splits: &[&str]) {
    let build = |split: &str| unpacked(&yard.build("robot", &["--split", split, "--environment", mode]));
    let whole = build("none");
    assert!(whole.len() > 50 && (mode == "compact" || whole.values().any(|entry| entry.kind == EntryType::Symlink)));
    for split in splits {
        let divided = build(split);
        assert_eq!(whole.keys().collect::<Vec<_>>(), divided.keys().collect::<Vec<_>>(), "{mode}, {split}");
        for (path, entry) in &divided {
            // An object has the mode of a file beside it in its layer, and only its content counts.
            let mode_here = if path.contains("/hololib/library/") { whole[path].mode } else { entry.mode };
            assert_eq!(Unpacked { mode: mode_here, ..entry.clone() }, whole[path], "{mode}, {split}: {path}");
        }
    }
}

#[test]
fn objects_that_several_packages_use_are_one_file_with_theirs_in_each_layer() {
    if is_left_out() {
        return;
    }
    let yard = Yard::new();
    yard.record("robot", &[]);
    let image = yard.build("robot", &["--split", "packages"]);
    let (mut parts_with_the_licence, object) = (0, Digest::of(b"the same for all\n").hex());
    for tar in image.tars() {
        let (mut headers, mut inodes) = (Headers::new("layer"), BTreeMap::new());
        while let Some(entry) = headers.next(&mut &tar[usize::try_from(headers.position()).unwrap()..]).unwrap() {
            let path = String::from_utf8(entry.path).unwrap();
            let inode =
                if entry.kind == EntryType::HardLink { String::from_utf8(entry.link).unwrap() } else { path.clone() };
            inodes.insert(path, inode);
        }
        let licences: BTreeSet<&String> =
            inodes.iter().filter(|(path, _)| path.ends_with("LICENSE")).map(|(_, inode)| inode).collect();
        if let Some(shared) = inodes.iter().find(|(path, _)| path.ends_with(&object)).map(|(_, inode)| inode) {
            assert!(licences.contains(shared), "{inodes:#?}");
            parts_with_the_licence += 1;
        } else {
            assert!(licences.is_empty());
        }
    }
    assert_eq!(parts_with_the_licence, image.parts().len() - 1);
}

#[test]
fn digests_of_layers_depend_on_no_number_of_threads() {
    if is_left_out() {
        return;
    }
    let yard = Yard::new();
    yard.record("robot", &[]);
    let build =
        |jobs: &str| yard.build("robot", &["--no-cache", "--split", "packages", "--jobs", jobs]).digest().to_owned();
    let one = build("1");
    assert_eq!(build("2"), one);
    assert_eq!(build("5"), one);
}

#[test]
fn what_was_built_before_is_found_without_opening_an_object() {
    if is_left_out() {
        return;
    }
    let yard = Yard::new();
    yard.record("first", &[]);
    yard.record("second", &["certifi"]);
    let split = ["--split", "packages"];
    let first = yard.build("first", &split);
    fs::rename(yard.hololib().join("library"), yard.scratch.join("away")).unwrap();
    let again = yard.build("first", &split);
    assert_eq!(again.digest(), first.digest());
    assert!(again.parts().iter().all(|(.., origin)| origin == "same-recipe"), "{:?}", again.parts());
    fs::rename(yard.scratch.join("away"), yard.hololib().join("library")).unwrap();

    // Another environment finds the layers that it shares, even where their objects could not be read any more.
    let whole = yard.build("second", &[&split[..], &["--no-cache"]].concat());
    for file in large_objects(&yard.hololib()) {
        fs::write(file, "damaged").unwrap();
    }
    let second = yard.build("second", &split);
    assert_eq!(second.digest(), whole.digest());
    let made: Vec<String> =
        second.parts().into_iter().filter(|(.., origin)| origin == "made").map(|(name, ..)| name).collect();
    assert_eq!(made.len(), 2, "{made:?}");
    assert_eq!(made[1], "the rest");
    yard.layout("second", "out", &[&split[..], &["--no-cache"]].concat()).failed_saying("corrupt: ");
}

#[test]
fn another_environment_reuses_the_blocks_of_a_layer() {
    let yard = Yard::new();
    for (robot, changed) in [("first", None), ("second", Some(2))] {
        for number in 0..6_u32 {
            let numbers = (0..200_000).map(|at: u32| at.wrapping_mul(number + 3) ^ u32::from(changed == Some(number)));
            let content: Vec<u8> = numbers.flat_map(u32::to_le_bytes).collect();
            yard.scratch.write(format!("tree-{robot}/share/data{number}"), content);
        }
        yard.record(robot, &[]);
    }
    let one_layer = ["--split", "none"];
    yard.build("first", &one_layer);
    let second = yard.build("second", &one_layer);
    let layers = second.document["layers"].as_array().unwrap();
    let of_environment = |layer: &&Value| layer["createdBy"].as_str().unwrap().contains("environment");
    let blocks = &layers.iter().find(of_environment).unwrap()["blocks"];
    let count = |kind: &str| blocks[kind].as_u64().unwrap();
    assert!(count("reused") > 2 * count("compressed"), "{blocks}");
    assert_eq!(yard.build("second", &[&one_layer[..], &["--no-cache"]].concat()).digest(), second.digest());
}

/// The objects with the large files of the large packages.
fn large_objects(hololib: &Path) -> Vec<PathBuf> {
    let (mut found, mut pending) = (Vec::new(), vec![hololib.join("library")]);
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else if fs::metadata(&path).unwrap().len() > 3_000 {
                found.push(path);
            }
        }
    }
    assert_eq!(found.len(), LARGE.len());
    found
}

#[test]
fn every_option_that_decides_bytes_decides_what_the_cache_gives() {
    if is_left_out() {
        return;
    }
    let yard = Yard::new();
    yard.record("robot", &[]);
    let variants: [&[&str]; 7] = [
        &[],
        &["--environment", "ready"],
        &["--environment", "compact"],
        &["--environment", "direct"],
        &["--home", "/srv/bot"],
        &["--environment", "ready", "--user", "4321"],
        &["--environment", "ready", "--space", "svc"],
    ];
    for more in variants {
        for split in ["packages", "none"] {
            let more = [&["--compression", "none", "--split", split], more].concat();
            let cached = yard.build("robot", &more);
            let made = yard.build("robot", &[&more[..], &["--no-cache"]].concat());
            assert_eq!(cached.digest(), made.digest(), "{more:?}");
        }
    }
}

#[test]
fn there_are_as_many_layers_as_wanted_and_small_environments_get_one() {
    if is_left_out() {
        return;
    }
    let yard = Yard::new();
    yard.record("robot", &[]);
    let names = |more: &[&str]| yard.build("robot", more).names();
    assert_eq!(names(&[]), [""]);
    assert_eq!(names(&["--split", "none"]), [""]);
    assert_eq!(names(&["--split", "1"]), [""]);
    assert_eq!(names(&["--split", "2"]), ["attrs and 8 more", "the rest"]);
    assert_eq!(names(&["--split", "4"]), ["interpreter", "numpy", "attrs and 6 more", "the rest"]);
    for wrong in ["0", "101", "everything"] {
        yard.layout("robot", "out", &["--split", wrong]).ended_with(2);
    }
    let plan = yard.layout("robot", "out", &["--split", "2", "--dry-run"]).success();
    assert!(plan.text().contains(": attrs and 8 more\n") && plan.text().contains(": the rest\n"), "{plan}");
}

#[test]
fn an_environment_without_packages_is_one_layer_and_says_so() {
    if is_left_out() {
        return;
    }
    let yard = Yard::new();
    yard.record("robot", &[]);
    let tree = yard.scratch.join("tree-bare");
    fs::create_dir_all(tree.join("lib")).unwrap();
    fs::write(tree.join("lib/zeros"), vec![0; 70 << 20]).unwrap();
    let text = "channels: [conda-forge]\ndependencies: [nodejs=20]\n";
    let blueprint = Blueprint::read(text.as_bytes(), "conda.yaml", &BlueprintOptions::default(), &Silent).unwrap();
    let recording = Recording::of(&tree, STAGE, blueprint.text(), &blueprint.hash().to_string(), Storage::Gzip);
    recording.write(&yard.hololib());
    yard.scratch.write("robot/conda.yaml", text);
    let usual = yard.layout("robot", "out", &[]).success();
    assert!(!usual.stderr.contains("package"), "{usual}");
    let asked = yard.layout("robot", "out", &["--split", "packages"]).success();
    assert!(asked.stderr.contains("has no package lists, so it is not split"), "{asked}");
    assert_eq!(usual.text(), asked.text());
}

#[test]
fn a_large_environment_is_split_by_default() {
    if is_left_out() {
        return;
    }
    let yard = Yard::new();
    let tree = yard.scratch.join("tree-robot");
    fs::create_dir_all(&tree).unwrap();
    fs::write(tree.join("zeros"), vec![0; 60 << 20]).unwrap();
    yard.record("robot", &[]);
    assert_eq!(yard.build("robot", &[]).names().len(), yard.build("robot", &["--split", "packages"]).names().len());
    assert_eq!(yard.build("robot", &["--split", "none"]).names(), [""]);
}
