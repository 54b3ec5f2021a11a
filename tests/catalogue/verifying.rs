//! Row L17: layouts with one seeded fault each, which `verify` names, and layouts of others, in which it finds none.

use super::contract::{Bench, copy_directory, is_whole};
use super::forge::{self, Forged, GZIP, INDEX, Member, PLAIN, ZSTD};
use crate::bases;
use crate::consumers::{Buildah, Layout as Image, Settings, Skopeo, Umoci};
use crate::support::{Scratch, is_left_out, run};
use serde_json::json;
use std::fs;
use std::path::Path;

/// Every fault that `verify` finds in the layout, by the program.
#[track_caller]
fn faults(row: &str, layout: &Path) -> Vec<String> {
    let bench = Bench::empty();
    let text = run(bench.command(&["verify", "--quiet"]).arg(layout));
    let json = run(bench.command(&["verify", "--quiet", "--format", "json"]).arg(layout));
    assert_eq!(text.status, json.status, "{row}");
    let report: serde_json::Value = serde_json::from_str(json.text()).unwrap();
    let reported: Vec<String> = report["faults"]
        .as_array()
        .unwrap()
        .iter()
        .map(|fault| format!("{}: {}", fault["object"].as_str().unwrap(), fault["reason"].as_str().unwrap()))
        .collect();
    let lines: Vec<String> = text.text().lines().map(str::to_owned).collect();
    assert_eq!(lines, reported, "{row}");
    assert_eq!(text.status, i32::from(!reported.is_empty()), "{row}: {text}");
    reported
}

/// What a fault is called, how it is planted, and the words that name it.
type Seed<'a> = (&'a str, &'a dyn Fn(&Forged), &'a str);

/// Each layout has exactly one fault, and these are its words.
#[track_caller]
fn each_is_named(seeds: &[Seed<'_>]) {
    for (name, seed, words) in seeds {
        let scratch = Scratch::new();
        let layout = Forged::new(scratch.join("layout"));
        is_whole("L17", &layout.directory);
        seed(&layout);
        let faults = faults(&format!("L17 {name}"), &layout.directory);
        assert_eq!(faults.len(), 1, "L17 {name}: {faults:#?}");
        assert!(faults[0].contains(words), "L17 {name}: {faults:#?}");
    }
}

fn change(layout: &Forged, digest: &str, edit: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(layout.blob(digest)).unwrap();
    edit(&mut bytes);
    fs::write(layout.blob(digest), bytes).unwrap();
}

#[test]
fn l17_damaged_blobs_are_found() {
    if is_left_out() {
        return;
    }
    let flip = |bytes: &mut Vec<u8>| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
    };
    each_is_named(&[
        ("bit flip in a layer", &|it| change(it, &it.layer_digest(), flip), "its content has the digest sha256:"),
        ("bit flip in a config", &|it| change(it, &it.config_digest(), flip), "its content has the digest sha256:"),
        ("bit flip in a manifest", &|it| change(it, &it.manifest_digest(), flip), "its content has the digest sha256:"),
        ("missing layer", &|it| fs::remove_file(it.blob(&it.layer_digest())).unwrap(), "missing"),
        ("missing config", &|it| fs::remove_file(it.blob(&it.config_digest())).unwrap(), "missing"),
        (
            "layer is a directory",
            &|it| {
                let blob = it.blob(&it.layer_digest());
                fs::remove_file(&blob).unwrap();
                fs::create_dir(blob).unwrap();
            },
            "not a regular file",
        ),
        (
            "layer size lie",
            &|it| it.edit_manifest(|manifest| manifest["layers"][0]["size"] = json!(1)),
            "expected 1 bytes, found",
        ),
        (
            "config size lie",
            &|it| it.edit_manifest(|manifest| manifest["config"]["size"] = json!(1)),
            "expected 1 bytes, found",
        ),
        (
            "manifest size lie",
            &|it| it.edit_index(|index| index["manifests"][0]["size"] = json!(1)),
            "expected 1 bytes, found",
        ),
    ]);
    // Truncated: the size and the digest are wrong, and both are reported.
    let scratch = Scratch::new();
    let layout = Forged::new(scratch.join("layout"));
    change(&layout, &layout.layer_digest(), |bytes| bytes.truncate(9));
    let reported = faults("L17", &layout.directory);
    assert!(
        reported.len() == 2 && reported[0].contains("bytes, found 9") && reported[1].contains("has the digest"),
        "L17: {reported:?}"
    );
}

