use super::*;
use crate::codec::compression::Encoding;
use crate::common::progress::Silent;
use crate::rcc::object::ObjectHasher;
use crate::rcc::test_support::Recorder;
use crate::rcc::{CatalogEntryKind, ObjectDigest};
use flate2::write::GzEncoder;
use serde_json::json;
use std::io::Write;

const NAME: &str = "5f74d1b6dace1dfcv12.linux_amd64";
const IDENTITY: &str = "hdc4d952_493f813dad24d3t";
const SPACE: &str = "dc4d952_5a1fac3_9fcd2534";

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn sha256(content: &[u8]) -> NamedObject {
    named(&ObjectDigest::Sha256([0; 32]), content)
}

fn siphash(content: &[u8]) -> NamedObject {
    named(&ObjectDigest::SipHash([0; 16]), content)
}

fn named(kind: &ObjectDigest, content: &[u8]) -> NamedObject {
    let mut hasher = ObjectHasher::like(kind);
    hasher.update(content);
    NamedObject { digest: hasher.finish(), size: content.len() as u64 }
}

/// A hololib on disk.
struct Scratch {
    directory: tempfile::TempDir,
}

impl Scratch {
    fn new() -> Scratch {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::open(directory.path()).unwrap();
        root.dir().create_dir("catalog").unwrap();
        root.dir().create_dir("library").unwrap();
        Scratch { directory }
    }

    fn root(&self) -> Root {
        Root::open(self.directory.path()).unwrap()
    }

    fn hololib(&self) -> Hololib {
        Hololib::in_directory(self.root(), &Silent).unwrap()
    }

    fn store(&self, object: &NamedObject, stored: &[u8]) {
        let path = object.digest.library_path();
        let folder = path.rsplit_once('/').unwrap().0;
        self.root().dir().create_dir_all(folder).unwrap();
        self.root().dir().write(&path, stored).unwrap();
    }

    /// Returns a catalog with one file.
    fn catalog(&self, object: &NamedObject, rewrites: &[u64]) -> Catalog {
        let file = json!({
            "name": "f", "size": object.size, "mode": 420, "digest": object.digest.to_string(), "rewrite": rewrites
        });
        let document = json!({
            "identity": IDENTITY, "path": format!("/base/{IDENTITY}"),
            "platform": "linux_amd64", "blueprint": "5f74d1b6dace1dfc",
            "tree": { "name": "", "mode": 2_147_484_141_u32, "subdirs": {}, "files": { "f": file } },
        });
        self.root().dir().write(format!("catalog/{NAME}"), gzip(document.to_string().as_bytes())).unwrap();
        self.hololib().catalog(&CatalogName::parse(NAME).unwrap(), &CatalogLimits::default(), &Silent).unwrap()
    }
}

fn drain(reader: Result<Box<dyn Read + Send + '_>>) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    std::io::copy(&mut reader?, &mut bytes).map(|_| bytes).map_err(|error| Error::io("reader", "read", error))
}

fn content(hololib: &Hololib, object: &NamedObject) -> Result<Vec<u8>, Error> {
    drain(hololib.object(object)?.content())
}

/// Reads the content of an object in one call.
fn at_once(hololib: &Hololib, object: &NamedObject) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![0; usize::try_from(object.size).unwrap()];
    hololib.read(object, &mut bytes).map(|()| bytes)
}

/// Returns varied content that is too large to be decompressed in memory.
fn large() -> Vec<u8> {
    (0..5_000_000_u32).flat_map(|number| [(number >> 8) as u8, number as u8]).collect()
}

