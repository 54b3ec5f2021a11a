use super::*;
use crate::common::progress::Silent;
use crate::rcc::test_support::Recorder;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use std::io::Write;

const NAME: &str = "5f74d1b6dace1dfcv12.linux_amd64";
const IDENTITY: &str = "hdc4d952_493f813dad24d3t";
const HELLO: &str = "db9171f07428b825a527cc8e2d8269369edbb44818ebb5e67a62dd3de912764b";
const MOTD: &str = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
const DIRECTORY: u32 = 1 << 31 | 0o755;

fn file(name: &str, size: u64, mode: u32, digest: &str, rewrites: &[u64]) -> Value {
    json!({ "name": name, "size": size, "mode": mode, "digest": digest, "rewrite": rewrites })
}

fn directory(name: &str, subdirs: Value, files: Value) -> Value {
    json!({ "name": name, "mode": DIRECTORY, "subdirs": subdirs, "files": files })
}

/// Returns an example like a genuine catalog: a script with a rewrite, a link to it, a text file.
fn example() -> Value {
    let mut link = file("hi", 78, 493, HELLO, &[53]);
    link["symlink"] = json!("hello");
    let bin = directory("bin", json!({}), json!({ "hello": file("hello", 78, 493, HELLO, &[53]), "hi": link }));
    let etc = directory("etc", json!({}), json!({ "motd": file("motd", 6, 420, MOTD, &[]) }));
    json!({
        "rcc": "v18.5.0",
        "identity": IDENTITY,
        "path": format!("/home/robot/.robocorp/holotree/{IDENTITY}"),
        "controller": "", "space": "",
        "platform": "linux_amd64",
        "blueprint": "5f74d1b6dace1dfc",
        "lifted": true,
        "tree": directory("", json!({ "bin": bin, "etc": etc }), json!({})),
    })
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn read_stored(stored: &[u8], limits: &CatalogLimits) -> Result<Catalog> {
    Catalog::read(stored, &CatalogName::parse(NAME).unwrap(), limits, &Silent)
}

fn read_text(text: &str) -> Result<Catalog> {
    read_stored(&gzip(text.as_bytes()), &CatalogLimits::default())
}

fn read(document: &Value) -> Result<Catalog> {
    read_text(&document.to_string())
}

fn refusal(document: &Value) -> String {
    read(document).unwrap_err().to_string()
}

/// Returns the example with another file at `etc/<key>`, which is added or replaced.
fn with_file(key: &str, file: Value) -> Value {
    let mut document = example();
    document["tree"]["subdirs"]["etc"]["files"][key] = file;
    document
}

/// Returns the example with one value replaced in `bin/hello`.
fn with_member(member: &str, value: Value) -> Value {
    let mut document = example();
    document["tree"]["subdirs"]["bin"]["files"]["hello"][member] = value;
    document
}

fn warnings(document: &Value) -> Vec<String> {
    let recorder = Recorder::default();
    let stored = gzip(document.to_string().as_bytes());
    let name = CatalogName::parse(NAME).unwrap();
    Catalog::read(&stored[..], &name, &CatalogLimits::default(), &recorder).unwrap();
    recorder.warnings()
}

#[test]
fn a_genuine_catalog_reads_as_a_sorted_list() {
    let catalog = read(&example()).unwrap();
    assert_eq!(catalog.base(), "/home/robot/.robocorp/holotree");
    assert_eq!((catalog.identity(), catalog.recorder()), (IDENTITY, Some("v18.5.0")));
    let paths: Vec<&str> = catalog.entries().map(|entry| entry.path).collect();
    assert_eq!(paths, ["bin", "bin/hello", "bin/hi", "etc", "etc/motd"]);
    let hello = ObjectDigest::parse(HELLO).unwrap();
    let object = catalog.objects().iter().position(|object| object.digest == hello).unwrap();
    let expected = FileEntry { mode: 0o755, size: 78, digest: hello, object, rewrites: &[53] };
    assert_eq!(catalog.entry("bin/hello").unwrap().kind, CatalogEntryKind::File(expected));
    assert_eq!(catalog.entry("bin/hi").unwrap().kind, CatalogEntryKind::Link { target: "hello" });
    assert_eq!(catalog.entry("etc").unwrap().kind, CatalogEntryKind::Directory { mode: 0o755 });
    let objects: Vec<(String, u64)> =
        catalog.objects().iter().map(|object| (object.digest.to_string(), object.size)).collect();
    assert_eq!(objects, [(MOTD.to_owned(), 6), (HELLO.to_owned(), 78)]);
    assert_eq!(catalog.size(), 84);
    assert!(warnings(&example()).is_empty());
}

#[test]
fn the_document_digest_does_not_depend_on_the_compression() {
    let text = example().to_string();
    let limits = CatalogLimits::default();
    let two_members = [gzip(&text.as_bytes()[..100]), gzip(&text.as_bytes()[100..])].concat();
    let zstd = zstd::bulk::compress(text.as_bytes(), 1).unwrap();
    for stored in [gzip(text.as_bytes()), two_members, zstd] {
        assert_eq!(read_stored(&stored, &limits).unwrap().document_digest(), Digest::of(text.as_bytes()));
    }
}

#[test]
fn a_damaged_wrapping_is_refused() {
    let limits = CatalogLimits::default();
    let whole = gzip(example().to_string().as_bytes());
    let refusal = |stored: &[u8]| read_stored(stored, &limits).unwrap_err().to_string();
    let named = |reason: &str| format!("catalog {NAME}: {reason}");
    assert_eq!(refusal(b""), named("is empty"));
    assert_eq!(refusal(example().to_string().as_bytes()), named("is neither gzip nor zstd"));
    assert_eq!(refusal(&whole[..whole.len() / 2]), named("gzip: truncated"));
    assert_eq!(refusal(&[&whole[..], b"x"].concat()), named("gzip: trailing data after the gzip stream"));
    let mut bad_sum = whole.clone();
    bad_sum[whole.len() - 8] ^= 1;
    assert_eq!(refusal(&bad_sum), named("gzip: checksum mismatch"));
}

#[test]
fn a_bomb_ends_at_the_limit() {
    let bomb = gzip(&vec![b' '; 1 << 20]);
    let limits = CatalogLimits { document: (1 << 20) - 1, ..CatalogLimits::default() };
    assert!(read_stored(&bomb, &limits).unwrap_err().to_string().contains("larger than 1024.0 KiB"));
    let text = example().to_string();
    let exact = CatalogLimits { document: text.len() as u64, ..limits };
    assert!(read_stored(&gzip(text.as_bytes()), &exact).is_ok());
}

#[test]
fn unsafe_names_are_refused_with_their_place() {
    let long = "x".repeat(256);
    for (name, reason) in [
        ("", "it is empty"),
        (".", "it points to another directory"),
        ("..", "it points to another directory"),
        ("../evil", "a separator of paths"),
        ("a/../../b", "a separator of paths"),
        ("/absolute", "a separator of paths"),
        ("a\\b", "a separator of paths"),
        ("\\\\srv\\x", "a separator of paths"),
        ("C:x", "a drive letter"),
        ("a\0b", "a NUL character"),
        (&long, "longer than 255 bytes"),
        (".wh.x", "it would be a whiteout"),
        (".wh..wh..opq", "it would be a whiteout"),
    ] {
        let as_file = with_file(name, file(name, 6, 420, MOTD, &[]));
        let mut as_directory = example();
        as_directory["tree"]["subdirs"]["etc"]["subdirs"][name] = directory(name, json!({}), json!({}));
        for document in [as_file, as_directory] {
            let error = refusal(&document);
            assert!(error.contains("unsafe name") && error.contains(reason) && error.contains("`etc/"), "{error}");
        }
    }
    for name in ["CON", "aux.txt", "trailing.", "trailing ", "a\nb", "größe", "ab:c", ".whx"] {
        assert!(read(&with_file(name, file(name, 6, 420, MOTD, &[]))).is_ok(), "{name}");
    }
}

#[test]
fn a_path_longer_than_linux_allows_is_refused() {
    let part = "p".repeat(200);
    let mut inner = directory(&part, json!({}), json!({ "f": file("f", 6, 420, MOTD, &[]) }));
    for _ in 0..24 {
        inner = directory(&part, json!({ part.as_str(): inner }), json!({}));
    }
    let mut document = example();
    document["tree"]["subdirs"][&part] = inner;
    assert!(refusal(&document).contains("a path of more than 4096 bytes"));
}

#[test]
fn an_entry_has_one_name() {
    let error = refusal(&with_file("a", file("b", 6, 420, MOTD, &[])));
    assert!(error.contains("`etc/a`: the entry `a` has the name `b`"), "{error}");
    let mut both = example();
    both["tree"]["subdirs"]["etc"]["subdirs"]["motd"] = directory("motd", json!({}), json!({}));
    assert!(refusal(&both).contains("`etc/motd`: duplicate name"));
    let text = example().to_string();
    let again = format!("\"motd\":{0},\"motd\":{0}", file("motd", 6, 420, MOTD, &[]));
    let twice = text.replace(&format!("\"motd\":{}", file("motd", 6, 420, MOTD, &[])), &again);
    assert!(read_text(&twice).unwrap_err().to_string().contains("`etc/motd`: duplicate name"));
    let twice = text.replace("\"lifted\":true", "\"path\":\"/a/b\"");
    assert!(read_text(&twice).unwrap_err().to_string().contains("duplicate member `path`"));
}

#[test]
fn links_are_kept_as_data_and_warned_about_where_they_lead_out() {
    let link = |target: &str| {
        let mut link = file("link", 6, 420, MOTD, &[]);
        link["symlink"] = json!(target);
        with_file("link", link)
    };
    for (target, expected) in [
        ("motd", None),
        ("../bin/hello", None),
        ("/etc/passwd", Some("links out of the environment: `etc/link` -> `/etc/passwd`")),
        ("../../x", Some("links out of the environment: `etc/link` -> `../../x`")),
        (&format!("/home/robot/.robocorp/holotree/{IDENTITY}/x"), Some("links into the recorded directory")),
    ] {
        let catalog = read(&link(target)).unwrap();
        assert_eq!(catalog.entry("etc/link").unwrap().kind, CatalogEntryKind::Link { target });
        match (expected, &warnings(&link(target))[..]) {
            (None, []) => {}
            (Some(expected), [only]) => assert!(only.contains(expected), "{only}"),
            (_, other) => panic!("{target}: {other:?}"),
        }
    }
    // RCC omits an empty target; if it is present, the entry is no link.
    assert!(matches!(read(&link("")).unwrap().entry("etc/link").unwrap().kind, CatalogEntryKind::File(_)));
    assert!(refusal(&link("a\0b")).contains("a NUL character"));
    assert!(refusal(&link(&"x".repeat(5000))).contains("more than 4096 bytes"));
}

#[test]
fn files_behind_a_linked_directory_are_not_restored_but_their_objects_are_required() {
    let other = "0".repeat(64);
    let mut shadow = directory("deep", json!({}), json!({ "f": file("f", 3, 420, &other, &[]) }));
    shadow["shadow"] = json!(true);
    let mut linked =
        directory("lib64", json!({ "deep": shadow.clone() }), json!({ "motd": file("motd", 6, 420, MOTD, &[]) }));
    linked["symlink"] = json!("etc");
    let mut document = example();
    document["tree"]["subdirs"]["lib64"] = linked;
    let catalog = read(&document).unwrap();
    let below = catalog.entries().filter(|entry| entry.path.starts_with("lib64")).count();
    assert_eq!(below, 1);
    assert_eq!(catalog.entry("lib64").unwrap().kind, CatalogEntryKind::Link { target: "etc" });
    assert!(catalog.objects().iter().any(|object| object.digest.to_string() == other));
    let mut stray = example();
    stray["tree"]["subdirs"]["etc"]["subdirs"]["deep"] = shadow;
    assert!(refusal(&stray).contains("a shadow without a link"));
}

#[test]
fn twins_are_kept_and_warned_about() {
    for (one, other) in [("a", "A"), ("gr\u{f6}ße", "gro\u{308}ße")] {
        let mut document = with_file(one, file(one, 6, 420, MOTD, &[]));
        document["tree"]["subdirs"]["etc"]["files"][other] = file(other, 6, 420, MOTD, &[]);
        let catalog = read(&document).unwrap();
        assert!(catalog.entry(&format!("etc/{one}")).is_some() && catalog.entry(&format!("etc/{other}")).is_some());
        let warnings = warnings(&document);
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].contains("differ only in case or in their Unicode form"), "{warnings:?}");
    }
}

