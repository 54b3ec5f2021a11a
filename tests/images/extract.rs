//! `extract` and `export IMAGE rootfs:FILE`: the final file system of an image.

use super::Yard;
use crate::bases;
use crate::consumers::{Layout, Podman, Settings, Skopeo, Umoci};
use crate::support::{command, consumer_as_root, run};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

/// Images that a builder seldom makes, each with its layers. What they unpack to is what umoci unpacks.
const FOREIGN: [(&str, &[&[&str]]); 30] = [
    ("plain", &[BASE]),
    ("whiteouts", &[BASE, &["d dir", "f dir/.wh.one", "f .wh.file", "f dir/three"]]),
    ("opaque", &[BASE, &["d dir", "f dir/.wh..wh..opq", "f dir/new"]]),
    ("opaque-last", &[BASE, &["d dir", "f dir/new", "f dir/.wh..wh..opq"]]),
    ("opaque-root", &[BASE, &["f .wh..wh..opq", "f only"]]),
    ("directory-over-file", &[BASE, &["d file", "f file/in"]]),
    ("file-over-directory", &[BASE, &["f dir"]]),
    ("directory-over-link", &[BASE, &["d lib", "f lib/own"]]),
    ("removed-and-made-again", &[BASE, &["f .wh.dir"], &["d dir", "f dir/again"]]),
    ("removed-and-made", &[BASE, &["f .wh.dir", "d dir", "f dir/fresh"]]),
    ("through-a-link", &[BASE, &["f lib/b", "f lib/.wh.a"]]),
    ("through-an-absolute-link", &[&["d r", "d r/real", "l ab /r/real"], &["f ab/b", "d ab/sub", "f ab/sub/c"]]),
    ("through-two-links", &[&["d r", "l one r", "l two one"], &["f two/b", "h two/c two/b"]]),
    ("through-a-link-of-the-layer", &[&["d r", "l a r", "f a/b"]]),
    ("link-outside", &[&["l out ../../../../../../outside", "l abs /outside"], &["f out/evil", "f abs/evil"]]),
    ("absolute-names", &[&["f /abs/ok", "f ./x/./y"]]),
    ("hard-links", &[&["f4755@9:0 b/f text", "h a/first b/f", "h z a/first"]]),
    ("hard-link-absolute", &[&["f etc/passwd", "h d/h /etc/passwd"]]),
    ("hard-link-to-symlink", &[&["l s /etc/passwd", "h hs s", "h a s"]]),
    ("hard-link-replaced", &[&["f f old", "h hl f", "h h2 f"], &["f f new"]]),
    ("hard-link-removed", &[&["f f text", "h hl f"], &["f .wh.f"]]),
    ("hard-link-to-lower-layer", &[&["f f text"], &["h hl f"]]),
    ("devices", &[&["c null 1:3", "b@0:6 disk 8:1", "p pipe", "c large 300:70000"]]),
    (
        "special-bits",
        &[&["f6755@7:8 su", "d1777 tmp", "d2755 sg", "d0555 ro", "f0000 ro/x", "d0000 zero", "d0100 zero/d"]],
    ),
    ("twice", &[&["f a one", "d x", "f0600 a second", "f x/y", "d0700 x"]]),
    ("twice-of-two-kinds", &[&["f a 1", "l a elsewhere", "l b c", "f b file", "d e", "f e/f", "f e"]]),
    (
        "names",
        &[&[
            "f -dash",
            "f ü",
            "f .whx",
            "f wh..wh.x",
            "l long yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy",
        ]],
    ),
    (
        "order-of-names",
        &[&["d a", "f a-b", "f a/c", "f a.b", "f a0", "d a-d", "f a-d/x"], &["d a", "f a/d", "f .wh.a-b"]],
    ),
    ("two-that-differ-in-case", &[&["f Readme 1", "f README 2", "d Dir", "d dir"]]),
    ("no-files", &[&[]]),
];

const BASE: &[&str] = &[
    "d usr",
    "d usr/lib",
    "f usr/lib/a",
    "l lib usr/lib",
    "d0750@5:0 etc",
    "f@1:2 etc/x",
    "d dir",
    "f dir/one 1",
    "f dir/two 2",
    "f file",
];

