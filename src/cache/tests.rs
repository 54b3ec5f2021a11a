use super::*;
use crate::cache::maintenance::{CacheLimits, Upkeep};
use crate::codec::compression::Compression;
use crate::common::digest::{DiffId, Digest, Hasher};
use crate::common::progress::Silent;
use crate::layers::incremental::{DoneBlock, Fingerprint, PreviousEntry, PreviousLayer};
use crate::layers::tree::{
    Attributes, Content, Entry, Kind, Rules, SourceDirectory, SourceFile, Stamp, Tree, TreeBuilder,
};
use crate::layers::{Block, CompressionPolicy};
use crate::spec::ImagePath;
use crate::spec::{Descriptor, media_type};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

struct Scene {
    directory: tempfile::TempDir,
    cache: Cache,
    layout: Layout,
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

impl Scene {
    fn new() -> Scene {
        let directory = tempfile::tempdir().unwrap();
        let cache = open(&directory.path().join("cache"), at(1_000_000));
        let layout = Layout::create(&directory.path().join("out")).unwrap();
        Scene { directory, cache, layout }
    }

    fn keep(&self, key: &LayerKey, content: &[u8]) -> Layer {
        let mut writer = self.layout.blob_writer().unwrap();
        writer.write(content).unwrap();
        let (digest, size) = self.layout.finish_blob(writer).unwrap();
        let layer = Layer {
            descriptor: Descriptor::new(media_type::LAYER, digest, size),
            diff_id: DiffId::of_tar(digest),
            tar_size: size,
        };
        let kept = CachedLayer {
            layer: layer.clone(),
            facts: LayerFacts::Secrets { secrets: Vec::new() },
            from: None,
            recorded: self.cache.now(),
        };
        self.cache.keep(key, &kept, &self.layout, &Silent);
        layer
    }

    /// Returns the layer that another build finds with an empty layout.
    fn found_by_another(&self, key: &LayerKey) -> Option<Layer> {
        let other = tempfile::tempdir_in(self.directory.path()).unwrap();
        let layout = Layout::create(&other.path().join("out")).unwrap();
        let cache = open(&self.directory.path().join("cache"), at(2_000_000));
        let found = cache.find(key, &layout)?;
        let fresh = Layout::open(&other.path().join("out")).unwrap();
        assert!(fresh.contains(&found.layer.descriptor).unwrap(), "what is found is in the layout, whole");
        Some(found.layer)
    }

    fn root(&self) -> Root {
        Root::open(&self.directory.path().join("cache")).unwrap()
    }

    fn upkeep(&self, now: SystemTime) -> Upkeep {
        Upkeep::new(self.root(), now)
    }