#[test]
fn text_that_is_no_unicode_is_refused() {
    let text = example().to_string();
    for bad in ["mo\\ud800td", "mo\\udc00td"] {
        assert!(read_text(&text.replace("motd", bad)).is_err(), "{bad}");
    }
    let mut bytes = text.into_bytes();
    let at = bytes.windows(4).position(|window| window == b"motd").unwrap();
    bytes[at] = 0xff;
    assert!(read_stored(&gzip(&bytes), &CatalogLimits::default()).is_err());
}

#[test]
fn sizes_and_digests_must_be_what_they_are_called() {
    for size in [json!(-1), json!(1_u64 << 63), json!(1e3), json!("12"), json!(null), json!(1.5)] {
        let error = refusal(&with_member("size", size.clone()));
        assert!(error.contains("`bin/hello`: "), "{size}: {error}");
    }
    for digest in ["", "N/A", "../..", &"0".repeat(63), &"0".repeat(65), &"A".repeat(64)] {
        let error = refusal(&with_member("digest", json!(digest)));
        assert!(error.contains("`bin/hello`: invalid digest"), "{error}");
    }
    let mixed = refusal(&with_member("digest", json!("0".repeat(32))));
    assert!(mixed.contains("digests of two kinds"), "{mixed}");
    let disagreeing = refusal(&with_file("other", file("other", 7, 420, MOTD, &[])));
    assert!(disagreeing.contains("bytes here and"), "{disagreeing}");
}