#[test]
fn every_way_of_storing_gives_the_content_and_the_stored_bytes() {
    let scratch = Scratch::new();
    for content_bytes in [b"hello\n".to_vec(), Vec::new(), large()] {
        let two_members =
            [gzip(&content_bytes[..content_bytes.len() / 2]), gzip(&content_bytes[content_bytes.len() / 2..])];
        for (stored, encoding) in [
            (gzip(&content_bytes), Encoding::Gzip),
            (two_members.concat(), Encoding::Gzip),
            (zstd::bulk::compress(&content_bytes, 1).unwrap(), Encoding::Zstd),
            (content_bytes.clone(), Encoding::Plain),
        ] {
            for object in [sha256(&content_bytes), siphash(&content_bytes)] {
                scratch.store(&object, &stored);
                let found = scratch.hololib().object(&object).unwrap();
                assert_eq!((found.encoding(), found.stored_size()), (encoding, stored.len() as u64));
                assert!(drain(found.content()).unwrap() == content_bytes, "content of {encoding:?}");
                assert!(
                    at_once(&scratch.hololib(), &object).unwrap() == content_bytes,
                    "whole content of {encoding:?}"
                );
                assert!(drain(found.stored()).unwrap() == stored, "stored bytes of {encoding:?}");
            }
        }
    }
}

#[test]
fn the_digest_decides_where_content_itself_looks_compressed() {
    let scratch = Scratch::new();
    // Raw content that begins like gzip, and even a complete gzip file of exactly this size.
    let looks_like_gzip = b"\x1f\x8b but is not".to_vec();
    let whole_gzip = gzip(b"inner content");
    for content_bytes in [looks_like_gzip, whole_gzip] {
        let object = sha256(&content_bytes);
        scratch.store(&object, &content_bytes);
        let found = scratch.hololib().object(&object).unwrap();
        assert_eq!(found.encoding(), Encoding::Plain);
        assert_eq!(drain(found.content()).unwrap(), content_bytes);
        assert_eq!(at_once(&scratch.hololib(), &object).unwrap(), content_bytes);
        assert!(scratch.hololib().content_looks_compressed(&object).unwrap());
        scratch.store(&object, &gzip(&content_bytes));
        let found = scratch.hololib().object(&object).unwrap();
        assert_eq!(found.encoding(), Encoding::Gzip);
        assert_eq!(drain(found.content()).unwrap(), content_bytes);
        assert_eq!(at_once(&scratch.hololib(), &object).unwrap(), content_bytes);
        assert!(scratch.hololib().content_looks_compressed(&object).unwrap());
    }
}

