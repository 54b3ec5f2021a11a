//! What we say a space will hold, against what the real rcc restores.

use crate::support::environment::write_environment;
use crate::support::hololib::{Recording, Storage};
use crate::support::real_rcc::RealRcc;
use ocibuild::Platform;
use ocibuild::common::digest::Digest;
use ocibuild::common::progress::Silent;
use ocibuild::common::root::Root;
use ocibuild::rcc::{
    Blueprint, BlueprintOptions, Catalog, CatalogEntryKind, CatalogLimits, Hololib, Holotree, Restorer, Robot, Sharing,
    Space, SpaceOwner, stage_directory,
};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const CONDA: &str = "channels: [conda-forge]\ndependencies: [python=3.11.7]\n";
const ROBOT: &str = "tasks: {hello: {shell: bin/python}}\nartifactsDir: output\ncondaConfigFile: conda.yaml\n";

/// RCC's constant for the times of restored files.
const RESTORED: i64 = 1_610_000_000;

#[derive(Debug, PartialEq, Eq)]
enum Thing {
    Directory,
    File { mode: u32, digest: Digest },
    Link(String),
}

type Tree = BTreeMap<String, Thing>;

/// The files on disk.
fn observed(directory: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(relative) = pending.pop() {
        for entry in fs::read_dir(directory.join(&relative)).unwrap() {
            let relative = relative.join(entry.unwrap().file_name());
            let path = directory.join(&relative);
            let metadata = fs::symlink_metadata(&path).unwrap();
            let thing = if metadata.is_dir() {
                pending.push(relative.clone());
                Thing::Directory
            } else if metadata.is_symlink() {
                Thing::Link(fs::read_link(&path).unwrap().to_str().unwrap().to_owned())
            } else {
                assert_eq!(metadata.mtime(), RESTORED, "{}", path.display());
                Thing::File {
                    mode: metadata.permissions().mode() & 0o7777,
                    digest: Digest::of(&fs::read(&path).unwrap()),
                }
            };
            tree.insert(relative.to_str().unwrap().to_owned(), thing);
        }
    }
    tree
}

/// What our reader says.
fn predicted(hololib: &Hololib, catalog: &Arc<Catalog>, space: &str) -> Tree {
    let restorer = Restorer::new(hololib, catalog, space).unwrap();
    let things = catalog.entries().map(|entry| {
        let thing = match &entry.kind {
            CatalogEntryKind::Directory { .. } => Thing::Directory,
            CatalogEntryKind::Link { target } => Thing::Link((*target).to_owned()),
            CatalogEntryKind::File(file) => {
                let mut content = Vec::new();
                restorer.open(entry.path, file).unwrap().take(1 << 30).read_to_end(&mut content).unwrap();
                assert_eq!(content.len() as u64, file.size, "{}", entry.path);
                Thing::File { mode: file.mode, digest: Digest::of(&content) }
            }
        };
        (entry.path.to_owned(), thing)
    });
    things.collect()
}

fn assert_equal(ours: &Tree, theirs: &Tree) {
    for (path, thing) in theirs {
        assert_eq!(ours.get(path), Some(thing), "{path:?}");
    }
    for path in ours.keys() {
        assert!(theirs.contains_key(path), "{path:?} is not there");
    }
    assert!(theirs.len() > 25, "only {} entries", theirs.len());
}

/// A robot, its user, and an rcc that records `tree` as its environment.
struct Scene {
    directory: tempfile::TempDir,
    rcc: RealRcc,
}

impl Scene {
    fn new() -> Option<Scene> {
        let directory = tempfile::tempdir().unwrap();
        let rcc = RealRcc::new(&directory.path().join("home"))?;
        fs::create_dir(directory.path().join("robot")).unwrap();
        fs::write(directory.path().join("robot/robot.yaml"), ROBOT).unwrap();
        fs::write(directory.path().join("robot/conda.yaml"), CONDA).unwrap();
        Some(Scene { directory, rcc })
    }