/// Returns every file below `directory`: kind, mode, owner, numbers, time, target, content, and its first name if it has several.
/// The time of a directory that has no entry is that of its making, or the epoch: it is left out.
fn files(directory: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut inodes = BTreeMap::new();
    collect(directory, "", &mut found, &mut inodes);
    found
}

fn collect(directory: &Path, above: &str, found: &mut BTreeMap<String, String>, inodes: &mut BTreeMap<u64, String>) {
    let mut entries: Vec<_> = fs::read_dir(directory).unwrap().map(Result::unwrap).collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = format!("{above}/{}", entry.file_name().to_string_lossy());
        let (metadata, kind) = (entry.metadata().unwrap(), entry.file_type().unwrap());
        let mut line = format!("{:o} {}:{}", metadata.mode(), metadata.uid(), metadata.gid());
        if !kind.is_dir() || metadata.mtime() == 1_000_000_000 {
            line += &format!(" {}", metadata.mtime());
        }
        if kind.is_symlink() {
            line += &format!(" -> {}", fs::read_link(entry.path()).unwrap().display());
        }
        if kind.is_char_device() || kind.is_block_device() {
            line += &format!(" {}", metadata.rdev());
        }
        if kind.is_file() {
            line += &format!(" {}", ocibuild::Digest::of(&fs::read(entry.path()).unwrap()));
        }
        if !kind.is_dir() && metadata.nlink() > 1 {
            line += &format!(" = {}", inodes.entry(metadata.ino()).or_insert_with(|| path.clone()));
        }
        if kind.is_dir() {
            collect(&entry.path(), &path, found, inodes);
        }
        found.insert(path, line);
    }
}

/// Asserts that `extract`, `export` and umoci write the same files.
fn assert_agree(yard: &Yard, layout: &Layout) {
    let directory = |name: &str| {
        let directory = yard.scratch.join(name);
        run(command("rm").arg("-rf").arg(&directory)).success();
        directory
    };
    let [extracted, unpacked, untarred] = ["extracted", "unpacked", "untarred"].map(directory);
    let location = layout.location();
    yard.run(&format!("extract -q {location} extracted")).success();
    yard.run(&format!("export -q {location} rootfs:flat.tar")).success();
    fs::create_dir(&untarred).unwrap();
    let mut tar = command("tar");
    tar.args(["-xpf", "flat.tar", "-C", "untarred", "--numeric-owner", "--delay-directory-restore"]);
    run(tar.current_dir(yard.scratch.path())).success();
    let ours = files(&extracted);
    assert_eq!(files(&untarred), ours, "{location}: export");
    if let Some(umoci) = Umoci::find() {
        umoci.unpack(layout, &unpacked).success();
        assert_eq!(files(&unpacked.join("rootfs")), ours, "{location}: umoci");
    }
}

#[test]
fn extract_export_and_umoci_agree() {
    if consumer_as_root("tar").is_none() {
        return;
    }
    let yard = Yard::new();
    for (name, layers) in FOREIGN {
        yard.foreign(name, layers);
        assert_agree(&yard, &Layout::new(yard.scratch.join("out"), name));
    }
    let made = yard.scratch.join("made");
    yard.text("layout made -q -t one --copy a:/a --copy b:/b");
    yard.text("layout made -q -t two --base oci:made:one --copy a:/c --remove /b --compression zstd");
    assert_agree(&yard, &Layout::new(&made, "one"));
    let settings = Settings { entrypoint: &["/bin/sh"], cmd: &["-c", "true"] };
    let foreign =
        [bases::busybox_by_umoci(&yard.scratch, &settings), bases::busybox_by_buildah(&yard.scratch), bases::debian()];
    for layout in foreign.into_iter().flatten() {
        assert_agree(&yard, &layout);
    }
}

/// The images of [`FOREIGN`] of which podman 4 has other files or none, and why. umoci has ours.
const OTHERWISE_IN_PODMAN: [(&str, &str); 10] = [
    ("opaque-root", "an opaque whiteout in the root hides nothing"),
    ("removed-and-made", "a directory of the layer that removes it brings back what was in it"),
    ("through-a-link", "a directory without an entry of its own replaces a link of the layers below"),
    ("through-an-absolute-link", "the same"),
    ("through-two-links", "the same"),
    ("link-outside", "the same"),
    ("hard-links", "a hard link gives the file the mode and the owner of its own header"),
    ("hard-link-to-lower-layer", "refused: the file is not in the layer"),
    ("twice", "refused: a path has two entries"),
    ("twice-of-two-kinds", "refused: a path has two entries"),
];

