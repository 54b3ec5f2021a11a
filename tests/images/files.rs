//! `ls IMAGE` and `cat`: the files of an image, without unpacking it.

use super::Yard;
use crate::bases;
use crate::consumers::{Settings, Umoci};
use crate::support::{command, run};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Stdio;

/// An image of three layers: files of one kind over those of another, deleted ones, links, and special bits.
fn layered() -> Yard {
    let yard = Yard::new();
    let app = yard.scratch.path().join("app");
    for (file, content) in
        [("d/f", "old"), ("d/kept", "kept"), ("gone/x", "x"), ("was-file", "file"), ("a-b", ""), ("a/c", "c")]
    {
        yard.scratch.write(format!("app/{file}"), content);
    }
    symlink("d/f", app.join("link")).unwrap();
    fs::hard_link(app.join("d/f"), app.join("d/hard")).unwrap();
    yard.scratch.write("tool", "#!/bin/sh\n");
    fs::set_permissions(yard.scratch.path().join("tool"), fs::Permissions::from_mode(0o755)).unwrap();
    yard.text("layout out -q -t one --copy app:/app");
    yard.scratch.write("more/f", "new");
    yard.scratch.write("more/deep/er/file", "deep");
    yard.text("layout out -q -t two --base oci:out:one --remove /app/gone --remove /app/was-file --copy more:/app/d --copy tool:/usr/bin/tool");
    yard
}

