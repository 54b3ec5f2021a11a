//! The targets. Each reads bytes with the function of the library that the program calls.

use super::{challenge, structure};
use crate::support::Scratch;
use ocibuild::cache::{Cache, SeriesKey};
use ocibuild::codec::compression::Compression;
use ocibuild::codec::tar::Headers;
use ocibuild::common::digest::DiffId;
use ocibuild::common::progress::Silent;
use ocibuild::common::root::Root;
use ocibuild::layers::rootfs::{LayerListing, ListedLayer, Listings, find_or_make};
use ocibuild::layers::tree::{Rules, TreeBuilder};
use ocibuild::layers::{CompressionPolicy, Layer};
use ocibuild::rcc::{Blueprint, BlueprintOptions, CatalogLimits, Hololib, Robot};
use ocibuild::spec::name::Selector;
use ocibuild::spec::{Config, Descriptor, ImagePath, Index, Manifest, Platform, media_type};
use ocibuild::store::{BlobSource, Location};
use ocibuild::{Digest, ImageName, Reference, Result, Tag};
use std::fs::File;
use std::io::{Cursor, Read};
use std::path::PathBuf;
use std::sync::LazyLock;

/// A fuzz target.
pub(super) struct Target {
    /// The name of the target and of its directory of seeds.
    pub(super) name: &'static str,
    /// Words of the format, for mutations.
    pub(super) words: &'static [&'static str],
    /// The number of inputs in one round.
    pub(super) inputs: u32,
    /// Reads one input.
    pub(super) read: fn(&[u8]),
}

/// All targets.
pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "tar",
        words: &[
            "ustar\x0000",
            "17 path=../../x\n",
            "22 size=99999999999999\n",
            "../",
            "/",
            ".wh.",
            ".wh..wh..opq",
            "7777777",
        ],
        inputs: 2000,
        read: tar,
    },
    Target {
        name: "zip",
        words: &[
            "PK\x01\x02",
            "PK\x03\x04",
            "PK\x05\x06",
            "PK\x06\x06",
            "PK\x06\x07",
            "PK\x07\x08",
            "catalog/",
            "library/",
            "../",
        ],
        inputs: 2000,
        read: zip,
    },
    Target {
        name: "json",
        words: &[
            "{",
            "}",
            "[",
            "]",
            ",",
            "\"",
            "null",
            "-1",
            "1e400",
            "18446744073709551616",
            "0.5",
            "\\ud800",
            "\\u0000",
            "\"urls\":[\"http://x\"],",
            "\"data\":\"e30=\",",
            "\"platform\":{\"os\":\"linux\",\"architecture\":\"arm\"},",
            "sha512:",
            "sha256:",
            "application/vnd.oci.image.index.v1+json",
        ],
        inputs: 5000,
        read: json,
    },
    Target {
        name: "yaml",
        words: &[
            "&a ",
            "*a",
            "<<: *a",
            "- ",
            ": ",
            "? ",
            "\n",
            "\t",
            "|\n",
            ">-\n",
            "---\n",
            "...\n",
            "!!str ",
            "'",
            "\"",
            "[",
            "]",
            "{",
            "}",
            "0o7",
            "1_0",
            "~",
            "\u{feff}",
            "%YAML 1.1\n",
            "\\x",
            "#",
        ],
        inputs: 3000,
        read: yaml,
    },
    Target {
        name: "reference",
        words: &[
            "@sha256:",
            "@sha512:",
            ":",
            "/",
            "[::1]",
            "localhost",
            "docker.io/",
            "oci:",
            "docker-archive:",
            "..",
            "é",
            " ",
        ],
        inputs: 5000,
        read: reference,
    },
    Target {
        name: "challenge",
        words: &[
            "Bearer ", "Basic ", "realm=", "\"", "\\", ",", "=", "http://", "https://", "@", "[::1]", ":99999", "%",
            "?", "#",
        ],
        inputs: 400,
        read: challenge::read,
    },
    Target { name: "block_list", words: &[], inputs: 3000, read: block_list },
    Target { name: "base_listing", words: &["../", "a/", "\x01\x02"], inputs: 3000, read: base_listing },
    Target { name: "made_tar", words: &["\u{ff}"], inputs: 1000, read: |bytes| tar(&structure::tar(bytes)) },
    Target {
        name: "made_zip",
        words: &["\u{ff}"],
        inputs: 1000,
        read: |bytes| zip(&structure::zip(bytes, &structure::files())),
    },
    Target { name: "made_catalog", words: &["\u{ff}"], inputs: 1000, read: |bytes| zip(&structure::catalog(bytes)) },
    Target { name: "made_document", words: &["\u{ff}"], inputs: 2000, read: made_document },
];