/// Directories in which podman makes files of its own, at any depth.
const OF_PODMAN: [&str; 5] = ["/dev", "/proc", "/sys", "/run", "/etc"];

/// Returns how the files of a container of podman differ from those of the tar, but for what podman adds.
fn differences_from_podman(yard: &Yard, podman: &Podman, layout: &Layout) -> Vec<String> {
    let location = layout.location();
    let earlier = ["image.tar", "flat.tar", "podman.tar", "ours", "theirs"];
    run(command("rm").arg("-rf").args(earlier).current_dir(yard.scratch.path())).success();
    yard.text(&format!("export -q {location} docker-archive:image.tar:example/image:v1"));
    yard.text(&format!("export -q {location} rootfs:flat.tar"));
    let loaded = run(podman.command().args(["load", "--quiet", "--input"]).arg(yard.scratch.join("image.tar")));
    if loaded.status != 0 {
        return vec![loaded.stderr];
    }
    let name = "docker.io/example/image:v1";
    let created = run(podman.command().args(["create", "--pull=never", "--network=none", name, "/none"])).success();
    run(podman.command().args(["export", "-o"]).arg(yard.scratch.join("podman.tar")).arg(created.text())).success();
    run(podman.command().args(["rm", created.text()])).success();
    run(podman.command().args(["rmi", name])).success();
    let unpacked = |tar: &str, directory: &str| {
        fs::create_dir(yard.scratch.join(directory)).unwrap();
        let mut untar = command("tar");
        untar.args(["-xpf", tar, "-C", directory, "--numeric-owner", "--delay-directory-restore"]);
        run(untar.current_dir(yard.scratch.path())).success();
        files(&yard.scratch.join(directory))
    };
    let (ours, theirs) = (unpacked("flat.tar", "ours"), unpacked("podman.tar", "theirs"));
    // Files that podman makes change the time of their directory.
    let comparable = |path: &str, line: &String| match OF_PODMAN.contains(&path) {
        true => line.replace(" 1000000000", ""),
        false => line.clone(),
    };
    let mut differences = Vec::new();
    for (path, line) in &ours {
        let (our, their) = (comparable(path, line), theirs.get(path).map(|line| comparable(path, line)));
        if their.as_ref() != Some(&our) {
            differences.push(format!("{path}: {our}, in podman {their:?}"));
        }
    }
    let is_of_podman = |path: &str| OF_PODMAN.iter().any(|own| path == *own || path.starts_with(&format!("{own}/")));
    let added = theirs.keys().filter(|path| !ours.contains_key(*path) && !is_of_podman(path));
    differences.extend(added.map(|path| format!("{path}: only in podman")));
    differences
}

/// What a container of podman has is what the tar has.
#[test]
fn export_is_what_podman_exports() {
    let Some(podman) = Podman::find() else { return };
    let yard = Yard::new();
    let settings = Settings { entrypoint: &["/bin/sh"], cmd: &["-c", "true"] };
    let made = bases::busybox_by_umoci(&yard.scratch, &settings).map(|busybox| {
        yard.text(&format!("layout made -q -t v1 --base {} --copy a:/app --copy b:/app/b", busybox.location()));
        Layout::new(yard.scratch.join("made"), "v1")
    });
    for layout in [made, bases::busybox_by_buildah(&yard.scratch), bases::debian()].into_iter().flatten() {
        assert_eq!(differences_from_podman(&yard, &podman, &layout), [""; 0], "{}", layout.location());
    }
    let mut found = Vec::new();
    for (name, layers) in FOREIGN {
        yard.foreign(name, layers);
        let differences = differences_from_podman(&yard, &podman, &Layout::new(yard.scratch.join("out"), name));
        found.extend(Some((name, differences)).filter(|(_, all)| !all.is_empty()));
    }
    let names: Vec<&str> = found.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, OTHERWISE_IN_PODMAN.map(|(name, _)| name), "{found:#?}");
}

