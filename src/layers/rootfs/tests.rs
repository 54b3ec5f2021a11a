//! Tests of listings and stacks of layers.

use super::listing::{LayerListing, ListedBlob};
use super::ranged_file::copy_members;
use super::*;
use crate::codec::compression::{Compression, Compressor, Encoding};
use crate::codec::tar;
use crate::common::digest::{DiffId, Digest};
use crate::common::progress::Silent;
use crate::common::root::Root;
use crate::layers::rootfs::listing_writer::ListingWriter;
use crate::spec::ImagePath;
use crate::spec::{Descriptor, media_type};
use crate::store::BlobSource;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::io::Read;
use std::ops::Range;
use std::sync::Mutex;

/// A source that holds one blob.
struct One(Vec<u8>);

impl BlobSource for One {
    fn open(&self, _: &Descriptor) -> crate::Result<Box<dyn Read + Send + '_>> {
        Ok(Box::new(&self.0[..]))
    }
}

struct Layer {
    blob: One,
    descriptor: Descriptor,
    diff_id: DiffId,
}

fn header<'a>(path: &'a str, kind: tar::EntryType, mode: u32, link: &'a str) -> tar::Header<'a> {
    tar::Header {
        path: path.as_bytes(),
        kind,
        mode,
        uid: 0,
        gid: 0,
        size: 0,
        mtime: 0,
        link: link.as_bytes(),
        xattrs: &[],
        device: (0, 0),
    }
}

fn layer(headers: &[tar::Header<'_>]) -> Layer {
    let mut bytes = Vec::new();
    for header in headers {
        tar::append(header, &mut bytes);
        bytes.resize(bytes.len() + (header.size + tar::padding(header.size)) as usize, b'c');
    }
    bytes.extend(tar::END);
    let diff_id = DiffId::of_tar(Digest::of(&bytes));
    Layer { descriptor: Descriptor::of(media_type::LAYER, &bytes), blob: One(bytes), diff_id }
}

fn directory(path: &str, mode: u32) -> tar::Header<'_> {
    header(path, tar::EntryType::Directory, mode, "")
}

fn file(path: &str) -> tar::Header<'_> {
    header(path, tar::EntryType::File, 0o644, "")
}

fn link<'a>(path: &'a str, target: &'a str) -> tar::Header<'a> {
    header(path, tar::EntryType::Symlink, 0o777, target)
}

impl Layer {
    fn below<'a>(&'a self, listings: Option<&'a Listings>) -> LayerBelow<'a> {
        let Layer { blob, descriptor, diff_id } = self;
        let place = LayerPlace { layer: descriptor, diff_id, source: Some(blob), listings, progress: &Silent };
        let unseen = Unseen { reason: "nothing".to_owned(), hint: String::new() };
        LayerBelow::Stored(StoredLayer::new(place, unseen))
    }
}

/// Formats the result of looking up a path in a stack.
fn looked_up(layers: &[&Layer], path: &str) -> String {
    let below: Vec<LayerBelow<'_>> = layers.iter().map(|layer| layer.below(None)).collect();
    let rootfs = Rootfs::new(&below);
    let resolved = rootfs.resolve(&ImagePath::new(path.as_bytes()).unwrap()).unwrap();
    match resolved {
        Resolved::Node(path, below) => format!("{path} {:o}", below.node.mode),
        Resolved::Absent(path) => format!("no {path}"),
        Resolved::NoDirectory(path) => format!("{path} is no directory"),
        Resolved::Circle => "a symbolic link loop".to_owned(),
        Resolved::Unseen(path, _) => format!("{path} unseen"),
    }
}

#[test]
fn links_are_followed_and_stay_in_the_image() {
    let base = layer(&[
        directory("opt/v2", 0o750),
        link("opt/current", "v2"),
        link("opt/absolute", "/opt/./current/"),
        link("opt/up", "../../../../opt/v2"),
        link("opt/circle", "circle"),
        link("opt/dangling", "nowhere/../else"),
        link("root", "/"),
        file("opt/file"),
    ]);
    for (path, expected) in [
        ("opt/current", "/opt/v2 750"),
        ("opt/absolute/x/y", "no /opt/v2/x/y"),
        ("opt/up", "/opt/v2 750"),
        ("opt/circle/x", "a symbolic link loop"),
        ("opt/dangling", "no /opt/else"),
        ("root/opt/current", "/opt/v2 750"),
        ("root", "/ 755"),
        ("opt/file/x", "/opt/file is no directory"),
        ("opt", "/opt 755"),
        ("nothing/at/all", "no /nothing/at/all"),
    ] {
        assert_eq!(looked_up(&[&base], path), expected, "{path}");
    }
}