    fn owner(&self) -> SpaceOwner {
        SpaceOwner::Home(self.rcc.home().to_str().unwrap().to_owned())
    }

    fn robot(&self) -> PathBuf {
        self.directory.path().join("robot")
    }

    fn opt(&self) -> PathBuf {
        self.directory.path().join("opt")
    }

    /// Writes an environment and lets rcc record it from there. `base` is where rcc will do that.
    fn provide(&self, base: &str, seed: u64) -> PathBuf {
        let prefix = format!("{base}/{}", stage_directory(&self.owner(), "linux", "amd64"));
        let tree = self.directory.path().join("tree");
        write_environment(&tree, &prefix, seed);
        self.rcc.install_micromamba(&tree);
        tree
    }

    fn restore(&self, arguments: &[&str]) {
        let robot = self.robot().join("robot.yaml");
        self.rcc.run(&[&["holotree", "variables", "-r", robot.to_str().unwrap()], arguments].concat());
    }

    fn blueprint(&self) -> Blueprint {
        let root = Root::open(&self.robot()).unwrap();
        let robot = Robot::open(&root, "robot.yaml", &Silent).unwrap();
        let options = BlueprintOptions::default();
        robot.blueprint(&root, &Platform::linux_amd64(), &options, &Silent).unwrap().unwrap()
    }

    fn holotree(&self) -> Holotree {
        Holotree::of(&self.rcc.product_home(), &self.opt().join("robocorp/ht"), &self.owner()).unwrap()
    }

    fn hololib(&self) -> Hololib {
        Hololib::in_directory(Root::open(&self.holotree().library).unwrap(), &Silent).unwrap()
    }

    fn find(&self, hololib: &Hololib) -> Arc<Catalog> {
        let limits = CatalogLimits::default();
        Arc::new(hololib.find(&self.blueprint(), &Platform::linux_amd64(), "rcc", &limits, &Silent).unwrap())
    }

    fn space(&self, name: &str) -> String {
        Space { owner: self.owner(), controller: "user".to_owned(), name: name.to_owned() }.directory()
    }

    /// Compares a space that rcc restored with what we predict.
    fn check(&self, hololib: &Hololib, name: &str) {
        let catalog = self.find(hololib);
        let space = self.space(name);
        assert_equal(&predicted(hololib, &catalog, &space), &observed(&self.holotree().spaces.join(&space)));
    }
}

#[test]
fn a_private_space_is_what_rcc_restores() {
    let Some(scene) = Scene::new() else { return };
    let base = scene.rcc.product_home().join("holotree");
    scene.provide(base.to_str().unwrap(), 1);
    scene.restore(&[]);
    scene.restore(&["--space", "other"]);
    assert_eq!(scene.holotree().sharing, Sharing::Private);
    assert_eq!(scene.find(&scene.hololib()).base(), base.to_str().unwrap());
    for name in ["user", "other"] {
        scene.check(&scene.hololib(), name);
    }
    let recorded = scene.hololib().recorded_blueprint(&scene.find(&scene.hololib())).unwrap();
    assert_eq!(recorded, scene.blueprint());
}

#[test]
fn a_shared_space_is_what_rcc_restores() {
    let Some(mut scene) = Scene::new() else { return };
    let opt = scene.opt();
    scene.rcc.share(&opt);
    scene.provide("/opt/robocorp/ht", 2);
    scene.restore(&[]);
    assert_eq!(scene.holotree().sharing, Sharing::Shared);
    assert_eq!(scene.find(&scene.hololib()).base(), "/opt/robocorp/ht");
    scene.check(&scene.hololib(), "user");
}

