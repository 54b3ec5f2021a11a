//! Rows X1 to X12: what a layer, an image and an archive look like, and who reads them alike.

use super::archives::{entries, layer_entries};
use super::contract::{Bench, spec};
use super::forge::FILE;
use crate::consumers::{Layout as Image, Schemas};
use crate::listers::listed_alike;
use crate::support::{command, consumer_as_root, is_left_out, run};
use ocibuild::Digest;
use ocibuild::codec::tar;
use ocibuild::codec::tar::{EntryType, Header};
use ocibuild::common::progress::Silent;
use ocibuild::layers::tree::{Access, Content, Entry, Owner, Rules, TreeBuilder};
use ocibuild::spec::ImagePath;
use ocibuild::store::Layout;
use serde_json::Value;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::Arc;

#[test]
fn x1_a_path_from_two_sources_names_both() {
    let bench = Bench::keeping();
    for source in ["one", "two"] {
        bench.scratch.write(format!("{source}/same"), source);
        bench.scratch.write(format!("{source}/dir/{source}"), source);
    }
    let both = ["--layer", "both", "--copy", "one:/srv", "--copy", "two:/srv"];
    bench.refuses("X1", bench.layout().args(both), &["/srv/same: is in both one to /srv and two to /srv"]);
    run(bench.layout().args(["--tag", "new", "--exclude", "same"]).args(both)).success();
    // In layers of their own, the upper one counts.
    run(bench.layout().args(["--tag", "new", "--copy", "one:/srv", "--copy", "two:/srv"])).success();
    bench.scratch.write("file", "x");
    let below = ["--layer", "x", "--copy", "file:/srv/dir", "--copy", "one:/srv"];
    bench.refuses("X1", bench.layout().args(below), &["/srv/dir: is in both file to /srv/dir and one to /srv"]);
    bench.is_intact("X1");
}