/// One blob in memory, whatever its descriptor.
struct OneBlob<'a>(&'a [u8]);

impl BlobSource for OneBlob<'_> {
    fn open(&self, _: &Descriptor) -> Result<Box<dyn Read + Send + '_>> {
        Ok(Box::new(self.0))
    }
}

/// A directory for targets that read files.
static PLACE: LazyLock<Scratch> = LazyLock::new(Scratch::new);

/// Writes `bytes` to a file and opens it.
fn file_of(bytes: &[u8]) -> File {
    File::open(PLACE.write("input", bytes)).unwrap()
}

fn tar(bytes: &[u8]) {
    let summed = with_header_checksums(bytes);
    for bytes in [bytes, &summed] {
        read_headers(bytes);
        list_layer(bytes);
        add_to_layer(bytes);
    }
}

/// Corrects the checksum of every block that looks like a header. Otherwise nearly every mutation ends there.
fn with_header_checksums(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for block in bytes.chunks_exact_mut(512).filter(|block| block[257..].starts_with(b"ustar")) {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    bytes
}

fn read_headers(bytes: &[u8]) {
    let mut headers = Headers::new("fuzz.tar");
    let mut source = Cursor::new(bytes);
    let mut before = 0;
    while let Ok(Some(_)) = headers.next(&mut source) {
        assert!(headers.position() > before, "the reader stays at {before}");
        before = headers.position();
        source.set_position(before);
    }
    headers.check_rest(&mut source).ok();
}

/// Lists the tar as a layer of a base image, and looks up what was listed.
fn list_layer(bytes: &[u8]) {
    let layer = Descriptor::of(media_type::LAYER, bytes);
    let listed = find_or_make(None, &layer, &DiffId::of_tar(Digest::of(bytes)), &OneBlob(bytes), &Silent);
    if let Ok(ListedLayer::Known(listing)) = listed {
        look_up_everything(&listing).expect("a listing that was just made can be read");
    }
}

fn look_up_everything(listing: &LayerListing) -> Result<()> {
    for entry in listing.entries().take(1000) {
        let path = entry?.path;
        listing.find(&path)?;
    }
    listing.find(b"usr/bin/env").map(drop)
}

/// Adds the tar to a layer that is built.
fn add_to_layer(bytes: &[u8]) {
    let spool = Root::open(PLACE.path()).unwrap();
    let rules = Rules::default();
    let mut tree = TreeBuilder::new(&rules);
    tree.begin_source("fuzz.tar");
    tree.add_archive(bytes, "fuzz.tar", &spool, &ImagePath::root(), &rules, &Silent).ok();
}

fn zip(bytes: &[u8]) {
    let Ok(hololib) = Hololib::in_archive(file_of(bytes), "fuzz.zip") else { return };
    for name in hololib.catalogs().unwrap_or_default() {
        let limits = CatalogLimits { document: 1 << 20, ..CatalogLimits::default() };
        let Ok(catalog) = hololib.catalog(&name, &limits, &Silent) else { continue };
        hololib.missing(&catalog).ok();
        for object in catalog.objects().iter().take(100) {
            let content = hololib.object(object).and_then(|stored| stored.content());
            content.map(|content| std::io::copy(&mut content.take(1 << 20), &mut std::io::sink())).ok();
        }
    }
}

fn json(bytes: &[u8]) {
    for kind in [media_type::MANIFEST, media_type::DOCKER_MANIFEST] {
        let Ok(manifest) = Manifest::read(bytes, kind, "fuzz.json") else { continue };
        assert!(manifest.blobs().count() > 0);
        Manifest::read(&manifest.to_bytes(), media_type::MANIFEST, "written").ok();
    }
    for kind in [media_type::INDEX, media_type::DOCKER_INDEX] {
        let Ok(mut index) = Index::read(bytes, kind, "fuzz.json") else { continue };
        index.choose(None, "fuzz.json").ok();
        index.choose(Some(&Platform::linux_amd64()), "fuzz.json").ok();
        index.only(&index.select(&Selector::of("v1")), Some("v1"), "fuzz.json").ok();
        let listed = index.manifests().to_vec();
        index.put(&listed);
        Index::read(&index.to_bytes(), kind, "written").expect("an index that was read can be written");
    }
    if let Ok(config) = Config::read(bytes, "fuzz.json") {
        config.warnings();
        config.variable("PATH");
        assert!(config.created_by().count() < bytes.len());
        config.has_fitting_history();
    }
}

/// The documents of the target `json`, which are valid.
static DOCUMENTS: LazyLock<Vec<serde_json::Value>> =
    LazyLock::new(|| super::seeds("json").iter().map(|seed| serde_json::from_slice(seed).unwrap()).collect());

/// Words that documents have as keys.
const KEYS: &[&str] = &[
    "schemaVersion",
    "mediaType",
    "config",
    "layers",
    "manifests",
    "digest",
    "size",
    "annotations",
    "platform",
    "urls",
    "data",
    "subject",
    "artifactType",
    "os",
    "architecture",
    "variant",
    "os.version",
    "rootfs",
    "diff_ids",
    "history",
    "Env",
    "User",
    "Labels",
    "created",
];

/// Changes a valid document.
fn made_document(bytes: &[u8]) {
    let Some((first, rest)) = bytes.split_first() else { return };
    let document = DOCUMENTS[usize::from(*first) % DOCUMENTS.len()].clone();
    json(structure::document(rest, document, KEYS).to_string().as_bytes());
}

fn yaml(bytes: &[u8]) {
    if let Ok(robot) = Robot::parse(bytes, "robot.yaml", &Silent) {
        robot.task(None).ok();
        robot.inner_artifacts();
    }
    for name in ["conda.yaml", "package.yaml"] {
        let options = BlueprintOptions { local_channel: None };
        let Ok(blueprint) = Blueprint::read(bytes, name, &options, &Silent) else { continue };
        assert_eq!(blueprint.hash(), Blueprint::of_text(blueprint.text().to_owned()).hash());
    }
}

fn reference(bytes: &[u8]) {
    let text = &*String::from_utf8_lossy(bytes);
    if let Ok(reference) = text.parse::<Reference>() {
        assert_eq!(reference.to_string().parse::<Reference>().expect("its own text"), reference);
    }
    if let Ok(name) = text.parse::<ImageName>() {
        assert_eq!(name.to_string().parse::<ImageName>().expect("its own text"), name);
        name.for_engines();
    }
    if let Ok(tag) = text.parse::<Tag>() {
        assert_eq!(tag.as_str(), text);
    }
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text);
    }
    text.parse::<Platform>().ok();
    let selector = Selector::of(text);
    selector.without_digest().name();
    for location in [Location::of_image(text), Location::of_base(text), Location::of_destination(text)] {
        location.map(|location| location.path().map(PathBuf::from)).ok();
    }
    Location::of_registry(text).ok();
}

