//! Reuse of blocks from the previous build: the result must be the same as without it.

use crate::support::random::Random;
use crate::support::{Scratch, command, consumer, is_left_out, ocibuild, run};
use ocibuild::build::image::Base;
use ocibuild::build::{BuildSpec, Built, BuiltLayer, LayerCaches, LayerOrigin, LayerSpec, Source};
use ocibuild::cache::Cache;
use ocibuild::codec::compression::Compression;
use ocibuild::common::digest::Digest;
use ocibuild::common::progress::Silent;
use ocibuild::common::root::Root;
use ocibuild::layers::Work;
use ocibuild::layers::tree::{Modes, Rules};
use ocibuild::store::Layout;
use ocibuild::store::verify::verify;
use ocibuild::{ErrorKind, Platform, Result};
use proptest::prelude::*;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// A source directory, a cache, and builds of one into the other.
struct Bench {
    scratch: Scratch,
    compression: Compression,
    builds: usize,
}

impl Bench {
    fn new(compression: Compression) -> Bench {
        let bench = Bench { scratch: Scratch::new(), compression, builds: 0 };
        fs::create_dir(bench.source()).unwrap();
        bench
    }

    fn source(&self) -> PathBuf {
        self.scratch.join("source")
    }

    fn cache(&self) -> Cache {
        // The clock is ahead, so that no file is racy.
        let now = SystemTime::now() + Duration::from_secs(3600);
        Cache::open(Root::create_private(&self.scratch.join("cache")).unwrap(), now, &Silent).unwrap()
    }

    /// The blobs or the lists of the cache.
    fn files(&self, below: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.scratch.join("cache").join(below)).unwrap();
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect()
    }

    fn spec(&self, source: &Path) -> BuildSpec {
        let source = Source::directory(Root::open(source).unwrap(), "/srv".parse().unwrap())
            .named("source")
            .rules(Rules::default().modes(Modes::Preserve));
        BuildSpec::new(Base::Scratch(Platform::linux_amd64()))
            .layer(LayerSpec::new("source").created_by("copy to /srv").source(source))
            .compression(self.compression)
    }

    /// Builds into a layout of its own, lets `meanwhile` happen between the walk and the rest, and verifies what came of it.
    fn try_build(&mut self, source: &Path, cache: Option<&Cache>, meanwhile: impl Fn()) -> Result<BuiltLayer> {
        self.builds += 1;
        let out = self.scratch.join(format!("out{}", self.builds));
        let layout = Layout::create(&out).unwrap();
        let layout = Arc::new(match cache {
            Some(cache) => layout.with_verification_cache(cache.verified_files().clone()),
            None => layout,
        });
        let memory = cache.map(|cache| LayerCaches::of(cache, &layout));
        let plan = self.spec(source).plan(layout.root(), memory, &Silent).unwrap();
        meanwhile();
        let built = plan.build(&layout, memory, &[], &Silent);
        let faults = verify(&out, &Silent).unwrap().faults;
        assert!(faults.is_empty(), "{}", faults[0]);
        fs::remove_dir_all(&out).unwrap();
        built.map(|Built { mut layers, .. }| layers.remove(0))
    }

    fn build_of(&mut self, source: &Path, cache: Option<&Cache>) -> BuiltLayer {
        self.try_build(source, cache, || ()).unwrap()
    }

    /// Builds with and without the cache, requires one result, and returns what the first build reused.
    #[track_caller]
    fn build(&mut self) -> BuiltLayer {
        let source = self.source();
        let cache = self.cache();
        let cached = self.build_of(&source, Some(&cache));
        let plain = self.build_of(&source, None);
        assert_eq!(cached.layer, plain.layer);
        cached
    }
}

/// Text that compresses like source code.
fn text(random: &mut Random, length: usize) -> Vec<u8> {
    let words: Vec<Vec<u8>> = (0..50).map(|_| random.bytes(6)).collect();
    let mut text = Vec::with_capacity(length + 8);
    while text.len() < length {
        text.extend_from_slice(&words[random.below(words.len())]);
    }
    text.truncate(length);
    text
}

