//! Rows A1 to A35: archives as bases and as sources, malformed in one way each. (Rows A22 to A31 are about zip files, which
//! no base or source is.)

use super::contract::{Bench, is_cheap};
use super::forge::{self, DockerSaved, Forged, Member};
use crate::consumers::Layout;
use crate::support::{is_left_out, run};
use serde_json::json;
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

const OUTSIDE: &[u8] = b"untouched\n";

/// Puts a file and a directory beside everything, which no archive may touch.
fn canary(bench: &Bench) {
    bench.scratch.write("canary/file", OUTSIDE);
    bench.scratch.write("canary-link/kept", OUTSIDE);
}

#[track_caller]
fn canary_lives(row: &str, bench: &Bench) {
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(fs::read(bench.scratch.join("canary/file")).unwrap(), OUTSIDE, "{row}");
    assert_eq!(fs::metadata(bench.scratch.join("canary")).unwrap().permissions().mode() & 0o777, 0o755, "{row}");
    assert_eq!(fs::read_dir(bench.scratch.join("canary")).unwrap().count(), 1, "{row}");
}

/// A tar as the content of a layer must be refused.
#[track_caller]
fn is_no_source(row: &str, tar: &[u8], words: &[&str]) {
    for bench in [Bench::empty(), Bench::keeping()] {
        canary(&bench);
        bench.scratch.write("source.tar", tar);
        bench.refuses(row, bench.layout().args(["--copy", "source.tar:/srv"]), words);
        canary_lives(row, &bench);
    }
}

/// A tar as the content of a layer must be taken; answers what its entries became, and what was warned of.
#[track_caller]
fn is_a_source(row: &str, tar: &[u8]) -> (Vec<ocibuild::codec::tar::TarEntry>, String) {
    let bench = Bench::keeping();
    canary(&bench);
    bench.scratch.write("source.tar", tar);
    let built = run(bench.layout().args(["--tag", "new", "--compression", "none", "--copy", "source.tar:/"]));
    assert_eq!(built.status, 0, "{row}: {built}");
    is_cheap(row, &built);
    bench.is_intact(row);
    canary_lives(row, &bench);
    (layer_entries(&bench.out, "new"), built.stderr)
}

/// The entries of an image's last layer, which is not compressed.
pub(super) fn layer_entries(out: &Path, tag: &str) -> Vec<ocibuild::codec::tar::TarEntry> {
    let image = Layout::new(out, tag);
    let layer = image.layers().last().unwrap()["digest"].as_str().unwrap().to_owned();
    entries(&fs::read(image.blob(&layer)).unwrap())
}

/// The entries of a tar.
pub(super) fn entries(tar: &[u8]) -> Vec<ocibuild::codec::tar::TarEntry> {
    let mut headers = ocibuild::codec::tar::Headers::new("tar");
    let mut entries = Vec::new();
    while let Some(entry) = headers.next(&mut &tar[headers.position() as usize..]).unwrap() {
        entries.push(entry);
    }
    entries
}

/// A docker-archive as base must be refused.
#[track_caller]
fn is_no_base(row: &str, change: &dyn Fn(&mut DockerSaved), words: &[&str]) {
    for bench in [Bench::empty(), Bench::keeping()] {
        canary(&bench);
        let mut saved = DockerSaved::new();
        change(&mut saved);
        saved.write(&bench.scratch.join("base.tar"));
        let source = format!("{}:/srv", bench.source().display());
        bench.refuses(row, bench.layout().args(["--base", "docker-archive:base.tar", "--copy", &source]), words);
        canary_lives(row, &bench);
    }
}

/// A docker-archive as base must be taken; answers what was warned of.
#[track_caller]
fn is_a_base(row: &str, bytes: &[u8]) -> (Bench, String) {
    let bench = Bench::keeping();
    bench.scratch.write("base.tar", bytes);
    let source = format!("{}:/srv", bench.source().display());
    let built = run(bench.layout().args(["--tag", "new", "--base", "docker-archive:base.tar", "--copy", &source]));
    assert_eq!(built.status, 0, "{row}: {built}");
    is_cheap(row, &built);
    bench.is_intact(row);
    (bench, built.stderr)
}