    fn records(&self) -> Vec<PathBuf> {
        let layers = self.directory.path().join("cache/layers/v1");
        fs::read_dir(layers).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    fn blob(&self, layer: &Layer) -> PathBuf {
        self.directory.path().join("cache/store/blobs/sha256").join(layer.descriptor.digest.hex())
    }
}

fn open(path: &Path, now: SystemTime) -> Cache {
    Cache::open(Root::create_private(path).unwrap(), now, &Silent).unwrap()
}

fn key(name: &str) -> LayerKey {
    LayerKey::of_recipe(&RecipeKey::new(&[name.as_bytes()], ""), Compression::DEFAULT_GZIP.into())
}

#[test]
fn what_is_kept_is_found_and_brought_along() {
    let scene = Scene::new();
    assert_eq!(scene.found_by_another(&key("a")), None);
    let layer = scene.keep(&key("a"), b"content");
    assert_eq!(scene.found_by_another(&key("a")), Some(layer));
    assert_eq!(scene.found_by_another(&key("b")), None);
    assert_eq!(scene.cache.facts(&key("a")), Some(LayerFacts::Secrets { secrets: Vec::new() }));
}

#[test]
fn a_damaged_record_is_a_miss_at_every_cut_and_every_flip() {
    let scene = Scene::new();
    scene.keep(&key("a"), b"content");
    let record = scene.records().pop().unwrap();
    let whole = fs::read(&record).unwrap();
    for cut in 0..whole.len() {
        fs::write(&record, &whole[..cut]).unwrap();
        assert_eq!(scene.cache.facts(&key("a")), None, "cut at {cut}");
    }
    for flip in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[flip] ^= 4;
        fs::write(&record, &flipped).unwrap();
        assert_eq!(scene.cache.facts(&key("a")), None, "flipped at {flip}");
    }
    fs::write(&record, &whole).unwrap();
    assert!(scene.found_by_another(&key("a")).is_some());
}

#[test]
fn a_blob_that_is_gone_short_or_altered_is_a_miss() {
    for damage in [None, Some(&b""[..]), Some(b"conten"), Some(b"Content")] {
        let scene = Scene::new();
        let layer = scene.keep(&key("a"), b"content");
        // The cache has a hard link to the layout's blob: damage there is damage here, and must be detected.
        fs::remove_file(scene.blob(&layer)).unwrap();
        if let Some(damage) = damage {
            fs::write(scene.blob(&layer), damage).unwrap();
        }
        assert_eq!(scene.found_by_another(&key("a")), None, "{damage:?}");
    }
}

fn series() -> SeriesKey {
    SeriesKey::new("copy to /app", &[b"app".to_vec()], Compression::Gzip(5).into())
}

impl Scene {
    fn lists(&self) -> Vec<PathBuf> {
        let lists = fs::read_dir(self.directory.path().join("cache/blocks/v1")).unwrap();
        lists.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_none()).collect()
    }

    /// Keeps a layer of one block and two entries.
    fn keep_blocks(&self, series: &SeriesKey, content: &[u8]) -> PreviousLayer {
        let layer = self.keep(&key("a"), content);
        let entry = |path: &str, whole| PreviousEntry {
            path: path.as_bytes().into(),
            fingerprint: Fingerprint { shape: 7, whole },
            size: 3,
            content: 9,
        };
        let mut hasher = Hasher::sha256();
        hasher.update(content);
        let state = hasher.state().unwrap();
        let block = Block { entry: 0, offset: 0, length: layer.tar_size };
        let packed = layer.descriptor.size as u32;
        let kept = PreviousLayer {
            layer,
            entries: vec![entry("app/one", Some([1; 16])), entry("app/other", None)],
            blocks: vec![DoneBlock { block, packed, sum: 5, tar: state, blob: state }],
        };
        let entries = kept.entries.iter().cloned();
        self.cache.keep_blocks(series, (&kept.layer, &kept.blocks), entries, &Silent);
        kept
    }
}

#[test]
fn blocks_are_found_by_their_series_and_by_another_of_its_kind() {
    let scene = Scene::new();
    assert!(scene.cache.earlier(&series()).is_none());
    let kept = scene.keep_blocks(&series(), b"content");
    let (found, blob) = scene.cache.earlier(&series()).unwrap();
    assert_eq!((found, blob.size()), (kept.clone(), 7));
    let elsewhere = SeriesKey::new("copy to /app", &[b"/other/checkout".to_vec()], Compression::Gzip(5).into());
    assert_eq!(scene.cache.earlier(&elsewhere).unwrap().0, kept);
    for other in [
        SeriesKey::new("copy to /srv", &[b"app".to_vec()], Compression::Gzip(5).into()),
        SeriesKey::new("copy to /app", &[b"app".to_vec()], Compression::Gzip(6).into()),
    ] {
        assert!(scene.cache.earlier(&other).is_none());
    }
}