/// A tree of about thirty blocks: many files, some of them larger than a block.
fn write_tree(at: &Path) {
    let mut random = Random::new(1);
    for number in 0..90 {
        let directory = at.join(format!("package{:02}", number / 7));
        fs::create_dir_all(&directory).unwrap();
        let length = if number % 30 == 17 { 2_600_000 } else { random.below(260_000) };
        fs::write(directory.join(format!("module{number:03}")), text(&mut random, length)).unwrap();
    }
}

fn edit(file: &Path) {
    let mut content = fs::read(file).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 1;
    fs::write(file, content).unwrap();
}

#[test]
fn one_edited_file_costs_one_block_wherever_it_is() {
    if is_left_out() {
        return;
    }
    for compression in [Compression::None, Compression::Gzip(1), Compression::Zstd(3)] {
        let mut bench = Bench::new(compression);
        write_tree(&bench.source());
        let first = bench.build();
        let blocks = first.work.compressed;
        assert!(blocks > 20 && first.work.reused == 0, "{:?}", first.work);
        for file in ["package00/module000", "package06/module045", "package12/module089"] {
            edit(&bench.source().join(file));
            let built = bench.build();
            assert_eq!(built.origin, LayerOrigin::Made);
            assert_eq!((built.work.reused, built.work.compressed), (blocks - 1, 1), "{file}");
            assert_ne!(built.layer, first.layer);
            let changed = built.differences.unwrap().changed.unwrap();
            assert_eq!((changed.count, &changed.first[..]), (1, format!("srv/{file}").as_bytes()));
            // Reverting the edit gives back the very same bytes, of a block that an earlier layer has.
            edit(&bench.source().join(file));
            let again = bench.build();
            let compressed = usize::from(compression == Compression::None);
            assert_eq!((&again.layer, again.work.compressed), (&first.layer, compressed));
        }
    }
}

#[test]
fn a_piece_of_a_large_file_is_a_block_of_its_own() {
    if is_left_out() {
        return;
    }
    let mut bench = Bench::new(Compression::Gzip(1));
    write_tree(&bench.source());
    let blocks = bench.build().work.compressed;
    edit(&bench.source().join("package06/module047"));
    let Work { reused, compressed, bytes_compressed } = bench.build().work;
    assert_eq!((reused, compressed, bytes_compressed), (blocks - 1, 1, 1 << 20));
}

#[test]
fn a_fresh_checkout_is_not_compressed_again() {
    if is_left_out() {
        return;
    }
    let mut bench = Bench::new(Compression::Gzip(1));
    write_tree(&bench.source());
    let first = bench.build();
    let checkout = bench.scratch.join("other/checkout");
    write_tree(&checkout);
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_500_000_000);
    fs::File::open(checkout.join("package00/module000")).unwrap().set_modified(old).unwrap();

    let cache = bench.cache();
    let built = bench.build_of(&checkout, Some(&cache));
    assert_eq!((&built.layer, built.origin), (&first.layer, LayerOrigin::SameContent));
    assert_eq!(built.work, Work { reused: first.work.compressed, ..Work::default() });
    let again = bench.build_of(&checkout, Some(&cache));
    assert_eq!((&again.layer, again.origin), (&first.layer, LayerOrigin::SameFiles));

    // Another one, in which one file has changed.
    let changed = bench.scratch.join("third/checkout");
    write_tree(&changed);
    edit(&changed.join("package06/module045"));
    let built = bench.build_of(&changed, Some(&cache));
    assert_eq!((built.work.reused, built.work.compressed), (first.work.compressed - 1, 1));
    assert_eq!(built.layer, bench.build_of(&changed, None).layer);
    let differences = built.differences.unwrap();
    assert_eq!(differences.changed.unwrap().first, b"srv/package06/module045");
    assert_eq!((differences.added, differences.removed, differences.attributes), (None, None, None));
}