/// A cache, and the file of the block list of [`series`].
static CACHE: LazyLock<(Cache, PathBuf)> = LazyLock::new(|| {
    let path = PLACE.join("cache");
    std::fs::create_dir(&path).unwrap();
    let cache = Cache::open(Root::open(&path).unwrap(), std::time::UNIX_EPOCH, &Silent).unwrap();
    let layer = Layer {
        descriptor: Descriptor::of(media_type::LAYER_GZIP, b""),
        diff_id: DiffId::of_tar(Digest::of(b"")),
        tar_size: 0,
    };
    // An empty list, to learn the name of the file.
    cache.keep_blocks(&series(), (&layer, &[]), std::iter::empty(), &Silent);
    let lists = std::fs::read_dir(path.join("blocks/v1")).unwrap().map(|entry| entry.unwrap().path());
    let list = lists.filter(|path| path.file_name().unwrap().len() == 64).last().unwrap();
    (cache, list)
});

fn series() -> SeriesKey {
    SeriesKey::new("fuzz", &[], CompressionPolicy::Compress(Compression::DEFAULT_GZIP))
}

/// Reads a list with the bytes `body` behind its checksum, which is right.
fn block_list(body: &[u8]) {
    let (cache, list) = &*CACHE;
    std::fs::write(list, [b"ocibuild blocks 1\n", Digest::of(body).as_bytes(), body].concat()).unwrap();
    cache.earlier(&series());
}