#[test]
fn x2_x6_parents_first_sorted_by_bytes_and_once() {
    let bench = Bench::empty();
    for name in ["b/c/d", "b-c", "b.c", "B", "a\u{e9}", "z"] {
        bench.scratch.write(format!("src/{name}"), "x");
    }
    fs::hard_link(bench.scratch.join("src/b/c/d"), bench.scratch.join("src/Link")).unwrap();
    run(bench.layout().args(["--compression", "none", "--copy", "src:/opt/app"])).success();
    let listed: Vec<String> = layer_entries(&bench.out, "latest")
        .iter()
        .map(|entry| {
            format!(
                "{} {:o} {}",
                String::from_utf8_lossy(&entry.path),
                entry.mode,
                String::from_utf8_lossy(&entry.link)
            )
        })
        .collect();
    insta::assert_snapshot!(listed.join("\n"), @r"
    opt 755 
    opt/app 755 
    opt/app/B 644 
    opt/app/Link 644 
    opt/app/aé 644 
    opt/app/b 755 
    opt/app/b-c 644 
    opt/app/b.c 644 
    opt/app/b/c 755 
    opt/app/b/c/d 644 opt/app/Link
    opt/app/z 644
    ");
}

/// Names of many lengths and letters, as entries whose contents are at hand.
fn strange_names() -> Vec<(Vec<u8>, EntryType)> {
    // Components of at most 255 bytes, none of them empty.
    let of_length = |length: usize, letter: u8| -> Vec<u8> {
        let is_slash = |at: usize| at % 200 == 199 && at + 1 < length;
        (0..length).map(|at| if length > 255 && is_slash(at) { b'/' } else { letter }).collect()
    };
    let mut names: Vec<(Vec<u8>, EntryType)> = [100, 101, 155, 156, 255, 256, 257, 1000, 4096]
        .iter()
        .zip(b'a'..)
        .flat_map(|(&length, letter)| {
            [
                (of_length(length, letter), EntryType::File),
                (of_length(length, letter.to_ascii_uppercase()), EntryType::Directory),
            ]
        })
        .collect();
    for name in
        [&b"\xff\xfe"[..], b"new\nline", "gr\u{fc}n \u{1f980}".as_bytes(), b" space", b"quote\"", b"back\\slash"]
    {
        names.push((name.to_vec(), EntryType::File));
    }
    names
}

#[test]
fn x3_x5_four_readers_agree_on_names_owners_and_times() {
    let scratch = crate::support::Scratch::new();
    let mut bytes = Vec::new();
    let xattrs = [(b"user.x".to_vec(), b"1".to_vec())];
    for (path, kind) in strange_names() {
        tar::append(&Header { path: &path, kind, ..FILE }, &mut bytes);
    }
    let (long, longer) = ([b'l'; 100], [b'm'; 101]);
    for header in [
        Header { path: b"x/uid1", uid: 2_097_151, gid: 2_097_151, ..FILE },
        Header { path: b"x/uid2", uid: 2_097_152, ..FILE },
        Header { path: b"x/gid2", gid: 2_097_152, ..FILE },
        Header { path: b"x/uid3", uid: u64::from(u32::MAX) - 1, gid: u64::from(u32::MAX) - 1, ..FILE },
        Header { path: b"x/before", mtime: -1, ..FILE },
        Header { path: b"x/far", mtime: 1 << 33, ..FILE },
        Header { path: b"x/xattrs", xattrs: &xattrs, ..FILE },
        Header { path: b"x/link100", kind: EntryType::Symlink, mode: 0o777, link: &long, ..FILE },
        Header { path: b"x/link101", kind: EntryType::Symlink, mode: 0o777, link: &longer, ..FILE },
        Header { path: b"x/linkodd", kind: EntryType::Symlink, mode: 0o777, link: b"\xff\n", ..FILE },
        Header { path: b"x/hard", kind: EntryType::HardLink, link: b"x/uid1", ..FILE },
        Header { path: b"x/modes", mode: 0o7777, ..FILE },
    ] {
        tar::append(&header, &mut bytes);
    }
    bytes.extend(tar::END);
    let path = scratch.write("layer.tar", bytes);
    assert_eq!(listed_alike(&path).len(), strange_names().len() + 12);
}

#[test]
fn x5_four_readers_agree_on_a_file_of_eight_gibibytes() {
    if is_left_out() {
        return;
    }
    let scratch = crate::support::Scratch::new();
    // The contents are holes: they are not read to list the headers.
    let mut file = fs::File::create(scratch.join("layer.tar")).unwrap();
    for (path, size) in [(&b"largest-octal"[..], (8_u64 << 30) - 1), (b"smallest-pax", 8 << 30), (b"after", 0)] {
        let mut header = Vec::new();
        tar::append(&Header { path, size, ..FILE }, &mut header);
        assert_eq!(header.len() > 512, size == 8 << 30, "X5");
        file.write_all(&header).unwrap();
        std::io::Seek::seek(&mut file, std::io::SeekFrom::Current((size + tar::padding(size)) as i64)).unwrap();
    }
    file.write_all(&tar::END).unwrap();
    assert_eq!(listed_alike(&scratch.join("layer.tar")).len(), 3);
}

#[test]
fn x3_four_readers_agree_on_a_layer_of_ours() {
    if is_left_out() {
        return;
    }
    use std::os::unix::ffi::OsStrExt as _;
    let bench = Bench::empty();
    for (name, kind) in strange_names() {
        let path = bench.scratch.join("src").join(std::ffi::OsStr::from_bytes(&name));
        // The deepest ones are beyond what the system takes in one piece.
        if name.len() < 3000 && kind == EntryType::File {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"content").unwrap();
        }
    }
    fs::hard_link(bench.scratch.join("src/ space"), bench.scratch.join("src/zzz")).unwrap();
    symlink("x".repeat(300), bench.scratch.join("src/link")).unwrap();
    let owner = ["--chown", "3000000:4294967294", "--compression", "none"];
    run(bench.layout().args(["--copy", "src:/srv"]).args(owner)).success();
    let image = Image::new(&bench.out, "latest");
    let layer = image.blob(image.layers()[0]["digest"].as_str().unwrap());
    let listed = listed_alike(&layer);
    assert!(listed.iter().all(|entry| (entry.uid, entry.gid) == (3_000_000, 4_294_967_294)), "X5");
    assert!(listed.len() > 20, "X3");
}

