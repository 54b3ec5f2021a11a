//! Times of the parts that a build is made of: `cargo bench --bench parts`.
//!
//! Whole builds, beside other programs, are measured by `benches/peers`.

#![expect(clippy::disallowed_methods, reason = "makes the directories that it walks")]

use criterion::{Criterion, Throughput};
use ocibuild::build::image::Base;
use ocibuild::build::{BuildSpec, LayerCaches, LayerSpec, PlannedContent, Source};
use ocibuild::cache::{Cache, Fingerprints, LayerKey};
use ocibuild::codec::compression::{Compression, Compressor, Encoding, decode};
use ocibuild::codec::tar;
use ocibuild::common::progress::Silent;
use ocibuild::common::root::Root;
use ocibuild::layers::tree::{Rules, Tree, TreeBuilder};
use ocibuild::rcc::{Catalog, CatalogLimits, CatalogName};
use ocibuild::spec::ImagePath;
use ocibuild::store::Layout;
use ocibuild::{Digest, Error, Platform};
use serde_json::{Map, Value, json};
use std::error::Error as AnyError;
use std::fmt::Write;
use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

type Result<T, E = Box<dyn AnyError>> = std::result::Result<T, E>;

/// As many files as a small environment has.
const FILES: usize = 5_000;

/// About the size of a block of a layer, in bytes.
const BLOCK: usize = 1 << 20;

fn main() -> Result<()> {
    let mut criterion = Criterion::default().sample_size(20).warm_up_time(Duration::from_secs(1)).configure_from_args();
    let scratch = tempfile::tempdir()?;
    let directory = scratch.path().join("tree");
    write_files(&directory)?;
    let tree = walk(&Root::open(&directory)?)?;

    walking(&mut criterion, &directory)?;
    headers(&mut criterion, &tree);
    hashing(&mut criterion);
    compressing(&mut criterion)?;
    catalog(&mut criterion)?;
    cache(&mut criterion, scratch.path(), &directory)?;
    criterion.final_summary();
    Ok(())
}

fn walking(criterion: &mut Criterion, directory: &Path) -> Result<()> {
    let root = Root::open(directory)?;
    let mut group = criterion.benchmark_group("walk");
    group.throughput(Throughput::Elements(FILES as u64));
    group.bench_function("a directory", |bencher| bencher.iter(|| walk(&root)));
    group.finish();
    Ok(())
}

fn headers(criterion: &mut Criterion, tree: &Tree) {
    let mut group = criterion.benchmark_group("tar headers");
    group.throughput(Throughput::Elements(tree.entries().len() as u64));
    let mut out = Vec::new();
    group.bench_function("of a tree", |bencher| {
        bencher.iter(|| {
            out.clear();
            for entry in tree.entries() {
                tar::append(&entry.header(), &mut out);
            }
            black_box(out.len())
        });
    });
    group.finish();
}

fn hashing(criterion: &mut Criterion) {
    let block = text(BLOCK);
    let mut group = criterion.benchmark_group("hash");
    group.throughput(Throughput::Bytes(BLOCK as u64));
    group.bench_function("a block", |bencher| bencher.iter(|| Digest::of(&block)));
    group.finish();
}

fn compressing(criterion: &mut Criterion) -> Result<()> {
    let block = text(BLOCK);
    let mut group = criterion.benchmark_group("compress");
    group.throughput(Throughput::Bytes(BLOCK as u64));
    let mut out = Vec::new();
    for compression in [Compression::Gzip(1), Compression::DEFAULT_GZIP, Compression::DEFAULT_ZSTD] {
        let mut compressor = Compressor::new(compression)?;
        group.bench_function(compression.to_string(), |bencher| bencher.iter(|| compressor.compress(&block, &mut out)));
    }
    Compressor::new(Compression::DEFAULT_GZIP)?.compress(&block, &mut out)?;
    group.bench_function("and decompress gzip", |bencher| {
        bencher.iter(|| std::io::copy(&mut decode(&out[..], Encoding::Gzip)?, &mut std::io::sink()));
    });
    group.finish();
    Ok(())
}