#[test]
fn layers_hide_what_is_below_them() {
    let lower =
        layer(&[directory("a", 0o700), file("a/x"), file("a/y"), directory("b", 0o711), file("b/x"), file("c")]);
    let upper = layer(&[file("a/.wh.x"), file("b/.wh..wh..opq"), file("b/new"), directory("c", 0o755), file("d/e")]);
    for (path, expected) in [
        ("a/x", "no /a/x"),
        ("a/y", "/a/y 644"),
        ("a", "/a 700"),
        ("b/x", "no /b/x"),
        ("b/new", "/b/new 644"),
        ("b", "/b 755"),
        ("c", "/c 755"),
        ("d", "/d 755"),
    ] {
        assert_eq!(looked_up(&[&lower, &upper], path), expected, "{path}");
    }
    let again = layer(&[file("a/x")]);
    assert_eq!(looked_up(&[&lower, &upper, &again], "a/x"), "/a/x 644");
    let removed = layer(&[file(".wh.a")]);
    assert_eq!(looked_up(&[&lower, &removed, &again], "a/y"), "no /a/y");
    assert_eq!(looked_up(&[&lower, &removed, &again], "a"), "/a 755");
    let replaced = layer(&[file("a")]);
    assert_eq!(looked_up(&[&lower, &replaced, &again], "a/y"), "no /a/y", "a file was between the two directories");
}

#[test]
fn a_kept_listing_is_found_and_a_damaged_one_is_made_again() {
    let keep = tempfile::tempdir().unwrap();
    let listings = Listings::in_cache_directory(&Root::open(keep.path()).unwrap()).unwrap();
    let names: Vec<String> = (0..1400).map(|number| format!("some/directory/{number}/file")).collect();
    let base = layer(&names.iter().map(|name| file(name)).collect::<Vec<_>>());
    let found = || {
        let below = [base.below(Some(&listings))];
        let rootfs = Rootfs::new(&below);
        names.iter().step_by(300).all(|name| {
            let found = rootfs.look(&ImagePath::new(name.as_bytes()).unwrap()).unwrap();
            matches!(found, PathLookup::Node(below) if below.node.mode == 0o644)
        })
    };
    assert!(found());
    let path = std::fs::read_dir(keep.path().join("listings/v1")).unwrap().next().unwrap().unwrap().path();
    let whole = std::fs::read(&path).unwrap();
    assert!(whole.len() > 3 * (8 << 10), "several blocks");
    for at in (0..whole.len()).step_by(797).chain([whole.len() - 1]) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        replace(&path, &damaged);
        assert!(found(), "damaged at {at}");
        replace(&path, &whole[..at]);
        assert!(found(), "cut at {at}");
    }
    assert_eq!(std::fs::read(&path).unwrap(), whole, "it is what it was");
}

/// Replaces a file as this program does: a process that has the old file mapped keeps it.
fn replace(path: &std::path::Path, bytes: &[u8]) {
    let other = path.with_extension("new");
    std::fs::write(&other, bytes).unwrap();
    std::fs::rename(other, path).unwrap();
}

#[test]
fn a_layer_that_is_not_what_is_said_of_it_is_refused() {
    let good = layer(&[file("a")]);
    let refusal = |descriptor: &Descriptor, diff_id: &DiffId, bytes: &[u8]| {
        let listed = find_or_make(None, descriptor, diff_id, &One(bytes.to_vec()), &Silent);
        listed.map(|_| ()).unwrap_err().to_string()
    };
    let Layer { blob, descriptor, diff_id } = &good;
    let zstd = zstd::bulk::compress(&blob.0, 1).unwrap();
    let called_gzip = Descriptor::of(media_type::LAYER_GZIP, &zstd);
    assert!(refusal(&called_gzip, diff_id, &zstd).ends_with("+gzip`, but is zstd"), "{:?}", called_gzip);
    assert!(
        refusal(&Descriptor::of(media_type::LAYER, b""), diff_id, b"").ends_with("a layer of 0 bytes is not a tar")
    );
    let other = DiffId::of_tar(Digest::of(b"other"));
    assert!(refusal(descriptor, &other, &blob.0).contains("expected the diff ID"));
    let mut damaged = blob.0.clone();
    damaged[0] ^= 1;
    assert!(refusal(descriptor, diff_id, &damaged).contains("its content has the digest"));
    // A media type that only our reader does not understand does not make the layer invalid.
    let encrypted = Descriptor::of("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", b"x");
    let listed = find_or_make(None, &encrypted, diff_id, &One(b"x".to_vec()), &Silent).unwrap();
    assert!(matches!(listed, ListedLayer::Unlistable(_)));
}