/// A layer of very many entries, as a tar: how many there are is what is at stake.
fn many_entries(count: usize) {
    let scratch = crate::support::Scratch::new();
    let layout = Layout::create(&scratch.join("out")).unwrap();
    let mut builder = TreeBuilder::new(&Rules::default());
    for number in 0..count {
        let path = ImagePath::new(format!("one/directory/entry{number:07}").as_bytes()).unwrap();
        let content = Content::Bytes(Arc::from(&b""[..]));
        let kind = ocibuild::layers::tree::Kind::File { size: 0, content };
        builder
            .add(Entry {
                path,
                kind,
                attributes: Rules::default().file(Access { mode: 0o644, owner: Owner::default() }),
            })
            .unwrap();
    }
    let tree = builder.finish().unwrap();
    let request = ocibuild::layers::LayerRequest {
        tree: &tree,
        name: "many",
        compression: ocibuild::codec::compression::Compression::None.into(),
        reuse: None,
        store: None,
        visitor: None,
    };
    let layer = ocibuild::layers::write_layers(&[request], &layout, &Silent).unwrap().remove(0).layer;
    let path = scratch.join("out/blobs").join(layer.descriptor.digest.to_string().replacen(':', "/", 1));
    assert_eq!(listed_alike(&path).len(), count + 2);
}

#[test]
fn f21_four_readers_agree_on_very_many_entries_in_one_directory() {
    if is_left_out() {
        return;
    }
    // A million takes the slowest reader most of a minute; CI may have it.
    let is_patient = ["CI", "OCIBUILD_LONG_TESTS"].iter().any(|name| std::env::var_os(name).is_some());
    many_entries(if is_patient { 1_000_000 } else { 100_000 });
}

#[test]
fn x7_modes_follow_the_policy() {
    let bench = Bench::empty();
    for (name, mode) in [("setuid", 0o4755), ("none", 0o000), ("sticky", 0o1644), ("group", 0o060), ("tool", 0o100)] {
        let path = bench.scratch.write(format!("src/{name}"), "x");
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let closed = bench.scratch.join("src/closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o3600)).unwrap();
    if consumer_as_root("setpriv").is_none() {
        return;
    }
    let modes = |flags: &[&str]| {
        run(bench.layout().args(["--compression", "none", "--copy", "src:/srv"]).args(flags)).success();
        let entries = layer_entries(&bench.out, "latest");
        entries.iter().map(|entry| format!("{:o}", entry.mode)).collect::<Vec<_>>().join(" ")
    };
    // srv, closed, group, none, setuid, sticky, tool
    // What only its owner can read stays closed.
    assert_eq!(modes(&[]), "755 755 644 600 755 644 700", "X7");
    assert_eq!(modes(&["--preserve-modes"]), "755 3600 60 0 4755 1644 100", "X7");
    assert_eq!(modes(&["--chmod", "640"]), "750 750 640 640 640 640 640", "X7");
}

/// SHA-256 as FIPS 180-4 writes it down, word for word, and as slow.
fn plain_sha256(message: &[u8]) -> String {
    let primes: Vec<u64> =
        (2..312_u64).filter(|n| (2..*n).take_while(|d| d * d <= *n).all(|d| n % d != 0)).take(64).collect();
    // The first 32 bits of the fractions of the roots, by whole numbers only.
    let root = |prime: u64, power: u32| {
        let target = u128::from(prime) << (32 * power);
        let (mut low, mut high) = (0_u128, 1 << 40);
        while high - low > 1 {
            let middle = (low + high) / 2;
            if middle.pow(power) <= target { low = middle } else { high = middle }
        }
        low as u32
    };
    let k: Vec<u32> = primes.iter().map(|&prime| root(prime, 3)).collect();
    let mut hash: Vec<u32> = primes.iter().take(8).map(|&prime| root(prime, 2)).collect();
    let mut padded = message.to_vec();
    padded.push(0x80);
    while padded.len() % 64 != 56 {
        padded.push(0);
    }
    padded.extend((message.len() as u64 * 8).to_be_bytes());
    for block in padded.chunks(64) {
        let mut w: Vec<u32> = block.chunks(4).map(|word| u32::from_be_bytes(word.try_into().unwrap())).collect();
        for t in 16..64 {
            let s0 = w[t - 15].rotate_right(7) ^ w[t - 15].rotate_right(18) ^ (w[t - 15] >> 3);
            let s1 = w[t - 2].rotate_right(17) ^ w[t - 2].rotate_right(19) ^ (w[t - 2] >> 10);
            w.push(w[t - 16].wrapping_add(s0).wrapping_add(w[t - 7]).wrapping_add(s1));
        }
        let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = hash[..] else { unreachable!() };
        for t in 0..64 {
            let s1 = e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25);
            let choice = (e & f) ^ (!e & g);
            let t1 = h.wrapping_add(s1).wrapping_add(choice).wrapping_add(k[t]).wrapping_add(w[t]);
            let s0 = a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22);
            let majority = (a & b) ^ (a & c) ^ (b & c);
            (h, g, f, e, d, c, b, a) =
                (g, f, e, d.wrapping_add(t1), c, b, a, t1.wrapping_add(s0.wrapping_add(majority)));
        }
        for (sum, word) in hash.iter_mut().zip([a, b, c, d, e, f, g, h]) {
            *sum = sum.wrapping_add(word);
        }
    }
    hash.iter().map(|word| format!("{word:08x}")).collect()
}