#[test]
fn a_damaged_list_or_blob_costs_time_only() {
    if is_left_out() {
        return;
    }
    let mut bench = Bench::new(Compression::Gzip(1));
    write_tree(&bench.source());
    bench.build();
    type Damage = fn(&Path);
    let damages: [Damage; 5] = [
        |file| fs::write(file, b"").unwrap(),
        |file| fs::write(file, &fs::read(file).unwrap()[1..]).unwrap(),
        |file| fs::remove_file(file).unwrap(),
        |file| edit(file),
        |file| {
            let mut content = fs::read(file).unwrap();
            content.push(0);
            fs::write(file, content).unwrap();
        },
    ];
    let mut number = 0;
    for below in [&["blocks/v1", "block-index/v1"][..], &["store/blobs/sha256"]] {
        for damage in damages {
            // What was emptied before stays empty.
            let files = below.iter().flat_map(|below| bench.files(below));
            for file in files.filter(|file| fs::metadata(file).unwrap().len() > 0) {
                damage(&file);
            }
            edit(&bench.source().join(format!("package{number:02}/module{:03}", number * 7)));
            number += 1;
            let built = bench.build();
            assert_eq!(built.work.reused, 0, "{below:?}");
            edit(&bench.source().join("package12/module089"));
            assert_eq!(bench.build().work.compressed, 1, "the next one is quick again");
        }
    }
}

#[test]
fn blocks_of_any_earlier_layer_are_not_compressed_again() {
    for compression in [Compression::Gzip(1), Compression::Zstd(3)] {
        let mut bench = Bench::new(compression);
        write_tree(&bench.source());
        let all = bench.build().work.compressed;
        // The list of the build before now knows half of the blocks.
        let half = ["package00", "package01", "package02", "package03", "package04", "package05"];
        half.iter().for_each(|name| fs::rename(bench.source().join(name), bench.scratch.join(name)).unwrap());
        bench.build();
        half.iter().for_each(|name| fs::rename(bench.scratch.join(name), bench.source().join(name)).unwrap());
        edit(&bench.source().join("package00/module000"));
        let work = bench.build().work;
        assert_eq!((work.reused, work.compressed), (all - 1, 1), "{compression}");
        // Without any list, as in a layer of other sources.
        fs::remove_dir_all(bench.scratch.join("cache/blocks")).unwrap();
        edit(&bench.source().join("package12/module089"));
        let work = bench.build().work;
        assert_eq!((work.reused, work.compressed), (all - 1, 1), "{compression}");
        // Of another compression there are none.
        fs::remove_dir_all(bench.scratch.join("cache/blocks")).unwrap();
        edit(&bench.source().join("package12/module089"));
        bench.compression = Compression::Gzip(2);
        assert_eq!(bench.build().work, Work { reused: 0, ..bench.build_of(&bench.source(), None).work });
    }
}

#[test]
fn an_index_that_is_wrong_costs_time_only() {
    let mut bench = Bench::new(Compression::Gzip(1));
    write_tree(&bench.source());
    bench.build();
    type Mistake = fn(&mut [[u8; 12]]);
    let mistakes: [Mistake; 4] = [
        // Other blocks than it says.
        |blocks| blocks.chunks_exact_mut(2).for_each(|pair| pair.swap(0, 1)),
        // Blocks that end later or earlier than it says.
        |blocks| {
            for pair in blocks.chunks_exact_mut(2) {
                pair[0][11] ^= 1;
                let change = i32::from(pair[0][11] & 1) * 2 - 1;
                let other = i32::from_be_bytes(pair[1][8..].try_into().unwrap()) - change;
                pair[1][8..].copy_from_slice(&other.to_be_bytes());
            }
        },
        // Blocks that are all one.
        |blocks| {
            let first = blocks[0];
            blocks.iter_mut().for_each(|block| block[..8].copy_from_slice(&first[..8]));
        },
        // Blocks beyond the end of the blob.
        |blocks| blocks[0][8] = 0x7f,
    ];
    for mistake in mistakes {
        // Without keys and lists, all that is known of a layer is its index.
        for known in ["cache/blocks", "cache/layers"] {
            fs::remove_dir_all(bench.scratch.join(known)).unwrap();
        }
        for file in bench.files("block-index/v1") {
            let mut index = fs::read(&file).unwrap();
            mistake(index[23 + 32 + 32 + 8..].as_chunks_mut().0);
            let sum = Digest::of(&index[23 + 32..]);
            index[23..23 + 32].copy_from_slice(sum.as_bytes());
            fs::write(&file, index).unwrap();
        }
        edit(&bench.source().join("package06/module045"));
        bench.build();
    }
}