/// A source whose parts are read alone, after `change`.
struct InParts {
    blob: Vec<u8>,
    change: fn(&mut Vec<u8>),
    asked: Mutex<Vec<Range<u64>>>,
}

impl BlobSource for InParts {
    fn open(&self, _: &Descriptor) -> crate::Result<Box<dyn Read + Send + '_>> {
        Ok(Box::new(&self.blob[..]))
    }

    fn open_range(&self, _: &Descriptor, range: Range<u64>) -> crate::Result<Option<Box<dyn Read + Send + '_>>> {
        let mut part = self.blob[range.start as usize..range.end as usize].to_vec();
        (self.change)(&mut part);
        self.asked.lock().unwrap().push(range);
        Ok(Some(Box::new(std::io::Cursor::new(part))))
    }
}

/// The path of a file, and its content.
type NamedContent = (&'static str, Vec<u8>);

/// Makes a layer of files whose tar is compressed in members of `length` bytes.
fn in_members(length: usize, change: fn(&mut Vec<u8>)) -> (InParts, Descriptor, LayerListing, Vec<NamedContent>) {
    let noise = |length: u32, seed: u32| {
        (0..length).map(|at| (at.wrapping_add(seed).wrapping_mul(2_654_435_761) >> 13) as u8).collect::<Vec<_>>()
    };
    let files = vec![("a", noise(100, 1)), ("b/large", noise(300_000, 2)), ("c", noise(10, 3)), ("empty", Vec::new())];
    let mut tar = Vec::new();
    for (path, content) in &files {
        let header = tar::Header { size: content.len() as u64, ..file(path) };
        tar::append(&header, &mut tar);
        tar.extend(content);
        tar.resize(tar.len() + tar::padding(header.size) as usize, 0);
    }
    tar.extend(tar::END);
    let mut blob = Vec::new();
    for part in tar.chunks(length) {
        let mut member = Vec::new();
        Compressor::new(Compression::Gzip(6)).unwrap().compress(part, &mut member).unwrap();
        blob.extend(member);
    }
    let (layer, diff_id) = (Descriptor::of(media_type::LAYER_GZIP, &blob), DiffId::of_tar(Digest::of(&tar)));
    let source = InParts { blob, change, asked: Mutex::default() };
    let keep = tempfile::tempdir().unwrap();
    let listings = Listings::in_cache_directory(&Root::open(keep.path()).unwrap()).unwrap();
    find_or_make(Some(&listings), &layer, &diff_id, &source, &Silent).unwrap();
    let listing = listings.find(&layer, &diff_id).unwrap();
    (source, layer, listing, files)
}

fn copied(source: &InParts, layer: &Descriptor, listing: &LayerListing, path: &str) -> crate::Result<Option<Vec<u8>>> {
    let found = listing.find(path.as_bytes()).unwrap().unwrap();
    let ListedKind::File { size, .. } = found.node.unwrap().kind else { panic!("{path}") };
    let mut out = Vec::new();
    let content = found.start..found.start + size;
    Ok(copy_members(source, (layer, listing), &content, &mut out)?.then_some(out))
}

#[test]
fn a_file_is_read_from_its_members_alone() {
    for length in [1000, 512, 4096] {
        let (source, layer, listing, files) = in_members(length, |_| {});
        for (path, content) in &files {
            let read = copied(&source, &layer, &listing, path).unwrap();
            assert_eq!(read.as_ref(), Some(content), "{path} in members of {length}");
        }
        let asked = source.asked.lock().unwrap();
        let lengths: Vec<u64> = asked.iter().map(|range| range.end - range.start).collect();
        assert_eq!(lengths.len(), 3);
        assert!(lengths[0] < layer.size / 3 && lengths[1] < layer.size && lengths[2] < layer.size / 3, "{lengths:?}");
    }
    let (source, layer, listing, _) = in_members(512, |_| {});
    let is_read = copy_members(&source, (&layer, &listing), &(512..1 << 40), &mut Vec::new()).unwrap();
    assert!(!is_read, "the members end before this content");
    let (source, layer, listing, _) = in_members(1 << 20, |_| {});
    assert_eq!(copied(&source, &layer, &listing, "a").unwrap(), None, "one member is the whole layer");
    assert!(source.asked.lock().unwrap().is_empty());
}

#[test]
fn a_member_that_has_another_digest_is_refused() {
    // A gzip stream that is whole, and has another content or another header.
    let other = |part: &mut Vec<u8>| part[4] ^= 1;
    let cut = |part: &mut Vec<u8>| part.truncate(part.len() / 2);
    let replaced = |part: &mut Vec<u8>| {
        part.clear();
        Compressor::new(Compression::Gzip(1)).unwrap().compress(&[b'x'; 4096], part).unwrap();
    };
    for change in [other, cut, replaced] {
        let (source, layer, listing, _) = in_members(4096, change);
        assert!(copied(&source, &layer, &listing, "a").is_err());
        assert!(copied(&source, &layer, &listing, "b/large").is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_path_is_found_and_no_other(paths in proptest::collection::btree_set("[ab-]{1,2}(/[ab.]{1,3}){0,3}", 0..250)) {
        let subject = ListedBlob::new(&DiffId::of_tar(Digest::of(b"x")), &Digest::of(b"y"), Encoding::Plain);
        let mut writer = ListingWriter::default();
        let mut expected = BTreeMap::new();
        for (number, path) in paths.iter().enumerate() {
            let kind = ListedKind::Symlink { target: format!("{number}").repeat(number % 40).into_bytes() };
            let mtime = -(number as i64);
            let node = ListedNode { kind, mode: number as u16 & 0o7777, uid: 7, gid: 70_000, mtime, xattrs: Box::default() };
            writer.add(path.as_bytes(), &node, 0).unwrap();
            expected.insert(path.clone().into_bytes(), node);
        }
        let listing = LayerListing::own(writer.finish(&subject), &subject).unwrap();
        let all: Vec<ListedEntry> = listing.entries().map(|entry| entry.unwrap()).collect();
        prop_assert!(all.is_sorted_by(|one, other| one.path < other.path));
        prop_assert_eq!(all.len() as u64, listing.len());
        for entry in &all {
            let found = listing.find(&entry.path).unwrap();
            prop_assert_eq!(found.as_ref(), Some(entry));
            match expected.remove(&entry.path) {
                Some(node) => prop_assert_eq!(entry.node.as_ref(), Some(&node)),
                None => prop_assert_eq!(&entry.node.as_ref().unwrap().kind, &ListedKind::ImpliedDirectory),
            }
        }
        prop_assert!(expected.is_empty());
        for absent in ["", "a/", "b/a/b/a/b", "zz", "-/-"] {
            let is_there = all.iter().any(|entry| entry.path == absent.as_bytes());
            prop_assert_eq!(listing.find(absent.as_bytes()).unwrap().is_some(), is_there);
        }
    }

    #[test]
    fn no_bytes_make_a_reader_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..600), at in 0_usize..128) {
        let subject = ListedBlob::new(&DiffId::of_tar(Digest::of(b"x")), &Digest::of(b"y"), Encoding::Plain);
        let mut writer = ListingWriter::default();
        writer.add_whiteout(b"a/b/c").unwrap();
        let whole = writer.finish(&subject);
        // Correct checksums around wrong bytes, which only a faulty writer could produce.
        bytes.splice(0..0, whole.iter().copied());
        let index = bytes.len().min(128 + at);
        bytes[104..112].copy_from_slice(&(index as u64).to_le_bytes());
        let sum = libdeflater::crc32(&bytes[index..]);
        bytes[120..124].copy_from_slice(&sum.to_le_bytes());
        let sum = libdeflater::crc32(&bytes[..124]);
        bytes[124..128].copy_from_slice(&sum.to_le_bytes());
        if let Some(listing) = LayerListing::own(bytes, &subject) {
            listing.find(b"a/b").ok();
            listing.entries().for_each(drop);
        }
    }
}