#[test]
fn a_space_of_uncompressed_mode_is_what_rcc_restores() {
    let Some(scene) = Scene::new() else { return };
    let base = scene.rcc.product_home().join("holotree");
    scene.provide(base.to_str().unwrap(), 3);
    let catalogs = scene.rcc.product_home().join("hololib/catalog");
    fs::create_dir_all(&catalogs).unwrap();
    fs::write(catalogs.join("compress.no"), "").unwrap();
    scene.restore(&[]);
    let catalog = scene.find(&scene.hololib());
    assert!(catalog.objects().iter().all(|object| object.digest.to_string().len() == 32));
    scene.check(&scene.hololib(), "user");
}

#[test]
fn an_exported_archive_holds_the_same_space() {
    let Some(scene) = Scene::new() else { return };
    let base = scene.rcc.product_home().join("holotree");
    scene.provide(base.to_str().unwrap(), 4);
    scene.restore(&[]);
    let zip = scene.directory.path().join("hololib.zip");
    let robot = scene.robot().join("robot.yaml");
    let export = ["holotree", "export", "-r", robot.to_str().unwrap(), "-z", zip.to_str().unwrap()];
    scene.rcc.run(&export);
    let hololib = Hololib::in_archive(fs::File::open(&zip).unwrap(), "hololib.zip").unwrap();
    scene.check(&hololib, "user");
    let from_directory = scene.find(&scene.hololib());
    assert_eq!(scene.find(&hololib).document_digest(), from_directory.document_digest());
}

/// RCC's own files, which our recorder does not write.
const OWN_FILES: [&str; 5] =
    ["golden-ee.yaml", "identity.yaml", "rcc_activate.json", "rcc_activate.sh", "rcc_plan.log"];

fn without_own_files(tree: &mut Value) {
    let files = tree["files"].as_object_mut().unwrap();
    files.retain(|name, _| !OWN_FILES.contains(&name.as_str()));
}

/// RCC lists an occurrence on the border of two chunks twice.
fn without_repetitions(value: &mut Value) {
    match value {
        Value::Object(members) => {
            if let Some(Value::Array(offsets)) = members.get_mut("rewrite") {
                offsets.dedup();
            }
            members.values_mut().for_each(without_repetitions);
        }
        Value::Array(elements) => elements.iter_mut().for_each(without_repetitions),
        _ => {}
    }
}

#[test]
fn our_recorder_records_what_rcc_records() {
    let Some(scene) = Scene::new() else { return };
    let base = scene.rcc.product_home().join("holotree");
    let tree = scene.provide(base.to_str().unwrap(), 5);
    scene.restore(&[]);
    let name = scene.find(&scene.hololib()).name().to_string();
    let stored = fs::read(scene.holotree().library.join("catalog").join(name)).unwrap();
    let mut theirs: Value = serde_json::from_reader(flate2::read::MultiGzDecoder::new(&stored[..])).unwrap();
    let (path, blueprint) = (theirs["path"].as_str().unwrap(), scene.blueprint());
    let mut ours = Recording::of(&tree, path, blueprint.text(), &blueprint.hash().to_string(), Storage::Gzip).document;
    for document in [&mut ours, &mut theirs] {
        without_own_files(&mut document["tree"]);
        without_repetitions(document);
        // The mode of the root depends on who made the directory.
        document["tree"]["mode"] = Value::Null;
    }
    assert!(theirs.to_string().contains("\"shadow\":true"));
    assert_eq!(ours, theirs);
}

#[test]
fn rcc_restores_what_our_recorder_recorded() {
    for (seed, storage) in [(6, Storage::Gzip), (7, Storage::Raw)] {
        let Some(scene) = Scene::new() else { return };
        let base = scene.rcc.product_home().join("holotree");
        let path = format!("{}/{}", base.to_str().unwrap(), stage_directory(&scene.owner(), "linux", "amd64"));
        let tree = scene.directory.path().join("tree");
        write_environment(&tree, &path, seed);
        let blueprint = scene.blueprint();
        let recording = Recording::of(&tree, &path, blueprint.text(), &blueprint.hash().to_string(), storage);
        recording.write(&scene.holotree().library);
        scene.restore(&["--no-build"]);
        scene.check(&scene.hololib(), "user");
    }
}
