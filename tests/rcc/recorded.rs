//! Environments that our own recorder made, so that these tests need no rcc.

use crate::support::environment::write_environment;
use crate::support::hololib::{Recording, Storage};
use crate::support::is_left_out;
use crate::support::random::Random;
use ocibuild::common::progress::Silent;
use ocibuild::common::root::Root;
use ocibuild::rcc::{
    Blueprint, BlueprintOptions, Catalog, CatalogEntryKind, CatalogLimits, CatalogName, Hololib, Restorer, StoredObject,
};
use ocibuild::{ErrorKind, Platform};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const IDENTITY: &str = "hdc4d952_493f813dad24d3t";
const STAGE: &str = "/home/robot/.robocorp/holotree/hdc4d952_493f813dad24d3t";
const SPACE: &str = "dc4d952_5a1fac3_9fcd2534";

fn blueprint(python: &str) -> Blueprint {
    let text = format!("channels: [conda-forge]\ndependencies: [python={python}]\n");
    Blueprint::read(text.as_bytes(), "conda.yaml", &BlueprintOptions::default(), &Silent).unwrap()
}

/// A directory with an environment in `tree`.
struct Scene {
    directory: tempfile::TempDir,
}

impl Scene {
    fn new(seed: u64) -> Scene {
        let scene = Scene { directory: tempfile::tempdir().unwrap() };
        write_environment(&scene.tree(), STAGE, seed);
        scene
    }

    fn tree(&self) -> PathBuf {
        self.directory.path().join("tree")
    }

    fn record(&self, blueprint: &Blueprint, storage: Storage) -> Recording {
        Recording::of(&self.tree(), STAGE, blueprint.text(), &blueprint.hash().to_string(), storage)
    }

    /// Writes `recording` to a hololib of its own.
    fn hololib(&self, name: &str, recordings: &[&Recording]) -> Hololib {
        let path = self.directory.path().join(name);
        for recording in recordings {
            recording.write(&path);
        }
        Hololib::in_directory(Root::open(&path).unwrap(), &Silent).unwrap()
    }

    fn archive(&self, recording: &Recording) -> Hololib {
        let path = self.directory.path().join("hololib.zip");
        recording.write_zip(&path);
        Hololib::in_archive(fs::File::open(path).unwrap(), "hololib.zip").unwrap()
    }
}

fn find(hololib: &Hololib, blueprint: &Blueprint) -> ocibuild::Result<Catalog> {
    let limits = CatalogLimits::default();
    hololib.find(blueprint, &Platform::linux_amd64(), "rcc holotree variables --robot robot.yaml", &limits, &Silent)
}

fn read(mut reader: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    std::io::copy(&mut reader, &mut bytes).unwrap();
    bytes
}

fn replaced(content: &[u8], offsets: &[u64]) -> Vec<u8> {
    let mut content = content.to_vec();
    for offset in offsets {
        let at = usize::try_from(*offset).unwrap();
        assert_eq!(&content[at..at + IDENTITY.len()], IDENTITY.as_bytes());
        content[at..at + SPACE.len()].copy_from_slice(SPACE.as_bytes());
    }
    content
}

fn check_files(hololib: &Hololib, tree: &Path) {
    let catalog = Arc::new(find(hololib, &blueprint("3.11.7")).unwrap());
    let restorer = Restorer::new(hololib, &catalog, SPACE).unwrap();
    let mut files = 0;
    for entry in catalog.entries() {
        let CatalogEntryKind::File(file) = &entry.kind else { continue };
        let recorded = fs::read(tree.join(entry.path)).unwrap();
        let restored = read(restorer.open(entry.path, file).unwrap());
        assert!(restored == replaced(&recorded, file.rewrites), "{}", entry.path);
        files += 1;
    }
    assert!(files > 15, "only {files} files");
}