/// The listings of a cache, the layer that is listed, and the file of its listing.
static LISTED: LazyLock<(Listings, Descriptor, DiffId, PathBuf)> = LazyLock::new(|| {
    let path = PLACE.join("listings-of-bases");
    std::fs::create_dir(&path).unwrap();
    let listings = Listings::in_cache_directory(&Root::open(&path).unwrap()).unwrap();
    let tar = [0; 1024];
    let (layer, diff_id) = (Descriptor::of(media_type::LAYER, &tar), DiffId::of_tar(Digest::of(&tar)));
    find_or_make(Some(&listings), &layer, &diff_id, &OneBlob(&tar), &Silent).unwrap();
    let file = std::fs::read_dir(path.join("listings/v1")).unwrap().next().unwrap().unwrap().path();
    (listings, layer, diff_id, file)
});

/// Reads a listing as it is, and with the right layer and right checksums.
fn base_listing(bytes: &[u8]) {
    let (listings, layer, diff_id, file) = &*LISTED;
    for bytes in [bytes, &with_listing_checksums(bytes)] {
        std::fs::remove_file(file).unwrap();
        std::fs::write(file, bytes).unwrap();
        if let Some(listing) = listings.find(layer, diff_id) {
            look_up_everything(&listing).ok();
        }
    }
}

/// Corrects what the header of a listing says of the layer, and all its checksums.
fn with_listing_checksums(bytes: &[u8]) -> Vec<u8> {
    let (_, layer, diff_id, _) = &*LISTED;
    let mut bytes = bytes.to_vec();
    if bytes.len() < 128 {
        return bytes;
    }
    bytes[..16].copy_from_slice(b"ocibuild list 2\n");
    bytes[16..48].copy_from_slice(Digest::of(diff_id.to_string().as_bytes()).as_bytes());
    bytes[48..80].copy_from_slice(Digest::of(layer.digest.to_string().as_bytes()).as_bytes());
    bytes[80] = 0;
    let number =
        |bytes: &[u8], at: usize| usize::try_from(u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())).unwrap();
    let (index, blocks, length) = (number(&bytes, 104), number(&bytes, 112), bytes.len());
    let slots = (0..blocks.min(100)).map_while(|slot| index.checked_add(24 * slot));
    for slot in slots.take_while(|slot| slot.saturating_add(24) <= length) {
        let size = u32::from_le_bytes(bytes[slot + 8..slot + 12].try_into().unwrap()) as usize;
        let block = bytes.get(number(&bytes, slot)..).and_then(|block| block.get(..size));
        if let Some(sum) = block.map(libdeflater::crc32) {
            bytes[slot + 12..slot + 16].copy_from_slice(&sum.to_le_bytes());
        }
    }
    let sum = bytes.get(index..).map(libdeflater::crc32).unwrap_or_default();
    bytes[120..124].copy_from_slice(&sum.to_le_bytes());
    let sum = libdeflater::crc32(&bytes[..124]);
    bytes[124..128].copy_from_slice(&sum.to_le_bytes());
    bytes
}