#[test]
fn x9_a_second_sha_256_agrees_around_block_borders() {
    let bytes: Vec<u8> = (0..1100_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 9) as u8).collect();
    for length in (0..140).chain(500..530).chain(1000..1100) {
        assert_eq!(Digest::of(&bytes[..length]).hex(), plain_sha256(&bytes[..length]), "X9 {length}");
    }
}

#[test]
fn x10_archives_hold_the_layout_and_nothing_else() {
    let bench = Bench::keeping();
    fs::write(bench.out.join(".ocibuild.lock"), "pid 1").unwrap();
    fs::write(bench.out.join("blobs/sha256/.ocibuild-00000000000000000000000000000000"), "half").unwrap();
    run(&mut bench.command(&["export", "out:keep", "oci-archive:a.tar", "-q"])).success();
    run(&mut bench.command(&["export", "out:keep", "docker-archive:b.tar:team/app:1", "-q"])).success();
    let names = |file: &str| -> Vec<String> {
        let entries = entries(&fs::read(bench.scratch.join(file)).unwrap());
        entries
            .iter()
            .map(|entry| String::from_utf8(entry.path.clone()).unwrap())
            .filter(|name| !name.starts_with("blobs"))
            .collect()
    };
    assert_eq!(names("a.tar"), ["index.json", "oci-layout"], "X10");
    assert_eq!(names("b.tar"), ["index.json", "manifest.json", "oci-layout"], "X10");
    let blobs = entries(&fs::read(bench.scratch.join("a.tar")).unwrap()).len() - 2;
    assert_eq!(blobs, 2 + 3, "X10: two directories and three blobs");
    // Standard output gives the same bytes as a file.
    run(&mut bench.command(&["export", "out:keep", "docker-archive:c.tar", "-q"])).success();
    let piped = run(&mut bench.command(&["export", "out:keep", "-", "-q"])).success().stdout;
    assert!(piped == fs::read(bench.scratch.join("c.tar")).unwrap(), "X10");
}