#[test]
fn l17_wrong_and_malformed_documents_are_found() {
    if is_left_out() {
        return;
    }
    let other = forge::digest(b"another tar");
    each_is_named(&[
        (
            "wrong diff ID",
            &|it| it.edit_config(|config| config["rootfs"]["diff_ids"][0] = json!(other)),
            "expected the diff ID",
        ),
        (
            "extra diff ID",
            &|it| {
                it.edit_config(|config| {
                    let first = config["rootfs"]["diff_ids"][0].clone();
                    config["rootfs"]["diff_ids"] = json!([first, other]);
                    config.as_object_mut().unwrap().remove("history");
                })
            },
            "1 layer but 2 diff IDs",
        ),
        (
            "absent diff IDs",
            &|it| {
                it.edit_config(|config| {
                    config["rootfs"]["diff_ids"] = json!([]);
                })
            },
            "1 layer but 0 diff IDs",
        ),
        (
            "history longer than layers",
            &|it| it.edit_config(|config| config["history"] = json!([{}, {}])),
            "the history has 2 layers, the image has 1",
        ),
        (
            "doubled tag",
            &|it| {
                let first = it.index()["manifests"][0].clone();
                it.edit_index(|index| index["manifests"] = json!([first, first]));
            },
            "two entries have the name `base`",
        ),
        (
            "platform lie",
            &|it| {
                it.edit_index(|index| {
                    index["manifests"][0]["platform"] = json!({"os": "linux", "architecture": "arm64"});
                })
            },
            "is listed for linux/arm64, but is for linux/amd64",
        ),
        (
            "plain layer called gzip",
            &|it| {
                let tar = forge::tar(&[Member::file("a", b"1")]);
                it.set_layer(&tar, GZIP, &tar);
            },
            "declared as `application/vnd.oci.image.layer.v1.tar+gzip`, but is not compressed",
        ),
        (
            "gzip layer called plain",
            &|it| {
                let tar = forge::tar(&[Member::file("a", b"1")]);
                it.set_layer(&forge::gzip(&tar), PLAIN, &tar);
            },
            "but is gzip",
        ),
        (
            "zstd layer called gzip",
            &|it| {
                let tar = forge::tar(&[Member::file("a", b"1")]);
                it.set_layer(&zstd::bulk::compress(&tar, 1).unwrap(), GZIP, &tar);
            },
            "but is zstd",
        ),
        (
            "manifest called an index",
            &|it| it.edit_index(|index| index["manifests"][0]["mediaType"] = json!(INDEX)),
            "has the media type",
        ),
        ("manifest of two faces", &|it| it.edit_manifest(|manifest| manifest["manifests"] = json!([])), "ambiguous"),
        (
            "duplicate key in the index",
            &|it| it.write("index.json", it.index().to_string().replacen('{', r#"{"schemaVersion":2,"#, 1)),
            "duplicate key \"schemaVersion\"",
        ),
        (
            "duplicate key in a manifest",
            &|it| it.set_manifest(it.manifest().to_string().replacen('{', r#"{"schemaVersion":2,"#, 1).as_bytes()),
            "duplicate key \"schemaVersion\"",
        ),
        (
            "duplicate key in a config",
            &|it| it.set_config(it.config().to_string().replacen('{', r#"{"os":"linux","#, 1).as_bytes()),
            "duplicate key \"os\"",
        ),
        (
            "trailing data in the index",
            &|it| it.write("index.json", format!("{}{{}}", it.index())),
            "trailing characters",
        ),
        (
            "trailing data in a manifest",
            &|it| it.set_manifest(format!("{}{{}}", it.manifest()).as_bytes()),
            "trailing characters",
        ),
        (
            "trailing data in a config",
            &|it| it.set_config(format!("{}{{}}", it.config()).as_bytes()),
            "trailing characters",
        ),
        (
            "config without a platform",
            &|it| it.edit_config(|config| drop(config.as_object_mut().unwrap().remove("os"))),
            "has no `os`",
        ),
        (
            "Entrypoint of the wrong type",
            &|it| it.edit_config(|config| config["config"]["Entrypoint"] = json!("sh")),
            "`Entrypoint`: expected",
        ),
        ("index nested too deeply", &|it| it.nest_in_indexes(6), "nested too deeply"),
        ("no index", &|it| fs::remove_file(it.directory.join("index.json")).unwrap(), "index.json: not found"),
    ]);
}

/// A fault in the tar of a layer, by its bytes as stored, what they are called, and the tar that the config names.
type LayerFault = (&'static str, Vec<u8>, &'static str, Vec<u8>, &'static str);

#[test]
fn l17_malformed_tars_in_layers_are_found() {
    if is_left_out() {
        return;
    }
    let file = || Member::file("a", b"1");
    let plain = |name, tar: Vec<u8>, words| -> LayerFault { (name, tar.clone(), PLAIN, tar, words) };
    let whole = forge::tar(&[file()]);
    let zstd = zstd::bulk::compress(&whole, 1).unwrap();
    let lying = Member { size_field: Some(b"00000002000\0".to_vec()), ..file() };
    let mut flipped = forge::gzip(&whole);
    let sum = flipped.len() - 6;
    flipped[sum] ^= 1;
    let seeds: Vec<LayerFault> = vec![
        plain("duplicate path", forge::tar(&[file(), file()]), "duplicate path `a`"),
        plain("one path in two spellings", forge::tar(&[file(), Member::file("./a", b"")]), "duplicate path `./a`"),
        plain("a file and a directory", forge::tar(&[file(), Member::of(b'5', "a/", b"")]), "duplicate path `a`"),
        plain("`..`", forge::tar(&[Member::file("../a", b"1")]), "the entry `../a` is unsafe"),
        plain(
            "an absolute path",
            forge::tar(&[Member::file("/a", b"1")]),
            "the entry `/a` is unsafe: an absolute path",
        ),
        plain("missing end", forge::unended(&[file()]), "the two zero blocks that end a tar are missing"),
        plain(
            "half an end",
            [forge::unended(&[file()]), vec![0; 512]].concat(),
            "the two zero blocks that end a tar are missing",
        ),
        plain(
            "trailing data after the end",
            [whole.clone(), vec![b'x'; 512]].concat(),
            "trailing data after the end of the archive",
        ),
        plain(
            "bad checksum",
            forge::tar(&[Member { checksum_field: Some(b"000001\0 ".to_vec()), ..file() }]),
            "bad header checksum",
        ),
        plain("swallowed entry", forge::tar(&[lying.clone(), Member::file("next", b"no header")]), "malformed tar"),
        plain(
            "swallowed end",
            forge::tar(std::slice::from_ref(&lying)),
            "the two zero blocks that end a tar are missing",
        ),
        plain("cut in a file", forge::unended(&[lying]), "unexpected end inside a file"),
        plain(
            "smuggled bytes",
            {
                let mut tar = forge::tar(&[file()]);
                tar[700] = b'x';
                tar
            },
            "nonzero padding after the content of `a`",
        ),
        plain("sparse entry", forge::tar(&[Member::of(b'S', "a", b"")]), "sparse entries are not supported"),
        plain(
            "single zero block",
            [forge::unended(&[file()]), vec![0; 512], whole.clone()].concat(),
            "a single zero block",
        ),
        plain("not a tar", vec![b'x'; 2048], "malformed tar"),
        (
            "garbage behind the gzip",
            [forge::gzip(&whole), b"garbage".to_vec()].concat(),
            GZIP,
            whole.clone(),
            "trailing data after the gzip stream",
        ),
        ("checksum of the gzip", flipped, GZIP, whole.clone(), "checksum mismatch"),
        ("half a gzip", forge::gzip(&whole)[..40].to_vec(), GZIP, whole.clone(), "truncated"),
        ("half a zstd", zstd[..zstd.len() - 3].to_vec(), ZSTD, whole.clone(), "truncated"),
        (
            "a second member that is none of the image",
            [forge::gzip(&whole), forge::gzip(&forge::tar(&[Member::file("b", b"")]))].concat(),
            GZIP,
            whole.clone(),
            "expected the diff ID",
        ),
    ];
    for (name, stored, media_type, tar, words) in seeds {
        let scratch = Scratch::new();
        let layout = Forged::new(scratch.join("layout"));
        layout.set_layer(&stored, media_type, &tar);
        let reported = faults(name, &layout.directory);
        assert!(reported.iter().any(|fault| fault.contains(words)), "L17 {name}: {reported:#?}");
        assert!(
            reported.iter().all(|fault| fault.starts_with(&format!("blob {}", layout.layer_digest()))),
            "L17 {name}: {reported:#?}"
        );
    }
}

#[test]
fn l17_unusual_layouts_are_valid() {
    let harmless: [Seed<'_>; 6] = [
        (
            "an unreferenced blob",
            &|it| drop(it.descriptor("x", b"nobody needs it")),
            "1 blob not referenced by any image",
        ),
        (
            "a stranger's file",
            &|it| it.write("blobs/sha256/README", "x"),
            "blobs/sha256/README: not the name of a blob",
        ),
        (
            "two members",
            &|it| {
                let tar = forge::tar(&[Member::file("a", b"1")]);
                it.set_layer(&[forge::gzip(&tar[..100]), forge::gzip(&tar[100..])].concat(), GZIP, &tar);
            },
            "",
        ),
        (
            "zeros behind the gzip",
            &|it| {
                let tar = forge::tar(&[Member::file("a", b"1")]);
                it.set_layer(&[forge::gzip(&tar), vec![0; 1000]].concat(), GZIP, &tar);
            },
            "",
        ),
        (
            // M64: never called whole.
            "an encrypted layer",
            &|it| {
                it.edit_manifest(|manifest| {
                    manifest["layers"][0]["mediaType"] = json!("application/vnd.oci.image.layer.v1.tar+gzip+encrypted");
                })
            },
            "",
        ),
        (
            "the lock and files in the making",
            &|it| {
                it.write(".ocibuild.lock", "pid 1");
                it.write("blobs/sha256/.ocibuild-00000000000000000000000000000000", "half");
            },
            "",
        ),
    ];
    for (name, make, warning) in harmless {
        let bench = Bench::empty();
        let layout = Forged::new(&bench.out);
        make(&layout);
        let verified = run(&mut bench.command(&["verify", "out", "-q"]));
        assert_eq!(verified.status, 0, "L17 {name}: {verified}");
        assert!(
            verified.stderr.contains(warning) && verified.stderr.is_empty() == warning.is_empty(),
            "L17 {name}: {verified}"
        );
    }
}

#[test]
fn l17_every_fault_of_a_layout_in_one_run() {
    let scratch = Scratch::new();
    let layout = Forged::new(scratch.join("layout"));
    layout.edit_config(|config| config["history"] = json!([{}, {}, {}]));
    let first = layout.index()["manifests"][0].clone();
    layout.edit_index(|index| index["manifests"] = json!([first, first]));
    change(&layout, &layout.layer_digest(), |bytes| bytes.push(0));
    let stray = layout.descriptor("x", b"stray");
    change(&layout, stray["digest"].as_str().unwrap(), |bytes| bytes[0] = b'S');
    let reported = faults("L17", &layout.directory);
    for words in ["the history has 3 layers", "two entries have the name", "bytes, found", "its content has the digest"]
    {
        assert!(reported.iter().any(|fault| fault.contains(words)), "L17 {words}: {reported:#?}");
    }
    assert_eq!(reported.len(), 5, "L17: {reported:#?}");
    let mut sorted = reported.clone();
    sorted.sort();
    assert_eq!(reported, sorted, "L17");
}

#[test]
fn l17_paths_that_are_not_layouts_are_refused() {
    let bench = Bench::empty();
    bench.scratch.write("file", "x");
    fs::create_dir(bench.scratch.join("empty")).unwrap();
    bench.refuses("L17", &mut bench.command(&["verify", "absent"]), &["absent: not found"]);
    bench.refuses("L17", &mut bench.command(&["verify", "file"]), &["file: "]);
    bench.refuses(
        "L17",
        &mut bench.command(&["verify", "empty"]),
        &["empty: not an OCI layout: `oci-layout` is missing"],
    );
    let layout = Forged::new(&bench.out);
    layout.write("oci-layout", r#"{"imageLayoutVersion":"2.0.0"}"#);
    bench.command(&["verify", "out"]);
    let refused = run(&mut bench.command(&["verify", "out"])).ended_with(1);
    super::contract::is_one_line("L17", &refused, &["out: not an OCI layout", "layout version 2.0.0"]);
}

#[test]
fn l17_layouts_by_umoci_skopeo_and_buildah_are_whole() {
    let scratch = Scratch::new();
    let settings = Settings { entrypoint: &["/bin/sh"], cmd: &["-c", "true"] };
    if Umoci::find().is_some()
        && let Some(by_umoci) = bases::busybox_by_umoci(&scratch, &settings)
    {
        is_whole("L17 umoci", &by_umoci.path);
        if let Some(skopeo) = Skopeo::find() {
            let by_skopeo = Image::new(scratch.join("by-skopeo"), "busybox");
            skopeo.copy(&[], &by_umoci.location(), &by_skopeo.location()).success();
            is_whole("L17 skopeo", &by_skopeo.path);
            let zstd = bases::with_zstd(&scratch, &by_umoci).unwrap();
            is_whole("L17 skopeo, zstd", &zstd.path);
        }
    }
    if Buildah::find().is_some()
        && let Some(by_buildah) = bases::busybox_by_buildah(&scratch)
    {
        is_whole("L17 buildah", &by_buildah.path);
    }
    // A copy by the plainest of tools.
    let bench = Bench::keeping();
    copy_directory(&bench.out, &bench.scratch.join("copy"));
    is_whole("L17", &bench.scratch.join("copy"));
}

/// M64: a layer that cannot be read is not called whole.
#[test]
fn l17_a_layer_of_an_unknown_type_is_not_read() {
    let bench = Bench::empty();
    let layout = Forged::new(&bench.out);
    let unknown = "application/vnd.oci.image.layer.v1.tar+gzip+encrypted";
    layout.edit_manifest(|manifest| manifest["layers"][0]["mediaType"] = json!(unknown));
    let verified = run(&mut bench.command(&["verify", "out"])).success();
    assert!(verified.text().contains(&format!(": not read, unknown type `{unknown}`")), "{verified}");
    assert!(verified.text().ends_with(": no errors found, 1 layer not read"), "{verified}");
    assert!(!verified.text().contains("whole"), "{verified}");
    let json = run(&mut bench.command(&["verify", "out", "--format", "json"])).success();
    let report: serde_json::Value = serde_json::from_str(json.text()).unwrap();
    assert_eq!(report["notRead"][0]["mediaType"], unknown);
}