#[test]
fn checksums_of_uncompressed_mode_are_digests_too() {
    let short = "79385034bd2529e675348170617088f5";
    let text = example().to_string().replace(MOTD, short).replace(HELLO, &"1".repeat(32));
    let catalog = read_text(&text).unwrap();
    assert!(catalog.objects().iter().all(|object| matches!(object.digest, ObjectDigest::SipHash(_))));
}

#[test]
fn depth_is_counted_and_never_overflows_the_stack() {
    // The document is built from strings: a generic JSON value of this depth would itself overflow the stack.
    let nested = |depth: usize| {
        let mut text = example().to_string();
        let (head, tail) = text.split_once("\"subdirs\":{\"bin\"").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        let open = "\"d\":{\"name\":\"d\",\"mode\":2147484141,\"files\":{},\"subdirs\":{".repeat(depth - 1);
        let last = "\"d\":{\"name\":\"d\",\"mode\":2147484141,\"files\":{},\"subdirs\":{}}";
        text = format!("{head}\"subdirs\":{{{open}{last}{},\"bin\"{tail}", "}}".repeat(depth - 1));
        read_text(&text)
    };
    for depth in [64, 256] {
        assert!(nested(depth).is_ok(), "{depth}");
    }
    for depth in [257, 100_000] {
        assert!(nested(depth).unwrap_err().to_string().contains("too deep"), "{depth}");
    }
}