#[test]
fn ls_lists_the_files_that_the_layers_unpack_to() {
    let yard = layered();
    let paths = |line: &str| -> Vec<String> {
        let entries = yard.json(line);
        entries.as_array().unwrap().iter().map(|entry| entry["path"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(paths("ls out:two"), ["/app", "/usr"]);
    assert_eq!(paths("ls out:two /app"), ["/app/a", "/app/a-b", "/app/d", "/app/link"]);
    assert_eq!(
        paths("ls out:two /app/d -R"),
        ["/app/d/deep", "/app/d/deep/er", "/app/d/deep/er/file", "/app/d/f", "/app/d/hard", "/app/d/kept"]
    );
    assert_eq!(paths("ls out:two /app/link"), ["/app/link"]);
    assert_eq!(paths("ls out:two --largest 2"), ["/usr/bin/tool", "/app/d/deep/er/file"]);
    assert!(paths("ls out:one -R").contains(&"/app/gone/x".to_owned()));
    let text = yard.text("ls out:two /app");
    assert!(text.contains("lrwxrwxrwx") && text.ends_with("1 /app/link -> d/f"), "{text}");
    yard.run("ls out:two /app/gone").ended_with(1).failed_saying("/app/gone: is not in the image");
    yard.refuses("ls out:two --layer 9", &["--layer: the image has the layers 1 to "]);
    yard.refuses("ls out:two --no-trunc", &["--no-trunc: is for the images of a layout"]);
    yard.refuses("ls out --platform linux/arm64", &["--platform: is for the files of an image"]);
    yard.refuses("ls out:two --layer 1 -R", &["--layer", "--recursive"]);
    yard.refuses("ls out:two --largest 0", &["--largest", "not a positive integer"]);
    yard.refuses("ls out:two --layer 0", &["--layer", "not a positive integer"]);
}

/// What a layer deletes is listed with it, and a directory that it only has files in is not.
#[test]
fn ls_lists_what_one_layer_does() {
    let yard = layered();
    let rows = |line: &str| -> Vec<String> {
        let row = |row: &Value| {
            format!("{} {} {}", row["path"].as_str().unwrap(), row["type"].as_str().unwrap(), row["layer"])
        };
        yard.json(line).as_array().unwrap().iter().map(row).collect()
    };
    assert_eq!(rows("ls out:two --layer 3"), ["/app directory 3", "/app/was-file whiteout 3"]);
    assert_eq!(rows("ls out:two --layer 5 --largest 1"), ["/usr/bin/tool file 5"]);
    yard.foreign("hand", &[&["d new", "f implied/file", "f d/.wh..wh..opq", "f d/.wh.gone"]]);
    assert_eq!(
        rows("ls out:hand --layer 1"),
        ["/d opaque 1", "/d/gone whiteout 1", "/implied/file file 1", "/new directory 1"]
    );
    assert_eq!(rows("ls out:hand /d --layer 1"), ["/d opaque 1", "/d/gone whiteout 1"]);
    let text = yard.text("ls out:hand --layer 1 /d");
    assert!(text.starts_with("o ") && text.contains("\nw ") && text.ends_with("  1 /d/gone"), "{text}");
    yard.run("ls out:hand /none --layer 1").ended_with(1).failed_saying("/none: is not in the layer");
}

/// A cached listing that is damaged is made again.
#[test]
fn ls_and_cat_make_damaged_listings_again() {
    let yard = layered();
    let listed = yard.text("ls out:two -R");
    for listing in fs::read_dir(yard.scratch.join("cache/listings/v1")).unwrap() {
        let listing = listing.unwrap().path();
        let mut bytes = fs::read(&listing).unwrap();
        bytes[128] ^= 1;
        fs::remove_file(&listing).unwrap();
        fs::write(&listing, bytes).unwrap();
    }
    assert_eq!(yard.text("ls out:two -R"), listed);
    assert_eq!(yard.text("cat out:two /app/d/f"), "new");
}

/// A reader that has gone away has seen enough.
#[test]
fn a_closed_pipe_is_no_failure() {
    let yard = layered();
    yard.scratch.write("large/file", vec![b'x'; 4 << 20]);
    yard.text("layout out -q -t large --copy large:/l");
    for line in ["cat -q out:large /l/file", "ls -q out:large -R", "ls -q out"] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let child = yard.command(line).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        let ended = child.wait_with_output().unwrap();
        assert!(ended.status.success() && ended.stderr.is_empty(), "{line}: {ended:?}");
    }
}

#[test]
fn cat_writes_a_file_of_the_layer_that_counts() {
    let yard = layered();
    for (line, content) in [
        ("cat out:one /app/d/f", "old"),
        ("cat out:two /app/d/f", "new"),
        ("cat out:two app/link", "new"),
        ("cat out:two /app/d/hard", "old"),
        ("cat out:two /app/d/deep/er/file", "deep"),
    ] {
        assert_eq!(yard.text(line), content, "{line}");
    }
    yard.run("cat out:two /app/gone/x").ended_with(1).failed_saying("/app/gone/x: is not in the image");
    yard.run("cat out:two /app/d").ended_with(1).failed_saying("/app/d: is not a regular file");
    yard.run("cat out:two /app/d/f --format json").ended_with(2).failed_saying("cat writes the bytes of a file");
    yard.foreign("twice", &[&["f a first", "f a second"]]);
    assert_eq!(yard.text("cat out:twice /a"), "second");
    // Nothing of a damaged layer is written, wherever the damage is.
    let layer = yard.json("inspect out:one")["layers"][0]["digest"].as_str().unwrap().to_owned();
    let blob = yard.scratch.path().join("out/blobs/sha256").join(&layer["sha256:".len()..]);
    let mut bytes = fs::read(&blob).unwrap();
    for place in [bytes.len() / 2, bytes.len() - 1] {
        bytes[place] ^= 1;
        fs::remove_file(&blob).unwrap();
        fs::write(&blob, &bytes).unwrap();
        let damaged = yard.run("cat out:one /app/d/f").ended_with(1);
        assert_eq!(damaged.stdout, b"", "{damaged}");
        bytes[place] ^= 1;
    }
}

/// What `ls -R` lists of an image is what umoci unpacks: kinds, modes, owners, sizes, times and link targets.
#[test]
fn ls_and_umoci_agree() {
    if Umoci::find().is_none() {
        return;
    }
    let yard = layered();
    let settings = Settings { entrypoint: &["/bin/sh"], cmd: &["-c", "true"] };
    if let Some(busybox) = bases::busybox_by_umoci(&yard.scratch, &settings) {
        let base = busybox.location();
        yard.text(&format!("layout out -q -t three --base {base} --copy app:/opt/app"));
    }
    for name in ["one", "two", "three"] {
        let listed = yard.run(&format!("ls out:{name} -R --format json"));
        let Ok(listed) = serde_json::from_slice::<Vec<Value>>(&listed.stdout) else { continue };
        let bundle = format!("bundle-{name}");
        let mut unpack = command("umoci");
        unpack.args(["unpack", "--image", &format!("out:{name}"), &bundle]).current_dir(yard.scratch.path());
        run(&mut unpack).success();
        let mut unpacked = BTreeMap::new();
        walk(&yard.scratch.path().join(bundle).join("rootfs"), "", &mut unpacked);
        for entry in &listed {
            let path = entry["path"].as_str().unwrap();
            let line = unpacked.remove(path).unwrap_or_else(|| panic!("{name}: umoci has no {path}"));
            assert_eq!(line, described(entry), "{name}: {path}");
        }
        assert!(unpacked.is_empty(), "{name}: not listed: {unpacked:?}");
    }
}

fn described(entry: &Value) -> String {
    let mode = &entry["mode"].as_str().unwrap();
    match entry["type"].as_str().unwrap() {
        "file" => format!("file {mode} {} {} {}", entry["uid"], entry["gid"], entry["mtime"]),
        "hardlink" => format!("file {mode} {} {} {}", entry["uid"], entry["gid"], entry["mtime"]),
        "directory" => format!("directory {mode} {} {}", entry["uid"], entry["gid"]),
        "symlink" => format!("symlink {}", entry["target"].as_str().unwrap()),
        other => other.to_owned(),
    }
}

fn walk(directory: &Path, above: &str, found: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{above}/{}", entry.file_name().to_str().unwrap());
        let metadata = entry.path().symlink_metadata().unwrap();
        let mode = format!("{:04o}", metadata.mode() & 0o7777);
        let (uid, gid) = (metadata.uid(), metadata.gid());
        let line = if metadata.is_symlink() {
            format!("symlink {}", fs::read_link(entry.path()).unwrap().display())
        } else if metadata.is_dir() {
            format!("directory {mode} {uid} {gid}")
        } else {
            format!("file {mode} {uid} {gid} {}", metadata.mtime())
        };
        if metadata.is_dir() {
            walk(&entry.path(), &path, found);
        }
        found.insert(path, line);
    }
}