#[test]
fn a1_names_that_leave_the_archive_are_refused() {
    for name in ["../x", "a/../../b", "..", "/../x"] {
        is_no_source("A1", &forge::tar(&[Member::file(name, b"1")]), &["source.tar", "`..` points outside the image"]);
        is_no_base("A1", &|saved| saved.members.push(Member::file(name, b"1")), &["base.tar", "unsafe name"]);
    }
    is_no_base("A1", &|saved| saved.members.push(Member::file("/abs", b"1")), &["base.tar", "unsafe name `/abs`"]);
    // In a layer, an absolute name is below the destination like every other.
    let (entries, _) = is_a_source("A1", &forge::tar(&[Member::file("/abs", b"1")]));
    assert_eq!(entries[0].path, b"abs");
}

#[test]
fn a2_a3_links_in_an_archive_never_leave_it() {
    let through = [Member::link(b'2', "link", "../canary"), Member::file("link/file", b"overwritten")];
    is_no_source("A2", &forge::tar(&through), &["is not a directory", "is below it"]);
    let hard = [Member::link(b'1', "hard", "../canary/file")];
    is_no_source("A2", &forge::tar(&hard), &["points outside the image"]);
    let outside = [Member::link(b'1', "hard", "canary/file")];
    is_no_source("A2", &forge::tar(&outside), &["the hard link", "not a file in the archive"]);
    let root = [Member::link(b'2', "/.", "/canary"), Member::file("file", b"overwritten")];
    let bench = Bench::keeping();
    canary(&bench);
    bench.scratch.write("source.tar", forge::tar(&root));
    bench.refuses("A2", bench.layout().args(["--copy", "source.tar:/"]), &["source.tar"]);
    canary_lives("A2", &bench);
    let both = [Member::link(b'2', "twice", "canary"), Member::of(b'5', "twice/", b""), Member::file("twice/f", b"1")];
    let (entries, _) = is_a_source("A3", &forge::tar(&both));
    assert_eq!(
        entries.iter().map(|entry| entry.kind).collect::<Vec<_>>(),
        [ocibuild::codec::tar::EntryType::Directory, ocibuild::codec::tar::EntryType::File]
    );
    // A link as such is data.
    let (entries, _) = is_a_source("A2", &forge::tar(&[Member::link(b'2', "link", "../../../canary")]));
    assert_eq!(entries[0].link, b"../../../canary");
}

#[test]
fn a4_a5_a_layer_may_be_one_link_away() {
    let linked = |target: &str| {
        let mut saved = DockerSaved::new();
        saved.member("one/layer.tar").name = b"two/layer.tar".to_vec();
        saved.members.push(Member::link(b'2', "one/layer.tar", target));
        saved
    };
    is_a_base("A4", &forge::tar(&linked("../two/layer.tar").members));
    is_no_base("A4", &|saved| *saved = linked("layer.tar"), &["`one/layer.tar` is a link to a link"]);
    is_no_base("A4", &|saved| *saved = linked("../../canary/file"), &["the link `one/layer.tar` points outside"]);
    is_no_base("A4", &|saved| *saved = linked("/etc/passwd"), &["the link `one/layer.tar` points outside"]);
    is_no_base("A4", &|saved| *saved = linked("../absent"), &["no `one/layer.tar` in the archive"]);
    is_no_base(
        "A5",
        &|saved| saved.members.push(Member::link(b'1', "x", "config.json")),
        &["`x` is neither a file nor a directory"],
    );
}