fn catalog(criterion: &mut Criterion) -> Result<()> {
    let name = CatalogName::parse("5f74d1b6dace1dfcv12.linux_amd64")?;
    let mut stored = Vec::new();
    Compressor::new(Compression::Gzip(1))?.compress(catalog_document().to_string().as_bytes(), &mut stored)?;
    let mut group = criterion.benchmark_group("catalog");
    group.throughput(Throughput::Elements(FILES as u64));
    let limits = CatalogLimits::default();
    Catalog::read(&stored[..], &name, &limits, &Silent)?;
    group.bench_function("parse", |bencher| bencher.iter(|| Catalog::read(&stored[..], &name, &limits, &Silent)));
    group.finish();
    Ok(())
}

fn cache(criterion: &mut Criterion, scratch: &Path, directory: &Path) -> Result<()> {
    let cache = Cache::open(Root::create_private(&scratch.join("cache"))?, SystemTime::now(), &Silent)?;
    let layout = Arc::new(Layout::create(&scratch.join("out"))?);
    let plan = request(directory)?.plan(layout.root(), None, &Silent)?;
    plan.build(&layout, Some(LayerCaches::of(&cache, &layout)), &["t".parse()?], &Silent)?;
    let PlannedContent::Tree(tree) = &plan.layers[0].content else { return Err("nothing was known before".into()) };
    let look_up = || {
        let (key, _) = LayerKey::of_files(&Fingerprints::of(tree), plan.compression.for_tree(tree))?;
        cache.find(&key, &layout)
    };
    look_up().ok_or("the layer is not in the cache")?;

    let mut group = criterion.benchmark_group("cache");
    group.throughput(Throughput::Elements(FILES as u64));
    group.bench_function("look-up", |bencher| bencher.iter(look_up));
    group.finish();
    Ok(())
}

fn walk(root: &Root) -> Result<Tree, Error> {
    let rules = Rules::default();
    let mut builder = TreeBuilder::new(&rules);
    builder.add_directory(root, &ImagePath::new(b"/env")?, &rules, &Silent)?;
    builder.finish()
}

fn request(directory: &Path) -> Result<BuildSpec, Error> {
    let source = Source::directory(Root::open(directory)?, "/env".parse()?);
    Ok(BuildSpec::new(Base::Scratch(Platform::linux_amd64())).layer(LayerSpec::new("tree").source(source)))
}

fn write_files(directory: &Path) -> Result<()> {
    for number in 0..FILES {
        let package = directory.join(format!("package{:02}/part{}", number % 50, number % 7));
        fs::create_dir_all(&package)?;
        fs::write(package.join(format!("module{number:04}.py")), number.to_string())?;
    }
    Ok(())
}

/// Text that is about as compressible as source code.
fn text(length: usize) -> Vec<u8> {
    let mut text = String::new();
    let mut state: u32 = 1;
    while text.len() < length {
        // A linear congruential generator; its upper bits are the good ones.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let word = state >> 16;
        write!(text, "{:x}", word & 0x7ff ^ word >> 7 & 0xff).ok();
        text.push_str(if word.is_multiple_of(11) { "\n    " } else { " = " });
    }
    text.truncate(length);
    text.into_bytes()
}

/// A catalog of as many files, in 100 directories.
fn catalog_document() -> Value {
    let identity = "hdc4d952_493f813dad24d3t";
    let directory =
        |subdirs: Value, files: Value| json!({ "mode": 0x8000_01ed_u32, "subdirs": subdirs, "files": files });
    let packages: Map<String, Value> = (0..100)
        .map(|package| {
            let files: Map<String, Value> = (0..FILES / 100)
                .map(|module| {
                    let name = format!("module{module:03}.py");
                    let digest = Digest::of(format!("{package} {module}").as_bytes()).hex();
                    let rewrites = if module % 10 == 0 { json!([53, 210]) } else { json!([]) };
                    (
                        name.clone(),
                        json!({ "name": name, "size": 1000, "mode": 0o644, "digest": digest, "rewrite": rewrites }),
                    )
                })
                .collect();
            let name = format!("package{package:02}");
            let mut package = directory(json!({}), Value::Object(files));
            package["name"] = json!(name);
            (name, package)
        })
        .collect();
    let mut tree = directory(Value::Object(packages), json!({}));
    tree["name"] = json!("");
    json!({
        "rcc": "v18.5.0",
        "identity": identity,
        "path": format!("/home/robot/.robocorp/holotree/{identity}"),
        "controller": "",
        "space": "",
        "platform": "linux_amd64",
        "blueprint": "5f74d1b6dace1dfc",
        "lifted": true,
        "tree": tree,
    })
}