#[test]
fn a_damaged_list_is_a_miss_at_every_cut_and_every_flip() {
    let scene = Scene::new();
    scene.keep_blocks(&series(), b"content");
    let list = scene.lists().pop().unwrap();
    let whole = fs::read(&list).unwrap();
    for cut in 0..whole.len() {
        fs::write(&list, &whole[..cut]).unwrap();
        assert!(scene.cache.earlier(&series()).is_none(), "cut at {cut}");
    }
    // Damage with a matching checksum is not caused by a crash or a disk, but must still be harmless.
    let resummed = |bytes: &mut Vec<u8>| {
        let sum = Digest::of(&bytes[50..]);
        bytes[18..50].copy_from_slice(sum.as_bytes());
    };
    for flip in 0..whole.len() {
        for bit in [1, 0x80] {
            let mut flipped = whole.clone();
            flipped[flip] ^= bit;
            fs::write(&list, &flipped).unwrap();
            assert!(scene.cache.earlier(&series()).is_none(), "flipped at {flip}");
            resummed(&mut flipped);
            fs::write(&list, &flipped).unwrap();
            scene.cache.earlier(&series());
        }
    }
    fs::write(&list, [&whole[..], b"more"].concat()).unwrap();
    assert!(scene.cache.earlier(&series()).is_none());
    fs::write(&list, &whole).unwrap();
    assert!(scene.cache.earlier(&series()).is_some());
}

#[test]
fn blocks_of_a_blob_that_is_gone_or_altered_are_none() {
    let scene = Scene::new();
    let kept = scene.keep_blocks(&series(), b"content");
    fs::remove_file(scene.blob(&kept.layer)).unwrap();
    let again = open(&scene.directory.path().join("cache"), at(2_000_000));
    assert!(again.earlier(&series()).is_none());
    fs::write(scene.blob(&kept.layer), b"Content").unwrap();
    assert!(again.earlier(&series()).is_none());
    fs::write(scene.blob(&kept.layer), b"content").unwrap();
    assert!(again.earlier(&series()).is_some());
}

#[test]
fn lists_go_with_their_blobs() {
    let scene = Scene::new();
    let kept = scene.keep_blocks(&series(), b"content");
    scene.cache.index_blocks(&kept.layer, &kept.blocks, Compression::Gzip(5)).unwrap();
    let kinds = |upkeep: &Upkeep| -> Vec<Vec<maintenance::ItemKind>> {
        let items = upkeep.items().unwrap();
        let files = items.iter().filter(|item| item.kind != maintenance::ItemKind::Note).map(|item| {
            let mut kinds: Vec<_> = item.files.iter().map(|file| file.kind).collect();
            kinds.sort();
            kinds
        });
        files.collect()
    };
    use super::maintenance::ItemKind::{BlockList, Key, Layer, Leftover};
    let upkeep = scene.upkeep(at(1_000_000));
    assert_eq!(kinds(&upkeep), [vec![Layer, Key, BlockList, BlockList, BlockList]]);
    let garbage = scene.directory.path().join("cache/blocks/v1").join("0".repeat(64));
    assert_eq!(upkeep.discard_damaged_files().unwrap(), Vec::<String>::new());
    fs::write(&garbage, b"garbage").unwrap();
    assert_eq!(upkeep.discard_damaged_files().unwrap(), [garbage.display().to_string()]);
    let index = scene.directory.path().join("cache/block-index/v1").join(kept.layer.descriptor.digest.hex());
    let mut torn = fs::read(&index).unwrap();
    torn.truncate(torn.len() - 12);
    fs::write(&index, &torn).unwrap();
    assert_eq!(upkeep.discard_damaged_files().unwrap(), [index.display().to_string()]);
    scene.cache.index_blocks(&kept.layer, &kept.blocks, Compression::Gzip(5)).unwrap();
    fs::remove_file(scene.blob(&kept.layer)).unwrap();
    let pruned = upkeep.prune(CacheLimits::default()).unwrap();
    assert_eq!(pruned.items, [(Leftover, 4)].into());
    assert_eq!(kinds(&upkeep), Vec::<Vec<_>>::new());

    scene.keep_blocks(&series(), b"others");
    assert_eq!(upkeep.prune(CacheLimits::NOTHING).unwrap().items[&Layer], 1);
    assert_eq!(scene.lists(), Vec::<PathBuf>::new());
}