#[test]
fn every_way_of_storing_an_environment_gives_the_same_files() {
    if is_left_out() {
        return;
    }
    let scene = Scene::new(11);
    for (name, storage) in [("gzip", Storage::Gzip), ("zstd", Storage::Zstd), ("raw", Storage::Raw)] {
        let recording = scene.record(&blueprint("3.11.7"), storage);
        check_files(&scene.hololib(name, &[&recording]), &scene.tree());
        check_files(&scene.archive(&recording), &scene.tree());
    }
}

#[test]
fn stored_objects_can_be_passed_on_as_they_are() {
    let scene = Scene::new(12);
    let recording = scene.record(&blueprint("3.11.7"), Storage::Gzip);
    let (hololib, archive) = (scene.hololib("gzip", &[&recording]), scene.archive(&recording));
    let catalog = find(&hololib, &blueprint("3.11.7")).unwrap();
    for object in catalog.objects() {
        let open = |hololib: &Hololib| -> StoredObject { hololib.object(object).unwrap() };
        let stored = read(open(&hololib).stored().unwrap());
        let path = scene.directory.path().join("gzip").join(object.digest.library_path());
        assert!(stored == fs::read(path).unwrap());
        assert!(stored == read(open(&archive).stored().unwrap()));
        assert_eq!(stored.len() as u64, open(&archive).stored_size());
    }
}