#[test]
fn unknown_members_nest_as_they_like() {
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    let text = example().to_string().replacen("\"lifted\":true", &format!("\"new\":{deep}"), 1);
    assert!(read_text(&text).is_ok());
}

#[test]
fn the_number_of_entries_is_limited() {
    let text = gzip(example().to_string().as_bytes());
    let limits = |entries| CatalogLimits { entries, ..CatalogLimits::default() };
    assert!(read_stored(&text, &limits(5)).is_ok());
    assert!(read_stored(&text, &limits(4)).unwrap_err().to_string().contains("more than 4 entries"));
}

#[test]
fn the_length_of_all_paths_is_limited() {
    // Thirty names of a hundred letters, each once in the document and in the path of each of 200 files.
    let name = "n".repeat(100);
    let files: serde_json::Map<String, Value> =
        (0..200).map(|number| (number.to_string(), file(&number.to_string(), 6, 420, MOTD, &[]))).collect();
    let mut deep = directory(&name, json!({}), Value::Object(files));
    for _ in 1..30 {
        deep = directory(&name, json!({ &name: deep }), json!({}));
    }
    let mut document = example();
    document["tree"]["subdirs"][&name] = deep;
    let text = document.to_string();
    assert!(text.len() < 100_000);
    let limits = |document| CatalogLimits { document, ..CatalogLimits::default() };
    assert!(read_stored(&gzip(text.as_bytes()), &limits(1 << 20)).is_ok());
    let refused = read_stored(&gzip(text.as_bytes()), &limits(100_000)).unwrap_err().to_string();
    assert!(refused.contains("all paths together: larger than 97.7 KiB"), "{refused}");
}

#[test]
fn only_one_document_of_the_right_shape_is_a_catalog() {
    let text = example().to_string();
    for bad in [format!("{text}{{}}"), "[]".to_owned(), "null".to_owned(), "{".to_owned()] {
        assert!(read_text(&bad).is_err(), "{bad}");
    }
    for key in ["tree", "path", "identity", "platform", "blueprint"] {
        let mut without = example();
        without.as_object_mut().unwrap().remove(key);
        assert!(refusal(&without).contains(&format!("no `{key}`")), "{key}");
        let mut null = example();
        null[key] = Value::Null;
        assert!(read(&null).is_err(), "{key}");
    }
}

#[test]
fn unknown_members_are_ignored_unless_go_would_take_them_for_known_ones() {
    assert!(read(&with_member("new", json!({ "a": [1] }))).is_ok());
    let mut document = example();
    document.as_object_mut().unwrap().remove("rcc");
    assert_eq!(read(&document).unwrap().recorder(), None);
    let error = refusal(&with_member("Digest", json!(MOTD)));
    assert!(error.contains("unknown member `Digest`, perhaps `digest`"), "{error}");
}