#[test]
fn a_cache_of_another_user_or_writable_by_others_is_refused() {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(Root::create_private(directory.path()).unwrap_err().to_string().contains("writable by other users"));
    }
}

#[test]
fn pruning_takes_the_longest_unused_first() {
    let scene = Scene::new();
    let old = scene.keep(&key("old"), &[1; 100_000]);
    let new = scene.keep(&key("new"), &[2; 100_000]);
    // Both were created now, by the clock of the file system; one is used much later.
    let blobs = [&old, &new].map(|layer| scene.blob(layer));
    for file in scene.records().iter().chain(&blobs) {
        fs::File::open(file).unwrap().set_modified(at(1_000_000)).unwrap();
    }
    assert!(scene.found_by_another(&key("new")).is_some());
    let upkeep = scene.upkeep(at(2_000_100));
    let limits = |age: Option<u64>, size| CacheLimits { age: age.map(Duration::from_secs), size };
    let layers = |limits| upkeep.prune(limits).unwrap().items.get(&maintenance::ItemKind::Layer).copied();
    assert_eq!(layers(limits(Some(500_000), None)), Some(1));
    assert_eq!(scene.found_by_another(&key("old")), None);
    assert_eq!(scene.found_by_another(&key("new")), Some(new));
    assert_eq!(layers(limits(None, Some(110_000))), None);
    // Files of a running build are kept.
    let running = Running::start(&scene.root(), at(1_999_999)).unwrap();
    assert!(upkeep.prune(limits(None, Some(99_999))).unwrap().is_in_use);
    assert_eq!(layers(limits(None, Some(99_999))), None);
    drop(running);
    assert_eq!(layers(limits(None, Some(99_999))), Some(1));
}

#[test]
fn a_cache_is_tidied_once_a_day_for_the_same_limits() {
    let scene = Scene::new();
    let day = 24 * 60 * 60;
    let limits = |age| CacheLimits { age: Some(Duration::from_secs(age)), size: None };
    let is_tidied = |now, age| scene.upkeep(at(now)).tidy(limits(age)).unwrap().is_some();
    assert!(scene.upkeep(at(5_000_000)).tidy(CacheLimits::default()).unwrap().is_none());
    assert!(is_tidied(5_000_000, 1));
    assert!(!is_tidied(5_000_000 + day - 1, 1));
    assert!(is_tidied(5_000_000 + day - 1, 2));
    assert!(is_tidied(5_000_000 + 2 * day, 2));
    // A wrong clock must not disable tidying permanently.
    assert!(is_tidied(5_000_000, 2));
}

const STAMP: Stamp = Stamp { device: 1, inode: 2, size: 3, modified: 4, changed: 5 };

fn entry() -> Entry {
    entry_with(STAMP)
}

fn entry_with(stamp: Stamp) -> Entry {
    let root = Root::open(&std::env::current_dir().unwrap()).unwrap();
    let mut directory = SourceDirectory::new(root, PathBuf::new());
    let number = directory.add(b"f", stamp).unwrap();
    let content = Content::File(SourceFile::of(&Arc::new(directory), number));
    let kind = Kind::File { size: 3, content };
    Entry {
        path: ImagePath::new(b"f").unwrap(),
        kind,
        attributes: Rules::default().file(crate::layers::tree::Access::of_root(0o644)),
    }
}

fn tree(entries: &[Entry]) -> Tree {
    let mut builder = TreeBuilder::new(&Rules::default());
    for entry in entries {
        builder.add(entry.clone()).unwrap();
    }
    builder.finish().unwrap()
}