#[test]
fn x11_empty_layers_and_layers_at_block_borders_are_well_formed() {
    if is_left_out() {
        return;
    }
    let bench = Bench::empty();
    for size in [0, 1, 511, 512, 513, 10_240 - 512, (1 << 20) - 512, 1 << 20] {
        bench.scratch.write("src/f", vec![b'x'; size]);
        run(bench.layout().args(["--compression", "none", "--copy", "src/f:/f"])).success();
        let image = Image::new(&bench.out, "latest");
        let tar = fs::read(image.blob(image.layers()[0]["digest"].as_str().unwrap())).unwrap();
        assert_eq!(tar.len(), 512 + size.next_multiple_of(512) + 1024, "X11 {size}");
        assert!(tar.ends_with(&[0; 1024]) && entries(&tar)[0].size == size as u64, "X11 {size}");
        bench.is_intact("X11");
    }
    fs::create_dir(bench.scratch.join("empty")).unwrap();
    for compression in ["none", "gzip", "zstd"] {
        run(bench.layout().args(["--compression", compression, "--copy", "empty:/"])).success();
        let image = Image::new(&bench.out, "latest");
        assert_eq!(image.config()["rootfs"]["diff_ids"][0], Digest::of(&[0; 1024]).to_string(), "X11");
        bench.is_intact("X11");
    }
}

/// Every document of an image in a layout: index, manifest, config.
fn documents(layout: &Path, tag: &str) -> Vec<Vec<u8>> {
    let image = Image::new(layout, tag);
    let blobs = [image.manifest_digest(), image.config_digest()].map(|digest| fs::read(image.blob(&digest)).unwrap());
    [vec![fs::read(layout.join("index.json")).unwrap(), fs::read(layout.join("oci-layout")).unwrap()], blobs.to_vec()]
        .concat()
}

#[test]
fn x12_documents_are_canonical_and_have_media_types() {
    let bench = Bench::keeping();
    bench.source();
    for tag in ["v1", "team/app:v1", "v2"] {
        run(bench.layout().args([
            "--tag",
            tag,
            "--copy",
            "src:/srv",
            "--base",
            "oci:out:keep",
            "--label",
            "z=1",
            "--label",
            "a=2",
        ]))
        .success();
    }
    for document in documents(&bench.out, "v1") {
        let value: Value = serde_json::from_slice(&document).unwrap();
        // serde_json's own map is sorted, and writes no white space.
        assert_eq!(String::from_utf8(document).unwrap(), value.to_string(), "X12");
    }
    let image = Image::new(&bench.out, "v1");
    assert_eq!(image.index()["mediaType"], "application/vnd.oci.image.index.v1+json", "X12");
    assert_eq!(image.manifest()["mediaType"], "application/vnd.oci.image.manifest.v1+json", "X12");
    let listed = image.index()["manifests"].as_array().unwrap().clone();
    assert!(listed.iter().all(|entry| entry["mediaType"].is_string() && entry["platform"].is_object()), "X12");
    assert_eq!(
        super::contract::tags(&bench.out),
        ["docker.io/team/app:v1", "keep", "v1", "v2"],
        "X12: one descriptor a name"
    );
    if let Some(schemas) = Schemas::find() {
        let found = schemas.check(&bench.out);
        // A tag that was built again leaves the documents that only it needed.
        assert!(found.text().lines().all(|line| line.contains("nothing refers to it")), "X12: {found}");
    }
}

#[test]
fn x8_every_reader_on_this_machine_takes_the_image() {
    let bench = Bench::empty();
    let source = spec(&bench.source());
    super::contract::build(&source, &bench.out, "v1").unwrap();
    if let Some(schemas) = Schemas::find() {
        schemas.check(&bench.out).success();
    }
    if let Some(tool) = crate::consumers::OciImageTool::find() {
        tool.validate(&Image::new(&bench.out, "v1")).success();
    }
    if let Some(skopeo) = crate::consumers::Skopeo::find() {
        let copy = Image::new(bench.scratch.join("copy"), "v1");
        skopeo.copy(&[], &Image::new(&bench.out, "v1").location(), &copy.location()).success();
        assert_eq!(copy.manifest_digest(), Image::new(&bench.out, "v1").manifest_digest(), "X8");
    }
    let mut list = command("tar");
    run(list.args(["--list", "--gzip", "--file"]).arg({
        let image = Image::new(&bench.out, "v1");
        image.blob(image.layers()[0]["digest"].as_str().unwrap())
    }))
    .success()
    .printed("srv/\nsrv/file\n");
}