#[test]
fn the_first_bytes_of_content_are_read_in_any_encoding() {
    let scratch = Scratch::new();
    let zstd = zstd::bulk::compress(b"inner content", 1).unwrap();
    for (content_bytes, expected) in [
        (b"plain".to_vec(), false),
        (large(), false),
        (Vec::new(), false),
        (b"\x1f\x8b".to_vec(), true),
        (b"\x1f\x8b and more".to_vec(), true),
        (gzip(&large()), true),
        (zstd, true),
    ] {
        let object = sha256(&content_bytes);
        let named = flate2::GzBuilder::new().filename("a name in the header");
        let mut with_name = named.write(Vec::new(), flate2::Compression::best());
        with_name.write_all(&content_bytes).unwrap();
        for stored in [
            content_bytes.clone(),
            gzip(&content_bytes),
            with_name.finish().unwrap(),
            zstd::bulk::compress(&content_bytes, 1).unwrap(),
        ] {
            scratch.store(&object, &stored);
            let found = scratch.hololib().content_looks_compressed(&object).unwrap();
            assert_eq!(found, expected, "{:?}", &content_bytes[..content_bytes.len().min(20)]);
        }
    }
    let object = sha256(b"plain");
    scratch.store(&object, &gzip(b"plain")[..12]);
    assert_eq!(scratch.hololib().content_looks_compressed(&object).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn damage_is_found_and_named() {
    let scratch = Scratch::new();
    for content_bytes in [b"content".to_vec(), large()] {
        let object = sha256(&content_bytes);
        let size = content_bytes.len();
        let whole = gzip(&content_bytes);
        let mut other = content_bytes.clone();
        other[0] ^= 1;
        let longer = [&content_bytes[..], b"ustar: a forged header"].concat();
        for (stored, expected) in [
            (Vec::new(), format!("corrupt: expected {size} bytes, found 0")),
            (whole[..whole.len() / 2].to_vec(), "corrupt: gzip: ".to_owned()),
            (gzip(&other), format!("corrupt: expected the digest {}, found {}", object.digest, sha256(&other).digest)),
            (other.clone(), format!("corrupt: expected the digest {}", object.digest)),
            (gzip(&longer), format!("corrupt: expected {size} bytes, found more")),
            (gzip(&content_bytes[..size - 1]), format!("corrupt: expected {size} bytes, found {}", size - 1)),
            (longer.clone(), "found more".to_owned()),
            ([&whole[..], b"garbage"].concat(), "corrupt: gzip: trailing data".to_owned()),
        ] {
            scratch.store(&object, &stored);
            for error in [
                content(&scratch.hololib(), &object).unwrap_err(),
                at_once(&scratch.hololib(), &object).unwrap_err(),
                drain(scratch.hololib().object(&object).unwrap().stored()).unwrap_err(),
            ] {
                let shown = error.to_string();
                assert_eq!(error.kind(), crate::ErrorKind::Corrupt, "{shown}");
                assert!(shown.contains(&object.digest.library_path()), "{shown}");
                // The streaming decoder has messages of its own.
                let is_from_decoder = expected.starts_with("corrupt: gzip") && shown.contains("corrupt: ");
                assert!(shown.contains(&expected) || is_from_decoder, "{shown} | {expected}");
            }
        }
    }
}

#[test]
fn a_missing_object_is_named_by_its_path() {
    let scratch = Scratch::new();
    let object = sha256(b"content");
    let error = scratch.hololib().object(&object).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let expected = format!("library file {}: missing (run `rcc holotree check`", object.digest.library_path());
    assert!(error.to_string().contains(&expected), "{error}");
    let catalog = scratch.catalog(&object, &[]);
    assert_eq!(scratch.hololib().missing(&catalog).unwrap(), [&object]);
    scratch.store(&object, b"content");
    assert!(scratch.hololib().missing(&catalog).unwrap().is_empty());
}

#[test]
#[cfg(unix)]
fn only_a_regular_file_is_an_object() {
    let scratch = Scratch::new();
    let object = sha256(b"content");
    scratch.store(&object, b"content");
    let path = object.digest.library_path();
    let make: [fn(&Root, &str); 3] = [
        |root, path| root.dir().create_dir(path).unwrap(),
        |root, path| root.dir().symlink("elsewhere", path).unwrap(),
        |root, path| {
            let full = root.path().join(path);
            rustix::fs::mknodat(rustix::fs::CWD, full, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        },
    ];
    for make in make {
        scratch.root().dir().remove_file(&path).or_else(|_| scratch.root().dir().remove_dir(&path)).unwrap();
        make(&scratch.root(), &path);
        let error = scratch.hololib().object(&object).unwrap_err().to_string();
        assert!(error.ends_with("not a regular file"), "{error}");
    }
}

#[test]
fn an_object_that_changes_under_the_reader_is_not_called_corrupt() {
    let scratch = Scratch::new();
    let content_bytes = large();
    let object = sha256(&content_bytes);
    scratch.store(&object, &content_bytes);
    let mut reader = scratch.hololib().object(&object).unwrap().content().unwrap();
    reader.read_exact(&mut [0; 100]).unwrap();
    scratch.store(&object, b"short");
    let error = Error::io("x", "read", std::io::copy(&mut reader, &mut std::io::sink()).unwrap_err());
    assert_eq!(error.kind(), ErrorKind::Changed);
    assert!(error.to_string().contains("changed while reading"), "{error}");
}

/// Returns the content as restored, and the files that still contain a build path.
fn restored(scratch: &Scratch, content: &[u8], rewrites: &[u64]) -> Result<(Vec<u8>, Vec<String>), Error> {
    let object = sha256(content);
    scratch.store(&object, &gzip(content));
    let catalog = Arc::new(scratch.catalog(&object, rewrites));
    let restorer = Restorer::new(&scratch.hololib(), &catalog, SPACE)?;
    let CatalogEntryKind::File(file) = &catalog.numbered(0).kind else { panic!("no file") };
    Ok((drain(restorer.open("f", file))?, restorer.unrewritten()))
}

#[test]
fn the_name_of_the_space_is_written_where_the_identity_stood() {
    let scratch = Scratch::new();
    let small = format!("#!/base/{IDENTITY}/bin/python\n{IDENTITY}").into_bytes();
    let expected = format!("#!/base/{SPACE}/bin/python\n{SPACE}").into_bytes();
    assert_eq!(restored(&scratch, &small, &[8, 44]).unwrap(), (expected, Vec::new()));

    // Around every boundary between windows.
    let mut big = large();
    let mut expected = big.clone();
    let mut offsets = vec![0, 9_999_976];
    offsets.extend((1..70).map(|window| window * WINDOW_BYTES - 60 + window));
    for offset in &offsets {
        let at = usize::try_from(*offset).unwrap();
        big[at..at + 24].copy_from_slice(IDENTITY.as_bytes());
        expected[at..at + 24].copy_from_slice(SPACE.as_bytes());
    }
    assert!(restored(&scratch, &big, &offsets).unwrap() == (expected, Vec::new()));
}

const WINDOW_BYTES: u64 = 128 << 10;

#[test]
fn a_rewrite_that_does_not_meet_the_identity_is_refused() {
    let scratch = Scratch::new();
    for size in [100, 6_000_000] {
        let error = restored(&scratch, &vec![b'x'; size], &[50]).unwrap_err().to_string();
        assert!(error.contains("`f`: rewrite mismatch: no `hdc4d952_493f813dad24d3t` at offset 50"), "{error}");
    }
}

#[test]
fn a_build_path_that_is_not_listed_is_noted() {
    let scratch = Scratch::new();
    for filler in [0, 6_000_000] {
        let mut content = vec![b'x'; filler];
        content.extend_from_slice(format!("{IDENTITY}.{IDENTITY}").as_bytes());
        assert_eq!(restored(&scratch, &content, &[]).unwrap(), (content, vec!["f".to_owned()]));
    }
}

#[test]
fn a_space_of_another_length_is_refused_before_anything_is_read() {
    let scratch = Scratch::new();
    let catalog = Arc::new(scratch.catalog(&sha256(b"content"), &[]));
    let error = Restorer::new(&scratch.hololib(), &catalog, "short").unwrap_err().to_string();
    assert!(error.contains("has a length of 5, the recorded one of 24"), "{error}");
}

#[test]
fn catalogs_are_listed_and_everything_else_in_the_folder_is_not() {
    let scratch = Scratch::new();
    scratch.catalog(&sha256(b"content"), &[]);
    let root = scratch.root();
    for name in ["compress.no", "5f74d1b6dace1dfcv12.linux_amd64.info", "5f74d1b6dace1dfcv13.linux_amd64", ".x.part"] {
        root.dir().write(format!("catalog/{name}"), b"x").unwrap();
    }
    root.dir().create_dir("catalog/init").unwrap();
    root.dir().write("catalog/0000000000000000v12.darwin_arm64", b"x").unwrap();
    let names: Vec<String> = scratch.hololib().catalogs().unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(names, ["0000000000000000v12.darwin_arm64", NAME]);
}

#[test]
#[cfg(unix)]
fn a_hololib_that_everybody_may_write_to_is_warned_about() {
    use cap_std::fs::{Permissions, PermissionsExt};
    let scratch = Scratch::new();
    let recorder = Recorder::default();
    Hololib::in_directory(scratch.root(), &recorder).unwrap();
    assert!(recorder.warnings().is_empty());
    scratch.root().dir().set_permissions("catalog", Permissions::from_mode(0o777)).unwrap();
    Hololib::in_directory(scratch.root(), &recorder).unwrap();
    assert_eq!(recorder.warnings().len(), 1);
    let empty = tempfile::tempdir().unwrap();
    let error = Hololib::in_directory(Root::open(empty.path()).unwrap(), &recorder).unwrap_err().to_string();
    assert!(error.ends_with("no hololib found"), "{error}");
}

#[test]
fn readers_go_from_thread_to_thread() {
    fn is_shared<T: Send + Sync>() {}
    is_shared::<Hololib>();
    is_shared::<Catalog>();
    is_shared::<StoredObject>();
    is_shared::<Restorer>();
}