/// Returns entries that differ from the default in one field each.
fn changes() -> Vec<Entry> {
    let with_attributes = |change: fn(&mut Attributes)| {
        let mut changed = entry();
        change(&mut changed.attributes);
        changed
    };
    let xattrs: Box<crate::layers::tree::Xattrs> = vec![(b"user.a".to_vec(), b"b".to_vec())].into();
    vec![
        entry_with(Stamp { device: 9, ..STAMP }),
        entry_with(Stamp { inode: 9, ..STAMP }),
        entry_with(Stamp { size: 9, ..STAMP }),
        entry_with(Stamp { modified: 9, ..STAMP }),
        entry_with(Stamp { changed: 9, ..STAMP }),
        with_attributes(|attributes| attributes.mode = 0o600),
        with_attributes(|attributes| attributes.uid = 1),
        with_attributes(|attributes| attributes.gid = 1),
        with_attributes(|attributes| attributes.mtime = 1),
        Entry { attributes: Attributes { xattrs: Some(xattrs), ..entry().attributes }, ..entry() },
        Entry { path: ImagePath::new(b"g").unwrap(), ..entry() },
        Entry { kind: Kind::Directory, ..entry() },
        Entry { kind: Kind::Symlink { target: b"x".as_slice().into() }, ..entry() },
        Entry { kind: Kind::HardLink { target: ImagePath::new(b"x").unwrap() }, ..entry() },
        Entry { kind: Kind::File { size: 3, content: Content::Bytes(Arc::from(&b"abc"[..])) }, ..entry() },
    ]
}

#[test]
fn every_change_of_one_thing_changes_the_key() {
    let of_files = |tree: &Tree, compression: Compression| {
        LayerKey::of_files(&Fingerprints::of(tree), compression.into()).map(|(key, _)| key).unwrap()
    };
    // The target of a hard link.
    let beside = Entry { path: ImagePath::new(b"x").unwrap(), ..entry() };
    let with = |entry: Entry| tree(&[entry, beside.clone()]);
    let mut keys = vec![of_files(&with(entry()), Compression::Gzip(5))];
    for compression in [Compression::None, Compression::Gzip(6), Compression::Zstd(5)] {
        keys.push(of_files(&with(entry()), compression));
    }
    keys.extend(changes().into_iter().map(|changed| of_files(&with(changed), Compression::Gzip(5))));
    for (place, key) in keys.iter().enumerate() {
        assert!(!keys[..place].contains(key), "change {place} has the key of another");
    }
}

#[test]
fn borders_between_parts_count() {
    assert_ne!(RecipeKey::new(&[b"ab", b"c"], ""), RecipeKey::new(&[b"a", b"bc"], ""));
    assert_ne!(RecipeKey::new(&[b"a"], ""), RecipeKey::new(&[b"a", b""], ""));
    let [here, there] = ["here", "there"].map(|store| RecipeKey::new(&[b"a"], store));
    let of = |recipe, policy| LayerKey::of_recipe(recipe, policy);
    let (gzip, passthrough) = (Compression::Gzip(5).into(), CompressionPolicy::GzipPassthrough(5));
    assert_eq!(of(&here, gzip), of(&there, gzip));
    assert_ne!(of(&here, passthrough), of(&there, passthrough));
    assert_ne!(of(&here, passthrough), of(&here, gzip));
}

#[test]
fn young_files_are_racy() {
    let found = |recorded| CachedLayer {
        layer: Layer {
            descriptor: Descriptor::new("m", Digest::of(b""), 0),
            diff_id: DiffId::of_tar(Digest::of(b"")),
            tar_size: 0,
        },
        facts: LayerFacts::None,
        from: None,
        recorded,
    };
    assert!(found(at(100)).is_racy(at(100)));
    assert!(found(at(100)).is_racy(at(98)));
    assert!(!found(at(100)).is_racy(at(97)));
    assert!(found(at(100)).is_racy(at(200)));
}

#[test]
fn the_format_names_the_compressors_that_are_linked() {
    let lock = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.lock")).unwrap();
    for (crate_name, version) in [("libdeflater", "1.26.1"), ("zstd", "0.14.3")] {
        assert!(keys::FORMAT.contains(version), "{crate_name}");
        assert!(
            lock.contains(&format!("name = \"{crate_name}\"\nversion = \"{version}\"")),
            "{crate_name} has changed: so may bytes"
        );
    }
}