#[test]
fn extract_writes_a_file_or_a_directory() {
    let yard = Yard::new();
    yard.foreign("v1", &[BASE, &["f .wh.file", "f etc/y own", "h etc/linked usr/lib/a"]]);
    let extracted = yard.json("extract out:v1 /etc etc");
    assert_eq!(
        (&extracted["directory"], &extracted["digest"]),
        (&json!("etc"), &yard.json("inspect out:v1")["manifest"]["digest"])
    );
    assert_eq!(fs::read_to_string(yard.scratch.join("etc/y")).unwrap(), "own");
    assert_eq!(
        fs::read_to_string(yard.scratch.join("etc/linked")).unwrap(),
        "",
        "its other name is not in the directory"
    );
    let metadata = fs::metadata(yard.scratch.join("etc")).unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.mtime()), (0o750, 1_000_000_000));
    yard.text("extract out:v1 /lib/a one");
    assert_eq!(files(&yard.scratch.join("one")).len(), 1);
    assert!(yard.scratch.join("one/a").is_file());
    let tar = yard.run("extract -q out:v1 /lib -").success().stdout;
    assert!(tar.starts_with(b"a\0"), "{:?}", &tar[..100]);
    yard.run("extract out:v1 /none dir").ended_with(1).failed_saying("/none: is not in the image");
    assert!(!yard.scratch.join("dir").exists());
    yard.run("extract out:v1 - --format json").ended_with(2).failed_saying("standard output is for the tar");
    yard.refuses("extract out:v1 - --no-same-owner", &["--no-same-owner"]);
}

#[test]
fn extract_needs_an_empty_directory() {
    let yard = Yard::new();
    yard.foreign("v1", &[BASE]);
    yard.run("extract out:v1 a").ended_with(1).failed_saying("a: is not empty (name an empty or a new directory)");
    fs::create_dir(yard.scratch.join("empty")).unwrap();
    yard.run("extract -q out:v1 empty").success();
    yard.run("extract -q out:v1 empty").ended_with(1).failed_saying("empty: is not empty");
    yard.scratch.write("killed/.ocibuild-unfinished", "");
    yard.run("extract out:v1 killed")
        .ended_with(1)
        .failed_saying("killed: an earlier extraction into it did not finish");
    let held = fs::File::open(yard.scratch.join("b")).unwrap();
    held.lock().unwrap();
    yard.run("extract out:v1 b").ended_with(1).failed_saying("b: another process extracts into it");
}

/// Nothing is outside the directory, and nothing is left of what could not be finished.
#[test]
fn extract_stays_in_its_directory() {
    let yard = Yard::new();
    for (name, layer, reason) in [
        ("up", &["f good", "f ../evil"][..], "`..` points outside the image"),
        ("within", &["f good", "f a/../../evil"], "`..` points outside the image"),
        (
            "link",
            &["f good", "h evil ../../etc/passwd"],
            "/evil: a hard link to /../../etc/passwd, which is no file of the image",
        ),
        ("circle", &["f good", "l c c", "f c/evil"], "/c/evil: is below /c, which is not a directory"),
        ("file", &["f good", "f p", "f p/evil"], "/p/evil: is below /p, which is not a directory"),
    ] {
        yard.foreign(name, &[layer]);
        yard.run(&format!("extract -q out:{name} dir")).ended_with(1).failed_saying(reason);
        assert!(!yard.scratch.join("dir").exists(), "{name}");
        fs::create_dir_all(yard.scratch.join("mine")).unwrap();
        yard.run(&format!("extract -q out:{name} mine")).ended_with(1);
        assert_eq!(fs::read_dir(yard.scratch.join("mine")).unwrap().count(), 0, "{name}");
        let tar = yard.run(&format!("export -q out:{name} rootfs:flat.tar")).ended_with(1);
        assert!(!yard.scratch.join("flat.tar").exists(), "{name}: {tar}");
    }
    assert!(!yard.scratch.join("evil").exists());
}