#[test]
fn rewrites_lie_inside_their_file_and_apart() {
    let rewrites = |offsets: Value| read(&with_member("rewrite", offsets));
    let of = |offsets: Value| match rewrites(offsets).unwrap().entry("bin/hello").unwrap().kind {
        CatalogEntryKind::File(file) => file.rewrites.to_vec(),
        other => panic!("{other:?}"),
    };
    assert_eq!(of(json!([54, 54])), [54]);
    assert_eq!(of(json!([54, 0, 30])), [0, 30, 54]);
    assert_eq!(of(json!(null)), Vec::<u64>::new());
    for (offsets, expected) in [
        (json!([55]), "rewrite offset 55 beyond its 78 bytes"),
        (json!([78]), "rewrite offset 78 beyond"),
        (json!([i64::MAX]), "rewrite offset 9223372036854775807 beyond"),
        (json!([-1]), "negative rewrite offset -1"),
        (json!([1_u64 << 63]), "expected i64"),
        (json!([0, 23]), "rewrite offsets 0 and 23 overlap"),
    ] {
        let error = rewrites(offsets).unwrap_err().to_string();
        assert!(error.contains("`bin/hello`: ") && error.contains(expected), "{error}");
    }
}

#[test]
fn modes_of_anything_but_files_and_directories_are_refused() {
    let setuid = read(&with_member("mode", json!(493 | 1 << 23))).unwrap();
    assert!(matches!(setuid.entry("bin/hello").unwrap().kind, CatalogEntryKind::File(file) if file.mode == 0o4755));
    for mode in [json!(DIRECTORY), json!(1 << 27 | 0o777), json!(1 << 19), json!(1 << 9)] {
        let error = refusal(&with_member("mode", mode));
        assert!(error.contains("`bin/hello`: mode"), "{error}");
    }
    let mut document = example();
    document["tree"]["subdirs"]["etc"]["mode"] = json!(0o755);
    assert!(refusal(&document).contains("`etc`: mode 493 is not that of a directory"));
}

#[test]
fn the_path_is_absolute_and_clean_and_ends_in_the_identity() {
    for path in [
        "",
        "relative/x",
        "/a\n/x",
        "/a/../b/x",
        "/a//x",
        "/home/robot/x",
        &format!("/{IDENTITY}"),
        &format!("/a/{IDENTITY}/"),
        &format!("/a{IDENTITY}"),
    ] {
        let mut document = example();
        document["path"] = json!(path);
        assert!(refusal(&document).contains("`path`: "), "{path:?}");
    }
}

#[test]
fn the_content_must_belong_to_the_name() {
    let mut document = example();
    document["blueprint"] = json!("0000000000000000");
    assert!(refusal(&document).contains("its content is for blueprint `0000000000000000`"));
    let mut document = example();
    document["platform"] = json!("linux_arm64");
    assert!(refusal(&document).contains("its content is for platform `linux_arm64`"));
    for platform in ["", "plan9_mips"] {
        document["platform"] = json!(platform);
        assert!(refusal(&document).contains("unknown platform"), "{platform}");
    }
}

#[test]
fn a_catalog_of_another_platform_is_read_and_refused_for_an_image() {
    let mut document = example();
    document["platform"] = json!("windows_amd64");
    document["path"] = json!(format!("C:\\Users\\x\\AppData\\Local\\robocorp\\holotree\\{IDENTITY}"));
    let name = CatalogName::parse("5f74d1b6dace1dfcv12.windows_amd64").unwrap();
    let stored = gzip(document.to_string().as_bytes());
    let catalog = Catalog::read(&stored[..], &name, &CatalogLimits::default(), &Silent).unwrap();
    let error = catalog.name().check_platform(&crate::Platform::linux_amd64()).unwrap_err().to_string();
    assert!(error.contains("is for windows/amd64, and the image for linux/amd64"), "{error}");
    assert!(read(&example()).unwrap().name().check_platform(&crate::Platform::linux_amd64()).is_ok());
}

#[test]
fn a_space_has_the_length_of_the_identity() {
    let catalog = read(&example()).unwrap();
    let path = catalog.space_path("dc4d952_5a1fac3_9fcd2534").unwrap();
    assert_eq!(path, "/home/robot/.robocorp/holotree/dc4d952_5a1fac3_9fcd2534");
    let error = catalog.space_path("short").unwrap_err().to_string();
    assert!(error.contains("has a length of 5, the recorded one of 24"), "{error}");
}