#[test]
fn a_missing_catalog_is_described_by_its_neighbours() {
    let scene = Scene::new(13);
    let recordings = [scene.record(&blueprint("3.10.12"), Storage::Gzip), {
        let text = "channels: [other]\ndependencies: [nodejs=20, zlib]\n";
        let far = Blueprint::read(text.as_bytes(), "c", &BlueprintOptions::default(), &Silent).unwrap();
        scene.record(&far, Storage::Gzip)
    }];
    let hololib = scene.hololib("lib", &recordings.iter().collect::<Vec<_>>());
    let error = find(&hololib, &blueprint("3.11.7")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let shown = hololib.shown();
    let near = blueprint("3.10.12");
    let expected = format!(
        "blueprint 5f74d1b6dace1dfc: no catalog for linux/amd64 in {shown}; most similar is {}: `+ python=3.11.7`, `- python=3.10.12`; most similar is",
        near.hash()
    );
    assert!(error.to_string().starts_with(&expected), "{error}");
    let hint = "(run `rcc holotree variables --robot robot.yaml`, or use --resolve)";
    assert!(error.to_string().ends_with(hint), "{error}");
}

#[test]
fn a_catalog_for_another_platform_is_named() {
    let scene = Scene::new(14);
    let mut recording = scene.record(&blueprint("3.11.7"), Storage::Gzip);
    recording.document["platform"] = "linux_arm64".into();
    recording.write(&scene.directory.path().join("lib"));
    let hololib = Hololib::in_directory(Root::open(&scene.directory.path().join("lib")).unwrap(), &Silent).unwrap();
    let error = find(&hololib, &blueprint("3.11.7")).unwrap_err().to_string();
    assert!(
        error.contains("no catalog for linux/amd64 in") && error.contains("only 5f74d1b6dace1dfcv12.linux_arm64"),
        "{error}"
    );
    let error = hololib.choose(Some("5f74d1b6dace1dfc"), &Platform::linux_amd64()).unwrap_err().to_string();
    assert!(error.contains("no catalog for linux/amd64, only 5f74d1b6dace1dfcv12.linux_arm64"), "{error}");
}

#[test]
fn an_incomplete_environment_is_refused_with_the_first_missing_file() {
    let scene = Scene::new(15);
    let mut recording = scene.record(&blueprint("3.11.7"), Storage::Gzip);
    let digest = recording.objects.keys().next().unwrap().clone();
    recording.objects.remove(&digest);
    for hololib in [scene.hololib("lib", &[&recording]), scene.archive(&recording)] {
        let error = find(&hololib, &blueprint("3.11.7")).unwrap_err().to_string();
        assert!(
            error.contains("1 of its ")
                && error.contains(&digest)
                && error.ends_with("(--resolve records the environment again)"),
            "{error}"
        );
    }
}

#[test]
fn a_catalog_is_chosen_by_name_by_blueprint_or_because_it_is_alone() {
    if is_left_out() {
        return;
    }
    let scene = Scene::new(16);
    let (one, two) =
        (scene.record(&blueprint("3.11.7"), Storage::Gzip), scene.record(&blueprint("3.10.12"), Storage::Gzip));
    let platform = Platform::linux_amd64();
    let alone = scene.archive(&one);
    assert_eq!(alone.choose(None, &platform).unwrap().to_string(), one.catalog_name());
    let both = scene.hololib("lib", &[&one, &two]);
    for selector in [two.catalog_name(), blueprint("3.10.12").hash().to_string()] {
        assert_eq!(both.choose(Some(&selector), &platform).unwrap().to_string(), two.catalog_name());
    }
    let several = both.choose(None, &platform).unwrap_err().to_string();
    assert!(several.contains("2 catalogs: ") && several.contains(&two.catalog_name()), "{several}");
    for (selector, expected) in [
        ("0000000000000000", "no catalog for blueprint 0000000000000000"),
        ("0000000000000000v12.linux_amd64", "no catalog 0000000000000000v12.linux_amd64"),
        ("0000000000000000v13.linux_amd64", "unsupported catalog version"),
        ("5f74d1b6dace1dfcv12.linux_amd64.info", "this is the .info file"),
    ] {
        let error = both.choose(Some(selector), &platform).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let empty = scene.directory.path().join("empty");
    fs::create_dir_all(empty.join("catalog")).unwrap();
    let empty = Hololib::in_directory(Root::open(&empty).unwrap(), &Silent).unwrap();
    assert!(empty.choose(None, &platform).unwrap_err().to_string().ends_with("no catalog"));
}

#[test]
fn any_damage_to_a_stored_environment_is_an_error_and_never_a_panic() {
    if is_left_out() {
        return;
    }
    let scene = Scene::new(17);
    let recording = scene.record(&blueprint("3.11.7"), Storage::Gzip);
    scene.hololib("lib", &[&recording]);
    recording.write_zip(&scene.directory.path().join("hololib.zip"));
    let catalog = fs::read(scene.directory.path().join("lib/catalog").join(recording.catalog_name())).unwrap();
    let zip = fs::read(scene.directory.path().join("hololib.zip")).unwrap();
    let name = CatalogName::parse(&recording.catalog_name()).unwrap();
    let whole = Catalog::read(&catalog[..], &name, &CatalogLimits::default(), &Silent).unwrap();
    let random = &mut Random::new(17);
    let mut harmless = 0;
    for _ in 0..400 {
        let mut damaged = catalog.clone();
        let at = random.below(damaged.len());
        damaged[at] ^= 1 << random.below(8);
        // Some bits of gzip mean nothing: the time in its header, what fills up the last byte of the data.
        if let Ok(read) = Catalog::read(&damaged[..], &name, &CatalogLimits::default(), &Silent) {
            assert_eq!(read.document_digest(), whole.document_digest(), "bit at {at}");
            harmless += 1;
        }
    }
    assert!(harmless < 40, "{harmless} of 400 damages were not found");
    for _ in 0..100 {
        let mut damaged = zip.clone();
        let at = random.below(damaged.len());
        damaged[at] ^= 1 << random.below(8);
        let path = scene.directory.path().join("damaged.zip");
        fs::write(&path, damaged).unwrap();
        let Ok(hololib) = Hololib::in_archive(fs::File::open(&path).unwrap(), "damaged.zip") else { continue };
        let Ok(catalog) = find(&hololib, &blueprint("3.11.7")) else { continue };
        for object in catalog.objects() {
            // Whatever is read to its end is right: the digest says so.
            let Ok(content) = hololib.object(object).and_then(|stored| stored.content()) else { continue };
            let mut bytes = Vec::new();
            if content.take(1 << 30).read_to_end(&mut bytes).is_ok() {
                assert_eq!(ocibuild::Digest::of(&bytes).hex(), object.digest.to_string());
            }
        }
    }
}
