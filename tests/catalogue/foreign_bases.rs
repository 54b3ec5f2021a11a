//! Rows B1 to B41: base images in layouts that lie, are damaged, or are only unusual.

use super::contract::{Bench, is_whole};
use super::forge::{self, CONFIG, Forged, GZIP, INDEX, MANIFEST, Member, PLAIN, ZSTD};
use crate::support::run;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;

/// A fault, and the words that name it.
type Fault<'a> = (&'a str, &'a dyn Fn(&Forged), &'a [&'a str]);

/// Builds on each faulty base, into nothing and into a layout with an image, and expects the refusal.
#[track_caller]
fn each_is_refused(faults: &[Fault<'_>]) {
    for (row, forge, words) in faults {
        for bench in [Bench::empty(), Bench::keeping()] {
            let base = Forged::new(bench.scratch.join("base"));
            forge(&base);
            let mut build = bench.layout();
            build.arg("--base").arg(base.location()).arg("--copy").arg(format!("{}:/srv", bench.source().display()));
            bench.refuses(row, &mut build, words);
        }
    }
}

/// Builds on the base, which must work, and answers the manifest and config of the image and what was warned of.
#[track_caller]
fn builds_on(row: &str, forge: &dyn Fn(&Forged), arguments: &[&str]) -> (Value, Value, String) {
    let bench = Bench::keeping();
    let base = Forged::new(bench.scratch.join("base"));
    forge(&base);
    let mut build = bench.layout();
    build.args(["--tag", "new", "--base"]).arg(base.location()).args(arguments);
    build.arg("--copy").arg(format!("{}:/srv", bench.source().display()));
    let built = run(&mut build);
    assert_eq!(built.status, 0, "{row}: {built}");
    bench.is_intact(row);
    let out = crate::consumers::Layout::new(&bench.out, "new");
    assert_eq!(built.text(), out.manifest_digest(), "{row}");
    (out.manifest(), out.config(), built.stderr)
}

/// Flips a bit in the middle of a blob.
fn damage(base: &Forged, digest: &str) {
    let mut bytes = fs::read(base.blob(digest)).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(base.blob(digest), bytes).unwrap();
}

fn resize(base: &Forged, digest: &str, size: impl Fn(u64) -> u64) {
    let file = fs::File::options().write(true).open(base.blob(digest)).unwrap();
    let length = file.metadata().unwrap().len();
    file.set_len(size(length)).unwrap();
}

#[test]
fn b1_b3_bytes_that_do_not_have_their_digest_are_refused() {
    each_is_refused(&[
        ("B1", &|base| damage(base, &base.manifest_digest()), &["blob sha256:", "its content has the digest sha256:"]),
        ("B3", &|base| damage(base, &base.config_digest()), &["blob sha256:", "its content has the digest sha256:"]),
        ("B3", &|base| damage(base, &base.layer_digest()), &["base image: ", "its content has the digest sha256:"]),
    ]);
}

#[test]
fn b4_blobs_of_another_length_are_refused() {
    each_is_refused(&[
        ("B4", &|base| resize(base, &base.layer_digest(), |size| size - 1), &["bytes, found"]),
        ("B4", &|base| resize(base, &base.layer_digest(), |_| 0), &["bytes, found 0"]),
        ("B4", &|base| resize(base, &base.layer_digest(), |size| size + 1), &["longer than its"]),
        // A sparse file of a tebibyte: reading on until its end would take hours.
        ("B4", &|base| resize(base, &base.layer_digest(), |_| 1 << 40), &["longer than its"]),
        ("B4", &|base| resize(base, &base.config_digest(), |_| 1 << 40), &["longer than its"]),
        ("B4", &|base| resize(base, &base.manifest_digest(), |_| 1 << 40), &["longer than its"]),
    ]);
}

#[test]
fn b5_b6_sizes_that_are_none_are_refused() {
    let impossible =
        [json!(-1), json!(9_007_199_254_740_992_u64), json!(1_u64 << 63), json!(2.0), json!("12"), json!([])];
    for size in &impossible {
        each_is_refused(&[
            ("B5", &|base| base.edit_manifest(|it| it["layers"][0]["size"] = size.clone()), &["`size`: expected"]),
            ("B5", &|base| base.edit_manifest(|it| it["config"]["size"] = size.clone()), &["`size`: expected"]),
            ("B5", &|base| base.edit_index(|it| it["manifests"][0]["size"] = size.clone()), &["`size`: expected"]),
        ]);
    }
    each_is_refused(&[
        (
            "B5",
            &|base| base.edit_manifest(|it| it["layers"][0]["size"] = Value::Null),
            &["a descriptor without `size`"],
        ),
        ("B5", &|base| base.edit_manifest(|it| it["layers"][0]["size"] = json!(0)), &["longer than its 0 bytes"]),
        ("B5", &|base| base.edit_index(|it| it["manifests"][0]["size"] = json!(0)), &["longer than its 0 bytes"]),
        ("B6", &|base| base.edit_manifest(|it| it["config"]["size"] = json!(7)), &["longer than its 7 bytes"]),
        ("B6", &|base| base.edit_manifest(|it| it["config"]["size"] = json!(7000)), &["expected 7000 bytes, found"]),
    ]);
}

#[test]
fn b7_text_that_is_no_digest_is_refused_before_anything_is_opened() {
    let hex = "0123456789abcdef".repeat(4);
    let bad = [
        format!("sha256:{}", &hex[1..]),
        format!("sha256:{hex}0"),
        format!("sha256:{}", hex.to_uppercase()),
        format!("md5:{}", &hex[..32]),
        "sha256:../../../../etc/passwd".to_owned(),
        hex.clone(),
        String::new(),
        format!("sha256:{hex}\n"),
        format!("sha512:{hex}"),
    ];
    for digest in &bad {
        each_is_refused(&[
            ("B7", &|base| base.edit_manifest(|it| it["layers"][0]["digest"] = json!(digest)), &["invalid digest"]),
            ("B7", &|base| base.edit_manifest(|it| it["config"]["digest"] = json!(digest)), &["invalid digest"]),
            ("B7", &|base| base.edit_index(|it| it["manifests"][0]["digest"] = json!(digest)), &["invalid digest"]),
            ("B7", &|base| base.edit_config(|it| it["rootfs"]["diff_ids"][0] = json!(digest)), &["invalid digest"]),
        ]);
    }
}

#[test]
fn b8_sha512_is_verified_and_passed_through() {
    use sha2::Digest as _;
    let sha512 = |bytes: &[u8]| {
        let hex: String = sha2::Sha512::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("sha512:{hex}")
    };
    let move_layer = |base: &Forged| {
        let layer = fs::read(base.blob(&base.layer_digest())).unwrap();
        fs::create_dir(base.directory.join("blobs/sha512")).unwrap();
        fs::rename(base.blob(&base.layer_digest()), base.blob(&sha512(&layer))).unwrap();
        base.edit_manifest(|it| it["layers"][0]["digest"] = sha512(&layer).into());
    };
    let (manifest, _, _) = builds_on("B8", &move_layer, &[]);
    assert!(manifest["layers"][0]["digest"].as_str().unwrap().starts_with("sha512:"));
    let damaged = |base: &Forged| {
        move_layer(base);
        damage(base, &base.layer_digest());
    };
    each_is_refused(&[("B8", &damaged, &["its content has the digest sha512:"])]);
}

#[test]
fn b9_only_regular_files_are_blobs() {
    let replace = |base: &Forged, digest: &str, with: &str| {
        let blob = base.blob(digest);
        match with {
            "link inside" => {
                fs::rename(&blob, base.directory.join("moved")).unwrap();
                symlink("../../moved", &blob).unwrap();
            }
            "link outside" => {
                fs::rename(&blob, base.directory.with_file_name("moved")).unwrap();
                symlink(base.directory.with_file_name("moved"), &blob).unwrap();
            }
            "endless" => {
                fs::remove_file(&blob).unwrap();
                symlink("/dev/zero", &blob).unwrap();
            }
            "pipe" => {
                fs::remove_file(&blob).unwrap();
                let mode = rustix::fs::Mode::from_raw_mode(0o600);
                rustix::fs::mknodat(rustix::fs::CWD, &blob, rustix::fs::FileType::Fifo, mode, 0).unwrap();
            }
            _ => {
                fs::remove_file(&blob).unwrap();
                fs::create_dir(&blob).unwrap();
            }
        }
    };
    for with in ["link inside", "link outside", "endless", "pipe", "directory"] {
        each_is_refused(&[
            ("B9", &|base| replace(base, &base.layer_digest(), with), &["not a regular file"]),
            ("B9", &|base| replace(base, &base.config_digest(), with), &["not a regular file"]),
            ("B9", &|base| replace(base, &base.manifest_digest(), with), &["not a regular file"]),
        ]);
    }
}

#[test]
fn b10_b12_documents_of_two_faces_are_refused() {
    each_is_refused(&[
        ("B10", &|base| base.edit_manifest(|it| it["mediaType"] = json!(INDEX)), &["calls itself"]),
        (
            "B10",
            &|base| base.edit_index(|it| it["manifests"][0]["mediaType"] = json!(INDEX)),
            &["calls itself", "referred to as"],
        ),
        ("B10", &|base| base.edit_index(|it| it["mediaType"] = json!(MANIFEST)), &["index.json", "calls itself"]),
        ("B12", &|base| base.edit_manifest(|it| it["manifests"] = json!([])), &["ambiguous"]),
        ("B12", &|base| base.edit_index(|it| it["layers"] = json!([])), &["index.json", "ambiguous"]),
        ("B12", &|base| base.edit_index(|it| it["config"] = json!({})), &["index.json", "ambiguous"]),
    ]);
}

#[test]
fn b13_a_document_without_media_type_is_what_its_referrer_says() {
    let forget = |base: &Forged| {
        base.edit_manifest(|it| drop(it.as_object_mut().unwrap().remove("mediaType")));
        base.edit_index(|it| drop(it.as_object_mut().unwrap().remove("mediaType")));
    };
    let (manifest, _, _) = builds_on("B13", &forget, &[]);
    assert_eq!(manifest["mediaType"], MANIFEST);
}

/// Makes a JSON object longer by an annotation, until it is `size` bytes.
fn padded(mut document: Value, size: usize) -> Vec<u8> {
    document["annotations"] = json!({"padding": ""});
    let missing = size - document.to_string().len();
    document["annotations"]["padding"] = "x".repeat(missing).into();
    document.to_string().into_bytes()
}

#[test]
fn b14_b15_documents_are_read_up_to_a_limit() {
    const LIMIT: usize = 8 << 20;
    builds_on("B14", &|base| base.set_manifest(&padded(base.manifest(), LIMIT)), &[]);
    each_is_refused(&[
        ("B14", &|base| base.set_manifest(&padded(base.manifest(), LIMIT + 1)), &["blob sha256:", "larger than 8 MiB"]),
        ("B14", &|base| base.write("index.json", padded(base.index(), LIMIT + 1)), &["index.json: larger than 8 MiB"]),
        ("B15", &|base| base.set_config(&padded(base.config(), LIMIT + 1)), &["blob sha256:", "larger than 8 MiB"]),
        // At the limit it is read, but with our own layer's history it would pass it.
        ("B15", &|base| base.set_config(&padded(base.config(), LIMIT)), &["config", "larger than 8 MiB"]),
    ]);
}

#[test]
fn b16_nesting_is_refused_before_the_stack_overflows() {
    let nested = |document: Value| {
        let deep = format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
        let text = document.to_string();
        format!("{},\"deep\":{deep}}}", &text[..text.len() - 1]).into_bytes()
    };
    each_is_refused(&[
        ("B16", &|base| base.set_manifest(&nested(base.manifest())), &["nesting too deep"]),
        ("B16", &|base| base.set_config(&nested(base.config())), &["nesting too deep"]),
        ("B16", &|base| base.write("index.json", nested(base.index())), &["index.json", "nesting too deep"]),
    ]);
}

#[test]
fn b17_b18_lists_and_nested_indexes_are_bounded() {
    let repeat = |value: &mut Value, count: usize| *value = vec![value[0].clone(); count].into();
    each_is_refused(&[
        ("B17", &|base| base.edit_index(|it| repeat(&mut it["manifests"], 10_001)), &["10001 manifests, more than"]),
        ("B17", &|base| base.edit_manifest(|it| repeat(&mut it["layers"], 501)), &["501 layers, more than 500"]),
        ("B18", &|base| base.nest_in_indexes(5), &["nesting of indexes deeper than 4"]),
    ]);
    builds_on("B18", &|base| base.nest_in_indexes(4), &[]);
}

#[test]
fn b17_as_many_layers_as_allowed_can_be_built_on_but_not_passed() {
    let many = |count: usize| {
        move |base: &Forged| {
            base.edit_manifest(|it| it["layers"] = vec![it["layers"][0].clone(); count].into());
            base.edit_config(|it| {
                it["rootfs"]["diff_ids"] = vec![it["rootfs"]["diff_ids"][0].clone(); count].into();
                it.as_object_mut().unwrap().remove("history");
            });
        }
    };
    let (manifest, config, warned) = builds_on("B17", &many(499), &[]);
    assert_eq!(manifest["layers"].as_array().unwrap().len(), 500);
    assert_eq!(config["history"].as_array().unwrap().len(), 500);
    assert!(warned.contains("500 layers, and Docker runs no image of more than 125"), "{warned}");
    // M62: 125 run.
    for (count, is_warned) in [(124, false), (125, true)] {
        let (_, _, warned) = builds_on("B17", &many(count), &[]);
        assert_eq!(warned.contains("Docker runs no image of more than 125"), is_warned, "{count}: {warned}");
    }
    each_is_refused(&[("B17", &many(500), &["501 layers, more than 500"])]);
}

#[test]
fn b19_documents_that_two_parsers_read_differently_are_refused() {
    type Spoil = fn(&str) -> Vec<u8>;
    let spoilt: [(Spoil, &str); 5] = [
        (
            |text| text.replacen('{', r#"{"schemaVersion":2,"schemaVersion":2,"os":"linux","os":"linux","#, 1).into(),
            "duplicate key",
        ),
        (|text| format!("\u{feff}{text}").into(), "byte order mark"),
        (|text| text.replacen('{', r#"{"not":NaN,"#, 1).into(), "not JSON"),
        (|text| format!("{text}{{}}").into(), "trailing characters"),
        (|text| [&text.as_bytes()[..1], b"\"\xff\":1,", &text.as_bytes()[1..]].concat(), "not JSON"),
    ];
    for (spoil, reason) in spoilt {
        // The key that is doubled is in the document already, or comes twice by itself.
        each_is_refused(&[
            ("B19", &|base| base.set_manifest(&spoil(&base.manifest().to_string())), &[reason]),
            ("B19", &|base| base.set_config(&spoil(&base.config().to_string())), &[reason]),
            ("B19", &|base| base.write("index.json", spoil(&base.index().to_string())), &["index.json: ", reason]),
            (
                "B19",
                &|base| base.write("oci-layout", spoil(r#"{"imageLayoutVersion":"1.0.0"}"#)),
                &["oci-layout", reason],
            ),
        ]);
    }
    let deep = r#"{"a":{"b":[{"c":1,"c":1}]},"#;
    each_is_refused(&[(
        "B19",
        &|base| base.set_config(base.config().to_string().replacen('{', deep, 1).as_bytes()),
        &["duplicate key \"c\""],
    )]);
}

#[test]
fn b20_docker_schema_1_is_refused_with_a_hint() {
    let signed = json!({"schemaVersion": 1, "name": "a", "tag": "b", "fsLayers": [], "history": [], "signatures": []});
    let mut unsigned = signed.clone();
    unsigned.as_object_mut().unwrap().remove("signatures");
    each_is_refused(&[
        ("B20", &|base| base.set_manifest(signed.to_string().as_bytes()), &["schema 1 is not supported", "("]),
        ("B20", &|base| base.set_manifest(unsigned.to_string().as_bytes()), &["schema 1 is not supported", "("]),
    ]);
}

#[test]
fn b21_docker_media_types_become_ocis_everywhere() {
    let docker = |base: &Forged| {
        base.edit_manifest(|it| {
            it["mediaType"] = json!("application/vnd.docker.distribution.manifest.v2+json");
            it["config"]["mediaType"] = json!("application/vnd.docker.container.image.v1+json");
            it["layers"][0]["mediaType"] = json!("application/vnd.docker.image.rootfs.diff.tar.gzip");
        });
        base.edit_index(|it| it["manifests"][0]["mediaType"] = base.manifest()["mediaType"].clone());
        base.nest_in_indexes(1);
        let list = "application/vnd.docker.distribution.manifest.list.v2+json";
        let nested = base.manifest().to_string().replacen(INDEX, list, 1);
        base.set_manifest(nested.as_bytes());
        base.edit_index(|it| it["manifests"][0]["mediaType"] = json!(list));
    };
    let (manifest, _, _) = builds_on("B21", &docker, &[]);
    assert_eq!(manifest["mediaType"], MANIFEST);
    assert_eq!(manifest["config"]["mediaType"], CONFIG);
    assert_eq!(manifest["layers"][0]["mediaType"], GZIP);
}

#[test]
fn b22_foreign_layers_are_refused() {
    for media_type in [
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    ] {
        each_is_refused(&[(
            "B22",
            &|base| {
                base.edit_manifest(|it| {
                    it["layers"][0]["mediaType"] = json!(media_type);
                    it["layers"][0]["urls"] = json!(["https://evil.example/layer"]);
                });
            },
            &["base image: ", "a foreign layer"],
        )]);
    }
}

#[test]
fn b23_layers_of_unknown_types_pass_through() {
    for media_type in
        ["application/vnd.oci.image.layer.v1.tar+gzip+encrypted", "application/vnd.wasm.content.layer.v1+wasm"]
    {
        let (manifest, _, warned) =
            builds_on("B23", &|base| base.edit_manifest(|it| it["layers"][0]["mediaType"] = json!(media_type)), &[]);
        assert!(warned.contains("what is in this layer is not known"), "{warned}");
        assert_eq!(manifest["layers"][0]["mediaType"], media_type);
    }
}

/// M64: what a base says about its layers is held against them when it is built on, not only by `verify`.
#[test]
fn b3_layers_that_are_not_what_is_said_of_them_are_refused() {
    let tar = forge::tar(&[Member::file("base", b"from the base\n")]);
    let zstd = zstd::bulk::compress(&tar, 1).unwrap();
    each_is_refused(&[
        ("B3", &|base| base.set_layer(&zstd, GZIP, &tar), &["base image: blob sha256:", "+gzip` and is zstd"]),
        ("B3", &|base| base.set_layer(&tar, GZIP, &tar), &["base image: blob sha256:", "+gzip` and is not compressed"]),
        ("B3", &|base| base.set_layer(b"", GZIP, b""), &["base image: blob sha256:", "a layer of 0 bytes is no tar"]),
        (
            "B3",
            &|base| base.set_layer(&forge::gzip(&tar), GZIP, b"x"),
            &["base image: blob sha256:", "not the diff ID"],
        ),
        (
            "B3",
            &|base| base.set_layer(&forge::gzip(&tar)[..30], GZIP, &tar),
            &["base image: blob sha256:", "truncated"],
        ),
    ]);
}

/// M64: Windows layers have another form.
#[test]
fn b25_windows_bases_are_refused() {
    each_is_refused(&[(
        "B25",
        &|base| base.edit_config(|it| it["os"] = json!("windows")),
        &["base image: is for Windows"],
    )]);
}

/// M64: a builder of a Dockerfile runs these.
#[test]
fn b24_triggers_are_warned_of() {
    let (_, config, warned) =
        builds_on("B24", &|base| base.edit_config(|it| it["config"]["OnBuild"] = json!(["RUN x"])), &[]);
    assert_eq!(config["config"]["OnBuild"], json!(["RUN x"]));
    assert!(warned.contains("base image: it has ONBUILD triggers"), "{warned}");
}

#[test]
fn b24_what_we_do_not_know_is_kept() {
    let unknown = |base: &Forged| {
        base.edit_config(|it| {
            it["config"]["Healthcheck"] = json!({"Test": ["CMD", "true"]});
            it["config"]["OnBuild"] = json!(["RUN x"]);
            it["vendor.example"] = json!({"b": 1, "a": [1.5, null]});
        });
        base.edit_manifest(|it| {
            it["artifactType"] = json!("application/example");
            it["subject"] = json!({"mediaType": "x", "digest": forge::digest(b"x"), "size": 1});
            it["layers"][0]["annotations"] = json!({"kept": "yes"});
        });
    };
    let (manifest, config, _) = builds_on("B24", &unknown, &[]);
    assert_eq!(config["config"]["Healthcheck"]["Test"][0], "CMD");
    assert_eq!(config["config"]["OnBuild"], json!(["RUN x"]));
    assert_eq!(config["vendor.example"], json!({"b": 1, "a": [1.5, null]}));
    assert_eq!(manifest["layers"][0]["annotations"]["kept"], "yes");
    // A copy keeps every byte.
    let bench = Bench::empty();
    let base = Forged::new(bench.scratch.join("base"));
    unknown(&base);
    run(bench.command(&["export", "base:base", "oci:out:base"]).arg("--quiet"))
        .success()
        .printed(&format!("{}\n", base.manifest_digest()));
    is_whole("B24", &bench.out);
}

#[test]
fn b25_artifacts_are_no_bases() {
    each_is_refused(&[
        (
            "B25",
            &|base| base.edit_manifest(|it| it["config"] = base.descriptor("application/vnd.oci.empty.v1+json", b"{}")),
            &["not a runnable image"],
        ),
        (
            "B25",
            &|base| base.edit_index(|it| it["manifests"][0]["mediaType"] = json!("application/vnd.example")),
            &["`application/vnd.example` is neither an image nor an index"],
        ),
    ]);
}

#[test]
fn b26_embedded_data_must_be_the_blob_or_is_passed_over() {
    use base64::Engine as _;
    let data = |base: &Forged, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = fs::read(base.blob(&base.config_digest())).unwrap();
        change(&mut bytes);
        let text = base64::engine::general_purpose::STANDARD.encode(bytes);
        base.edit_manifest(|it| it["config"]["data"] = text.into());
    };
    each_is_refused(&[
        ("B26", &|base| data(base, &|bytes| bytes[3] ^= 1), &["the embedded data of sha256:"]),
        ("B26", &|base| data(base, &|bytes| bytes.truncate(3)), &["the embedded data of sha256:"]),
        ("B26", &|base| base.edit_manifest(|it| it["config"]["data"] = json!("not base64!")), &["is not base64"]),
    ]);
    builds_on("B26", &|base| data(base, &|_| {}), &[]);
    builds_on("B26", &|base| data(base, &|bytes| bytes.resize(1 << 20, 0)), &[]);
}

#[test]
fn b27_diff_ids_and_layers_must_be_as_many() {
    each_is_refused(&[
        ("B27", &|base| base.edit_config(|it| it["rootfs"]["diff_ids"] = json!([])), &["1 layer but 0 diff IDs"]),
        ("B27", &|base| base.edit_manifest(|it| it["layers"] = json!([])), &["0 layers but 1 diff ID"]),
        (
            "B27",
            &|base| base.edit_config(|it| it["rootfs"]["diff_ids"] = json!([7])),
            &["a diff ID that is not a string"],
        ),
        (
            "B27",
            &|base| base.edit_config(|it| it["rootfs"]["diff_ids"] = json!("x")),
            &["`diff_ids`: expected an array"],
        ),
        ("B27", &|base| base.edit_manifest(|it| it["layers"] = Value::Null), &["a manifest without `layers`"]),
    ]);
}

/// What is warned of, a line each.
fn warnings(stderr: &str) -> Vec<&str> {
    stderr.lines().map(|line| line.strip_prefix("ocibuild: warning: ").unwrap_or_else(|| panic!("{stderr}"))).collect()
}

#[test]
fn b28_an_odd_history_is_warned_of() {
    for (history, warning) in [
        (json!([{"created_by": "no time"}]), None),
        (json!([]), None),
        (json!([{}, {}]), Some("its history tells of 2 layers, it has 1")),
        (json!([{"created": "yesterday"}]), Some("its history holds the time \"yesterday\"")),
        (json!([{"created": 7}]), Some("its history holds the time 7")),
        (json!([{"created": "0000-01-01T00:00:00Z"}]), Some("its history holds the time \"0000-01-01T00:00:00Z\"")),
        (json!([{"created": "10000-01-01T00:00:00Z"}]), Some("its history holds the time \"10000-01-01T00:00:00Z\"")),
        (json!([7]), Some("its history holds an entry that is no object")),
    ] {
        let (_, config, stderr) = builds_on("B28", &|base| base.edit_config(|it| it["history"] = history.clone()), &[]);
        let expected: Vec<String> = warning.iter().map(|warning| format!("base image: {warning}")).collect();
        assert_eq!(warnings(&stderr), expected, "B28 {history}");
        assert!(!config["history"].as_array().unwrap().is_empty());
    }
    each_is_refused(&[(
        "B28",
        &|base| base.edit_config(|it| it["history"] = json!("x")),
        &["`history`: expected an array"],
    )]);
}

#[test]
fn b29_a_config_must_say_where_it_runs_and_on_which_layers() {
    let remove =
        |key: &'static str| move |base: &Forged| base.edit_config(|it| drop(it.as_object_mut().unwrap().remove(key)));
    each_is_refused(&[
        ("B29", &remove("architecture"), &["has no `architecture`"]),
        ("B29", &remove("os"), &["has no `os`"]),
        ("B29", &remove("rootfs"), &["a config without `rootfs`"]),
        ("B29", &|base| base.edit_config(|it| it["os"] = json!("")), &["has no `os`"]),
        ("B29", &|base| base.edit_config(|it| it["architecture"] = json!(7)), &["`architecture`: expected a string"]),
        (
            "B29",
            &|base| base.edit_config(|it| it["rootfs"]["type"] = json!("other")),
            &["`rootfs.type` is not `layers`"],
        ),
        ("B29", &|base| base.set_config(b"[]"), &["expected a JSON object"]),
    ]);
}

#[test]
fn b30_b31_platforms_are_matched_and_attestations_passed_over() {
    let bench = Bench::keeping();
    let base = Forged::new(bench.scratch.join("base"));
    base.edit_config(|it| it["architecture"] = json!("arm64"));
    let on = |platform: Option<&str>| {
        let mut build = bench.layout();
        build.args(["--tag", "new", "--base"]).arg(base.location());
        build.args(platform.map(|platform| ["--platform", platform]).into_iter().flatten());
        build
    };
    bench.refuses("B30", &mut on(Some("linux/amd64")), &["no image for linux/amd64", "there is linux/arm64"]);
    run(&mut on(Some("linux/arm64/v8"))).success();

    // Two images for one platform: the first counts. Attestations are no images.
    let arm = base.index()["manifests"][0].clone();
    base.edit_config(|it| {
        it["architecture"] = json!("arm");
        it["variant"] = json!("v7");
    });
    let v7 = base.index()["manifests"][0].clone();
    fs::create_dir_all(bench.scratch.join("keep-v7")).unwrap();
    let platform = |descriptor: &Value, platform: Value| {
        let mut listed = descriptor.clone();
        listed.as_object_mut().unwrap().remove("annotations");
        listed["platform"] = platform;
        listed
    };
    // `edit_config` removed the blobs of arm64's documents; only which descriptor is chosen matters here.
    let listed = json!([
        platform(&arm, json!({"os": "unknown", "architecture": "unknown"})),
        platform(&v7, json!({"os": "linux", "architecture": "arm", "variant": "v7"})),
        platform(&arm, json!({"os": "linux", "architecture": "arm", "variant": "v7"})),
        platform(&arm, json!({"os": "linux", "architecture": "arm", "variant": "v6"})),
    ]);
    let nested = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": listed}).to_string();
    let mut entry = base.descriptor(INDEX, nested.as_bytes());
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": "base"});
    base.edit_index(|it| it["manifests"] = json!([entry]));
    run(&mut on(Some("linux/arm/v7"))).success();
    run(&mut on(Some("linux/arm"))).success();
    bench.refuses("B31", &mut on(Some("linux/arm/v8")), &["no image for linux/arm/v8", "linux/arm/v7", "linux/arm/v6"]);
    bench.refuses("B31", &mut on(Some("linux/arm/v6")), &["missing"]);
    bench.refuses_usage("B31", &mut on(None), &["is for several platforms and not for linux/amd64", "linux/arm/v6"]);
}

#[test]
fn b32_members_of_a_config_have_their_types() {
    let config =
        |key: &'static str, value: Value| move |base: &Forged| base.edit_config(|it| it["config"][key] = value.clone());
    for (key, value) in [
        ("Entrypoint", json!("sh -c")),
        ("Entrypoint", json!([1])),
        ("Cmd", json!("sh")),
        ("Cmd", json!({})),
        ("Env", json!("A=1")),
        ("Env", json!([null])),
        ("Env", json!({"A": "1"})),
        ("User", json!(0)),
        ("WorkingDir", json!(["/"])),
        ("StopSignal", json!(9)),
        ("Labels", json!(["a=b"])),
        ("Labels", json!({"a": 1})),
        ("ExposedPorts", json!(["80/tcp"])),
        ("Volumes", json!("/data")),
    ] {
        let named = format!("`{key}`");
        each_is_refused(&[("B32", &config(key, value), &[&named, "expected"])]);
    }
    for (key, value, warning) in [
        ("Env", json!(["PATH=/bin", "ALONE"]), "its variable \"ALONE\" has no value"),
        ("Env", json!(["A=1", "B=2", "A=3"]), "its variable \"A\" is set twice"),
        ("Env", json!(["A=1\n2"]), "its variable \"A\" holds a control character"),
        ("Env", json!(["A=\u{0}"]), "its variable \"A\" holds a control character"),
        ("User", json!("root:root:x"), "its user \"root:root:x\" is not of the form USER[:GROUP]"),
    ] {
        let (_, _, stderr) = builds_on("B32", &config(key, value), &[]);
        assert_eq!(warnings(&stderr), [format!("base image: {warning}")], "B32");
    }
    for (key, value) in [("Entrypoint", json!(null)), ("Labels", json!(null)), ("User", json!("")), ("Env", json!([]))]
    {
        let (_, _, stderr) = builds_on("B32", &config(key, value), &[]);
        assert_eq!(stderr, "", "B32");
    }
}

#[test]
fn b33_b34_the_bytes_of_a_base_layer_are_kept() {
    let tar = forge::tar(&[Member::file("a", b"1")]);
    let two_members = [forge::gzip(&tar[..700]), forge::gzip(&tar[700..])].concat();
    let zeros = [forge::gzip(&tar), vec![0; 100]].concat();
    let zstd = zstd::bulk::compress(&tar, 3).unwrap();
    for (stored, media_type) in [(&two_members, GZIP), (&zeros, GZIP), (&zstd, ZSTD), (&tar, PLAIN)] {
        let bench = Bench::keeping();
        let base = Forged::new(bench.scratch.join("base"));
        base.set_layer(stored, media_type, &tar);
        run(bench.layout().args(["--tag", "new", "--base"]).arg(base.location())).success();
        let kept = fs::read(bench.out.join("blobs").join(forge::digest(stored).replacen(':', "/", 1))).unwrap();
        assert_eq!(kept, *stored, "B33");
        run(&mut bench.command(&["verify", "out"])).success();
    }
}

#[test]
fn b35_b36_what_is_and_is_not_a_layout() {
    each_is_refused(&[
        (
            "B35",
            &|base| fs::remove_file(base.directory.join("oci-layout")).unwrap(),
            &["not an OCI layout", "`oci-layout` is missing"],
        ),
        ("B35", &|base| base.write("oci-layout", r#"{"imageLayoutVersion":"2.0.0"}"#), &["layout version 2.0.0"]),
        ("B35", &|base| base.write("oci-layout", r#"{}"#), &["names no layout version"]),
        ("B35", &|base| fs::remove_file(base.directory.join("index.json")).unwrap(), &["index.json: not found"]),
        ("B35", &|base| fs::remove_dir_all(&base.directory).unwrap(), &["base: not found"]),
        ("B36", &|base| fs::remove_file(base.blob(&base.layer_digest())).unwrap(), &["blob sha256:", "missing"]),
        ("B36", &|base| fs::remove_file(base.blob(&base.config_digest())).unwrap(), &["blob sha256:", "missing"]),
        ("B36", &|base| fs::remove_file(base.blob(&base.manifest_digest())).unwrap(), &["blob sha256:", "missing"]),
        ("B36", &|base| fs::remove_dir_all(base.directory.join("blobs")).unwrap(), &["blob sha256:", "missing"]),
    ]);
    let littered = |base: &Forged| {
        base.write("README", "x");
        base.write("blobs/sha256/README", "x");
        base.edit_index(|it| drop(it.as_object_mut().unwrap().remove("mediaType")));
    };
    builds_on("B35", &littered, &[]);
}

#[test]
fn b37_a_name_means_one_image() {
    let bench = Bench::keeping();
    let base = Forged::new(bench.scratch.join("base"));
    let one = base.index()["manifests"][0].clone();
    base.edit_config(|it| it["author"] = json!("another"));
    let mut two = base.index()["manifests"][0].clone();
    base.edit_index(|it| it["manifests"] = json!([one, two]));
    let on = |name: &str| {
        let mut build = bench.layout();
        build.args(["--tag", "new", "--base", &format!("oci:base{name}")]);
        build
    };
    bench.refuses_usage("B37", &mut on(":base"), &["`base` is ambiguous (name one of @sha256:"]);
    bench.refuses_usage("B37", &mut on(""), &["holds several images (name one of "]);
    bench.refuses("B37", &mut on(":absent"), &["no image `absent`", "it holds base"]);
    let digest = two["digest"].as_str().unwrap().to_owned();
    run(&mut on(&format!(":{digest}"))).success();

    two["annotations"] = json!({
        "org.opencontainers.image.ref.name": "team/app:v1",
        "io.containerd.image.name": "docker.io/team/app:v2",
    });
    base.edit_index(|it| it["manifests"] = json!([two]));
    for name in ["", ":v1", ":team/app:v1", ":docker.io/team/app:v2"] {
        run(&mut on(name)).success();
    }
    bench.refuses("B37", &mut on(":v3"), &["no image `v3`", "it holds docker.io/team/app:v1"]);
    base.edit_index(|it| it["manifests"] = json!([]));
    bench.refuses("B37", &mut on(""), &["holds no image"]);
}

#[test]
fn b38_a_layout_can_be_its_own_base() {
    let bench = Bench::keeping();
    let source = format!("{}:/more", bench.source().display());
    run(bench.layout().args(["--tag", "more", "--base", "oci:out:keep", "--copy", &source])).success();
    assert_eq!(super::contract::tags(&bench.out), ["keep", "more"]);
    let more = crate::consumers::Layout::new(&bench.out, "more");
    assert_eq!(more.layers().len(), 2);
    bench.is_intact("B38");
    // Even under the same tag.
    run(bench.layout().args(["--tag", "more", "--base", "oci:out:more", "--copy", &source])).success();
    assert_eq!(more.layers().len(), 3);
    bench.is_intact("B38");
}

#[test]
fn b39_a_base_that_changes_meanwhile_is_one_or_the_other() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let bench = Bench::keeping();
    let (one, two) = (Forged::new(bench.scratch.join("one")), Forged::new(bench.scratch.join("two")));
    two.edit_config(|it| it["author"] = json!("two"));
    let base = bench.scratch.join("base");
    for layout in [&one, &two] {
        super::contract::copy_directory(&layout.directory, &base);
    }
    let swap = |layout: &Forged| {
        fs::copy(layout.directory.join("index.json"), base.join("next")).unwrap();
        fs::rename(base.join("next"), base.join("index.json")).unwrap();
    };
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                swap(&one);
                swap(&two);
            }
        });
        for _ in 0..10 {
            let built = run(bench.layout().args(["--tag", "new", "--base", "oci:base:base"]));
            assert_eq!(built.status, 0, "B39: {built}");
            let author = crate::consumers::Layout::new(&bench.out, "new").config()["author"].clone();
            assert!(author == Value::Null || author == "two", "B39: {author}");
        }
        stop.store(true, Ordering::Relaxed);
    });
    bench.is_intact("B39");
}

#[test]
fn b40_scratch_is_nothing_and_has_no_tags() {
    let bench = Bench::keeping();
    let on = |base: &str| {
        let mut build = bench.layout();
        build.args(["--tag", "new", "--base", base]);
        build
    };
    run(&mut on("scratch")).success();
    bench.refuses_usage("B40", &mut on("scratch:latest"), &["scratch is nothing, and has no tags"]);
    bench.refuses("B40", &mut on("docker.io/library/scratch"), &["no registry holds scratch (--base scratch)"]);
}

#[test]
fn b41_a_blob_is_limited_by_the_role_that_it_plays() {
    let large = vec![b' '; (8 << 20) + 1];
    each_is_refused(&[
        (
            "B41",
            &|base| base.edit_manifest(|it| it["config"] = base.descriptor(CONFIG, &large)),
            &["larger than 8 MiB"],
        ),
        (
            "B41",
            &|base| base.edit_manifest(|it| it["layers"][0]["mediaType"] = json!(CONFIG)),
            &["layer sha256:", "claims to be a `application/vnd.oci.image.config.v1+json`"],
        ),
        (
            "B41",
            &|base| base.edit_manifest(|it| it["layers"][0]["mediaType"] = json!(MANIFEST)),
            &["claims to be a `application/vnd.oci.image.manifest.v1+json`"],
        ),
    ]);
}