#[test]
fn a5_hard_links_find_their_file_or_are_refused() {
    let later = [Member::link(b'1', "a", "b"), Member::file("b", b"content")];
    let (entries, _) = is_a_source("A5", &forge::tar(&later));
    assert_eq!((entries[0].kind, entries[0].size), (ocibuild::codec::tar::EntryType::File, 7));
    assert_eq!((entries[1].kind, &entries[1].link[..]), (ocibuild::codec::tar::EntryType::HardLink, &b"a"[..]));
    is_no_source(
        "A5",
        &forge::tar(&[Member::link(b'1', "a", "never")]),
        &["the hard link `/srv/a` has the target `/srv/never`"],
    );
}

#[test]
fn a6_devices_and_pipes_are_refused() {
    for (flag, name) in [(b'3', "character"), (b'4', "block"), (b'6', "pipe")] {
        let member = Member::of(flag, name, b"");
        is_no_source("A6", &forge::tar(std::slice::from_ref(&member)), &["is a device or pipe (--skip-special"]);
        is_no_base("A6", &|saved| saved.members.push(member.clone()), &["is neither a file nor a directory"]);
    }
}

#[test]
fn a7_a_docker_archive_has_one_list_of_images() {
    is_no_base(
        "A7",
        &|saved| saved.members.retain(|member| member.name != b"manifest.json"),
        &["not a docker-archive: `manifest.json` is missing"],
    );
    is_no_base(
        "A7",
        &|saved| {
            let again = saved.member("manifest.json").clone();
            saved.members.push(again);
        },
        &["duplicate member `manifest.json`"],
    );
    let list =
        |content: Vec<u8>| move |saved: &mut DockerSaved| saved.member("manifest.json").content = content.clone();
    is_no_base("A7", &list(b"[]".to_vec()), &["has no image"]);
    is_no_base("A7", &list(b"{}".to_vec()), &["manifest.json: expected a list"]);
    is_no_base("A7", &list(b"not json".to_vec()), &["manifest.json: not JSON"]);
    is_no_base("A7", &list(vec![b' '; (1 << 20) + 1]), &["manifest.json: larger than 1 MiB"]);
    is_no_base("A7", &list(br#"[{"Layers":[]}]"#.to_vec()), &["an image without `Config`"]);
    is_no_base("A7", &list(br#"[{"Config":"config.json","Layers":[7]}]"#.to_vec()), &["`Layers`: expected strings"]);
    is_no_base("A7", &list(br#"[{"Config":"config.json","Config":"x"}]"#.to_vec()), &["duplicate key"]);
    // Whether it comes first or last is all the same.
    let mut first = DockerSaved::new();
    first.members.rotate_right(1);
    is_a_base("A7", &forge::tar(&first.members));
}

#[test]
fn a8_one_of_several_images_must_be_named() {
    let bench = Bench::keeping();
    let mut saved = DockerSaved::new();
    saved.edit_list(|list| {
        let mut other = list[0].clone();
        other["RepoTags"] = json!(["team/other:2"]);
        list.as_array_mut().unwrap().push(other);
    });
    saved.write(&bench.scratch.join("base.tar"));
    let on = |name: &str| {
        let mut build = bench.layout();
        build.args(["--tag", "new", "--base", &format!("docker-archive:base.tar{name}")]);
        build
    };
    bench.refuses_usage("A8", &mut on(""), &["has several images, select one", "team/base:1, team/other:2"]);
    bench.refuses("A8", &mut on(":team/absent:1"), &["no image `team/absent:1`", "team/base:1"]);
    bench.refuses("A8", &mut on(":@2"), &["no image `@2`"]);
    for name in [":team/other:2", ":docker.io/team/other:2", ":@1"] {
        run(&mut on(name)).success();
    }
}

#[test]
fn a9_members_that_are_named_must_be_there() {
    for name in ["../config.json", "/etc/passwd", "absent", ""] {
        let missing = format!("no `{name}` in the archive");
        is_no_base("A9", &|saved| saved.edit_list(|list| list[0]["Config"] = json!(name)), &[&missing]);
        is_no_base("A9", &|saved| saved.edit_list(|list| list[0]["Layers"] = json!([name])), &[&missing]);
    }
    is_no_base("A9", &|saved| saved.edit_list(|list| list[0]["Layers"] = json!([])), &["0 layers but 1 diff ID"]);
    let other = forge::tar(&[Member::file("other", b"")]);
    is_no_base(
        "A9",
        &|saved| saved.member("one/layer.tar").content = other.clone(),
        &["does not match the diff ID sha256:"],
    );
}

#[test]
fn a10_a_body_longer_than_its_header_is_found() {
    // What a careless writer makes of a file that grew by a header: the reader sees an entry, and that is all one can see.
    let forged =
        [forge::unended(&[Member::file("file", b"12345")]), forge::tar(&[Member::file("forged", b"")])].concat();
    assert_eq!(entries(&forged).len(), 2);
    // Bytes between the content and the next header are hidden from every listing.
    let mut hidden = forge::tar(&[Member::file("file", b"12345")]);
    hidden[512 + 100] = b'x';
    let bench = Bench::empty();
    let base = Forged::new(bench.scratch.join("base"));
    base.set_layer(&hidden, forge::PLAIN, &hidden);
    let found = run(&mut bench.command(&["verify", "base"])).ended_with(1);
    assert!(found.text().ends_with("nonzero padding after the content of `file`"), "A10: {found}");
    // What we make of it has zeros there.
    assert_eq!(is_a_source("A10", &hidden).0.len(), 1);
}

#[test]
fn a11_a_body_shorter_than_its_header_is_found() {
    let lying = Member { size_field: Some(b"00000002000\0".to_vec()), ..Member::file("file", b"12345") };
    let next = Member::file("next", b"not a header");
    is_no_source("A11", &forge::tar(&[lying.clone(), next]), &["source.tar", "malformed tar"]);
    is_no_source("A11", &forge::unended(std::slice::from_ref(&lying)), &["source.tar", "truncated"]);
    // Where it swallows the end, that is all that can be noticed.
    let (_, warned) = is_a_source("A11", &forge::tar(&[lying]));
    assert!(warned.contains("the two zero blocks that end a tar are missing"), "A11: {warned}");
    is_no_base(
        "A11",
        &|saved| saved.member("one/layer.tar").size_field = Some(b"00000777000\0".to_vec()),
        &["base.tar"],
    );
}

#[test]
fn a12_a_size_in_pax_wins() {
    // Larger than the header's zero, and smaller than the header's size.
    for (said, header) in [("5", "00000000000\0"), ("5", "00000000017\0")] {
        let file = Member { size_field: Some(header.into()), ..Member::file("f", b"12345") };
        let (entries, _) = is_a_source("A12", &forge::tar(&[Member::pax("size", said.as_bytes()), file]));
        assert_eq!((entries.len(), entries[0].size), (1, 5));
    }
    let lying = forge::tar(&[Member::pax("size", b"700"), Member::file("f", b"12345"), Member::file("g", b"2")]);
    is_no_source("A12", &lying, &["source.tar"]);
}

#[test]
fn a13_malformed_pax_is_refused() {
    if is_left_out() {
        return;
    }
    let with = |records: &[u8]| forge::tar(&[Member::of(b'x', "pax", records), Member::file("f", b"")]);
    for records in [
        &b"13 path=abc\n"[..],
        b"11 path=abc\n",
        b"10 path=abc\n",
        b"11 path=abcd",
        b"9 patabc\n",
        b"path=abc\n",
        b"-1 path=a\n",
        b"99999999999999999999 path=a\n",
        b"0 path=abc\n",
        b"5 =\n\n",
    ] {
        is_no_source("A13", &with(records), &["source.tar to /srv: malformed tar near byte", "PAX"]);
    }
    is_no_source("A13", &with(&forge::record("path", b"a\0b")), &["a NUL byte in a name"]);
    is_no_source("A13", &with(&forge::record("uid", b"-1")), &["invalid PAX number"]);
    is_no_source("A13", &with(&forge::record("mtime", b"soon")), &["invalid PAX mtime"]);
}

#[test]
fn a14_names_cannot_inject_records() {
    let name = b"line\n27 size=0\n16 path=shadow\n";
    let (read, _) = is_a_source("A14", &forge::tar(&[Member::pax("path", name), Member::file("f", b"content")]));
    assert_eq!((read.len(), &read[0].path[..], read[0].size), (1, &name[..], 7));
    // The same out of a directory.
    let bench = Bench::keeping();
    let file = std::ffi::OsStr::new("line\n27 size=0\n");
    bench.scratch.write(Path::new("src").join(file), "content");
    run(bench.layout().args(["--tag", "new", "--compression", "none", "--copy", "src:/"])).success();
    let read = layer_entries(&bench.out, "new");
    assert_eq!((read.len(), &read[0].path[..], read[0].size), (1, &b"line\n27 size=0\n"[..], 7));
}

#[test]
fn a15_a16_extended_headers_belong_to_one_entry_and_are_bounded() {
    if is_left_out() {
        return;
    }
    let file = Member::file("f", b"");
    let pax = Member::pax("path", b"p");
    let long = |flag: u8| Member::of(flag, "././@LongLink", b"long\0");
    is_no_source(
        "A15",
        &forge::tar(&[pax.clone(), pax.clone(), file.clone()]),
        &["two extended headers for one entry"],
    );
    is_no_source("A15", &forge::tar(&[file.clone(), pax.clone()]), &["an extended header without an entry"]);
    let global = Member::of(b'g', "pax", &forge::record("size", b"0"));
    is_no_source("A15", &forge::tar(&[global, file.clone()]), &["a global PAX header that changes entries"]);
    let comment = Member::of(b'g', "pax", &forge::record("comment", b"a commit"));
    is_a_source("A15", &forge::tar(&[comment, file.clone()]));
    for flag in [b'L', b'K'] {
        let endless = Member { size_field: Some(b"20000000000\0".to_vec()), ..long(flag) };
        is_no_source("A16", &forge::tar(&[endless, file.clone()]), &["an extended header of 2147483648 bytes"]);
        is_no_source("A16", &forge::tar(&[long(flag), long(flag), file.clone()]), &["two long names for one entry"]);
        is_no_source("A16", &forge::tar(&[file.clone(), long(flag)]), &["an extended header without an entry"]);
    }
    let (read, _) = is_a_source("A16", &forge::tar(&[long(b'L'), file]));
    assert_eq!(read[0].path, b"long");
}

#[test]
fn a17_a18_fields_are_numbers_and_pax_wins_over_them() {
    if is_left_out() {
        return;
    }
    let size = |field: &[u8]| Member { size_field: Some(field.to_vec()), ..Member::file("f", b"12345") };
    let (read, _) = is_a_source("A17", &forge::tar(&[size(b"\x80\0\0\0\0\0\0\0\0\0\0\x05")]));
    assert_eq!(read[0].size, 5);
    for field in [&[0xff; 12][..], b"\x80\0\0\0\x80\0\0\0\0\0\0\0", b"\xbf\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"]
    {
        is_no_source("A17", &forge::tar(&[size(field)]), &["source.tar to /srv: malformed tar near byte"]);
    }
    for field in [&b"0000000000x\0"[..], b"00000000009\0", b"1234\x005678\0\0\0", b"-0000000005\0"] {
        is_no_source("A17", &forge::tar(&[size(field)]), &["size is not a number"]);
    }
    let wrong = Member { checksum_field: Some(b"012345\0 ".to_vec()), ..Member::file("f", b"") };
    is_no_source("A17", &forge::tar(&[wrong]), &["bad header checksum"]);
    let both = Member { prefix: b"pre".to_vec(), ..Member::file("fix", b"") };
    assert_eq!(is_a_source("A18", &forge::tar(std::slice::from_ref(&both))).0[1].path, b"pre/fix");
    assert_eq!(is_a_source("A18", &forge::tar(&[Member::pax("path", b"wins"), both])).0[0].path, b"wins");
}

#[test]
fn a18_a_file_whose_name_ends_in_a_slash_is_refused() {
    // GNU tar and Go see a directory, Python and libarchive a file.
    is_no_source("A18", &forge::tar(&[Member::file("name/", b"1")]), &["a file whose name ends in a slash"]);
    is_no_source("A18", &forge::tar(&[Member::pax("path", b"name/"), Member::file("f", b"")]), &["ends in a slash"]);
    assert_eq!(
        is_a_source("A18", &forge::tar(&[Member::of(0, "old/", b"")])).0[0].kind,
        ocibuild::codec::tar::EntryType::Directory
    );
}

#[test]
fn a19_a21_the_limits_of_extended_headers() {
    if is_left_out() {
        return;
    }
    let comment = |size: usize| {
        let empty = forge::record("comment", &vec![b'x'; size - 100]).len();
        forge::record("comment", &vec![b'x'; size - 100 + (size - empty)])
    };
    let with = |records: Vec<u8>| forge::tar(&[Member::of(b'x', "pax", &records), Member::file("f", b"")]);
    assert_eq!(comment(1 << 20).len(), 1 << 20);
    is_a_source("A19", &with(comment(1 << 20)));
    is_no_source("A19", &with(comment((1 << 20) + 1)), &["an extended header of 1048577 bytes, more than 1048576"]);
    is_no_source("A20", &forge::tar(&[Member::of(b'S', "f", b"")]), &["sparse entries are not supported"]);
    for key in ["GNU.sparse.major", "GNU.sparse.map", "GNU.sparse.numblocks"] {
        let records = forge::record(key, b"1");
        is_no_source("A20", &with(records), &["sparse entries are not supported"]);
    }
    is_no_source(
        "A21",
        &with(forge::record("SCHILY.xattr.user.x", &vec![b'x'; (1 << 20) + 1])),
        &["more than 1048576"],
    );
    let longest = [b"a/".repeat(2047), b"ab".to_vec()].concat();
    assert_eq!(longest.len(), 4096);
    is_a_source("A21", &with(forge::record("path", &longest)));
    let name = vec![b'n'; 4098];
    is_no_source("A21", &with(forge::record("path", &name)), &["a name of 4098 bytes, more than 4096"]);
    is_no_source("A21", &with(forge::record("path", &[b'n'; 256])), &["a file name of more than 255 bytes"]);
}

#[test]
fn a32_what_an_archive_unpacks_to_is_bounded_by_its_headers() {
    if is_left_out() {
        return;
    }
    // 64 MiB of zeros behind the end of a 2 KiB tar, in 64 KiB of gzip: read, found to be padding, and not kept.
    let tar = forge::tar(&[Member::file("f", b"1")]);
    let padded = [tar.clone(), vec![0; 64 << 20]].concat();
    let bench = Bench::keeping();
    bench.scratch.write("source.tar.gz", forge::gzip(&padded));
    is_cheap("A32", &run(bench.layout().args(["--tag", "new", "--copy", "source.tar.gz:/"])).success());
    bench.is_intact("A32");
    let layer = Layout::new(&bench.out, "new").layers()[0].clone();
    assert!(layer["size"].as_u64().unwrap() < 1000, "A32: {layer}");
    // A docker-archive's layer that goes on behind its end is not the layer of the config.
    is_no_base(
        "A32",
        &|saved| saved.member("one/layer.tar").content.extend(vec![0; 1 << 20]),
        &["does not match the diff ID sha256:"],
    );
}

#[test]
fn a33_names_in_an_archive_name_the_copy_and_no_build() {
    let (bench, _) = is_a_base("A33", &forge::tar(&DockerSaved::new().members));
    assert_eq!(super::contract::tags(&bench.out), ["keep", "new"]);
    run(&mut bench.command(&["export", "docker-archive:base.tar", "oci:copy", "--quiet"])).success();
    assert_eq!(super::contract::tags(&bench.scratch.join("copy")), ["1"]);
}

/// Runs `command` with `bytes` on standard input.
fn fed(command: &mut Command, bytes: &[u8]) -> std::process::Output {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A program that refuses the first bytes does not read the last.
    child.stdin.take().unwrap().write_all(bytes).ok();
    child.wait_with_output().unwrap()
}

#[test]
fn a34_archives_come_from_standard_input_or_from_files() {
    let bench = Bench::keeping();
    let tar = forge::tar(&[Member::file("f", b"from the pipe")]);
    for bytes in [tar.clone(), forge::gzip(&tar), zstd::bulk::compress(&tar, 3).unwrap()] {
        let mut build = bench.layout();
        build.args(["--tag", "new", "--compression", "none", "--copy", "-:/in"]);
        let fed = fed(&mut build, &bytes);
        assert!(fed.status.success(), "A34: {fed:?}");
        let read = layer_entries(&bench.out, "new");
        assert_eq!((read.len(), &read[1].path[..], read[1].size), (2, &b"in/f"[..], 13));
    }
    let mut build = bench.layout();
    let cut = fed(build.args(["--tag", "new", "--copy", "-:/in"]), &forge::gzip(&tar)[..20]);
    assert_eq!(cut.status.code(), Some(1), "A34: {cut:?}");
    assert!(String::from_utf8_lossy(&cut.stderr).contains("gzip: truncated"), "A34: {cut:?}");
    bench.is_intact("A34");
    bench.refuses_usage(
        "A34",
        bench.layout().args(["--copy", "-:/a", "--copy", "-:/b"]),
        &["standard input", "can only be copied once"],
    );

    let pipe = bench.scratch.join("pipe.tar");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    symlink("/dev/null", bench.scratch.join("device.tar")).unwrap();
    symlink("src", bench.scratch.join("directory.tar")).unwrap();
    bench.source();
    for name in ["pipe.tar", "device.tar"] {
        let copy = format!("{name}:/srv");
        bench.refuses("A34", bench.layout().args(["--copy", &copy]), &[name, "not a regular file"]);
    }
    for name in ["pipe.tar", "device.tar", "directory.tar"] {
        for transport in ["docker-archive", "oci-archive"] {
            let base = format!("{transport}:{name}");
            bench.refuses("A34", bench.layout().args(["--base", &base]), &[name, "not a regular file"]);
        }
    }
    // An archive of four gibibytes and more is only looked at where something is.
    let huge = bench.scratch.join("huge.tar");
    let mut members = DockerSaved::new();
    members.members.insert(
        0,
        Member { size_field: Some(b"\x80\0\0\0\0\0\0\x01\x40\0\0\0".to_vec()), ..Member::file("hole", b"") },
    );
    let (hole, rest) = (forge::unended(&members.members[..1]), forge::tar(&members.members[1..]));
    let mut file = fs::File::create(&huge).unwrap();
    file.write_all(&hole).unwrap();
    std::io::Seek::seek(&mut file, std::io::SeekFrom::Current(5 << 30)).unwrap();
    file.write_all(&rest).unwrap();
    run(bench.layout().args(["--tag", "new", "--base", "docker-archive:huge.tar"])).success();
    bench.is_intact("A34");
}

#[test]
fn a35_a_missing_end_marker_is_a_warning_and_data_behind_it_an_error() {
    let whole = forge::tar(&[Member::file("f", b"1")]);
    for cut in [512, 1024] {
        let (_, warned) = is_a_source("A35", &whole[..whole.len() - cut]);
        assert_eq!(
            warned, "ocibuild: warning: source.tar to /: the two zero blocks that end a tar are missing\n",
            "A35"
        );
        let saved = forge::tar(&DockerSaved::new().members);
        let (_, warned) = is_a_base("A35", &saved[..saved.len() - cut]);
        assert_eq!(
            warned, "ocibuild: warning: base image: base.tar: the two zero blocks that end a tar are missing\n",
            "A35"
        );
    }
    let garbage = [&whole[..], &[b'x'; 512]].concat();
    is_no_source("A35", &garbage, &["trailing data after the end of the archive"]);
    is_no_source("A35", &[forge::gzip(&whole), b"x".to_vec()].concat(), &["trailing data after the gzip stream"]);
    let between = [forge::unended(&[Member::file("a", b"1")]), vec![0; 512], whole].concat();
    is_no_source("A35", &between, &["a single zero block between entries"]);
    let bench = Bench::keeping();
    bench.scratch.write("base.tar", [forge::tar(&DockerSaved::new().members), vec![b'x'; 512]].concat());
    bench.refuses("A35", bench.layout().args(["--base", "docker-archive:base.tar"]), &["trailing data after the end"]);
    bench.scratch.write("base.tar", b"");
    bench.refuses(
        "A35",
        bench.layout().args(["--base", "docker-archive:base.tar"]),
        &["an empty file, not an archive"],
    );
    bench.scratch.write("base.tar", forge::gzip(&forge::tar(&DockerSaved::new().members)));
    bench.refuses(
        "A35",
        bench.layout().args(["--base", "docker-archive:base.tar"]),
        &["the archive itself is compressed"],
    );
}

#[test]
fn a36_an_oci_archive_is_a_layout_in_a_tar() {
    let archive = |bench: &Bench, base: &Forged, leave_out: &str| {
        let mut members = Vec::new();
        for name in ["oci-layout", "index.json"] {
            members.push(Member::file(name, &fs::read(base.directory.join(name)).unwrap()));
        }
        for digest in [base.manifest_digest(), base.config_digest(), base.layer_digest()] {
            let name = format!("./blobs/{}", digest.replacen(':', "/", 1));
            members.push(Member::file(&name, &fs::read(base.blob(&digest)).unwrap()));
        }
        members.retain(|member| leave_out.is_empty() || !member.name.ends_with(leave_out.as_bytes()));
        fs::write(bench.scratch.join("base.tar"), forge::tar(&members)).unwrap();
    };
    let bench = Bench::keeping();
    let base = Forged::new(bench.scratch.join("base"));
    let build = |name: &str| {
        let mut build = bench.layout();
        build.args(["--tag", "new", "--label", "a=b", "--base", &format!("oci-archive:base.tar{name}")]);
        build
    };
    archive(&bench, &base, "");
    bench.refuses("A36", &mut build(":absent"), &["no image `absent` (it has base)"]);
    let layer = base.layer_digest()[7..].to_owned();
    let manifest = base.manifest_digest()[7..].to_owned();
    for (leave_out, words) in [
        ("oci-layout", "not an oci-archive: `oci-layout` is missing"),
        ("index.json", "not an oci-archive: `index.json` is missing"),
        (&layer[..], "in the archive"),
        (&manifest[..], "in the archive"),
    ] {
        archive(&bench, &base, leave_out);
        bench.refuses("A36", &mut build(""), &["base.tar", words]);
    }
    archive(&bench, &base, "");
    for name in ["", ":base"] {
        run(build(name).arg("--dry-run")).success();
    }
    fs::write(base.blob(&base.layer_digest()), b"short").unwrap();
    archive(&bench, &base, "");
    bench.refuses("A36", &mut build(""), &["bytes, found 5"]);
    DockerSaved::new().write(&bench.scratch.join("base.tar"));
    bench.refuses("A36", &mut build(""), &["not an oci-archive", "(it may be a docker-archive)"]);
}