/// Without root, what a user cannot have is left out, and counted on one line.
#[test]
fn extract_without_root_says_what_it_leaves_out() {
    let yard = Yard::new();
    yard.foreign("v1", &[&["d0555@5:5 ro", "f0000@5:5 ro/x text", "f4755@5:5 su", "c null 1:3", "l@5:5 link x"]]);
    let finished = yard.run("extract out:v1 dir --no-same-owner --format json").success();
    let left_out = &serde_json::from_str::<serde_json::Value>(finished.text()).unwrap()["leftOut"];
    assert_eq!(left_out, &json!({"owners": 4, "specialBits": 1, "devices": 1, "xattrs": 0}));
    let mode = |path: &str| fs::symlink_metadata(yard.scratch.join(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("dir/ro"), mode("dir/ro/x"), mode("dir/su")), (0o555, 0, 0o755));
    assert!(!yard.scratch.join("dir/null").exists());
    let text = yard.run("extract out:v1 again --no-same-owner").success();
    let line = "again: left out, as files are not extracted as root: the owner of 4 files, setuid or setgid of 1 file, 1 device";
    assert!(text.stderr.contains(line), "{text}");
    run(command("chmod").args(["-R", "u+w", "dir", "again"]).current_dir(yard.scratch.path())).success();
}

/// Extended attributes of what cannot be opened are set as well. What the system refuses is counted.
#[test]
fn extract_sets_extended_attributes_of_links_and_pipes() {
    if consumer_as_root("tar").is_none() {
        return;
    }
    let yard = Yard::new();
    yard.foreign("v1", &[&["l+trusted.note=one link target", "p+trusted.note=two pipe", "f+trusted.note=three file"]]);
    let finished = yard.run("extract out:v1 dir").success();
    assert!(!finished.stderr.contains("left out"), "{finished}");
    for (name, value) in [("link", "one"), ("pipe", "two"), ("file", "three")] {
        let mut found = [0; 100];
        let length =
            rustix::fs::lgetxattr(yard.scratch.join("dir").join(name), "trusted.note", &mut found[..]).unwrap();
        assert_eq!(&found[..length], value.as_bytes(), "{name}");
    }
    yard.foreign("v2", &[&["l+user.note=one link target"]]);
    let refused = yard.run("extract out:v2 other").success();
    assert!(refused.stderr.contains("other: left out, as the system refuses it: 1 extended attribute"), "{refused}");
}

/// The same files are the same tar, in however many layers they are.
#[test]
fn export_of_files_is_deterministic() {
    let yard = Yard::new();
    yard.foreign("one", &[&["d d", "f d/b 2", "f d/a 1", "h e d/b", "l l d"]]);
    yard.foreign(
        "three",
        &[
            &["d d", "f d/gone", "f x"],
            &["f d/b 2", "h e d/b", "f .wh.x"],
            &["f d/a 1", "l l d", "f d/.wh.gone", "d d"],
        ],
    );
    let digest = yard.text("export out:one rootfs:one.tar");
    assert_eq!(digest, yard.json("inspect out:one")["manifest"]["digest"].as_str().unwrap());
    yard.text("export out:three rootfs:three.tar");
    yard.text("export out:three rootfs:three.tar");
    let one = fs::read(yard.scratch.join("one.tar")).unwrap();
    assert_eq!(one, fs::read(yard.scratch.join("three.tar")).unwrap());
    assert_eq!(one, yard.run("export -q out:three rootfs:-").success().stdout);
    assert_eq!(one, yard.run("extract -q out:three -").success().stdout);
    yard.run("export out:one rootfs:a/file").ended_with(1).failed_saying("a/file: exists and is not a tar");
    yard.refuses("ls rootfs:one.tar", &["only `ocibuild export` writes the files of an image to a tar"]);
    yard.refuses("export out:one rootfs:", &["no file is named"]);
    if let Some(_skopeo) = Skopeo::find() {
        yard.text("layout again -q -t v1 --copy one.tar:/");
        assert_eq!(yard.json("ls again:v1 /d").as_array().unwrap().len(), 2, "the tar is a source of builds");
    }
}

/// Zeros are not written, and a file of them has its length.
#[test]
fn extracted_files_have_holes() {
    let yard = Yard::new();
    yard.scratch.write("z/zeros", vec![0; 8 << 20]);
    yard.scratch.write("z/exact", vec![0; 64 << 10]);
    yard.text("layout out -q -t v1 --copy z:/z");
    yard.text("extract out:v1 dir");
    let metadata = fs::metadata(yard.scratch.join("dir/z/zeros")).unwrap();
    assert_eq!((metadata.len(), metadata.blocks()), (8 << 20, 0));
    assert_eq!(fs::read(yard.scratch.join("dir/z/exact")).unwrap(), vec![0; 64 << 10]);
}