#[test]
fn a_file_that_changes_after_the_walk_fails_a_rebuild_that_reads_it() {
    if is_left_out() {
        return;
    }
    let mut bench = Bench::new(Compression::Gzip(1));
    write_tree(&bench.source());
    bench.build();
    let (source, cache) = (bench.source(), bench.cache());
    edit(&source.join("package06/module045"));
    let late = source.join("package12/module089");
    let error = bench.try_build(&source, Some(&cache), || edit(&late)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Changed, "{error}");
    // Blocks before the first change are reused as they were when the sources were walked.
    edit(&late);
    let expected = bench.build_of(&source, None).layer;
    let early = source.join("package00/module000");
    let built = bench.try_build(&source, Some(&cache), || edit(&early)).unwrap();
    assert_eq!(built.layer, expected);
    assert_ne!(bench.build().layer, expected, "and noticed by the next build");
}

#[test]
fn a_fault_while_a_blob_is_taken_over_is_no_other_image() {
    if is_left_out() {
        return;
    }
    let Some(strace) = consumer("strace") else { return };
    let scratch = Scratch::new();
    let source = scratch.join("source");
    write_tree(&source);
    let arguments = |out: &str| {
        let mut arguments = vec!["layout".into(), scratch.join(out), "-q".into(), "--cache-dir".into()];
        arguments.extend([scratch.join("cache"), "--copy".into(), format!("{}:/srv", source.display()).into()]);
        arguments
    };
    let with_cache = |mut program: Command| {
        program.env_remove("OCIBUILD_NO_CACHE");
        program
    };
    std::thread::sleep(Duration::from_millis(2100));
    run(with_cache(ocibuild()).args(arguments("first"))).success();
    let faults = [
        // Where the system cannot copy by itself, bytes go through the program.
        ("copy_file_range", "error=EXDEV", 0),
        ("copy_file_range", "error=EIO", 0),
        ("copy_file_range", "retval=0", 0),
        ("fdatasync", "error=EINVAL", 0),
        ("fdatasync", "error=EIO", 1),
        ("pwrite64", "error=ENOSPC", 1),
        ("copy_file_range", "signal=KILL", 137),
        ("fdatasync", "signal=KILL", 137),
    ];
    for (number, (call, fault, status)) in faults.into_iter().enumerate() {
        edit(&source.join("package06/module045"));
        let out = format!("out{number}");
        let mut traced = with_cache(command(&strace));
        traced.args(["-f", "-qq", "-o"]).arg(scratch.join("strace.log"));
        traced.args(["-e", &format!("trace={call}"), "-e", &format!("inject={call}:{fault}:when=1")]);
        let finished = run(traced.arg(env!("CARGO_BIN_EXE_ocibuild")).args(arguments(&out)));
        assert!(fs::read_to_string(scratch.join("strace.log")).unwrap().contains(call), "{call} is not called");
        let finished = finished.ended_with(status);
        let again = run(with_cache(ocibuild()).args(arguments(&out))).success();
        if status == 0 {
            assert_eq!(finished.text(), again.text(), "{call} {fault}");
        }
        run(ocibuild().args(["verify", "-q"]).arg(scratch.join(&out))).success();
        let plain = run(ocibuild().args(arguments(&format!("plain{number}")))).success();
        assert_eq!(again.text(), plain.text(), "{call} {fault}");
        std::thread::sleep(Duration::from_millis(2100));
    }
}

