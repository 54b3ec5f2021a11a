//! One input, one digest: whatever the number of threads, the umask, the time zone, the order of a directory, the place of
//! the source. And literal digests, which may change only on purpose: they are what every cache and every pinned reference
//! out there relies on.

use super::archives::entries;
use super::contract::{Bench, spec};
use crate::consumers::Layout as Image;
use crate::support::{Scratch, command, consumer, is_left_out, run};
use ocibuild::codec::compression::Compression;
use ocibuild::codec::tar::EntryType;
use ocibuild::common::progress::Silent;
use ocibuild::store::Layout;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::Arc;

/// A file of two mebibytes and a bit, which is several blocks of a layer.
fn large() -> Vec<u8> {
    (0..550_000_u32).flat_map(|number| (number.wrapping_mul(2_654_435_761) >> 12).to_le_bytes()).collect()
}

/// A tree of a few of everything, its files written in the order of `order`.
fn fixed_tree(at: &Path, order: impl IntoIterator<Item = usize>) {
    let large = large();
    let long = format!("deep/{}/{}", "d".repeat(120), "f".repeat(130));
    let files: [(&str, &[u8], u32); 7] = [
        ("bin/tool", b"#!/bin/sh\nexit 0\n", 0o755),
        ("etc/empty", b"", 0o644),
        ("etc/secret", b"secret\n", 0o600),
        ("lib/large", &large, 0o644),
        ("gr\u{fc}n", b"green\n", 0o664),
        (&long, b"long\n", 0o444),
        ("zz", &[0; 513], 0o640),
    ];
    for number in order {
        let (name, content, mode) = files[number];
        fs::create_dir_all(at.join(name).parent().unwrap()).unwrap();
        fs::write(at.join(name), content).unwrap();
        fs::set_permissions(at.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    symlink("bin/tool", at.join("link")).unwrap();
    fs::hard_link(at.join("bin/tool"), at.join("another-tool")).unwrap();
}

/// What is pinned of one kind of compression: the layer, the config and the manifest.
struct Pinned {
    flags: &'static [&'static str],
    layer: &'static str,
    config: &'static str,
    manifest: &'static str,
}

/// The tar is the same whatever wraps it, and for ever.
const DIFF_ID: &str = "sha256:258fae9132e7d8bb880ac6457d14f78a320b38ddd0a182d4b7ac8690c8ce72d0";

const PINNED: [Pinned; 5] = [
    Pinned {
        flags: &["--compression-level", "1"],
        layer: "sha256:1d7840204a249d416833ec754f4f434fc58311053e678ace4fb8e73a2cacf134",
        config: "sha256:f7746259d000ab0555700cb9af19bf305b3714007d93ead0d7c4204c26aa7a88",
        manifest: "sha256:4e3d5d9ec63ceb58e091fee03122ed7103ede60533ac902bddb0d1ad800821c7",
    },
    Pinned {
        flags: &[],
        layer: "sha256:acc1e98a36c6fc6d2723b3e6129e584c6a2f437e44915d6ed317955527df07de",
        config: "sha256:f7746259d000ab0555700cb9af19bf305b3714007d93ead0d7c4204c26aa7a88",
        manifest: "sha256:6282a9e57d076486d00890fb97dc1f5450259348402b604efa66bc5e4e1866b5",
    },
    Pinned {
        flags: &["--compression-level", "6"],
        layer: "sha256:e0d9ceb878dc758afddef2b858d6bb095e3f15dbbd1ac0cf91c291428a8a3fb2",
        config: "sha256:f7746259d000ab0555700cb9af19bf305b3714007d93ead0d7c4204c26aa7a88",
        manifest: "sha256:3d62b53e2ace9517ebf745727442d581ae799a2478b9b24c4bb687f50bd1b563",
    },
    Pinned {
        flags: &["--compression", "zstd"],
        layer: "sha256:29bb5c0b42cb03fc31be8213962e0f7da2db4253cbcc98ab78e40dfb3c04bb5c",
        config: "sha256:f7746259d000ab0555700cb9af19bf305b3714007d93ead0d7c4204c26aa7a88",
        manifest: "sha256:b1993d00f8581b1a8cce34e38db88405c1c3b4fc8db52a4b52dc2a324264cbf4",
    },
    Pinned {
        flags: &["--compression", "none"],
        layer: "sha256:258fae9132e7d8bb880ac6457d14f78a320b38ddd0a182d4b7ac8690c8ce72d0",
        config: "sha256:f7746259d000ab0555700cb9af19bf305b3714007d93ead0d7c4204c26aa7a88",
        manifest: "sha256:d3c7dfd589ea2c4753c4762b01cd13f46b75019e8ad798804af57e5f0836aa1d",
    },
];

#[test]
fn the_digests_of_a_fixed_tree_never_change() {
    let bench = Bench::empty();
    fixed_tree(&bench.scratch.join("src"), 0..7);
    for (number, Pinned { flags, layer, config, manifest }) in PINNED.iter().enumerate() {
        run(bench.layout().args(["--copy", "src:/srv", "--entrypoint", "/srv/bin/tool"]).args(*flags)).success();
        let image = Image::new(&bench.out, "latest");
        let diff_id = image.config()["rootfs"]["diff_ids"][0].clone();
        let found = [
            image.layers()[0]["digest"].as_str().unwrap().to_owned(),
            image.config_digest(),
            image.manifest_digest(),
            diff_id.as_str().unwrap().to_owned(),
        ];
        assert_eq!(found, [*layer, *config, *manifest, DIFF_ID], "{number} {flags:?}");
    }
}

/// Row F24: whatever time the machine shows, with a cache and without.
#[test]
fn f24_a_clock_that_is_wrong_or_goes_back_changes_no_digest() {
    let Some(compiler) = consumer("gcc") else { return };
    let bench = Bench::keeping();
    fixed_tree(&bench.scratch.join("src"), 0..7);
    let library = bench.scratch.join("clock.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/catalogue/clock.c");
    run(command(compiler).args(["-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o"]).arg(&library).arg(source))
        .success();
    let shown = |year: &str, clock: &str| {
        let mut date = command("date");
        run(date.arg("+%Y").env("LD_PRELOAD", &library).env("OCIBUILD_TEST_CLOCK", clock)).success().printed(year);
    };
    shown("1970\n", "1");
    shown("2109\n", "4400000000");
    let digest = |clock: Option<&str>, flags: &[&str]| {
        let mut build = bench.layout();
        build.args(["-t", "new", "--copy", "src:/srv"]).args(flags).env_remove("OCIBUILD_NO_CACHE");
        if let Some(clock) = clock {
            build.env("LD_PRELOAD", &library).env("OCIBUILD_TEST_CLOCK", clock);
        }
        run(&mut build).success().text().to_owned()
    };
    let expected = digest(None, &["--no-cache"]);
    for clock in ["1", "-86400", "4400000000", "back"] {
        for flags in [&["--no-cache"][..], &["--cache-dir", "cache"], &["--cache-dir", "cache"]] {
            assert_eq!(digest(Some(clock), flags), expected, "{clock}, {flags:?}");
        }
        let mut verify = bench.command(&["cache", "verify", "--quiet", "--cache-dir", "cache"]);
        run(verify.env("LD_PRELOAD", &library).env("OCIBUILD_TEST_CLOCK", clock)).success();
        bench.is_intact(clock);
    }
    assert_eq!(digest(None, &["--cache-dir", "cache"]), expected);
}

#[test]
fn x4_one_digest_across_threads_umasks_time_zones_orders_and_places() {
    if is_left_out() {
        return;
    }
    let bench = Bench::empty();
    let digest = |bench: &Bench, source: &str, flags: &[&str], surroundings: &[(&str, &str)]| {
        let mut build = bench.layout();
        build.args(["--copy", &format!("{source}:/srv")]).args(flags).envs(surroundings.iter().copied());
        run(&mut build).success().text().to_owned()
    };
    fixed_tree(&bench.scratch.join("src"), 0..7);
    fixed_tree(&bench.scratch.join("a/place/elsewhere/src"), [6, 2, 4, 0, 5, 3, 1]);
    let expected = digest(&bench, "src", &["--jobs", "1"], &[]);
    for jobs in ["1", "2", "3", "8", "64"] {
        assert_eq!(digest(&bench, "src", &["--jobs", jobs], &[]), expected, "{jobs} jobs");
    }
    assert_eq!(digest(&bench, "a/place/elsewhere/src", &[], &[]), expected, "another place and order");
    let absolute = bench.scratch.join("src").display().to_string();
    assert_eq!(digest(&bench, &absolute, &[], &[]), expected, "an absolute path");
    for zone in ["UTC", "Asia/Kathmandu", "America/St_Johns"] {
        assert_eq!(digest(&bench, "src", &[], &[("TZ", zone), ("SOURCE_DATE_EPOCH", "0")]), expected, "{zone}");
    }
    let elsewhere = Bench::keeping();
    assert_eq!(digest(&elsewhere, &absolute, &["--tag", "other"], &[]), expected, "another layout and tag");
    // A umask can close every file, but not make one of them private among others.
    fixed_tree(&bench.scratch.join("plain"), 0..7);
    fs::set_permissions(bench.scratch.join("plain/etc/secret"), fs::Permissions::from_mode(0o644)).unwrap();
    let plain = digest(&bench, "plain", &[], &[]);
    assert_ne!(plain, expected);
    for umask in ["000", "077"] {
        // A checkout under another umask, too.
        let script = format!(
            "umask {umask}; rm -rf copy; mkdir copy; (cd plain; tar -c .) | tar -x --no-same-permissions -C copy; \
             exec \"$OCIBUILD\" layout out -q --copy copy:/srv"
        );
        let mut shell = command("sh");
        shell.args(["-c", &script]).env("OCIBUILD", env!("CARGO_BIN_EXE_ocibuild")).current_dir(bench.scratch.path());
        assert_eq!(run(&mut shell).success().text(), plain, "umask {umask}");
    }
    for path in ["src/etc/empty", "src/lib", "src/zz"] {
        run(command("touch").args(["--date", "@1234567890"]).arg(bench.scratch.join(path))).success();
    }
    assert_eq!(digest(&bench, "src", &[], &[]), expected, "other times");
}

#[test]
fn x4_an_archive_of_a_tree_gives_the_layer_of_the_tree() {
    let bench = Bench::empty();
    fixed_tree(&bench.scratch.join("src"), 0..7);
    // Sorted, unsorted, and each of a format of its own: what is in them is the same.
    let layer = |copy: &str| {
        run(bench.layout().args(["--copy", copy])).success();
        Image::new(&bench.out, "latest").layers()[0]["digest"].clone()
    };
    let expected = layer("src:/srv");
    for flags in [&["--format=gnu", "--sort=name"][..], &["--format=pax"], &["--format=gnu", "--gzip"]] {
        let mut pack = command("tar");
        pack.args(["--create", "--file=tree.tar"]).args(flags).args(["--directory=src", "."]);
        run(pack.current_dir(bench.scratch.path())).success();
        assert_eq!(layer("tree.tar:/srv"), expected, "{flags:?}");
    }
}

#[test]
fn archives_are_the_same_every_time() {
    let bench = Bench::keeping();
    for destination in ["docker-archive:FILE:team/app:1", "oci-archive:FILE:v1"] {
        let export = |source: &str, file: &str| {
            run(&mut bench.command(&["export", source, &destination.replace("FILE", file), "-q"])).success();
            fs::read(bench.scratch.join(file)).unwrap()
        };
        let first = export("out:keep", "one.tar");
        std::thread::sleep(std::time::Duration::from_millis(20));
        run(&mut bench.command(&["export", "out:keep", "oci:moved:other", "-q"])).success();
        assert!(first == export("moved:other", "two.tar"), "{destination}");
    }
}

/// What may be in a random tree.
#[derive(Debug, Clone)]
enum Node {
    File { size: usize, executable: bool },
    Directory,
    Symlink(String),
    HardLinkToFirst,
}

fn node() -> impl Strategy<Value = Node> {
    // Around the sizes at which blocks and padding change, and anything else.
    let size = prop_oneof![0..3_usize, 510..515_usize, 0..200_000_usize, (1 << 20) - 513..(1 << 20) + 514_usize];
    prop_oneof![
        6 => (size, any::<bool>()).prop_map(|(size, executable)| Node::File { size, executable }),
        2 => Just(Node::Directory),
        1 => "[a-z./]{1,150}".prop_map(Node::Symlink),
        1 => Just(Node::HardLinkToFirst),
    ]
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![8 => 97..123_u8, 1 => 1..255_u8].prop_filter("a name", |byte| *byte != b'/');
    proptest::collection::vec(byte, 1..130)
        .prop_filter("a name", |name| !matches!(&name[..], b"." | b"..") && !name.starts_with(b".wh."))
}

/// Makes the tree, and answers what each path should become.
fn make(at: &Path, nodes: &BTreeMap<Vec<u8>, Node>) -> BTreeMap<Vec<u8>, (EntryType, u64)> {
    let mut expected = BTreeMap::new();
    let mut first: Option<Vec<u8>> = None;
    for (number, (name, node)) in nodes.iter().enumerate() {
        // Every third is in a separate directory.
        let path = if number % 3 == 0 {
            [&b"dir-"[..], &[b'a' + (number % 20) as u8], b"/", name].concat()
        } else {
            name.clone()
        };
        let file = at.join(std::ffi::OsStr::from_bytes(&path));
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        if number % 3 == 0 {
            expected.insert(path[..5].to_vec(), (EntryType::Directory, 0));
        }
        match node {
            Node::File { size, executable } => {
                fs::write(&file, vec![number as u8; *size]).unwrap();
                fs::set_permissions(&file, fs::Permissions::from_mode(if *executable { 0o711 } else { 0o604 }))
                    .unwrap();
                first.get_or_insert(path.clone());
                expected.insert(path.clone(), (EntryType::File, *size as u64));
            }
            Node::Directory => {
                fs::create_dir(&file).unwrap();
                expected.insert(path.clone(), (EntryType::Directory, 0));
            }
            Node::Symlink(target) => {
                symlink(target, &file).unwrap();
                expected.insert(path.clone(), (EntryType::Symlink, 0));
            }
            Node::HardLinkToFirst => {
                let Some(first) = &first else { continue };
                fs::hard_link(at.join(std::ffi::OsStr::from_bytes(first)), &file).unwrap();
                expected.insert(path.clone(), (EntryType::HardLink, 0));
            }
        }
    }
    // Which name of a file comes first is a matter of their order.
    let linked: Vec<Vec<u8>> =
        expected.iter().filter(|(_, (kind, _))| *kind == EntryType::HardLink).map(|(path, _)| path.clone()).collect();
    if let Some(first) = first.filter(|_| !linked.is_empty()) {
        let size = expected[&first].1;
        let lowest = linked.iter().chain([&first]).min().unwrap().clone();
        for path in linked.iter().chain([&first]) {
            let kind = if *path == lowest { (EntryType::File, size) } else { (EntryType::HardLink, 0) };
            expected.insert(path.clone(), kind);
        }
    }
    expected
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 20, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_tree_gives_one_layer_that_holds_what_it_should(nodes in proptest::collection::btree_map(name(), node(), 0..25)) {
        if is_left_out() {
            return Ok(());
        }
        let scratch = Scratch::new();
        let source = scratch.join("src");
        fs::create_dir(&source).unwrap();
        let expected = make(&source, &nodes);
        let plain = spec(&source);
        let mut layers = Vec::new();
        for threads in [1, 4] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            for compression in [Compression::None, Compression::Gzip(1)] {
                let out = scratch.join(format!("out-{threads}-{compression}"));
                let built = pool.install(|| {
                    let layout = Arc::new(Layout::create(&out).unwrap());
                    let spec = plain().compression(compression);
                    spec.plan(layout.root(), None, &Silent).unwrap().build(&layout, None, &[], &Silent).unwrap()
                });
                layers.push((out, built.layers[0].layer.clone()));
            }
        }
        let [(out, one), (_, one_gzip), (_, four), (_, four_gzip)] = &layers[..] else { unreachable!() };
        prop_assert_eq!(one, four);
        prop_assert_eq!(one_gzip, four_gzip);
        prop_assert_eq!(one.diff_id, one_gzip.diff_id);
        prop_assert_eq!(one.descriptor.digest, one.diff_id.as_digest());
        let tar = fs::read(Image::new(out, "latest").blob(&one.descriptor.digest.to_string())).unwrap();
        let mut found: BTreeMap<Vec<u8>, (EntryType, u64)> = BTreeMap::new();
        let mut before: Vec<u8> = Vec::new();
        for entry in entries(&tar) {
            prop_assert!(before < entry.path, "sorted, and each once");
            before.clone_from(&entry.path);
            if let Some(path) = entry.path.strip_prefix(b"srv/") {
                found.insert(path.to_vec(), (entry.kind, entry.size));
            }
            if entry.kind == EntryType::File {
                let content = &tar[entry.offset as usize..(entry.offset + entry.size) as usize];
                prop_assert!(content.iter().all(|byte| *byte == content[0]));
            }
        }
        prop_assert_eq!(found, expected);
    }
}