#[test]
fn explain_tells_what_differs() {
    if is_left_out() {
        return;
    }
    let scratch = Scratch::new();
    let source = scratch.join("source");
    write_tree(&source);
    let build = |out: &str, more: &str| {
        std::thread::sleep(Duration::from_millis(2100));
        let mut program = ocibuild();
        program.env_remove("OCIBUILD_NO_CACHE").arg("layout").arg(scratch.join(out)).arg("--cache-dir");
        program.arg(scratch.join("cache")).arg("--copy").arg(format!("{}:/srv", source.display())).arg(more);
        run(&mut program).success()
    };
    assert!(build("first", "--explain").stderr.contains("no previous build"));
    edit(&source.join("package03/module024"));
    edit(&source.join("package03/module026"));
    fs::write(source.join("package11/new"), "new").unwrap();
    fs::remove_file(source.join("package12/module089")).unwrap();
    let explained = build("second", "--explain").stderr;
    for part in [
        "rebuilt, 104 entries: 2 changed under srv/package03, first srv/package03/module024;",
        " 1 added, srv/package11/new;",
        " 1 removed, srv/package12/module089;",
        " blocks reused",
    ] {
        assert!(explained.contains(part), "{explained}");
    }
    edit(&source.join("package03/module024"));
    let built: Value = serde_json::from_str(build("third", "--format=json").text()).unwrap();
    let layer = &built["layers"][0];
    assert_eq!(layer["blocks"]["compressed"], 1);
    assert!(layer["blocks"]["reused"].as_u64().unwrap() > 20);
    assert!(layer["bytesCompressed"].as_u64().unwrap() <= 1 << 20);
    let expected = serde_json::json!({
        "changed": {"count": 1, "under": "srv/package03", "first": "srv/package03/module024"}
    });
    assert_eq!(layer["differences"], expected);
    let same: Value = serde_json::from_str(build("fourth", "--format=json").text()).unwrap();
    assert_eq!(
        (&same["layers"][0]["origin"], &same["layers"][0]["bytesCompressed"]),
        (&"same-files".into(), &0.into())
    );
}

/// What happens to a file between two builds.
#[derive(Debug, Clone, Copy)]
enum Edit {
    Flip,
    Grow,
    Cut,
    Touch,
    Mode,
    Remove,
    Add,
    Move,
    Replace,
}

fn an_edit() -> impl Strategy<Value = (Edit, u64)> {
    use Edit::*;
    let edits = [Flip, Grow, Cut, Touch, Mode, Remove, Add, Move, Replace];
    (proptest::sample::select(edits.to_vec()), any::<u64>())
}

fn apply(edit: Edit, source: &Path, random: &mut Random) {
    let mut files: Vec<PathBuf> = Vec::new();
    for directory in fs::read_dir(source).unwrap() {
        files.extend(fs::read_dir(directory.unwrap().path()).unwrap().map(|entry| entry.unwrap().path()));
    }
    files.sort();
    if files.is_empty() {
        return;
    }
    let file = &files[random.below(files.len())];
    let beside = file.with_file_name(format!("extra{}", random.below(1000)));
    let content = fs::read(file).unwrap();
    match edit {
        Edit::Flip => {
            let mut content = content;
            if !content.is_empty() {
                let at = random.below(content.len());
                content[at] ^= 4;
            }
            fs::write(file, content).unwrap();
        }
        Edit::Grow => {
            let more = random.below(1_200_000);
            fs::write(file, [content, text(random, more)].concat()).unwrap();
        }
        Edit::Cut => fs::write(file, &content[..random.below(content.len() + 1)]).unwrap(),
        Edit::Touch => fs::write(file, content).unwrap(),
        Edit::Mode => fs::set_permissions(file, fs::Permissions::from_mode(random.choose(&[0o644, 0o755]))).unwrap(),
        Edit::Remove => fs::remove_file(file).unwrap(),
        Edit::Add => fs::write(beside, text(random, 40_000)).unwrap(),
        Edit::Move => fs::rename(file, beside).unwrap(),
        Edit::Replace => {
            fs::write(&beside, content).unwrap();
            fs::rename(&beside, file).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, max_shrink_iters: 10, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_edits_give_the_layer_that_a_build_without_a_cache_gives(
        rounds in proptest::collection::vec(proptest::collection::vec(an_edit(), 1..4), 1..6),
        compression in proptest::sample::select(vec![Compression::None, Compression::Gzip(1), Compression::Zstd(1)]),
        threads in proptest::sample::select(vec![1, 2, 8]),
    ) {
        if is_left_out() {
            return Ok(());
        }
        let mut bench = Bench::new(compression);
        write_tree(&bench.source());
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| bench.build());
        for round in rounds {
            for (edit, seed) in round {
                apply(edit, &bench.source(), &mut Random::new(seed));
            }
            pool.install(|| bench.build());
        }
    }
}
